"""What only a gateway has to get right: several servers, ids and names of its own, servers that die."""
import asyncio
import io
import json
import random
import struct
import time

import pytest
from PIL import Image

import graphs
import targets
from comfy_client import Client, images


def fresh():
    return random.randrange(1 << 24)


def png_of(color, size=8):
    out = io.BytesIO()
    Image.new("RGB", (size, size), color).save(out, "PNG")
    return out.getvalue()


def pixel(png):
    return Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))


def inverted(color):
    """1 - v/255 in floats, cut back to a byte: one less at times."""
    return [(255 - v, 254 - v) for v in color]


def is_inverted(png, color):
    return all(got in want for got, want in zip(pixel(png), inverted(color)))


def rgb(color):
    return color >> 16, color >> 8 & 255, color & 255


@pytest.fixture
def gateway(shared_targets):
    return shared_targets("gateway")


async def only(c, name):
    """From now on jobs go to this server."""
    for other in await c.servers():
        verb = "resume" if other == name else "drain"
        status, _ = await c.post("/mux/v1/servers/%s/%s" % (other, verb), None)
        assert status == 200
    await c.until_server(name, "up")


async def all_again(c):
    for name in await c.servers():
        await c.post("/mux/v1/servers/%s/resume" % name, None)
    await c.until_all_up()


# ---- sockets -------------------------------------------------------------------------------------------------------


def test_a_socket_opened_after_the_end_is_told(gateway):
    """comfy-api-simplified opens its socket after the POST; the job may be over by then."""

    async def flow():
        async with Client(gateway.url) as c:
            prompt_id = await c.submit(graphs.save(color=fresh()))
            await c.until_state(prompt_id)
            async with c.socket() as ws:
                await ws.until_done(prompt_id)
                assert ws.types(prompt_id).count("execution_success") == 1
            async with c.socket() as ws:  # once is enough
                other = await c.submit(graphs.save(color=fresh()))
                await ws.until_done(other)
                assert ws.types(prompt_id) == []

    asyncio.run(flow())


def test_pictures_of_the_socket_wait_for_it(gateway):
    """SaveImageWebsocket with nobody there: the picture comes when its client does, after the node's `executing`; and it
    is an output like any other."""

    async def flow():
        async with Client(gateway.url) as c:
            color = fresh()
            prompt_id = await c.submit(graphs.websocket_image(color))
            record = await c.until_state(prompt_id)
            assert record["state"] == "succeeded"
            (output,) = record["outputs"]
            assert output["filename"] == "ws_save_image_websocket_node_0.png" and output["type"] == "temp"
            _, stored = await c.fetch(output["url"])
            async with c.socket() as ws:
                await ws.until_done(prompt_id)
                ((at, frame),) = ws.binaries
                assert struct.unpack(">II", frame[:8]) == (1, 2) and frame[8:] == stored
                before = [m["data"]["node"] for m in ws.texts[:at] if m["type"] == "executing"]
                assert before and before[-1] == "save_image_websocket_node"
            assert pixel(stored) == rgb(color)

    asyncio.run(flow())


def test_windows_do_not_hear_each_other(gateway):
    async def flow():
        async with Client(gateway.url) as a, Client(gateway.url) as b, a.socket() as wa, b.socket() as wb:
            ids_a = [await a.submit(graphs.slow(steps=2, preview="png", color=fresh())) for _ in range(3)]
            ids_b = [await b.submit(graphs.slow(steps=2, preview="none", color=fresh())) for _ in range(3)]
            for prompt_id in ids_a:
                await wa.until_done(prompt_id)
            for prompt_id in ids_b:
                await wb.until_done(prompt_id)
            heard = {m["data"]["prompt_id"] for m in wa.texts if "prompt_id" in m["data"]}
            assert heard == set(ids_a) and len(wa.binaries) == 6
            heard = {m["data"]["prompt_id"] for m in wb.texts if "prompt_id" in m["data"]}
            assert heard == set(ids_b) and not wb.binaries

    asyncio.run(flow())


def test_queue_remaining_is_zero_only_when_history_has_all(gateway):
    """Clients take the first status with 0 for the end of their jobs."""

    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            ids = [await c.submit(graphs.slow(steps=2, color=fresh())) for _ in range(4)]
            while True:
                m = await ws.receive()
                if isinstance(m, dict) and m["type"] == "status":
                    if m["data"]["status"]["exec_info"]["queue_remaining"] == 0:
                        break
            for prompt_id in ids:
                entry = await c.history(prompt_id)
                assert entry and await c.view(images(entry)[0])

    asyncio.run(flow())


def test_an_idle_page_is_told_of_others_jobs_now_and_then(gateway):
    """Each status makes some pages read the whole queue: one that has submitted nothing is not told every change."""

    async def flow():
        async with Client(gateway.url) as busy, Client(gateway.url) as idle, idle.socket() as ws:
            counts, rest = [], asyncio.Event()

            async def listen():
                while True:
                    m = await ws.receive()
                    counts.append(m["data"]["status"]["exec_info"]["queue_remaining"])
                    rest.set() if counts[-1] == 0 else rest.clear()

            ear = asyncio.create_task(listen())
            began = time.monotonic()
            # The last one long enough to be heard of at all: what is over before it would be told needs no word.
            jobs = [graphs.save(color=fresh()) for _ in range(60)] + [graphs.slow(steps=6, seconds=0.25, color=fresh())]
            ids = await asyncio.gather(*(busy.submit(graph) for graph in jobs))
            for prompt_id in ids:
                await busy.until_state(prompt_id)
            await asyncio.wait_for(rest.wait(), 60)
            ear.cancel()
            seconds = time.monotonic() - began
            assert counts[-1] == 0 and max(counts) > 0
            assert len(counts) <= 3 + seconds / 0.4, (len(counts), seconds)  # the gateway's own measure: 400 ms

    asyncio.run(flow())


# ---- ids -----------------------------------------------------------------------------------------------------------


def test_a_prompt_id_is_used_once(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            mine = "aaaaaaaa-0000-4000-8000-%012x" % fresh()
            body = {"prompt": graphs.save(color=fresh()), "client_id": c.client_id, "prompt_id": mine}
            status, first = await c.post("/prompt", body)
            assert status == 200 and first["prompt_id"] == mine
            # The same bytes again: the answer was lost perhaps, so it comes again.
            assert await c.post("/prompt", body) == (200, first)
            body["prompt"] = graphs.save(color=fresh())
            status, refused = await c.post("/prompt", body)
            assert status == 400 and refused["error"]["type"] == "duplicate_prompt_id"
            assert refused["node_errors"] == {}
            await c.until_state(mine)
            status, refused = await c.post("/prompt", body)
            assert status == 400 and refused["error"]["type"] == "duplicate_prompt_id"
            body["prompt_id"] = "not-a-uuid"
            status, refused = await c.post("/prompt", body)
            assert status == 400 and refused["error"]["type"] == "invalid_prompt_id"

    asyncio.run(flow())


def test_a_job_interrupted_while_it_waits(gateway):
    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            ids = [await c.submit(graphs.slow(steps=8, seconds=0.05, color=fresh())) for _ in range(4)]
            status, _ = await c.post("/interrupt", {"prompt_id": ids[-1]})
            assert status == 200
            assert (await c.until_state(ids[-1]))["state"] == "canceled"
            for prompt_id in ids[:-1]:
                await ws.until_done(prompt_id)
                assert (await c.record(prompt_id))["state"] == "succeeded"

    asyncio.run(flow())


def test_interrupt_without_an_id_stops_the_callers_job(gateway):
    async def flow():
        async with Client(gateway.url) as a, Client(gateway.url) as b, a.socket() as wa, b.socket() as wb:
            mine = await a.submit(graphs.slow(steps=300, seconds=0.05, color=fresh()))
            other = await b.submit(graphs.slow(steps=20, seconds=0.05, color=fresh()))
            await wa.until("progress", prompt_id=mine)
            await wb.until("progress", prompt_id=other)
            assert (await a.post("/interrupt", {"client_id": a.client_id}))[0] == 200
            await wa.until_done(mine)
            await wb.until_done(other)
            assert (await a.record(mine))["state"] == "canceled"
            assert (await a.record(other))["state"] == "succeeded"
            entry = await a.history(mine)
            assert entry["status"]["messages"][-1][0] == "execution_interrupted"

    asyncio.run(flow())


def test_a_canceled_job_leaves_its_server(gateway):
    """The server is told to stop, and has the next job soon."""

    async def flow():
        async with Client(gateway.url) as c:
            await only(c, "s0")
            long = await c.submit(graphs.slow(steps=10000, seconds=0.05, color=fresh()))
            await c.until_state(long, "running")
            status, record = await c.post("/mux/v1/jobs/%s/cancel" % long, None)
            assert status == 200 and record["state"] == "canceled"
            after = await c.submit(graphs.save(color=fresh()))
            assert (await c.until_state(after))["state"] == "succeeded"
            await all_again(c)

    asyncio.run(flow())


# ---- files ---------------------------------------------------------------------------------------------------------


def test_an_upload_is_there_for_every_server(gateway):
    """Uploaded once; both servers read it; the name in history is the client's."""

    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            color = (fresh() & 255, fresh() & 255, fresh() & 255)
            up = await c.upload("photo %d.png" % fresh(), png_of(color))
            used = set()
            for name in await c.servers():
                await only(c, name)
                prompt_id = await c.submit(graphs.load(up["name"]))
                await ws.until_done(prompt_id)
                record = await c.record(prompt_id)
                used.add(record["server"]["name"])
                entry = await c.history(prompt_id)
                assert entry["prompt"][2]["1"]["inputs"]["image"] == up["name"]
                assert is_inverted(await c.view(images(entry)[0]), color)
            assert len(used) == 2
            await all_again(c)

    asyncio.run(flow())


def test_an_upload_of_another_picture_under_the_same_name(gateway):
    """Not overwritten: the second one gets another name. Overwritten: later jobs read the new bytes, on servers that hold
    the old ones, too."""

    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            name = "same%d.png" % fresh()
            red, blue, green = (200, 0, 0), (0, 0, 200), (0, 200, 0)
            first = await c.upload(name, png_of(red))
            second = await c.upload(name, png_of(blue))
            assert first["name"] == name and second["name"] != name
            for what, color in ((first, red), (second, blue)):
                prompt_id = await c.submit(graphs.load(what["name"]))
                await ws.until_done(prompt_id)
                assert is_inverted(await c.view(images(await c.history(prompt_id))[0]), color)
            third = await c.upload(name, png_of(green), overwrite="true")
            assert third["name"] == name
            for server in await c.servers():
                await only(c, server)
                prompt_id = await c.submit(graphs.load(name))
                await ws.until_done(prompt_id)
                assert is_inverted(await c.view(images(await c.history(prompt_id))[0]), green)
            await all_again(c)

    asyncio.run(flow())


def test_an_output_as_input_on_another_server(gateway):
    """What one server made, named as the client saw it, is read by the other one."""

    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            await only(c, "s0")
            color = fresh()
            first = await c.submit(graphs.save(prefix="chain", color=color))
            await ws.until_done(first)
            (image,) = images(await c.history(first))
            await only(c, "s1")
            path = "%s/%s [output]" % (image["subfolder"], image["filename"])
            second = await c.submit(graphs.load(path, prefix="chained"))
            await ws.until_done(second)
            record = await c.record(second)
            assert record["state"] == "succeeded" and record["server"]["name"] == "s1"
            assert (await c.record(first))["server"]["name"] == "s0"
            entry = await c.history(second)
            assert entry["prompt"][2]["1"]["inputs"]["image"] == path
            assert is_inverted(await c.view(images(entry)[0]), rgb(color))
            await all_again(c)

    asyncio.run(flow())


def test_an_input_that_nobody_has(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            # LoadImage decides for itself what it takes: a server's 400 decides, later.
            record = await c.until_state(await c.submit(graphs.load("never-uploaded%d.png" % fresh())))
            assert record["state"] == "failed" and record["error"]["code"] == "server_rejected", record
            assert record["error"]["detail"]["error"]["type"] == "prompt_outputs_failed_validation"
            assert "1" in record["error"]["detail"]["node_errors"]
            assert len({a["server"] for a in record["attempts"]}) == 2
            assert (await c.fetch("/result/" + record["id"]))[0] == 422
            entry = await c.history(record["id"])
            assert entry["status"]["status_str"] == "error" and images(entry) == []

    asyncio.run(flow())


def test_names_collide_and_do_not_mix(gateway):
    """Both servers save `one_00001_.png`; each job's /view is its own, and the bare name is nobody's."""

    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            seen, prefix = [], "one%d" % fresh()
            for server in await c.servers():
                await only(c, server)
                color = fresh()
                prompt_id = await c.submit(graphs.save(prefix=prefix, color=color))
                await ws.until_done(prompt_id)
                (image,) = images(await c.history(prompt_id))
                assert image["filename"] == prefix + "_00001_.png" and image["subfolder"].startswith(prompt_id)
                seen.append((image, color))
            await all_again(c)
            for image, color in seen:
                assert pixel(await c.view(image)) == rgb(color)
            status, _ = await c.try_view({**seen[0][0], "subfolder": ""})
            assert status == 404  # never one of the two by luck

    asyncio.run(flow())


# ---- failures ------------------------------------------------------------------------------------------------------


def test_a_failing_node_has_a_name_everywhere(gateway):
    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            prompt_id = await c.submit(graphs.fail("no %d" % fresh(), color=fresh()))
            await ws.until_done(prompt_id)
            status = await c.get("/status/" + prompt_id)
            assert status["status"] == "failed" and status["error"]["code"] == "execution_error"
            assert status["image_url"] is None and status["image_urls"] == []
            code, _ = await c.fetch("/result/" + prompt_id)
            assert code == 422
            record = await c.record(prompt_id)
            assert record["state"] == "failed" and record["attempt"] == 1
            assert record["error"]["code"] == "execution_error" and record["error"]["attempt"] == 1
            assert record["error"]["server"] == record["server"]["name"]
            assert record["error"]["detail"] is not None

    asyncio.run(flow())


def killed_in_the_middle(finish):
    """Two servers that are processes of their own; the one that runs the job is killed. finish(url, kill) does the
    rest."""
    try:
        with targets.sims(2) as s, targets.in_front_of(s) as g:

            def kill(url):
                (p,) = [p for p in s.processes if p.url == url]
                p.kill()

            asyncio.run(finish(g.url, kill))
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_a_server_is_killed_in_the_middle():
    """The job is finished by the other one; its client sees one start, one end, and one set of outputs."""

    async def finish(url, kill):
        async with Client(url) as c, c.socket() as ws:
            await c.until_all_up()
            color = fresh()
            prompt_id = await c.submit(graphs.slow(steps=20, seconds=0.05, color=color))
            await ws.until("progress", prompt_id=prompt_id)
            first = await c.record(prompt_id)
            kill(first["server"]["url"])
            await ws.until_done(prompt_id)
            record = await c.record(prompt_id)
            assert record["state"] == "succeeded" and record["attempt"] == 2
            assert record["server"]["name"] != first["server"]["name"]
            one, two = record["attempts"]
            assert one["server"] == first["server"]["name"] and one["error"]["code"] == "server_lost"
            assert two["error"] is None and len(record["outputs"]) == 1
            types = ws.types(prompt_id)
            assert types.count("execution_start") == 1 and types.count("execution_success") == 1
            assert types.count("executed") == 1 and types[-1] == "executing"
            entry = await c.history(prompt_id)
            (image,) = images(entry)
            assert image["subfolder"].startswith(prompt_id)
            assert pixel(await c.view(image)) == rgb(color)
            assert entry["prompt"][1] == prompt_id
            assert list(await c.get("/history")) == [prompt_id]
            assert (await c.servers())[first["server"]["name"]]["state"] in ("suspect", "down")

    killed_in_the_middle(finish)


def test_the_winner_is_the_only_one_listed():
    """The first attempt has saved a picture before its server died: it is in no listing."""

    async def finish(url, kill):
        async with Client(url) as c, c.socket() as ws:
            await c.until_all_up()
            color = fresh()
            graph = graphs.slow(steps=20, seconds=0.05, color=color)
            graph["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "early"}}
            prompt_id = await c.submit(graph)
            early = await ws.until("executed", prompt_id=prompt_id, node="2")
            await ws.until("progress", prompt_id=prompt_id)
            assert pixel(await c.view(early["output"]["images"][0])) == rgb(color)
            kill((await c.record(prompt_id))["server"]["url"])
            await ws.until_done(prompt_id)
            record = await c.record(prompt_id)
            assert record["state"] == "succeeded" and record["attempt"] == 2
            assert sorted(o["node_id"] for o in record["outputs"]) == ["2", "9"]
            listed = images(await c.history(prompt_id))
            assert len(listed) == 2 and early["output"]["images"][0] not in listed
            assert len({i["subfolder"] for i in listed}) == 1
            for image in listed:
                assert pixel(await c.view(image)) == rgb(color)
            # A name once delivered answers the same bytes or 410.
            status, png = await c.try_view(early["output"]["images"][0])
            assert status == 410 or (status == 200 and pixel(png) == rgb(color))

    killed_in_the_middle(finish)


def test_the_socket_to_the_server_says_nothing():
    """Completion does not hang on the server's events."""

    async def flow(url):
        async with Client(url) as c, c.socket() as ws:
            color = fresh()
            prompt_id = await c.submit(graphs.save(color=color))
            await ws.until_done(prompt_id)
            assert pixel(await c.view(images(await c.history(prompt_id))[0])) == rgb(color)

    for fault in ("ws-silent", "ws-drop"):
        try:
            with targets.gateway(1, sim_args=["--fault", fault + ":1"]) as g:
                asyncio.run(flow(g.url))
        except targets.Missing as e:
            targets.skip_or_fail(e)


def test_answers_of_the_server_that_get_lost():
    """POST's answer lost, history late, empty and broken, the file broken: one job, run once, with its picture."""

    async def flow(url, sim):
        async with Client(url) as c, c.socket() as ws:
            color = fresh()
            prompt_id = await c.submit(graphs.save(color=color))
            await ws.until_done(prompt_id)
            record = await c.record(prompt_id)
            assert record["state"] == "succeeded" and record["attempt"] == 1, record
            assert pixel(await c.view(images(await c.history(prompt_id))[0])) == rgb(color)
        async with Client(sim) as c:
            assert len(await c.get("/history")) == 1

    faults = ["prompt-lost:1", "history-lag=200ms", "history-500:1", "history-empty:1", "view-404:1", "view-500@2",
              "view-truncate@3"]
    try:
        with targets.sim(1, [a for f in faults for a in ("--fault", f)]) as s, targets.in_front_of(s) as g:
            asyncio.run(flow(g.url, s.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)


@pytest.mark.parametrize("fault, code", [("reject", "server_rejected"), ("oom", "out_of_memory"),
                                         ("cuda-error", "execution_error")])
def test_one_server_fails_what_the_other_can(fault, code):
    """Tried elsewhere; nothing of it reaches the client but the one good end."""

    async def flow(url):
        async with Client(url) as c, c.socket() as ws:
            await c.until_all_up()
            ids = [await c.submit(graphs.slow(steps=2, color=fresh())) for _ in range(2)]  # one for each server
            for prompt_id in ids:
                await ws.until_done(prompt_id)
            records = [await c.record(prompt_id) for prompt_id in ids]
            moved = [r for r in records if r["attempts"][0]["server"] == "s0"]
            assert moved  # both, if the first had come back before the second was placed
            for r in records:
                assert r["state"] == "succeeded" and r["server"]["name"] == "s1", r
                assert "execution_error" not in ws.types(r["id"])
                assert ws.types(r["id"]).count("execution_start") == 1
                assert (await c.get("/status/" + r["id"]))["status"] == "completed"
            for r in moved:
                assert [a["server"] for a in r["attempts"]] == ["s0", "s1"]
                assert r["attempts"][0]["error"]["code"] == code

    try:
        with targets.gateway(2, sim_args=["--fault", "1/" + fault]) as g:
            asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_raw_numbers_survive(gateway):
    """The graph's bytes are kept: 5.0 does not become 5, -0 stays, a big seed stays exact."""

    async def flow():
        async with Client(gateway.url) as c:
            body = ('{"prompt": {"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1,'
                    ' "color": %d}}, "5": {"class_type": "SlowProgress", "inputs": {"image": ["1", 0], "steps": 1,'
                    ' "seconds_per_step": 0.0, "preview": "none", "seed": 18446744073709551615}}, "9": {"class_type":'
                    ' "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "n"}, "_meta": {"z": -0, "a": 5.0,'
                    ' "s": "\\ud800"}}}}' % fresh())
            async with c.http.post(c.url + "/prompt", data=body, headers={"Content-Type": "application/json"}) as r:
                prompt_id = (await r.json())["prompt_id"]
            await c.until_state(prompt_id)
            _, text = await c.fetch("/history/" + prompt_id)
            assert json.loads(text)[prompt_id]["status"]["completed"] is True
            assert b"18446744073709551615" in text
            assert b'"_meta": {"z": -0, "a": 5.0, "s": "\\ud800"}' in text

    asyncio.run(flow())


def test_an_upload_is_what_its_name_says():
    """As on a stock server, and not what the form claimed: a picture cannot be made to be taken for a page."""
    try:
        with targets.gateway(1) as g:

            async def flow():
                async with Client(g.url) as c:
                    for name, claim, kind in (("a.png", "text/html", "image/png"), ("a.txt", "image/png", "text/plain"),
                                              ("a.glb", "application/octet-stream", "model/gltf-binary"),
                                              ("a.html", "image/png", "application/octet-stream"),
                                              ("a.unknown", "text/html", "application/octet-stream")):
                        await c.upload(name, b"<script>", content_type=claim)
                        async with c.http.get(c.url + "/view?type=input&filename=" + name) as r:
                            assert r.status == 200 and r.headers["Content-Type"] == kind, (name, r.headers)

            asyncio.run(flow())
    except targets.Missing as e:
        targets.skip_or_fail(e)
