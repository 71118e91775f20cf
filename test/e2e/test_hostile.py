"""Requests that wreck or may wreck a ComfyUI server: refused here with a clear 400 and never passed on, or taken where they
are harmless. The server behind, a real one where there is one, does not notice."""
import asyncio
import contextlib
import io
import json
import os
import pathlib
import random
import uuid

import aiohttp
import pytest

import graphs
import targets
from comfy_client import Client, images
from witness import color_of

GRAPH = json.dumps({"1": {"class_type": "ReportText", "inputs": {"value": "a", "count": 1}}})
SAVE = json.dumps(graphs.save(prefix="hostile", color=7))


def body(text="", prompt=GRAPH):
    return '{"prompt": %s%s}' % (prompt, ", " + text if text else "")


def node(text):
    """A prompt whose only node is this."""
    return body(prompt='{"1": %s}' % text)


def image_from(link):
    return body(prompt='{"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1,'
                       ' "color": 0}}, "2": {"class_type": "SaveImage", "inputs": {"images": %s,'
                       ' "filename_prefix": "x"}}}' % link)


REFUSED = {  # name -> (body, type of the error)
    "client_id list": (body('"client_id": ["a"]'), "invalid_client_id"),
    "client_id object": (body('"client_id": {"a": 1}'), "invalid_client_id"),
    "client_id number": (body('"client_id": 5'), "invalid_client_id"),
    "client_id of 257 bytes": (body('"client_id": "%s"' % ("x" * 257)), "invalid_client_id"),
    "client_id very long": (body('"client_id": "%s"' % ("x" * 100000)), "invalid_client_id"),
    "client_id with U+0000": (body('"client_id": "a\\u0000b"'), "invalid_client_id"),
    "client_id list in extra_data": (body('"extra_data": {"client_id": ["a"]}'), "invalid_client_id"),
    "client_id twice, the last a list": (body('"client_id": "a", "client_id": []'), "invalid_client_id"),
    "extra_data number": (body('"extra_data": 5'), "invalid_extra_data"),
    "extra_data list": (body('"extra_data": [1]'), "invalid_extra_data"),
    "extra_data string": (body('"extra_data": "x"'), "invalid_extra_data"),
    "extra_data false": (body('"extra_data": false'), "invalid_extra_data"),
    "number NaN": (body('"number": NaN'), "invalid_number"),
    "number Infinity": (body('"number": Infinity'), "invalid_number"),
    "number -Infinity": (body('"number": -Infinity'), "invalid_number"),
    "number as text, NaN": (body('"number": "nan"'), "invalid_number"),
    "number as text, infinite": (body('"number": "-inf"'), "invalid_number"),
    "number beyond doubles": (body('"number": 1e999'), "invalid_number"),
    "number list": (body('"number": [1]'), "invalid_number"),
    "number null": (body('"number": null'), "invalid_number"),
    "number word": (body('"number": "first"'), "invalid_number"),
    "prompt_id no UUID": (body('"prompt_id": "dup"'), "invalid_prompt_id"),
    "prompt_id path": (body('"prompt_id": "../../etc/passwd"'), "invalid_prompt_id"),
    "prompt_id list": (body('"prompt_id": []'), "invalid_prompt_id"),
    "prompt_id upper case": (body('"prompt_id": "AAAAAAAA-0000-4000-8000-000000000000"'), "invalid_prompt_id"),
    "prompt missing": ("{}", "no_prompt"),
    "prompt list": (body(prompt="[5]"), "invalid_prompt"),
    "prompt null": (body(prompt="null"), None),
    "prompt empty": (body(prompt="{}"), "prompt_no_outputs"),
    "body a list": ("[]", "no_prompt"),
    "body empty": ("", "invalid_json"),
    "body cut short": (body()[:-3], "invalid_json"),
    "body with more behind": (body() + "{}", "invalid_json"),
    "body not UTF-8": (body('"x": "').encode() + b'\xff"}', "invalid_json"),
    "body too deep": (body('"x": ' + "[" * 600 + "]" * 600), "invalid_json"),
    "body very deep": (body('"x": ' + "[" * 200000), "invalid_json"),
    "node a list": (node("[]"), None),
    "node null": (node("null"), None),
    "class_type list": (node('{"class_type": ["SaveImage"], "inputs": {}}'), None),
    "class_type missing": (node('{"inputs": {}}'), None),
    "class_type unknown": (node('{"class_type": "NoSuchNode", "inputs": {}}'), "missing_node_type"),
    "inputs missing": (node('{"class_type": "SaveImage"}'), None),
    "inputs list": (node('{"class_type": "SaveImage", "inputs": []}'), None),
    "link to nothing": (image_from('["77", 0]'), None),
    "link to itself": (image_from('["2", 0]'), None),
    "link index beyond": (image_from('["1", 99]'), None),
    "link index huge": (image_from('["1", 99999999999999999999999]'), None),
    "link index text": (image_from('["1", "0"]'), None),
    "link with three parts": (image_from('["1", 0, 0]'), None),
    "width text": (body(prompt=SAVE.replace('"width": 16', '"width": "wide"')), "prompt_outputs_failed_validation"),
    "width NaN": (body(prompt=SAVE.replace('"width": 16', '"width": NaN')), "prompt_outputs_failed_validation"),
    "width enormous": (body(prompt=SAVE.replace('"width": 16', '"width": 1e400')), None),
    "targets a number": (body('"partial_execution_targets": 5'), "invalid_partial_execution_targets"),
    "targets unknown": (body('"partial_execution_targets": ["77"]'), "prompt_no_outputs"),
    "too many nodes": (body(prompt="{%s}" % ", ".join(
        '"%d": {"class_type": "ReportText", "inputs": {"value": "a", "count": 1}}' % i for i in range(20001))), None),
}

HARMLESS = {  # taken: what goes to the server is ours
    "extra_data null": body('"extra_data": null'),
    "client_id null": body('"client_id": null'),
    "client_id empty": body('"client_id": ""'),
    "client_id with control characters": body('"client_id": "\\u0001\\r\\nX: y\\u007f"'),
    "client_id a lone surrogate": body('"client_id": "\\ud800"'),
    "client_id of 256 bytes": body('"client_id": "%s"' % ("x" * 256)),
    "link index from the end, as Python has it": image_from('["1", -1]'),
    "number as text": body('"number": "5"'),
    "number true": body('"number": true'),
    "number huge": body('"number": 1e308'),
    "front an object": body('"front": {"a": 1}'),
    "workflow not an object": body('"extra_data": {"extra_pnginfo": 5}'),
    "extra_data full of everything": body('"extra_data": {"": null, "\\u0000": [], "a": {"client_id": [1]}, "__proto__": 1}'),
    "server's own keys": body('"sid": ["a"], "execution_context": null, "prompt_queue": {}'),
}


@contextlib.contextmanager
def plant(target):
    with targets.in_front_of(target) as g:
        yield g


async def post(c, path, data):
    """(status, parsed body or None); every refusal has the stock shape."""
    data = data.encode() if isinstance(data, str) else data
    async with c.http.post(c.url + path, data=data, headers={"Content-Type": "application/json"}) as r:
        text = await r.read()
        return r.status, json.loads(text) if text else None


async def number_of(direct):
    """The number that the server gives to a prompt now: it counts every POST that reached it, refused ones too."""
    status, answer = await direct.post("/prompt", {"prompt": json.loads(GRAPH), "client_id": "probe"})
    assert status == 200, answer
    return answer["number"]


async def still_works(g, direct):
    """A job through the gateway ends well, one sent to the server itself too."""
    async with Client(g.url) as c, c.socket() as ws:
        color = random.randrange(1, 1 << 24)
        job_id = await c.submit(graphs.save(prefix="hostile", color=color))
        await ws.until_done(job_id)
        assert color_of(await c.view(images(await c.history(job_id))[0])) == color
        await c.until_all_up()
    async with Client(direct.url) as d, d.socket() as ws:
        job_id = await d.submit(graphs.save(prefix="direct", color=color))
        await ws.until_done(job_id)
        assert (await d.history(job_id))["status"]["status_str"] == "success"


def attack(target, flow):
    """flow(client of the gateway, client of the server); the server is what it was afterwards."""

    async def go(g):
        async with Client(g.url) as c, Client(target.url) as direct:
            await c.until_all_up()
            await flow(c, direct)
            await still_works(g, direct)

    with plant(target) as g:
        asyncio.run(go(g))
    assert target.processes[0].running()


@pytest.fixture(params=["sim", "real"])
def behind(request, shared_targets):
    return shared_targets(request.param)


def test_refused_and_never_passed_on(behind):
    async def flow(c, direct):
        first, wrong = await number_of(direct), []
        for name, (data, kind) in REFUSED.items():
            status, answer = await post(c, "/prompt", data)
            if status != 400 or set(answer) != {"error", "node_errors"} or not answer["error"]["message"]:
                wrong.append((name, status, answer))
            elif kind and answer["error"]["type"] != kind:
                wrong.append((name, answer["error"]))
        assert not wrong, "\n".join(map(str, wrong))
        assert await number_of(direct) == first + 1, "something was passed on"
        assert (await c.get("/mux/v1/jobs"))["jobs"] == []

    attack(behind, flow)


def test_taken_where_it_is_harmless(behind):
    async def flow(c, direct):
        for name, data in HARMLESS.items():
            status, answer = await post(c, "/prompt", data)
            assert status == 200, (name, status, answer)
            record = await c.until_state(answer["prompt_id"])
            assert record["state"] == "succeeded" and record["attempt"] == 1, (name, record)

    attack(behind, flow)


def test_the_same_id_again(behind):
    """On a stock server the same id and number with another graph is a 500 and the end of the worker."""

    async def flow(c, direct):
        first = await number_of(direct)
        slow = await c.submit(graphs.slow(steps=20, seconds=0.05, seed=random.randrange(1 << 30)))
        mine = str(uuid.uuid4())
        same = body('"prompt_id": "%s", "number": 5' % mine)
        answers = [await post(c, "/prompt", same) for _ in range(3)]
        assert [a[0] for a in answers] == [200] * 3 and len({a[1]["prompt_id"] for a in answers}) == 1
        for other in (same.replace('"a"', '"b"'), body('"number": 5, "prompt_id": "%s"' % mine)):
            status, answer = await post(c, "/prompt", other)
            assert status == 400 and answer["error"]["type"] == "duplicate_prompt_id", answer
        many = await asyncio.gather(*(post(c, "/prompt", same.replace('"a"', '"%d"' % k)) for k in range(20)))
        assert {(s, a["error"]["type"]) for s, a in many} == {(400, "duplicate_prompt_id")}
        for job_id in (slow, mine):
            assert (await c.until_state(job_id))["state"] == "succeeded"
        assert await number_of(direct) == first + 3, "each ran once"

    attack(behind, flow)


def test_other_routes(behind):
    """Nothing here is a 500 or reaches a file; nothing ends what runs."""
    posts = [(path, data)
             for path in ("/queue", "/history", "/interrupt")
             for data in ("", "[]", "null", "5", '"x"', '{"delete": 5}', '{"delete": [{}, null, [], 5]}', '{"clear": []}',
                          '{"prompt_id": []}', '{"prompt_id": {}}', '{"prompt_id": "../x"}', "{" * 5000, '{"delete": ["')]
    posts += [("/interrupt", '{"client_id": ["a"]}'), ("/interrupt", '{"prompt_id": true}')]
    plain = {"", "{" * 5000, '{"delete": ["', '{"delete": 5}', '{"delete": [{}, null, [], 5]}', '{"clear": []}'}
    posts = [p for p in posts if p[0] != "/interrupt" or p[1] not in plain]  # there it means: what runs
    gets = ["/view?filename=" + f for f in
            ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "a%00b", "..", "%ff%fe", "x" * 5000)]
    gets += ["/view", "/view?filename=a&type=../..", "/view?filename=passwd&subfolder=../../../../etc&type=output",
             "/history/../../x", "/history/%00", "/object_info/%2e%2e", "/mux/v1/jobs/%00", "/mux/v1/jobs?limit=-1",
             "/mux/v1/jobs?after=%27%3B--", "/status/..", "/result/%ff"]

    async def flow(c, direct):
        slow = await c.submit(graphs.slow(steps=30, seconds=0.05, seed=random.randrange(1 << 30)))
        await c.until_state(slow, "running")
        wrong = []
        for path, data in posts:
            status, _ = await post(c, path, data)
            if status not in (200, 400):
                wrong.append((path, data, status))
        for path in gets:
            async with c.http.get(aiohttp.client.URL(c.url + path, encoded=True)) as r:
                text = await r.read()
                if r.status >= 500 or b"root:" in text or (path.startswith("/view") and r.status == 200):
                    wrong.append((path, r.status))
        for name in ("../../evil.png", "/etc/evil.png", "a\\b.png", "..", ".", "", "x" * 400 + ".png"):
            form = aiohttp.FormData()
            form.add_field("image", io.BytesIO(b"x"), filename=name or None, content_type="image/png")
            form.add_field("subfolder", "../..")
            async with c.http.post(c.url + "/upload/image", data=form) as r:
                if r.status != 400:
                    wrong.append(("upload", name, r.status, await r.text()))
        assert not wrong, "\n".join(map(str, wrong))
        assert (await c.until_state(slow))["state"] == "succeeded"

    attack(behind, flow)


def test_sockets(behind):
    """What a client says on its socket stays here: on a stock server feature_flags with null make its prompts fail."""
    texts = ['{"type": "feature_flags", "data": null}', '{"type": "feature_flags", "data": []}', "{", "[]", "null", "5",
             '{"type": ["feature_flags"]}', '{"type": "feature_flags", "data": {"supports_preview_metadata": {}}}',
             "[" * 10000, "x" * 100000]

    async def flow(c, direct):
        for text in texts:
            async with c.http.ws_connect(c.url.replace("http", "ws") + "/ws?clientId=" + c.client_id) as ws:
                await ws.send_str(text)
                await ws.send_bytes(b"\xff" * 100)
                job_id = await c.submit(graphs.slow(steps=2, seconds=0.01, preview="jpeg", seed=random.randrange(1 << 30)))
                assert (await c.until_state(job_id))["state"] == "succeeded", text
        for sid in ("", "%00", "%ff", "x" * 7000, "[]", "..%2f.."):
            with contextlib.suppress(aiohttp.WSServerHandshakeError):
                async with c.http.ws_connect(aiohttp.client.URL(c.url.replace("http", "ws") + "/ws?clientId=" + sid,
                                                                encoded=True)) as ws:
                    assert json.loads((await ws.receive(30)).data)["type"] == "status"

    attack(behind, flow)


RECORDED = pathlib.Path(os.environ.get("COMFYMUX_SHARED") or targets.ROOT.parent / "shared") / "recordings" / "hostile"
BAD = {"x_client_id_list": [0], "x_client_id_object": [0], "x_extra_data_list": [0], "x_extra_data_number": [0],
       "x_extra_data_string": [0], "x_extra_data_null": [], "x_number_nan": [2, 4, 5],
       "x_duplicate_id_and_number": [1, 2, 3], "x_duplicate_id_and_number_other_graph": [1, 2, 3]}


def test_what_has_wrecked_a_server(behind):
    """The recorded requests that did."""
    if not RECORDED.is_dir():
        pytest.skip("no recordings in %s" % RECORDED)
    sessions = {}
    for f in sorted(RECORDED.glob("*.jsonl")):
        lines = [json.loads(line) for line in f.read_text().splitlines()]
        sessions[f.stem] = [x["request"]["body"] for x in lines if x["kind"] == "http" and x["request"].get("body")]
    assert set(sessions) == set(BAD)

    async def flow(c, direct):
        first, passed = await number_of(direct), 0
        for name, bodies in sessions.items():
            for k, data in enumerate(bodies):
                status, answer = await post(c, "/prompt", data)
                assert status == (400 if k in BAD[name] else 200), (name, k, status, answer)
                passed += status == 200
        for job in (await c.get("/mux/v1/jobs", limit=1000))["jobs"]:
            assert (await c.until_state(job["id"]))["state"] == "succeeded"
        assert await number_of(direct) == first + 1 + passed

    attack(behind, flow)
