"""Servers that are ill, each in its own way: what becomes of the jobs, and what is said about the server."""
import asyncio
import contextlib
import itertools
import os
import signal
import time

import pytest

import graphs
import targets
from between import Between
from comfy_client import Client

fresh = itertools.count(1).__next__
SECONDS = 120


@contextlib.contextmanager
def fleet(urls, tmp_path, timeouts="{}"):
    """The gateway in front of these."""
    config = tmp_path / "comfymux.yaml"
    config.write_text("timeout: %s\n" % timeouts)
    p = targets.serve_process(urls, tmp_path / "data", ["-c", config])
    with targets.running([p]):
        yield p


@contextlib.contextmanager
def sims(count):
    """Each a process of its own, without leak checks: some are stopped."""
    try:
        with targets.sims(count) as s:
            yield s
    except targets.Missing as e:
        targets.skip_or_fail(e)


async def until(what, *args):
    """What it gives as soon as that is true."""
    deadline = time.monotonic() + SECONDS
    while True:
        found = await what(*args)
        if found:
            return found
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def until_said(client, name, words):
    """The server's entry, when its reason holds these words."""
    async def said():
        s = (await client.servers())[name]
        return words in (s["reason"] or "") and s
    return await until(said)


async def run_all(client, count, seconds=0.01):
    """Submits so many at once; their records at the end."""
    # At once, so that none has ended before others are at work: whose fault the very first failure is could not be told.
    jobs = [graphs.slow(steps=1, seconds=seconds, color=fresh()) for _ in range(count)]
    ids = await asyncio.gather(*(client.submit(graph) for graph in jobs))
    return [await client.until_state(i, seconds=SECONDS) for i in ids]


class RaiseInANode:
    """The first time after a while: by then others are at work too."""

    seconds = 0.5

    def __call__(self, graph):
        for node in graph.values():
            if node["class_type"] == "SlowProgress":
                node["inputs"]["seconds_per_step"] = self.seconds
            elif node["class_type"] == "SaveImage":
                node["inputs"]["images"] = ["ill", 0]
        graph["ill"] = {"class_type": "FailAt", "inputs": {"image": ["5", 0], "message": "this machine is ill"}}
        self.seconds = 0.01


def test_one_of_four_fails_every_job(tmp_path):
    """An ordinary exception, from the first job on; the others are not harmed, and the server is found out."""
    async def flow(url, between):
        async with Client(url) as c:
            await c.until_all_up()
            records = await run_all(c, 200)
            assert [r["state"] for r in records] == ["succeeded"] * 200
            assert max(r["attempt"] for r in records) == 2
            assert all(r["server"]["name"] != "s0" for r in records)
            ill = (await c.servers())["s0"]
            assert ill["state"] == "fenced" or "trial" in ill["reason"], ill
            assert 5 <= between.posted < 20, "it was found out after a few"
            assert [s["state"] for n, s in (await c.servers()).items() if n != "s0"] == ["up"] * 3
            # It gets well. Its pause over, a job on trial shows it, and it is one of them again.
            between.spoil = None

            async def works_again():
                return any(r["server"]["name"] == "s0" for r in await run_all(c, 4))
            await until(works_again)
            well = (await c.servers())["s0"]
            assert well["state"] == "up" and well["reason"] is None, well

    with sims(4) as s, Between(s.urls[0]) as b:
        b.spoil = RaiseInANode()
        with fleet([b.url, *s.urls[1:]], tmp_path) as g:
            asyncio.run(flow(g.url, b))


@pytest.mark.parametrize("fault", ["cuda-error", "oom", "reject"])
def test_one_of_four_fails_in_its_own_way(tmp_path, fault):
    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            records = await run_all(c, 60)
            assert [r["state"] for r in records] == ["succeeded"] * 60
            spoiled = sum(a["server"] == "s0" for r in records for a in r["attempts"])
            assert 5 <= spoiled < 20, "it was found out after a few"

    try:
        with targets.sim(4, ["--fault", "1/" + fault]) as s, fleet(s.urls, tmp_path) as g:
            asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_a_server_comes_back_with_other_nodes(tmp_path):
    """What it can do is asked for again, told, and counts from then on."""
    def without_invert(path, body):
        if path == "/object_info":
            del body["ImageInvert"]
            body["BrandNew"] = body["ImageScale"]

    def invert():
        graph = graphs.save(color=fresh())
        graph["3"] = {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}
        graph["2"]["inputs"]["images"] = ["3", 0]
        return graph

    async def flow(g, between):
        async with Client(g.url) as c:
            await c.until_all_up()
            between.answer = without_invert
            between.drop_sockets()

            async def told():
                return "event=nodes_changed came=1 gone=1 names=\"+BrandNew -ImageInvert\"" in g.log.read_text()
            await until(told)
            await c.until_all_up()
            ids = [await c.submit(invert()) for _ in range(8)]
            records = [await c.until_state(i) for i in ids]
            assert {(r["state"], r["server"]["name"], r["attempt"]) for r in records} == {("succeeded", "s1", 1)}

    with sims(2) as s, Between(s.urls[0]) as b, fleet([b.url, s.urls[1]], tmp_path) as g:
        asyncio.run(flow(g, b))


def test_a_graph_that_fails_everywhere_fails_fast(tmp_path):
    """It is run at most twice, and no server is blamed."""
    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            await run_all(c, 6)
            ids = [await c.submit(graphs.fail("my own mistake", color=fresh())) for _ in range(30)]
            for i in ids:
                record = await c.until_state(i)
                assert record["state"] == "failed" and record["error"]["code"] == "execution_error"
                assert record["attempt"] <= 2, record
            assert {s["state"] for s in (await c.servers()).values()} == {"up"}

    with sims(3) as s, fleet(s.urls, tmp_path) as g:
        asyncio.run(flow(g.url))


def test_a_dead_worker(tmp_path):
    """HTTP answers, the prompt waits for ever (pitfall 32)."""
    async def flow(url, between):
        async with Client(url) as c:
            await c.until_all_up()
            records = await run_all(c, 4)
            assert all(r["state"] == "succeeded" and r["server"]["name"] == "s1" for r in records)
            moved = [r for r in records if r["attempt"] == 2]
            assert moved and all(r["attempts"][0]["error"]["code"] == "stalled" for r in moved)
            await until_said(c, "s0", "needs a restart")
            before = between.posted
            assert all(r["attempt"] == 1 for r in await run_all(c, 10))
            assert between.posted == before, "it gets no more jobs"
            between.dead = False
            between.drop_sockets()

            async def works_again():
                return any(r["server"]["name"] == "s0" for r in await run_all(c, 4))
            await until(works_again)
            assert (await c.servers())["s0"]["state"] == "up"

    with sims(2) as s, Between(s.urls[0]) as b:
        b.dead = True
        with fleet([b.url, s.urls[1]], tmp_path, "{stall: 3s}") as g:
            asyncio.run(flow(g.url, b))


def test_events_held_up_by_another_client(tmp_path):
    """Jobs end by asking; that is said, and is no failure (pitfall 33)."""
    async def flow(url, between):
        async with Client(url) as c:
            await c.until_all_up()
            between.mute = True
            (record,) = await run_all(c, 1)
            assert record["state"] == "succeeded" and record["attempt"] == 1
            assert (await until_said(c, "s0", "events come late"))["state"] == "up"
            between.mute = False
            await run_all(c, 1)
            assert (await c.servers())["s0"]["reason"] is None

    with sims(1) as s, Between(s.urls[0]) as b, fleet([b.url], tmp_path) as g:
        asyncio.run(flow(g.url, b))


def test_a_server_that_stands_still(tmp_path):
    """SIGSTOP: its connections stay open and nothing answers. The others go on; it is found out without a job; what it had
    is done elsewhere; it comes back."""
    async def flow(url, process):
        async with Client(url) as c:
            await c.until_all_up()
            ids = [await c.submit(graphs.slow(steps=40, seconds=0.1, color=fresh())) for _ in range(3)]
            for i in ids:
                await c.until_state(i, "running")
            os.kill(process.child.pid, signal.SIGSTOP)
            try:
                records = await run_all(c, 20)  # while it stands still
                assert {r["state"] for r in records} == {"succeeded"}
                assert "s0" not in {r["server"]["name"] for r in records}
                for i in ids:
                    record = await c.until_state(i, seconds=SECONDS)
                    assert record["state"] == "succeeded" and record["server"]["name"] != "s0"
                await c.until_server("s0", "down")
            finally:
                os.kill(process.child.pid, signal.SIGCONT)
            await c.until_server("s0", "up")

    with sims(3) as s, fleet(s.urls, tmp_path, "{lost: 4s}") as g:
        asyncio.run(flow(g.url, s.processes[0]))


def test_half_open_without_a_job(tmp_path):
    """Nothing is under way there: the silence of its socket tells."""
    async def flow(url, process):
        async with Client(url) as c:
            await c.until_all_up()
            os.kill(process.child.pid, signal.SIGSTOP)
            try:
                async def found():
                    return (await c.servers())["s0"]["state"] in ("suspect", "down")
                await until(found)
            finally:
                os.kill(process.child.pid, signal.SIGCONT)
            await c.until_server("s0", "up")

    with sims(1) as s, fleet(s.urls, tmp_path) as g:
        asyncio.run(flow(g.url, s.processes[0]))


def test_a_restart_is_noticed(tmp_path):
    async def flow(g, process):
        async with Client(g.url) as c:
            await c.until_all_up()
            await run_all(c, 1)
            process.kill()
            await c.until_server("s0", "down")
            process.start()
            process.wait_ready()
            await c.until_server("s0", "up")

            async def noticed():
                return "server=s0 event=restarted" in g.log.read_text()
            await until(noticed)
            (record,) = await run_all(c, 1)
            assert record["state"] == "succeeded"

    with sims(1) as s, fleet(s.urls, tmp_path) as g:
        asyncio.run(flow(g, s.processes[0]))
