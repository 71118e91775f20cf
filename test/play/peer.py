"""A scripted ComfyUI server: well-behaved by itself, and wrong exactly where a scenario says so.

It keeps an account as a real server does (queue, history, files, sockets) and answers from it. A scenario changes what
happens to single requests (rules), stops a prompt at named points (gates), and takes the whole server away. Everything is
written by hand on top of asyncio streams, because the point is every byte and every moment."""
import asyncio
import base64
import fnmatch
import hashlib
import json
import socket
import struct
import urllib.parse
import zlib

GATES = ("start", "work", "made", "end")  # where a prompt can be stopped, in order
REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error",
           502: "Bad Gateway", 503: "Service Unavailable"}
ERRORS = {
    "error": ("ValueError", "the sampler saw a negative size"),
    "oom": ("torch.OutOfMemoryError", "Allocation on device would exceed allowed memory."),
    "cuda": ("RuntimeError", "CUDA error: an illegal memory access was encountered"),
}


def picture(seed, size=96):
    """A PNG that differs for each seed and does not compress."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    noise = b"".join(hashlib.sha256(("%s %d" % (seed, i)).encode()).digest() for i in range(size * size * 3 // 32 + 1))
    rows = b"".join(b"\0" + noise[y * size * 3:(y + 1) * size * 3] for y in range(size))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Gone(Exception):
    """This connection is over."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method = method
        self.path, _, query = target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        self.headers = headers
        self.body = body
        self.taken = False  # by an `expect`

    def __str__(self):
        return "%s %s" % (self.method, self.path)

    def json(self):
        return json.loads(self.body or b"null")

    def matches(self, method, pattern):
        return method in ("*", self.method) and fnmatch.fnmatchcase(self.path, pattern)


class Rule:
    """What happens to requests that match, in place of or on top of the usual answer."""

    ACTIONS = ("answer", "drop", "lose", "late", "hang", "wait", "hold-body", "truncate", "unsized", "change")

    def __init__(self, method, pattern, action, args, times=None):
        assert action in self.ACTIONS
        self.method, self.pattern, self.action, self.args, self.times = method, pattern, action, args, times
        self.released = asyncio.Event()


class Prompt:
    def __init__(self, pid, number, graph, extra, client_id):
        self.id, self.number, self.graph, self.extra, self.client_id = pid, number, graph, extra, client_id
        self.interrupted = False
        self.at = None  # the gate it has come to last
        self.messages = []

    def item(self):
        return [self.number, self.id, self.graph, self.extra, list(self.graph)]


class Socket:
    def __init__(self, sid, writer):
        self.sid, self.writer = sid, writer

    def frame(self, opcode, data):
        n = len(data)
        head = bytes([0x80 | opcode]) + (bytes([n]) if n < 126 else struct.pack(">BH", 126, n) if n < 65536
                                         else struct.pack(">BQ", 127, n))
        if not self.writer.is_closing():
            self.writer.write(head + data)


class Peer:
    def __init__(self, name, tape, nodes=("Make",), paid=()):
        self.name, self.tape = name, tape
        self.nodes, self.paid = list(nodes), list(paid)
        self.port = None
        self.listener = self.place = None
        self.connections = set()  # writers
        self.tasks = set()
        self.rules, self.held, self.requests, self.given = [], set(), [], []
        self.frozen = self.mute = self.ws_refused = self.stubborn = False
        self.makes, self.fails = "image", None
        self.thawed = asyncio.Event()
        self.news = asyncio.Event()
        self.lives = 0
        self.forget()

    def note(self, text):
        self.tape.note(self.name, text)

    # ---- the process ----

    def forget(self):
        """What does not survive a restart."""
        self.pending, self.running, self.history, self.files, self.count = [], None, {}, {}, 0
        self.sockets = []
        self.wake = asyncio.Event()
        self.worker = None

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    async def listen(self):
        if self.place:
            self.place.close()
            self.place = None
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", self.port or 0, limit=1 << 26)
        self.port = self.listener.sockets[0].getsockname()[1]
        if self.worker is None:
            self.worker = asyncio.create_task(self.work())

    def unplug(self):
        """Refuses connections and resets those it has; what it is doing goes on."""
        if self.listener:
            self.listener.close()
            self.listener = None
            self.place = socket.socket()  # refuses, and nobody else gets the port
            self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.place.bind(("127.0.0.1", self.port))
        for w in list(self.connections):
            self.reset(w)
        self.sockets.clear()

    def die(self):
        self.unplug()
        if self.worker:
            self.worker.cancel()
        self.lives += 1
        self.forget()

    async def close(self):
        self.die()
        if self.place:
            self.place.close()
        for t in list(self.tasks):
            t.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @staticmethod
    def reset(writer):
        sock = writer.get_extra_info("socket")
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        writer.transport.abort()

    # ---- one prompt after the other ----

    async def work(self):
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.pending:
                p = self.running = self.pending.pop(0)
                self.status()
                try:
                    await self.run(p)
                finally:
                    if self.running is p:
                        self.running = None
                self.tell(p, "executing", node=None, display_node=None, keep=False)
                self.status()

    def stir(self):
        """Something that somebody may wait for has changed."""
        self.news.set()
        self.news = asyncio.Event()

    async def gate(self, p, name):
        """Stops here while the gate is held. True: it was interrupted there."""
        p.at = name
        self.stir()
        while name in self.held and (self.stubborn or not p.interrupted):
            await self.news.wait()
        return p.interrupted and not self.stubborn and name != "end"

    async def run(self, p):
        node = next(iter(p.graph))
        kind = p.graph[node]["class_type"]
        outputs = {}
        stop = await self.gate(p, "start")
        self.tell(p, "execution_start")
        self.tell(p, "execution_cached", nodes=[])
        self.tell(p, "executing", node=node, display_node=node, keep=False)
        self.tell(p, "progress", node=node, value=1, max=2, keep=False)
        stop = stop or await self.gate(p, "work")
        fails = "interrupted" if stop else self.fails
        if fails == "hang":
            await asyncio.Event().wait()
        if fails is None:
            self.tell(p, "progress", node=node, value=2, max=2, keep=False)
            output = self.make(p, node)
            if output is not None:
                outputs[node] = output
                self.tell(p, "executed", node=node, display_node=node, output=output, keep=False)
            if await self.gate(p, "made"):
                fails = "interrupted"
        if fails == "interrupted":
            self.tell(p, "execution_interrupted", node_id=node, node_type=kind, executed=[])
        elif fails:
            etype, message = ERRORS[fails]
            self.tell(p, "execution_error", node_id=node, node_type=kind, executed=[], exception_type=etype,
                      exception_message=message, traceback=["  File play.py\n"], current_inputs={}, current_outputs=[])
        else:
            self.tell(p, "execution_success")
        await self.gate(p, "end")
        ok = fails is None
        self.history[p.id] = {
            "prompt": p.item(), "outputs": outputs, "meta": {},
            "status": {"status_str": "success" if ok else "error", "completed": ok, "messages": p.messages}}

    def make(self, p, node):
        """The outputs of the one node, as `makes` says; files are kept."""
        def new(suffix, data):
            self.count += 1
            name = "play_%05d_%s" % (self.count, suffix)
            self.files[("output", "", name)] = data
            return {"filename": name, "subfolder": "", "type": "output"}

        seed = "%s %s %d" % (self.name, p.id, self.lives)
        if self.makes == "socket-image":
            self.binary(p, struct.pack(">II", 1, 2) + picture(seed))
            return {}
        return {"image": lambda: {"images": [new(".png", picture(seed))]},
                "big": lambda: {"images": [new(".png", picture(seed) + bytes(16 << 20))]},
                "images": lambda: {"images": [new(".png", picture(seed + str(i))) for i in range(3)]},
                "text": lambda: {"text": ["it is " + seed]},
                "odd": lambda: {"images": [{"name": "play.png", "where": "somewhere"}]},
                "lost": lambda: {"images": [{"filename": "never.png", "subfolder": "", "type": "output"}]},
                "nothing": lambda: None}[self.makes]()

    # ---- telling ----

    def tell(self, p, kind, keep=True, **data):
        data = {"prompt_id": p.id, **data}
        if keep:
            p.messages.append([kind, {**data, "timestamp": 1700000000000}])
        self.send(p.client_id, kind, data)

    def send(self, sid, kind, data):
        for s in list(self.sockets):
            if not self.mute and not self.frozen and sid in (None, s.sid):
                self.note("socket> %s %s" % (kind, json.dumps(data)[:160]))
                s.frame(1, json.dumps({"type": kind, "data": data}).encode())

    def binary(self, p, data):
        for s in list(self.sockets):
            if not self.mute and not self.frozen and s.sid == p.client_id:
                self.note("socket> %d bytes" % len(data))
                s.frame(2, data)

    def raw(self, opcode, data):
        for s in list(self.sockets):
            self.note("socket> opcode %d %r" % (opcode, data[:60]))
            s.frame(opcode, data)

    def status(self):
        n = len(self.pending) + (self.running is not None)
        self.send(None, "status", {"status": {"exec_info": {"queue_remaining": n}}})

    # ---- connections ----

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.connections.add(writer)
        try:
            while True:
                req = await self.read(reader)
                if req is None:
                    break
                self.note("<- %s%s" % (req, " " + req.body[:200].decode(errors="replace") if req.body and
                                        req.headers.get("content-type", "").startswith("application/json") else ""))
                self.requests.append(req)
                if self.frozen:
                    await self.thawed.wait()
                await self.answer(req, reader, writer)
        except (Gone, OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            self.connections.discard(writer)
            self.sockets = [s for s in self.sockets if s.writer is not writer]
            writer.close()

    async def read(self, reader):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        method, target, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        return Request(method, target, headers, body)

    def rule_for(self, req):
        for r in reversed(self.rules):
            if req.matches(r.method, r.pattern) and r.times != 0:
                if r.times is not None:
                    r.times -= 1
                return r
        return None

    async def answer(self, req, reader, writer):
        rule, life = self.rule_for(req), self.lives
        while rule and rule.action == "wait":
            self.note("-- %s waits" % req)
            await rule.released.wait()
            if life != self.lives:
                raise Gone
            if self.frozen:
                await self.thawed.wait()
            rule = self.rule_for(req)
        action = rule.action if rule else None
        if action == "drop":
            self.note("-- closes without taking %s" % req)
            self.reset(writer)
            raise Gone
        if action == "late":
            self.note("-- the connection of %s ends, and it is taken later" % req)
            self.reset(writer)
            await rule.released.wait()
            self.usual(req)
            raise Gone
        if action == "hang":
            self.note("-- leaves %s unanswered" % req)
            await rule.released.wait()
        if req.path in ("/ws", "/api/ws"):
            await self.websocket(req, reader, writer)
            raise Gone
        if action == "answer":
            status, body, kind = self.scripted(req, *rule.args)
        else:
            status, body, kind = self.usual(req)
        if action == "lose":
            self.note("-- took %s, its answer is lost" % req)
            self.reset(writer)
            raise Gone
        if action == "change" and body:
            body = picture("changed %d" % len(self.requests))
        await self.put(req, writer, status, body, kind, action, rule)

    async def put(self, req, writer, status, body, kind, action, rule):
        head = "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n" % (status, REASONS.get(status, "Status"), kind)
        head += "Connection: close\r\n" if action == "unsized" else "Content-Length: %d\r\n" % len(body)
        half = len(body) // 2
        short = action in ("truncate", "hold-body")
        self.note("-> %d for %s, %d bytes%s" % (status, req, len(body), " " + action if action else ""))
        writer.write(head.encode() + b"\r\n" + (body[:half] if short else body))
        await writer.drain()
        if action == "hold-body":
            await rule.released.wait()
            writer.write(body[half:])
            await writer.drain()
        if req.path == "/view" and status == 200 and action != "truncate":
            self.given.append(body)
        if action in ("truncate", "unsized"):
            writer.close()
            raise Gone

    def scripted(self, req, status, body=""):
        pid = req.path.rsplit("/", 1)[-1]
        if req.method == "POST" and req.path == "/prompt":
            pid = req.json().get("prompt_id", "")
        kind = "text/plain" if isinstance(body, str) else "application/json"
        text = body if isinstance(body, str) else json.dumps(body)
        return int(status), text.replace("$id", pid).encode(), kind

    async def websocket(self, req, reader, writer):
        if self.ws_refused:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        key = req.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        writer.write(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: %s\r\n\r\n" % accept).encode())
        s = Socket(req.query.get("clientId", ""), writer)
        self.sockets.append(s)
        n = len(self.pending) + (self.running is not None)
        self.send(s.sid, "status", {"status": {"exec_info": {"queue_remaining": n}}, "sid": s.sid})
        if self.running:  # as a real server: where the prompt is that this client may ask about
            self.send(s.sid, "executing", {"node": next(iter(self.running.graph)), "prompt_id": self.running.id})
        while True:
            b0, b1 = await reader.readexactly(2)
            n = b1 & 127
            if n > 125:
                n = int.from_bytes(await reader.readexactly(2 if n == 126 else 8), "big")
            mask = await reader.readexactly(4)
            data = bytes(c ^ mask[i % 4] for i, c in enumerate(await reader.readexactly(n)))
            if b0 & 15 == 9 and not self.frozen:
                s.frame(10, data)
            elif b0 & 15 == 8:
                s.frame(8, data)
                raise Gone

    # ---- the usual answers ----

    def usual(self, req):
        handler = getattr(self, "%s_%s" % (req.method.lower(), req.path.strip("/").split("/")[0] or "root"), None)
        if handler is None:
            return 404, b"", "text/plain"
        result = handler(req)
        if len(result) == 2:
            status, body = result
            return status, (b"" if body is None else json.dumps(body).encode()), "application/json; charset=utf-8"
        return result

    def get_prompt(self, req):
        return 200, {"exec_info": {"queue_remaining": len(self.pending) + (self.running is not None)}}

    def post_prompt(self, req):
        b = req.json()
        extra = {**b.get("extra_data", {}), "client_id": b.get("client_id")}
        p = Prompt(b["prompt_id"], len(self.requests), b["prompt"], extra, b.get("client_id"))
        self.pending.append(p)
        self.wake.set()
        self.status()
        return 200, {"prompt_id": p.id, "number": p.number, "node_errors": {}}

    def get_queue(self, req):
        return 200, {"queue_running": [self.running.item()] if self.running else [],
                     "queue_pending": [p.item() for p in self.pending]}

    def post_queue(self, req):
        b = req.json()
        self.pending = [p for p in self.pending if not b.get("clear") and p.id not in b.get("delete", [])]
        self.status()
        return 200, None

    def get_history(self, req):
        parts = req.path.strip("/").split("/")
        if len(parts) == 1:
            return 200, self.history
        return 200, {k: v for k, v in self.history.items() if k == parts[1]}

    def post_interrupt(self, req):
        wanted = (req.json() or {}).get("prompt_id")
        if self.running and wanted in (None, self.running.id):
            self.running.interrupted = True
            self.stir()
        return 200, None

    def get_view(self, req):
        q = req.query
        data = self.files.get((q.get("type", "output"), q.get("subfolder", ""), q.get("filename")))
        if data is None:
            return 404, b"", "text/plain"
        return 200, data, "image/png"

    def post_upload(self, req):
        name = req.body.split(b'filename="', 1)[1].split(b'"', 1)[0].decode()
        return 200, {"name": name, "subfolder": "", "type": "input"}

    def get_object_info(self, req):
        seed = ["INT", {"default": 0, "min": 0, "max": (1 << 64) - 1}]
        return 200, {n: {"input": {"required": {"seed": seed}}, "input_order": {"required": ["seed"]}, "output": [],
                         "output_is_list": [], "output_name": [], "name": n, "display_name": n, "description": "",
                         "python_module": "custom_nodes.play", "category": "play", "output_node": True,
                         "api_node": n in self.paid} for n in self.nodes + self.paid}

    def get_system_stats(self, req):
        return 200, {"system": {"os": "posix", "comfyui_version": "0.3.75", "python_version": "3", "argv": []},
                     "devices": []}

    def get_features(self, req):
        return 200, {"supports_preview_metadata": True, "max_upload_size": 104857600}

    def get_extensions(self, req):
        return 200, []
