"""The one table of allowed differences between a recording and a server, each with its reason.

A Difference is allowed by the first row that fits all of: target (real, sim, gateway; * for all), session (pattern),
where (regular expression on "HTTP 12 GET /queue (note)" or "WS w1 frame 3" or "RAW note"), path (regular expression
on "status", "header content-type", "body.a.b[0]", "executed.data.node"). Keep rows narrow: what a row allows, nobody
will see."""
import collections
import fnmatch
import re

Row = collections.namedtuple("Row", "target session where path reason")

ALLOWED = [
    # What ComfyUI itself leaves open.
    Row("*", "*", r"^HTTP \d+ GET /(api/)?history", r"\.(outputs|meta) key order$",
        "outputs that do not depend on each other run in set order"),
    Row("*", "*", r"^WS ", r" moved$",
        "outputs that do not depend on each other run in set order; order within each node is checked"),
    Row("*", "*", r"", r"\.current_inputs\..*\[0\]$",
        "an input that is a tensor is printed, and torch prints in its own way"),
    Row("*", "c?_*", r"POST /prompt", r"node_errors( key order|\.\w+\.dependent_outputs)",
        "outputs are validated in set order, and a node found bad is not looked at again for the next output"),
    Row("*", "c1_*", r"exception_during_inner_validation", r"^body\.",
        "outputs are validated in set order: the failing node is met as an output or as an input"),
    Row("*", "*", r"^WS ", r"^status",
        "status frames hold what is true when they are sent: how many come, and which values, is a race"),
]


def reason(target, session, difference):
    for row in ALLOWED:
        if row.target in ("*", target) and fnmatch.fnmatch(session, row.session):
            if re.search(row.where, difference.where) and re.search(row.path, difference.path):
                return row.reason
    return None
