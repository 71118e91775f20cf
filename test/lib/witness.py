"""Clients that note everything they are told, survive the gateway's deaths, and hold against it what does not agree.

One Books is shared by all windows of a test. Nothing here asserts: contradictions are collected in Books.wrong, so that
a test sees all of them, with the figures."""
import asyncio
import collections
import contextlib
import hashlib
import io
import json
import os
import random
import time
import uuid

import aiohttp
from PIL import Image

import graphs
from comfy_client import Client, images

ENDS = ("execution_success", "execution_error", "execution_interrupted")
NEVER = 90  # seconds, a safety net
JUST_BEFORE = 2  # seconds: what was told so shortly before a kill may be told again
GONE = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


def color_of(png):
    r, g, b = Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))
    return r << 16 | g << 8 | b


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def small(color, rng):
    """A job of some hundredths of a second, whose picture no other one makes."""
    return graphs.slow(steps=rng.randint(1, 3), seconds=rng.choice((0.01, 0.02, 0.04)), color=color, seed=color,
                       prefix="ComfyUI")


class Told:
    """What was said about one accepted job."""

    def __init__(self, color):
        self.color = color
        self.ends = []  # terminal events on sockets, in order
        self.told_at = []  # monotonic seconds of each
        self.last = 0  # executing{node: null}
        self.completed = False
        self.pictures = set()  # digests of every picture shown for it


class Books:
    """total: so many jobs in all; without it windows go on until `closing` is set."""

    def __init__(self, rng, total=None):
        self.rng = rng
        self.total = total
        self.jobs = {}  # id -> Told: a 200 was read
        self.asked = set()  # colors of submits; some were never answered
        self.wrong = []
        self.count = collections.Counter()
        self.closing = False  # no new jobs; from here on the gateway lives
        self.kills = []  # monotonic seconds
        self.news = asyncio.Condition()

    def more(self):
        """Is another job to be submitted? Then it counts."""
        if self.total is None:
            return not self.closing
        self.total -= 1
        return self.total >= 0

    def color(self):
        while True:
            color = self.rng.randrange(1, 1 << 24)
            if color not in self.asked:
                self.asked.add(color)
                return color

    def blame(self, text, *args):
        self.wrong.append(text % args)

    def killed_after(self, t):
        """Was it told so shortly before a kill? What was sent before may be read after it."""
        return any(t - 1 <= k <= t + JUST_BEFORE for k in self.kills)

    async def tell(self, what):
        self.count[what] += 1
        async with self.news:
            self.news.notify_all()

    async def wait_for(self, what):
        """Until `what` has been told once more."""
        before = self.count[what]
        async with self.news:
            await self.news.wait_for(lambda: self.count[what] != before)

    def picture(self, job_id, png, where):
        """A picture was shown for this job."""
        told = self.jobs[job_id]
        told.pictures.add(digest(png))
        self.count["pictures seen"] += 1
        try:
            color = color_of(png)
        except OSError as e:
            return self.blame("%s: %s gave %d bytes that are no picture: %s", job_id, where, len(png), e)
        if color != told.color:
            self.blame("%s: %s gave the picture of color %06x, not %06x", job_id, where, color, told.color)
        elif len(told.pictures) > 1:
            self.blame("%s: %s gave other bytes than before", job_id, where)


class Window:
    """One window: submits, listens on its socket, polls /status. `graph` makes a job of a color. Every second one
    negotiates feature flags, so that its jobs are told side by side; the others' are told one after another."""

    def __init__(self, number, url, books, slots=3, graph=small, chosen=0.75):
        self.flags = number % 2 == 0
        self.books = books
        self.c = Client(url, window="window-%d" % number)
        self.slots = slots
        self.graph = graph
        self.chosen = chosen  # share of submits with an id of the client's own
        self.jobs = set()
        self.heard = set()  # ids that came over its socket

    # ---- asking, again and again -------------------------------------------------------------------------------

    async def ask(self, method, path, **more):
        """(status, bytes) of an answer that was read to its end: no answer and 503 are asked again."""
        while True:
            try:
                async with self.c.http.request(method, self.c.url + path, **more) as r:
                    body = await r.read()
                    if r.status != 503:
                        return r.status, body
            except GONE:
                self.books.count["answers lost"] += 1
            await asyncio.sleep(0.02)

    async def submit(self):
        """The id of a job that was accepted, or None if nobody knows."""
        b = self.books
        color = b.color()
        body = {"prompt": self.graph(color, b.rng), "client_id": self.c.client_id}
        mine = str(uuid.UUID(int=b.rng.getrandbits(128), version=4)) if b.rng.random() < self.chosen else None
        if mine:
            self.jobs.add(mine)
            body["prompt_id"] = mine
        text = json.dumps(body)
        while True:
            try:
                async with self.c.http.post(self.c.url + "/prompt", data=text) as r:
                    status, answer = r.status, await r.read()
            except GONE:
                b.count["submits unanswered"] += 1
                if not mine:
                    return None  # perhaps it was taken, perhaps not
                status = 503
            if status == 200:
                break
            if status != 503:
                b.blame("submit of %s answered %d: %s", mine, status, answer[:300])
                return None
            await asyncio.sleep(0.02)
        job_id = json.loads(answer)["prompt_id"]
        if mine and job_id != mine:
            b.blame("submitted as %s, accepted as %s", mine, job_id)
        self.jobs.add(job_id)
        b.jobs[job_id] = Told(color)
        await b.tell("accepted")
        return job_id

    # ---- polling -----------------------------------------------------------------------------------------------

    async def look(self, job_id):
        """One look at /status; True when it was completed, and its image was there."""
        b, told = self.books, self.books.jobs[job_id]
        status, body = await self.ask("GET", "/status/" + job_id)
        b.count["looks"] += 1
        if status != 200:
            b.blame("%s was accepted, and /status answers %d: %s", job_id, status, body[:200])
            return True
        s = json.loads(body)
        if told.completed and s["status"] != "completed":
            b.blame("%s was completed, and is %s now", job_id, s["status"])
        if s["status"] in ("failed", "canceled"):
            b.blame("%s: %s", job_id, s["error"] or s["status"])
            return True
        if s["status"] != "completed":
            if s["image_url"]:
                b.blame("%s is %s, and has an image_url", job_id, s["status"])
            return False
        told.completed = True
        if not s["image_url"]:
            b.blame("%s is completed, and has no image_url", job_id)
            return True
        status, png = await self.ask("GET", s["image_url"])
        if status == 200:
            b.picture(job_id, png, "image_url")
        else:
            b.blame("%s is completed, and its image_url answers %d", job_id, status)
        return True

    async def follow(self, job_id):
        deadline = time.monotonic() + NEVER
        while not await self.look(job_id):
            if time.monotonic() > deadline:
                return self.books.blame("%s was accepted, and never ended", job_id)
            await asyncio.sleep(self.books.rng.uniform(0.01, 0.05))
        await self.books.tell("completed")

    async def slot(self):
        while self.books.more():
            job_id = await self.submit()
            if job_id:
                await self.follow(job_id)

    # ---- listening ---------------------------------------------------------------------------------------------

    async def ended(self, job_id, kind):
        """A terminal event came: everything is there. It may come before the answer to the POST was read here."""
        b = self.books
        heard_at = time.monotonic()
        while job_id not in b.jobs:
            if b.closing:
                return  # of a submit that was never answered
            await asyncio.sleep(0.01)
        told = b.jobs[job_id]
        if kind == "executing":
            told.last += 1
        else:
            told.ends.append(kind)
            told.told_at.append(heard_at)
            told.told_at.sort()
            if not all(b.killed_after(t) for t in told.told_at[:-1]):
                b.blame("%s: its end was told again, at %s; kills at %s", job_id, told.told_at, b.kills)
            b.count["told again"] += len(told.ends) > 1
        await b.tell("ends told")
        status, body = await self.ask("GET", "/history/" + job_id)
        entry = json.loads(body).get(job_id) if status == 200 else None
        found = images(entry) if entry else []
        if len(found) != 1:
            return b.blame("%s: %s was told, and history has %d images of it", job_id, kind, len(found))
        query = {k: found[0][k] for k in ("filename", "subfolder", "type")}
        status, png = await self.ask("GET", "/view", params=query)
        if status == 200:
            b.picture(job_id, png, "/view")
        else:
            b.blame("%s: %s was told, and /view answers %d", job_id, kind, status)

    def hear(self, text, checks):
        m = json.loads(text)
        job_id = m.get("data", {}).get("prompt_id")
        if not job_id:
            return
        self.books.count["events"] += 1
        self.heard.add(job_id)
        if m["type"] in ENDS or (m["type"] == "executing" and m["data"]["node"] is None):
            checks.append(asyncio.create_task(self.ended(job_id, m["type"])))

    async def listen(self, checks):
        url = self.c.url.replace("http", "ws", 1) + "/ws?clientId=" + self.c.client_id
        while True:
            try:
                async with self.c.http.ws_connect(url, max_msg_size=64 << 20) as ws:
                    if self.flags:
                        await ws.send_str(json.dumps({"type": "feature_flags", "data": {}}))
                    async for m in ws:
                        if m.type == aiohttp.WSMsgType.TEXT:
                            self.hear(m.data, checks)
            except GONE:
                pass
            self.books.count["sockets lost"] += 1
            await asyncio.sleep(self.books.rng.uniform(0, 0.05))

    async def all_told(self, ids):
        while any(not self.books.jobs[k].last for k in ids if k in self.books.jobs):
            await asyncio.sleep(0.02)

    async def run(self):
        """Until there are no more jobs and every accepted one is completed; then all it is told about them."""
        async with self.c:
            checks = []
            ear = asyncio.create_task(self.listen(checks))
            await asyncio.gather(*(self.slot() for _ in range(self.slots)))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.all_told(self.jobs), 30)
            ear.cancel()
            await asyncio.gather(ear, return_exceptions=True)
            await asyncio.gather(*checks)


def apart(windows):
    """No window has heard of a job that another one submitted."""
    for w in windows:
        for other in windows:
            for job_id in w.heard & other.jobs if other is not w else ():
                w.books.blame("%s was told to a window that has not submitted it", job_id)


# ---- a fixed number of jobs, in front of a fleet that is in trouble ---------------------------------------------------


def new_books(total):
    seed = int(os.environ.get("COMFYMUX_SEED", random.randrange(1 << 32)))
    return seed, Books(random.Random(seed), total)


def lasting(seconds):
    """A maker of jobs that take about this long, in steps of 50 ms."""

    def graph(color, rng):
        steps = max(1, round(rng.uniform(0.5, 1.5) * seconds / 0.05))
        return graphs.slow(steps=steps, seconds=0.05, color=color, seed=color, prefix="ComfyUI")

    return graph


async def all_of(url, books, graph, slots=4, beside=None):
    """Windows submit until there are enough jobs; beside(enough) goes on until that event is set. (records, history)"""
    windows = [Window(n, url, books, slots=slots, graph=graph, chosen=1) for n in range(4)]
    enough = asyncio.Event()
    trouble = asyncio.create_task(beside(enough)) if beside else None
    await asyncio.gather(*(w.run() for w in windows))
    enough.set()
    if trouble:
        await trouble
    apart(windows)
    async with Client(url) as c:
        return (await c.get("/mux/v1/jobs", limit=1000))["jobs"], await c.get("/history")


def judge(books, total, listed):
    """Every job succeeded, is listed once with one image, was told once, and only pictures of that image were seen."""
    records, history = listed
    ids = collections.Counter(r["id"] for r in records)
    assert not books.wrong, "%d contradictions:\n%s" % (len(books.wrong), "\n".join(books.wrong[:20]))
    assert books.count["answers lost"] == 0
    assert len(books.jobs) == total and set(ids) == set(books.jobs) == set(history) and set(ids.values()) == {1}
    for r in records:
        told = books.jobs[r["id"]]
        ends = [t["state"] for t in r["timeline"] if t["state"] in ("succeeded", "failed", "canceled", "expired")]
        assert r["state"] == "succeeded" and ends == ["succeeded"], r
        assert len(r["outputs"]) == 1 and len(images(history[r["id"]])) == 1, r
        assert told.ends == ["execution_success"] and told.last == 1, (r["id"], told.ends, told.last)
        assert len(told.pictures) == 1
        assert [a["error"] is None for a in r["attempts"]] == [False] * (r["attempt"] - 1) + [True], r


def faults_of(records):
    """(server, code) -> attempts that ended so."""
    return collections.Counter((a["server"], a["error"]["code"]) for r in records for a in r["attempts"] if a["error"])


def killed_now_and_then(books, server, every, down):
    """For all_of(): SIGKILL every so many seconds, and a new start at most `down` seconds later."""

    async def trouble(enough):
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(enough.wait(), every)
            server.kill()
            books.count["kills"] += 1
            await asyncio.sleep(books.rng.uniform(0, down))
            server.start()
            await asyncio.to_thread(server.wait_ready, 120)

    return trouble
