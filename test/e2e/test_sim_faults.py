"""`comfymux sim --fault ...`: each fault does what `--fault help` says, and nothing more."""
import asyncio
import time

import aiohttp
import pytest

import targets
from comfy_client import Client

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "5": {"class_type": "SlowProgress",
          "inputs": {"image": ["1", 0], "steps": 2, "seconds_per_step": 0.05, "preview": "none"}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "f"}},
}
ID = "11111111-1111-4111-8111-111111111111"


class Server:
    """A simulator of one test, with a raw HTTP session on it."""

    def __init__(self, url):
        self.url = url

    async def __aenter__(self):
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *exc):
        await self.http.close()

    async def submit(self, **more):
        body = {"prompt": GRAPH, "client_id": "c", **more}
        async with self.http.post(self.url + "/prompt", json=body) as r:
            return r.status, (await r.json() if r.content_type == "application/json" else None)

    async def get(self, path):
        async with self.http.get(self.url + path) as r:
            return r.status, (await r.json() if r.content_type == "application/json" else await r.read())

    async def ended(self, prompt_id):
        for _ in range(1500):
            status, body = await self.get("/history/" + prompt_id)
            if status == 200 and body:
                return body[prompt_id]
            await asyncio.sleep(0.02)
        raise TimeoutError(prompt_id)

    async def idle(self):
        while (await self.get("/prompt"))[1]["exec_info"]["queue_remaining"]:
            await asyncio.sleep(0.02)

    async def run(self):
        """One prompt to its end; its last message."""
        _, body = await self.submit()
        return (await self.ended(body["prompt_id"]))["status"]["messages"][-1]


def with_faults(*faults):
    """The test gets a Server with these faults."""

    def wrap(flow):
        def test():
            args = [a for f in faults for a in ("--fault", f)]
            try:
                with targets.sim(1, args) as target:

                    async def go():
                        async with Server(target.url) as s:
                            await flow(s)

                    asyncio.run(go())
            except targets.Missing as e:
                targets.skip_or_fail(e)

        test.__name__ = flow.__name__
        return test

    return wrap


async def until_closed(ws):
    """Types of the messages until the socket ends."""
    types = []
    while True:
        m = await ws.receive(30)
        if m.type != aiohttp.WSMsgType.TEXT:
            return types
        types.append(m.json()["type"])


@with_faults("reject:1", "reject-500@2")
async def test_rejections(s):
    first, second, third = await s.submit(), await s.submit(), await s.submit()
    assert [first[0], second[0], third[0]] == [400, 500, 200]
    assert first[1]["error"]["type"] == "prompt_outputs_failed_validation"
    await s.idle()
    assert len((await s.get("/history"))[1]) == 1


@with_faults("prompt-lost:1")
async def test_lost_answer(s):
    with pytest.raises(aiohttp.ClientError):
        await s.submit(prompt_id=ID)
    assert (await s.ended(ID))["status"]["status_str"] == "success"


@with_faults("history-500:2", "history-empty:1")
async def test_history_answers(s):
    _, body = await s.submit(prompt_id=ID)
    await s.idle()
    got = [await s.get("/history/" + ID) for _ in range(4)]
    assert [g[0] for g in got] == [500, 500, 200, 200]
    assert got[2][1] == {} and ID in got[3][1]


@with_faults("history-missing@1")
async def test_history_never_comes(s):
    await s.submit(prompt_id=ID)
    await s.idle()
    assert (await s.get("/history/" + ID))[1] == {}
    assert (await s.run())[0] == "execution_success"


@with_faults("view-404:1", "view-500@2", "view-truncate@3")
async def test_views(s):
    await s.run()
    view = "/view?filename=f_00001_.png"
    assert (await s.get(view))[0] == 404
    assert (await s.get(view))[0] == 500
    with pytest.raises(aiohttp.ClientPayloadError):
        await s.get(view)
    status, png = await s.get(view)
    assert status == 200 and png.startswith(b"\x89PNG")


@with_faults("oom@1", "cuda-error@2")
async def test_device_errors(s):
    got = [await s.run() for _ in range(3)]
    assert [m[0] for m in got] == ["execution_error", "execution_error", "execution_success"]
    assert [m[1].get("exception_type") for m in got] == ["torch.OutOfMemoryError", "RuntimeError", None]
    assert got[0][1]["node_id"] == "5"


@with_faults("hang@1")
async def test_hang(s):
    async with s.http.ws_connect(s.url + "/ws?clientId=c") as ws:
        await s.submit(prompt_id=ID)
        while (await ws.receive_json())["data"].get("node") != "5":
            pass
        await s.http.post(s.url + "/interrupt")
        with pytest.raises(asyncio.TimeoutError):
            while True:
                await ws.receive(0.5)
    assert (await s.get("/queue"))[1]["queue_running"][0][1] == ID


@with_faults("die-after-start=300ms:1", "die-after-end@3")
async def test_deaths(s):
    ws = await s.http.ws_connect(s.url + "/ws?clientId=c")
    await s.submit(prompt_id=ID)
    types = await until_closed(ws)
    assert "execution_start" in types and "executing" not in types
    assert ws.close_code == 1006  # no close frame
    with pytest.raises(aiohttp.ClientError):
        await s.get("/prompt")
    for _ in range(500):  # up again, and everything but files is forgotten
        try:
            assert (await s.get("/history"))[1] == {}
            break
        except aiohttp.ClientError:
            await asyncio.sleep(0.02)
    status, body = await s.submit()
    assert status == 200 and body["number"] == 0
    await s.ended(body["prompt_id"])
    ws = await s.http.ws_connect(s.url + "/ws?clientId=c")
    await s.submit()
    types = await until_closed(ws)
    assert types[-1] == "execution_success" and ws.close_code == 1006
    with pytest.raises(aiohttp.ClientError):
        await s.get("/prompt")


@with_faults("ws-silent@1", "ws-drop@2")
async def test_sockets(s):
    async with s.http.ws_connect(s.url + "/ws?clientId=c") as ws:
        await s.run()
        types = []
        with pytest.raises(asyncio.TimeoutError):
            while True:
                types.append((await ws.receive(0.5)).json()["type"])
        assert set(types) == {"status"}
    ws = await s.http.ws_connect(s.url + "/ws?clientId=c")
    _, body = await s.submit()
    assert "executed" not in await until_closed(ws) and ws.close_code == 1006
    assert (await s.ended(body["prompt_id"]))["status"]["status_str"] == "success"


@with_faults("slow-prompt=300ms", "history-lag=300ms", "object-info-slow=300ms:1", "prompt-slow-answer=300ms",
             "view-slow=300ms", "start-delay=300ms")
async def test_delays(s):
    """They last at least as long as they say."""
    await s.get("/prompt")
    begun = time.monotonic()
    await s.get("/object_info")
    assert time.monotonic() - begun > 0.29
    begun = time.monotonic()
    _, body = await s.submit()
    assert time.monotonic() - begun > 0.29
    begun = time.monotonic()
    assert (await s.ended(body["prompt_id"]))["status"]["completed"]
    assert time.monotonic() - begun > 0.29
    begun = time.monotonic()
    await s.get("/view?filename=f_00001_.png")
    assert time.monotonic() - begun > 0.29


def test_stopped_while_a_worker_has_the_node():
    """SIGTERM in the middle of a large picture: it ends with status 0 (targets.sim checks)."""

    async def flow(url):
        async with Server(url) as s:
            big = {"1": {"class_type": "EmptyImage",
                         "inputs": {"width": 4096, "height": 4096, "batch_size": 1, "color": 255}},
                   "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "f"}}}
            await s.http.post(s.url + "/prompt", json={"prompt": big})
            while not (await s.get("/queue"))[1]["queue_running"]:
                pass

    try:
        with targets.sim(1) as target:
            asyncio.run(flow(target.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_same_seed_same_faults():
    """--seed makes what strikes by chance repeat."""

    async def outcomes(url):
        async with Server(url) as s:
            return [(await s.submit())[0] for _ in range(30)]

    def once(seed):
        with targets.sim(1, ("--seed", seed, "--fault", "reject%40")) as target:
            return asyncio.run(outcomes(target.url))

    try:
        first = once("5")
        assert first == once("5") and first != once("6")
        assert 200 in first and 400 in first
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_pictures_say_where_they_come_from():
    """The same graph on two servers: one name, other pixels."""
    graph = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler",
              "inputs": {"seed": 42, "steps": 2, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
                         "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0],
                         "latent_image": ["5", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}},
    }

    async def picture(url):
        async with Client(url) as c, c.socket() as ws:
            prompt_id = await c.submit(graph)
            await ws.until_done(prompt_id)
        async with Server(url) as s:
            return (await s.get("/view?filename=ComfyUI_00001_.png"))[1]

    try:
        with targets.sim(2, ("--speed", "20")) as target:
            a, b = (asyncio.run(picture(u)) for u in target.urls)
            assert a.startswith(b"\x89PNG") and b.startswith(b"\x89PNG") and a != b
    except targets.Missing as e:
        targets.skip_or_fail(e)
