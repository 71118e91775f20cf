"""comfymux in front of three real ComfyUI servers: the same promises, with the real thing."""
import asyncio
import contextlib
import io
import random
import struct

import pytest
from PIL import Image

import graphs
import targets
from comfy_client import Client, images
from witness import all_of, faults_of, judge, killed_now_and_then, lasting, new_books

SERVERS = 3


def fresh():
    return random.randrange(1 << 24)


def rgb(color):
    return color >> 16, color >> 8 & 255, color & 255


def pixel(png):
    return Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))


def png_of(color):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(out, "PNG")
    return out.getvalue()


def fleet():
    """(gateway url, the real servers), everything up."""
    stack = contextlib.ExitStack()
    try:
        r = stack.enter_context(targets.real(SERVERS))
        g = stack.enter_context(targets.in_front_of(r))
    except targets.Missing as e:
        stack.close()
        targets.skip_or_fail(e)

    async def up():
        async with Client(g.url) as c:
            await c.until_all_up()

    asyncio.run(up())
    return stack, g.url, r.processes


@pytest.fixture(scope="module")
def shared():
    stack, url, servers = fleet()
    with stack:
        yield url, servers


def made(server, filename, subfolder=""):
    return (server.base / "output" / subfolder / filename).read_bytes()


def test_images_are_those_of_the_server_that_ran(shared):
    """Three windows, 24 jobs, names that collide on three servers; looked at the moment the end is told."""
    url, servers = shared

    async def window(colors, seen):
        async with Client(url) as c, c.socket() as ws:
            ids = {await c.submit(graphs.save(prefix="ComfyUI", color=color)): color for color in colors}
            for prompt_id, color in ids.items():
                await ws.until_done(prompt_id)
                entry = await c.history(prompt_id)
                (image,) = images(entry)
                png = await c.view(image)
                assert pixel(png) == rgb(color)
                record = await c.record(prompt_id)
                (server,) = [s for s in servers if s.url == record["server"]["url"]]
                assert png == made(server, record["outputs"][0]["filename"])
                assert entry["status"]["status_str"] == "success" and entry["prompt"][1] == prompt_id
                seen.append((server.url, image["filename"]))

    async def flow():
        seen = []
        await asyncio.gather(*(window([fresh() for _ in range(8)], seen) for _ in range(3)))
        assert len({u for u, _ in seen}) == SERVERS, "not all servers worked"
        assert len({n for _, n in seen}) < len(seen), "no names have collided: nothing was proved"

    asyncio.run(flow())


def test_progress_previews_and_the_order_of_events(shared):
    url, _ = shared

    async def flow(flags, kind):
        async with Client(url) as c, c.socket(flags) as ws:
            prompt_id = await c.submit(graphs.slow(steps=6, seconds=0.1, preview="jpeg", seed=fresh(), color=fresh()))
            await ws.until_done(prompt_id)
            told = [p["value"] for p in ws.of(prompt_id, "progress")]
            assert told == sorted(set(told)) and told[-1] == 6 and len(told) >= 2
            assert len(ws.binaries) >= 2
            assert {struct.unpack(">I", f[:4])[0] for _, f in ws.binaries} == {kind}
            types = [t for t in ws.types(prompt_id) if t not in ("progress", "progress_state")]
            assert types == ["execution_start", "execution_cached", "executing", "executing", "executing", "executed",
                             "execution_success", "executing"]

    asyncio.run(flow(None, 1))
    asyncio.run(flow({"supports_preview_metadata": True}, 4))


def test_uploads_are_staged_to_the_server_that_runs(shared):
    """Four jobs at once read one upload on several servers; each has it in its input folder, under a name of ours."""
    url, servers = shared

    async def flow():
        async with Client(url) as c, c.socket() as ws:
            color = (fresh() & 255, fresh() & 255, fresh() & 255)
            up = await c.upload("real photo.png", png_of(color))
            used = set()
            graph = graphs.load(up["name"])
            for k in range(4):
                slow = {**graph, "5": {"class_type": "SlowProgress", "inputs": {
                    "image": ["2", 0], "steps": 4, "seconds_per_step": 0.05, "preview": "none", "seed": fresh()}}}
                slow["3"] = {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "up"}}
                used.add(await c.submit(slow))
            ran = set()
            for prompt_id in used:
                await ws.until_done(prompt_id)
                entry = await c.history(prompt_id)
                assert all(0 <= 255 - v - g <= 1 for v, g in zip(color, pixel(await c.view(images(entry)[0]))))
                assert entry["prompt"][2]["1"]["inputs"]["image"] == up["name"]
                ran.add((await c.record(prompt_id))["server"]["url"])
            assert len(ran) > 1
            for s in servers:
                staged = [f.read_bytes() for f in (s.base / "input").iterdir() if f.suffix == ".png"]
                assert staged.count(png_of(color)) == (s.url in ran)

    asyncio.run(flow())


def test_an_output_becomes_an_input_elsewhere(shared):
    url, _ = shared

    async def flow():
        async with Client(url) as c, c.socket() as ws:
            color = fresh()
            first = await c.submit(graphs.save(prefix="chain", color=color))
            await ws.until_done(first)
            (image,) = images(await c.history(first))
            at = (await c.record(first))["server"]["name"]
            await c.post("/mux/v1/servers/%s/drain" % at, None)
            second = await c.submit(graphs.load("%s/%s [output]" % (image["subfolder"], image["filename"])))
            await ws.until_done(second)
            record = await c.record(second)
            assert record["state"] == "succeeded" and record["server"]["name"] != at
            got = pixel(await c.view(images(await c.history(second))[0]))
            assert all(0 <= 255 - v - g <= 1 for v, g in zip(rgb(color), got))
            await c.post("/mux/v1/servers/%s/resume" % at, None)
            await c.until_all_up()

    asyncio.run(flow())


def test_websocket_pictures(shared):
    url, _ = shared

    async def flow():
        async with Client(url) as c, c.socket() as ws:
            color = fresh()
            prompt_id = await c.submit(graphs.websocket_image(color))
            await ws.until_done(prompt_id)
            ((_, frame),) = ws.binaries
            assert pixel(frame[8:]) == rgb(color)
            (output,) = (await c.record(prompt_id))["outputs"]
            assert await c.fetch(output["url"]) == (200, frame[8:])

    asyncio.run(flow())


def test_interrupt_and_failure(shared):
    url, _ = shared

    async def flow():
        async with Client(url) as c, c.socket() as ws:
            prompt_id = await c.submit(graphs.slow(steps=600, seconds=0.05, seed=fresh(), color=fresh()))
            await ws.until("progress", prompt_id=prompt_id)
            server = (await c.record(prompt_id))["server"]["url"]
            assert (await c.post("/interrupt", {"prompt_id": prompt_id}))[0] == 200
            await ws.until_done(prompt_id)
            entry = await c.history(prompt_id)
            assert entry["status"]["messages"][-1][0] == "execution_interrupted"
            assert (await c.record(prompt_id))["state"] == "canceled"
            async with Client(server) as behind:  # it has really stopped there
                while (await behind.get("/queue"))["queue_running"]:
                    await asyncio.sleep(0.05)
            failing = await c.submit(graphs.fail("boom %d" % fresh()))
            await ws.until_done(failing)
            (error,) = ws.of(failing, "execution_error")
            assert error["exception_type"] == "ValueError" and error["node_type"] == "FailAt"
            assert (await c.get("/status/" + failing))["error"]["code"] == "execution_error"

    asyncio.run(flow())


def test_one_server_is_killed_every_ten_seconds(shared, capsys):
    """It is back after some seconds, knowing nothing. 100 jobs, 100 succeed, none is visible twice."""
    url, servers = shared
    total = 100
    seed, books = new_books(total)

    async def known():
        async with Client(url) as c:
            await c.until_all_up()
            return {r["id"] for r in (await c.get("/mux/v1/jobs", limit=1000))["jobs"]}

    async def flow():
        before = await known()
        victim = killed_now_and_then(books, servers[0], 10, 0)
        records, history = await all_of(url, books, lasting(0.7), beside=victim)
        await known()  # it is up again for the next test
        return ([r for r in records if r["id"] not in before],
                {k: entry for k, entry in history.items() if k not in before})

    listed = asyncio.run(flow())
    faults = faults_of(listed[0])
    with capsys.disabled():
        print("\nseed %d: %d jobs, one of %d real servers killed %d times: %s" % (seed, total, SERVERS,
                                                                               books.count["kills"], dict(faults)))
    judge(books, total, listed)
    assert books.count["kills"] > 1 and faults and {name for name, _ in faults} == {"s0"}, "nothing was proved"


def test_one_server_is_killed_in_the_middle(shared):
    """The last one here: it leaves the fleet with two."""
    url, servers = shared

    async def flow():
        async with Client(url) as c, c.socket({}) as ws:  # flags: its jobs are told side by side
            colors = {await c.submit(graphs.slow(steps=30, seconds=0.05, seed=k, color=color)): color
                      for k, color in enumerate(fresh() for _ in range(5))}
            first = next(iter(colors))
            await ws.until("progress", prompt_id=first)
            at = (await c.record(first))["server"]["url"]
            (victim,) = [s for s in servers if s.url == at]
            victim.kill()
            for prompt_id, color in colors.items():
                await ws.until_done(prompt_id)
                record = await c.record(prompt_id)
                assert record["state"] == "succeeded" and len(record["outputs"]) == 1, record
                (image,) = images(await c.history(prompt_id))
                assert pixel(await c.view(image)) == rgb(color)
                assert ws.types(prompt_id).count("execution_start") == 1
                assert ws.types(prompt_id).count("execution_success") == 1
            moved = await c.record(first)
            assert moved["attempt"] == 2 and moved["attempts"][0]["error"]["code"] == "server_lost"
            assert moved["server"]["url"] != at

    asyncio.run(flow())
