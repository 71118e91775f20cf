"""Server-sent events: numbered, complete, the same after a restart, and never more than a reader takes."""
import asyncio
import json
import random
import socket
import tempfile
import uuid

import aiohttp
import pytest

import graphs
import targets
from comfy_client import Client

WAIT = 60


def job(steps=2, **more):
    return graphs.slow(steps=steps, seconds=0.01, **more)


class Stream:
    """One reader: what came, as (id or None, event, data)."""

    def __init__(self, url, path="/mux/v1/events", last=None):
        self.url, self.path, self.last = url, path, last
        self.got = []
        self.open = asyncio.Event()
        self.ended = False

    async def read(self):
        headers = {"Last-Event-ID": self.last} if self.last else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WAIT)
        async with aiohttp.ClientSession(timeout=timeout) as s:
            async with s.get(self.url + self.path, headers=headers) as r:
                self.status = r.status
                if r.status != 200:
                    self.open.set()
                    return self
                assert r.content_type == "text/event-stream"
                self.open.set()
                event = {}
                async for line in r.content:
                    line = line.decode().rstrip("\n")
                    if line.startswith(":"):
                        continue
                    if line:
                        key, value = line.split(": ", 1)
                        event[key] = value
                    elif event:
                        data = json.loads(event["data"])
                        self.got.append((event.get("id"), event["event"], data))
                        self.last = event.get("id", self.last)
                        event = {}
        self.ended = True
        return self

    def kept(self):
        return [g for g in self.got if g[0] and g[1] != "reset"]

    async def until(self, done, seconds=WAIT):
        deadline = asyncio.get_running_loop().time() + seconds
        while not done(self.got):
            assert asyncio.get_running_loop().time() < deadline, self.got[-5:]
            await asyncio.sleep(0.01)


def ends(got, ids):
    return set(ids) <= {d["job"] for _, event, d in got if event == "end"}


@pytest.fixture(scope="module")
def gateway():
    try:
        with targets.gateway(2) as t:
            yield t.url
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_one_job_from_its_beginning_to_its_end(gateway):
    async def go():
        async with Client(gateway) as c:
            prompt_id = await c.submit(job(steps=3))
            s = await Stream(gateway, "/mux/v1/jobs/%s/events" % prompt_id).read()
            record = await c.record(prompt_id)
        assert s.ended
        states = [d["state"] for _, event, d in s.got if event in ("state", "end")]
        assert states == ["queued", "dispatching", "running", "collecting", "succeeded"], s.got
        assert [event for _, event, _ in s.kept()][-2:] == ["output", "end"]
        (output,) = [d for _, event, d in s.got if event == "output"]
        assert {k: output[k] for k in record["outputs"][0]} == record["outputs"][0]
        ids = [int(i) for i, _, _ in s.kept()]
        assert ids == sorted(set(ids)) and all(d["job"] == prompt_id for _, _, d in s.got)
        assert all(i is None for i, event, _ in s.got if event == "progress")
        # From every place in between exactly the rest comes, from the last nothing: stay away.
        for k, (i, _, _) in enumerate(s.kept()):
            rest = await Stream(gateway, s.path, last=i).read()
            assert rest.kept() == s.kept()[k + 1:] and rest.status == (200 if k + 1 < len(s.kept()) else 204)
        again = await Stream(gateway, s.path).read()
        assert again.kept() == s.kept()

    asyncio.run(go())


def test_progress_is_told_while_it_runs(gateway):
    async def go():
        async with Client(gateway) as c:
            s = Stream(gateway)
            task = asyncio.create_task(s.read())
            await s.open.wait()
            prompt_id = await c.submit(graphs.slow(steps=5, seconds=0.05))
            await s.until(lambda got: ends(got, [prompt_id]))
            task.cancel()
        mine = [d for _, event, d in s.got if event == "progress" and d["job"] == prompt_id]
        assert mine and [d["value"] for d in mine] == sorted(d["value"] for d in mine)
        assert all(d["max"] == 5 and d["node"] for d in mine)

    asyncio.run(go())


def test_what_cannot_be_followed(gateway):
    async def go():
        async with Client(gateway) as c:
            assert (await c.fetch("/mux/v1/jobs/%s/events" % uuid.uuid4()))[0] == 404
            assert (await c.fetch("/mux/v1/jobs/x/events"))[0] == 404
            prompt_id = await c.submit(job())
            await c.until_state(prompt_id)
        for last in ("999999999", "nonsense", "-3"):
            s = Stream(gateway, last=last)
            task = asyncio.create_task(s.read())
            await s.until(lambda got: got)
            assert s.got[0][1] == "reset" and set(s.got[0][2]["jobs"]) == {"queued", "dispatching", "running", "collecting"}
            async with Client(gateway) as c:
                prompt_id = await c.submit(job())
                await s.until(lambda got: ends(got, [prompt_id]))
            task.cancel()
            one = await Stream(gateway, "/mux/v1/jobs/%s/events" % prompt_id, last=last).read()
            assert [event for _, event, _ in one.got] == ["reset", "output", "end"], one.got

    asyncio.run(go())


async def follow(stream, rng, stop):
    """Reads with interruptions of its own making, each time from where it was, as a browser does."""
    while not stop.is_set():
        task = asyncio.create_task(stream.read())
        waiter = asyncio.create_task(stop.wait())
        await asyncio.wait({task, waiter}, timeout=rng.uniform(0.01, 0.3), return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        waiter.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_nothing_is_missed_repeated_or_reordered_by_restless_readers_and_a_killed_gateway():
    async def half(p, streams, rng, count):
        stop = asyncio.Event()
        tasks = [asyncio.create_task(follow(s, rng, stop)) for s in streams]
        async with Client(p.url) as c:
            ids = [await c.submit(job(seed=k)) for k in range(count)]
            steady = streams[0]
            await steady.until(lambda got: ends(got, ids))
            for s in streams:
                await s.until(lambda got: ends(got, ids))
        stop.set()
        await asyncio.gather(*tasks)
        return ids

    rng = random.Random(5)
    with tempfile.TemporaryDirectory(prefix="comfymux-") as data, targets.sim(3) as servers:
        try:
            first, second = (targets.serve_process(servers.urls, data) for _ in range(2))
        except targets.Missing as e:
            targets.skip_or_fail(e)
        with targets.running([first]):
            asyncio.run(warm_up(first.url))
            streams = [Stream(first.url, last="1") for _ in range(4)]
            ids = asyncio.run(half(first, streams, rng, 40))
            first.kill()
        with targets.running([second]):
            for s in streams:
                s.url = second.url
                s.open = asyncio.Event()
            more = asyncio.run(half(second, streams, rng, 40))
            whole = Stream(second.url, last="1")
            asyncio.run(read_all(whole, ids + more))
        for s in streams:
            assert s.kept() == whole.kept()[:len(s.kept())]
            assert not [g for g in s.got if g[1] == "reset"]
        counts = {}
        for _, event, d in whole.kept():
            if event == "end":
                counts[d["job"]] = counts.get(d["job"], 0) + 1
        assert all(counts[i] == 1 for i in ids + more)
        numbers = [int(i) for i, _, _ in whole.kept()]
        assert numbers == sorted(set(numbers))


async def warm_up(url):
    async with Client(url) as c:
        await c.until_state(await c.submit(job()))


async def read_all(stream, ids):
    task = asyncio.create_task(stream.read())
    await stream.until(lambda got: ends(got, ids))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_reader_that_does_not_read_costs_little_and_the_others_nothing(gateway):
    """It is read for no further than its buffer, and when it reads again everything is there."""
    async def go():
        host, port = gateway.removeprefix("http://").split(":")
        lazy = socket.create_connection((host, int(port)))
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(b"GET /mux/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        lazy.settimeout(WAIT)
        assert lazy.recv(12) == b"HTTP/1.1 200"
        s = Stream(gateway)
        task = asyncio.create_task(s.read())
        await s.open.wait()
        async with Client(gateway) as c:
            ids = await asyncio.gather(*(c.submit(job(seed=k)) for k in range(150)))
            await s.until(lambda got: ends(got, ids), 2 * WAIT)
        task.cancel()
        text = b""
        while text.count(b"event: end") < len(ids):
            text += await asyncio.to_thread(lazy.recv, 65536)
        lazy.close()
        seen = [line[4:] for line in text.decode().split("\n") if line.startswith("id: ")]
        assert seen == [i for i, _, _ in s.kept()][-len(seen):]

    asyncio.run(go())
