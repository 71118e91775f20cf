"""What clients in the wild do, against everything that claims to be a ComfyUI server."""
import asyncio
import io
import random
import struct

from PIL import Image

import graphs
from comfy_client import Client, images


def pixel(png, x=0, y=0):
    return Image.open(io.BytesIO(png)).convert("RGB").getpixel((x, y))


def fresh():
    return random.randrange(1 << 24)


def test_example_script(target):
    """ComfyUI's websockets_api_example.py: connect, submit, wait for executing{node: null}, history, view."""

    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            color = fresh()
            prompt_id = await c.submit(graphs.save(color=color))
            await ws.until_done(prompt_id)
            entry = await c.history(prompt_id)
            assert entry["status"]["status_str"] == "success" and entry["status"]["completed"] is True
            assert entry["prompt"][1] == prompt_id
            (image,) = images(entry)
            png = await c.view(image)
            assert pixel(png) == (color >> 16, color >> 8 & 255, color & 255)
            (executed,) = ws.of(prompt_id, "executed")
            assert executed["node"] == "2" and executed["output"]["images"] == [image]
            types = [t for t in ws.types(prompt_id) if t not in ("progress", "progress_state")]
            assert types == ["execution_start", "execution_cached", "executing", "executing", "executed",
                             "execution_success", "executing"]

    asyncio.run(flow())


def test_example_script_websocket_images(target):
    """ComfyUI's websockets_api_example_ws_images.py: the picture comes as a binary frame while the node runs."""

    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            color = fresh()
            prompt_id = await c.submit(graphs.websocket_image(color))
            current, got = None, []
            while True:
                m = await ws.receive()
                if isinstance(m, dict):
                    if m["type"] == "executing" and m["data"].get("prompt_id") == prompt_id:
                        if m["data"]["node"] is None:
                            break
                        current = m["data"]["node"]
                elif current == "save_image_websocket_node":
                    got.append(m[8:])
            assert len(got) == 1
            assert got[0].startswith(b"\x89PNG")
            assert pixel(got[0]) == (color >> 16, color >> 8 & 255, color & 255)

    asyncio.run(flow())


def test_progress_and_previews(target):
    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            prompt_id = await c.submit(graphs.slow(steps=3, preview="jpeg", seed=fresh(), color=fresh()))
            await ws.until_done(prompt_id)
            assert [(p["value"], p["max"]) for p in ws.of(prompt_id, "progress")] == [(1, 3), (2, 3), (3, 3)]
            assert len(ws.binaries) == 3
            for _, frame in ws.binaries:
                kind, form = struct.unpack(">II", frame[:8])
                assert (kind, form) == (1, 1)
                assert Image.open(io.BytesIO(frame[8:])).format == "JPEG"

    asyncio.run(flow())


def test_upload_load_view(target):
    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            color = (fresh() & 255, fresh() & 255, fresh() & 255)
            png = io.BytesIO()
            Image.new("RGB", (8, 8), color).save(png, "PNG")
            up = await c.upload("flow%d.png" % fresh(), png.getvalue())
            assert up["type"] == "input"
            assert await c.view({"filename": up["name"], "subfolder": up["subfolder"], "type": "input"}) \
                == png.getvalue()
            prompt_id = await c.submit(graphs.load(up["name"]))
            await ws.until_done(prompt_id)
            (image,) = images(await c.history(prompt_id))
            # 1 - v/255 in floats and cut back to a byte: one less at times
            assert all(0 <= 255 - v - got <= 1 for v, got in zip(color, pixel(await c.view(image))))

    asyncio.run(flow())


def test_interrupt(target):
    """An interrupted prompt ends as an error whose last message is execution_interrupted; the next one runs."""

    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            prompt_id = await c.submit(graphs.slow(steps=600, seconds=0.05, seed=fresh(), color=fresh()))
            await ws.until("progress", prompt_id=prompt_id)
            queue = await c.get("/queue")
            assert [item[1] for item in queue["queue_running"]] == [prompt_id]
            status, _ = await c.post("/interrupt", {"prompt_id": prompt_id})
            assert status == 200
            stopped = await ws.until("execution_interrupted", prompt_id=prompt_id)
            assert stopped["node_id"] == "5"
            await ws.until_done(prompt_id)
            entry = await c.history(prompt_id)
            assert entry["status"]["status_str"] == "error" and entry["status"]["completed"] is False
            assert entry["status"]["messages"][-1][0] == "execution_interrupted"
            again = await c.submit(graphs.save(color=fresh()))
            await ws.until_done(again)
            assert (await c.history(again))["status"]["completed"] is True

    asyncio.run(flow())


def test_queue_history_never_lose_an_accepted_prompt(target):
    """From the 200 on, the id is in /queue or in /history, at every look."""

    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            ids = [await c.submit(graphs.slow(steps=2, seconds=0.02, seed=fresh(), color=fresh())) for _ in range(4)]
            open_ids = set(ids)
            while open_ids:
                queue = await c.get("/queue")
                listed = {i[1] for i in queue["queue_running"] + queue["queue_pending"]}
                for prompt_id in list(open_ids):
                    if prompt_id not in listed:
                        assert await c.history(prompt_id), "an accepted prompt is in neither"
                        open_ids.discard(prompt_id)
            await ws.until_done(ids[-1])

    asyncio.run(flow())


def test_node_error_is_400(target):
    async def flow():
        async with Client(target.url) as c:
            graph = graphs.save()
            graph["1"]["inputs"]["width"] = "wide"
            status, body = await c.post("/prompt", {"prompt": graph})
            assert status == 400
            assert body["error"]["type"] == "prompt_outputs_failed_validation"
            assert body["node_errors"]["1"]["errors"][0]["type"] == "invalid_input_type"

    asyncio.run(flow())
