"""The routes of comfymux's own: the task API, /mux/v1, health, limits; by what interface they promise."""
import asyncio
import hashlib
import io
import json
import random
import tempfile

import aiohttp
import pytest
from PIL import Image

import graphs
import targets
from comfy_client import Client

RECORD = {"id", "state", "server", "window_id", "client_id", "registered_at", "attempt", "attempts", "progress",
          "queue_position", "outputs", "error", "timeline", "created_at", "started_at", "finished_at"}
OUTPUT = {"n", "node_id", "kind", "filename", "subfolder", "type", "size", "mime", "blake3", "url"}
STATUS = {"id", "status", "progress", "message", "server", "image_url", "image_urls", "outputs", "error"}
SERVER = {"name", "url", "state", "reason", "depth", "tags", "running", "jobs", "queue", "version", "nodes", "last_seen",
          "stats", "recent"}
NOBODY = "01a00000-0000-7000-8000-000000000000"


def fresh():
    return random.randrange(1 << 24)


def pixel(png):
    return Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))


@pytest.fixture
def gateway(shared_targets):
    return shared_targets("gateway")


def own_gateway(flow, *args, **more):
    """flow(client, target) against a gateway of this test alone."""

    async def go(t):
        async with Client(t.url) as c:
            await c.until_all_up()
            await flow(c, t)

    try:
        with targets.gateway(*args, **more) as t:
            asyncio.run(go(t))
    except targets.Missing as e:
        targets.skip_or_fail(e)


async def ask(c, method, path, **more):
    """(status, headers, parsed JSON or bytes)"""
    async with c.http.request(method, c.url + path, **more) as r:
        body = await r.read()
        return r.status, r.headers, json.loads(body) if r.content_type == "application/json" else body


async def refused(c, method, path, status, code, **more):
    """Our error shape."""
    got, _, body = await ask(c, method, path, **more)
    assert got == status, (got, body)
    assert set(body) == {"error"} and set(body["error"]) >= {"code", "message"}
    assert body["error"]["code"] == code and body["error"]["message"]


# ---- the task API --------------------------------------------------------------------------------------------------


def test_status_and_result_of_a_job(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            color = fresh()
            prompt_id = await c.submit(graphs.slow(steps=10, seconds=0.03, color=color))
            seen = []
            while True:
                status, headers, body = await ask(c, "GET", "/status/" + prompt_id)
                assert status == 200 and set(body) == STATUS and body["id"] == prompt_id
                assert "no-store" in headers["Cache-Control"]
                seen.append(body["status"])
                if body["status"] == "completed":
                    break
                assert body["image_url"] is None and body["image_urls"] == [] and body["error"] is None
                code, _, result = await ask(c, "GET", "/result/" + prompt_id)
                assert code in (202, 200) and set(result) == STATUS
                await asyncio.sleep(0.01)
            assert "processing" in seen and set(seen) <= {"queued", "processing", "fetching_image", "completed"}
            order = ["queued", "processing", "fetching_image", "completed"]
            assert [order.index(s) for s in seen] == sorted(order.index(s) for s in seen)
            assert body["image_url"].startswith("/") and body["image_urls"] == [body["image_url"]]
            assert body["server"] in await c.servers() and isinstance(body["message"], str)
            code, _, result = await ask(c, "GET", "/result/" + prompt_id)
            assert code == 200 and result["image_url"] == body["image_url"]
            _, _, png = await ask(c, "GET", body["image_url"])
            assert pixel(png) == (color >> 16, color >> 8 & 255, color & 255)

    asyncio.run(flow())


def test_progress_is_seen_by_those_who_poll(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            prompt_id = await c.submit(graphs.slow(steps=12, seconds=0.05, color=fresh()))
            values = set()
            while (body := await c.get("/status/" + prompt_id))["status"] != "completed":
                values.add(body["progress"]["value"])
                assert body["progress"]["max"] in (0, 12)
                await asyncio.sleep(0.01)
            assert len(values & set(range(1, 13))) >= 2

    asyncio.run(flow())


def test_no_image_is_a_failure_here_and_only_here(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            prompt_id = await c.submit(graphs.text_only("words %d" % fresh()))
            record = await c.until_state(prompt_id)
            assert record["state"] == "succeeded" and record["error"] is None
            status = await c.get("/status/" + prompt_id)
            assert status["status"] == "failed" and status["error"]["code"] == "no_image_output"
            assert status["outputs"] == record["outputs"]
            code, _, body = await ask(c, "GET", "/result/" + prompt_id)
            assert code == 422 and body["error"]["code"] == "no_image_output"

    asyncio.run(flow())


def test_unknown_ids(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            for bad in (NOBODY, "nonsense", NOBODY.upper().replace("0", "A")):
                for method, path in (("GET", "/status/%s"), ("GET", "/result/%s"), ("GET", "/mux/v1/jobs/%s"),
                                     ("POST", "/mux/v1/jobs/%s/cancel"), ("POST", "/mux/v1/jobs/%s/retry"),
                                     ("GET", "/mux/v1/jobs/%s/outputs/0")):
                    await refused(c, method, path % bad, 404, "not_found")

    asyncio.run(flow())


# ---- jobs ----------------------------------------------------------------------------------------------------------


def test_the_record(gateway):
    async def flow():
        async with Client(gateway.url, window="window-r") as c:
            prompt_id = await c.submit(graphs.save(prefix="sub/dir/rec", color=fresh()))
            record = await c.until_state(prompt_id)
            assert set(record) == RECORD and record["id"] == prompt_id and record["state"] == "succeeded"
            assert record["client_id"] == c.client_id and record["window_id"] == "window-r"
            assert set(record["server"]) == {"name", "url"} and record["attempt"] == 1
            (attempt,) = record["attempts"]
            assert attempt["server"] == record["server"]["name"] and attempt["error"] is None
            assert set(record["progress"]) == {"value", "max", "node"} and record["queue_position"] is None
            (output,) = record["outputs"]
            assert set(output) == OUTPUT and output["n"] == 0 and output["node_id"] == "2"
            assert output["kind"] == "image" and output["mime"] == "image/png" and output["type"] == "output"
            assert output["subfolder"] == "sub/dir" and output["filename"].startswith("rec_")
            times = [record["created_at"], record["started_at"], record["finished_at"]]
            assert all(isinstance(t, int) for t in times) and times == sorted(times)
            states = [t["state"] for t in record["timeline"]]
            assert states[0] == "queued" and states[-1] == "succeeded" and record["error"] is None
            at = [t["at"] for t in record["timeline"]]
            assert at == sorted(at)
            order = ["queued", "dispatching", "running", "collecting", "succeeded"]
            assert [order.index(s) for s in states] == sorted(order.index(s) for s in states)

    asyncio.run(flow())


def test_listing_filters_and_pages():
    async def flow(c, t):
        mine = [await c.submit(graphs.save(color=fresh())) for _ in range(7)]
        async with Client(c.url, window="w2") as other:
            theirs = [await other.submit(graphs.fail("x%d" % i)) for i in range(3)]
        for prompt_id in mine + theirs:
            await c.until_state(prompt_id)

        async def ids(**query):
            return [j["id"] for j in (await c.get("/mux/v1/jobs", **query))["jobs"]]

        newest_first = (mine + theirs)[::-1]
        assert await ids() == newest_first
        assert await ids(state="failed") == theirs[::-1]
        assert await ids(state="succeeded") == mine[::-1]
        assert await ids(state="failed,succeeded") == newest_first
        assert await ids(state="queued,running") == []
        assert await ids(client_id=c.client_id) == mine[::-1]
        assert await ids(window_id="w2") == theirs[::-1]
        assert await ids(client_id="nobody") == []
        by_server = [await ids(server=name) for name in await c.servers()]
        assert sorted(sum(by_server, [])) == sorted(newest_first)
        assert await ids(server=list(await c.servers())[0], state="failed") == \
            [i for i in by_server[0] if i in theirs]
        pages, after = [], ""
        while after is not None:
            body = await c.get("/mux/v1/jobs", limit=4, **({"after": after} if after else {}))
            assert len(body["jobs"]) <= 4 and all(set(j) == RECORD for j in body["jobs"])
            pages.append([j["id"] for j in body["jobs"]])
            after = body["next"]
            if len(pages) == 1:  # what comes while one pages is not on later pages
                extra = await c.submit(graphs.save(color=fresh()))
        assert sum(pages, []) == newest_first
        await c.until_state(extra)
        for query in ("state=nonsense", "limit=0", "limit=1001", "limit=x", "after=x", "limit=-1"):
            await refused(c, "GET", "/mux/v1/jobs?" + query, 400, "bad_request")

    own_gateway(flow)


def test_cancel_is_idempotent_and_one_end(gateway):
    async def flow():
        async with Client(gateway.url) as c, c.socket() as ws:
            running = await c.submit(graphs.slow(steps=600, seconds=0.05, color=fresh()))
            await ws.until("progress", prompt_id=running)
            status, record = await c.post("/mux/v1/jobs/%s/cancel" % running, None)
            assert status == 200 and record["state"] == "canceled" and set(record) == RECORD
            assert record["error"]["code"] == "canceled"
            status, again = await c.post("/mux/v1/jobs/%s/cancel" % running, None)
            assert status == 200 and again == record
            await ws.until_done(running)
            assert ws.types(running).count("execution_interrupted") == 1
            assert (await c.get("/status/" + running))["status"] == "canceled"
            await refused_or_body(c, running, 409)
            done = await c.submit(graphs.save(color=fresh()))
            before = await c.until_state(done)
            status, after = await c.post("/mux/v1/jobs/%s/cancel" % done, None)
            assert status == 200 and after == before and after["state"] == "succeeded"

    async def refused_or_body(c, job, status):
        got, _, body = await ask(c, "GET", "/result/" + job)
        assert got == status and body["error"]["code"] == "canceled"

    asyncio.run(flow())


def test_many_cancels_at_once(gateway):
    """Jobs in every state are cancelled from several sides: each ends once, and the servers are free afterwards."""

    async def flow():
        async with Client(gateway.url) as c:
            ids = [await c.submit(graphs.slow(steps=4, seconds=0.02, color=fresh())) for _ in range(16)]

            async def cancel(i, prompt_id):
                await asyncio.sleep(i * 0.01)
                return [r[1]["state"] for r in await asyncio.gather(
                    *(c.post("/mux/v1/jobs/%s/cancel" % prompt_id, None) for _ in range(3)))]

            answers = await asyncio.gather(*(cancel(i, p) for i, p in enumerate(ids)))
            for prompt_id, states in zip(ids, answers):
                record = await c.record(prompt_id)
                assert set(states) == {record["state"]} and record["state"] in ("canceled", "succeeded")
                ends = [t for t in record["timeline"] if t["state"] in ("canceled", "succeeded", "failed")]
                assert len(ends) == 1
                if record["state"] == "succeeded":
                    assert (await c.fetch(record["outputs"][0]["url"]))[0] == 200
                else:
                    assert record["outputs"] == []
            after = await c.submit(graphs.save(color=fresh()))
            assert (await c.until_state(after))["state"] == "succeeded"

    asyncio.run(flow())


def test_retry(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            failed = await c.submit(graphs.fail("no %d" % fresh()))
            await c.until_state(failed)
            status, headers, new = await ask(c, "POST", "/mux/v1/jobs/%s/retry" % failed)
            assert status == 201 and new["retry_of"] == failed and new["id"] != failed
            assert headers["Location"] == "/mux/v1/jobs/" + new["id"]
            again = await c.until_state(new["id"])
            assert again["state"] == "failed" and again["error"]["code"] == "execution_error"
            assert (await c.record(failed))["state"] == "failed"
            done = await c.submit(graphs.save(color=fresh()))
            await refused(c, "POST", "/mux/v1/jobs/%s/retry" % done, 409, "conflict")
            await c.until_state(done)
            await refused(c, "POST", "/mux/v1/jobs/%s/retry" % done, 409, "conflict")

    asyncio.run(flow())


def test_outputs_in_pieces(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            prompt_id = await c.submit(graphs.save(prefix="piece", color=fresh(), size=64))
            (output,) = (await c.until_state(prompt_id))["outputs"]
            url = output["url"]
            status, headers, whole = await ask(c, "GET", url)
            assert status == 200 and len(whole) == output["size"] and headers["Content-Type"] == "image/png"
            assert headers["Accept-Ranges"] == "bytes" and output["filename"] in headers["Content-Disposition"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            etag = headers["ETag"]
            assert output["blake3"] in etag
            n = len(whole)
            for spec, want in (("bytes=0-9", whole[:10]), ("bytes=5-", whole[5:]), ("bytes=-7", whole[-7:]),
                               ("bytes=0-%d" % (n + 100), whole), ("bytes=%d-%d" % (n - 1, n - 1), whole[-1:])):
                status, headers, part = await ask(c, "GET", url, headers={"Range": spec})
                assert status == 206 and part == want, spec
                assert headers["Content-Range"].endswith("/%d" % n) and headers["ETag"] == etag
            status, headers, _ = await ask(c, "GET", url, headers={"Range": "bytes=%d-" % n})
            assert status == 416 and headers["Content-Range"] == "bytes */%d" % n
            status, _, body = await ask(c, "GET", url, headers={"If-None-Match": etag})
            assert status == 304 and body == b""
            status, _, body = await ask(c, "GET", url, headers={"If-None-Match": '"other"'})
            assert status == 200 and body == whole
            status, _, body = await ask(c, "GET", url, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
            assert status == 200 and body == whole
            status, headers, body = await ask(c, "HEAD", url)
            assert status == 200 and body == b"" and headers["Content-Length"] == str(n)
            for bad in ("1", "x", "-1", "00", "99999999999"):
                await refused(c, "GET", "/mux/v1/jobs/%s/outputs/%s" % (prompt_id, bad), 404, "not_found")
            # /view serves the same.
            history = await c.history(prompt_id)
            (image,) = history["outputs"]["2"]["images"]
            assert hashlib.sha256(await c.view(image)).digest() == hashlib.sha256(whole).digest()

    asyncio.run(flow())


def test_several_outputs_are_numbered(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            graph = graphs.save(prefix="batch", color=fresh())
            graph["1"]["inputs"]["batch_size"] = 3
            graph["3"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
            graph["4"] = {"class_type": "ReportText", "inputs": {"value": "text \u00e9", "count": 1}}
            record = await c.until_state(await c.submit(graph))
            outputs = record["outputs"]
            assert [o["n"] for o in outputs] == list(range(len(outputs)))
            kinds = sorted((o["node_id"], o["kind"], o["type"]) for o in outputs if o["kind"] == "image")
            assert kinds == [("2", "image", "output")] * 3 + [("3", "image", "temp")] * 3
            (text,) = [o for o in outputs if o["kind"] == "text"]
            assert (await c.fetch(text["url"]))[1].decode() == "text \u00e9"
            for o in outputs:
                status, data = await c.fetch(o["url"])
                assert status == 200 and len(data) == o["size"]
            status = await c.get("/status/" + record["id"])
            saved = [o["url"] for o in outputs if o["type"] == "output" and o["kind"] == "image"]
            assert status["image_urls"][:3] == saved and status["image_url"] == saved[0]

    asyncio.run(flow())


# ---- servers, windows, health --------------------------------------------------------------------------------------


def test_the_fleet_changes():
    async def flow(c, t):
        servers = await c.servers()
        assert list(servers) == ["s0"] and set(servers["s0"]) == SERVER
        assert servers["s0"]["state"] == "up" and servers["s0"]["depth"] == 1 and servers["s0"]["nodes"] > 20
        assert servers["s0"]["running"] == [] and servers["s0"]["version"] == "0.3.75"
        with targets.sim(1) as more:
            body = {"url": more.url, "name": "late", "depth": 2, "tags": ["big"]}
            status, added = await c.post("/mux/v1/servers", body)
            assert status == 201 and set(added) == SERVER
            assert (added["name"], added["depth"], added["tags"]) == ("late", 2, ["big"])
            await refused(c, "POST", "/mux/v1/servers", 409, "conflict", json=body)
            await c.until_server("late", "up")
            status, body = await c.post("/mux/v1/servers/s0/drain", None)
            assert status == 200 and body["state"] == "draining"
            for _ in range(3):
                record = await c.until_state(await c.submit(graphs.save(color=fresh())))
                assert record["server"]["name"] == "late"
            status, body = await c.post("/mux/v1/servers/s0/resume", None)
            assert status == 200
            await c.until_server("s0", "up")
            # Removing: refused while it works.
            await c.post("/mux/v1/servers/s0/drain", None)
            busy = await c.submit(graphs.slow(steps=10, seconds=0.05, color=fresh()))
            await c.until_state(busy, "running")
            assert (await c.servers())["late"]["running"] == [busy]
            await refused(c, "DELETE", "/mux/v1/servers/late", 409, "conflict")
            await c.post("/mux/v1/servers/s0/resume", None)
            assert (await c.until_state(busy))["state"] == "succeeded"
            while (await c.servers())["late"]["running"]:
                await asyncio.sleep(0.01)
            status, _, body = await ask(c, "DELETE", "/mux/v1/servers/late?force=0")
            assert status == 200 and [s["name"] for s in body["servers"]] == ["s0"]
            assert (await c.fetch((await c.record(busy))["outputs"][0]["url"]))[0] == 200
            for method, path in (("DELETE", "/mux/v1/servers/late"), ("POST", "/mux/v1/servers/late/drain"),
                                 ("POST", "/mux/v1/servers/late/resume")):
                await refused(c, method, path, 404, "not_found")
        for bad in ({}, {"url": 5}, {"url": "ftp://x"}, {"url": "http://127.0.0.1:1", "depth": 0},
                    {"url": "http://127.0.0.1:1", "name": "a b"}, {"url": "http://127.0.0.1:1", "tags": "x"},
                    {"url": "http://127.0.0.1:1", "surprise": 1}, []):
            await refused(c, "POST", "/mux/v1/servers", 400, "bad_request", json=bad)
        assert list(await c.servers()) == ["s0"]

    own_gateway(flow, 1)


def test_a_server_is_removed_by_force():
    """Its job goes elsewhere, long before it could be taken for lost (60 s)."""

    async def flow(c, t):
        with targets.sim(1) as more:
            assert (await c.post("/mux/v1/servers", {"url": more.url, "name": "late"}))[0] == 201
            await c.until_server("late", "up")
            await c.post("/mux/v1/servers/s0/drain", None)
            busy = await c.submit(graphs.slow(steps=4000, seconds=0.05, color=fresh()))
            await c.until_state(busy, "running")
            await c.post("/mux/v1/servers/s0/resume", None)
            status, _, body = await ask(c, "DELETE", "/mux/v1/servers/late?force=1")
            assert status == 200 and [s["name"] for s in body["servers"]] == ["s0"]
            record = await c.record(busy)
            for _ in range(500):
                if record["server"] and record["server"]["name"] == "s0":
                    break
                await asyncio.sleep(0.02)
                record = await c.record(busy)
            assert record["server"]["name"] == "s0" and record["attempt"] == 2, record
            await c.post("/mux/v1/jobs/%s/cancel" % busy, None)

    own_gateway(flow, 1)


def test_windows(gateway):
    async def flow():
        name = "win-%d" % fresh()
        async with Client(gateway.url, window=name) as a, Client(gateway.url) as b:
            first = await a.submit(graphs.save(color=fresh()))
            # Without the header the graph's extra_data says it, and the server is not told.
            second = await b.submit(graphs.save(color=fresh()), extra_data={"window_id": name, "keep": 1})
            for prompt_id in (first, second):
                record = await a.until_state(prompt_id)
                assert record["window_id"] == name
            (window,) = [w for w in (await a.get("/mux/v1/windows"))["windows"] if w["window_id"] == name]
            assert set(window) == {"window_id", "client_ids", "last_seen", "jobs"}
            assert sorted(window["client_ids"]) == sorted([a.client_id, b.client_id])
            assert [j["id"] for j in window["jobs"]] == [second, first]
            for j in window["jobs"]:
                assert j["state"] == "succeeded" and j["server"] == (await a.record(j["id"]))["server"]["name"]
            # What the server was sent: everything but the window.
            async with Client((await a.record(second))["server"]["url"]) as server:
                extra = (await server.history(second))["prompt"][3]
                assert "window_id" not in extra and extra["keep"] == 1

    asyncio.run(flow())


def test_windows_of_a_job_that_waits_again():
    """A job that was taken from its server stands with none until it gets the next."""
    async def flow(url):
        async with Client(url, window="again") as c:
            busy = await c.submit(graphs.save(color=fresh()))
            await c.until_state(busy, "running")
            await c.post("/mux/v1/servers/s0/drain", None)
            await c.until_state(busy, "queued")
            (window,) = (await c.get("/mux/v1/windows"))["windows"]
            assert [(j["state"], j["server"]) for j in window["jobs"]] == [("queued", None)]

    try:
        with targets.gateway(1, sim_args=("--fault", "slow-prompt=1s", "--fault", "cuda-error")) as t:
            asyncio.run(flow(t.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_health():
    async def flow(c, t):
        assert (await c.fetch("/healthz")) == (200, b"ok")
        status, _, body = await ask(c, "GET", "/readyz")
        assert status == 200 and body == {"ready": True, "reason": None}
        _, text = await c.fetch("/metrics")
        assert b"# TYPE" in text
        t.processes[1].kill()
        while True:
            status, _, body = await ask(c, "GET", "/readyz")
            if status == 503:
                break
            await asyncio.sleep(0.05)
        assert body["ready"] is False and body["reason"]
        assert (await c.fetch("/healthz"))[0] == 200

    own_gateway(flow, 1)


def test_without_servers():
    """Alive, not ready; submits are accepted and wait, and run as soon as there is a server."""
    try:
        with tempfile.TemporaryDirectory() as data:
            p = targets.serve_process([], data, ready_path="/healthz")
            with targets.running([p]):

                async def flow():
                    async with Client(p.url) as c:
                        status, _, body = await ask(c, "GET", "/readyz")
                        assert status == 503 and body["ready"] is False and body["reason"]
                        waiting = await c.submit(graphs.save(color=fresh()))
                        assert (await c.get("/status/" + waiting))["status"] == "queued"
                        assert (await c.record(waiting))["queue_position"] == 0
                        with targets.sim(1) as s:
                            assert (await c.post("/mux/v1/servers", {"url": s.url}))[0] == 201
                            assert (await c.until_state(waiting))["state"] == "succeeded"
                            assert (await ask(c, "GET", "/readyz"))[0] == 200

                asyncio.run(flow())
    except targets.Missing as e:
        targets.skip_or_fail(e)


# ---- limits and bad requests ---------------------------------------------------------------------------------------


def test_limits(tmp_path):
    config = tmp_path / "limits.yaml"
    config.write_text("limits: {json: 16KiB, upload: 20KiB, queued: 4, nodes: 50}\n")

    async def flow(c, t):
        big = {"prompt": graphs.save(), "extra_data": {"filler": "x" * 20000}}
        async with c.http.post(c.url + "/prompt", json=big) as r:
            assert r.status == 413
        with pytest.raises(aiohttp.ClientResponseError) as e:
            await c.upload("big.png", b"\x89PNG" + b"0" * 30000)
        assert e.value.status == 413
        assert (await c.upload("small.png", b"\x89PNG" + b"0" * 10000))["name"] == "small.png"
        assert (await c.get("/features"))["max_upload_size"] == 20 << 10
        graph = graphs.save()
        for k in range(60):
            graph["x%d" % k] = graph["1"]
        status, body = await c.post("/prompt", {"prompt": graph})
        assert status == 400 and body["error"]["type"] and body["node_errors"] == {}
        ids = [await c.submit(graphs.slow(steps=20, seconds=0.1, color=fresh())) for _ in range(4)]
        async with c.http.post(c.url + "/prompt", json={"prompt": graphs.save()}) as r:
            assert r.status == 429 and "Retry-After" in r.headers
            assert (await r.json())["error"]["type"] == "too_many_queued"
        for prompt_id in ids:
            await c.post("/mux/v1/jobs/%s/cancel" % prompt_id, None)
        assert (await c.until_state(await c.submit(graphs.save())))["state"] == "succeeded"

    own_gateway(flow, 1, args=["-c", config])


def test_bad_bodies(gateway):
    """400 with a reason in the shape of the dialect; the connection and the gateway go on."""

    async def flow():
        async with Client(gateway.url) as c:
            deep = '{"prompt": ' + "[" * 600 + "]" * 600 + "}"
            for bad in (b"", b"{", b"nonsense", b"[]", b'"x"', b"null", b'{"prompt": 5}', b'{"prompt": []}',
                        b'{"prompt": {}}', b'{"prompt": {"1": 5}}', b'{"prompt": {"1": {}}}', deep.encode(),
                        b'{"prompt": {"1": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}}',
                        b'{"prompt": {"1": {"class_type": "SaveImage", "inputs": {"images": ["77", 0]}}}}',
                        b'{"prompt": {"1": {"class_type": "SaveImage", "inputs": []}}}',
                        b'{"prompt": "\xff\xfe"}', b'{"a": 1} trailing'):
                async with c.http.post(c.url + "/prompt", data=bad) as r:
                    assert r.status == 400, (bad[:60], r.status)
                    body = await r.json()
                    assert body["error"]["type"] and body["error"]["message"] and "node_errors" in body
            for path in ("/queue", "/history"):
                async with c.http.post(c.url + path, data=b"{nonsense") as r:
                    assert r.status == 400, path
            await refused(c, "POST", "/mux/v1/servers", 400, "bad_request", data=b"{nonsense")
            for path in ("/mux/v1/nothing", "/mux/v1/jobs/a/b/c"):
                assert (await ask(c, "GET", path))[0] == 404
            assert (await ask(c, "DELETE", "/mux/v1/jobs"))[0] == 405
            assert (await c.get("/mux/v1/jobs", limit=1))["jobs"] is not None

    asyncio.run(flow())


def test_view_does_not_leave_its_folders(gateway):
    async def flow():
        async with Client(gateway.url) as c:
            for name, sub in (("../../etc/passwd", ""), ("/etc/passwd", ""), ("passwd", "../../etc"),
                              ("passwd", "/etc"), ("", ""), ("x\0y.png", "")):
                status, _ = await c.try_view({"filename": name, "subfolder": sub, "type": "output"})
                assert status in (400, 403, 404), (name, sub)
            up = await c.upload("page%d.html" % fresh(), b"<script>alert(1)</script>", content_type="text/html")
            async with c.http.get(c.url + "/view", params={"filename": up["name"], "type": "input"}) as r:
                assert r.status == 200 and r.content_type == "application/octet-stream"
                assert r.headers["Content-Disposition"].startswith("attachment")
                assert "sandbox" in r.headers["Content-Security-Policy"]

    asyncio.run(flow())


def test_other_origins_may_not_change_anything(gateway):
    """A page from elsewhere can neither submit through a visitor's browser nor listen."""

    async def flow():
        async with Client(gateway.url) as c:
            for path in ("/prompt", "/queue", "/interrupt", "/mux/v1/servers"):
                async with c.http.post(c.url + path, data=b"{}", headers={"Origin": "https://evil.example"}) as r:
                    assert r.status == 403, path
            host = c.url[len("http://"):]
            with pytest.raises(aiohttp.WSServerHandshakeError) as e:
                await c.http.ws_connect("ws://" + host + "/ws", origin="https://evil.example")
            assert e.value.status == 403
            async with c.http.ws_connect("ws://" + host + "/ws", origin="http://" + host) as ws:
                assert (await ws.receive_json())["type"] == "status"
            body = {"prompt": graphs.save(color=fresh())}
            async with c.http.post(c.url + "/prompt", json=body, headers={"Origin": "http://" + host}) as r:
                assert r.status == 200

    asyncio.run(flow())


def long_graph(nodes=1200):
    """More than 64 KiB as JSON: many inversions of one picture, of which one is saved."""
    graph = {"0": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0x336699}}}
    for i in range(1, nodes):
        graph[str(i)] = {"class_type": "ImageInvert", "inputs": {"image": ["0", 0]}}
    graph["save"] = {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "long"}}
    assert len(json.dumps({"prompt": graph})) > 65536
    return graph


def test_long_prompts_are_judged_as_short_ones_are(gateway):
    async def go():
        async with Client(gateway.url) as c:
            good, unknown, bad = long_graph(), long_graph(), long_graph()
            unknown["7"]["class_type"] = "NobodyHasThis"
            bad["7"]["inputs"] = {}
            for graph, kind in ((unknown, "missing_node_type"), (bad, "prompt_outputs_failed_validation")):
                status, body = await c.post("/prompt", {"prompt": graph})
                assert (status, body["error"]["type"]) == (400, kind)
            async with c.http.post(c.url + "/prompt", data=b'{"prompt": {' + b" " * 70000) as r:
                assert r.status == 400 and (await r.json())["error"]["type"] == "invalid_json"
            # Those who leave before they are judged leave nothing behind; those who stay are served.
            async def leaves():
                try:
                    await asyncio.wait_for(c.post("/prompt", {"prompt": good}), 0.001)
                except asyncio.TimeoutError:
                    pass
            stay, *_ = await asyncio.gather(c.submit(good), *(leaves() for _ in range(20)))
            record = await c.until_state(stay)
            assert record["state"] == "succeeded", record

    asyncio.run(go())
