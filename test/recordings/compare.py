"""Comparing what a server said with what the recorded one said.

Both sides are brought into one form first (as the README of the recordings asks): the recorded side's ids and file
names are replaced by this run's (Names, learned as answers come in), what is different at every run is blanked, what
has no order is sorted. What then differs is a Difference with a path, for the table in allowed.py."""
import base64
import hashlib
import io
import json
import re
import struct

from PIL import Image

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TOKEN = re.compile(UUID + r"|\b[0-9a-f]{32}\b|(?<=_temp_)[a-z]{5}(?=_)")
STEP = re.compile(r'("seconds_per_step": )([0-9.]+)')
HOME = re.compile(r"/opt/comfy-home/\w+")  # where a recorded server kept its folders

# Values that are different at every run: only their type counts.
BLANK = {"timestamp", "create_time", "modified", "created", "mtime", "ram_free", "ram_total", "vram_free", "vram_total",
         "torch_vram_free", "torch_vram_total", "traceback", "t"}
# Lists in arbitrary order.
SETS = {"dependent_outputs", "errors", "executed", "current_outputs"}
LINE_SETS = {"details"}  # texts whose lines are in arbitrary order
# Headers whose value is different at every run: only their presence counts. Content-Length follows the body.
TOKEN_HEADERS = {"connection", "upgrade", "transfer-encoding"}  # values without case, by the RFC
VOLATILE_HEADERS = {"date", "server", "etag", "last-modified", "sec-websocket-accept", "content-length"}


class Difference:
    def __init__(self, where, path, recorded, got):
        self.where = where  # "HTTP 12 GET /queue (note)" or "WS w1"
        self.path = path  # "status", "header Content-Type", "body.queue_running[0][1]", "frame executing"
        self.recorded = recorded
        self.got = got

    def __str__(self):
        return "%s: %s\n      recorded %s\n      got      %s" % (self.where, self.path, short(self.recorded),
                                                                 short(self.got))


class Absent:
    def __repr__(self):
        return "nothing"


ABSENT = Absent()


def short(v, limit=300):
    s = v if isinstance(v, str) else repr(v)
    return s if len(s) <= limit else s[:limit] + "... (%d)" % len(s)


class Names:
    """What stands for what: recorded ids, file names and numbers to those of this run, one to one."""

    def __init__(self, stretch=1, in_order=False):
        self.stretch = stretch  # how many times as long as recorded a step of the test node SlowProgress lasts
        self.in_order = in_order  # a stock server lists what waits as its heap lies; this run's in the order of running
        self.tokens = {}  # recorded id or random letters -> ours
        self.files = {}  # (filename, subfolder, type) -> ours, of the server that is spoken to
        self.files_of = {None: self.files}  # of each recorded server: their names collide
        self.numbers = {}  # recorded queue number -> ours, those that the server chose
        self.validators = {}  # recorded Etag or Last-Modified -> ours
        self.homes = {}  # folder of the recorded server -> ours

    def speak_to(self, server):
        self.files = self.files_of.setdefault(server, {})

    def client_chose(self, text):
        """Ids in a request that no answer has named are the client's own: they must come back as they are."""
        for token in TOKEN.findall(text):
            self.tokens.setdefault(token, token)

    def seconds(self, recorded):
        return round(recorded * self.stretch, 6)

    def _bind(self, table, recorded, got):
        if recorded not in table and got not in table.values():
            table[recorded] = got

    def learn(self, recorded, got):
        """Walk two JSON values side by side and bind what stands at the same places."""
        if isinstance(recorded, dict) and isinstance(got, dict):
            if "filename" in recorded and "filename" in got:
                self._bind(self.files, triple(recorded), triple(got))
            for k in recorded:
                if k in got:
                    self.learn(recorded[k], got[k])
            known = {k: self.tokens[k] for k in recorded if self.tokens.get(k) in got}
            for k, g in known.items():
                self.learn(recorded[k], got[g])
            new = [k for k in recorded if k not in got and k not in known and TOKEN.fullmatch(k)]
            theirs = [k for k in got if k not in recorded and k not in known.values() and TOKEN.fullmatch(k)]
            for k, g in zip(new, theirs):
                self._bind(self.tokens, k, g)
                self.learn(recorded[k], got[g])
        elif isinstance(recorded, list) and isinstance(got, list):
            for r, g in zip(recorded, got):
                self.learn(r, g)
        elif isinstance(recorded, str) and isinstance(got, str):
            home = HOME.search(recorded)
            if home and home.group() not in self.homes:
                pattern = re.escape(recorded).replace(re.escape(home.group()), r"(/[^\s'\"]*?)", 1)
                pattern = pattern.replace(re.escape(home.group()), r"\1")
                if m := re.fullmatch(pattern, got):
                    self.homes[home.group()] = m.group(1)
            r, g = TOKEN.findall(recorded), TOKEN.findall(got)
            if len(r) == len(g) and TOKEN.sub("#", recorded) == TOKEN.sub("#", got):
                for a, b in zip(r, g):
                    self._bind(self.tokens, a, b)

    def text(self, s):
        """Recorded text with this run's ids."""
        if self.stretch != 1:
            s = STEP.sub(lambda m: m.group(1) + repr(self.seconds(float(m.group(2)))), s)
        s = HOME.sub(lambda m: self.homes.get(m.group(), m.group()), s)
        return TOKEN.sub(lambda m: self.tokens.get(m.group(), m.group()), s)

    def recorded(self, ours, unknown):
        """What the recording calls an id of this run."""
        return next((k for k, v in self.tokens.items() if v == ours), unknown)

    def graph_text(self, s):
        """As text(), and `sub/name [output]` with this run's names."""
        s = self.text(s)
        for (name, sub, kind), (gname, gsub, gkind) in self.files.items():
            old = "%s [%s]" % (sub + "/" + name if sub else name, kind)
            new = "%s [%s]" % (gsub + "/" + gname if gsub else gname, gkind)
            s = s.replace('"' + old + '"', '"' + new + '"')
        return s

    def learn_headers(self, recorded, got):
        got = {k.lower(): v for k, v in got}
        for k, v in recorded:
            if k.lower() in ("etag", "last-modified") and k.lower() in got:
                self.validators[v] = got[k.lower()]

    def header(self, s):
        """As text(), and quoted file names."""
        for (name, _, _), (gname, _, _) in self.files.items():
            s = s.replace('"%s"' % name, '"%s"' % gname)
        return self.text(s)

    def file(self, entry):
        return self.files.get(triple(entry))


def triple(entry):
    return (entry.get("filename"), entry.get("subfolder") or "", entry.get("type") or "")


def is_queue_item(v):
    return isinstance(v, list) and len(v) == 5 and isinstance(v[1], str) and isinstance(v[2], dict)


def form(v, names=None, key=None):
    """The comparable form of a JSON value; names is given for the recorded side only."""
    if key in BLANK:
        return "<%s>" % type(v).__name__
    if key == "seconds_per_step" and names and type(v) is float:
        return names.seconds(v)
    if key == "number" and names and type(v) is int:
        return names.numbers.get(v, v)
    if isinstance(v, dict):
        if names and "filename" in v and names.file(v):
            name, sub, kind = names.file(v)
            v = dict(v, filename=name)
            if "subfolder" in v:
                v["subfolder"] = sub
            if "type" in v:
                v["type"] = kind
        return {(names.text(k) if names else k): form(x, names, k) for k, x in v.items()}
    if isinstance(v, list):
        items = [form(x, names) for x in v]
        if key == "queue_pending" and names and names.in_order:
            items.sort(key=lambda item: item[0])
        if is_queue_item(v):
            items[4] = sorted(items[4], key=repr)
            if names and type(v[0]) is int:
                items[0] = names.numbers.get(v[0], v[0])
        return sorted(items, key=repr) if key in SETS else items
    if isinstance(v, str):
        v = names.text(v) if names else v
        return "\n".join(sorted(v.split("\n"))) if key in LINE_SETS else v
    if isinstance(v, float) and v != v:
        return "<nan>"
    return v


def differences(recorded, got, path):
    """(path, recorded, got) for every place where two comparable forms differ."""
    if type(recorded) is not type(got):
        yield path, recorded, got
    elif isinstance(recorded, dict):
        for k in recorded:
            if k not in got:
                yield "%s.%s" % (path, k), recorded[k], ABSENT
            else:
                yield from differences(recorded[k], got[k], "%s.%s" % (path, k))
        for k in got:
            if k not in recorded:
                yield "%s.%s" % (path, k), ABSENT, got[k]
        common = [k for k in recorded if k in got]
        if common != [k for k in got if k in recorded]:
            yield path + " key order", list(recorded), list(got)
    elif isinstance(recorded, list):
        for i, (r, g) in enumerate(zip(recorded, got)):
            yield from differences(r, g, "%s[%d]" % (path, i))
        for i in range(len(got), len(recorded)):
            yield "%s[%d]" % (path, i), recorded[i], ABSENT
        for i in range(len(recorded), len(got)):
            yield "%s[%d]" % (path, i), ABSENT, got[i]
    elif recorded != got:
        yield path, recorded, got


# ---- bodies ------------------------------------------------------------------------------------------------------


def picture(data):
    """What a picture shows, whichever encoder wrote it; None if data is not one."""
    try:
        with Image.open(io.BytesIO(data)) as im:
            im.load()
            text = {k: v for k, v in getattr(im, "text", {}).items()}
            pixels = hashlib.sha256(im.convert("RGBA").tobytes()).hexdigest()[:16]
            return {"picture": im.format, "size": im.size, "mode": im.mode, "text": text, "pixels": pixels}
    except Exception:  # whatever a decoder says about bytes that are no picture
        return None


def parse_json(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return ABSENT


def python_style(text, value):
    """Written as Python's json module writes by default, which is what ComfyUI sends."""
    return text == json.dumps(value)


def body_differences(recorded, got, names):
    """recorded: bytes; got: bytes."""
    try:
        rtext, gtext = recorded.decode(), got.decode()
    except UnicodeDecodeError:
        if recorded == got:
            return
        r, g = picture(recorded), picture(got)
        if r is None or g is None:
            yield "body", short(recorded), short(got)
        else:
            r["text"] = {k: names.text(v) for k, v in r["text"].items()}
            yield from differences(r, g, "body")
        return
    r, g = parse_json(rtext), parse_json(gtext)
    if r is ABSENT or g is ABSENT:
        if names.text(rtext) != gtext:
            yield "body", rtext, gtext
        return
    names.learn(r, g)
    if python_style(rtext, r) and not python_style(gtext, g):
        yield "body text form", rtext, gtext
    yield from differences(form(r, names), form(g), "body")


def header_differences(recorded, got, replace):
    """Lists of pairs; names without case, order of no matter."""

    def table(headers, change):
        out = {}
        for k, v in headers:
            low = k.lower()
            v = v.lower() if low in TOKEN_HEADERS else v
            out.setdefault(low, []).append("*" if low in VOLATILE_HEADERS else change(v))
        return out

    r, g = table(recorded, replace), table(got, lambda v: v)
    for k in r:
        if r[k] != g.get(k):
            yield "header " + k, r[k], g.get(k, ABSENT)
    for k in g:
        if k not in r:
            yield "header " + k, ABSENT, g[k]


# ---- frames ------------------------------------------------------------------------------------------------------


def frame_value(kind, data):
    """A frame as a JSON-like value. Binary: numbers of the ComfyUI header and what the picture shows."""
    if kind == "text":
        v = parse_json(data)
        return {"text": data} if v is ABSENT or not isinstance(v, dict) else v
    value = {"type": "binary", "length": len(data)}
    if len(data) >= 8:
        event, second = struct.unpack(">II", data[:8])
        if event in (1, 4):
            rest = data[8:]
            value = {"type": "binary %d" % event}
            if event == 4:
                value["metadata"] = parse_json(data[8:8 + second].decode("utf-8", "replace"))
                rest = data[8 + second:]
            else:
                value["format"] = second
            value["image"] = picture(rest) or {"bytes": base64.b64encode(rest).decode()}
        elif event == 3:
            value = {"type": "binary 3", "node": data[8:8 + second].decode("utf-8", "replace"),
                     "text": data[8 + second:].decode("utf-8", "replace")}
        else:
            value = {"type": "binary %d" % event, "bytes": base64.b64encode(data).decode()}
    return value


def recorded_frame(e):
    if e["type"] == "text":
        return frame_value("text", e["data"])
    return frame_value("binary", base64.b64decode(e["base64"]))


def frame_type(value):
    return value.get("type", "?")


def describe(value):
    """The path of a frame that came on one side only: its type, and how far it says the work is."""
    data = value.get("data") if isinstance(value.get("data"), dict) else {}
    if frame_type(value) == "progress_state":
        data = list(data["nodes"].values())[-1] if data.get("nodes") else {}
    if frame_type(value) in ("progress", "progress_state") and "max" in data:
        return "%s %g of %g" % (frame_type(value), data["value"], data["max"])
    return frame_type(value)


def is_status(value):
    return frame_type(value) == "status" and "sid" not in (value.get("data") or {})


def remaining(value):
    with_value = ((value.get("data") or {}).get("status") or {}).get("exec_info") or {}
    return with_value.get("queue_remaining")


def node_of(value):
    """The node a frame is about; None for one about its whole prompt."""
    data = value.get("data") if isinstance(value.get("data"), dict) else {}
    return data.get("node", data.get("node_id"))


def prompts_of(frames):
    """Which prompt each frame is of: one that names none is of the prompt of those before it, the first of the next."""
    out = []
    for v in frames:
        data = v.get("data") if isinstance(v.get("data"), dict) else {}
        if frame_type(v) in ("status", "feature_flags", "logs"):
            out.append("no prompt")
        else:
            named = data.get("prompt_id")
            out.append(str(named) if named is not None else next((p for p in reversed(out) if p != "no prompt"), None))
    first = next((p for p in out if p not in (None, "no prompt")), "no prompt")
    return [first if p is None else p for p in out]


def only_reordered(recorded, got):
    """Are these the same frames, in the same order for each node, and for each node against its prompt's own frames?
    Then only nodes that do not depend on each other took turns in another order. Takes comparable forms."""

    def key(v):
        text = repr(sorted(v.items(), key=repr)) if isinstance(v, dict) else repr(v)
        return re.sub(r"'subfolder': '" + UUID, "'subfolder': '(a job's own)", text)

    def chains(frames):
        plain = [v for v in frames if frame_type(v) != "progress_state"]
        out = {n: [key(v) for v in plain if node_of(v) in (n, None)] for n in {node_of(v) for v in plain}}
        for v in frames:
            if frame_type(v) == "progress_state":
                for n, state in v["data"]["nodes"].items():
                    seen = out.setdefault((v["data"]["prompt_id"], n), [])
                    if not seen or seen[-1] != key(state):
                        seen.append(key(state))
        return out

    return len(recorded) == len(got) and chains(recorded) == chains(got)
