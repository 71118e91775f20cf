"""Cancel and interrupt, racing with everything that happens to a job: what was answered to be canceled shows nothing
afterwards, what was not asked for is not touched, here or on the servers."""
import asyncio
import collections
import contextlib
import json
import os
import random
import re
import tempfile
import time
import uuid

import aiohttp

import graphs
import targets
from comfy_client import ENDED, SECONDS, Client, images
from witness import color_of

LONG = bool(os.environ.get("COMFYMUX_LONG"))
JOBS, SERVERS, KILLS = (600 if LONG else 120), 3, (30 if LONG else 3)
FAULTS = ["prompt-slow-answer=80ms%40", "slow-prompt=80ms%40", "view-slow=80ms%50", "history-lag=60ms%50", "prompt-lost%5"]


def two_outputs(color, rng):
    """One picture early, one at the end: there is something to show at every moment."""
    graph = graphs.slow(steps=rng.randint(1, 8), seconds=0.03, color=color, seed=color, prefix="ComfyUI")
    graph["8"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ComfyUI"}}
    return graph


def fresh_id(rng):
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


# ---- somebody else -----------------------------------------------------------------------------------------------------


async def foreigner(url, rng, enough, ran):
    """Uses a server past the gateway; none of its prompts may be stopped. One waits while another runs, so that ours wait
    on the server as well."""
    async with Client(url) as c:
        mine = []
        while not enough.is_set():
            mine.append(fresh_id(rng))
            graph = graphs.slow(steps=rng.randint(2, 6), seconds=0.03, seed=rng.getrandbits(30))
            with contextlib.suppress(aiohttp.ServerDisconnectedError):  # prompt-lost: it is in the queue
                await c.submit(graph, prompt_id=mine[-1])
            while not await c.history(mine[-1]):
                await asyncio.sleep(0.02)
            await asyncio.sleep(rng.uniform(0, 0.2))
        for prompt_id in mine:
            entry = await c.history(prompt_id)
            assert entry["status"]["status_str"] == "success", "somebody else's prompt was stopped: %s" % entry["status"]
        ran.append(len(mine))


# ---- taking away ---------------------------------------------------------------------------------------------------


async def state_of(c, job_id):
    status, text = await c.fetch("/mux/v1/jobs/" + job_id)
    return json.loads(text)["state"] if status == 200 else None


async def the_moment(c, rng, job_id, when):
    """Returns when the job is in that state, or has passed it."""
    if when == "any time":
        return await asyncio.sleep(rng.uniform(0, 0.5))
    order = ("queued", "dispatching", "running", "collecting")
    deadline = time.monotonic() + SECONDS
    while when in order:
        state = await state_of(c, job_id)
        if state == when or state in ENDED:
            break
        assert time.monotonic() < deadline, (job_id, when, state)
        await asyncio.sleep(0.002)
    return None


async def take_away(c, job_id, how):
    """True if the answer says that it is canceled."""
    if how == "cancel":
        status, record = await c.post("/mux/v1/jobs/%s/cancel" % job_id, None)
        if status == 404:
            return False  # it has not been accepted yet
        assert status == 200 and record["state"] in ENDED, (status, record)
        return record["state"] == "canceled"
    if how == "interrupt":
        status, _ = await c.post("/interrupt", {"prompt_id": job_id})
    else:
        status, _ = await c.post("/queue", {"delete": [job_id]})
    assert status == 200
    return await state_of(c, job_id) == "canceled"


WHEN = {"with the submit": 2, "queued": 2, "dispatching": 3, "running": 3, "collecting": 3, "any time": 4, "ended": 1}
HOW = {"cancel": 5, "interrupt": 3, "delete": 2, "all at once": 2}


class Taker:
    """A client that submits jobs and takes them away; and one (`hands` 0) that only wants its pictures."""

    def __init__(self, url, rng, hands=1.0):
        self.c = Client(url)
        self.rng = rng
        self.hands = hands
        self.flags = rng.random() < 0.5  # without them its jobs are told one after another
        self.canceled = {}  # id -> how and when
        self.kept = {}  # id -> color

    async def one(self):
        rng, job_id = self.rng, fresh_id(self.rng)
        color = rng.randrange(1, 1 << 24)
        submit = asyncio.create_task(self.c.submit(two_outputs(color, rng), prompt_id=job_id))
        if rng.random() >= self.hands:
            await submit
            self.kept[job_id] = color
            return await self.c.until_state(job_id)
        (when,), (how,) = rng.choices(list(WHEN), WHEN.values()), rng.choices(list(HOW), HOW.values())
        if when == "with the submit":
            await asyncio.sleep(rng.uniform(0, 0.01))
        else:
            await submit
            await (self.c.until_state(job_id) if when == "ended" else the_moment(self.c, rng, job_id, when))
        ways = ["cancel", "interrupt", "delete", "cancel"] if how == "all at once" else [how]
        told = await asyncio.gather(*(take_away(self.c, job_id, w) for w in ways))
        await submit
        if any(told):
            self.canceled[job_id] = (when, how)
            await shows_nothing(self.c, job_id, set(), queue=self.flags)
        else:
            self.kept[job_id] = color
        return await self.c.until_state(job_id)

    async def run(self, count):
        async with self.c, self.c.socket({} if self.flags else None) as ws:
            ear = asyncio.create_task(self.hear(ws))
            slots = asyncio.Semaphore(4)

            async def slot():
                async with slots:
                    await self.one()

            await asyncio.gather(*(slot() for _ in range(count)))
            for job_id in self.kept:  # what was not taken away is told to its end
                await asyncio.wait_for(self.until_told(ws, job_id), SECONDS)
            ear.cancel()
            await asyncio.gather(ear, return_exceptions=True)
        self.ws = ws

    async def hear(self, ws):
        while True:
            await ws.receive()

    async def until_told(self, ws, job_id):
        while not any(e["node"] is None for e in ws.of(job_id, "executing")):
            await asyncio.sleep(0.02)

    def delivered(self, job_id):
        """(subfolder, filename) that `executed` has named."""
        return {(i["subfolder"], i["filename"]) for e in self.ws.of(job_id, "executed")
                for i in (e["output"] or {}).get("images", [])}

    def heard_right(self):
        """Nothing that looks like a result comes after the end, and a canceled job never ends well."""
        for job_id in self.canceled:
            types = self.ws.types(job_id)
            assert "execution_success" not in types and "execution_error" not in types, (job_id, types)
            if "execution_interrupted" in types:
                rest = types[types.index("execution_interrupted") + 1:]
                assert set(rest) <= {"executing"} and len(rest) <= 1, (job_id, types)
        for job_id in self.kept:
            types = self.ws.types(job_id)
            assert types.count("execution_success") == 1 and "execution_interrupted" not in types, (job_id, types)


async def shows_nothing(c, job_id, delivered, made=(), queue=True):
    """A canceled job has no output anywhere. made: files that its server has for it nevertheless. queue: it is in no list
    of the queue either; of a client whose jobs are told one after another it may stand there until it is told."""
    record = await c.record(job_id)
    ends = [t["state"] for t in record["timeline"] if t["state"] in ENDED]
    assert record["state"] == "canceled" and ends == ["canceled"], record
    assert record["outputs"] == [] and record["error"]["code"] == "canceled", record
    entry = await c.history(job_id)
    if entry:
        assert entry["status"]["status_str"] == "error" and not entry["status"]["completed"], entry["status"]
        assert entry["status"]["messages"][-1][0] == "execution_interrupted" and images(entry) == [], entry
    status = await c.get("/status/" + job_id)
    assert (status["status"], status["image_url"], status["image_urls"], status["outputs"]) == ("canceled", None, [], [])
    assert (await c.fetch("/result/" + job_id))[0] == 409
    assert (await c.fetch("/mux/v1/jobs/%s/outputs/0" % job_id))[0] in (404, 410)
    for name in made:
        if (job_id, name) not in delivered:
            got, _ = await c.try_view({"filename": name, "subfolder": job_id, "type": "output"})
            assert got in (404, 410), "%s: /view shows %s, which nobody was told of" % (job_id, name)
    if queue:
        lists = await c.get("/queue")
        assert job_id not in [q[1] for q in lists["queue_running"] + lists["queue_pending"]]


async def made_on(urls):
    """upstream id -> names of the files that its server has made for it"""
    made = collections.defaultdict(list)
    for url in urls:
        async with Client(url) as c:
            for prompt_id, entry in (await c.get("/history")).items():
                made[prompt_id] += [i["filename"] for i in images(entry)]
    return made


async def servers_are_free(urls, c):
    """Nothing of ours is left on them, and nobody is looking for it any more."""
    deadline = time.monotonic() + SECONDS
    while True:
        left = 0
        for url in urls:
            async with Client(url) as s:
                queue = await s.get("/queue")
                left += len(queue["queue_running"]) + len(queue["queue_pending"])
        (strays,) = re.findall(r"^comfymux_strays (\d+)$", (await c.fetch("/metrics"))[1].decode(), re.M)
        if left == 0 and strays == "0":
            return
        assert time.monotonic() < deadline, (left, strays)
        await asyncio.sleep(0.05)


async def kept_are_right(c, kept):
    for job_id, color in kept.items():
        record = await c.record(job_id)
        assert record["state"] == "succeeded" and record["attempts"][-1]["error"] is None, record
        shown = images(await c.history(job_id))
        assert len(shown) == 2 and len(record["outputs"]) == 2
        for image in shown:
            assert color_of(await c.view(image)) == color


# ---- the tests -----------------------------------------------------------------------------------------------------


def seeded():
    seed = int(os.environ.get("COMFYMUX_SEED", random.randrange(1 << 32)))
    return seed, random.Random(seed)


def test_taken_away_at_every_moment(capsys):
    seed, rng = seeded()
    ran = []

    async def flow(url, urls):
        takers = [Taker(url, rng) for _ in range(3)] + [Taker(url, rng, hands=0.0)]
        enough = asyncio.Event()
        others = [asyncio.create_task(foreigner(u, rng, enough, ran)) for u in urls]
        async with Client(url) as c:
            await c.until_all_up()
            await asyncio.gather(*(t.run(JOBS // 4) for t in takers))
            enough.set()
            await asyncio.gather(*others)
            await servers_are_free(urls, c)
            made = await made_on(urls)
            for t in takers:
                t.heard_right()
                await kept_are_right(c, t.kept)
                for job_id in t.canceled:
                    await shows_nothing(c, job_id, t.delivered(job_id), made[job_id])
        return takers

    args = [a for f in FAULTS for a in ("--fault", f)]
    try:
        with targets.gateway(SERVERS, sim_args=["--seed", str(seed % 1000), *args]) as g:
            urls = g.processes[1].urls
            takers = asyncio.run(flow(g.url, urls))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    ways = collections.Counter(v for t in takers for v in t.canceled.values())
    by = [collections.Counter(k[i] for k in ways.elements()) for i in (0, 1)]
    with capsys.disabled():
        print("\nseed %d: %d jobs, %d canceled %s %s, %d kept; %d prompts of others untouched" % (
            seed, JOBS, sum(ways.values()), dict(by[0]), dict(by[1]), sum(len(t.kept) for t in takers), sum(ran)))
    assert sum(ways.values()) > JOBS // 4 and sum(ran) > SERVERS and len(takers[-1].kept) == JOBS // 4
    assert set(by[1]) == set(HOW), "seed %d: a way has never worked: %s" % (seed, by[1])


def asked_to_stop(process):
    """How often this simulator was told to interrupt (it logs every request)."""
    return len(re.findall(r"POST /interrupt|method=POST path=/interrupt", process.log.read_text(errors="replace")))


def test_only_the_bound_server_and_only_if_it_runs_it():
    """Three servers: ours runs on one, somebody else's on all. Interrupts go where ours runs, and nowhere else."""
    try:
        with targets.sims(3, ["--verbose"]) as s, targets.in_front_of(s) as g:

            async def flow():
                async with Client(g.url) as c:
                    await c.until_all_up()
                    foreign = []
                    for url in s.urls[1:]:
                        async with Client(url) as other:
                            foreign.append((url, await other.submit(graphs.slow(steps=40, seconds=0.05, seed=3))))
                    for name in ("s1", "s2"):
                        await c.post("/mux/v1/servers/%s/drain" % name, None)
                    running = await c.submit(graphs.slow(steps=1000, seconds=0.05, seed=1))
                    await c.until_state(running, "running")
                    async with Client(s.urls[0]) as first:
                        while not (await first.get("/queue"))["queue_running"]:
                            await asyncio.sleep(0.01)
                    await c.post("/mux/v1/servers/s1/resume", None)
                    # It stands in the server's queue behind somebody else's prompt.
                    waiting = await c.submit(graphs.slow(steps=1000, seconds=0.05, seed=2))
                    async with Client(s.urls[1]) as second:
                        while not (await second.get("/queue"))["queue_pending"]:
                            await asyncio.sleep(0.01)
                    for job_id, name in ((running, "s0"), (waiting, "s1")):
                        assert (await c.record(job_id))["server"]["name"] == name
                        status, record = await c.post("/mux/v1/jobs/%s/cancel" % job_id, None)
                        assert status == 200 and record["state"] == "canceled"
                    for url, prompt_id in foreign:
                        async with Client(url) as other:
                            while not await other.history(prompt_id):
                                await asyncio.sleep(0.05)
                            assert (await other.history(prompt_id))["status"]["status_str"] == "success"
                    await servers_are_free(s.urls, c)

            asyncio.run(flow())
            assert [asked_to_stop(p) > 0 for p in s.processes] == [True, False, False]
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_interrupt_by_client_and_clear(capsys):
    """Native calls without an id, again and again: of one client's jobs, and of everything that waits."""
    seed, rng = seeded()

    async def flow(url, urls):
        mine, theirs = Taker(url, rng, hands=0.0), Taker(url, rng, hands=0.0)
        lost = collections.Counter()
        async with Client(url) as c:
            await c.until_all_up()
            stop = asyncio.Event()

            async def interrupts():
                while not stop.is_set():
                    assert (await c.post("/interrupt", {"client_id": mine.c.client_id}))[0] == 200
                    await asyncio.sleep(rng.uniform(0.02, 0.15))

            async with mine.c, theirs.c:
                calls = asyncio.create_task(interrupts())
                ids = {t: [await t.c.submit(two_outputs(1 + k, rng)) for k in range(25)] for t in (mine, theirs)}
                for job_id in ids[theirs]:
                    assert (await c.until_state(job_id))["state"] == "succeeded", "it is not the caller's"
                for job_id in ids[mine]:
                    lost[(await c.until_state(job_id))["state"]] += 1
                stop.set()
                await calls
                assert set(lost) <= {"canceled", "succeeded"} and lost["canceled"] > 3, lost
                # What stands as pending when it is cleared is gone; what runs is not touched.
                ids = [await mine.c.submit(two_outputs(1 + k, rng)) for k in range(20)]
                before = await c.get("/queue")
                assert (await c.post("/queue", {"clear": True}))[0] == 200
                after = await c.get("/queue")
                assert after["queue_pending"] == [], after
                assert len(before["queue_pending"]) > 5
                states = [(await c.until_state(job_id))["state"] for job_id in ids]
                assert set(states) == {"succeeded", "canceled"}, states
                await servers_are_free(urls, c)
                for job_id, state in zip(ids, states):
                    if state == "canceled":
                        await shows_nothing(c, job_id, set())
                        assert await c.history(job_id) is None, "it was canceled while it waited"
        return lost, collections.Counter(states)

    try:
        with targets.gateway(2) as g:
            lost, states = asyncio.run(flow(g.url, g.processes[1].urls))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    with capsys.disabled():
        print("\nseed %d: of 25 jobs of the interrupted client %s; of 20 when the queue was cleared %s" % (
            seed, dict(lost), dict(states)))


def test_canceled_and_killed_at_once(capsys):
    """The gateway is killed right after it said canceled: it stays canceled, and the work is taken off the servers."""
    seed, rng = seeded()
    try:
        with targets.sim(SERVERS) as s, tempfile.TemporaryDirectory(prefix="comfymux-") as data:
            gateway = targets.serve_process(s.urls, data)

            async def cancels(c, ids):
                async def one(job_id):
                    with contextlib.suppress(aiohttp.ClientError):
                        return job_id if await take_away(c, job_id, rng.choice(("cancel", "interrupt"))) else None

                told = [asyncio.ensure_future(one(k)) for k in ids]
                await asyncio.wait(told[:rng.randint(1, len(told))])
                gateway.kill()
                return set(await asyncio.gather(*told)) - {None}

            async def before():
                async with Client(gateway.url) as c:
                    await c.until_all_up()
                    ids = [await c.submit(two_outputs(1 + k, rng)) for k in range(12)]
                    await asyncio.sleep(rng.uniform(0, 0.15))
                    return ids, await cancels(c, rng.sample(ids, 8))

            async def after(ids, canceled):
                async with Client(gateway.url) as c:
                    states = {k: (await c.until_state(k))["state"] for k in ids}
                    assert {states[k] for k in canceled} <= {"canceled"}, states
                    await servers_are_free(s.urls, c)
                    made = await made_on(s.urls)
                    for k in ids:
                        assert states[k] in ("canceled", "succeeded")
                        if states[k] == "canceled":
                            await shows_nothing(c, k, set(), made[k])

            total = 0
            with targets.running([gateway]):
                for _ in range(KILLS):
                    ids, canceled = asyncio.run(before())
                    total += len(canceled)
                    gateway.start().wait_ready()
                    asyncio.run(after(ids, canceled))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    with capsys.disabled():
        print("\nseed %d: %d kills, %d told to be canceled before" % (seed, KILLS, total))
    assert total >= KILLS


def test_canceled_the_moment_it_exists(capsys):
    """Asked for until there is such a job: the first answer that is no 404 says that it is canceled, or has ended."""
    seed, rng = seeded()
    answers = collections.Counter()

    async def one(c):
        job_id = fresh_id(rng)
        submit = asyncio.create_task(c.submit(graphs.save(color=rng.randrange(1 << 24)), prompt_id=job_id))
        while True:
            status, record = await c.post("/mux/v1/jobs/%s/cancel" % job_id, None)
            answers["404" if status == 404 else record["state"]] += 1
            if status == 200:
                break
            assert status == 404, (status, record)
        await submit
        assert record["state"] in ENDED, "the answer to a cancel: %s" % record["state"]
        assert (await c.record(job_id))["state"] == record["state"]

    async def several(c):
        for _ in range(40):
            await one(c)

    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            await asyncio.gather(*(several(c) for _ in range(6)))

    try:
        with targets.gateway(2) as g:
            asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    with capsys.disabled():
        print("\nseed %d: answers %s" % (seed, dict(answers)))
    assert answers["404"] and answers["canceled"]


def test_stopped_while_cancels_are_under_way():
    """It ends in good order (a sanitizer's finding would be another exit status), and the next start knows every job."""
    _, rng = seeded()
    try:
        with targets.sim(2) as s, tempfile.TemporaryDirectory(prefix="comfymux-") as data:
            gateway = targets.serve_process(s.urls, data)

            async def flow():
                async with Client(gateway.url) as c:
                    await c.until_all_up()
                    ids = [await c.submit(two_outputs(1 + k, rng)) for k in range(24)]
                    calls = [asyncio.ensure_future(take_away(c, k, rng.choice(list(HOW)[:3]))) for k in ids]
                    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                    status = await asyncio.to_thread(gateway.stop)
                    await asyncio.gather(*calls, return_exceptions=True)
                    return ids, status

            async def all_end(ids):
                async with Client(gateway.url) as c:
                    assert {(await c.until_state(k))["state"] for k in ids} <= {"canceled", "succeeded"}

            with targets.running([gateway]):
                for _ in range(3):
                    ids, status = asyncio.run(flow())
                    assert status == 0, gateway.tail()
                    gateway.start().wait_ready()
                    asyncio.run(all_end(ids))
    except targets.Missing as e:
        targets.skip_or_fail(e)
