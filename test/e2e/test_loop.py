"""The loop thread, which every client and every server waits for, never computes for long: three servers that are slow
to tell of 50 MB of node classes each, other ones every time they are asked again, while clients ask for the merged list
and for single classes, submit and listen. Its own CPU time is what counts, by the watchdog of net/loop.h, so a busy
machine changes nothing; the build is the release one, which is what is promised."""
import asyncio
import json
import os
import pathlib
import re

import pytest

import graphs
import targets
from comfy_client import Client

MOST_MS = 50
CLASSES = 8500  # of 6 KB
RELEASE = targets.ROOT / "build" / "release" / "src" / "comfymux"


def program():
    path = pathlib.Path(os.environ.get("COMFYMUX_RELEASE_BIN") or RELEASE)
    if not path.exists():
        targets.skip_or_fail(targets.Missing("COMFYMUX_BIN: no release build (./dev build)"))
    return path


def big_prompt(n):
    """Long enough to be judged on the loop thread, and wrong in many places: each names a long list."""
    graph = graphs.save()
    for i in range(n):
        graph["c%d" % i] = {"class_type": "CustomNode%d" % i, "inputs": {"strength": "x", "file": "none"}}
    return graph


def test_large_object_info(monkeypatch, count_line):
    monkeypatch.setenv("COMFYMUX_BIN", str(program()))
    monkeypatch.setenv("COMFYMUX_MAX_TURN_MS", str(MOST_MS))

    async def flow(url, third):
        async with Client(url) as c, c.socket() as ws:
            assert (await c.post("/mux/v1/servers", {"name": "s2", "url": third}))[0] == 201
            await c.until_all_up()
            while not all(s["nodes"] and s["nodes"] > CLASSES for s in (await c.servers()).values()):
                await asyncio.sleep(0.1)
            while True:  # merged: the choices that only one server has are all there
                info = await c.get("/object_info/CustomNode0")
                choices = info.get("CustomNode0", {"input": {"required": {"file": [[]]}}})["input"]["required"]["file"][0]
                if {"sim1", "sim2", "sim3"} <= set(choices):
                    break
                await asyncio.sleep(0.1)
            for encoding in ("gzip", "identity", "gzip"):
                async with c.http.get(url + "/object_info", headers={"Accept-Encoding": encoding}) as r:
                    assert r.status == 200 and len(json.loads(await r.read())) > CLASSES
            for n in range(0, 200, 10):
                assert list(await c.get("/object_info/CustomNode%d" % n)) == ["CustomNode%d" % n]
            for name in ("s0", "s1", "s2"):
                assert (await c.get("/mux/v1/servers/" + name))["missing_nodes_count"] == 0
            status, body = await c.post("/prompt", {"prompt": big_prompt(500)})
            assert status == 200, body
            prompt = await c.submit(graphs.save(prefix="loop"))
            await ws.until_done(prompt)
            # One goes, and everything that only it had.
            async with c.http.delete(url + "/mux/v1/servers/s2?force=1") as r:
                assert r.status == 200, await r.text()
            while "sim3" in (await c.get("/object_info/CustomNode0"))["CustomNode0"]["input"]["required"]["file"][0]:
                await asyncio.sleep(0.1)

    with targets.sim(3, ["--custom-nodes", str(CLASSES), "--fault", "object-info-slow=500ms"]) as sims:
        with targets.in_front_of(targets.Target("sims", sims.urls[:2], sims.processes)) as front:
            asyncio.run(flow(front.url, sims.urls[2]))
            gateway = front.processes[0]
        log = gateway.log.read_text()
    too_long = re.findall(r".*turn_too_long.*", log)
    longest = int(re.search(r"longest_cpu_us=(\d+)", log).group(1))
    count_line("longest turn of the loop thread with three servers of 50 MB object_info: %.1f ms" % (longest / 1000))
    assert not too_long, "\n".join(too_long)
