"""SIGHUP: a good file counts from now on, a faulty one changes nothing, and what needs a restart says so."""
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import urllib.request

import aiohttp
import pytest

import configured
import graphs
import targets
from comfy_client import Client
from process import Announced

KEYS = re.compile(r"^\| `([a-z_.]+)` \|.*?\| (.*) \|$", re.M)


def nest(key, value):
    """{"timeout": {"lost": value}} for timeout.lost"""
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


@contextlib.contextmanager
def plant(settings=None, sim_args=(), count=1):
    try:
        with targets.sims(count, sim_args) as s:
            with configured.gateway({"servers": configured.servers(s.urls), **(settings or {})}) as g:
                yield g, s
    except targets.Missing as e:
        targets.skip_or_fail(e)


# ---- one check for every key that a reload can change --------------------------------------------------------------
# Each: the settings before, those after the reload, faults of the simulator, and what is different then.


async def servers_change(c, g, s):
    (server,) = (await c.servers()).values()
    assert server["depth"] == 3 and server["tags"] == ["big"], server


async def frontend_is_shown(c, g, s):
    status, page = await c.fetch("/")
    assert status == 200 and page == b"mine"
    g.reload({"frontend": None})
    assert (await c.fetch("/"))[1] != b"mine"


async def failed_after_one_attempt(c, g, s, code="history_missing"):
    record = await c.until_state(await c.submit(graphs.text_to_image(size=64)))
    assert record["state"] == "failed" and record["error"]["code"] == code, record
    assert len(record["attempts"]) == 1, record


async def silent_server_is_left(c, g, s):
    """It takes connections and never answers the TLS handshake. Those that were begun under 600s are ours to end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        url = "https://127.0.0.1:%d" % listener.getsockname()[1]
        g.reload({"timeout": {"connect": "600s"}, "servers": configured.servers([*s.urls, url])})
        first, _ = await asyncio.to_thread(listener.accept)
        g.reload({"timeout": {"connect": "200ms"}})
        first.close()
        second, _ = await asyncio.to_thread(listener.accept)
        with second:
            while "TLS handshake timed out" not in str((await c.servers())["s1"]["reason"]):
                await asyncio.sleep(0.05)


async def lost_server(c, g, s):
    """The file said 1h when the job began; a server that stands still is given up at once with 1s."""
    prompt_id = await c.submit(graphs.slow(steps=1000, seconds=0.05))
    await c.until_state(prompt_id, "running")
    os.kill(s.processes[0].pid, signal.SIGSTOP)
    try:
        g.reload({"timeout": {"lost": "1s"}, "retry": {"max_attempts": 1}})
        record = await c.until_state(prompt_id)
        assert record["error"]["code"] == "server_lost", record
    finally:
        os.kill(s.processes[0].pid, signal.SIGCONT)


async def stalled(c, g, s):
    prompt_id = await c.submit(graphs.text_to_image(size=64))
    await c.until_state(prompt_id, "running")
    g.reload({"timeout": {"stall": "1s"}, "retry": {"max_attempts": 1}})
    record = await c.until_state(prompt_id)
    assert record["error"]["code"] == "stalled", record


async def drained_at_once(c, g, s):
    """What is being collected would take an hour: the exit does not wait for it."""
    prompt_id = await c.submit(graphs.save())
    await c.until_state(prompt_id, "collecting")
    assert g.process.stop() == 0
    assert (await asyncio.to_thread(g.process.said, "event=stopped"))


async def expires_in_the_queue(c, g, s):
    await c.post("/mux/v1/servers/s0/drain", None)
    record = await c.until_state(await c.submit(graphs.save()))
    assert record["state"] == "expired", record


async def finished_job_goes(c, g, s):
    """It was kept for 30 days, and is gone soon after the reload."""
    prompt_id = await c.submit(graphs.save())
    await c.until_state(prompt_id)
    g.reload({"keep": {"finished": "1s"}})
    while (await c.fetch("/mux/v1/jobs/" + prompt_id))[0] != 404:
        await asyncio.sleep(0.05)


async def outputs_go(c, g, s):
    prompt_id = await c.submit(graphs.save())
    (output,) = (await c.until_state(prompt_id))["outputs"]
    g.reload({"keep": {"outputs": "1s"}})
    while (await c.fetch(output["url"]))[0] != 410:
        await asyncio.sleep(0.05)


async def events_go(c, g, s):
    await c.until_state(await c.submit(graphs.save()))
    mark = g.reload({"keep": {"events": "1s"}})
    await asyncio.to_thread(g.process.until_said, "event=trimmed .*events=[1-9]", mark)


async def only_the_last_stays(c, g, s, **keep):
    ids = []
    for color in range(3):
        ids.append(await c.submit(graphs.save(color=color)))
        await c.until_state(ids[-1])
    g.reload({"keep": {"events": "4s", **keep}})  # how often it is looked follows from the shortest
    while len((await c.get("/mux/v1/jobs"))["jobs"]) > 1:
        await asyncio.sleep(0.05)
    assert (await c.record(ids[-1]))["state"] == "succeeded"


async def one_output_fits(c, g, s):
    prompt_id = await c.submit(graphs.save())
    (output,) = (await c.until_state(prompt_id))["outputs"]
    await c.post("/mux/v1/jobs/" + prompt_id, None)
    size = output["size"]
    await only_the_last_stays(c, g, s, size="%dB" % (size + size // 2))


async def large_body_is_refused(c, g, s):
    body = {"prompt": graphs.save(), "extra_data": {"x": "y" * 5000}}
    async with c.http.post(c.url + "/prompt", json=body) as r:
        assert r.status == 413


async def large_upload_is_refused(c, g, s):
    assert (await c.get("/features"))["max_upload_size"] == 2048
    with pytest.raises(aiohttp.ClientResponseError) as e:
        await c.upload("a.png", b"x" * 4096)
    assert e.value.status == 413
    async with c.socket(flags={"supports_preview_metadata": True}) as ws:
        assert (await ws.until("feature_flags"))["max_upload_size"] == 2048


async def one_job_at_a_time(c, g, s):
    prompt_id = await c.submit(graphs.slow(steps=1000, seconds=0.05))
    status, body = await c.post("/prompt", {"prompt": graphs.save()})
    assert status in (429, 503) and body["error"]["type"] == "too_many_queued", (status, body)
    g.reload({"limits": {"queued": 2}})
    await c.submit(graphs.save())
    await c.post("/mux/v1/jobs/%s/cancel" % prompt_id, None)


async def nodes_are_counted(c, g, s):
    status, body = await c.post("/prompt", {"prompt": graphs.save()})
    assert status == 400, body


async def one_socket(c, g, s):
    """One connection for the socket, none is left for anybody else until more are allowed again."""
    async with c.socket(), Client(g.url) as other:
        for _ in range(2):
            with contextlib.suppress(aiohttp.WSServerHandshakeError):
                async with other.http.ws_connect(g.url + "/ws"):
                    raise AssertionError("a second socket was let in")
        g.reload({"limits": {"clients": 100}})
        async with other.socket():
            pass


async def origin_is_allowed(c, g, s):
    async with c.http.get(c.url + "/queue", headers={"Origin": "https://studio.example.org"}) as r:
        assert r.headers["Access-Control-Allow-Origin"] == "https://studio.example.org"
    g.reload({"cors": None})
    async with c.http.get(c.url + "/queue", headers={"Origin": "https://studio.example.org"}) as r:
        assert "Access-Control-Allow-Origin" not in r.headers


async def manager_is_passed_on(c, g, s):
    async def status():
        async with c.http.post(c.url + "/manager/queue/reset") as r:
            return r.status

    assert await status() == 405  # the server, which has none, says it
    g.reload({"manager": "off"})
    assert await status() == 403


async def debug_is_logged(c, g, s):
    mark = g.process.mark()
    await c.until_state(await c.submit(graphs.slow(steps=60)))
    assert g.process.said(" debug ", mark)
    mark = g.reload({"log": {"level": "info"}})
    await c.until_state(await c.submit(graphs.save()))
    assert not g.process.said(" debug ", mark)


async def objects_are_logged(c, g, s):
    mark = g.process.mark()
    prompt_id = await c.submit(graphs.save())
    await c.until_state(prompt_id)
    lines = [json.loads(line) for line in g.process.said("^.*$", mark) if line]
    assert any(line.get("job") == prompt_id and line.get("state") == "succeeded" for line in lines)


CHECKS = {
    "servers": ([], [], [], servers_change),
    "frontend": (None, None, [], frontend_is_shown),
    "retry.max_attempts": (3, 1, ["history-missing"], failed_after_one_attempt),
    "timeout.connect": ("600s", "600s", [], silent_server_is_left),
    "timeout.lost": ("1h", "1h", [], lost_server),
    "timeout.stall": ("1h", "1h", ["hang"], stalled),
    "timeout.history": ("1h", "1s", ["history-missing"], failed_after_one_attempt),
    "timeout.output": ("1h", "500ms", ["view-404"],
                       lambda c, g, s: failed_after_one_attempt(c, g, s, "output_unavailable")),
    "timeout.drain": ("1h", "0s", ["view-slow=60m"], drained_at_once),
    "timeout.queue": ("0s", "1s", [], expires_in_the_queue),
    "keep.finished": ("30d", "30d", [], finished_job_goes),
    "keep.outputs": ("30d", "30d", [], outputs_go),
    "keep.events": ("1d", "1d", [], events_go),
    "keep.count": (10, 10, [], lambda c, g, s: only_the_last_stays(c, g, s, count=1)),
    "keep.size": ("0B", "0B", [], one_output_fits),
    "limits.json": ("64MiB", "2KiB", [], large_body_is_refused),
    "limits.upload": ("100MiB", "2KiB", [], large_upload_is_refused),
    "limits.queued": (100, 1, [], one_job_at_a_time),
    "limits.nodes": (20000, 1, [], nodes_are_counted),
    "limits.clients": (100, 1, [], one_socket),
    "cors": (None, ["https://studio.example.org"], [], origin_is_allowed),
    "manager": ("off", "primary", [], manager_is_passed_on),
    "log.level": ("info", "debug", [], debug_is_logged),
    "log.format": ("text", "json", [], objects_are_logged),
}


def table():
    """key -> whether it needs a restart, as `comfymux config --markdown` says."""
    run = subprocess.run([targets.binary(), "config", "--markdown"], stdout=subprocess.PIPE, check=True, text=True)
    return {key: "*(restart)*" in text for key, text in KEYS.findall(run.stdout)}


def test_every_key_is_looked_at():
    """One that is added to the table needs a check here, or has to say that it needs a restart."""
    try:
        keys = table()
    except targets.Missing as e:
        targets.skip_or_fail(e)
    assert len(keys) > 20
    assert {k for k, restart in keys.items() if not restart} == set(CHECKS)
    assert {k for k, restart in keys.items() if restart} == {"listen", "data_dir"}


@pytest.mark.parametrize("key", CHECKS)
def test_key(key, tmp_path):
    before, after, faults, check = CHECKS[key]
    (tmp_path / "index.html").write_text("mine")
    settings = {"retry": {"max_attempts": 1}, "timeout": {"history": "1s"}} if faults else {}
    with plant(settings, [a for f in faults for a in ("--fault", f)]) as (g, s):
        if key == "servers":
            after = configured.servers(s.urls, depth=3, tags=["big"])
        if key == "frontend":
            after = str(tmp_path)
        if key != "servers":
            g.reload(nest(key, before))
        g.reload(nest(key, after))

        async def flow():
            async with Client(g.url) as c:
                await asyncio.wait_for(check(c, g, s), 60)

        asyncio.run(flow())


# ---- what a reload says --------------------------------------------------------------------------------------------


def test_what_needs_a_restart_is_told(tmp_path):
    """The old value stays, and the line comes again with every reload until the restart."""
    file = tmp_path / "comfymux.yaml"

    def write(**settings):
        file.write_text(json.dumps({"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "data"), **settings}))

    try:
        program = targets.comfymux("serve")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    write()
    p = Announced("comfymux serve", [program, "serve", "-c", file], tmp_path / "log", ready_path="/healthz")
    with targets.running([p]):
        for settings, keys in [({"listen": "127.0.0.1:1", "data_dir": "/nowhere"}, ["listen", "data_dir"]),
                               ({"listen": "127.0.0.1:1"}, ["listen"]), ({}, [])]:
            mark = p.mark()
            write(**settings)
            os.kill(p.pid, signal.SIGHUP)
            p.until_said("event=config_reloaded", mark)
            told = p.said("event=config_needs_restart .*", mark)
            assert told == ["event=config_needs_restart key=" + k for k in keys]
            with urllib.request.urlopen(p.url + "/healthz", timeout=60) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_faulty_file_changes_nothing(form):
    with plant({"log": {"format": form}, "limits": {"nodes": 5}}) as (g, s):
        good = g.file.read_text()
        said = []

        def bad(text):
            mark = g.process.mark()
            if text is None:
                g.file.unlink()
            else:
                g.file.write_text(text)
            g.hup()
            (line,) = g.process.until_said("^.*config reload failed.*$", mark)
            if form == "json":
                line = json.loads(line)
                assert line["msg"] == "config reload failed" and line["level"] == "error"
                return line["reason"]
            assert " error config reload failed reason=" in line
            return line

        for text, words in [
            ("limits: {nodes: 1}\ntimeout: {lost: soon}\nservers: []\n", [":2: timeout.lost: must be"]),
            ("limits: {nodes: x}\nlimit: 1\n", [":1: limits.nodes: must be", ":2: limit: unknown key"]),
            ("servers: [\n", [": syntax: "]),
            (None, ["No such file"]),
        ]:
            line = bad(text)
            assert str(g.file) in line and all(w in line for w in words), line
            said.append(line)

        async def flow():
            async with Client(g.url) as c:
                assert list(await c.servers()) == ["s0"]
                assert (await c.until_state(await c.submit(graphs.save())))["state"] == "succeeded"
                status, _ = await c.post("/prompt", {"prompt": graphs.text_to_image()})
                assert status == 400  # still at most 5 nodes

        asyncio.run(flow())
        g.file.write_text(good)
        g.reload({"limits": {"nodes": 100}})
        assert len(said) == 4
