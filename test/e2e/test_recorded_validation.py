"""Every POST /prompt of the recorded sessions c1, c2 and c3, of both versions of ComfyUI, asked of a gateway that knows
what the recorded server could do (its whole object_info is recorded too): the same status and body, or one of the kinds
that test/lib/verdicts.py tells apart. Nothing is ever sent to the server, which is a few lines here."""
import asyncio
import base64
import collections
import contextlib
import gzip
import hashlib
import json
import re

import pytest
from aiohttp import web

import own_checks
import replay
import session
import targets
import verdicts
from comfy_client import Client

SERIES = {"sessions": "object_info.json.gz", "sessions-0.3.75": "object_info-0.3.75.json.gz"}
NAMES = ("c1_validation_errors", "c2_partial_200", "c3_malformed_bodies")
# Refused here with a reason of its own, where the recorded server takes it to a later refusal.
ALLOWED = {"NaN number": "invalid_number"}

FOLDER = replay.folder()
no_recordings = pytest.mark.skipif(FOLDER is None, reason="no recordings: COMFYMUX_SHARED or ../shared")


@contextlib.asynccontextmanager
async def server(object_info):
    """What a link needs, and this object_info; it never gets a prompt."""
    async def socket(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}},
                                                       "sid": request.query.get("clientId", "x")}})
        async for _ in ws:
            pass
        return ws

    def answer(body):
        async def handler(_request):
            return web.Response(body=body, content_type="application/json")
        return handler

    app = web.Application()
    app.router.add_get("/ws", socket)
    app.router.add_get("/object_info", answer(object_info))
    app.router.add_get("/prompt", answer(b'{"exec_info": {"queue_remaining": 0}}'))
    app.router.add_get("/queue", answer(b'{"queue_running": [], "queue_pending": []}'))
    app.router.add_get("/history", answer(b"{}"))
    app.router.add_get("/system_stats", answer(b'{"system": {"comfyui_version": "0"}, "devices": []}'))
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield "http://127.0.0.1:%d" % runner.addresses[0][1]
    finally:
        await runner.cleanup()


def recorded(folder):
    """(note, headers, body, status, text) of each POST /prompt whose body is known."""
    for name in NAMES:
        for e in session.Session(FOLDER / folder / (name + ".jsonl")).events:
            if e["kind"] != "http" or (e["request"]["method"], e["request"]["path"]) != ("POST", "/prompt"):
                continue
            r = e["request"]
            if "body_base64" in r:
                body = base64.b64decode(r["body_base64"])
            elif r.get("body_omitted"):
                body = b'{"prompt": ' + b"[" * 100000 + b"]" * 100000 + b"}"
                assert hashlib.sha256(body).hexdigest() == r["sha256"]
            else:
                body = (r.get("body") or "").encode("utf-8", "surrogatepass")
            kind = {k: v for k, v in r["headers"] if k.lower() == "content-type"}
            yield "%s %d %s" % (name, e["n"], e.get("note")), kind, body, e["response"]["status"], e["response"].get("body", "")


def graph_of(body):
    """The prompt, if it is one."""
    with contextlib.suppress(ValueError, RecursionError):
        whole = json.loads(body)
        graph = whole.get("prompt") if isinstance(whole, dict) else None
        return graph if isinstance(graph, dict) else {}
    return {}


@no_recordings
@pytest.mark.parametrize("folder", SERIES)
def test_recorded_verdicts(folder, count_line):
    object_info = gzip.decompress((FOLDER / "bodies" / SERIES[folder]).read_bytes())
    judge = verdicts.Judge(json.loads(object_info), re.findall(r'\{"(\w+)", "([^"]+)"\}', own_checks.HEADER.read_text()))
    counts, wrong = collections.Counter(), []

    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            for _ in range(600):
                if (await c.servers())["s0"]["nodes"]:
                    break
                await asyncio.sleep(0.1)
            await c.post("/mux/v1/servers/s0/drain", {})
            for note, kind, body, status, text in recorded(folder):
                async with c.http.post(url + "/prompt", data=body, headers=kind,
                                       skip_auto_headers=("Content-Type",)) as answer:
                    got = answer.status, await answer.text()
                allowed = [t for what, t in ALLOWED.items() if note.endswith(what)]
                if allowed and got[0] == status and json.loads(got[1])["error"]["type"] == allowed[0]:
                    verdict = "refused with a reason"
                else:
                    verdict, _ = judge.compare(graph_of(body), (status, text), got)
                counts[verdict] += 1
                if verdict in ("stricter", "DIFFERENT"):
                    wrong.append("%s: %s\n  %s\n  recorded %d %s\n  gateway  %d %s" % (
                        verdict, note, body[:600], status, text[:1000], got[0], got[1][:1000]))

    async def whole():
        async with server(object_info) as url:
            loop = asyncio.get_running_loop()
            stack = contextlib.ExitStack()
            # Starting and stopping waits, and the server answers meanwhile.
            front = await loop.run_in_executor(None, stack.enter_context,
                                               targets.in_front_of(targets.Target("recorded", [url], [])))
            try:
                await flow(front.url)
            finally:
                await loop.run_in_executor(None, stack.close)

    try:
        asyncio.run(whole())
    except targets.Missing as e:
        targets.skip_or_fail(e)
    count_line("recorded verdicts, %s: %s" % (folder, ", ".join("%d %s" % (n, k) for k, n in counts.most_common())))
    assert not wrong, "\n".join(wrong)
    assert sum(counts.values()) > 60
