"""A small ComfyUI client on aiohttp, as scripts in the wild are: connect, submit, wait, fetch."""
import asyncio
import contextlib
import json
import time
import uuid

import aiohttp

SECONDS = 60  # a safety net for each wait
ENDED = ("succeeded", "failed", "canceled", "expired")


class Socket:
    """A WebSocket of a client. texts: parsed JSON messages in order; binaries: (messages so far, bytes)."""

    def __init__(self, ws):
        self.ws = ws
        self.texts = []
        self.binaries = []

    async def receive(self):
        """The next message: a parsed text or bytes."""
        m = await asyncio.wait_for(self.ws.receive(), SECONDS)
        if m.type == aiohttp.WSMsgType.TEXT:
            self.texts.append(json.loads(m.data))
            return self.texts[-1]
        if m.type == aiohttp.WSMsgType.BINARY:
            self.binaries.append((len(self.texts), m.data))
            return m.data
        raise ConnectionError("socket ended: %s %s" % (m.type, m.data))

    async def until(self, kind, **data):
        """Read on to a text message of this type whose data holds these values; returns its data."""
        while True:
            m = await self.receive()
            if isinstance(m, dict) and m["type"] == kind:
                if all(m["data"].get(k) == v for k, v in data.items()):
                    return m["data"]

    async def until_done(self, prompt_id):
        """What ComfyUI's own example scripts wait for: executing with node null for our prompt; it may have come
        before, while another one was awaited."""
        if not any(e["node"] is None for e in self.of(prompt_id, "executing")):
            await self.until("executing", node=None, prompt_id=prompt_id)

    def of(self, prompt_id, kind=None):
        """Data of the messages of one prompt, in order."""
        return [m["data"] for m in self.texts
                if m.get("data", {}).get("prompt_id") == prompt_id and (kind is None or m["type"] == kind)]

    def types(self, prompt_id):
        return [m["type"] for m in self.texts if m.get("data", {}).get("prompt_id") == prompt_id]


class Client:
    """window: sent as X-Comfymux-Window with every request."""

    def __init__(self, url, client_id=None, window=None):
        self.url = url
        self.client_id = client_id or str(uuid.uuid4())
        self.headers = {"X-Comfymux-Window": window} if window else {}

    async def __aenter__(self):
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), headers=self.headers)
        return self

    async def __aexit__(self, *exc):
        await self.http.close()

    @contextlib.asynccontextmanager
    async def socket(self, flags=None):
        """Connected, with the first status message read; flags: sent as feature_flags first."""
        url = self.url.replace("http", "ws", 1) + "/ws?clientId=" + self.client_id
        async with self.http.ws_connect(url, max_msg_size=64 << 20) as ws:
            s = Socket(ws)
            if flags is not None:
                await ws.send_str(json.dumps({"type": "feature_flags", "data": flags}))
            await s.until("status", sid=self.client_id)
            yield s

    async def fetch(self, path):
        """(status, bytes)"""
        async with self.http.get(self.url + path) as r:
            return r.status, await r.read()

    async def get(self, path, **query):
        async with self.http.get(self.url + path, params=query) as r:
            r.raise_for_status()
            return await r.json()

    async def post(self, path, body):
        """(status, parsed body or None)"""
        async with self.http.post(self.url + path, json=body) as r:
            text = await r.text()
            return r.status, json.loads(text) if text else None

    async def submit(self, graph, **fields):
        """The id of an accepted prompt."""
        status, body = await self.post("/prompt", {"prompt": graph, "client_id": self.client_id, **fields})
        assert status == 200, (status, body)
        return body["prompt_id"]

    async def history(self, prompt_id):
        """The entry, or None."""
        return (await self.get("/history/" + prompt_id)).get(prompt_id)

    async def record(self, job_id):
        """comfymux: the job's record."""
        return await self.get("/mux/v1/jobs/" + job_id)

    async def until_state(self, job_id, *states, seconds=SECONDS):
        """comfymux: polls until the job is in one of these states (default: has ended); its record."""
        states = states or ENDED
        deadline = time.monotonic() + seconds
        while True:
            record = await self.record(job_id)
            if record["state"] in states:
                return record
            assert record["state"] not in ENDED, record
            assert time.monotonic() < deadline, record
            await asyncio.sleep(0.01)

    async def servers(self):
        """comfymux: name -> server"""
        return {s["name"]: s for s in (await self.get("/mux/v1/servers"))["servers"]}

    async def until_server(self, name, state):
        deadline = time.monotonic() + SECONDS
        while (await self.servers())[name]["state"] != state:
            assert time.monotonic() < deadline, await self.servers()
            await asyncio.sleep(0.02)

    async def until_all_up(self):
        for name in await self.servers():
            await self.until_server(name, "up")

    async def try_view(self, image):
        """(status, bytes) of one entry of an output list."""
        query = {k: image[k] for k in ("filename", "subfolder", "type")}
        async with self.http.get(self.url + "/view", params=query) as r:
            return r.status, await r.read()

    async def view(self, image):
        """Bytes of one entry of an output list."""
        status, data = await self.try_view(image)
        assert status == 200, (status, image)
        return data

    async def upload(self, name, data, content_type="image/png", **fields):
        form = aiohttp.FormData(fields)
        form.add_field("image", data, filename=name, content_type=content_type)
        async with self.http.post(self.url + "/upload/image", data=form) as r:
            r.raise_for_status()
            return await r.json()


def images(entry):
    """All file entries in a history entry's outputs."""
    return [i for out in entry["outputs"].values() for i in out.get("images", [])]
