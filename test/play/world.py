"""What a scenario plays with besides its servers: the tape of all that was said, the gateway, clients."""
import asyncio
import itertools
import json
import os
import pathlib
import signal
import tempfile
import time
import uuid

import aiohttp

import targets
from process import Announced

SECONDS = float(os.environ.get("PLAY_SECONDS", 60))  # the most that any one condition is waited for


class Unmet(Exception):
    """A condition did not come true, or cannot any more."""


async def until(what, cond, seconds=None):
    """Waits for cond() (may be a coroutine) to be truthy; what: text, or a function that tells what is there now."""
    deadline = time.monotonic() + (seconds or SECONDS)
    while True:
        got = cond()
        if asyncio.iscoroutine(got):
            got = await got
        if got:
            return got
        if time.monotonic() > deadline:
            raise Unmet("waited %g s for %s" % (seconds or SECONDS, what() if callable(what) else what))
        await asyncio.sleep(0.01)


class Tape:
    def __init__(self):
        self.began = time.monotonic()
        self.lines = []

    def note(self, who, text):
        self.lines.append("%8.3f  %-8s %s" % (time.monotonic() - self.began, who, text))

    def text(self, last=400):
        cut = ["          ... %d earlier lines" % (len(self.lines) - last)] if len(self.lines) > last else []
        return "\n".join(cut + self.lines[-last:])


def to_yaml(pairs, servers):
    """timeout.lost=2s ... as a configuration file."""
    tree = {}
    for key, value in pairs.items():
        section, _, name = key.rpartition(".")
        tree.setdefault(section, []).append("%s: %s" % (name, value))
    lines = tree.pop("", []) + ["%s: {%s}" % (s, ", ".join(v)) for s, v in tree.items()]
    return "\n".join(lines + ["servers: " + json.dumps(servers)]) + "\n"


class Gateway:
    """The real program, with a data folder of its own."""

    numbers = itertools.count()
    DEFAULTS = {"timeout.connect": "1s", "timeout.lost": "8s", "timeout.stall": "12s", "timeout.history": "2s",
                "timeout.output": "3s", "retry.max_attempts": 2}

    def __init__(self, tape, config, ready="/readyz"):
        self.tape, self.config, self.ready = tape, {**self.DEFAULTS, **config}, ready
        self.folder = tempfile.TemporaryDirectory(prefix="play-")
        self.data = pathlib.Path(self.folder.name) / "data"
        self.file = pathlib.Path(self.folder.name) / "comfymux.yaml"
        self.process = None
        self.http = None
        self.log_at = 0

    @property
    def url(self):
        return self.process.url

    async def start(self, peers=()):
        servers = [{"name": p.name, "url": p.url} for p in peers]
        self.file.write_text(to_yaml(self.config, servers))
        if self.process is None:
            program = targets.comfymux("serve")
            log = targets.LOGS / ("play-%d-%d.log" % (os.getpid(), next(self.numbers)))
            log.unlink(missing_ok=True)
            self.process = Announced("comfymux serve", [program, "serve", "-c", self.file, "--listen", "127.0.0.1:0",
                                                        "--data", self.data], log,
                                     ready_path=self.ready)
            targets.started.append(self.process)
        self.process.start()
        await asyncio.to_thread(self.process.wait_ready)
        if self.http is None:
            self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=SECONDS))
        self.tape.note("gateway", "listens on %s" % self.url)

        async def loaded():
            return (await self.ask("GET", "/mux/v1/jobs"))[0] == 200

        await until("the gateway to have read its jobs", loaded)

    def kill(self):
        self.tape.note("gateway", "-- killed")
        self.process.kill()

    async def stop(self, sig=signal.SIGTERM):
        """Its exit status; a sanitizer's finding shows there."""
        if self.process is None or not self.process.running():
            return None
        self.tape.note("gateway", "-- stopped")
        return await asyncio.to_thread(self.process.stop, sig)

    async def close(self):
        try:
            if self.http:
                await self.http.close()
            status = await self.stop()
            if status not in (None, 0):
                raise Unmet("the gateway ended with status %s:\n%s" % (status, self.process.tail(80)))
        finally:
            self.folder.cleanup()

    async def ask(self, method, path, body=None, data=None, headers=None):
        """(status, parsed body or text)"""
        async with self.http.request(method, self.url + path, json=body, data=data, headers=headers) as r:
            text = await r.text(errors="replace")
        try:
            return r.status, json.loads(text)
        except ValueError:
            return r.status, text

    async def record(self, job):
        status, body = await self.ask("GET", "/mux/v1/jobs/" + job)
        if status != 200:
            raise Unmet("GET /mux/v1/jobs/%s says %d: %s" % (job, status, body))
        return body

    def log_lines(self):
        return self.process.log.read_text(errors="replace").splitlines() if self.process else []

    def has_logged(self, job, pairs):
        want = ["job=" + job] + pairs
        return [x for x in self.log_lines() if all(w in x for w in want)]

    async def cli(self, *args, cwd=None):
        """comfymux ...: (exit status, stdout, stderr)"""
        p = await asyncio.create_subprocess_exec(
            targets.binary(), *[str(a) for a in args], "--url", self.url, cwd=cwd or self.folder.name,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        try:
            out, err = await asyncio.wait_for(p.communicate(), SECONDS)
        except asyncio.TimeoutError:
            p.kill()
            raise Unmet("comfymux %s did not end" % " ".join(map(str, args)))
        self.tape.note("cli", "comfymux %s: status %d %s%s" % (" ".join(map(str, args)), p.returncode,
                                                              out.decode()[:300], err.decode()[:300]))
        return p.returncode, out.decode(errors="replace"), err.decode(errors="replace")


class Client:
    """A page: one client id, its socket, its last job."""

    TERMINAL = ("execution_success", "execution_error", "execution_interrupted")

    def __init__(self, name, gateway, tape):
        self.name, self.gateway, self.tape = name, gateway, tape
        self.id = str(uuid.uuid4())
        self.ws = self.reader = self.job = None
        self.events, self.seen = [], 0  # [kind, data]; how many `expect` has passed
        self.since = 0  # those before came over an earlier socket
        self.viewing = None
        self.viewed = b""
        self.view_end = None  # status, or the exception that ended it
        self.running = None  # `comfymux run`

    def note(self, text):
        self.tape.note(self.name, text)

    async def connect(self, flags=None):
        """flags: what it negotiates; None: nothing, as a script does."""
        self.since = len(self.events)
        self.texts_name_prompts = bool((flags or {}).get("supports_progress_text_metadata"))
        self.ws = await self.gateway.http.ws_connect(
            self.gateway.url.replace("http", "ws", 1) + "/ws?clientId=" + self.id, max_msg_size=1 << 27)
        self.reader = asyncio.create_task(self.read(self.ws))
        if flags is not None:
            await self.ws.send_json({"type": "feature_flags", "data": flags})

    async def read(self, ws):
        async for m in ws:
            if m.type == aiohttp.WSMsgType.TEXT:
                e = json.loads(m.data)
                self.events.append((e["type"], e.get("data") or {}))
                if e["type"] != "status":
                    self.note("<socket %s %s" % (e["type"], json.dumps(e.get("data"))[:200]))
            elif m.type == aiohttp.WSMsgType.BINARY:
                if m.data[:4] == b"\0\0\0\3":
                    self.events.append(("text", self.text_frame(m.data[4:])))
                else:
                    self.events.append(("binary", m.data))
                self.note("<socket %d bytes" % len(m.data))
        self.note("<socket closed %s" % ws.close_code)

    def text_frame(self, data):
        """A type 3 frame, as this client has asked for it."""

        def take():
            nonlocal data
            n = int.from_bytes(data[:4], "big")
            taken, data = data[4:4 + n].decode(), data[4 + n:]
            return taken

        event = {"prompt_id": take()} if self.texts_name_prompts else {}
        return dict(event, node=take(), text=data.decode())

    async def disconnect(self):
        if self.ws:
            await self.ws.close()
            self.reader.cancel()
            self.ws = None

    async def close(self):
        if self.viewing:
            self.viewing.cancel()
        if self.running:
            self.running.cancel()
        await self.disconnect()

    def of_job(self, kind=None, since=0):
        return [(k, d) for k, d in self.events[since:] if isinstance(d, dict) and d.get("prompt_id") == self.job and
                kind in (None, k)]

    async def submit(self, graph, **fields):
        body = {"prompt": graph, "client_id": self.id, **fields}
        status, answer = await self.gateway.ask("POST", "/prompt", body)
        self.note("submits %s: %d %s" % (json.dumps(body)[:200], status, json.dumps(answer)[:300]))
        if status == 200:
            self.job = answer["prompt_id"]
        return status, answer

    async def run_cli(self, graph):
        path = pathlib.Path(self.gateway.folder.name) / ("%s.json" % self.name)
        path.write_text(json.dumps(graph))
        before = {j["id"] for j in (await self.gateway.ask("GET", "/mux/v1/jobs"))[1]["jobs"]}
        self.running = asyncio.create_task(self.gateway.cli("run", path, "-o", self.gateway.folder.name))

        async def new():
            jobs = (await self.gateway.ask("GET", "/mux/v1/jobs"))[1]["jobs"]
            return [j["id"] for j in jobs if j["id"] not in before] or (self.running.done() and ["-"])

        self.job = (await until("comfymux run to submit", new))[0]
        if self.job == "-":
            raise Unmet("comfymux run submitted nothing: %s" % (self.running.result(),))

    async def view(self, image):
        """Reads the file in the background: viewed grows, view_end comes at its end."""
        query = {k: image[k] for k in ("filename", "subfolder", "type")}
        self.viewed, self.view_end = b"", None

        async def go():
            try:
                async with self.gateway.http.get(self.gateway.url + "/view", params=query) as r:
                    async for data in r.content.iter_any():
                        self.viewed += data
                self.view_end = r.status
            except (aiohttp.ClientError, asyncio.TimeoutError) as e:
                self.view_end = "%s: %s" % (type(e).__name__, e)
            self.note("view of %s ended: %s, %d bytes" % (image["filename"], self.view_end, len(self.viewed)))

        self.viewing = asyncio.create_task(go())

