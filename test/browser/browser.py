"""What tests in a browser share: a fleet of simulated servers behind a gateway, and windows of one browser.

Fixtures (conftest.py):

    chromium   the browser, one per file of tests
    fleet      Fleet: four simulators, each a process of its own, which give their pictures equal names and whose history
               comes late, and a gateway in front of them. Shared by a file's tests: what a test has killed is started again
               after it
    tabs       Tabs: windows of ONE browser profile (common storage, locks and channels), closed after the test. A test
               fails when a page has raised something or its console shows an error that tabs.expected does not match

    def test_something(fleet, tabs):
        page = tabs.open(fleet.url + "/mux/")                    # a Playwright page
        one, two = tabs.mux(fleet.url), tabs.mux(fleet.url)      # pages with `mux`, an object of /mux/client.js
        prompt = one.evaluate("graph => mux.submit(graph)", graphs.save("ComfyUI", 0xff0000))
        fleet.kill(0)

Wire is a network that can be cut.

Pages and their objects may be used in the test's thread only (Playwright's synchronous interface)."""
import contextlib
import json
import pathlib
import re
import shutil
import socket
import threading
import time
import urllib.parse
import urllib.request

import pytest

import configured
import targets

CHROMIUM = "/usr/bin/chromium"
ARGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]
# Names that are not this machine's own: a page there is no secure context (no Web Locks, no crypto.randomUUID), as
# in a local network over plain http.
INSECURE = "comfymux.test"
SECONDS = 60  # a safety net for what is awaited


def missing(why):
    """Skip with the reason; a failure in CI, which owes us a browser."""
    if targets.in_ci():
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@contextlib.contextmanager
def chromium():
    """The browser. What starts it must not be kept over other files of tests: its event loop would be in their way."""
    program = shutil.which("chromium") or CHROMIUM
    if not pathlib.Path(program).exists():
        missing("no browser: chromium is not installed (./dev setup)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no browser: the Python package playwright is not installed (./dev setup)")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, headless=True, timeout=SECONDS * 1000,
                                    args=[*ARGS, "--host-resolver-rules=MAP %s 127.0.0.1" % INSECURE])
        yield browser
        browser.close()


def insecure(url):
    """The same place under a name that the browser does not trust."""
    return url.replace("127.0.0.1", INSECURE)


def get(url):
    """The JSON there."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def until(what, true):
    """Waits for true() to be so, and gives what it gave. The deadline is a safety net."""
    deadline = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(OSError):
            got = true()
            if got:
                return got
        assert time.monotonic() < deadline, "waited %d s for %s" % (SECONDS, what)
        time.sleep(0.02)


# ---- the fleet -------------------------------------------------------------------------------------------------


class Fleet:
    """servers: the simulators' processes, called s0, s1 ... by the gateway; gateway: configured.Gateway."""

    def __init__(self, servers, gateway):
        self.servers = servers
        self.gateway = gateway

    @property
    def url(self):
        return self.gateway.url

    def process(self, name):
        """Of a server by the gateway's name for it."""
        return self.servers[int(name[1:])]

    def kill(self, server):
        """SIGKILL to a server, by number or name; the gateway may not have noticed yet."""
        (self.process(server) if isinstance(server, str) else self.servers[server]).kill()

    def states(self):
        return {s["name"]: s["state"] for s in get(self.url + "/mux/v1/servers")["servers"]}

    def job(self, prompt):
        """The record of a job, as the gateway has it."""
        return get(self.url + "/mux/v1/jobs/" + prompt)

    def until_ended(self, prompt):
        """The record, when the job has ended."""
        def ended():
            job = self.job(prompt)
            return job if job["state"] in ("succeeded", "failed", "canceled", "expired") else None

        return until("the end of " + prompt, ended)

    def mend(self):
        """All is up again and as configured."""
        for p in [*self.servers, self.gateway.process]:
            if not p.running():
                p.start().wait_ready()
        until("servers to be up", lambda: set(self.states().values()) == {"up"})


@contextlib.contextmanager
def fleet(count=4, sim_args=("--history-lag", "150"), settings=None):
    with targets.sims(count, sim_args) as sims:
        with configured.gateway({"servers": configured.servers(sims.urls), **(settings or {})}) as gateway:
            f = Fleet(sims.processes, gateway)
            f.mend()
            yield f


class Wire:
    """A network between browser and gateway that can be cut: url leads to `to`."""

    def __init__(self, to):
        self.to = urllib.parse.urlsplit(to)
        self.open = set()
        self.up = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                near = self.listener.accept()[0]
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near):
        with near, contextlib.suppress(OSError), socket.create_connection((self.to.hostname, self.to.port)) as far:
            pair = (near, far)
            self.open.add(pair)
            if self.up:
                threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
                self._pump(near, far)
            self.open.discard(pair)

    @staticmethod
    def _pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self):
        """What is open ends; what is opened anew ends at once."""
        self.up = False
        for pair in list(self.open):
            for s in pair:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.up = True

    def close(self):
        self.listener.close()
        self.cut()


# ---- windows ---------------------------------------------------------------------------------------------------


class Tabs:
    """Windows of one profile. said: what their consoles showed, as (page number, kind, text)."""

    # What the browser itself writes when a request fails; whether that is right, the test sees by other signs.
    REQUESTS = r"Failed to load resource|net::ERR_"

    def __init__(self, chromium):
        self.context = chromium.new_context()
        self.context.set_default_timeout(SECONDS * 1000)
        self.expected = [self.REQUESTS]
        self.pages = []
        self.said = []
        self.context.on("page", self._watch)

    def _watch(self, page):
        n = len(self.pages)
        self.pages.append(page)
        page.on("console", lambda m: self.said.append((n, m.type, m.text)))
        page.on("pageerror", lambda e: self.said.append((n, "error", str(e))))

    def open(self, url):
        page = self.context.new_page()
        page.goto(url)
        return page

    def mux(self, url, options="{}", page_url=None):
        """A page of nothing, at the gateway (or page_url), with `mux`: connect(options) of this gateway's module."""
        return self.connect(self.open(page_url or url + "/healthz"), url, options)

    @staticmethod
    def connect(page, url, options="{}"):
        page.evaluate("""async url => {
            globalThis.client = await import(url + '/mux/client.js')
            globalThis.mux = client.connect(%s)
            await mux.ready
        }""" % options, url)
        return page

    def wrong(self):
        """What pages said that they should not have."""
        return ["page %d: %s" % (n, text) for n, kind, text in self.said
                if kind == "error" and not any(re.search(e, text) for e in self.expected)]

    def close(self):
        self.context.close()


# What a page may be asked. PIXEL: the first pixel of the picture at a URL, decoded by the browser, as [r, g, b].
PIXEL = """async url => {
    const answer = await fetch(url)
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`)
    const picture = await createImageBitmap(await answer.blob())
    const canvas = document.createElement('canvas')
    canvas.width = picture.width
    canvas.height = picture.height
    const context = canvas.getContext('2d')
    context.drawImage(picture, 0, 0)
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
}"""


def rgb(colour):
    """0xff8000 as PIXEL says it."""
    return [colour >> 16 & 255, colour >> 8 & 255, colour & 255]
