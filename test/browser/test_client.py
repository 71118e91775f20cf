"""/mux/client.js in a browser: the module that a page takes to use the whole fleet."""
import contextlib
import http.server
import json
import re
import threading
import urllib.request

import graphs
import pytest
import targets
from browser import PIXEL, Wire, get, insecure, rgb, until

EVENTS = ["state", "progress", "output", "end", "reset", "connected", "disconnected"]
LISTEN = """events => {
    globalThis.heard = []
    for (const e of events) mux.on(e, x => heard.push({event: e, ...structuredClone(x)}))
}"""
# Several at once; the ids in this order.
SUBMIT = "graphs => Promise.all(graphs.map(g => mux.submit(g)))"
WAIT = "ids => Promise.all(ids.map(id => mux.waitForResult(id)))"
# The error of what it rejects with, as data.
FAULT = """async ([call, ...args]) => {
    try {
        return {resolved: await mux[call](...args)}
    } catch (e) {
        return {code: e.code, status: e.status, message: e.message, nodeErrors: e.nodeErrors, detail: e.detail,
                promptId: e.promptId, isError: e instanceof Error}
    }
}"""


def listening(tabs, *args, **more):
    page = tabs.mux(*args, **more)
    page.evaluate(LISTEN, EVENTS)
    return page


def heard(page, event, prompt=None):
    """Those events, of this prompt."""
    return [e for e in page.evaluate("heard") if e["event"] == event and prompt in (None, e.get("promptId"))]


def plain(e):
    return (e["event"], e["output"]["n"]) if e["event"] == "output" else (e["event"], e["state"], e["server"], e["attempt"])


def told(page, prompt):
    """What the page heard of this prompt, progress aside."""
    return [plain(e) for e in page.evaluate("heard") if e.get("promptId") == prompt and e["event"] != "progress"]


def log(fleet, prompt):
    """The same as the gateway has written it down; the job has ended."""
    with urllib.request.urlopen(fleet.url + "/mux/v1/jobs/%s/events" % prompt, timeout=30) as answer:
        text = answer.read().decode()
    found = [(kind, json.loads(data)) for kind, data in re.findall(r"^event: (.*)\ndata: (.*)$", text, re.M)]
    return [plain({"event": kind, "output": data, **data}) for kind, data in found]


def all_told(fleet, page, *prompts):
    """Nothing is missing, nothing comes twice, all in order."""
    page.wait_for_function("ids => ids.every(id => heard.some(e => e.event === 'end' && e.promptId === id))", arg=list(prompts))
    for prompt in prompts:
        assert told(page, prompt) == log(fleet, prompt)


def colours(first, count):
    return [0x203040 + first * 0x40 + i * 0x110508 for i in range(count)]


def cancel(fleet, prompt):
    urllib.request.urlopen(urllib.request.Request(fleet.url + "/mux/v1/jobs/%s/cancel" % prompt, method="POST")).close()


def ran_on(fleet, prompt):
    """The number of the one server that has the prompt in its own history: what no gateway has said."""
    found = [i for i, s in enumerate(fleet.servers) if s.running() and get(s.url + "/history/" + prompt)]
    assert len(found) == 1, found
    return found[0]


# ---- what the module is for ------------------------------------------------------------------------------------


def test_each_window_has_its_own_images_from_the_right_servers(fleet, tabs):
    """The two bugs: an image from another server, and a result without one."""
    pages = [listening(tabs, fleet.url) for _ in range(3)]
    names = [p.evaluate("mux.windowId") for p in pages]
    pages[2].reload()
    tabs.connect(pages[2], fleet.url).evaluate(LISTEN, EVENTS)
    assert [p.evaluate("mux.windowId") for p in pages] == names and len(set(names)) == 3

    wanted = {i: colours(i, 4) for i in range(3)}
    prompts = {i: p.evaluate(SUBMIT, [graphs.save("ComfyUI", c) for c in wanted[i]]) for i, p in enumerate(pages)}
    results = {i: p.evaluate(WAIT, prompts[i]) for i, p in enumerate(pages)}
    servers, files = set(), []
    for i, p in enumerate(pages):
        for colour, prompt, result in zip(wanted[i], prompts[i], results[i]):
            assert result["status"] == "completed" and result["image_urls"] and result["id"] == prompt
            urls = [p.evaluate("a => mux.getTaskBoundImageUrl(...a)", [prompt, r]) for r in (None, result, result["outputs"][0])]
            urls += [p.evaluate("r => mux.getGeneratedImageUrl(r)", r) for r in (result, prompt, {"prompt_id": prompt})]
            assert set(urls) == {fleet.url + result["image_url"]}
            assert p.evaluate(PIXEL, urls[0]) == rgb(colour)
            server = fleet.servers[ran_on(fleet, prompt)].url
            assert p.evaluate("id => mux.getTaskBoundServer(id)", prompt) == server
            task = p.evaluate("id => mux.getWindowTask(id)", prompt)
            assert (task["executionServer"], task["windowId"], task["clientId"]) == (server, names[i], names[i])
            assert task["registeredAt"] > 0 and task["state"] == "succeeded"
            servers.add(server)
            files.append((result["outputs"][0]["filename"], server))
        assert {e["promptId"] for e in p.evaluate("heard") if "promptId" in e} == set(prompts[i])
        all_told(fleet, p, *prompts[i])
    assert len(servers) > 1, "all ran on one server: nothing was shown"
    assert len({f for f, _ in files}) < len(files), "no two files have one name: nothing was shown"

    for p in pages:
        rows = p.evaluate("debugMultiWindowServers()")
        shown = {r["promptId"]: (r["window"], r["executionServer"], r["here"]) for r in rows}
        for i, p_of in prompts.items():
            for prompt in p_of:
                assert shown[prompt] == (names[i], fleet.servers[ran_on(fleet, prompt)].url, pages[i] is p)
    assert any(kind == "table" for _, kind, _ in tabs.said)

    gone = [p.url for p in fleet.servers if p.url in servers]
    for url in gone[:-1]:
        fleet.kill([s.url for s in fleet.servers].index(url))
    for i, p in enumerate(pages):
        for colour, prompt in zip(wanted[i], prompts[i]):
            url = p.evaluate("id => mux.getTaskBoundImageUrl(id)", prompt)
            assert p.evaluate(PIXEL, url + "?again") == rgb(colour)


def test_old_callers_are_never_led_to_another_server(fleet, tabs):
    page = tabs.mux(fleet.url)
    wanted = colours(9, 4)
    prompts = page.evaluate(SUBMIT, [graphs.save("ComfyUI", c) for c in wanted])
    page.evaluate(WAIT, prompts)
    for colour, prompt in zip(wanted, prompts):
        job = fleet.job(prompt)
        output = job["outputs"][0]
        name = {k: output[k] for k in ("filename", "subfolder", "type")}
        query = "view?filename=%(filename)s&subfolder=%(subfolder)s&type=%(type)s" % name
        other = next(s.url for s in fleet.servers if s.url != job["server"]["url"])
        history = get(fleet.url + "/history/" + prompt)
        for shape in (history, history[prompt], history[prompt]["outputs"]["2"]["images"][0], "%s/%s" % (job["server"]["url"], query),
                      get(fleet.url + "/status/" + prompt), output, output["url"], job):
            url = page.evaluate("r => mux.getGeneratedImageUrl(r)", shape)
            assert url.startswith(fleet.url + "/") and page.evaluate(PIXEL, url) == rgb(colour), shape
        # A name with a task, and a URL of the wrong server with a task
        for shape in (name, {"images": [name]}, "%s/%s" % (other, query), {"2": {"images": [name]}}):
            url = page.evaluate("a => mux.getTaskBoundImageUrl(...a)", [prompt, shape])
            assert page.evaluate(PIXEL, url) == rgb(colour), shape
        # The result of another task
        mixed = get(fleet.url + "/result/" + next(p for p in prompts if p != prompt))
        assert page.evaluate(PIXEL, page.evaluate("a => mux.getTaskBoundImageUrl(...a)", [prompt, mixed])) == rgb(colour)
    page.evaluate("() => mux.close()")


# ---- windows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trusted", "insecure"])
def test_a_duplicated_tab_is_another_window_and_a_reload_is_not(fleet, tabs, kind):
    url = insecure(fleet.url) if kind == "insecure" else fleet.url
    one = listening(tabs, url)
    assert one.evaluate("isSecureContext && 'locks' in navigator") == (kind == "trusted")
    name = one.evaluate("mux.windowId")
    prompt = one.evaluate("g => mux.submit(g)", graphs.slow(steps=4, seconds=0.05, prefix="dup"))
    one.evaluate("""() => new Promise(resolve => {
        const frame = document.createElement('iframe')
        frame.onload = resolve
        frame.src = '/healthz'
        document.body.append(frame)
    })""")
    tabs.connect(one.frames[1], url)  # shares the storage of its window, and is a window of its own
    assert one.frames[1].evaluate("mux.windowId") != name and one.evaluate("mux.windowId") == name
    with one.expect_popup() as popup:
        one.evaluate("() => { window.open(location.href) }")  # takes a copy of the storage along
    two = popup.value
    two.wait_for_load_state()
    assert two.evaluate("sessionStorage.getItem('comfymux.window')") == name
    tabs.connect(two, url)
    assert two.evaluate("mux.windowId") != name
    assert two.evaluate("id => mux.getWindowTask(id)", prompt) is None
    second = two.evaluate("mux.windowId")

    for page, own in ((one, name), (two, second), (one, name)):
        page.reload()
        tabs.connect(page, url)
        assert page.evaluate("mux.windowId") == own
    one.evaluate(LISTEN, EVENTS)
    assert one.evaluate("id => mux.getWindowTask(id).windowId", prompt) == name
    assert one.evaluate("id => mux.waitForResult(id)", prompt)["status"] == "completed"
    assert one.evaluate("id => mux.getTaskBoundServer(id)", prompt) == fleet.servers[ran_on(fleet, prompt)].url
    three = tabs.mux(url)
    assert three.evaluate("mux.windowId") not in (name, second)
    one.goto(url + "/healthz?another_page")  # in the same tab: the same window
    tabs.connect(one, url)
    assert one.evaluate("mux.windowId") == name


def test_a_reload_in_the_middle_of_a_job_misses_nothing(fleet, tabs):
    page = listening(tabs, fleet.url)
    prompt = page.evaluate("g => mux.submit(g)", graphs.slow(steps=30, seconds=0.05, prefix="reloaded"))
    page.wait_for_function("id => mux.getWindowTask(id).state === 'running'", arg=prompt)
    page.evaluate("id => mux.registerWindowTask(id, {mine: 'a note'})", prompt)
    page.evaluate("() => { addEventListener('pagehide', () => sessionStorage.setItem('before', JSON.stringify(heard))) }")
    page.reload()
    tabs.connect(page, fleet.url).evaluate(LISTEN, EVENTS)
    task = page.evaluate("id => mux.getWindowTask(id)", prompt)
    assert task["mine"] == "a note" and task["executionServer"] == fleet.job(prompt)["server"]["url"]
    page.wait_for_function("heard.some(e => e.event === 'end')")
    assert heard(page, "progress", prompt)
    page.evaluate("() => { heard = [...JSON.parse(sessionStorage.getItem('before')), ...heard] }")
    all_told(fleet, page, prompt)


def test_eight_windows_share_one_stream(fleet, tabs):
    """Browsers open six connections to a host. Windows without Web Locks and those with work alike."""
    url = insecure(fleet.url)
    opened, ended = [], []
    tabs.context.on("request", lambda r: opened.append(r) if "/mux/v1/events" in r.url else None)
    for event in ("requestfinished", "requestfailed"):
        tabs.context.on(event, lambda r: ended.append(r) if "/mux/v1/events" in r.url else None)
    pages = [listening(tabs, url) for _ in range(8)]
    wanted = colours(20, 8)
    prompts = [p.evaluate("g => mux.submit(g)", graphs.slow(steps=20, seconds=0.05, color=c))
               for p, c in zip(pages, wanted)]
    for p in pages:
        p.wait_for_function("heard.some(e => e.event === 'connected')")
    assert len(opened) - len(ended) == 1, [r.url for r in opened]
    leader = next(r for r in opened if r not in ended).frame.page
    at = pages.index(leader)
    rest = [i for i in range(8) if i != at]
    lasting = pages[rest[0]].evaluate("g => mux.submit(g)", graphs.slow(steps=10000, seconds=0.05))  # somebody listens until the end
    pages[rest[0]].wait_for_function("id => heard.some(e => e.promptId === id)", arg=lasting)
    leader.close()  # another one goes on where it was
    for i in rest:
        result = pages[i].evaluate("id => mux.waitForResult(id)", prompts[i])
        assert pages[i].evaluate(PIXEL, result["image_url"]) == rgb(wanted[i])
        all_told(fleet, pages[i], prompts[i])
        assert {e["promptId"] for e in pages[i].evaluate("heard") if "promptId" in e} - {lasting} == {prompts[i]}
    until("a stream that goes on", lambda: [r for r in opened if "last_event_id=" in r.url] or pages[rest[0]].wait_for_timeout(20))
    cancel(fleet, lasting)
    all_told(fleet, pages[rest[0]], lasting)


# ---- faults ----------------------------------------------------------------------------------------------------


def test_a_result_is_waited_for_through_a_crash_of_the_gateway(fleet, tabs):
    page = listening(tabs, fleet.url)
    prompt = page.evaluate("g => mux.submit(g)", graphs.slow(steps=20, seconds=0.05, color=0x408060))
    page.evaluate("id => { globalThis.waiting = mux.waitForResult(id) }", prompt)
    page.wait_for_function("id => mux.getWindowTask(id).state === 'running' && heard.some(e => e.event === 'connected')", arg=prompt)
    fleet.gateway.process.kill()
    page.wait_for_function("heard.some(e => e.event === 'disconnected')")
    # What is submitted meanwhile is taken, once, when the gateway is back.
    page.evaluate("g => { globalThis.later = mux.submit(g, {timeout: 60000}) }", graphs.save("later", 0x102030))
    fleet.gateway.process.start().wait_ready()
    result = page.evaluate("waiting")
    assert page.evaluate(PIXEL, result["image_url"]) == rgb(0x408060)
    later = page.evaluate("later")
    assert page.evaluate("id => mux.waitForResult(id)", later)["status"] == "completed"
    all_told(fleet, page, prompt, later)
    assert len(heard(page, "connected")) >= 2


def test_what_happened_while_the_network_was_away_is_told(fleet, tabs):
    with contextlib.closing(Wire(fleet.url)) as wire:
        page = listening(tabs, wire.url)
        resumed = []
        tabs.context.on("request", lambda r: resumed.append(r) if "last_event_id=" in r.url else None)
        prompt = page.evaluate("g => mux.submit(g)", graphs.slow(steps=40, seconds=0.05))
        page.wait_for_function("id => mux.getWindowTask(id).state === 'running' && heard.some(e => e.event === 'connected')", arg=prompt)
        page.evaluate("async g => mux.waitForResult(await mux.submit(g))", graphs.save())  # so that there are entries to go on after
        wire.cut()
        page.wait_for_function("heard.some(e => e.event === 'disconnected')")
        fleet.until_ended(prompt)
        wire.mend()
        all_told(fleet, page, prompt)
        page.wait_for_function("heard.filter(e => e.event === 'connected').length === 2")
        assert resumed


def test_all_is_told_where_the_stream_never_comes(fleet, tabs):
    """Behind a proxy that holds it back, and in a browser that lacks what windows talk over."""
    tabs.context.route("**/mux/v1/events*", lambda route: route.abort())
    tabs.context.add_init_script("delete globalThis.BroadcastChannel; delete Navigator.prototype.locks")
    page = listening(tabs, fleet.url)
    assert page.evaluate("typeof BroadcastChannel + typeof navigator.locks") == "undefinedundefined"
    prompt = page.evaluate("g => mux.submit(g)", graphs.slow(steps=5, seconds=0.05, color=0x305070))
    assert page.evaluate(PIXEL, page.evaluate("id => mux.getTaskBoundImageUrl(id)", prompt)) == rgb(0x305070)
    all_told(fleet, page, prompt)
    other = page.evaluate("g => mux.submit(g)", graphs.save("unwatched"))  # nobody waits for its result
    all_told(fleet, page, other)
    assert page.evaluate("id => mux.getTaskBoundServer(id)", other) == fleet.servers[ran_on(fleet, other)].url
    assert not heard(page, "connected")


def test_every_failure_has_its_name(fleet, tabs):
    page = listening(tabs, fleet.url)

    def fault(*call):
        got = page.evaluate(FAULT, list(call))
        assert got.get("isError") and got["message"], got
        return got

    failing, textual = page.evaluate(SUBMIT, [graphs.fail("boom"), graphs.text_only()])
    got = fault("waitForResult", failing)
    assert (got["code"], got["status"], got["promptId"]) == ("execution_error", 422, failing)
    assert "boom" in json.dumps(got["detail"])
    assert heard(page, "end", failing)[0]["error"]["code"] == "execution_error"
    assert page.evaluate("id => mux.getWindowTask(id).state", failing) == "failed"
    for call in (["waitForResult", textual], ["getTaskBoundImageUrl", textual], ["getGeneratedImageUrl", {"id": textual}]):
        assert fault(*call)["code"] == "no_image_output"

    unknown = "00000000-0000-4000-8000-000000000000"
    assert fault("waitForResult", unknown)["code"] == "not_found"
    assert fault("getGeneratedImageUrl", unknown)["code"] == "not_found"
    assert fault("getGeneratedImageUrl", {})["code"] == "bad_request"
    got = fault("submit", {"1": {"class_type": "NoSuchNode", "inputs": {}}})
    assert (got["code"], got["status"]) == ("missing_node_type", 400)
    got = fault("submit", {"2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}})
    assert (got["code"], got["status"]) == ("prompt_outputs_failed_validation", 400) and got["nodeErrors"]["2"]

    slow = page.evaluate("g => mux.submit(g)", graphs.slow(steps=1000, seconds=0.05))
    assert fault("waitForResult", slow, {"timeout": 50})["code"] == "timeout"
    got = page.evaluate("""async id => {
        const stop = new AbortController()
        const waiting = mux.waitForResult(id, {signal: stop.signal})
        stop.abort()
        return waiting.catch(e => [e.name, e.code])
    }""", slow)
    assert got == ["AbortError", "aborted"]
    page.evaluate("id => { globalThis.waiting = mux.waitForResult(id).catch(e => [e.code, e.status]) }", slow)
    cancel(fleet, slow)
    assert page.evaluate("waiting") == ["canceled", 409]
    page.evaluate("id => { globalThis.waiting = mux.waitForResult(id).catch(e => e.code); mux.close() }",
                  page.evaluate("g => mux.submit(g)", graphs.slow()))
    assert page.evaluate("waiting") == "closed"


# ---- another origin --------------------------------------------------------------------------------------------


class Site(http.server.BaseHTTPRequestHandler):
    """A site of somebody else; server.files are its files, and all else is an empty page."""

    def do_GET(self):
        kind, text = self.server.files.get(self.path, ("text/html", "<!doctype html><title>elsewhere</title>"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.files = {}
    server.url = "http://127.0.0.1:%d" % server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def listed(fleet, origin):
    """cors names this origin."""
    fleet.gateway.reload({"cors": [origin]})
    try:
        yield
    finally:
        fleet.gateway.reload({"cors": None})


def test_a_page_of_another_origin_works_if_it_is_listed_and_only_then(fleet, tabs, site):
    tabs.expected.append("blocked by CORS policy|Failed to fetch dynamically imported module")
    stranger = tabs.open(site.url)
    assert stranger.evaluate("url => import(url + '/mux/client.js').catch(e => e.name)", fleet.url) == "TypeError"
    with listed(fleet, site.url):
        page = listening(tabs, fleet.url, page_url=site.url)
        assert page.evaluate("mux.url") == fleet.url + "/"
        prompt = page.evaluate("g => mux.submit(g, {extraData: {note: 'x'}})", graphs.slow(steps=5, seconds=0.05, color=0x7090a0))
        page.wait_for_function("heard.some(e => e.event === 'connected')")
        page.evaluate("id => mux.waitForResult(id)", prompt)
        url = page.evaluate("id => mux.getTaskBoundImageUrl(id)", prompt)
        assert url.startswith(fleet.url)
        # Shown first, which asks without an Origin: what is kept of that must not stand in the way of what is read afterwards.
        with urllib.request.urlopen(url) as answer:
            assert "Origin" in answer.headers.get_all("Vary", [])
        page.evaluate("""async url => {
            const image = new Image()
            image.src = url
            await image.decode()
        }""", url)
        assert page.evaluate(PIXEL, url) == rgb(0x7090a0)
        all_told(fleet, page, prompt)
        assert fleet.job(prompt)["window_id"] == page.evaluate("mux.windowId")
        assert page.evaluate("debugMultiWindowServers()")
    got = page.evaluate(FAULT, ["submit", graphs.save(), {"timeout": 0}])
    assert (got["code"], got["status"]) == ("unreachable", None)


def test_the_example_of_the_documentation(fleet, tabs, site):
    text = (targets.ROOT / "docs" / "javascript.md").read_text()
    example = re.search(r"```html\n(.*?)```", text, re.S).group(1)
    site.files["/"] = ("text/html", example.replace("http://127.0.0.1:8280", fleet.url))
    site.files["/workflow_api.json"] = ("application/json", json.dumps(graphs.slow(steps=20, seconds=0.05, color=0x5080f0)))
    with listed(fleet, site.url):
        page = tabs.open(site.url)
        page.click("button")
        page.wait_for_function("document.images[0].naturalWidth > 0")
        assert page.evaluate(PIXEL, page.evaluate("document.images[0].src")) == rgb(0x5080f0)
        assert page.inner_text("p").startswith("collecting on s") and page.evaluate("document.querySelector('progress').max") == 20
        site.files["/workflow_api.json"] = ("application/json", json.dumps(graphs.fail("boom")))
        page.click("button")
        page.wait_for_function("document.querySelector('p').textContent.startsWith('execution_error: ')")


# ---- the module that checks a gateway --------------------------------------------------------------------------


def test_runAllTests_in_two_windows_with_a_server_dying(fleet, tabs):
    pages = [tabs.open(fleet.url + "/healthz") for _ in range(2)]
    killed = []

    def between(_, servers):
        if not killed:
            killed.append(servers[0])
            fleet.kill(servers[0])

    tabs.context.expose_binding("between", between)
    for p in pages:
        p.evaluate("""async url => {
            const { runAllTests } = await import(url + '/mux/selftest.js')
            globalThis.checking = runAllTests({between: servers => between(servers)})
        }""", fleet.url)
    tables = [p.evaluate("checking") for p in pages]
    for table in tables:
        assert len(table) == 12 and all(row["passed"] for row in table), json.dumps(table, indent=1)
    assert killed
    own = [table[0]["detail"].split(", ")[0] for table in tables]
    assert own[0] != own[1]
    assert sum(kind == "table" for _, kind, _ in tabs.said) >= 2


def test_runAllTests_with_a_real_server(tabs):
    """What it submits runs on any ComfyUI."""
    try:
        with targets.real() as servers, targets.in_front_of(servers) as front:
            page = tabs.open(front.url + "/healthz")
            table = page.evaluate("async url => (await import(url + '/mux/selftest.js')).runAllTests()", front.url)
            assert all(row["passed"] for row in table), json.dumps(table, indent=1)
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_runAllTests_says_what_is_wrong(fleet, tabs):
    """A gateway that mixes two images up must not pass."""
    page = tabs.open(fleet.url + "/healthz")
    first = []

    def mix(route):
        first.append(route.request.url)
        route.continue_(url=first[0])

    page.route("**/outputs/0", mix)
    table = page.evaluate("async url => (await import(url + '/mux/selftest.js')).runAllTests({jobs: 1})", fleet.url)
    assert {row["check"]: row["passed"] for row in table}["getTaskBoundImageUrl is the right image"] is False
