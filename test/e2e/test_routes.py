"""Every native route, by the program's own table (`comfymux routes`), in front of two servers that differ. A row without a
case here is a failure."""
import contextlib
import http.client
import json
import os
import subprocess
import tempfile
import threading
import urllib.parse
import uuid

import pytest

import graphs
import targets
from between import Between

WAIT = 60  # a safety net for each request


def rows(dialect="native"):
    try:
        program = targets.binary()
    except targets.Missing:
        return []
    return json.loads(subprocess.run([program, "routes"], stdout=subprocess.PIPE, check=True).stdout)[dialect]


ROWS = rows()


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.type = (response.headers.get("Content-Type") or "").split(";")[0]

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "%d %s %r" % (self.status, self.type, self.body[:300])


def ask(url, method, path, body=None, headers=()):
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=WAIT)
    try:
        connection.request(method, path, body, dict(headers))
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Fleet:
    """A gateway over two servers, s0 the primary; .between[i] stands before each and can be told to spoil."""

    def __init__(self, target, between):
        self.url = target.url
        self.processes = target.processes
        self.between = between

    def ask(self, method, path, body=None, headers=()):
        if not isinstance(body, (bytes, str, type(None))):
            body = json.dumps(body)
        return ask(self.url, method, path, body, headers)

    def run(self, graph, **fields):
        """A job that has ended."""
        answer = self.ask("POST", "/prompt", {"prompt": graph, **fields})
        assert answer.status == 200, answer
        job = answer.json["prompt_id"]
        self.until(lambda: self.ask("GET", "/mux/v1/jobs/" + job).json["state"] in ("succeeded", "failed", "canceled"))
        return job

    def record(self, job):
        return self.ask("GET", "/mux/v1/jobs/" + job).json

    def until(self, true):
        tries = threading.Event()
        for _ in range(WAIT * 50):
            if true():
                return
            tries.wait(0.02)
        raise AssertionError("it never came")

    def sent_to(self, i, method, path):
        """What server i was sent of this since it was forgotten."""
        return [s for s in self.between[i].seen if s[0] == method and s[1].split("?")[0] == path]


@contextlib.contextmanager
def fleet_of(servers, *args):
    with contextlib.ExitStack() as stack:
        between = [stack.enter_context(Between(url)) for url in servers.urls]
        servers = targets.Target(servers.name, [b.url for b in between], servers.processes)
        f = Fleet(stack.enter_context(targets.in_front_of(servers, args)), between)
        f.until(lambda: {s["state"] for s in f.ask("GET", "/mux/v1/servers").json["servers"]} == {"up"})
        yield f


@pytest.fixture(scope="module")
def fleet():
    try:
        with targets.sims(2) as servers, fleet_of(servers) as f:
            f.job = f.run(graphs.save())
            (f.image,) = f.ask("GET", "/history/" + f.job).json[f.job]["outputs"]["2"]["images"]
            yield f
    except targets.Missing as e:
        targets.skip_or_fail(e)


# --- a case for each row ---

def gives(status, check=None, path=None, body=None, headers=()):
    """One request, its status, and what else must hold of (fleet, answer). path: a function of the fleet for what its
    pattern leaves open."""

    def case(f, method, prefix, pattern):
        where = prefix + (path(f) if path else pattern)
        answer = f.ask("GET" if method == "*" else method, where, body, headers)
        assert answer.status == status, (where, answer)
        if check:
            assert check(f, answer), (where, answer)

    return case


def refused(status, *methods):
    """By every method, and no server hears of it."""

    def case(f, method, prefix, pattern):
        path = prefix + pattern.replace("{rest...}", "x/y").replace("{id}", "x")
        for b in f.between:
            b.seen.clear()
        for m in methods or ("GET", "POST", "PUT", "DELETE", "PATCH"):
            answer = f.ask(m, path, None if m == "GET" else b"{}")
            assert answer.status == (status[m] if isinstance(status, dict) else status), (m, path, answer)
        assert not [s for b in f.between for s in b.seen if path.split("/")[-1] in s[1]]

    return case


def from_primary(path, expect=None):
    """The same as the primary says, which alone is asked."""

    def case(f, method, prefix, pattern):
        for b in f.between:
            b.seen.clear()
        answer = f.ask(method, prefix + path)
        direct = ask(f.between[0].upstream, method, prefix + path)
        assert (answer.status, answer.body, answer.type) == (direct.status, direct.body, direct.type), (answer, direct)
        assert expect is None or answer.status == expect, answer
        assert not f.sent_to(1, method, prefix + path)

    return case


def websocket(f, method, prefix, pattern):
    where = urllib.parse.urlsplit(f.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=WAIT)
    connection.request("GET", prefix + "/ws?clientId=walker", headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    answer = connection.sock.recv(4096)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 101 "), answer


def form(*fields):
    body = b"".join(b"--x\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"
                    for head, data in fields)
    return body + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def upload(f, method, prefix, pattern):
    body, headers = form((b'name="image"; filename="walk.png"', b"bytes"))
    answer = f.ask("POST", prefix + "/upload/image", body, headers)
    assert answer.status == 200 and answer.json == {"name": "walk.png", "subfolder": "", "type": "input"}, answer


def mask(f, method, prefix, pattern):
    png = f.ask("GET", view_of(f)).body
    of = json.dumps({k: f.image[k] for k in ("filename", "subfolder", "type")}).encode()
    body, headers = form((b'name="original_ref"', of), (b'name="image"; filename="masked.png"', png))
    answer = f.ask("POST", prefix + "/upload/mask", body, headers)
    assert answer.status == 200 and answer.json["name"].startswith("masked"), answer


def kept_file(f, method, prefix, pattern):
    """A file of the user's life, as far as this row needs it; no server hears of it."""
    for b in f.between:
        b.seen.clear()
    name, other = "walk%2Fa.json", "walk%2Fb.json"
    assert f.ask("POST", prefix + "/userdata/" + name, b"{}").status == 200
    assert f.ask("GET", prefix + "/userdata/" + name).body == b"{}"
    assert f.ask("GET", prefix + "/userdata?dir=walk").json == ["a.json"]
    assert [x["path"] for x in f.ask("GET", prefix + "/v2/userdata?path=walk").json] == ["walk/a.json"]
    assert f.ask("POST", prefix + "/userdata/%s/move/%s" % (name, other)).json == "walk/b.json"
    assert f.ask("DELETE", prefix + "/userdata/" + other).status == 204
    assert f.ask("GET", prefix + "/userdata/" + other).status == 404
    assert not [s for b in f.between for s in b.seen if "userdata" in s[1]]


def kept_setting(f, method, prefix, pattern):
    for b in f.between:
        b.seen.clear()
    assert f.ask("POST", prefix + "/settings/Walk.One", "[1, 18446744073709551615]").status == 200
    assert f.ask("POST", prefix + "/settings", {"Walk.Two": "b"}).status == 200
    assert f.ask("GET", prefix + "/settings/Walk.One").json == [1, 18446744073709551615]
    assert f.ask("GET", prefix + "/settings/Walk.None").json is None
    assert f.ask("GET", prefix + "/settings").json["Walk.Two"] == "b"
    assert not [s for b in f.between for s in b.seen if "settings" in s[1]]


def freed(f, method, prefix, pattern):
    for b in f.between:
        b.seen.clear()
    answer = f.ask("POST", prefix + "/free", {"unload_models": True, "more": "x"})
    assert (answer.status, answer.body) == (200, b"")
    for i in range(2):
        ((_, _, _, body),) = f.sent_to(i, "POST", "/free")
        assert json.loads(body) == {"unload_models": True, "free_memory": False}
    assert f.ask("POST", prefix + "/free", "{nonsense").status == 400
    assert f.ask("POST", prefix + "/free", []).status == 400


def union(path, has):
    """What any server has."""

    def case(f, method, prefix, pattern):
        def one(where, parsed):
            if where == path:
                parsed.append(has)

        f.between[1].answer = one
        try:
            answer = f.ask("GET", prefix + path)
        finally:
            f.between[1].answer = None
        first = ask(f.between[0].upstream, "GET", path)
        assert answer.status == 200 and answer.type == "application/json"
        got = json.loads(answer.body)
        names = [x if isinstance(x, str) else x["name"] for x in got]
        assert len(names) == len(set(names))
        assert names[:-1] == [x if isinstance(x, str) else x["name"] for x in first.json]
        assert names[-1] == (has if isinstance(has, str) else has["name"])
        assert "folders" not in str(got) or all(x["folders"] == [] for x in got), "absolute paths of hosts"

    return case


def found_somewhere(path):
    """Only the second server has it."""

    def case(f, method, prefix, pattern):
        from aiohttp import web

        async def has(request):
            return web.Response(body=b"here: " + request.query_string.encode(), content_type="image/webp")

        assert f.ask("GET", prefix + path).status == 404
        f.between[1].custom[path] = has
        try:
            answer = f.ask("GET", prefix + path + "?filename=x.safetensors")
        finally:
            f.between[1].custom.clear()
        assert (answer.status, answer.body, answer.type) == (200, b"here: filename=x.safetensors", "image/webp")

    return case


def logs_in(f, answer):
    text = answer.body.decode()
    return "[s0] " in text and "[s1] " in text


def raw_logs(f, answer):
    entries = answer.json["entries"]
    return (logs_in(f, answer) and entries == sorted(entries, key=lambda e: e["t"])
            and set(answer.json["size"]) == {"cols", "rows"})


def view_of(f):
    return "/view?" + urllib.parse.urlencode(f.image)


ASSETS_OFF = refused(503)
MANAGER_OFF = refused({"GET": 404, "POST": 403, "PUT": 403, "DELETE": 403, "PATCH": 403})

CASES = {
    ("POST", "/prompt"): gives(200, lambda f, a: set(a.json) == {"prompt_id", "number", "node_errors"},
                               body={"prompt": graphs.save("walk")}),
    ("GET", "/prompt"): gives(200, lambda f, a: "queue_remaining" in a.json["exec_info"]),
    ("GET", "/queue"): gives(200, lambda f, a: set(a.json) == {"queue_running", "queue_pending"}),
    ("POST", "/queue"): gives(200, lambda f, a: a.body == b"", body={"delete": []}),
    ("POST", "/interrupt"): gives(200, lambda f, a: a.body == b"", body={"prompt_id": str(uuid.uuid4())}),
    ("GET", "/history"): gives(200, lambda f, a: f.job in a.json),
    ("GET", "/history/{id}"): gives(200, lambda f, a: list(a.json) == [f.job], lambda f: "/history/" + f.job),
    ("POST", "/history"): gives(200, lambda f, a: a.body == b"", body={"delete": ["none"]}),
    ("GET", "/api/jobs"): gives(200, lambda f, a: f.job in [j["id"] for j in a.json["jobs"]]),
    ("GET", "/api/jobs/{id}"): gives(200, lambda f, a: a.json["status"] == "completed" and "outputs" in a.json,
                                     lambda f: "/api/jobs/" + f.job),
    ("POST", "/api/jobs/cancel"): gives(200, lambda f, a: a.json == {"cancelled": False},
                                        body={"job_ids": [str(uuid.uuid4())]}),
    ("POST", "/api/jobs/{id}/cancel"): gives(200, lambda f, a: a.json == {"cancelled": False},
                                             lambda f: "/api/jobs/%s/cancel" % f.job),
    ("GET", "/ws"): websocket,
    ("GET", "/view"): gives(200, lambda f, a: a.body.startswith(b"\x89PNG"), view_of),
    ("POST", "/upload/image"): upload,
    ("POST", "/upload/mask"): mask,
    ("GET", "/internal/files/{type}"): gives(200, lambda f, a: "walk.png" in a.json, lambda f: "/internal/files/input"),
    ("GET", "/users"): gives(200, lambda f, a: a.json["storage"] == "server"),
    ("POST", "/users"): gives(400, lambda f, a: "error" in a.json, body={"username": ""}),
    **{(method, "/settings" + more): kept_setting for method in ("GET", "POST") for more in ("", "/{id}")},
    **{row: kept_file for row in (
        ("GET", "/userdata"), ("GET", "/v2/userdata"), ("GET", "/userdata/{file}"), ("POST", "/userdata/{file}"),
        ("DELETE", "/userdata/{file}"), ("POST", "/userdata/{file}/move/{dest}"))},
    ("GET", "/object_info"): gives(200, lambda f, a: "SaveImage" in a.json),
    ("GET", "/object_info/{class}"): gives(200, lambda f, a: list(a.json) == ["SaveImage"],
                                           lambda f: "/object_info/SaveImage"),
    ("GET", "/features"): gives(200, lambda f, a: a.json["supports_preview_metadata"] is True
                                and not a.json.get("assets") and "extension" not in a.json),
    ("GET", "/system_stats"): gives(200, lambda f, a: len(a.json["devices"]) == 2 and a.json["system"]["argv"] == []),
    ("GET", "/embeddings"): union("/embeddings", "mine"),
    ("GET", "/models"): union("/models", "my_models"),
    ("GET", "/models/{folder}"): union("/models/checkpoints", "mine.safetensors"),
    ("GET", "/experiment/models"): union("/experiment/models", {"name": "my_models", "folders": ["/home/me"]}),
    ("GET", "/experiment/models/{folder}"): union(
        "/experiment/models/checkpoints", {"name": "mine.safetensors", "pathIndex": 0, "size": 1}),
    ("GET", "/experiment/models/preview/{folder}/{index}/{file...}"): found_somewhere(
        "/experiment/models/preview/checkpoints/0/a/x.safetensors"),
    ("GET", "/view_metadata/{folder}"): found_somewhere("/view_metadata/checkpoints"),
    ("GET", "/extensions"): from_primary("/extensions", 200),
    ("GET", "/i18n"): from_primary("/i18n", 200),
    ("GET", "/workflow_templates"): from_primary("/workflow_templates", 200),
    ("GET", "/api/workflow_templates/{file...}"): from_primary("/api/workflow_templates/pack/x.json", 404),
    ("GET", "/global_subgraphs"): from_primary("/global_subgraphs", 200),
    ("GET", "/global_subgraphs/{id}"): from_primary("/global_subgraphs/0123", 404),
    ("GET", "/node_replacements"): from_primary("/node_replacements", 404),
    ("GET", "/extensions/{file...}"): from_primary("/extensions/pack/x.js", 404),
    ("GET", "/templates/{file...}"): from_primary("/templates/index.json", 404),
    ("GET", "/docs/{file...}"): from_primary("/docs/KSampler/en.md", 404),
    ("GET", "/assets/{file...}"): from_primary("/assets/index-0123.js", 404),
    ("GET", "/"): from_primary("/", 200),
    ("GET", "/api/"): from_primary("/api/", 200),
    ("GET", "/index.html"): from_primary("/index.html", 200),
    ("POST", "/free"): freed,
    ("GET", "/internal/logs"): gives(200, logs_in),
    ("GET", "/internal/logs/raw"): gives(200, raw_logs),
    ("PATCH", "/internal/logs/subscribe"): gives(200, lambda f, a: a.body == b"",
                                                 body={"clientId": "nobody", "enabled": True}),
    ("GET", "/internal/{rest...}"): refused(404, "GET", "HEAD"),
    ("*", "/api/assets"): ASSETS_OFF,
    ("*", "/api/assets/{rest...}"): ASSETS_OFF,
    ("*", "/api/tags"): ASSETS_OFF,
    ("*", "/api/tasks/{id}"): ASSETS_OFF,
    **{("*", "/%s/{rest...}" % family): MANAGER_OFF for family in (
        "manager", "customnode", "externalmodel", "snapshot", "comfyui_manager", "v2/manager", "v2/customnode",
        "v2/externalmodel", "v2/snapshot", "v2/comfyui_manager")},
    **{("*", "/api/v2/" + what): refused(404) for what in (
        "jobs", "jobs/{rest...}", "assets", "assets/{rest...}")},
}


def test_the_table_can_be_read():
    targets.binary() if ROWS else pytest.skip("not built")
    assert len(ROWS) > 40 and all(r["who"] and r["what"] for r in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: "%(method)s %(path)s" % r)
def test_row(fleet, row):
    case = CASES.get((row["method"], row["path"]))
    assert case, "this row of the table has no case: " + str(row)
    for prefix in ("", "/api") if row["twin"] else ("",):
        case(fleet, row["method"], prefix, row["path"])


def test_no_case_without_a_row():
    assert set(CASES) <= {(r["method"], r["path"]) for r in ROWS}


@pytest.mark.parametrize("row", [r for r in ROWS if r["changes"]], ids=lambda r: "%(method)s %(path)s" % r)
def test_what_changes_something_is_not_for_pages_from_elsewhere(fleet, row):
    method = "POST" if row["method"] == "*" else row["method"]
    path = row["path"].replace("{rest...}", "x").replace("{id}", "x")
    for b in fleet.between:
        b.seen.clear()
    for prefix in ("", "/api") if row["twin"] else ("",):
        answer = fleet.ask(method, prefix + path, b"{}", {"Origin": "http://evil.example"})
        assert (answer.status, answer.body) == (403, b"")
    assert not [s for b in fleet.between for s in b.seen if s[0] == method]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: "%(method)s %(path)s" % r)
def test_the_docs_name_it(row):
    page = (targets.ROOT / "docs" / "native.md").read_text()
    assert row["path"] + "`" in page, row


# --- wrong methods, and what is nowhere ---

def test_other_methods_are_answered_as_by_a_server(fleet):
    for path, allow in (("/prompt", "GET,HEAD,POST"), ("/history/x", "GET,HEAD"), ("/object_info", "GET,HEAD"),
                        ("/api/queue", "GET,HEAD,POST")):
        answer = fleet.ask("DELETE", path)
        assert (answer.status, answer.headers["Allow"]) == (405, allow), path
    for path in ("/interrupt", "/free", "/upload/image", "/queue/", "/history/a/b", "/api/api/prompt"):
        assert fleet.ask("GET", path).status == 404, path
    assert fleet.ask("POST", "/nope", b"{}").status == 405  # the primary says it


# --- routes of custom nodes ---

@pytest.fixture
def nodes(fleet):
    """fleet, whose servers have the route /my/route: it says who answers and what was asked."""
    from aiohttp import web

    def route(i):
        async def handler(request):
            body = await request.read()
            fleet.last = request
            return web.json_response({"server": "s%d" % i, "method": request.method, "target": request.raw_path,
                                      "body": body.decode(), "headers": dict(request.headers)},
                                     headers={"Access-Control-Allow-Origin": "*", "X-Own": "kept"})

        return handler

    for i, b in enumerate(fleet.between):
        for path in ("/my/route", "/api/my/route"):
            b.custom[path] = route(i)
    yield fleet
    for b in fleet.between:
        b.custom.clear()


@pytest.fixture(scope="module")
def on_s1(fleet):
    """A job that the second server ran: (id, its image)."""
    for n in range(50):
        job = fleet.run(graphs.save("there", color=1000 + n))
        if fleet.record(job)["server"]["name"] == "s1":
            (image,) = fleet.ask("GET", "/history/" + job).json[job]["outputs"]["2"]["images"]
            return job, image
    raise AssertionError("the second server is never used")


def test_whatever_method_they_go_to_the_primary(nodes):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        for path in ("/my/route?a=1&b=%20x&a=2", "/api/my/route"):
            body = b"anything \xc3\xa4" if method != "GET" else None
            answer = nodes.ask(method, path, body, {"Content-Type": "text/x-mine", "X-Mine": "1"})
            assert answer.status == 200, answer
            got = answer.json
            assert (got["server"], got["method"], got["target"]) == ("s0", method, path)
            assert got["body"] == (body or b"").decode()
            assert got["headers"]["X-Mine"] == "1" and got["headers"]["Content-Type"] == "text/x-mine"
            assert answer.headers["X-Own"] == "kept"
    assert nodes.ask("HEAD", "/my/route").status == 200


def test_what_is_between_us_and_one_side_stays_there(nodes):
    answer = nodes.ask("POST", "/my/route", b"{}", {"Origin": nodes.url, "Referer": nodes.url + "/x", "Cookie": "a=b",
                                                   "Authorization": "Bearer ours", "X-Comfymux-Window": "w"})
    sent = {k.lower(): v for k, v in answer.json["headers"].items()}
    assert not {"origin", "referer", "authorization", "x-comfymux-window"} & set(sent)
    assert sent["cookie"] == "a=b" and sent["host"] == nodes.between[0].url[len("http://"):]
    assert "Access-Control-Allow-Origin" not in answer.headers, "a server does not say who may call us"


def test_pages_from_elsewhere_reach_no_custom_route(nodes):
    nodes.last = None
    for method in ("GET", "POST", "DELETE"):
        answer = nodes.ask(method, "/my/route", None, {"Origin": "http://evil.example"})
        assert (answer.status, answer.body) == (403, b"")
    assert nodes.last is None


def test_they_follow_the_job_that_they_name(nodes, on_s1):
    job, image = on_s1
    for path in ("/my/route?prompt_id=" + job, "/my/route?" + urllib.parse.urlencode(image)):
        assert nodes.ask("GET", path).json["server"] == "s1", path
    got = nodes.ask("GET", "/my/route?x=1&" + urllib.parse.urlencode(image)).json
    query = urllib.parse.parse_qs(got["target"].split("?")[1], keep_blank_values=True)
    assert query == {"x": ["1"], "filename": [image["filename"]], "subfolder": [""], "type": ["output"]}
    got = nodes.ask("POST", "/my/route", {"prompt_id": job, "more": [1.50, {"prompt_id": "x"}]}).json
    assert got["server"] == "s1" and json.loads(got["body"])["prompt_id"] == job
    got = nodes.ask("POST", "/my/route", '{"n": 18446744073709551615, "file": 1, "filename": "%s",  "subfolder": "%s"}'
                    % (image["filename"], image["subfolder"])).json
    assert got["server"] == "s1"
    assert got["body"] == '{"n": 18446744073709551615, "file": 1, "filename": "%s",  "subfolder": ""}' % image["filename"]


def test_an_id_in_the_path_counts_too(fleet, on_s1):
    from aiohttp import web

    job, _ = on_s1

    async def here(request):
        return web.Response(text="s1")

    fleet.between[1].custom["/my/jobs/%s/steps" % job] = here
    try:
        answer = fleet.ask("GET", "/my/jobs/%s/steps" % job)
    finally:
        fleet.between[1].custom.clear()
    assert (answer.status, answer.body) == (200, b"s1")


def test_names_that_nobody_knows_go_to_the_primary(nodes):
    nobody = str(uuid.uuid4())
    for query in ("prompt_id=" + nobody, "filename=x.png&type=output", "filename=x.png&subfolder=%s" % nobody,
                  "client_id=" + nobody, "prompt_id=%zz", "filename=%00"):
        assert nodes.ask("GET", "/my/route?" + query).json["server"] == "s0", query


def test_a_clients_running_job_leads_to_its_server(nodes):
    """And the id that the server knows is ours, not the client's: what it sends must come to us."""
    slow = graphs.slow(steps=2000, seconds=0.05, seed=4711)
    client, other = "walker-a", "walker-b"
    ids = [nodes.ask("POST", "/prompt", {"prompt": slow, "client_id": c}).json["prompt_id"] for c in (client, other)]
    try:
        for job in ids:
            nodes.until(lambda j=job: nodes.record(j)["state"] == "running")
        for c, job in zip((client, other), ids):
            where = nodes.record(job)["server"]["name"]
            for key in ("clientId", "client_id", "sid"):
                got = nodes.ask("GET", "/my/route?%s=%s" % (key, c)).json
                assert got["server"] == where
                assert c not in got["target"] and str(uuid.UUID(got["target"].split("=")[1]))
            got = nodes.ask("POST", "/my/route", {"client_id": c, "x": c}).json
            assert got["server"] == where
            assert json.loads(got["body"])["client_id"] != c and json.loads(got["body"])["x"] == c
        assert {nodes.record(j)["server"]["name"] for j in ids} == {"s0", "s1"}
    finally:
        for job in ids:
            nodes.ask("POST", "/api/jobs/%s/cancel" % job)


def test_large_bodies_stream_through_both_ways(fleet):
    """Larger than what is looked at, and than what is buffered."""
    from aiohttp import web

    size, got = 24 << 20, []

    async def echo(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        async for piece in request.content.iter_any():
            got.append(len(piece))
            await answer.write(piece)
        return answer

    fleet.between[0].custom["/my/echo"] = echo
    data = os.urandom(1 << 20) * (size >> 20)
    where = urllib.parse.urlsplit(fleet.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=WAIT)
    try:
        connection.putrequest("PUT", "/my/echo")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        sender = threading.Thread(target=connection.sock.sendall, args=(data,))
        sender.start()
        answer = Answer(connection.getresponse())
        sender.join()
    finally:
        connection.close()
        fleet.between[0].custom.clear()
    assert answer.status == 200 and answer.body == data and sum(got) == size


def test_a_custom_socket(fleet):
    """A WebSocket of a custom node; not for pages from elsewhere."""
    import asyncio

    import aiohttp
    from aiohttp import web

    async def chat(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for m in ws:
            await ws.send_str("s0 heard " + m.data)
        return ws

    async def flow():
        async with aiohttp.ClientSession() as s:
            async with s.ws_connect(fleet.url + "/my/socket") as ws:
                await ws.send_str("a")
                assert (await ws.receive(WAIT)).data == "s0 heard a"
            with pytest.raises(aiohttp.WSServerHandshakeError) as e:
                await s.ws_connect(fleet.url + "/my/socket", headers={"Origin": "http://evil.example"})
            assert e.value.status == 403

    fleet.between[0].custom["/my/socket"] = chat
    try:
        asyncio.run(flow())
    finally:
        fleet.between[0].custom.clear()


def test_slow_custom_routes_do_not_hold_up_jobs(fleet):
    """As many as there are connections to a server for them, all waiting: jobs run, and what is left of the routes
    answers when its turn comes."""
    import asyncio

    import aiohttp
    from aiohttp import web

    waiting = threading.Semaphore(0)
    gate = None

    async def hang(request):
        waiting.release()
        await gate.wait()
        return web.Response(text="done")

    async def flow():
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=WAIT)) as s:
            async def one():
                async with s.get(fleet.url + "/my/slow") as r:
                    return await r.text()

            many = [asyncio.ensure_future(one()) for _ in range(100)]
            for _ in range(64):
                await asyncio.to_thread(waiting.acquire)
            for n in range(4):
                job = await asyncio.to_thread(fleet.run, graphs.save("busy", color=n))
                assert fleet.record(job)["state"] == "succeeded"
            fleet.between[0].loop.call_soon_threadsafe(gate.set)
            assert await asyncio.gather(*many) == ["done"] * 100

    async def make():
        return asyncio.Event()

    gate = asyncio.run_coroutine_threadsafe(make(), fleet.between[0].loop).result(WAIT)
    fleet.between[0].custom["/my/slow"] = hang
    try:
        asyncio.run(flow())
    finally:
        fleet.between[0].custom.clear()


# --- logs over a socket ---

def test_log_lines_come_with_their_servers_name(fleet):
    import asyncio

    from comfy_client import Client

    async def flow():
        async with Client(fleet.url) as c, c.socket() as s:
            async with c.http.patch(c.url + "/internal/logs/subscribe", json={"clientId": c.client_id,
                                                                             "enabled": True}) as r:
                assert (r.status, await r.read()) == (200, b"")
            said = []
            while not (any("[s0] got prompt" in m for m in said) and any("[s1] got prompt" in m for m in said)):
                await c.submit(graphs.save("logged", color=len(said)))
                data = await s.until("logs")
                assert set(data) == {"entries", "size"}
                said += [e["m"] for e in data["entries"]]

    asyncio.run(flow())


# --- the manager ---

def test_the_manager_where_it_is_allowed():
    from aiohttp import web

    async def status(request):
        return web.json_response({"who": "s0"})

    try:
        with targets.sims(2) as servers, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "c.yaml")
            with open(path, "w") as out:
                out.write("manager: primary\n")
            with fleet_of(servers, "-c", path) as f:
                f.between[0].custom["/v2/manager/queue/status"] = status
                answer = f.ask("GET", "/v2/manager/queue/status")
                assert answer.status == 200 and answer.json == {"who": "s0"}
                assert f.ask("POST", "/v2/manager/queue/status", b"{}").json == {"who": "s0"}
                assert f.ask("GET", "/v2/manager/queue/status", None, {"Origin": "http://evil.example"}).status == 403
    except targets.Missing as e:
        targets.skip_or_fail(e)
