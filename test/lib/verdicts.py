"""Two answers to the same POST /prompt: the gateway's and the server's. What kind of pair are they?

compare() says one of
    equal      the same status and, normalised, the same body
    words      the same, but for words that newer servers have: missing_node_type, dependency_cycle, quoting of a value
    order      the same errors but for what depends on the order in which the server's sets are walked
    no 500     the server broke (500), here it is a 400 with a reason
    later      accepted here, refused there: the server's word will decide
    later, in part   here it lists fewer errors: those left out only the server can know
    stricter   refused here, in whole or in part, but not there
    DIFFERENT  everything else
and for the later ones why: the kinds of errors that only the server sees."""
import json


def _lines(text):
    return sorted(text.split("\n"))


def normal(text):
    """The body without what is different at every run; what is in arbitrary order is sorted."""
    body = json.loads(text)
    body.pop("prompt_id", None)
    body.pop("number", None)
    for node in body["node_errors"].values():
        for e in node["errors"]:
            e["extra_info"].pop("traceback", None)
        node["errors"].sort(key=lambda e: json.dumps(e, sort_keys=True))
        node["dependent_outputs"].sort()
    if "error" in body:
        body["error"]["details"] = _lines(body["error"]["details"])
    # As text, for NaN is not equal to itself.
    return body


def _text(v):
    return json.dumps(v, sort_keys=True)


def _is_cycle(error):
    """Newer servers say so; in older ones the recursion ends somewhere, mostly without a word."""
    return error["type"] == "dependency_cycle" or error["extra_info"].get("exception_type") == "RecursionError"


def circular(body):
    """The outputs that fail because of a cycle: of those an older server says nothing."""
    return {o for node in body["node_errors"].values() if any(_is_cycle(e) for e in node["errors"])
            for o in node["dependent_outputs"]}


def words(body, without=()):
    """The same without what newer servers say otherwise, and without these outputs."""
    body = json.loads(_text(body))
    quoted = False
    for ident, node in list(body["node_errors"].items()):
        node["errors"] = [e for e in node["errors"] if not _is_cycle(e)]
        node["dependent_outputs"] = [o for o in node["dependent_outputs"] if o not in without]
        for e in node["errors"]:
            if e["type"] == "value_not_in_list":
                del e["details"]  # "x: '5' not in [...]" there, "x: 5 not in [...]" here
                quoted = True
        if not node["errors"]:
            del body["node_errors"][ident]
    error = body.get("error")
    if error:
        error["details"] = [d for d in error["details"] if not d.startswith("Dependency cycle detected:")] or [""]
        if quoted:
            del error["details"]
        if error["type"] in ("missing_node_type", "invalid_prompt"):
            body["error"] = {"details": error["details"]}
    return body


def _errors(body):
    """{(node, error as text)}, without what the order of sets decides: who depends."""
    return {(ident, _text(e)) for ident, node in words(body)["node_errors"].items() for e in node["errors"]}


def _failed(body):
    """The outputs that fail, as far as that can be read."""
    return {o for node in words(body)["node_errors"].values() for o in node["dependent_outputs"]}


def _raised(error):
    return error["type"].startswith("exception_")


def _reason(body):
    return words(body).get("error")


def _exceptions(body):
    """{node: (text, type)}; met as an output or as an input of another, it is told in two ways."""
    return {ident: (e["details"], e["extra_info"]["exception_type"])
            for ident, node in body["node_errors"].items() for e in node["errors"] if _raised(e)}


def _links(graph, ident):
    inputs = graph[ident].get("inputs") if isinstance(graph[ident], dict) else None
    return [v for v in inputs.values() if isinstance(v, list)] if isinstance(inputs, dict) else []


def _exceptions_agree(graph, s, g):
    """On the first exception everything ends for that node: there is one on both sides, and nodes with one on both sides
    have the same, unless there are several links that may raise."""
    a, b = _exceptions(s), _exceptions(g)
    return bool(a and b) and s.get("error", {}).get("type") == g.get("error", {}).get("type") and all(
        a[n] == b[n] or len(_links(graph, n)) > 1 for n in a.keys() & b.keys())


class Judge:
    """info: the server's object_info; own_checks: pairs (class, input) of classes with VALIDATE_INPUTS."""

    def __init__(self, info, own_checks):
        self.info = info
        self.own_checks = {cls for cls, _ in own_checks}

    def own(self, cls):
        module = self.info[cls]["python_module"]
        return module == "nodes" or module.startswith("comfy_extras.")

    def upload(self, cls, name):
        inputs = self.info[cls]["input"]
        config = {**inputs.get("optional", {}), **inputs.get("required", {})}.get(name)
        options = config[1] if config and len(config) > 1 and isinstance(config[1], dict) else {}
        return any(k.endswith("upload") and v for k, v in options.items())

    def custom_slot(self, graph, ident):
        """Is it linked to a custom class? That may have slots which it does not show."""
        return any(isinstance(v[0], str) and v[0] in graph and not self.own(graph[v[0]]["class_type"])
                   for v in _links(graph, ident) if v)

    def only_the_server(self, graph, ident, cls, error):
        """Why the gateway cannot know this error; None if it could."""
        kind, name = error["type"], error["extra_info"].get("input_name")
        if kind == "custom_validation_failed":
            return "the class checks itself"
        if _raised(error) and error["extra_info"]["exception_type"] == "IndexError" and self.custom_slot(graph, ident):
            return "a custom class may allow more than it shows"
        if _raised(error):
            return "the class checks itself" if cls in self.own_checks or not self.own(cls) else None
        if kind in ("return_type_mismatch", "value_not_in_list", "value_smaller_than_min", "value_bigger_than_max"):
            if not self.own(cls):
                return "a custom class may allow more than it shows"
            if kind != "return_type_mismatch" and (cls.startswith("Load") or self.upload(cls, name)):
                return "a loader's files are the server's"
        return None

    def more(self, graph, server, gateway):
        """The errors of the server that are missing here: [why not known, or None]."""
        have = _errors(gateway)
        out = []
        for ident, node in words(server)["node_errors"].items():
            for e in node["errors"]:
                if (ident, _text(e)) not in have:
                    out.append(self.only_the_server(graph, ident, node["class_type"], e))
        return out

    def compare(self, graph, server, gateway):
        """What was asked, and two pairs (status, text). Returns (kind, why)."""
        (s_status, s_text), (g_status, g_text) = server, gateway
        if s_status == 500 and g_status == 400:
            body = json.loads(g_text)
            ok = set(body) == {"error", "node_errors"} and body["error"]["type"] and body["error"]["message"]
            return ("no 500" if ok else "DIFFERENT"), None
        if {s_status, g_status} - {200, 400}:
            return "DIFFERENT", None
        s, g = normal(s_text), normal(g_text)
        if g_status == 400 and s_status == 200:
            return "stricter", None
        if s_status == g_status and _text(s) == _text(g):
            return "equal", None
        lost = circular(g)
        if s_status == g_status and _text(words(s, lost)) == _text(words(g, lost)):
            return "words", None
        return self._unequal(graph, s_status, s, g_status, g)

    def _unequal(self, graph, s_status, s, g_status, g):
        more, fewer = self.more(graph, s, g), _errors(g) - _errors(s)
        raised = any(_raised(e) for node in [*s["node_errors"].values(), *g["node_errors"].values()] for e in node["errors"])
        if s_status == 200 and not _failed(g) - circular(g) <= _failed(s):
            return "stricter", None
        if s_status == g_status and not more and not fewer:
            # Only who depends on whom: with one output that is no question.
            return ("order" if len(_failed(s)) > 1 and _reason(s) == _reason(g) else "DIFFERENT"), None
        # What an exception leaves unsaid is decided by the order in which inputs are looked at.
        if raised and s_status == g_status and not any(more):
            return ("order" if _exceptions_agree(graph, s, g) else "DIFFERENT"), None
        # Where it finds what only it can know it goes no further; here the nodes below are looked at.
        if not more or not all(w or raised for w in more) or (fewer and g_status == 400 and s_status == 200):
            return "DIFFERENT", None
        why = ", ".join(sorted({w for w in more if w})) or "an exception"
        return ("later" if g_status != s_status else "later, in part"), why
