"""How it ends, and when it does not even begin: SIGTERM, a second one, and data folders and addresses that cannot be
used."""
import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess

import pytest

import graphs
import targets
from comfy_client import Client


@contextlib.contextmanager
def plant(data, sim_args=(), args=(), count=1):
    try:
        with targets.sims(count, sim_args) as s:
            p = targets.serve_process(s.urls, data, args)
            with targets.running([p]):
                yield p, s
    except targets.Missing as e:
        targets.skip_or_fail(e)


def config(tmp_path, text):
    file = tmp_path / "comfymux.yaml"
    file.write_text(text)
    return ["-c", file]


def term(p):
    mark = p.mark()
    os.kill(p.pid, signal.SIGTERM)
    p.until_said("event=stopping", mark)


# ---- stopping ------------------------------------------------------------------------------------------------------


def test_what_is_being_collected_is_stored_first(tmp_path):
    """Until then submits are refused by name; what waits or runs is found again at the next start."""
    with plant(tmp_path, ["--fault", "view-slow=2s:1"]) as (p, s):

        async def before():
            async with Client(p.url) as c:
                first = await c.submit(graphs.save(color=1))
                await c.until_state(first, "collecting")
                second = await c.submit(graphs.slow(steps=1000, seconds=0.01))
                third = await c.submit(graphs.save(color=3))
                term(p)
                status, body = await c.post("/prompt", {"prompt": graphs.save()})
                assert status == 503 and body["error"]["type"] == "draining", (status, body)
                status, body = await c.post("/mux/v1/jobs/%s/retry" % first, None)
                assert status == 503 and body["error"]["code"] == "draining", (status, body)
                status, body = await c.fetch("/readyz")
                assert status == 503 and b"draining" in body
                assert (await c.fetch("/healthz"))[0] == 200
                return first, second, third

        first, second, third = asyncio.run(before())
        assert p.child.wait(60) == 0
        assert len(p.said("job=%s state=succeeded" % first)) == 1
        assert not p.said("job=(%s|%s) state=(failed|succeeded|canceled)" % (second, third))
        p.start().wait_ready()

        async def after():
            async with Client(p.url) as c:
                for prompt_id in (first, second, third):
                    record = await c.until_state(prompt_id)
                    assert record["state"] == "succeeded" and len(record["attempts"]) == 1, record

        asyncio.run(after())


def test_a_second_signal_ends_it_at_once(tmp_path):
    with plant(tmp_path, ["--fault", "view-slow=60m:1"],
               config(tmp_path, "timeout: {drain: 1h, output: 1h}\n")) as (p, s):

        async def flow():
            async with Client(p.url) as c:
                prompt_id = await c.submit(graphs.save())
                await c.until_state(prompt_id, "collecting")
                term(p)
                assert (await c.fetch("/healthz"))[0] == 200  # it waits
                return prompt_id

        prompt_id = asyncio.run(flow())
        os.kill(p.pid, signal.SIGTERM)
        assert p.child.wait(60) == 0
        p.start().wait_ready()

        async def after():
            async with Client(p.url) as c:
                assert (await c.until_state(prompt_id))["state"] == "succeeded"

        asyncio.run(after())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_it_starts(tmp_path, sig):
    """At whatever instant: the end is in good order."""
    try:
        p = targets.serve_process(["http://127.0.0.1:1"], tmp_path, ready_path="/healthz")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    for line in ("event=listening", "event=jobs_loaded", "event=ready"):
        with targets.running([p]):
            pass
        mark = p.mark()
        p.start()
        p.until_said(line, mark)
        assert p.stop(sig) == 0, p.tail()


async def half_an_upload(url):
    host, port = url[len("http://"):].split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /upload/image HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
                 b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; "
                 b'name="image"; filename="a.png"\r\n\r\nxxxx')
    await writer.drain()
    return writer


def test_nothing_leaks_with_jobs_in_every_state(tmp_path):
    """Stopped for good while jobs wait, are being sent, run and are collected, one was taken away, and clients are in
    the middle of everything. A sanitizer's build says what it has lost in its exit status."""
    faults = [a for f in ("view-slow=60m:1@1", "prompt-slow-answer=60m:1@2") for a in ("--fault", f)]
    long = graphs.slow(steps=2000, seconds=0.05)
    with plant(tmp_path / "data", faults, config(tmp_path, "timeout: {drain: 1h, output: 1h}\n"), 2) as (p, s):

        async def flow():
            async with Client(p.url) as c, c.socket():
                collecting = [await c.submit(graphs.save(color=i)) for i in range(2)]
                for prompt_id in collecting:
                    await c.until_state(prompt_id, "collecting")
                on_servers = [await c.submit(long) for _ in range(2)]
                for prompt_id in on_servers:  # whose POST has not been answered
                    await c.until_state(prompt_id, "running")
                await c.post("/mux/v1/jobs/%s/cancel" % on_servers[0], None)
                waiting = [await c.submit(graphs.save(color=i)) for i in range(20)]
                assert (await c.record(waiting[-1]))["state"] == "queued"
                upload = await half_an_upload(p.url)
                term(p)
                states = [(await c.record(i))["state"] for i in (*collecting, *on_servers, waiting[-1])]
                assert states == ["collecting"] * 2 + ["canceled", "running", "queued"]
                os.kill(p.pid, signal.SIGTERM)
                assert await asyncio.to_thread(p.child.wait, 60) == 0, p.tail()
                upload.close()

        asyncio.run(flow())
        assert not p.said("ERROR: LeakSanitizer|ERROR: AddressSanitizer|runtime error")


# ---- not even beginning --------------------------------------------------------------------------------------------


def refused(args, status=1):
    """What a `serve` that cannot start says on standard error."""
    try:
        program = targets.comfymux("serve")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    run = subprocess.run([program, "serve", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, timeout=60, text=True)
    assert run.returncode == status, run
    assert run.stdout == ""
    last = run.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("comfymux serve: "), run.stderr
    return last


def listing(folder):
    return {f.relative_to(folder): f.read_bytes() if f.is_file() else None for f in sorted(folder.rglob("*"))}


def test_an_address_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        line = refused(["--listen", address, "--data", tmp_path])
        assert address in line and "in use" in line, line


def test_an_address_that_is_not_ours(tmp_path):
    line = refused(["--listen", "192.0.2.1:8280", "--data", tmp_path])
    assert "192.0.2.1:8280" in line, line


def test_two_gateways_and_one_data_folder(tmp_path):
    """The second one says whose it is; the first goes on."""
    with plant(tmp_path) as (p, s):
        line = refused(["--listen", "127.0.0.1:0", "--data", tmp_path])
        assert str(tmp_path) in line and "in use by another comfymux (process %d)" % p.pid in line, line

        async def flow():
            async with Client(p.url) as c:
                assert (await c.until_state(await c.submit(graphs.save())))["state"] == "succeeded"

        asyncio.run(flow())


def test_a_data_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refused(["--listen", "127.0.0.1:0", "--data", folder])
        assert str(tmp_path / "file") in line and "Not a directory" in line, line
    line = refused(["--listen", "127.0.0.1:0", "--data", "/proc/comfymux"])
    assert "/proc/comfymux" in line, line


@contextlib.contextmanager
def read_only(folder):
    """A mount that nobody can write to, root neither."""
    targets.need_mount()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_data_folder_that_cannot_be_written(tmp_path):
    with read_only(tmp_path / "ro") as folder:
        line = refused(["--listen", "127.0.0.1:0", "--data", folder])
        assert str(folder) in line and "Read-only file system" in line, line


def made_before(folder):
    """A data folder as a gateway leaves it."""
    try:
        p = targets.serve_process([], folder, ready_path="/healthz")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    with targets.running([p]):
        pass
    return folder / "comfymux.db"


def test_a_database_of_a_newer_version(tmp_path):
    db = made_before(tmp_path)
    with contextlib.closing(sqlite3.connect(db)) as c:
        c.execute("PRAGMA user_version = 99")
    before = listing(tmp_path)
    line = refused(["--listen", "127.0.0.1:0", "--data", tmp_path])
    assert str(db) in line and "schema 99" in line, line
    assert {k: v for k, v in listing(tmp_path).items() if k != pathlib.Path("comfymux.lock")} == \
        {k: v for k, v in before.items() if k != pathlib.Path("comfymux.lock")}


def test_a_database_of_another_program(tmp_path):
    """It stays as it is, to the byte."""
    db = tmp_path / "comfymux.db"
    with contextlib.closing(sqlite3.connect(db)) as c:
        c.execute("CREATE TABLE recipes (name TEXT)")
    before = db.read_bytes()
    line = refused(["--listen", "127.0.0.1:0", "--data", tmp_path])
    assert str(db) in line and "another program" in line, line
    assert db.read_bytes() == before


def test_a_bad_configuration(tmp_path):
    """Every fault, as `config --check` says it; exit status 2."""
    file = tmp_path / "comfymux.yaml"
    file.write_text("limits: {nodes: x}\nlimit: 1\n")
    run = subprocess.run([targets.binary(), "serve", "-c", file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, timeout=60, text=True)
    lines = run.stderr.splitlines()
    assert run.returncode == 2 and len(lines) == 2, run
    assert lines[0].startswith("%s:1: limits.nodes: " % file) and lines[1].startswith("%s:2: limit: " % file)
    line = refused(["--listen", "nonsense"], status=2)
    assert "HOST:PORT" in line
