"""What clients in the wild do, against everything that claims to be a ComfyUI server."""
import asyncio
import io
import json
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
            told = [(p["value"], p["max"]) for p in ws.of(prompt_id, "progress")]
            if target.name == "gateway":  # of what comes while a job's first moments are held, the latest counts
                assert told and told == [(v, 3) for v in range(4 - len(told), 4)]
                assert 1 <= len(ws.binaries) <= 3
            else:
                assert told == [(1, 3), (2, 3), (3, 3)]
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


def test_socket_opened_after_the_submit(target):
    """As comfy-api-simplified does: POST first, connect then."""

    async def flow():
        async with Client(target.url) as c:
            prompt_id = await c.submit(graphs.slow(steps=12, seconds=0.05, seed=fresh(), color=fresh()))
            async with c.socket() as ws:
                await ws.until_done(prompt_id)
                assert len(ws.of(prompt_id, "execution_success")) == 1
            assert (await c.history(prompt_id))["status"]["completed"] is True

    asyncio.run(flow())


def test_no_client_id_and_no_socket(target):
    async def flow():
        async with Client(target.url) as c:
            color = fresh()
            status, body = await c.post("/prompt", {"prompt": graphs.save(color=color)})
            assert status == 200 and body["node_errors"] == {} and isinstance(body["number"], (int, float))
            while not (entry := await c.history(body["prompt_id"])):
                await asyncio.sleep(0.01)
            (image,) = images(entry)
            assert pixel(await c.view(image)) == (color >> 16, color >> 8 & 255, color & 255)

    asyncio.run(flow())


def test_a_second_socket_of_the_same_id(target):
    """The newer one gets all of it. (The older one, too, from comfymux; a ComfyUI server forgets it.)"""

    async def flow():
        async with Client(target.url) as c, c.socket() as old, c.socket() as new:
            prompt_id = await c.submit(graphs.slow(steps=3, seconds=0.02, seed=fresh(), color=fresh()))
            await new.until_done(prompt_id)
            assert len(new.of(prompt_id, "executed")) == 1
            if target.name == "gateway":
                await old.until_done(prompt_id)
                assert old.of(prompt_id, "executed") == new.of(prompt_id, "executed")
                assert old.of(prompt_id, "execution_success") == new.of(prompt_id, "execution_success")

    asyncio.run(flow())


def test_previews_with_metadata(target):
    """A client that says supports_preview_metadata gets frames of type 4, which name node and prompt."""

    async def flow():
        async with Client(target.url) as c, c.socket({"supports_preview_metadata": True}) as ws:
            await ws.until("feature_flags")
            prompt_id = await c.submit(graphs.slow(steps=3, preview="jpeg", seed=fresh(), color=fresh()))
            await ws.until_done(prompt_id)
            assert 1 <= len(ws.binaries) <= 3
            for _, frame in ws.binaries:
                kind, length = struct.unpack(">II", frame[:8])
                about = json.loads(frame[8:8 + length])
                assert kind == 4
                assert about["prompt_id"] == prompt_id and about["node_id"] == "5"
                assert Image.open(io.BytesIO(frame[8 + length:])).format == "JPEG"

    asyncio.run(flow())


def test_png_previews_are_all_delivered(target):
    """PNG frames may be pictures that exist nowhere else."""

    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            prompt_id = await c.submit(graphs.slow(steps=5, seconds=0.01, preview="png", seed=fresh(), color=fresh()))
            await ws.until_done(prompt_id)
            assert [struct.unpack(">II", f[:8]) for _, f in ws.binaries] == [(1, 2)] * 5

    asyncio.run(flow())


def test_a_node_fails(target):
    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            prompt_id = await c.submit(graphs.fail("boom %d" % fresh(), color=fresh()))
            await ws.until_done(prompt_id)
            (error,) = ws.of(prompt_id, "execution_error")
            assert error["node_id"] == "4" and error["node_type"] == "FailAt"
            assert error["exception_type"] == "ValueError" and error["exception_message"].startswith("boom")
            types = ws.types(prompt_id)
            assert types.index("execution_error") < len(types) - 1 and types[-1] == "executing"
            assert types.count("execution_error") == 1 and "execution_success" not in types
            entry = await c.history(prompt_id)
            assert entry["status"]["status_str"] == "error" and entry["status"]["completed"] is False
            assert entry["status"]["messages"][-1][0] == "execution_error"
            assert images(entry) == []

    asyncio.run(flow())


def test_delete_from_the_queue(target):
    """A prompt that still waits is taken out: it never runs and leaves no history."""

    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            ids = [await c.submit(graphs.slow(steps=6, seconds=0.05, seed=fresh(), color=fresh())) for _ in range(4)]
            queue = await c.get("/queue")
            assert ids[-1] in [item[1] for item in queue["queue_pending"]]
            status, _ = await c.post("/queue", {"delete": [ids[-1]]})
            assert status == 200
            queue = await c.get("/queue")
            assert ids[-1] not in [i[1] for i in queue["queue_pending"] + queue["queue_running"]]
            for prompt_id in ids[:-1]:
                await ws.until_done(prompt_id)
            assert await c.history(ids[-1]) is None
            assert "execution_start" not in ws.types(ids[-1])

    asyncio.run(flow())


def test_clear_the_queue(target):
    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            ids = [await c.submit(graphs.slow(steps=6, seconds=0.05, seed=fresh(), color=fresh())) for _ in range(5)]
            await ws.until("progress", prompt_id=ids[0])
            assert (await c.post("/queue", {"clear": True}))[0] == 200
            queue = await c.get("/queue")
            assert queue["queue_pending"] == [] and ids[0] in [i[1] for i in queue["queue_running"]]
            await ws.until_done(ids[0])
            assert await c.history(ids[-1]) is None

    asyncio.run(flow())


def test_history_can_be_cleared(target):
    async def flow():
        async with Client(target.url) as c, c.socket() as ws:
            ids = []
            for _ in range(2):  # one after the other: history is in the order of their ends
                ids.append(await c.submit(graphs.save(color=fresh())))
                await ws.until_done(ids[-1])
            assert set(ids) <= set(await c.get("/history"))
            assert list(await c.get("/history", max_items=1)) == [ids[1]]
            assert (await c.post("/history", {"delete": [ids[0]]}))[0] == 200
            assert await c.history(ids[0]) is None and await c.history(ids[1])
            assert (await c.post("/history", {"clear": True}))[0] == 200
            assert await c.get("/history") == {}

    asyncio.run(flow())


def test_400s_are_alike(target):
    async def flow():
        async with Client(target.url) as c:
            status, body = await c.post("/prompt", {"client_id": "x"})
            assert status == 400 and body["error"]["type"] == "no_prompt" and body["node_errors"] == {}
            graph = graphs.save()
            graph["1"]["class_type"] = "NoSuchNode"
            status, body = await c.post("/prompt", {"prompt": graph})
            assert status == 400 and body["error"]["type"] in ("invalid_prompt", "missing_node_type")
            graph = graphs.save()
            del graph["2"]
            status, body = await c.post("/prompt", {"prompt": graph})
            assert status == 400 and body["error"]["type"] == "prompt_no_outputs"
            graph = graphs.save()
            del graph["1"]["inputs"]["width"]
            status, body = await c.post("/prompt", {"prompt": graph})
            assert status == 400 and body["error"]["type"] == "prompt_outputs_failed_validation"
            (error,) = body["node_errors"]["1"]["errors"]
            assert error["type"] == "required_input_missing" and error["extra_info"]["input_name"] == "width"
            assert body["node_errors"]["1"]["dependent_outputs"] == ["2"]
            assert body["node_errors"]["1"]["class_type"] == "EmptyImage"

    asyncio.run(flow())
