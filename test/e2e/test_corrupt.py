"""Files that are not what was written: named, never served, never overwritten; the rest works."""
import asyncio
import contextlib
import io
import os
import re
import shutil
import sqlite3
import subprocess

import pytest
from PIL import Image

import graphs
import targets
from comfy_client import Client, images


@contextlib.contextmanager
def plant(data, args=()):
    try:
        with targets.sims(1) as s:
            p = targets.serve_process(s.urls, data, args)
            with targets.running([p]):
                yield p, s
    except targets.Missing as e:
        targets.skip_or_fail(e)


def blob_files(data):
    return {f.name: f for f in (data / "blobs").rglob("*") if f.is_file() and len(f.name) == 64}


def flip(path, at=100):
    """One bit of one byte; the size stays."""
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {"flipped": (flip, "blob_damaged"), "cut": (cut, "blob_damaged"), "gone": (os.unlink, "blob_missing")}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_output(how, tmp_path):
    """By every way that leads to it: 410 with a reason, the log names job, file and hash; other outputs are served. The
    same bytes put once more mend it."""
    damage, event = DAMAGE[how]
    with plant(tmp_path) as (p, s):

        async def flow():
            async with Client(p.url) as c:
                sound = await c.submit(graphs.save(color=1, size=64))
                sound = (await c.until_state(sound))["outputs"][0]
                before = set(blob_files(tmp_path))
                prompt_id = await c.submit(graphs.save(color=2, size=64))
                (output,) = (await c.until_state(prompt_id))["outputs"]
                (image,) = images(await c.history(prompt_id))
                right = await c.view(image)
                (name,) = set(blob_files(tmp_path)) - before
                damage(blob_files(tmp_path)[name])
                for get in (c.try_view(image), c.fetch(output["url"])):
                    mark = p.mark()
                    status, body = await get
                    assert status == 410 and (b"damaged" in body or b"missing" in body), (status, body)
                    (line,) = p.said("^.*event=%s.*$" % event, mark)
                    assert " error job=%s " % prompt_id in line and "blake3=" + name in line, line
                    assert "file=" + image["filename"] in line and "reason=" in line, line
                async with c.http.get(p.url + output["url"], headers={"Range": "bytes=0-9"}) as r:
                    assert r.status == 410
                assert (await c.fetch(sound["url"]))[0] == 200
                assert (await c.fetch("/readyz"))[0] == 200
                await c.upload("right.png", right)  # the same bytes: the blob is one
                assert await c.view(image) == right

        asyncio.run(flow())


def test_a_damaged_input(tmp_path):
    """A job that needs it fails by name; no server is given wrong bytes. Uploaded again it works."""
    png = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(png, "PNG")
    with plant(tmp_path) as (p, s):

        async def flow():
            async with Client(p.url) as c:
                name = (await c.upload("cat.png", png.getvalue()))["name"]
                ((_, path),) = blob_files(tmp_path).items()
                flip(path)
                record = await c.until_state(await c.submit(graphs.load(name)))
                assert record["state"] == "failed" and record["error"]["code"] == "dispatch_failed", record
                assert "not what was stored" in record["error"]["message"], record
                async with Client(s.urls[0]) as sim:
                    assert await sim.get("/history") == {}
                await c.upload("cat.png", png.getvalue(), overwrite="true")
                assert (await c.until_state(await c.submit(graphs.load(name))))["state"] == "succeeded"

        asyncio.run(flow())


# ---- the database ----------------------------------------------------------------------------------------------------


async def jobs_made(c, count):
    ids = [await c.submit(graphs.save(color=i)) for i in range(count)]
    for prompt_id in ids:
        await c.until_state(prompt_id)
    return ids


def made_before(p, count=20):
    """Jobs, then an end in good order (killed: what is in the log stays in the log)."""

    async def flow():
        async with Client(p.url) as c:
            return await jobs_made(c, count)

    return asyncio.run(flow())


def everything(folder):
    return {f.relative_to(folder): f.read_bytes() for f in sorted(folder.rglob("*"))
            if f.is_file() and f.name not in ("comfymux.lock", "comfymux.db-shm")}


def refused(p, data):
    """It does not start, says which file it is and what to do, and leaves everything as it was."""
    before = everything(data)
    run = subprocess.run(p.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         timeout=60, text=True)
    last = run.stderr.rstrip().splitlines()[-1]
    assert run.returncode == 1, run
    assert last.startswith("comfymux serve: %s" % (data / "comfymux.db")), last
    assert "damaged" in last and "restore it " in last and "move it away" in last, last
    assert everything(data) == before
    return last


def garbage(db):
    with open(db, "r+b") as f:
        f.write(b"this is no database " * 10)


def cut_to(db):
    os.truncate(db, db.stat().st_size // 2 // 4096 * 4096)


@pytest.mark.parametrize("damage", [garbage, cut_to])
def test_a_damaged_database_at_the_start(damage, tmp_path):
    with plant(tmp_path / "data") as (p, s):
        ids = made_before(p)
        assert p.stop() == 0
        db = tmp_path / "data" / "comfymux.db"
        shutil.copy(db, tmp_path / "backup")
        damage(db)
        refused(p, tmp_path / "data")
        shutil.copy(tmp_path / "backup", db)  # as it says
        p.start().wait_ready()

        async def flow():
            async with Client(p.url) as c:
                for prompt_id in ids:
                    assert (await c.record(prompt_id))["state"] == "succeeded"

        asyncio.run(flow())


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5])
def test_a_damaged_log_at_the_start(place, tmp_path):
    """Killed, so that what was answered stands in the log. SQLite would take a bit that fell over for the end of it and
    forget the rest in silence."""
    with plant(tmp_path) as (p, s):
        ids = made_before(p, 8)
        p.kill()
        wal = tmp_path / "comfymux.db-wal"
        right = wal.read_bytes()
        frames = 0  # of this life of the log, not those left over behind them
        while right[32 + frames * 4120 + 8:][:8] == right[16:24]:
            frames += 1
        assert frames > 20
        flip(wal, 9 if place == 0 else 32 + int(frames * place) * 4120 + 2000)
        assert "comfymux.db-wal is damaged" in refused(p, tmp_path)
        wal.write_bytes(right)
        p.start().wait_ready()

        async def flow():
            async with Client(p.url) as c:
                for prompt_id in ids:
                    assert (await c.record(prompt_id))["state"] == "succeeded"

        asyncio.run(flow())


def test_a_torn_end_of_the_log_is_none(tmp_path):
    """As a crash may leave it: what was being written when it came is not there, and that is well."""
    with plant(tmp_path) as (p, s):
        ids = made_before(p)
        p.kill()
        wal = tmp_path / "comfymux.db-wal"
        with open(wal, "ab") as f:
            f.write(wal.read_bytes()[32:32 + 4120] + b"x" * 1000)  # a frame that does not fit, and a piece of one
        p.start().wait_ready()

        async def flow():
            async with Client(p.url) as c:
                for prompt_id in ids:
                    assert (await c.record(prompt_id))["state"] == "succeeded"

        asyncio.run(flow())


def test_moved_away(tmp_path):
    """The other advice: it starts anew, and files that nobody knows any more go."""
    with plant(tmp_path) as (p, s):
        made_before(p, 3)
        assert p.stop() == 0
        garbage(tmp_path / "comfymux.db")
        refused(p, tmp_path)
        (tmp_path / "comfymux.db").rename(tmp_path / "old.db")
        mark = p.mark()
        p.start().wait_ready()
        p.until_said("event=orphans_removed count=3", mark)
        made_before(p, 3)


def root_page(db, table):
    with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % db, uri=True)) as c:
        return c.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]


def wipe_page(db, page):
    with open(db, "r+b") as f:
        f.seek((page - 1) * 4096)
        f.write(b"\xee" * 4096)


def test_a_damaged_page_while_it_runs(tmp_path):
    """What needs it fails and says so, /readyz too; what does not need it goes on."""
    with plant(tmp_path) as (p, s):
        ids = made_before(p)
        assert p.stop() == 0
        wipe_page(tmp_path / "comfymux.db", root_page(tmp_path / "comfymux.db", "job_docs"))
        p.start().wait_ready()

        async def flow():
            async with Client(p.url) as c:
                assert (await c.record(ids[0]))["state"] == "succeeded"  # another table
                mark = p.mark()
                status, body = await c.fetch("/history/" + ids[0])
                assert status in (500, 503), (status, body)
                (line,) = p.said("^.* error store=.*$", mark)
                assert re.search("reason=.*malformed", line), line
                status, body = await c.fetch("/readyz")
                assert status == 503 and b"the database is damaged" in body, body
                assert (await c.fetch("/healthz"))[0] == 200
                record = await c.record(ids[0])
                assert (await c.fetch(record["outputs"][0]["url"]))[0] == 200
                assert len((await c.get("/mux/v1/jobs", limit=100))["jobs"]) == len(ids)
                assert (await c.fetch("/metrics"))[0] == 200

        asyncio.run(flow())


def test_what_the_start_needs_is_damaged(tmp_path):
    """The list of jobs cannot be read: it ends, and says why."""
    with plant(tmp_path) as (p, s):
        made_before(p)
        assert p.stop() == 0
        wipe_page(tmp_path / "comfymux.db", root_page(tmp_path / "comfymux.db", "jobs_state"))
        run = subprocess.run(p.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             timeout=60, text=True)
        assert run.returncode == 1, run
        last = [line for line in run.stderr.splitlines() if line.startswith("comfymux serve: ")]
        assert len(last) == 1 and str(tmp_path) in last[0] and "is damaged" in last[0], run.stderr
