"""A recorded session as a list of actions to do again, each with what must have happened before it."""
import base64
import email.utils
import gzip
import hashlib
import io
import json
import pathlib
import re
import urllib.parse

from PIL import Image

SERVER = re.compile(r"127\.0\.0\.1:181(88|89|90|91)")


# The folders of recordings: which ComfyUI was recorded in them.
FOLDERS = {"sessions-0.3.75": "0.3.75", "sessions": "0.3.64"}


class Session:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.version = FOLDERS.get(self.path.parent.name, "")
        events = [json.loads(line) for line in self.path.read_text().splitlines()]
        head = events[0]
        self.name = head["name"]
        self.description = head["description"]
        self.servers = head["servers"]
        self.uses = {e["server"] for e in events if "server" in e}
        self.events = events[1:]
        self.frames = [e for e in self.events if e["kind"] == "ws" and e["dir"] == "in"]
        self.actions = sorted((e for e in self.events if self._is_action(e)), key=begins)

    @staticmethod
    def _is_action(e):
        return e["kind"] in ("http", "raw") or (e["kind"] == "ws" and e["dir"] in ("open", "out", "close"))

    def silence_before(self, action):
        """Seconds in which nothing was seen before the action began."""
        start = begins(action)
        seen = [t for e in self.events if e["kind"] != "note" and e is not action for t in (begins(e), e["t"])]
        return start - max((t for t in seen if t <= start), default=0)

    def pause_before(self, action):
        """How much of that silence to keep: where a question is asked, not so much that the frame that came next could
        come first. Sockets that open are not given more time: what came before is in no recording."""
        silence, start = self.silence_before(action), begins(action)
        if action["kind"] != "http" or action["request"]["method"] != "GET":
            return silence
        following = min((e["t"] for e in self.frames if e["t"] > start), default=float("inf"))
        return min(silence, (silence + following - start) / 2)

    def upload_bytes(self, part):
        """The bytes of a file in a recorded form; the one JPEG that is not recorded was made from the PNG before it."""
        if "base64" in part:
            return base64.b64decode(part["base64"])
        for e in self.events:
            for other in e.get("request", {}).get("form", []):
                if part["filename"].endswith(".jpg") and other.get("filename", "").endswith(".png"):
                    out = io.BytesIO()
                    Image.open(io.BytesIO(self.upload_bytes(other))).convert("RGB").save(out, "JPEG", quality=75)
                    if hashlib.sha256(out.getvalue()).hexdigest() == part["sha256"]:
                        return out.getvalue()
        raise ValueError("its file is not in the recording")

    def given_files(self):
        """Files that the session reads from the input folder and never puts there: {name: bytes}."""
        put = {f.get("filename") for e in self.events for f in e.get("request", {}).get("form", [])}
        out = {}
        for e in self.events:
            if e["kind"] == "http" and e["request"]["method"] == "GET" and e["request"]["path"] == "/view":
                query = urllib.parse.parse_qs(e["request"].get("query", ""))
                name = query.get("filename", [""])[0]
                if set(query) == {"filename", "type"} and query["type"] == ["input"] and name not in put | set(out):
                    if e["response"]["status"] == 200 and "/" not in name:
                        out[name] = response_bytes(e["response"])
        return out


def begins(e):
    return e.get("t_sent", e["t"])


def response_bytes(r):
    if "body_base64" in r:
        return base64.b64decode(r["body_base64"])
    return r["body"].encode("utf-8", "surrogatepass")


def kept_bodies(folder):
    """Large bodies that stand beside the sessions: {sha256: bytes}."""
    bodies = [gzip.decompress(p.read_bytes()) for p in sorted((folder / "bodies").glob("*.gz"))]
    return {hashlib.sha256(b).hexdigest(): b for b in bodies}


def series(folder):
    """The sessions of a folder in the order they were recorded: they ran one after another on one server, so
    caches, counters and history of the earlier ones show in the later ones."""

    def recorded_at(s):
        answers = [e["response"] for e in s.events if "response" in e]
        dates = [v for r in answers for k, v in r["headers"] if k == "Date"]
        return min((email.utils.parsedate(d) for d in dates), default=(9999,))

    return sorted((Session(p) for p in sorted(folder.glob("*.jsonl"))), key=recorded_at)


# What the server of sessions-0.3.75 had run before the first session: its /history shows it.
BEFORE_0_3_75 = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}
