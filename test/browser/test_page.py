"""The page at /mux/: what it shows is what is so, without being asked again; all of it stays within its origin, and nothing that
somebody wrote is taken for a part of the page."""
import contextlib
import json
import pathlib
import re
import urllib.request

import pytest
from playwright.sync_api import expect

import browser
import configured
import graphs
import lively
import many_jobs
import targets

expect.set_options(timeout=browser.SECONDS * 1000)

submit = lively.submit


@pytest.fixture(autouse=True)
def within(tabs):
    """No request of any test leaves its gateway; what breaks the page's policy stands in the console, which `tabs` looks at."""
    asked = []
    tabs.context.on("request", lambda r: asked.append(r.url))
    yield
    assert not [u for u in asked if not re.match(r"http://127\.0\.0\.1:\d+/|blob:", u)]


@pytest.fixture
def own(request):
    """own(**settings): a gateway with a simulator of its own, for what would be in the way of other tests."""
    with contextlib.ExitStack() as stack:
        def start(count=1, sim_args=(), **settings):
            return stack.enter_context(browser.fleet(count, sim_args, settings))
        yield start


def mux(fleet, where=""):
    return fleet.url + "/mux/#/" + where


def row(page, prompt):
    return page.locator("a.job[href='#/jobs/%s']" % prompt)


# ---- jobs ------------------------------------------------------------------------------------------------------


def test_the_list_follows_jobs(fleet, tabs):
    page = tabs.open(mux(fleet))
    expect(page.locator(".health .is-good")).to_be_visible()
    prompt = submit(fleet.url, graphs.slow(steps=1000, seconds=0.5, color=0x2060a0), "w-live")
    job = row(page, prompt)
    expect(job.locator(".badge")).to_have_text("Running")
    expect(job.locator(".job-window")).to_have_text("w-live")
    page.wait_for_function("id => document.querySelector(`a[href='#/jobs/${id}'] progress`)?.value > 0", arg=prompt)
    # Its own page follows it too, and takes it away.
    job.click()
    expect(page.get_by_role("heading", name="Job " + prompt)).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job-head .badge")).to_have_text("Canceled")
    page.get_by_role("link", name="Jobs", exact=True).first.click()
    expect(job.locator(".badge")).to_have_text("Canceled")
    # A picture is there as soon as its job is done.
    prompt = submit(fleet.url, graphs.save("live", 0x2060a0))
    expect(row(page, prompt).locator(".badge")).to_have_text("Done")
    page.wait_for_function("id => document.querySelector(`a[href='#/jobs/${id}'] img`)?.naturalWidth > 0", arg=prompt)


def test_a_failed_job_says_why(fleet, tabs):
    page = tabs.open(mux(fleet, "jobs?show=failed"))
    prompt = submit(fleet.url, graphs.fail("the mask is too small"))
    expect(row(page, prompt)).to_contain_text("the mask is too small")
    expect(row(page, prompt).locator("code")).to_have_text("execution_error")
    row(page, prompt).click()
    trouble = page.locator(".trouble")
    expect(trouble).to_contain_text("the mask is too small")
    expect(trouble.locator("code")).to_have_text("execution_error")
    expect(page.locator(".log")).to_contain_text("state=failed")


def test_ten_thousand_jobs(own, tabs):
    """All can be scrolled through; only what is in sight is in the document."""
    count = 10000
    f = own()
    first = submit(f.url, graphs.text_only())  # ten thousand pictures would be a test of the browser
    f.until_ended(first)
    f.gateway.process.stop()
    ids = many_jobs.multiply(pathlib.Path(f.gateway.file).parent / "data", count)
    f.gateway.process.start().wait_ready()
    page = tabs.open(mux(f))
    page.set_viewport_size({"width": 1200, "height": 3000})
    expect(row(page, ids[-1])).to_be_visible()
    expect(page.locator(".choice")).to_contain_text("Done%d" % (count + 1))
    seen, nodes = page.evaluate("""async count => {
        const box = document.querySelector('.virtual'), seen = {}, nodes = []
        const turn = () => new Promise(done => setTimeout(done))
        document.body.style.visibility = 'hidden' // painting is what takes long without a graphics card
        for (let idle = 0; idle < 5000; idle++) {
            for (const item of box.querySelectorAll('.virtual-item'))
                (seen[item.ariaPosInSet] ??= []).push(item.querySelector('a').hash.split('/').pop())
            nodes.push(document.querySelectorAll('*').length)
            const was = box.scrollTop
            box.scrollTop += box.clientHeight
            if (box.scrollTop !== was) idle = 0
            else if (Object.keys(seen).length >= count) break
            box.dispatchEvent(new Event('scroll')) // not only when the next frame is drawn
            await turn()
        }
        return [Object.entries(seen).map(([at, ids]) => [Number(at), [...new Set(ids)]]), nodes]
    }""", count + 1)
    assert [at for at, _ in sorted(seen)] == list(range(1, count + 2))
    assert [i for _, many in sorted(seen) for i in many] == [*reversed(ids), first]
    assert len(nodes) > 100 and max(nodes) < 2500, (len(nodes), max(nodes))


def test_a_lost_gateway_comes_back(own, tabs):
    """The page says that it is gone, and then shows what happened without it."""
    f = own(sim_args=("--speed", "10"))
    page = tabs.open(mux(f))
    expect(page.locator(".health .is-good")).to_be_visible()
    prompt = submit(f.url, graphs.slow(steps=30, seconds=1))
    expect(row(page, prompt).locator(".badge")).to_have_text("Running")
    f.gateway.process.kill()
    expect(page.locator(".health")).to_contain_text("cannot be reached")
    browser.until("the work to be over", lambda: prompt in browser.get(f.servers[0].url + "/history"))
    f.gateway.process.start().wait_ready()
    expect(page.locator(".health .is-good")).to_be_visible()
    expect(row(page, prompt).locator(".badge")).to_have_text("Done")
    later = submit(f.url, graphs.save("later", 1))
    expect(row(page, later).locator(".badge")).to_have_text("Done")
    expect(page.locator(".job")).to_have_count(2)


SEEN = """state => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state })
    document.dispatchEvent(new Event('visibilitychange'))
}"""


def test_a_hidden_page_lets_its_stream_go(fleet, tabs):
    page = tabs.open(mux(fleet))
    expect(page.locator(".health .is-good")).to_be_visible()
    mark = fleet.gateway.process.mark()
    page.evaluate(SEEN, "hidden")
    fleet.gateway.process.until_said(r"event=closed path=/mux/v1/events", mark)
    prompt = submit(fleet.url, graphs.save("hidden", 2))
    fleet.until_ended(prompt)
    assert row(page, prompt).count() == 0
    page.evaluate(SEEN, "visible")
    expect(row(page, prompt).locator(".badge")).to_have_text("Done")


# ---- the frame -------------------------------------------------------------------------------------------------


def test_colours(fleet, tabs):
    page = tabs.open(mux(fleet))
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Change to light").click()
    assert page.evaluate(colour) == light
    page.get_by_role("button", name="Change to dark").click()
    dark = page.evaluate(colour)
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    assert page.evaluate(colour) == dark
    page.get_by_role("button", name="Change to as the system").click()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) == dark


def focused(page):
    return page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.innerText ?? '').trim().split('\\n').pop()")


def test_keyboard(fleet, tabs):
    submit(fleet.url, graphs.save("keys", 3))
    page = tabs.open(mux(fleet))
    expect(page.locator(".job").first).to_be_visible()
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == ["To the content", "comfymux", "Jobs", "Gallery", "Servers", "Windows", "Run"]
    page.reload()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    # A dialog keeps the focus, Escape gives it back.
    page.goto(mux(fleet, "servers"))
    page.get_by_role("button", name="Add a server").press("Enter")
    expect(page.locator("#add-url")).to_be_focused()
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a server")).to_be_focused()


def test_the_policy(fleet):
    for name in ("", "page.js", "page.css"):
        with urllib.request.urlopen(fleet.url + "/mux/" + name) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, name


# ---- gallery ---------------------------------------------------------------------------------------------------

LOADED = "() => document.querySelector('%s')?.naturalWidth > 0"


def tiles(page, prompt):
    return page.locator(".tile[data-key^='%s/']" % prompt)


def test_pictures_outlive_their_server(fleet, tabs):
    prompt = submit(fleet.url, graphs.save("kept", 0x10c040, size=64))
    job = fleet.until_ended(prompt)
    fleet.kill(job["server"]["name"])
    page = tabs.open(mux(fleet, "gallery"))
    expect(tiles(page, prompt)).to_have_count(1)
    page.wait_for_function(LOADED % (".tile[data-key^=\"%s/\"] img" % prompt))
    tiles(page, prompt).click()
    page.wait_for_function(LOADED % "img.lightbox-picture")
    assert page.evaluate(browser.PIXEL, fleet.url + job["outputs"][0]["url"]) == browser.rgb(0x10c040)


def batch(seed, count, text="a heron"):
    graph = graphs.text_to_image(seed, text, steps=1, size=64, batch=count)
    graph["7"]["inputs"]["text"] = "fog"
    return graph


def test_gallery(own, tabs):
    """All pictures of a job, new ones at the top, and each of them large with what it was made from."""
    f = own(sim_args=("--speed", "50"))
    seed = 2**64 - 3
    page = tabs.open(mux(f, "gallery"))
    expect(page.get_by_text("No picture has been made yet")).to_be_visible()
    many = submit(f.url, batch(seed, 7), "w-gallery")
    expect(tiles(page, many)).to_have_count(7)
    one = submit(f.url, graphs.save("one", 4))
    expect(page.locator(".tile").first).to_have_attribute("data-key", one + "/0")
    none = submit(f.url, graphs.text_only())
    f.until_ended(none)
    expect(page.locator(".tile")).to_have_count(8)

    tiles(page, many).first.click()
    about = page.locator(".lightbox-facts")
    for text in ("a heron", "fog", str(seed), "64 × 64", "s0", "w-gallery"):
        expect(about.get_by_text(text)).to_be_visible()
    expect(page.get_by_role("link", name="Its job")).to_have_attribute("href", "#/jobs/" + many)
    expect(page.get_by_role("link", name="Open in Run")).to_have_attribute("href", "#/run?job=" + many)
    last = "img.lightbox-picture[src='/mux/v1/jobs/%s/outputs/%d']"
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    expect(page.locator(last % (many, 6))).to_be_visible()
    page.keyboard.press("ArrowRight")  # there is no further one
    page.keyboard.press("ArrowLeft")
    expect(page.locator(last % (many, 5))).to_be_visible()
    # What comes meanwhile does not take away the picture that is looked at.
    newer = submit(f.url, graphs.save("newer", 5))
    expect(page.locator(".tile").first).to_have_attribute("data-key", newer + "/0")
    expect(page.locator(last % (many, 5))).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.wait_for_function("key => document.activeElement.dataset.key === key", arg=many + "/5")

    page.get_by_label("window").fill("w-gallery")
    page.get_by_label("window").press("Enter")
    expect(page.locator(".tile")).to_have_count(7)
    page.get_by_role("button", name="Videos").click()
    expect(page.get_by_text("Nothing here is like this")).to_be_visible()


def test_gallery_keeps_its_place(own, tabs):
    """Who has scrolled down stays where they look while pictures come."""
    f = own(sim_args=("--speed", "50"))
    for i in range(12):
        last = submit(f.url, batch(i, 8))
    f.until_ended(last)
    page = tabs.open(mux(f, "gallery"))
    page.set_viewport_size({"width": 700, "height": 500})
    expect(page.locator(".tile").first).to_be_visible()
    key = page.evaluate("""async () => {
        const box = document.querySelector('.virtual')
        for (let i = 0; i < 6; i++) {
            box.scrollTop += 400
            await new Promise(done => setTimeout(done, 50))
        }
        const top = box.getBoundingClientRect().top
        const tile = [...box.querySelectorAll('.tile')].filter(t => t.getBoundingClientRect().top >= top)
            .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0]
        return tile.dataset.key
    }""")
    at = "key => document.querySelector(`.tile[data-key='${key}']`).getBoundingClientRect().top"
    before = page.evaluate(at, key)
    height = page.evaluate("document.querySelector('.virtual-all').clientHeight")
    for i in range(2):
        f.until_ended(submit(f.url, batch(100 + i, 4)))
    page.wait_for_function("h => document.querySelector('.virtual-all').clientHeight > h", arg=height)
    assert abs(page.evaluate(at, key) - before) < 1


def test_films(fleet, tabs):
    """Simulators make none: a finished job is told of as if it had made one."""
    prompt = submit(fleet.url, graphs.save("film", 6))
    fleet.until_ended(prompt)

    def changed(route):
        job = browser.get(fleet.url + "/mux/v1/jobs/" + prompt)
        job["outputs"][0].update(kind="video", filename="film.mp4", mime="video/mp4")
        route.fulfill(json={"jobs": [job], "next": None})

    page = tabs.open(mux(fleet, "gallery"))
    page.route(re.compile("kind=video"), changed)
    page.get_by_role("button", name="Videos").click()
    tile = page.locator(".tile")
    expect(tile).to_contain_text("▶")
    expect(tile.locator(".tile-name")).to_have_text("film.mp4")
    tile.click()
    expect(page.locator("video.lightbox-picture")).to_have_attribute("src", "/mux/v1/jobs/%s/outputs/0" % prompt)
    expect(page.get_by_role("link", name="Download")).to_have_attribute("download", "film.mp4")


def test_swipe(own, tabs, chromium):
    f = own(sim_args=("--speed", "50"))
    f.until_ended(submit(f.url, batch(1, 3)))
    page = tabs.open(mux(f, "gallery"))
    page.locator(".tile").first.click()
    page.wait_for_function(LOADED % "img.lightbox-picture")
    touch = page.context.new_cdp_session(page)

    def swipe(*xs):
        for kind, x in zip(("touchStart", *("touchMove",) * (len(xs) - 1)), xs):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": 300}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    swipe(500, 400, 300)
    expect(page.locator("img.lightbox-picture[src$='/outputs/1']")).to_be_visible()
    swipe(300, 400, 500)
    expect(page.locator("img.lightbox-picture[src$='/outputs/0']")).to_be_visible()
    swipe(300, 310)
    expect(page.locator("img.lightbox-picture[src$='/outputs/0']")).to_be_visible()


# ---- servers, windows ------------------------------------------------------------------------------------------


def card(page, name):
    return page.get_by_role("article", name="Server " + name, exact=True)


def test_servers(own, tabs):
    f = own(count=2)
    page = tabs.open(mux(f, "servers"))
    expect(card(page, "s0").locator(".badge")).to_have_text("up")
    prompt = submit(f.url, graphs.slow(steps=1000, seconds=0.5))
    name = browser.until("its server", lambda: (f.job(prompt)["server"] or {}).get("name"))
    other = {"s0": "s1", "s1": "s0"}[name]
    at_work = card(page, name)
    expect(at_work.locator("a[href='#/jobs/%s']" % prompt)).to_be_visible()
    page.wait_for_function("() => document.querySelector('.server progress[value]')?.value > 0")

    card(page, other).get_by_role("button", name="Drain").click()
    expect(card(page, other).locator(".badge")).to_have_text("draining")
    card(page, other).get_by_role("button", name="Resume").click()
    expect(card(page, other).locator(".badge")).to_have_text("up")

    # What is wrong stands at its field, whoever finds it.
    page.get_by_role("button", name="Add a server").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.locator("#add-url-help.field-fault")).to_be_visible()
    dialog.get_by_label("Address").fill(f.servers[0].url)
    dialog.get_by_label("Name").fill("no good name")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.locator("#add-name-help.field-fault")).to_contain_text("letters")
    dialog.get_by_label("Name").fill("s0")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.locator("#add-name-help.field-fault")).to_contain_text("in use")
    dialog.get_by_label("Name").fill("third")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.locator("#add-url-help.field-fault")).to_contain_text("server s0")
    dialog.get_by_label("Address").fill("http://127.0.0.1:9")
    dialog.get_by_label("Jobs at a time").fill("3")
    dialog.get_by_label("Tags").fill("big, slow")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog).to_have_count(0)
    expect(card(page, "third").locator(".badge")).to_have_text("down")
    expect(card(page, "third")).to_contain_text("slow")

    card(page, "third").get_by_role("button", name="Remove").click()
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(card(page, "third")).to_have_count(0)
    # One of the configuration file is not for the page to remove; that is said.
    at_work.get_by_role("button", name="Remove").click()
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator(".message.is-bad")).to_contain_text("configuration file")
    card(page, other).get_by_role("link", name=other, exact=True).click()
    expect(page.get_by_role("heading", name="Server " + other)).to_be_visible()
    expect(page.locator(".device")).to_contain_text("of")

    f.kill(other)
    expect(page.locator(".job-head .badge")).to_have_text(re.compile("suspect|down"))
    lively.post(f.url + "/mux/v1/jobs/%s/cancel" % prompt)


def test_removing_a_server_that_works(own, tabs):
    """By a second word only; its job runs elsewhere."""
    f = own()
    with targets.sim(1) as more:
        lively.post(f.url + "/mux/v1/servers/s0/drain")
        lively.post(f.url + "/mux/v1/servers", {"url": more.url, "name": "more"})
        prompt = submit(f.url, graphs.slow(steps=1000, seconds=0.5))
        browser.until("its server", lambda: (f.job(prompt)["server"] or {}).get("name") == "more")
        page = tabs.open(mux(f, "servers/more"))
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
        page.get_by_role("button", name="Remove it and queue its jobs again").click()
        expect(page.get_by_role("heading", name="Servers", exact=True)).to_be_visible()
        expect(card(page, "s0")).to_be_visible()
        expect(card(page, "more")).to_have_count(0)
        card(page, "s0").get_by_role("button", name="Resume").click()
        expect(card(page, "s0").locator("a[href='#/jobs/%s']" % prompt)).to_be_visible()
    lively.post(f.url + "/mux/v1/jobs/%s/cancel" % prompt)


def test_windows(own, tabs):
    f = own()
    page = tabs.open(mux(f, "windows"))
    expect(page.get_by_text("No window has been heard of yet")).to_be_visible()
    prompt = submit(f.url, graphs.slow(steps=1000, seconds=0.5), "w-one", "client-1")
    window = page.get_by_role("article", name="Window w-one")
    expect(window).to_contain_text("client-1")
    expect(window.locator(".badge")).to_have_text("Running")
    expect(window.get_by_role("link", name="s0")).to_be_visible()
    lively.post(f.url + "/mux/v1/jobs/%s/cancel" % prompt)
    expect(window.locator(".badge")).to_have_text("Canceled")
    window.get_by_role("link", name="w-one").click()
    expect(page.locator(".job")).to_have_count(1)


# ---- hostile names ---------------------------------------------------------------------------------------------

EVIL = "<img src=x onerror=window.hacked=1>"
QUOTE = "\"><script>window.hacked=1</script>"
ODD = "\u202eevil\u200b\u2066"
ALL = EVIL + QUOTE.replace("/", "") + ODD


def unharmed(page, *texts):
    for text in texts:
        expect(page.get_by_text(text).first).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], main script, main svg").count() == 0


def test_hostile_names(own, tabs):
    f = own(sim_args=("--speed", "50"))
    graph = batch(5, 1, text=EVIL + QUOTE + ODD)
    graph["9"]["inputs"]["filename_prefix"] = ALL
    graph["3"]["_meta"] = {"title": EVIL}
    done = submit(f.url, graph, ALL, ALL)
    failed = submit(f.url, graphs.fail(EVIL + QUOTE + ODD), ALL, ALL)
    f.until_ended(done)
    f.until_ended(failed)

    page = tabs.open(mux(f))
    expect(page.locator(".job")).to_have_count(2)
    unharmed(page, EVIL)
    page.goto(mux(f, "jobs/" + done))
    expect(page.locator(".output-name")).to_contain_text(EVIL)
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".nodes")).to_contain_text(EVIL + QUOTE)
    page.get_by_label("As text").check()
    expect(page.locator("pre.log").last).to_contain_text(json.dumps(QUOTE)[1:-1])
    unharmed(page, EVIL)
    page.goto(mux(f, "jobs/" + failed))
    page.get_by_text("What the server said").click()
    unharmed(page, EVIL)
    page.goto(mux(f, "gallery"))
    page.locator(".tile").first.click()
    expect(page.locator(".lightbox-facts")).to_contain_text(EVIL + QUOTE)
    unharmed(page, EVIL)
    page.goto(mux(f, "windows"))
    expect(page.get_by_role("link", name=EVIL).first).to_be_visible()
    unharmed(page, EVIL)

    # Names and words of servers, as no gateway would let them through.
    def changed(route):
        answer = route.fetch()
        said = answer.json()
        for s in said.get("servers", [said]):
            s.update(name=ALL, reason=EVIL + QUOTE + ODD, url=EVIL, version=EVIL, tags=[EVIL, QUOTE], state="down")
            s.update(versions={"comfyui": EVIL, "python": EVIL, "pytorch": EVIL}, models=[EVIL], missing_nodes=[EVIL, QUOTE],
                     devices=[{"name": EVIL, "type": EVIL, "vram_total": 2, "vram_free": 1}], extra_nodes=[EVIL])
        route.fulfill(response=answer, json=said)

    page.route(re.compile("/mux/v1/servers$"), changed)
    page.route(re.compile("/mux/v1/servers/"), lambda route: changed(route) if "s0" in route.request.url else route.abort())
    page.goto(mux(f, "servers"))
    unharmed(page, EVIL, QUOTE)
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("dialog")).to_contain_text(EVIL)
    unharmed(page, EVIL)
    page.goto(mux(f, "servers/s0"))
    expect(page.locator(".device")).to_contain_text(EVIL)
    unharmed(page, EVIL, QUOTE)
    page.goto(mux(f, "jobs/" + EVIL.replace(" ", "%20")))
    unharmed(page, "there is no job")
