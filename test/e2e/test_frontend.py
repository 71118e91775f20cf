"""The frontend from a folder (`frontend:`), and what goes to the primary beside it."""
import gzip
import http.client

import pytest

import targets
from test_routes import fleet_of

SCRIPT = b"export const x = 1;\n" * 500


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    for name, data in {
        "index.html": b"<!doctype html><title>ours</title>",
        "user.css": b"/* ours */",
        "assets/index-BgU9Jz3_.js": SCRIPT,
        "assets/index-BgU9Jz3_.js.gz": gzip.compress(SCRIPT),
        "assets/style-a-b4cdE_xy.css": b"body {}",
        "assets/CREDIT.txt": b"thanks",
        "assets/images/sad-keyboard.png": b"\x89PNG",
        "extensions/core/old.js": b"// shim",
        "templates/index.json": b"[]",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder.parent / "secret.txt").write_text("not for the world")
    (folder / "out.txt").symlink_to(folder.parent / "secret.txt")
    try:
        with targets.sims(1) as servers, fleet_of(servers, "--frontend", str(folder)) as f:
            yield f
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_what_browsers_may_keep(page):
    for path, caching, kind in (
            ("/", "no-store", "text/html"), ("/?x=1", "no-store", "text/html"), ("/index.html", "no-store", "text/html"),
            ("/api/", "no-store", "text/html"),
            ("/assets/index-BgU9Jz3_.js", "public, max-age=31536000, immutable", "text/javascript"),
            ("/assets/style-a-b4cdE_xy.css", "public, max-age=31536000, immutable", "text/css"),
            ("/assets/CREDIT.txt", "no-cache", "text/plain"), ("/assets/images/sad-keyboard.png", "no-cache", "image/png"),
            ("/user.css", "no-cache", "text/css"), ("/extensions/core/old.js", "no-cache", "text/javascript"),
            ("/templates/index.json", "no-cache", "application/json")):
        for method in ("GET", "HEAD"):
            answer = page.ask(method, path)
            assert (answer.status, answer.headers["Cache-Control"], answer.type) == (200, caching, kind), path
            assert (answer.body == b"") == (method == "HEAD")
        again = page.ask("GET", path, None, {"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


def test_compressed_where_there_is_such_a_file(page):
    path = "/assets/index-BgU9Jz3_.js"
    plain = page.ask("GET", path)
    assert plain.body == SCRIPT and plain.headers["Vary"] == "Accept-Encoding" and not plain.headers["Content-Encoding"]
    packed = page.ask("GET", path, None, {"Accept-Encoding": "gzip, deflate, br"})
    assert packed.headers["Content-Encoding"] == "gzip" and packed.type == "text/javascript"
    assert gzip.decompress(packed.body) == SCRIPT and packed.headers["ETag"] != plain.headers["ETag"]
    other = page.ask("GET", "/user.css", None, {"Accept-Encoding": "gzip"})
    assert other.body == b"/* ours */" and not other.headers["Content-Encoding"] and not other.headers["Vary"]


def test_an_unknown_path_is_no_page(page):
    """The frontend tells a missing template by its 404. Files of another build are not looked for elsewhere."""
    for b in page.between:
        b.seen.clear()
    assert page.ask("GET", "/assets/index-00000000.js").status == 404
    assert not page.sent_to(0, "GET", "/assets/index-00000000.js")
    for path in ("/nope", "/nope.js", "/assets", "/assets/", "/templates/index.de.json", "/docs/x/en.md"):
        answer = page.ask("GET", path)
        assert answer.status == 404 and b"<" not in answer.body, (path, answer)


def test_nothing_outside_of_the_folder(page):
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/assets/../../secret.txt", "/out.txt",
                 "/assets/..%5c..%5csecret.txt", "//etc/passwd", "/assets/index-BgU9Jz3_.js/x"):
        answer = page.ask("GET", path)
        assert answer.status in (400, 404) and b"world" not in answer.body, (path, answer)


def test_what_is_not_in_it_is_the_primarys(page):
    from aiohttp import web

    async def mine(request):
        return web.Response(text="of the server")

    for path in ("/extensions/pack/x.js", "/templates/more.json", "/docs/Mine/en.md"):
        page.between[0].custom[path] = mine
        try:
            assert page.ask("GET", path).body == b"of the server"
        finally:
            page.between[0].custom.clear()
    connection = http.client.HTTPConnection(page.url.split("//")[1], timeout=60)
    connection.request("POST", "/user.css", b"x")
    assert connection.getresponse().status == 405
    connection.close()


# What the page asks for when it is opened (frontend 1.58), and what it needs to go on: of which type, and a check.
STARTUP = [
    ("/api/features", lambda v: v["supports_preview_metadata"] is True and not v.get("assets")),
    ("/api/users", lambda v: v["storage"] == "server"),
    ("/api/system_stats", lambda v: v["system"]["comfyui_version"] and v["devices"]),
    ("/api/settings", lambda v: isinstance(v, dict)),
    ("/api/i18n", lambda v: isinstance(v, dict)),
    ("/api/extensions", lambda v: all(isinstance(x, str) for x in v)),
    ("/api/object_info", lambda v: "SaveImage" in v),
    ("/api/global_subgraphs", lambda v: isinstance(v, dict)),
    ("/api/jobs?status=in_progress,pending&limit=200&offset=0", lambda v: v["pagination"]["limit"] == 200),
    ("/api/jobs?status=completed,failed,cancelled&limit=64&offset=0", lambda v: v["pagination"]["limit"] == 64),
    ("/api/workflow_templates", lambda v: isinstance(v, dict)),
    ("/api/experiment/models", lambda v: all(set(x) >= {"name", "folders"} for x in v)),
    ("/api/embeddings", lambda v: isinstance(v, list)),
    ("/api/prompt", lambda v: "queue_remaining" in v["exec_info"]),
]


@pytest.mark.parametrize("kind", ["sim", "real"])
def test_what_the_page_asks_for_at_its_start(kind, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html>")
    try:
        with targets.KINDS[kind](1) as servers, fleet_of(servers, "--frontend", str(tmp_path)) as f:
            for path, check in STARTUP:
                answer = f.ask("GET", path, None, {"Comfy-User": ""})
                assert answer.status == 200 and answer.type == "application/json" and check(answer.json), (path, answer)
            for path in ("/api/userdata/user.css", "/user.css", "/api/userdata?dir=workflows&recurse=true&split=false",
                         "/api/node_replacements"):
                assert f.ask("GET", path, None, {"Comfy-User": ""}).status == 404, path
            answer = f.ask("POST", "/api/settings/Comfy.InstalledVersion", '"1.58.1"', {"Content-Type": "text/plain"})
            assert (answer.status, answer.body) == (200, b"")
            assert f.ask("GET", "/api/settings/Comfy.InstalledVersion").json == "1.58.1"
    except targets.Missing as e:
        targets.skip_or_fail(e)
