"""A process in between the gateway and one server, that can be told to spoil what passes: for faults of servers that a
simulator does not have. It runs in a thread of its own."""
import asyncio
import json
import threading

import aiohttp
from aiohttp import web


class Between:
    """with Between(url) as b: b.url is where the gateway connects.

    spoil(prompt): changes the graph of every POST /prompt.
    answer(path, parsed): changes what a GET of JSON answers.
    custom[path]: async handler(request) of a route that the server does not have, as custom nodes bring them.
    seen: (method, path with query, headers, body) of each request but for sockets.
    mute: events are held back, as from a server whose sending hangs at another client.
    dead: the worker is dead; prompts are taken, wait for ever and can be deleted."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.spoil = None
        self.answer = None
        self.custom = {}
        self.seen = []
        self.mute = False
        self.dead = False
        self.posted = 0
        self.waiting = []
        self.sockets = set()

    def __enter__(self):
        ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main(ready)), daemon=True)
        self.thread.start()
        assert ready.wait(60)
        return self

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(60)

    def drop_sockets(self):
        """All sockets end, as when the server restarts."""
        asyncio.run_coroutine_threadsafe(self._drop(), self.loop).result(60)

    async def _drop(self):
        for ws in list(self.sockets):
            await ws.close()

    async def _main(self, ready):
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._any)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://127.0.0.1:%d" % runner.addresses[0][1]
        async with aiohttp.ClientSession(auto_decompress=False) as self.http:
            ready.set()
            await self.over.wait()
            await self._drop()
            await runner.cleanup()

    async def _any(self, request):
        if request.path in self.custom:
            return await self.custom[request.path](request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        body = await request.read()
        self.seen.append((request.method, request.path_qs, dict(request.headers), body))
        if request.path == "/prompt" and request.method == "POST":
            self.posted += 1
            asked = json.loads(body)
            if self.dead:
                self.waiting.append(asked["prompt_id"])
                return web.json_response({"prompt_id": asked["prompt_id"], "number": self.posted, "node_errors": {}})
            if self.spoil:
                self.spoil(asked["prompt"])
                body = json.dumps(asked).encode()
        if request.path == "/queue" and self.dead:
            if request.method == "POST":
                gone = json.loads(body).get("delete", [])
                self.waiting = [i for i in self.waiting if i not in gone]
                return web.Response()
            return web.json_response({"queue_running": [],
                                      "queue_pending": [[n, i, {}, {}, []] for n, i in enumerate(self.waiting)]})
        headers = {k: v for k, v in request.headers.items() if k.lower() in ("content-type", "accept")}
        async with self.http.request(request.method, self.upstream + request.path_qs, data=body or None,
                                     headers=headers, allow_redirects=False) as r:
            keep = {k: v for k, v in r.headers.items() if k.lower() in ("content-type", "content-disposition", "etag")}
            body = await r.read()
            if self.answer and request.method == "GET" and r.content_type == "application/json":
                parsed = json.loads(body)
                self.answer(request.path, parsed)
                body = json.dumps(parsed).encode()
            return web.Response(status=r.status, body=body, headers=keep)

    async def _socket(self, request):
        down = web.WebSocketResponse(max_msg_size=0)
        await down.prepare(request)
        self.sockets.add(down)
        try:
            async with self.http.ws_connect(self.upstream + request.path_qs, max_msg_size=0) as up:
                there, back = (asyncio.ensure_future(c) for c in (self._pump(down, up, False),
                                                                  self._pump(up, down, True)))
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        finally:
            self.sockets.discard(down)
            await down.close()
        return down

    async def _pump(self, source, to, events):
        async for m in source:
            if events and self.mute and not (m.type == aiohttp.WSMsgType.TEXT and '"sid"' in m.data):
                continue
            if m.type == aiohttp.WSMsgType.TEXT:
                await to.send_str(m.data)
            elif m.type == aiohttp.WSMsgType.BINARY:
                await to.send_bytes(m.data)
