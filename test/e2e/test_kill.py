"""SIGKILL at random moments while several windows submit, listen and poll. Afterwards three accounts are compared: what
clients were told, what the simulators did, what the store holds. Nothing is lost, nothing is there twice, no byte
differs."""
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import tempfile
import time

import targets
from comfy_client import Client
from witness import Books, Window, apart, color_of, digest

KILLS = 200 if os.environ.get("COMFYMUX_LONG") else 20
WINDOWS, SIMS = 4, 3


# ---- killing -------------------------------------------------------------------------------------------------------


async def moment(books, gateway, kind):
    """Returns when it is time to kill; the gateway has been started, and may not be ready."""
    if kind == "while it starts":
        return await asyncio.sleep(books.rng.uniform(0, 0.25))
    await asyncio.to_thread(gateway.wait_ready)
    if kind == "any time":
        await asyncio.sleep(books.rng.uniform(0, 0.6))
    else:
        for _ in range(books.rng.randint(1, 4)):
            await books.wait_for(kind)
    return None


MOMENTS = {"any time": 4, "while it starts": 1, "accepted": 2, "completed": 2, "ends told": 2}


async def kills(books, gateway, count):
    """`count` times SIGKILL and a new start; the last one is left to live. Kinds of moments."""
    done = collections.Counter()
    for _ in range(count):
        (kind,) = books.rng.choices(list(MOMENTS), MOMENTS.values())
        await asyncio.wait_for(moment(books, gateway, kind), 60)
        done[kind] += 1
        gateway.kill()
        books.kills.append(time.monotonic())
        gateway.start()
    await asyncio.to_thread(gateway.wait_ready)
    books.closing = True
    return done


# ---- the three accounts ----------------------------------------------------------------------------------------------


async def simulated(urls, state):
    """What the simulators did: color -> [picture of each run]."""
    runs = collections.defaultdict(list)
    for i, url in enumerate(urls):
        async with Client(url) as c:
            for entry in (await c.get("/history")).values():
                color = entry["prompt"][2]["1"]["inputs"]["color"]
                for out in entry["outputs"].values():
                    for image in out["images"]:
                        runs[color].append((state / str(i + 1) / "output" / image["filename"]).read_bytes())
    return runs


async def listed(url):
    """What the gateway lists: records of all jobs, ids in history."""
    records, after = [], None
    async with Client(url) as c:
        while True:
            page = await c.get("/mux/v1/jobs", limit=1000, **({"after": after} if after else {}))
            records += page["jobs"]
            after = page["next"]
            if not after:
                break
        pairs = json.loads((await c.fetch("/history"))[1], object_pairs_hook=lambda p: p)
        pictures = {}
        for r in records:
            pictures[r["id"]] = [(await c.fetch(o["url"])) for o in r["outputs"]]
    return records, [k for k, _ in pairs], pictures


async def nothing_left(url, books):
    """Jobs whose submit was never answered may still run."""
    deadline = time.monotonic() + 30
    async with Client(url) as c:
        while left := (await c.get("/mux/v1/jobs", state="queued,dispatching,running,collecting"))["jobs"]:
            if time.monotonic() > deadline:
                return books.blame("%d jobs do not end", len(left))
            await asyncio.sleep(0.05)
        if await c.get("/queue") != {"queue_running": [], "queue_pending": []}:
            books.blame("the queue is not empty, and there are no jobs")


def stored(data, books):
    """What the store holds, read when the gateway has ended: (id -> blob files), and its own idea of its health."""
    db = sqlite3.connect("file:%s/comfymux.db?mode=ro" % data, uri=True)
    with contextlib.closing(db):
        (health,) = db.execute("PRAGMA integrity_check").fetchone()
        if health != "ok":
            books.blame("the database: %s", health)
        if db.execute("PRAGMA foreign_key_check").fetchall():
            books.blame("the database: foreign keys")
        for what in ("strays", "job_secrets", "pins"):
            (n,) = db.execute("SELECT count(*) FROM " + what).fetchone()
            if n:
                books.blame("the store still holds %d %s", n, what)
        files = {i: [] for (i,) in db.execute("SELECT id FROM jobs")}
        rows = db.execute("SELECT j.id, hex(b.hash), b.size FROM jobs j JOIN outputs o USING (seq)"
                          " LEFT JOIN blobs b ON b.id = o.blob")
        for job_id, name, size in rows:
            data_of = (pathlib.Path(data) / "blobs" / name[:2].lower() / name.lower()).read_bytes()
            if len(data_of) != size:
                books.blame("%s: its file has %d bytes, the store says %d", job_id, len(data_of), size)
            files[job_id].append(data_of)
    return files


def compare(books, runs, gateway_side, files):
    """The figures: lost, twice, different. Everything that is not right is in books.wrong."""
    records, history, pictures = gateway_side
    lost, twice, different = set(), set(), set()
    ids = [r["id"] for r in records]
    for name, seen in (("/mux/v1/jobs", ids), ("/history", history)):
        twice |= {k for k, n in collections.Counter(seen).items() if n > 1}
        lost |= set(books.jobs) - set(seen)
    lost |= set(books.jobs) - set(files)
    colors = collections.Counter()
    for r in records:
        ends = [t["state"] for t in r["timeline"] if t["state"] in ("succeeded", "failed", "canceled", "expired")]
        if r["state"] != "succeeded":
            lost.add(r["id"])
            books.blame("%s ended as %s: %s", r["id"], r["state"], r["error"])
            continue
        if len(ends) != 1 or len(r["outputs"]) != 1 or len(files[r["id"]]) != 1:
            twice.add(r["id"])
            books.blame("%s: ends %s, %d outputs", r["id"], ends, len(r["outputs"]))
            continue
        ((status, png),) = pictures[r["id"]]
        if status != 200:
            lost.add(r["id"])
            continue
        color = color_of(png)
        colors[color] += 1
        told = books.jobs.get(r["id"])
        if png not in runs[color] or files[r["id"]] != [png] or (told and told.pictures != {digest(png)}):
            different.add(r["id"])
            books.blame("%s: %d runs; picture %s; store %s; shown %s", r["id"], len(runs[color]), digest(png),
                        [digest(f) for f in files[r["id"]]], told and told.pictures)
        if color not in books.asked or (told and told.color != color):
            different.add(r["id"])
    twice |= {"color %06x" % c for c, n in colors.items() if n > 1}
    twice |= {"color %06x" % c for c, made in runs.items() if len(made) > 1}
    return lost, twice, different


# ---- the test --------------------------------------------------------------------------------------------------------


def test_killed_at_random_moments_under_load(tmp_path, capsys):
    seed = int(os.environ.get("COMFYMUX_SEED", random.randrange(1 << 32)))
    books = Books(random.Random(seed))

    async def load(gateway):
        windows = [Window(n, gateway.url, books) for n in range(WINDOWS)]
        done, *_ = await asyncio.gather(kills(books, gateway, KILLS), *(w.run() for w in windows))
        apart(windows)
        await nothing_left(gateway.url, books)
        return done

    async def audit(gateway, urls):
        return await simulated(urls, tmp_path / "sims"), await listed(gateway.url)

    faults = ["--history-lag", "20", "--fault", "view-slow=30ms%30", "--seed", str(seed % 1000)]
    try:
        with targets.sim(SIMS, ["--state", tmp_path / "sims", *faults]) as s, \
                tempfile.TemporaryDirectory(prefix="comfymux-") as data:
            gateway = targets.serve_process(s.urls, data)
            with targets.running([gateway]):
                done = asyncio.run(load(gateway))
                runs, gateway_side = asyncio.run(audit(gateway, s.urls))
                assert gateway.stop(signal.SIGTERM) == 0, gateway.tail()
            lost, twice, different = compare(books, runs, gateway_side, stored(data, books))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    silent = {k for k, t in books.jobs.items() if not t.ends or not t.last}
    with capsys.disabled():
        print("\nseed %d: %d kills %s; %d jobs accepted, %d more listed; lost %d, twice %d, different %d; ends never told"
              " on a socket %d; %s" % (seed, sum(done.values()), dict(done), len(books.jobs),
                                       len(gateway_side[0]) - len(books.jobs), len(lost), len(twice), len(different),
                                       len(silent), dict(books.count)))
    assert not books.wrong, "seed %d: %d contradictions:\n%s" % (seed, len(books.wrong), "\n".join(books.wrong[:20]))
    assert (lost, twice, different) == (set(), set(), set()), "seed %d" % seed
    assert not silent, "seed %d: never told: %s" % (seed, silent)
    assert sum(done.values()) == KILLS and len(books.jobs) > KILLS
