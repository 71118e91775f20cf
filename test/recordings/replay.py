"""Do a recorded session again against a server and tell every difference.

    build/venv/bin/python test/recordings/replay.py --url http://127.0.0.1:8188 a1_plain_success d2_interrupt

The client of a recording waited by time or for a frame; the replay waits for what the recording had seen by then:
before each action, every frame that had come must have come (and every answer that was there must be there).
Deadlines are safety nets. Silences in which the recording's client waited for nothing are kept as they were."""
import argparse
import asyncio
import base64
import collections
import difflib
import hashlib
import itertools
import json
import os
import pathlib
import re
import sys
import time
import urllib.parse

import aiohttp
import yarl

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test" / "lib"))

import allowed  # noqa: E402
import compare  # noqa: E402
from comfy_client import Client  # noqa: E402
from compare import ABSENT, Difference  # noqa: E402
from session import BEFORE_0_3_75, SERVER, begins, kept_bodies, response_bytes, series  # noqa: E402

FRAME_SECONDS = 10  # for a frame that the recording had; after one that never came, 1 s
LATE_SECONDS = 3  # for an answer to become what was recorded, after a silence
ANSWER_SECONDS = 60

# How many times as long as recorded a step of the test node SlowProgress lasts: recordings look at what runs while
# it runs, in steps of 40 ms and more, and a busy machine must see the same. Silences are as much longer.
STRETCH = 3
STRETCH_OF = {"i1_burst_of_ten": 8}  # ten prompts are submitted while the first one runs


def folder():
    """Where the recordings are, or None."""
    shared = pathlib.Path(os.environ.get("COMFYMUX_SHARED") or ROOT.parent / "shared")
    path = shared / "recordings"
    return path if path.is_dir() else None


class Report:
    """What came of one session. Each exchange and each recorded frame is equal, allowed or different."""

    def __init__(self, target, session):
        self.target = target
        self.session = session
        self.exchanges = collections.Counter()
        self.frames = collections.Counter()
        self.different = []  # Difference
        self.allowed = collections.Counter()  # reason -> how often
        self.left_out = []  # what could not be sent again
        self.in_vain = []  # frames that were waited for and never came

    def why_allowed(self, difference):
        return allowed.reason(self.target, self.session.name, difference, self.session.version)

    def count(self, counter, found, weight=1):
        bad = []
        for d in found:
            why = self.why_allowed(d)
            if why:
                self.allowed[why] += 1
            else:
                bad.append(d)
        counter["compared"] += weight
        counter["different" if bad else "allowed" if found else "equal"] += weight
        self.different += bad

    def line(self):
        def numbers(c):
            return "%d compared, %d equal, %d allowed, %d different" % (c["compared"], c["equal"], c["allowed"],
                                                                       c["different"])

        return "%-28s exchanges %s; frames %s" % (self.session.name, numbers(self.exchanges), numbers(self.frames))


class Socket:
    """One WebSocket: what the recording saw on it and what we see."""

    def __init__(self, name, server, recorded):
        self.name = name
        self.server = server
        self.recorded = recorded  # [(t, value)]
        self.got = []
        self.given_up = collections.Counter()
        self.closed = None  # code, once the server has closed it
        self.pong = asyncio.Event()
        self.news = asyncio.Event()
        self.ws = None
        self.task = None

    async def read(self):
        while True:
            m = await self.ws.receive()
            if m.type == aiohttp.WSMsgType.TEXT:
                self.got.append(compare.frame_value("text", m.data))
            elif m.type == aiohttp.WSMsgType.BINARY:
                self.got.append(compare.frame_value("binary", m.data))
            elif m.type == aiohttp.WSMsgType.PING:
                await self.ws.pong(m.data)
            elif m.type == aiohttp.WSMsgType.PONG:
                self.pong.set()
            else:
                self.closed = m.data if m.type == aiohttp.WSMsgType.CLOSE else 1006
                if m.type == aiohttp.WSMsgType.CLOSE:
                    await self.ws.close()
                self.news.set()
                self.pong.set()
                return
            self.news.set()

    def lacking(self, until):
        """What the recording had by then and we have not: Counter of signatures."""
        want = [v for t, v in self.recorded if t <= until]
        need = collections.Counter(signature(v) for v in want if not compare.is_status(v))
        need -= collections.Counter(signature(v) for v in self.got if not compare.is_status(v))
        return need - self.given_up

    def lacking_idle(self, until):
        """As lacking(), and an empty queue if that was the last status: for who waited for a job that told this
        socket nothing else. Other values of status come and go too fast to be waited for."""
        need = self.lacking(until)
        status = [compare.remaining(v) for t, v in self.recorded if t <= until and compare.is_status(v)]
        if status and status[-1] == 0:
            ours = [compare.remaining(v) for v in self.got if compare.is_status(v)]
            if not ours or ours[-1] != 0:
                need[("status", 0)] = 1
        return need - self.given_up

    async def settle(self):
        """Frames that the server has already written are read when its pong comes."""
        if self.closed is None:
            self.pong.clear()
            try:
                await self.ws.ping(b"settle")
                await asyncio.wait_for(self.pong.wait(), 5)
            except (asyncio.TimeoutError, ConnectionError):
                pass


def signature(v):
    """Which frame this is, without ids."""
    data = v.get("data") if isinstance(v.get("data"), dict) else {}
    return (compare.frame_type(v), str(data.get("node")), str(data.get("value")), str(v.get("text"))[:60])


def multipart(boundary, parts):
    """A form as the recording client wrote it; parts are (field, filename or None, content type, bytes)."""
    out = b""
    for field, filename, kind, data in parts:
        head = '--%s\r\nContent-Disposition: form-data; name="%s"' % (boundary, field)
        if filename is not None:
            head += '; filename="%s"\r\nContent-Type: %s' % (filename, kind)
        out += head.encode() + b"\r\n\r\n" + data + b"\r\n"
    return out + b"--%s--\r\n" % boundary.encode()


def is_submit(e):
    return e["kind"] == "http" and e["request"]["method"] == "POST" and e["request"]["path"].endswith("/prompt")


def host_of(url):
    return urllib.parse.urlsplit(url).netloc


class Replay:
    def __init__(self, session, urls, target):
        self.session = session
        self.urls = dict(zip(sorted(session.servers), urls))
        self.hosts = {session.servers[k]: host_of(u) for k, u in self.urls.items()}
        self.report = Report(target, session)
        self.stretch = STRETCH_OF.get(session.name, STRETCH)
        self.names = compare.Names(self.stretch, in_order=target == "gateway")
        self.sockets = {}  # open ones by the recording's name
        self.all_sockets = []
        self.pending = []  # (recorded end, task)
        self.bodies = kept_bodies(session.path.parent.parent)
        self.vain = False  # something never came: do not wait as long again

    # ---- what is sent ----

    def hosted(self, text):
        return SERVER.sub(lambda m: self.hosts.get(m.group(), next(iter(self.hosts.values()))), text)

    def target_text(self, text):
        self.names.client_chose(text)
        return self.hosted(self.names.graph_text(text))

    def query(self, text):
        """File names in a query become those of this run."""
        text = self.target_text(text)
        got = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
        key = compare.triple(got)
        file = self.names.files.get(key) or self.names.files.get((key[0], key[1], key[2] or "output"))
        if not file or file == key:
            return text
        got.update(filename=file[0], subfolder=file[1])
        return urllib.parse.urlencode(got)

    def body(self, request):
        """Bytes to send, None for none; ValueError when the recording does not hold them."""
        if "form" in request:
            return self.form(request)
        if "body_base64" in request:
            return base64.b64decode(request["body_base64"])
        if request.get("body_note"):
            return b"x" * request["length"]
        if request.get("body_omitted"):
            for guess in (b'{"prompt": ' + b"[" * 100000 + b"]" * 100000 + b"}",):
                if hashlib.sha256(guess).hexdigest() == request["sha256"]:
                    return guess
            raise ValueError("its body is not in the recording")
        if request.get("body") is None:
            if any(k.lower() == "content-length" and v != "0" for k, v in request.get("headers", [])):
                raise ValueError("its body is not in the recording")
            return None
        return self.target_text(request["body"]).encode("utf-8", "surrogatepass")

    def form(self, request):
        kind = dict((k.lower(), v) for k, v in request["headers"])["content-type"]
        out = multipart(kind.split("boundary=")[1],
                        [(f["name"], f.get("filename"), f.get("content_type"),
                          self.session.upload_bytes(f) if "filename" in f else f["value"].encode())
                         for f in request["form"]])
        if "length" in request and len(out) != request["length"]:
            raise ValueError("its form is written differently here (%d bytes, recorded %d)"
                             % (len(out), request["length"]))
        return out

    # ---- one exchange ----

    def where(self, e):
        note = " (%s)" % e["note"] if e.get("note") else ""
        query = "?" + e["request"]["query"] if e["request"].get("query") else ""
        return "HTTP %d %s %s%s%s" % (e["n"], e["request"]["method"], e["request"]["path"], query, note)

    async def send(self, e):
        """(status, reason, headers, body) or an exception's text."""
        r = e["request"]
        query = self.query(r.get("query", ""))
        url = self.urls[e["server"]] + self.target_text(r["path"]) + ("?" + query if query else "")
        data = self.body(r)
        headers = [(k, self.names.validators.get(v, self.hosted(v))) for k, v in r.get("headers", [])
                   if k.lower() != "content-length"]
        try:
            async with self.http.request(r["method"], yarl.URL(url, encoded=True), data=data, headers=headers,
                                         allow_redirects=False) as answer:
                body = await answer.read()
                raw = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in answer.raw_headers]
                return answer.status, answer.reason, raw, body
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as x:
            return "%s: %s" % (type(x).__name__, x)

    def learn_number(self, e, got):
        if is_submit(e):
            sent = compare.parse_json(e["request"].get("body") or "")
            r, g = compare.parse_json(e["response"].get("body") or ""), compare.parse_json(got)
            if isinstance(sent, dict) and isinstance(r, dict) and isinstance(g, dict) and "number" not in sent:
                if type(r.get("number")) is int and type(g.get("number")) is int:
                    self.names.numbers.setdefault(r["number"], g["number"])

    def differences(self, e, answer):
        where = self.where(e)
        if "response" not in e or isinstance(answer, str):
            recorded = e.get("error") or e["response"]["status"]
            if isinstance(answer, str) and "error" in e:
                return []
            return [Difference(where, "status", recorded, answer if isinstance(answer, str) else answer[0])]
        status, reason, headers, body = answer
        r = e["response"]
        found = []
        if (r["status"], r["reason"]) != (status, reason):
            found.append(("status", (r["status"], r["reason"]), (status, reason)))
        self.names.learn_headers(r["headers"], headers)
        found += compare.header_differences(r["headers"], headers, lambda v: self.hosted(self.names.header(v)))
        if "body" in r or "body_base64" in r:
            recorded = response_bytes(r if "body_base64" in r else dict(r, body=self.hosted(r["body"])))
            self.learn_number(e, body.decode("utf-8", "replace"))
            found += compare.body_differences(recorded, body, self.names)
        elif r.get("sha256") in self.bodies:
            found += compare.body_differences(self.bodies[r["sha256"]], body, self.names)
        elif "sha256" in r and hashlib.sha256(body).hexdigest() != r["sha256"]:
            found.append(("body (only its hash is recorded)", r["length"], len(body)))
        return [Difference(where, *f) for f in found]

    async def exchange(self, e, silence):
        """A GET that is different at first may be asked again: what it asks about may come a moment later."""
        patience = LATE_SECONDS if silence > 0.03 or "/history" in e["request"]["path"] else 0.3
        deadline = time.monotonic() + (1 if self.vain else patience)
        while True:
            self.names.speak_to(e["server"])
            answer = await self.send(e)
            self.names.speak_to(e["server"])
            found = self.differences(e, answer)
            bad = [d for d in found if not d.path.startswith("header")
                   and not self.report.why_allowed(d)]
            if not bad or e["request"]["method"] not in ("GET", "HEAD") or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        self.report.count(self.report.exchanges, found)

    # ---- sockets ----

    async def queue_becomes(self, server, count):
        """Who waited with no socket open waited for the queue: look there."""
        deadline = time.monotonic() + FRAME_SECONDS
        while time.monotonic() < deadline:
            async with self.http.get(self.urls[server] + "/prompt") as answer:
                if (await answer.json())["exec_info"]["queue_remaining"] == count:
                    return
            await asyncio.sleep(0.01)
        self.report.in_vain.append("a queue of %s before a socket opens" % count)

    async def open(self, e, silence):
        until = next((x["t"] for x in self.session.events if x["kind"] == "ws" and x["conn"] == e["conn"]
                      and x["dir"] == "open" and x["t"] > e["t"]), float("inf"))
        recorded = [(x["t"], compare.recorded_frame(x)) for x in self.session.frames
                    if x["conn"] == e["conn"] and e["t_sent"] <= x["t"] < until]
        s = Socket(e["conn"], e["server"], recorded)
        if silence > 0.03 and recorded and not self.sockets:
            await self.queue_becomes(e["server"], compare.remaining(recorded[0][1]))
        extensions = [v for k, v in e["response"]["headers"] if k.lower() == "sec-websocket-extensions"]
        url = self.urls[e["server"]].replace("http", "ws", 1) + self.target_text(e["path"])
        where = "WS %s open %s" % (e["conn"], e["path"])
        try:
            s.ws = await self.http.ws_connect(yarl.URL(url, encoded=True), autoping=False, autoclose=False,
                                              max_msg_size=0, compress=15 if extensions else 0)
        except aiohttp.ClientError as x:
            self.report.count(self.report.exchanges, [Difference(where, "status", 101, str(x))])
            return
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in s.ws._response.raw_headers]
        found = compare.header_differences(e["response"]["headers"], headers, self.hosted)
        self.report.count(self.report.exchanges, [Difference(where, *f) for f in found])
        s.task = asyncio.create_task(s.read())
        self.sockets[e["conn"]] = s
        self.all_sockets.append(s)

    async def close(self, e):
        s = self.sockets.pop(e["conn"], None)
        if s is None:
            return
        where = "WS %s close" % e["conn"]
        if e["type"] in ("CLOSING", "CLIENT_CLOSE"):
            await s.settle()
            found = [Difference(where, "closed by the server", "no", s.closed)] if s.closed is not None else []
            s.task.cancel()
            await s.ws.close()
        else:
            try:
                await asyncio.wait_for(asyncio.shield(s.task), FRAME_SECONDS)
            except asyncio.TimeoutError:
                pass
            found = [] if s.closed == e["code"] else [Difference(where, "code", e["code"], s.closed)]
        self.report.count(self.report.exchanges, found)

    async def frames_until(self, t, idle):
        deadline = time.monotonic() + (1 if self.vain else FRAME_SECONDS)
        for s in self.sockets.values():
            while lacking := (s.lacking_idle(t) if idle else s.lacking(t)):
                left = deadline - time.monotonic()
                if left <= 0 or s.closed is not None:
                    self.report.in_vain += ["WS %s at %.3f: %s" % (s.name, t, k) for k in lacking]
                    s.given_up += lacking
                    self.vain = True
                    break
                s.news.clear()
                try:
                    await asyncio.wait_for(s.news.wait(), left)
                except asyncio.TimeoutError:
                    pass

    # ---- raw connections ----

    async def raw(self, e):
        server = urllib.parse.urlsplit(self.urls[e["server"]])
        sent = self.hosted(e["sent"])
        if len(e["sent"]) != e["sent_length"]:
            self.report.left_out.append("raw (%s): its bytes are not in the recording" % e.get("note"))
            return
        recorded = raw_form(self.hosted(e["received"]))
        got, closed = b"", False
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        writer.write(sent.encode("latin-1"))
        deadline = time.monotonic() + (5 if e["server_closed"] else 2)
        while not closed and (left := deadline - time.monotonic()) > 0:
            if not e["server_closed"] and raw_form(got.decode("latin-1")) == recorded:
                break
            try:
                more = await asyncio.wait_for(reader.read(65536), left)
                closed = not more
                got += more
            except asyncio.TimeoutError:
                break
            except ConnectionError:
                closed = True
        writer.close()
        where = "RAW %s" % e.get("note")
        found = list(compare.differences(recorded, raw_form(got.decode("latin-1")), "received"))
        if closed != e["server_closed"]:
            found.append(("server closed", e["server_closed"], closed))
        self.report.count(self.report.exchanges, [Difference(where, *f) for f in found])

    # ---- the whole ----

    async def act(self, e):
        t = begins(e)
        silence = self.session.silence_before(e)
        for end, task in list(self.pending):
            # Prompts that were sent at once are sent one by one: which is first decides their numbers.
            if end <= t or is_submit(e):
                await task
        await self.frames_until(t, silence > 0.03)
        if silence > 0.03:
            await asyncio.sleep(min(self.session.pause_before(e) * self.stretch, 3))
        if e["kind"] == "http":
            try:
                self.body(e["request"])
            except ValueError as x:
                self.report.left_out.append("%s: %s" % (self.where(e), x))
                return
            self.pending.append((e["t"], asyncio.create_task(self.exchange(e, silence))))
        elif e["kind"] == "raw":
            await self.raw(e)
        elif e["dir"] == "open":
            await self.open(e, silence)
        elif e["dir"] == "out" and e["conn"] in self.sockets:
            await self.sockets[e["conn"]].ws.send_str(self.target_text(e["data"]))
        elif e["dir"] == "close":
            await self.close(e)

    def compare_frames(self, name, recorded, got):
        """status frames hold values read when they are sent, so they are compared apart from the others."""
        for r, g in pair_up(recorded, got):
            self.names.learn(r, g)
        for pick in (lambda v: not compare.is_status(v), compare.is_status):
            r = [compare.form(v, self.names) for v in recorded if pick(v)]
            g = [compare.form(v) for v in got if pick(v)]
            if compare.only_reordered(r, g):
                self.compare_part("WS " + name, list(enumerate(r)), g, True)
            else:
                self.compare_prompts("WS " + name, r, g)

    def compare_prompts(self, where, r, g):
        """Each prompt's frames, and whether the prompts take turns as recorded."""
        ours, theirs = compare.prompts_of(r), compare.prompts_of(g)
        both = set(ours) & set(theirs)
        turns = [[p for p, _ in itertools.groupby(p for p in many if p in both)] for many in (ours, theirs)]
        if turns[0] != turns[1]:
            self.report.count(self.report.frames, [Difference(where, "order of prompts", *turns)])
        for prompt in dict.fromkeys(ours + theirs):
            called = self.names.recorded(prompt, prompt if prompt in ours else "another prompt")
            mine = [(i, f) for i, (f, p) in enumerate(zip(r, ours)) if p == prompt]
            got = [f for f, p in zip(g, theirs) if p == prompt]
            self.compare_part("%s of %s" % (where, called), mine, got,
                              compare.only_reordered([f for _, f in mine], got))

    def compare_part(self, of, r, g, reordered):
        """r: pairs of place in the recording and frame."""
        rk, gk = [json.dumps(f, sort_keys=True) for _, f in r], [json.dumps(f, sort_keys=True) for f in g]
        for op, a, b, c, d in difflib.SequenceMatcher(None, rk, gk, autojunk=False).get_opcodes():
            if op == "equal":
                self.report.count(self.report.frames, [], b - a)
                continue
            where = "%s frame %s" % (of, r[a][0] if a < len(r) else "at the end")
            rest = list(range(c, d))
            for _, frame in r[a:b]:
                kind = compare.frame_type(frame)
                # A frame of the same type at this place is taken as the same one with other content.
                j = next((j for j in rest if compare.frame_type(g[j]) == kind), None)
                if reordered:
                    found = [(kind + " moved", frame, "elsewhere")]
                elif j is None:
                    found = [(compare.describe(frame) + " missing", frame, ABSENT)]
                else:
                    rest.remove(j)
                    found = list(compare.differences(frame, g[j], kind)) or [(kind + " order", frame, g[j])]
                self.report.count(self.report.frames, [Difference(where, *f) for f in found])
            for j in [] if reordered else rest:
                found = [Difference(where, compare.describe(g[j]) + " added", ABSENT, g[j])]
                self.report.count(self.report.frames, found)

    async def give_files(self):
        for name, data in self.session.given_files().items():
            form = multipart("given", [("image", name, "application/octet-stream", data),
                                       ("overwrite", None, None, b"true")])
            async with self.http.post(next(iter(self.urls.values())) + "/upload/image", data=form,
                                      headers={"Content-Type": "multipart/form-data; boundary=given"}) as answer:
                if answer.status != 200:
                    self.report.left_out.append("file %s: the server does not take it (%d)" % (name, answer.status))

    async def run(self):
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self.http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False,
                                          skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                                          connector=aiohttp.TCPConnector(limit=0))
        try:
            await self.give_files()
            for e in self.session.actions:
                await self.act(e)
            for _, task in self.pending:
                await task
            await self.frames_until(float("inf"), True)
            for s in list(self.sockets.values()):
                await s.settle()
        finally:
            for s in self.all_sockets:
                s.task.cancel()
            await self.http.close()
        for s in self.all_sockets:
            self.names.speak_to(s.server)
            self.compare_frames(s.name, [v for _, v in s.recorded], s.got)
        return self.report


def pair_up(recorded, got):
    """The k-th frame of each signature on both sides."""
    by = collections.defaultdict(list)
    for v in got:
        by[signature(v)].append(v)
    for v in recorded:
        if by[signature(v)]:
            yield v, by[signature(v)].pop(0)


HEADER = re.compile(r"^(HTTP/1\.[01] .*?)\r\n(.*?)\r\n\r\n", re.S)


def raw_form(text):
    """Answers in a byte stream: status lines, headers without volatile values, and what stands between."""
    out = []
    while m := HEADER.match(text):
        headers = []
        length = 0
        for line in m.group(2).split("\r\n"):
            k, _, v = line.partition(":")
            k, v = k.lower(), v.strip()
            if k == "content-length" and v.isdigit():
                length = int(v)
            v = v.lower() if k in compare.TOKEN_HEADERS else v
            headers.append(k + (": *" if k in compare.VOLATILE_HEADERS - {"content-length"} else ": " + v))
        out.append({"status": m.group(1), "headers": sorted(headers)})
        text = text[m.end():]
        if not text.startswith("HTTP/1."):
            out.append(text[:length] if length else text)
            text = text[length:] if length else ""
    if text:
        out.append(text)
    return out


def replay(session, urls, target):
    return asyncio.run(Replay(session, urls, target).run())


def run_prompt(url, graph):
    async def run():
        async with Client(url) as c:
            status, body = await c.post("/prompt", {"prompt": graph})
            assert status == 200, body
            while not await c.history(body["prompt_id"]):
                await asyncio.sleep(0.02)

    asyncio.run(run())


def free_cache(url):
    async def run():
        async with Client(url) as c:
            assert (await c.post("/free", {"free_memory": True}))[0] == 200

    asyncio.run(run())


def prelude(url):
    run_prompt(url, BEFORE_0_3_75)


def last_prompt(session, url):
    """What the recorded server ran last."""
    ran = [e for e in session.actions if is_submit(e) and e["response"]["status"] == 200]
    run_prompt(url, json.loads(ran[-1]["request"]["body"])["prompt"])


def main():
    p = argparse.ArgumentParser(description="Replay recorded sessions against a ComfyUI server.")
    p.add_argument("--url", action="append", required=True, help="the server (a second one for server B)")
    p.add_argument("--target", default="sim", help="whose allowed differences apply: real, sim, gateway")
    p.add_argument("--series", default="sessions-0.3.75", help="folder of recordings")
    p.add_argument("--fresh", action="store_true", help="the server is fresh: run what ran before the first session")
    p.add_argument("session", nargs="*", help="names; default: all of the series, as they were recorded")
    a = p.parse_args()
    if folder() is None:
        print("no recordings (COMFYMUX_SHARED)", file=sys.stderr)
        return 1
    chosen = [s for s in series(folder() / a.series) if not a.session or s.name in a.session]
    if a.fresh:
        prelude(a.url[0])
    bad = 0
    for session in chosen:
        report = replay(session, a.url, a.target)
        print(report.line())
        for d in report.different:
            print("   " + str(d))
        for why, n in report.allowed.items():
            print("   allowed %d: %s" % (n, why))
        for what in report.left_out:
            print("   left out: " + what)
        for what in report.in_vain:
            print("   waited in vain: " + what)
        bad += len(report.different)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
