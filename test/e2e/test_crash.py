"""What was accepted is kept and finished once, whatever instant the gateway is killed at; what is done stays done, whoever
dies afterwards."""
import asyncio
import contextlib
import io
import json
import random
import signal
import tempfile
import uuid

import aiohttp
from PIL import Image

import graphs
import targets
from comfy_client import Client, images


def job(color, steps=2, seconds=0.02):
    return graphs.slow(steps=steps, seconds=seconds, color=color, seed=color, prefix="ComfyUI")


def color_of(png):
    r, g, b = Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))
    return r << 16 | g << 8 | b


@contextlib.contextmanager
def plant(state, sim_args=(), args=(), data=None):
    """Two simulators and a gateway: (gateway process, simulator urls)."""
    with contextlib.ExitStack() as stack:
        try:
            s = stack.enter_context(targets.sim(2, ["--state", state, *sim_args]))
            data = data or stack.enter_context(tempfile.TemporaryDirectory(prefix="comfymux-"))
            p = targets.serve_process(s.urls, data, args)
            stack.enter_context(targets.running([p]))
        except targets.Missing as e:
            targets.skip_or_fail(e)
        yield p, s.urls


def no_twins(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), "a key twice: %s" % keys
    return dict(pairs)


async def must_be_right(url, colors, urls, state, runs=1):
    """colors: id -> the color of its picture. Every job ends well, once, with its own picture, and the servers have
    run nothing in vain."""
    async with Client(url) as c:
        for prompt_id, color in colors.items():
            record = await c.until_state(prompt_id)
            assert record["state"] == "succeeded", record
            (output,) = record["outputs"]
            status, png = await c.fetch(output["url"])
            assert status == 200 and color_of(png) == color, (prompt_id, record)
            folder = state / str(urls.index(record["server"]["url"]) + 1)
            assert png == (folder / "output" / output["filename"]).read_bytes()
            ends = [t for t in record["timeline"] if t["state"] in ("succeeded", "failed", "canceled", "expired")]
            assert len(ends) == 1, record["timeline"]
        _, text = await c.fetch("/history")
        history = json.loads(text, object_pairs_hook=no_twins)
        assert set(history) == set(colors)
        for prompt_id, entry in history.items():
            (image,) = images(entry)
            assert color_of(await c.view(image)) == colors[prompt_id]
        listed = [j["id"] for j in (await c.get("/mux/v1/jobs", limit=1000))["jobs"]]
        assert sorted(listed) == sorted(colors)
        assert await c.get("/queue") == {"queue_running": [], "queue_pending": []}
    ran = 0
    for u in urls:
        async with Client(u) as c:
            ran += len(await c.get("/history"))
    assert ran == len(colors), "the servers have run %d prompts for %d jobs" % (ran, len(colors))


def new_jobs(count):
    return [random.randrange(1 << 24) for _ in range(count)]


def test_right_after_the_answer(tmp_path):
    """Killed as soon as the last answer was read."""
    with plant(tmp_path) as (gateway, urls):

        async def submit():
            async with Client(gateway.url) as c:
                colors = {await c.submit(job(color)): color for color in new_jobs(12)}
                gateway.kill()
                return colors

        colors = asyncio.run(submit())
        gateway.start().wait_ready()
        asyncio.run(must_be_right(gateway.url, colors, urls, tmp_path))


def test_right_after_one_answer_again_and_again(tmp_path):
    """Each job is the last thing its gateway has heard of."""
    with plant(tmp_path) as (gateway, urls):
        colors = {}

        async def submit():
            async with Client(gateway.url) as c:
                (color,) = new_jobs(1)
                colors[await c.submit(job(color))] = color
                gateway.kill()

        for _ in range(5):
            asyncio.run(submit())
            gateway.start().wait_ready()
        asyncio.run(must_be_right(gateway.url, colors, urls, tmp_path))


async def socket_again(c):
    """A client that connects anew until it can."""
    while True:
        try:
            return await c.http.ws_connect(c.url + "/ws?clientId=" + c.client_id)
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)


async def ends_told(c, ws, ids):
    """Reads until executing{node: null} has come for all of these; every terminal event that was read, in order."""
    told, left = [], set(ids)
    while left:
        m = await ws.receive(60)
        assert m.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), m
        if m.type != aiohttp.WSMsgType.TEXT:
            continue
        m = json.loads(m.data)
        if m["type"] == "execution_success" or (m["type"] == "executing" and m["data"]["node"] is None):
            told.append((m["type"], m["data"]["prompt_id"]))
            assert await c.history(m["data"]["prompt_id"]), "told before it is in history"
            if m["type"] == "executing":
                left.discard(m["data"]["prompt_id"])
    return told


def test_while_running_and_the_socket_comes_back(tmp_path):
    """Killed in the middle of two running jobs; the client's socket, opened again under its id, is told every end."""
    with plant(tmp_path) as (gateway, urls):

        async def flow():
            async with Client(gateway.url) as c:
                async with c.socket() as ws:
                    colors = {await c.submit(job(color, steps=20, seconds=0.05)): color for color in new_jobs(5)}
                    await ws.until("progress", value=3)
                    gateway.kill()
                gateway.start()
                ws = await socket_again(c)
                told = await ends_told(c, ws, colors)
                await ws.close()
                for prompt_id in colors:
                    assert told.count(("execution_success", prompt_id)) == 1
                    assert told.count(("executing", prompt_id)) == 1
                return colors

        colors = asyncio.run(flow())
        gateway.wait_ready()
        asyncio.run(must_be_right(gateway.url, colors, urls, tmp_path))


def test_while_collecting(tmp_path):
    """Killed while images are being fetched; nobody was told the end before, somebody is afterwards."""
    with plant(tmp_path, ["--fault", "view-slow=400ms"]) as (gateway, urls):

        async def flow():
            async with Client(gateway.url) as c:
                async with c.socket() as ws:
                    colors = {await c.submit(job(color)): color for color in new_jobs(4)}
                    first = next(iter(colors))
                    await c.until_state(first, "collecting")
                    gateway.kill()
                    with contextlib.suppress(ConnectionError):
                        while True:
                            await ws.receive()
                assert not [m for m in ws.texts if m["type"] == "execution_success"]
                gateway.start()
                ws = await socket_again(c)
                await ends_told(c, ws, colors)
                await ws.close()
                return colors

        colors = asyncio.run(flow())
        gateway.wait_ready()
        asyncio.run(must_be_right(gateway.url, colors, urls, tmp_path))


def test_killed_again_and_again_under_load(tmp_path):
    """A client that repeats a submit it got no answer to, with the id it chose: each job is there once."""
    with plant(tmp_path, ["--history-lag", "20"]) as (gateway, urls):
        colors, accepted = {str(uuid.uuid4()): color for color in new_jobs(40)}, []

        async def submit(c, prompt_id, color):
            while True:
                try:
                    accepted.append(await c.submit(job(color), prompt_id=prompt_id))
                    return
                except (aiohttp.ClientError, AssertionError) as e:
                    assert not isinstance(e, AssertionError) or "503" in str(e), e
                    await asyncio.sleep(0.02)

        async def load():
            async with Client(gateway.url) as c:
                for prompt_id, color in colors.items():
                    await submit(c, prompt_id, color)
                    await asyncio.sleep(0.02)

        async def crashes():
            for count in (7, 15, 23, 31):
                while len(accepted) < count:
                    await asyncio.sleep(0.005)
                gateway.kill()
                gateway.start()
                await asyncio.to_thread(gateway.wait_ready)

        async def flow():
            await asyncio.gather(load(), crashes())

        asyncio.run(flow())
        assert sorted(accepted) == sorted(colors)
        asyncio.run(must_be_right(gateway.url, colors, urls, tmp_path))


def test_stopped_in_good_order(tmp_path):
    """SIGTERM while jobs run: exit status 0; the servers go on, and the next start finds what they made."""
    with plant(tmp_path) as (gateway, urls):

        async def submit():
            async with Client(gateway.url) as c, c.socket() as ws:
                colors = {await c.submit(job(color, steps=10, seconds=0.05)): color for color in new_jobs(4)}
                await ws.until("progress", value=2)
                return colors

        colors = asyncio.run(submit())
        assert gateway.stop(signal.SIGTERM) == 0
        gateway.start().wait_ready()
        asyncio.run(must_be_right(gateway.url, colors, urls, tmp_path))


def test_done_needs_no_server():
    """At the moment the end is told the servers are killed, then the gateway: images are here and stay here."""
    try:
        with targets.sims(2) as s, targets.in_front_of(s) as g:
            gateway = g.processes[0]

            async def first():
                async with Client(g.url) as c, c.socket() as ws:
                    color = random.randrange(1 << 24)
                    prompt_id = await c.submit(job(color))
                    await ws.until_done(prompt_id)
                    for p in s.processes:
                        p.kill()
                    (image,) = images(await c.history(prompt_id))
                    assert color_of(await c.view(image)) == color
                    status = await c.get("/status/" + prompt_id)
                    assert status["status"] == "completed"
                    return prompt_id, color, image

            async def then(prompt_id, color, image):
                async with Client(g.url) as c:
                    assert images(await c.history(prompt_id)) == [image]
                    assert color_of(await c.view(image)) == color
                    status = await c.get("/status/" + prompt_id)
                    assert status["status"] == "completed"
                    code, png = await c.fetch(status["image_url"])
                    assert code == 200 and color_of(png) == color

            known = asyncio.run(first())
            gateway.kill()
            gateway.ready_path = "/healthz"  # it cannot be ready without servers
            gateway.start().wait_ready()
            asyncio.run(then(*known))
    except targets.Missing as e:
        targets.skip_or_fail(e)
