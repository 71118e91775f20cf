"""What `keep:` takes away, and what it must not touch."""
import asyncio
import contextlib
import io
import os
import re

import pytest
from PIL import Image

import configured
import graphs
import targets
from comfy_client import Client, images


@contextlib.contextmanager
def plant(keep, count=1):
    try:
        with targets.sims(count) as s:
            with configured.gateway({"servers": configured.servers(s.urls), "keep": keep}) as g:
                yield g, s
    except targets.Missing as e:
        targets.skip_or_fail(e)


def run(keep, flow):
    with plant(keep) as (g, s):

        async def whole():
            async with Client(g.url) as c:
                await flow(c, g)

        asyncio.run(whole())


async def done(c, graph, **fields):
    prompt_id = await c.submit(graph, **fields)
    record = await c.until_state(prompt_id)
    assert record["state"] == "succeeded", record
    return prompt_id


async def until(condition, *args):
    """Retention comes by itself; the deadline is a safety net."""

    async def poll():
        while not await condition(*args):
            await asyncio.sleep(0.05)

    await asyncio.wait_for(poll(), 60)


async def status(c, path):
    return (await c.fetch(path))[0]


async def is_gone(c, prompt_id):
    return await status(c, "/mux/v1/jobs/" + prompt_id) == 404


def blobs(g):
    folder = g.file.parent / "data" / "blobs"
    return {f.name for f in folder.rglob("*") if f.is_file() and len(f.name) == 64}


def noise(side):
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "PNG")
    return out.getvalue()


def test_by_age():
    """Everything of the job goes, its file too; it is unknown by every name it had. One that has not ended stays."""

    async def flow(c, g):
        prompt_id = await done(c, graphs.save())
        (image,) = images(await c.history(prompt_id))
        output = (await c.record(prompt_id))["outputs"][0]["url"]
        running = await c.submit(graphs.slow(steps=2000, seconds=0.05))
        waiting = await c.submit(graphs.save(color=1))
        await c.until_state(running, "running")
        assert len(blobs(g)) == 1
        g.reload({"keep": {"finished": "1s"}})
        await until(is_gone, c, prompt_id)
        assert await c.history(prompt_id) is None and await c.get("/history") == {}
        for path in ("/status/", "/result/"):
            assert await status(c, path + prompt_id) == 404
        assert (await c.try_view(image))[0] == 404
        assert await status(c, output) == 404
        async with c.http.get(c.url + "/mux/v1/jobs") as r:
            assert {j["id"] for j in (await r.json())["jobs"]} == {running, waiting}

        async def no_file():
            return not blobs(g)

        await until(no_file)
        await c.post("/mux/v1/jobs/%s/cancel" % running, None)
        await until(is_gone, c, waiting)

    run({"finished": "30d"}, flow)


def test_outputs_go_and_the_job_stays():
    """It is listed with what it had made; that this is no longer there is said wherever it is asked for."""

    async def flow(c, g):
        prompt_id = await done(c, graphs.save(color=5))
        (image,) = images(await c.history(prompt_id))
        (output,) = (await c.record(prompt_id))["outputs"]
        assert await status(c, "/result/" + prompt_id) == 200
        g.reload({"keep": {"outputs": "1s"}})

        async def expired():
            return await status(c, "/result/" + prompt_id) == 410

        await until(expired)
        async with c.http.get(c.url + "/result/" + prompt_id) as r:
            assert (await r.json())["error"]["code"] == "expired"
        told = await c.get("/status/" + prompt_id)
        assert told["status"] == "completed" and "no longer kept" in told["message"], told
        assert (await c.try_view(image))[0] == 410
        got, body = await c.fetch(output["url"])
        assert got == 410 and b"expired" in body
        assert images(await c.history(prompt_id)) == [image]
        record = await c.record(prompt_id)
        assert record["state"] == "succeeded" and record["outputs"] == [output]

        async def no_file():
            return not blobs(g)

        await until(no_file)
    run({"outputs": "30d"}, flow)


def test_by_count():
    """The oldest end goes first, whatever the order of submitting."""

    async def flow(c, g):
        ids = [await done(c, graphs.save(color=i)) for i in range(6)]
        g.reload({"keep": {"count": 2}})

        async def two():
            return len((await c.get("/mux/v1/jobs"))["jobs"]) == 2

        await until(two)
        assert [j["id"] for j in (await c.get("/mux/v1/jobs"))["jobs"]] == [ids[5], ids[4]]
        assert sorted(await c.get("/history")) == sorted(ids[4:])

    run({"count": 100, "events": "4s"}, flow)


def test_by_size():
    """The oldest that hold bytes go until the rest fits; one without outputs stays, and so does the upload."""

    async def flow(c, g):
        without = await c.submit(graphs.fail())
        await c.until_state(without)
        name = (await c.upload("noise.png", noise(100)))["name"]
        ids = []
        for _ in range(4):
            ids.append(await done(c, graphs.load(name, prefix="n%d" % len(ids))))
        size = (await c.record(ids[0]))["outputs"][0]["size"]
        g.reload({"keep": {"size": "%dB" % int(size * 3.5)}})  # with the upload two and a half fit

        async def left():
            return len((await c.get("/mux/v1/jobs"))["jobs"]) <= 3

        await until(left)
        kept = {j["id"] for j in (await c.get("/mux/v1/jobs"))["jobs"]}
        assert kept == {without, *ids[2:]}, (kept, ids)
        for prompt_id in ids[2:]:
            (image,) = images(await c.history(prompt_id))
            assert await c.view(image)
        assert await status(c, "/view?type=input&filename=" + name) == 200

    run({"size": "0B", "events": "4s"}, flow)


def test_what_is_in_use_stays():
    """An output that a waiting job reads, the input of one that can be done again, and bytes on their way to a client,
    although the jobs that made them are gone."""

    async def flow(c, g):
        name = (await c.upload("noise.png", noise(1300)))["name"]
        first = await done(c, graphs.load(name))
        (image,) = images(await c.history(first))
        right = await c.view(image)
        assert len(right) > 4 << 20
        blocker = await c.submit(graphs.slow(steps=2000, seconds=0.05))
        await c.until_state(blocker, "running")
        reader = await c.submit(graphs.load("%s/%s [output]" % (image["subfolder"], image["filename"])))
        query = "&".join("%s=%s" % (k, image[k]) for k in ("filename", "subfolder", "type"))
        download = await c.http.get(c.url + "/view?" + query)
        begun = await download.content.readexactly(1000)
        g.reload({"keep": {"finished": "1s"}})
        await until(is_gone, c, first)
        assert begun + await download.read() == right
        await c.post("/mux/v1/jobs/%s/cancel" % blocker, None)
        g.reload({"keep": {"finished": "30d"}})
        assert (await c.until_state(reader))["state"] == "succeeded"
        (picture,) = images(await c.history(reader))
        shown = Image.open(io.BytesIO(await c.view(picture))).convert("RGB").tobytes()
        before = Image.open(io.BytesIO(right)).convert("RGB").tobytes()
        assert max(abs(a + b - 255) for a, b in zip(shown[::1009], before[::1009])) <= 1  # inverted again

    run({"finished": "30d"}, flow)


@pytest.mark.parametrize("count", [500])
def test_small_steps_between_everything_else(count):
    """Hundreds go at once: never more than a step takes, and submits are answered between the steps."""

    async def flow(c, g):
        ids = []
        await c.post("/mux/v1/servers/s0/drain", None)
        for color in range(count):
            ids.append(await c.submit(graphs.save(color=color)))
        assert await c.post("/queue", {"clear": True})
        mark = g.reload({"keep": {"finished": "1s"}})
        await c.post("/mux/v1/servers/s0/resume", None)
        more = await done(c, graphs.save(color=1))
        await asyncio.to_thread(g.process.until_said, "event=trimmed jobs=[1-9]", mark, 3)
        await until(is_gone, c, ids[-1])
        steps = [int(n) for n in re.findall("event=trimmed jobs=([0-9]+)", "\n".join(
            g.process.said("event=trimmed jobs=[0-9]+", mark)))]
        assert sum(steps) >= count and max(steps) <= 200, steps
        await until(is_gone, c, more)

    run({"finished": "30d"}, flow)
