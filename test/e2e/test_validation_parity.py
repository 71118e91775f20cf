"""The gateway's verdict on a prompt is the server's: 2,000 broken graphs (COMFYMUX_LONG: 20,000) are asked of the gateway
and of the real server behind it. Each answer is the server's, or later than it (accepted here; then the server refuses
the job when it is sent), never stricter. How the answers compare: test/lib/verdicts.py. The graphs: broken_graphs.py;
COMFYMUX_SEED=N makes others.

Nothing is executed: the server is kept busy by a slow prompt of its own while it is asked, and the gateway has it
drained until only those prompts are left that it will refuse."""
import asyncio
import collections
import json
import os
import re

import pytest

import broken_graphs
import comfyui
import graphs
import own_checks
import targets
import verdicts
from comfy_client import Client

COUNT = 20000 if os.environ.get("COMFYMUX_LONG") else 2000
SEED = int(os.environ.get("COMFYMUX_SEED", "1"))
AT_ONCE = 4  # connections; both sides answer one request after the other anyway

MODELS = ("checkpoints/a.safetensors", "checkpoints/b's \"best\".ckpt", "loras/größe.safetensors", "vae/v.pt",
          "diffusion_models/d.safetensors", "text_encoders/t.safetensors", "controlnet/c.pth", "clip_vision/cv.safetensors",
          "style_models/s.safetensors", "upscale_models/u.pth", *("embeddings/e%02d.pt" % i for i in range(30)),
          *("hypernetworks/h%02d.pt" % i for i in range(25)))
INPUTS = ("in.png", "sub.wav", "v.mp4", "l.latent")


@pytest.fixture(scope="module")
def pair():
    """(the real server, the gateway in front of it); the server has models and inputs."""
    try:
        with targets.real() as real:
            base = real.processes[0].base
            for name in MODELS:
                (base / "models" / name).parent.mkdir(parents=True, exist_ok=True)
                (base / "models" / name).write_bytes(b"")
            (base / "input" / "3d").mkdir(parents=True)  # a node makes it when it is first asked for its inputs
            for name in INPUTS:
                (base / "input" / name).write_bytes(b"x")
            with targets.in_front_of(real) as front:
                yield real, front
    except targets.Missing as e:
        targets.skip_or_fail(e)


async def ask_all(c, bodies):
    """POST /prompt of each, (status, text) in order."""
    out = [None] * len(bodies)
    left = iter(enumerate(bodies))

    async def some():
        for i, body in left:
            async with c.http.post(c.url + "/prompt", data=body) as answer:
                out[i] = answer.status, await answer.text()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return out


async def learn(url, want):
    """Until the gateway has read what the server can do now."""
    async with Client(url) as c:
        for _ in range(600):
            info = await c.get("/object_info")
            if want <= {name for name in info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]}:
                return info
            await asyncio.sleep(0.1)
    raise AssertionError("the gateway does not see the server's models")


def told(case, kind, server, gateway):
    what, graph = case
    return "%s: %s\n  graph   %s\n  server  %d %s\n  gateway %d %s" % (
        kind, what, json.dumps(graph)[:3000], server[0], json.dumps(verdicts.normal(server[1]))[:2000] if server[0] != 500 else "",
        gateway[0], json.dumps(verdicts.normal(gateway[1]))[:2000])


async def verdicts_of(real, front, cases, judge):
    """[(kind, why, what the server said, what the gateway said)]"""
    bodies = [json.dumps({"prompt": graph}) for _, graph in cases]
    async with Client(real.url) as c:
        await c.submit(graphs.slow(steps=10000, seconds=0.5))  # what is accepted waits behind it
        direct = await ask_all(c, bodies)
        await c.post("/queue", {"clear": True})
    async with Client(front.url) as c:
        await c.post("/mux/v1/servers/s0/drain", {})
        here = await ask_all(c, bodies)
    return [(*judge.compare(graph, s, g), s, g) for (_, graph), s, g in zip(cases, direct, here)]


def test_verdicts_are_the_servers(pair, count_line):
    real, front = pair

    async def flow():
        info = await learn(front.url, {"a.safetensors"})
        async with Client(real.url) as c:
            theirs = await c.get("/object_info")
        assert list(info) == list(theirs)
        judge = verdicts.Judge(theirs, re.findall(r'\{"(\w+)", "([^"]+)"\}', own_checks.HEADER.read_text()))
        cases = list(broken_graphs.make(theirs, SEED, COUNT))
        found = await verdicts_of(real, front, cases, judge)

        counts = collections.Counter((kind, why) for kind, why, _, _ in found)
        count_line("verdicts on %d broken graphs, seed %d:" % (len(cases), SEED))
        for kind in ("equal", "words", "order", "no 500", "later", "later, in part", "stricter", "DIFFERENT"):
            count_line("  %5d %s" % (sum(n for (k, _), n in counts.items() if k == kind), kind))
            for (k, why), n in counts.most_common():
                if k == kind and why:
                    count_line("        %5d %s" % (n, why))
        wrong = [told(case, kind, s, g) for case, (kind, _, s, g) in zip(cases, found) if kind in ("stricter", "DIFFERENT")]
        assert not wrong, "%d of %d\n%s" % (len(wrong), len(cases), "\n".join(wrong[:5]))
        assert sum(n for (k, _), n in counts.items() if k == "equal") > COUNT / 3
        await refused_later(real, front, found, count_line)

    asyncio.run(flow())


async def refused_later(real, front, found, count_line):
    """What was accepted here and refused there ends as server_rejected, with the server's own words."""
    async with Client(front.url) as c:
        here = {json.loads(g[1])["prompt_id"]: (kind, s) for kind, _, s, g in found if g[0] == 200}
        await c.post("/queue", {"delete": [job for job, (kind, _) in here.items() if kind != "later"]})
        await c.post("/mux/v1/servers/s0/resume", {})
        later = {job: s for job, (kind, s) in here.items() if kind == "later"}
        for job, (status, text) in later.items():
            record = await c.until_state(job)
            assert (record["state"], record["error"]["code"]) == ("failed", "server_rejected"), record
        count_line("  %5d of those that were accepted were refused by the server: server_rejected" % len(later))


def test_the_table_of_own_checks_is_the_servers():
    """src/comfy/own_checks.h is what the installed server says (test/real/own_checks.py writes it anew)."""
    try:
        assert own_checks.HEADER.read_text() == own_checks.header(own_checks.ask())
    except comfyui.Unavailable as e:
        targets.skip_or_fail(targets.Missing("no real ComfyUI server: %s" % e))
