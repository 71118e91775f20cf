"""A recorded session as a list of actions to do again, each with what must have happened before it."""
import email.utils
import json
import pathlib
import re

SERVER = re.compile(r"127\.0\.0\.1:181(88|89|90|91)")


class Session:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        events = [json.loads(line) for line in self.path.read_text().splitlines()]
        head = events[0]
        self.name = head["name"]
        self.description = head["description"]
        self.servers = head["servers"]
        self.events = events[1:]
        self.frames = [e for e in self.events if e["kind"] == "ws" and e["dir"] == "in"]
        self.actions = sorted((e for e in self.events if self._is_action(e)), key=begins)

    @staticmethod
    def _is_action(e):
        return e["kind"] in ("http", "raw") or (e["kind"] == "ws" and e["dir"] in ("open", "out", "close"))

    def silence_before(self, action):
        """Seconds in which nothing was seen before the action began."""
        start = begins(action)
        last = max((e["t"] for e in self.events if e["kind"] != "note" and e is not action and e["t"] <= start),
                   default=0)
        return start - last

    def used_servers(self):
        return sorted({e["server"] for e in self.events if "server" in e})


def begins(e):
    return e.get("t_sent", e["t"])


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
