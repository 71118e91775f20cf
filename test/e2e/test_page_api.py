"""What a page asks of /mux/v1 to show jobs, servers and the whole, also from another origin."""
import asyncio
import contextlib
import json
import tempfile

import configured
import graphs
import targets
from comfy_client import Client

BRIEF = {"id", "state", "server", "window_id", "client_id", "attempt", "progress", "queue_position", "created_at",
         "started_at", "finished_at", "error", "outputs", "outputs_count"}
ENDED = ("succeeded", "failed", "canceled", "expired")
SECRET = "sk-comfymux-page-0123456789"
PAGE = "https://studio.example.org"


@contextlib.contextmanager
def kept_gateway(sims, data):
    try:
        p = targets.serve_process(sims.urls, data)
        with targets.running([p]):
            yield p
    except targets.Missing as e:
        targets.skip_or_fail(e)


async def ended(c, *ids):
    return [(await c.until_state(i))["state"] for i in ids]


def test_a_gallery_is_read_page_by_page():
    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            made, ids = [], []
            for i in range(6):
                ids.append(await c.submit(graphs.save(color=i, size=16 + i) if i % 2 else graphs.text_only("t%d" % i)))
                if i % 2:
                    made.insert(0, ids[-1])
            ids.append(await c.submit(graphs.fail()))
            assert await ended(c, *ids) == ["succeeded"] * 6 + ["failed"]
            seen, after = [], None
            while True:
                page = await c.get("/mux/v1/jobs", kind="image", state="succeeded", view="brief", limit=2,
                                   **({"after": after} if after else {}))
                seen += page["jobs"]
                after = page["next"]
                if after is None:
                    break
            assert [j["id"] for j in seen] == made
            for j in seen:
                assert set(j) == BRIEF and j["outputs_count"] == 1 and j["error"] is None
                assert set(j["outputs"][0]) == {"n", "kind", "filename", "url", "mime", "size"}
                status, png = await c.fetch(j["outputs"][0]["url"])
                assert status == 200 and len(png) == j["outputs"][0]["size"] and png[:4] == b"\x89PNG"
            failed = (await c.get("/mux/v1/jobs", view="brief", state="failed"))["jobs"]
            assert [j["id"] for j in failed] == ids[-1:]
            assert set(failed[0]["error"]) == {"code", "message"} and failed[0]["outputs_count"] == 0
            # what is short agrees with what is not
            full = {j["id"]: j for j in (await c.get("/mux/v1/jobs"))["jobs"]}
            for j in (await c.get("/mux/v1/jobs", view="brief"))["jobs"]:
                whole = full[j["id"]]
                assert len(whole["outputs"]) == j["outputs_count"]
                for key in BRIEF - {"outputs", "outputs_count", "error"}:
                    assert whole[key] == j[key], key

    with targets.gateway(2) as t:
        asyncio.run(flow(t.url))


def test_a_workflow_comes_back_as_it_was_submitted_and_without_keys():
    odd = ('{"1": {"class_type": "EmptyImage", "inputs": {"width":16,"height": 16, "batch_size": 1, "color": %s}},'
           ' "2" :{"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "\\u0061"},'
           ' "_meta": {"title": "\\ud800", "seed": 18446744073709551616, "z": -0, "f": 1.50}}}')
    kept = odd % "5"

    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            # Only what has not the type of its input is written anew, as a server keeps it.
            body = '{"prompt": %s, "extra_data": {"api_key_comfy_org": "%s", "n" : 1.50, "window_id": "w"}}' % (odd % "5.0", SECRET)
            async with c.http.post(url + "/prompt", data=body) as r:
                assert r.status == 200, await r.text()
                job = (await r.json())["prompt_id"]
            for _ in range(2):  # while it runs, or waits, and when it has ended
                status, text = await c.fetch("/mux/v1/jobs/%s/workflow" % job)
                assert status == 200 and SECRET.encode() not in text
                assert text.startswith(('{"prompt": %s, "extra_data": {' % kept).encode()), text
                got = json.loads(text)
                assert set(got) == {"prompt", "extra_data", "outputs_to_execute"}
                assert got["extra_data"] == {"n": 1.5} and b'"n" : 1.50' in text
                assert got["outputs_to_execute"] == ["2"]
                async with c.http.get(url + "/mux/v1/jobs/%s/workflow?download=1" % job) as r:
                    assert await r.text() == kept
                    assert r.headers["Content-Disposition"] == 'attachment; filename="%s.json"' % job
                await c.until_state(job)

    with targets.gateway(1) as t:
        asyncio.run(flow(t.url))


def test_counts_outlive_a_restart_and_the_log_says_that_it_does_not():
    async def before(url):
        async with Client(url) as c:
            await c.until_all_up()
            done, failed = await c.submit(graphs.save()), await c.submit(graphs.fail())
            assert await ended(c, done, failed) == ["succeeded", "failed"]
            gone = await c.submit(graphs.slow(steps=400, seconds=0.05))
            await c.post("/mux/v1/jobs/%s/cancel" % gone, {})
            log = await c.get("/mux/v1/jobs/%s/log" % done)
            assert log["complete"] is True
            texts = [line["text"] for line in log["lines"]]
            assert texts[0].startswith("state=queued event=accepted")
            assert texts[-1].startswith("state=succeeded server=s")
            assert not [t for t in texts if "job=" in t]
            assert [line["at"] for line in log["lines"]] == sorted(line["at"] for line in log["lines"])
            assert {line["level"] for line in (await c.get("/mux/v1/jobs/%s/log" % failed))["lines"]} >= {"info", "warn"}
            return done, await c.get("/mux/v1/summary")

    async def after(url, done):
        async with Client(url) as c:
            assert await c.get("/mux/v1/jobs/%s/log" % done) == {"lines": [], "complete": False}
            return await c.get("/mux/v1/summary")

    with tempfile.TemporaryDirectory(prefix="comfymux-") as data, targets.sim(2) as sims:
        with kept_gateway(sims, data) as p:
            done, first = asyncio.run(before(p.url))
        with kept_gateway(sims, data) as p:
            second = asyncio.run(after(p.url, done))
    assert set(first) == {"jobs", "servers", "ready", "reason", "version", "uptime_ms", "frontend"}
    assert first["ready"] is True and first["servers"]["up"] == 2
    for s in (first, second):
        assert [s["jobs"][k] for k in ENDED] == [1, 1, 1, 0], s
        assert s["jobs"]["queued"] == 0 and s["uptime_ms"] > 0


def test_a_server_says_what_it_is_and_what_it_lacks():
    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            job = await c.submit(graphs.text_to_image())
            record = await c.until_state(job)
            name = record["server"]["name"]
            one = await c.get("/mux/v1/servers/" + name)
            assert one["models"] == ["sd15.safetensors"]
            assert one["recent"]["jobs"] == 1 and one["recent"]["seconds_mean"] > 0
            took = record["attempts"][0]["ended_at"] - record["attempts"][0]["started_at"]
            assert abs(one["recent"]["seconds_median"] * 1000 - took) < 1
            assert one["stats"]["successes"] == 1 and one["last_seen"] > record["created_at"]
            device = one["devices"][0]
            assert device["type"] == "cuda" and device["vram_total"] > device["vram_free"] > 0
            assert one["devices_at"] > 0 and all(one["versions"].values())
            in_list = {s["name"]: s for s in (await c.get("/mux/v1/servers"))["servers"]}
            other = next(s for s in in_list if s != name)
            assert set(in_list[name]) < set(one) and in_list[other]["recent"] is None
            slow = await c.submit(graphs.slow(steps=600, seconds=0.05))
            await c.until_state(slow, "running")
            where = (await c.record(slow))["server"]["name"]
            while not (running := (await c.get("/mux/v1/servers/" + where))["jobs"]) or not running[0]["progress"]["value"]:
                await asyncio.sleep(0.02)
            assert running[0]["id"] == slow and running[0]["progress"]["max"] == 600 and running[0]["started_at"]
            await c.post("/mux/v1/jobs/%s/cancel" % slow, {})

    with targets.gateway(2) as t:
        asyncio.run(flow(t.url))


def test_a_page_of_another_origin_may_do_all_that_it_needs():
    """As a browser does it: a preflight for what is not simple, and every answer says that this page may read it."""

    async def preflight(http, url, method, *fields):
        headers = {"Origin": PAGE, "Access-Control-Request-Method": method,
                   "Access-Control-Request-Headers": ",".join(fields)}
        async with http.options(url, headers=headers) as r:
            if r.status >= 300 or r.headers.get("Access-Control-Allow-Origin") != PAGE:
                return False
            allowed = {f.strip().lower() for f in r.headers["Access-Control-Allow-Headers"].split(",")}
            methods = {m.strip() for m in r.headers["Access-Control-Allow-Methods"].split(",")}
            return method in methods and allowed >= set(fields)

    def readable(r):
        shown = {f.strip().lower() for f in r.headers.get("Access-Control-Expose-Headers", "").split(",")}
        assert r.headers["Access-Control-Allow-Origin"] == PAGE, r.url
        return lambda name: name in shown and name in r.headers

    async def flow(url, allowed):
        page = {"Origin": PAGE}
        window = {**page, "X-Comfymux-Window": "w1"}
        async with Client(url) as c:
            await c.until_all_up()
            assert await preflight(c.http, url + "/prompt", "POST", "content-type", "x-comfymux-window") == allowed
            assert await preflight(c.http, url + "/mux/v1/jobs", "GET", "x-comfymux-window") == allowed
            assert await preflight(c.http, url + "/mux/v1/servers/s0", "DELETE") == allowed
            if not allowed:
                async with c.http.post(url + "/mux/v1/servers/s0/drain", headers=page) as r:
                    assert r.status == 403
                return
            async with c.http.post(url + "/prompt", headers=window, json={"prompt": graphs.fail()}) as r:
                readable(r)
                job = (await r.json())["prompt_id"]
            async with c.http.get(url + "/mux/v1/jobs/%s/events" % job, headers=page) as r:
                readable(r)
                assert r.content_type == "text/event-stream"
                assert b"event: end" in await r.read()
            async with c.http.post(url + "/mux/v1/jobs/%s/retry" % job, headers=window) as r:
                assert r.status == 201 and readable(r)("location")
            done = await c.submit(graphs.save())
            await c.until_state(done)
            for path in ("/outputs/0", "/outputs/0/thumb"):
                async with c.http.get(url + "/mux/v1/jobs/" + done + path, headers=page) as r:
                    assert r.status == 200
                    shown = readable(r)
                    assert shown("etag") and shown("content-disposition")
            for path in ("/mux/v1/jobs?view=brief", "/mux/v1/jobs/" + done, "/mux/v1/jobs/%s/workflow" % done,
                         "/mux/v1/jobs/%s/log" % done, "/mux/v1/summary", "/mux/v1/servers", "/mux/v1/servers/s0",
                         "/mux/v1/windows", "/status/" + done, "/result/" + done, "/healthz", "/readyz"):
                async with c.http.get(url + path, headers=window) as r:
                    assert r.status == 200, path
                    readable(r)
            async with c.http.get(url + "/mux/v1/jobs/nobody", headers=page) as r:
                assert r.status == 404
                readable(r)  # the reason can be shown
            windows = {w["window_id"]: w for w in (await c.get("/mux/v1/windows"))["windows"]}
            assert job in [j["id"] for j in windows["w1"]["jobs"]]

    with targets.sim(1) as sims:
        for cors in ([PAGE], []):
            with configured.gateway({"servers": configured.servers(sims.urls), "cors": cors}) as g:
                asyncio.run(flow(g.url, bool(cors)))
