"""No space left. An output that does not fit fails its job, by name and for good; a store that cannot write at all
makes everybody wait, loses nothing and goes on by itself when there is space again."""
import asyncio
import contextlib
import errno
import io
import os
import pathlib
import subprocess
import tempfile

import pytest
from PIL import Image

import graphs
import targets
from comfy_client import Client

SIZE = 32 << 20


class Disk:
    """A small file system; fill() leaves so many bytes of it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.data = self.path / "data"
        self.filler = self.path / "filler"

    def fill(self, left=0):
        fd = os.open(self.filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(fd, b"x" * 65536)
        except OSError as e:
            assert e.errno == errno.ENOSPC
            if left:
                os.ftruncate(fd, os.fstat(fd).st_size - left)
        finally:
            os.close(fd)

    def clear(self):
        self.filler.unlink()


@contextlib.contextmanager
def disk():
    targets.need_mount()
    with tempfile.TemporaryDirectory(prefix="comfymux-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % SIZE, "none", folder], check=True)
        try:
            yield Disk(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def plant(sim_args=(), count=1):
    with disk() as d:
        try:
            with targets.sims(count, sim_args) as s:
                p = targets.serve_process(s.urls, d.data)
                with targets.running([p]):
                    yield d, p, s
        except targets.Missing as e:
            targets.skip_or_fail(e)


def noise(side):
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "PNG")
    return out.getvalue()


async def until_ready(c):
    """Nobody submits meanwhile: it is noticed without anybody's help."""
    while (await c.fetch("/readyz"))[0] != 200:
        await asyncio.sleep(0.05)


def test_an_output_that_does_not_fit():
    """storage_failed after one more try, and it is not run again; what fits goes on beside it. With space again the job
    is retried by hand."""
    with plant() as (d, p, s):

        async def flow():
            async with Client(p.url) as c:
                big = noise(1100)
                assert len(big) > 3 << 20
                name = (await c.upload("big.png", big))["name"]
                await c.until_state(await c.submit(graphs.save()))
                d.fill(left=2 << 20)
                prompt_id = await c.submit(graphs.load(name))
                record = await c.until_state(prompt_id)
                assert record["state"] == "failed" and record["error"]["code"] == "storage_failed", record
                assert "No space left" in record["error"]["message"], record
                assert len(record["attempts"]) == 1 and record["outputs"] == [], record
                assert len(p.said("job=%s event=output_not_read" % prompt_id)) == 2
                status, body = await c.fetch("/result/" + prompt_id)
                assert status == 500 and b"storage_failed" in body
                assert (await c.until_state(await c.submit(graphs.save(color=7))))["state"] == "succeeded"
                assert (await c.fetch("/readyz"))[0] == 200
                assert not list((d.data / "blobs" / "tmp").iterdir())  # nothing half-written stays
                d.clear()
                status, again = await c.post("/mux/v1/jobs/%s/retry" % prompt_id, None)
                assert status in (200, 201, 202), (status, again)
                record = await c.until_state(again["id"])
                assert record["state"] == "succeeded" and record["outputs"][0]["size"] > 3 << 20, record

        asyncio.run(flow())


async def refused(c):
    """Submits until there is no room for one; how many were taken."""
    taken = []
    while True:
        status, body = await c.post("/prompt", {"prompt": graphs.save(color=len(taken))})
        if status != 200:
            break
        taken.append(body["prompt_id"])
        assert len(taken) < 2000
    assert status == 503 and body["error"]["type"] == "storage_failed" and body["node_errors"] == {}, (status, body)
    return taken


async def has_ended(url, prompt_id):
    async with Client(url) as sim:
        while await sim.history(prompt_id) is None:
            await asyncio.sleep(0.05)


def test_the_store_cannot_write():
    """Submits are refused by name, /readyz says why; what runs, what has ended meanwhile and what is being collected
    waits; everything is there and done when there is space again, although nobody writes until then."""
    with plant(["--fault", "view-slow=3s:1"], count=2) as (d, p, s):

        async def flow():
            async with Client(p.url) as c:
                await c.until_all_up()
                await c.post("/mux/v1/servers/s1/drain", None)
                collecting = await c.submit(graphs.save(color=1))
                await c.until_state(collecting, "collecting")
                running = await c.submit(graphs.slow(steps=100, seconds=0.05))
                await c.until_state(running, "running")
                waiting = [await c.submit(graphs.save(color=i)) for i in range(5)]
                d.fill()
                waiting += await refused(c)
                status, body = await c.fetch("/readyz")
                assert status == 503 and b"full" in body, body
                assert (await c.fetch("/healthz"))[0] == 200
                await has_ended(s.urls[0], running)
                await asyncio.to_thread(p.until_said, "job=%s event=waits_for_space" % collecting)
                assert (await c.record(collecting))["state"] == "collecting"
                assert (await c.record(running))["state"] in ("running", "collecting")
                assert (await c.record(waiting[-1]))["state"] == "queued"
                status, body = await c.post("/prompt", {"prompt": graphs.save()})
                assert status == 503
                assert len(p.said(" error store=")) < 20  # it is not said again and again
                d.clear()
                await until_ready(c)
                for prompt_id in (collecting, running, *waiting):
                    record = await c.until_state(prompt_id)
                    assert record["state"] == "succeeded" and len(record["attempts"]) == 1, record
                    (output,) = record["outputs"]
                    assert (await c.fetch(output["url"]))[0] == 200
                await c.until_state(await c.submit(graphs.save(color=99)))
                return [collecting, running, *waiting]

        ids = asyncio.run(flow())
        p.stop()
        p.start().wait_ready()

        async def after():
            async with Client(p.url) as c:
                for prompt_id in ids:
                    assert (await c.record(prompt_id))["state"] == "succeeded"

        asyncio.run(after())


def test_killed_while_it_is_full():
    """What was accepted is there after a start without space, and goes on with space."""
    with plant() as (d, p, s):

        async def before():
            async with Client(p.url) as c:
                running = await c.submit(graphs.slow(steps=20, seconds=0.05))
                await c.until_state(running, "running")
                d.fill()
                ids = [running, *await refused(c)]
                await has_ended(s.urls[0], running)
                p.kill()
                return ids

        ids = asyncio.run(before())
        d.clear()
        p.start().wait_ready()

        async def after():
            async with Client(p.url) as c:
                for prompt_id in ids:
                    assert (await c.until_state(prompt_id))["state"] == "succeeded"

        asyncio.run(after())


def test_started_while_it_is_full(tmp_path):
    """It says so and ends; nothing is lost by that."""
    with plant() as (d, p, s):

        async def one(prompt_id=None):
            async with Client(p.url) as c:
                prompt_id = prompt_id or await c.submit(graphs.save())
                assert (await c.until_state(prompt_id))["state"] == "succeeded"
                return prompt_id

        prompt_id = asyncio.run(one())
        assert p.stop() == 0
        d.fill()
        run = subprocess.run(p.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             timeout=60, text=True)
        last = run.stderr.rstrip().splitlines()[-1]
        assert run.returncode == 1 and last.startswith("comfymux serve: "), run
        assert str(d.data) in last and ("full" in last or "No space" in last), last
        d.clear()
        p.start().wait_ready()
        assert asyncio.run(one(prompt_id)) == prompt_id


@pytest.mark.parametrize("turns", [5])
def test_full_again_and_again(turns):
    """Under load. A job ends well, or as one whose output did not fit; none is lost, none is done twice."""
    with plant(count=2) as (d, p, s):

        async def load(c, ids):
            for color in range(60):
                status, body = await c.post("/prompt", {"prompt": graphs.save(color=color)})
                if status == 200:
                    ids.append(body["prompt_id"])
                else:
                    assert status == 503 and body["error"]["type"] == "storage_failed", (status, body)
                await asyncio.sleep(0.05)

        async def shortage():
            for _ in range(turns):
                await asyncio.to_thread(d.fill)
                await asyncio.sleep(0.4)
                d.clear()
                await asyncio.sleep(0.2)

        async def flow():
            async with Client(p.url) as c:
                ids = []
                await asyncio.gather(load(c, ids), shortage())
                await until_ready(c)
                ended = [await c.until_state(prompt_id) for prompt_id in ids]
                for record in ended:
                    assert record["state"] == "succeeded" or record["error"]["code"] == "storage_failed", record
                    assert len(record["attempts"]) == 1, record
                assert [r for r in ended if r["state"] == "succeeded"]
                listed = [j["id"] for j in (await c.get("/mux/v1/jobs", limit=1000))["jobs"]]
                assert sorted(listed) == sorted(ids)

        asyncio.run(flow())
