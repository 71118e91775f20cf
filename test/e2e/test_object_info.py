"""GET /object_info of a fleet: the union of what its servers can do, kept when they are away, fresh when somebody asks;
and jobs go where their files are."""
import asyncio
import contextlib
import gzip
import json
import tempfile

import pytest

import targets
from comfy_client import Client

HERE = "only_%d.safetensors"


def checkpoints(info):
    return info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]


def graph(checkpoint, seed=0):
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["1", 1]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "4": {"class_type": "KSampler", "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0], "seed": seed, "steps": 1,
            "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "x"}},
    }


@contextlib.contextmanager
def different_sims():
    """Three that have a checkpoint in common and one of their own each."""
    many = [targets.sim_process(1, ["--name", "p%d_" % i, "--speed", "100", "--checkpoints", "common.safetensors," + HERE % i])
            for i in range(3)]
    with targets.running(many):
        yield targets.Target("sims", [p.url for p in many], many)


async def until_merged(c, want):
    for _ in range(600):
        status, text = await c.fetch("/object_info")
        if status == 200 and want <= set(checkpoints(json.loads(text))):
            return json.loads(text)
        await asyncio.sleep(0.05)
    raise AssertionError("the merged list lacks something of %s" % sorted(want))


ALL = {"common.safetensors", *(HERE % i for i in range(3))}


def test_union_and_placement():
    async def flow(front, sims):
        async with Client(front.url) as c:
            info = await until_merged(c, ALL)
            assert sorted(checkpoints(info)) == sorted(ALL)  # each once
            assert await c.get("/object_info/CheckpointLoaderSimple") == {
                "CheckpointLoaderSimple": info["CheckpointLoaderSimple"]}
            assert await c.get("/api/object_info/NoSuchClass") == {}
            async with Client(sims.urls[0]) as s:
                one = await s.get("/object_info")
            assert {k: v for k, v in info.items() if k != "CheckpointLoaderSimple"} == {
                k: v for k, v in one.items() if k != "CheckpointLoaderSimple"}
            jobs = [(i, await c.submit(graph(HERE % i, seed))) for i in (2, 0, 1) for seed in range(2)]
            for i, job in jobs:
                record = await c.until_state(job)
                assert (record["state"], record["server"]["name"]) == ("succeeded", "s%d" % i)
            # Each is somewhere, but no server has both.
            both = graph(HERE % 0)
            both["7"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": HERE % 1}}
            both["4"]["inputs"]["model"] = ["7", 0]
            status, body = await c.post("/prompt", {"prompt": both})
            assert (status, body["error"]["type"]) == (400, "prompt_outputs_failed_validation")
            assert {s["name"] for s in body["error"]["extra_info"]["servers"]} == {"s0", "s1", "s2"}

    with different_sims() as sims, targets.in_front_of(sims) as front:
        asyncio.run(flow(front, sims))


async def plain_get(c, path, **headers):
    async with c.http.get(c.url + path, headers={"Accept-Encoding": "identity", **headers}, auto_decompress=False) as r:
        return r.status, r.headers, await r.read()


def test_etag_gzip_and_304():
    async def flow(front):
        async with Client(front.url) as c:
            await until_merged(c, ALL)
            status, headers, body = await plain_get(c, "/object_info")
            assert status == 200 and "Content-Encoding" not in headers
            etag = headers["ETag"]
            for _ in range(600):  # it is compressed the first time somebody asks
                status, headers, packed = await plain_get(c, "/object_info", **{"Accept-Encoding": "gzip, deflate, br"})
                assert status == 200 and headers["ETag"] == etag and headers["Vary"] == "Accept-Encoding"
                if headers.get("Content-Encoding") == "gzip":
                    break
                assert packed == body
            assert gzip.decompress(packed) == body and len(packed) < len(body) / 3
            for same in (etag, "*", '"other", ' + etag, "W/" + etag):
                status, headers, none = await plain_get(c, "/object_info", **{"If-None-Match": same})
                assert (status, none, headers["ETag"]) == (304, b"", etag)
            status, _, again = await plain_get(c, "/object_info", **{"If-None-Match": '"other"'})
            assert status == 200 and again == body

    with different_sims() as sims, targets.in_front_of(sims) as front:
        asyncio.run(flow(front))


def test_kept_while_the_fleet_is_away_and_over_a_restart():
    async def learnt(url):
        async with Client(url) as c:
            await until_merged(c, ALL)
            return await plain_get(c, "/object_info")

    async def still_there(url, was):
        async with Client(url) as c:
            status, headers, body = await plain_get(c, "/object_info")
            assert (status, headers["ETag"], body) == (200, was[1]["ETag"], was[2])
            # What was known decides what is taken, and what is not.
            await c.submit(graph(HERE % 2))
            status, body = await c.post("/prompt", {"prompt": graph("nobody_has_it.safetensors")})
            assert (status, body["error"]["type"]) == (400, "prompt_outputs_failed_validation")
            status, body = await c.post("/prompt", {"prompt": {"1": {"class_type": "NoSuchClass", "inputs": {}}}})
            assert (status, body["error"]["type"]) == (400, "missing_node_type")

    with tempfile.TemporaryDirectory(prefix="comfymux-") as data:
        with different_sims() as sims:
            first = targets.serve_process(sims.urls, data)
            with targets.running([first]):
                was = asyncio.run(learnt(first.url))
                for p in sims.processes:
                    p.kill()
                asyncio.run(still_there(first.url, was))
            second = targets.serve_process(sims.urls, data, ready_path="/healthz")  # with nobody behind it
            with targets.running([second]):
                asyncio.run(still_there(second.url, was))


def test_a_new_file_is_seen_when_somebody_asks():
    """A real server that is given a file. It is asked again at most every ten seconds, by whoever asks us."""
    def put(server, name):
        path = server.base / "models" / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    async def flow(real, front):
        async with Client(front.url) as c:
            await until_merged(c, {"a.safetensors"})
            put(real.processes[1], "new.safetensors")
            for _ in range(100):
                if "new.safetensors" in checkpoints(await c.get("/object_info")):
                    break
                await asyncio.sleep(0.5)
            else:
                pytest.fail("the new file is not seen")
            assert checkpoints(await c.get("/object_info/CheckpointLoaderSimple")) == ["a.safetensors", "b.safetensors",
                                                                                      "new.safetensors"]

    try:
        with targets.real(2) as real:
            put(real.processes[0], "a.safetensors")
            put(real.processes[1], "b.safetensors")
            with targets.in_front_of(real) as front:
                asyncio.run(flow(real, front))
    except targets.Missing as e:
        targets.skip_or_fail(e)
