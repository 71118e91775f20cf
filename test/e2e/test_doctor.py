"""comfymux doctor: what it finds, what it says, and that it changes nothing."""
import asyncio
import contextlib
import json
import socket
import sqlite3
import subprocess

import pytest

import graphs
import targets
from between import Between
from comfy_client import Client


@pytest.fixture(scope="module")
def sims():
    try:
        with targets.sim(2) as s:
            yield s.urls
    except targets.Missing as e:
        targets.skip_or_fail(e)


def doctor(*args):
    """Status and what it printed; nothing may come on standard error but usage."""
    run = subprocess.run([str(targets.comfymux("doctor")), "doctor", *map(str, args)], capture_output=True, text=True,
                         timeout=120)
    assert run.returncode == 2 or run.stderr == "", run.stderr
    return run.returncode, run.stdout


def found(*args):
    """Status, parsed JSON."""
    status, text = doctor("--json", *args)
    body = json.loads(text)
    assert body["ok"] == (status == 0)
    return status, body


def said(body, level, area):
    """All that was said at this level about this; what is unusable comes with advice."""
    fits = [f for f in body["findings"] if f["level"] == level and f["area"] == area]
    return " / ".join(f["message"] for f in fits)


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def here(tmp_path, *urls):
    return ["--data", tmp_path / "data", "--listen", "127.0.0.1:%d" % free_port(),
            *(a for i, u in enumerate(urls) for a in ("--server", "s%d=%s" % (i, u)))]


def test_all_is_well(sims, tmp_path):
    status, body = found(*here(tmp_path, *sims))
    assert status == 0 and body["differences"] == []
    for s, url in zip(body["servers"], sims):
        assert s["url"] == url and s["reachable"] and s["socket"] and s["reason"] is None
        assert s["nodes"] > 10 and s["models"] > 0 and s["version"] and s["vram_total"] > 0
    assert not (tmp_path / "data").exists(), "it only looks"
    status, text = doctor(*here(tmp_path, *sims))
    assert status == 0 and "unusable" not in text and "\x1b" not in text


def test_servers_that_differ(sims, tmp_path):
    def change(path, body):
        if path == "/object_info":
            del body["ImageInvert"]
            names = body["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
            names.remove("sd15.safetensors")
            names.append("mine.safetensors")
        if path == "/system_stats":
            body["system"]["comfyui_version"] = "0.3.1"

    with Between(sims[1]) as b:
        b.answer = change
        args = here(tmp_path, sims[0], b.url)
        status, body = found(*args)
        assert status == 0, "different is not unusable"
        assert "versions differ" in said(body, "warning", "servers")
        differ = {(d["kind"], d["name"]): d for d in body["differences"]}
        assert differ["node", "ImageInvert"]["missing_on"] == ["s1"]
        assert differ["model", "sd15.safetensors"]["missing_on"] == ["s1"]
        assert differ["model", "sd15.safetensors"]["of"] == "CheckpointLoaderSimple.ckpt_name"
        assert differ["model", "mine.safetensors"]["missing_on"] == ["s0"]
        assert len(differ) == len(body["differences"]) == 3
        _, text = doctor(*args)
        rows = [line.split() for line in text.splitlines()]
        assert ["node", "ImageInvert", "-", "s1"] in rows
        assert ["model", "mine.safetensors", "CheckpointLoaderSimple.ckpt_name", "s0"] in rows


def test_servers_that_cannot_be_used(sims, tmp_path):
    def change(path, body):
        if path == "/system_stats":
            body.clear()

    with Between(sims[1]) as b:
        b.answer = change
        status, body = found(*here(tmp_path, sims[0], b.url, "http://user:hidden@127.0.0.1:%d" % free_port()))
    assert status == 1
    assert [s["reachable"] for s in body["servers"]] == [True, False, False]
    words = said(body, "unusable", "servers")
    assert "s1 cannot be used: what answers there is no ComfyUI server" in words
    assert "s2 cannot be used" in words and "refused" in words
    assert all(f["advice"] for f in body["findings"] if f["level"] == "unusable")
    assert "hidden" not in json.dumps(body)
    status, text = doctor(*here(tmp_path, "http://user:hidden@127.0.0.1:%d" % free_port()))
    assert status == 1 and "hidden" not in text and "-> " in text


def test_no_servers(tmp_path):
    status, body = found(*here(tmp_path))
    assert status == 0 and "no ComfyUI server" in said(body, "warning", "servers")


def test_beside_a_gateway(sims, tmp_path):
    """It sees the gateway and the servers that were added to it, and does not disturb it. After that it leaves the folder as
    it is, to the byte."""
    data = tmp_path / "data"

    async def flow(url):
        async with Client(url) as c:
            await c.post("/mux/v1/servers", {"url": sims[1], "name": "added"})
            await c.until_all_up()
            await c.until_state(await c.submit(graphs.save()))
            args = ["--data", data, "--listen", url[len("http://"):], "--server", "s0=" + sims[0]]
            status, body = await asyncio.to_thread(found, *args)
            assert status == 0, body
            assert "a gateway runs" in said(body, "ok", "data")
            assert "in use, as it should be" in said(body, "ok", "listen")
            assert "sound: 1 jobs, 0 of them unfinished" in said(body, "ok", "store")
            assert [(s["name"], s["from"]) for s in body["servers"]] == [("s0", "configuration"),
                                                                       ("added", "data folder")]
            assert (await c.until_state(await c.submit(graphs.save(color=7))))["state"] == "succeeded"

    p = targets.serve_process(sims[:1], data)
    with targets.running([p]):
        asyncio.run(flow(p.url))

    def state():
        return {f: f.read_bytes() for f in data.rglob("*") if f.is_file()}

    before = state()
    status, body = found(*here(tmp_path))
    assert status == 0 and "sound: 2 jobs" in said(body, "ok", "store") and "gateway runs" not in said(body, "ok", "data")
    assert state() == before


def test_a_broken_database(tmp_path):
    data = tmp_path / "data"
    p = targets.serve_process([], data, ready_path="/healthz")
    with targets.running([p]):
        pass
    file = data / "comfymux.db"
    whole = file.read_bytes()
    page = 4096
    file.write_bytes(whole[:3 * page] + b"\x5a" * (len(whole) - 3 * page))
    status, body = found(*here(tmp_path))
    assert status == 1 and "comfymux.db" in said(body, "unusable", "store")
    file.unlink()
    with contextlib.closing(sqlite3.connect(file)) as c:
        c.execute("create table x (y)")
        c.execute("pragma application_id = 5")
        c.commit()
    status, body = found(*here(tmp_path))
    assert status == 1 and "another program" in said(body, "unusable", "store")


def test_places_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        status, body = found("--data", tmp_path / "file", "--listen", "127.0.0.1:%d" % s.getsockname()[1],
                             "--frontend", tmp_path)
    assert status == 1
    assert "is no folder" in said(body, "unusable", "data")
    assert "in use" in said(body, "unusable", "listen")
    assert "index.html" in said(body, "unusable", "frontend")


def test_a_faulty_configuration(tmp_path):
    file = tmp_path / "comfymux.yaml"
    file.write_text("retry:\n  max_attempts: many\nlimit: 3\n")
    status, body = found("-c", file)
    assert status == 1 and body["servers"] == []
    words = said(body, "unusable", "config")
    assert "%s:2: retry.max_attempts:" % file in words and "%s:3:" % file in words
    status, body = found("-c", tmp_path / "none.yaml")
    assert status == 1 and "none.yaml" in said(body, "unusable", "config")


def test_wrong_use():
    assert doctor("--nonsense")[0] == 2
    assert doctor("now")[0] == 2
    assert doctor("--help")[0] == 0
