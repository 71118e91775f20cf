"""After many jobs the gateway holds what it held after few: memory and descriptors, counted on the release build (a
sanitizer keeps what was freed). Jobs that end well, that fail and that are canceled; sockets, streams and uploads that come
and go. The database's cache, which grows to a size of its own, is not counted."""
import asyncio
import collections
import os
import random
import re
import time
import urllib.request

import graphs
import targets
from comfy_client import SECONDS, Client

FEW, MANY = (2000, 20000) if os.environ.get("COMFYMUX_LONG") else (200, 2000)
CLIENTS, SERVERS = 8, 8
ROOM = 1.25  # MiB: the table of windows, which holds 5000 jobs, and some to come and go


def release_binary():
    path = targets.ROOT / "build" / "release" / "src" / "comfymux"
    if not path.exists():
        raise targets.Missing("the release build is not there (./dev build release)")
    return path


def memory_of(url):
    """MiB that are allocated and not freed, without the database's."""
    with urllib.request.urlopen(url + "/metrics", timeout=SECONDS) as r:
        text = r.read().decode()
    heap, store = (int(re.search(r"^comfymux_%s_bytes (\d+)$" % what, text, re.M)[1]) for what in ("heap", "store_memory"))
    return (heap - store) / (1 << 20)


def descriptors_of(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class Worker:
    """One client that does a bit of everything, its connection kept alive."""

    def __init__(self, number, url, rng, done):
        self.c = Client(url, client_id="leak-%d" % number, window="window-%d" % number)
        self.rng = rng
        self.done = done

    async def job(self):
        """A job and what became of it; now and then followed from close by."""
        rng, c = self.rng, self.c
        color, kind = rng.randrange(1 << 24), rng.random()
        if kind < 0.05:
            graph = graphs.fail("boom", color=color)
        elif kind < 0.1:
            graph = graphs.slow(steps=50, seconds=0.5, seed=color)
        else:
            graph = graphs.save(prefix="leak", color=color)
        job_id = await c.submit(graph, extra_data={"extra_pnginfo": {"workflow": {"nodes": ["x" * rng.randrange(2000)]}}})
        if 0.05 <= kind < 0.1:
            await c.post("/mux/v1/jobs/%s/cancel" % job_id, None)
        self.done["jobs"] += 1
        record = await c.until_state(job_id)
        self.done[record["state"]] += 1
        if kind > 0.8:
            for o in record["outputs"]:
                assert (await c.fetch(o["url"]))[0] == 200
            await c.get("/history/" + job_id)
            await c.get("/status/" + job_id)

    async def beside(self):
        """What comes and goes: sockets, event streams, uploads, refused and broken requests."""
        c, rng = self.c, self.rng
        async with c.socket({}) as ws:
            job_id = await c.submit(graphs.save(prefix="leak", color=rng.randrange(1 << 24)))
            await ws.until_done(job_id)
        async with c.http.get(c.url + "/mux/v1/jobs/%s/events" % job_id) as r:
            await r.content.readline()
        await c.upload("leak.png", rng.randbytes(rng.randrange(1, 5000)), overwrite="true")
        assert (await c.post("/prompt", {"prompt": {}}))[0] == 400
        async with c.http.get(c.url + "/nothing/here") as r:
            await r.read()
        _, writer = await asyncio.open_connection("127.0.0.1", int(c.url.rsplit(":", 1)[1]))
        writer.write(b"POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{\"prompt\"")
        await writer.drain()
        writer.close()
        self.done["jobs"] += 1

    async def run(self, until):
        async with self.c:
            while self.done["jobs"] < until:
                await self.job()
                if self.rng.random() < 0.03:
                    await self.beside()


async def work(url, rng, done, until):
    """Up to so many jobs in all; then every client goes home."""
    await asyncio.gather(*(Worker(n % CLIENTS, url, rng, done).run(until) for n in range(3 * CLIENTS)))


async def idle(url):
    async with Client(url) as c:
        deadline = time.monotonic() + SECONDS
        while (await c.get("/queue")) != {"queue_running": [], "queue_pending": []}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def look(process):
    """(MiB, descriptors, threads)"""
    pid = process.pid
    return memory_of(process.url), descriptors_of(pid), len(os.listdir("/proc/%d/task" % pid))


def settled(process, limit=None):
    """The least of what is seen for some seconds, or until it is within the limit."""
    best, since = look(process), time.monotonic()
    while time.monotonic() - since < (5 if limit is None else 30):
        if limit and all(have <= want for have, want in zip(best, limit)):
            break
        time.sleep(0.1)
        best = tuple(map(min, best, look(process)))
    return best


def test_many_jobs_leave_nothing_behind(tmp_path, monkeypatch, capsys):
    seed = int(os.environ.get("COMFYMUX_SEED", random.randrange(1 << 32)))
    rng, done = random.Random(seed), collections.Counter()
    config = tmp_path / "comfymux.yaml"
    config.write_text("keep: {count: 200}\nlog: {level: warn}\n")
    try:
        monkeypatch.setenv("COMFYMUX_BIN", str(release_binary()))
        with targets.sim(SERVERS, ["--speed", "1000"]) as s, targets.in_front_of(s, ["-c", config]) as g:
            seen = []
            for until in (FEW, MANY):
                asyncio.run(work(g.url, rng, done, until))
                asyncio.run(idle(g.url))
                limit = (seen[0][1] + ROOM, *seen[0][2:]) if seen else None
                seen.append((done["jobs"], *settled(g.processes[0], limit)))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    with capsys.disabled():
        print("\nseed %d: %s; jobs, MiB, descriptors, threads: %s" % (
            seed, dict(done), "; ".join("%d, %.2f, %d, %d" % x for x in seen)))
    before, after = seen
    assert after[1] <= before[1] + ROOM, "%.2f MiB more" % (after[1] - before[1])
    assert after[2] <= before[2] and after[3] <= before[3]
    assert done["succeeded"] > MANY * 0.7 and done["failed"] and done["canceled"]
