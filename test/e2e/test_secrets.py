"""Keys that come with a prompt are in no answer and stand sealed on the disk; without the key file a job that waits with
one fails by name, and nothing else does."""
import asyncio
import contextlib
import pathlib
import signal
import tempfile

import graphs
import targets
from comfy_client import Client
from process import free_port

SECRET = "sk-comfymux-test-0123456789"


@contextlib.contextmanager
def gateway(data, urls, ready_path="/healthz"):
    try:
        p = targets.serve_process(urls, data, ready_path=ready_path)
        with targets.running([p]):
            yield p
    except targets.Missing as e:
        targets.skip_or_fail(e)


def on_disk(data):
    return [p.name for p in pathlib.Path(data).rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]


async def submit(url):
    async with Client(url) as c:
        while (await c.fetch("/mux/v1/jobs/x/events"))[0] == 503:  # it is alive, and still reads its jobs
            await asyncio.sleep(0.01)
        ids = [await c.submit(graphs.slow(steps=1), extra_data={"api_key_comfy_org": SECRET}),
               await c.submit(graphs.slow(steps=1))]
        for path in ("/queue", "/mux/v1/jobs", "/mux/v1/jobs/" + ids[0], "/status/" + ids[0]):
            status, body = await c.fetch(path)
            assert status == 200 and SECRET.encode() not in body, path
        return ids


async def ends(url, ids):
    async with Client(url) as c:
        return [await c.until_state(i) for i in ids]


def waiting_with_a_secret(data):
    """Two jobs that wait, the first of them with a secret; the gateway was killed."""
    with gateway(data, ["http://127.0.0.1:%d" % free_port()]) as p:
        ids = asyncio.run(submit(p.url))
        assert on_disk(data) == []
        p.kill()
    return ids


def test_sealed_while_it_waits_and_there_when_it_is_sent():
    with tempfile.TemporaryDirectory(prefix="comfymux-") as data, targets.sim(1) as s:
        ids = waiting_with_a_secret(data)
        key = pathlib.Path(data) / "secrets.key"
        assert key.stat().st_mode & 0o777 == 0o600
        with gateway(data, s.urls, "/readyz") as p:
            assert [r["state"] for r in asyncio.run(ends(p.url, ids))] == ["succeeded"] * 2
            assert p.stop(signal.SIGTERM) == 0
        assert on_disk(data) == []


def test_a_lost_key_fails_only_what_needs_it():
    with tempfile.TemporaryDirectory(prefix="comfymux-") as data, targets.sim(1) as s:
        ids = waiting_with_a_secret(data)
        (pathlib.Path(data) / "secrets.key").unlink()
        with gateway(data, s.urls, "/readyz") as p:
            lost, other = asyncio.run(ends(p.url, ids))
            assert (lost["state"], lost["error"]["code"]) == ("failed", "dispatch_failed")
            assert "secret_lost" in lost["error"]["message"]
            assert other["state"] == "succeeded"
