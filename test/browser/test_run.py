"""The page's Run view: a workflow is brought, changed where somebody changes it and nowhere else, and submitted."""
import io
import json
import pathlib
import re
import urllib.request

import pytest
from PIL import Image
from playwright.sync_api import expect

from browser import SECONDS, fleet as fleet_of, get, missing, until

expect.set_options(timeout=SECONDS * 1000)

SEED = "18446744073709551615"
HOSTILE = "<img src=x onerror=window.hit=1>"
# As text: what Python would make of it is not what is tested.
WORKFLOW = """{
  "3": {"class_type": "KSampler", "inputs": {"seed": %s, "steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal",
        "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]}},
  "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
  "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
  "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "caf\\u00e9", "clip": ["4", 1]}, "_meta": {"title": "What to paint"}},
  "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
  "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "run", "images": ["8", 0]}}
}""" % SEED

LOAD_INVERT_SAVE = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "inverted"}},
}

DROP = """([name, bytes, selector]) => {
    const data = new DataTransfer()
    data.items.add(new File([new Uint8Array(bytes)], name))
    const at = selector ? document.querySelector(selector) : document.body
    for (const type of ['dragover', 'drop'])
        at.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}))
}"""


@pytest.fixture
def run(fleet, tabs):
    return tabs.open(fleet.url + "/mux/#/run")


PASTE = """text => {
    const clipboardData = new DataTransfer()
    clipboardData.setData('text/plain', text)
    document.body.dispatchEvent(new ClipboardEvent('paste', {bubbles: true, cancelable: true, clipboardData}))
}"""

DROP_ADDRESS = """address => {
    const dataTransfer = new DataTransfer()
    dataTransfer.setData('text/uri-list', address)
    document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer}))
}"""


def drop(page, name, data, selector=None):
    expect(page.get_by_role("heading", name="Run").first).to_be_visible()
    page.evaluate(DROP, [name, list(data.encode() if isinstance(data, str) else data), selector])


def text(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def png(size, colour):
    out = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(out, "PNG")
    return out.getvalue()


def of_this_window(fleet, page):
    """The jobs that the page submitted, oldest first."""
    window = page.evaluate("sessionStorage.getItem('comfymux.window')")
    return get(fleet.url + "/mux/v1/jobs?client_id=%s" % window)["jobs"][::-1]


def ended(fleet, page, count):
    def all_ended():
        jobs = of_this_window(fleet, page)
        return jobs if len(jobs) == count and all(j["finished_at"] for j in jobs) else None

    jobs = until("%d jobs of the page to end" % count, all_ended)
    assert [j["state"] for j in jobs] == ["succeeded"] * count, jobs
    return jobs


def at_the_server(job):
    """The workflow as the server that ran it has it."""
    return text("%s/history/%s" % (job["server"]["url"], job["id"]))


def test_what_nobody_changed_goes_to_the_server_as_it_was(fleet, run):
    drop(run, "mine.json", WORKFLOW)
    run.get_by_label("steps", exact=True).fill("3")
    expect(run.get_by_text("6 nodes, 1 change")).to_be_visible()
    run.get_by_label("Runs", exact=True).fill("3")
    expect(run.get_by_text("All 3 will be the same")).to_be_visible()
    run.get_by_role("button", name="Run 3 times").click()
    expect(run.locator(".runs-list .is-succeeded")).to_have_count(3)
    for job in ended(fleet, run, 3):
        sent = at_the_server(job)
        assert '"seed": %s' % SEED in sent and '"cfg": 5.0' in sent and '"denoise": 1.0' in sent
        assert '"steps": 3' in sent and '"steps": 2' not in sent
        assert job["window_id"] == job["client_id"]
    first = run.locator(".runs-list a.job").first
    expect(first.locator("img.thumb")).to_be_visible()
    first.click()
    expect(run).to_have_url(re.compile("#/jobs/" + of_this_window(fleet, run)[-1]["id"]))


def test_seeds_count_on_or_come_by_chance(fleet, run):
    drop(run, "mine.json", WORKFLOW.replace(SEED, "9007199254740993"))
    run.get_by_label("What seed does with each run").select_option("increment")
    run.get_by_label("Runs", exact=True).fill("2")
    run.get_by_role("button", name="Run 2 times").click()
    sent = [at_the_server(j) for j in ended(fleet, run, 2)]
    assert ['"seed": 9007199254740993' in s for s in sent] == [True, False]
    assert ['"seed": 9007199254740994' in s for s in sent] == [False, True]
    expect(run.get_by_label("seed", exact=True)).to_have_value("9007199254740995")
    run.get_by_label("What seed does with each run").select_option("random")
    run.get_by_role("button", name="Run 2 times").click()
    seeds = [re.search(r'"seed": (\d+)', at_the_server(j)).group(1) for j in ended(fleet, run, 4)[2:]]
    assert len({*seeds, "9007199254740995"}) == 3
    expect(run.get_by_label("seed", exact=True)).to_have_value(seeds[-1])
    for seed in seeds:
        expect(run.get_by_text("seed " + seed)).to_be_visible()
    run.get_by_role("button", name="Reset seed").click()
    expect(run.get_by_label("seed", exact=True)).to_have_value("9007199254740993")


def test_a_picture_brings_the_workflow_that_made_it(fleet, run, tabs):
    drop(run, "mine.json", WORKFLOW)
    run.get_by_role("button", name="Run", exact=True).click()
    job, = ended(fleet, run, 1)
    with urllib.request.urlopen(fleet.url + job["outputs"][0]["url"]) as answer:
        picture = answer.read()
    other = tabs.open(fleet.url + "/mux/#/run")
    drop(other, "made.png", picture)
    expect(other.get_by_label("seed", exact=True)).to_have_value(SEED)
    expect(other.get_by_label("cfg", exact=True)).to_have_value("5.0")
    expect(other.get_by_role("heading", name="What to paint")).to_be_visible()
    drop(other, "plain.png", picture[:60])
    expect(other.get_by_role("alert")).to_contain_text("carries no workflow")
    expect(other.get_by_label("seed", exact=True)).to_have_value(SEED)
    other.get_by_label("cfg", exact=True).fill("6")
    other.evaluate(PASTE, WORKFLOW.replace('"steps": 2', '"steps": 7'))
    expect(other.get_by_label("steps", exact=True)).to_have_value("7")
    expect(other.get_by_label("cfg", exact=True)).to_have_value("5.0")
    # A picture of the gallery is dragged as the address of a smaller one.
    other.evaluate(DROP_ADDRESS, "%s%s/thumb?size=256" % (fleet.url, job["outputs"][0]["url"]))
    expect(other.get_by_label("steps", exact=True)).to_have_value("2")
    other.evaluate(DROP_ADDRESS, "http://elsewhere.test/x.png")
    expect(other.get_by_role("alert")).to_contain_text("pictures of this gateway")


def test_a_job_brings_its_workflow_and_a_reload_keeps_what_was_changed(fleet, run):
    drop(run, "mine.json", WORKFLOW)
    run.get_by_role("button", name="Run", exact=True).click()
    job, = ended(fleet, run, 1)
    run.goto(fleet.url + "/mux/#/jobs/" + job["id"])
    run.get_by_role("link", name="Open in Run").click()
    expect(run.get_by_role("link", name="this job")).to_be_visible()
    expect(run.get_by_label("seed", exact=True)).to_have_value(SEED)
    run.get_by_label("cfg", exact=True).fill("7.50")
    run.get_by_label("What seed does with each run").select_option("increment")
    run.reload()
    expect(run.get_by_label("cfg", exact=True)).to_have_value("7.50")
    expect(run.get_by_label("seed", exact=True)).to_have_value(SEED)
    expect(run.get_by_label("What seed does with each run")).to_have_value("increment")
    expect(run.get_by_text("6 nodes, 1 change")).to_be_visible()
    expect(run.locator(".runs-list a.job")).to_have_count(1)
    # Another workflow does not take the changes away for good.
    drop(run, "other.json", json.dumps(LOAD_INVERT_SAVE))
    expect(run.get_by_text("3 nodes, nothing changed")).to_be_visible()
    expect(run).to_have_url(re.compile("#/run$"))
    run.get_by_role("button", name="Back to job").click()
    expect(run.get_by_label("cfg", exact=True)).to_have_value("7.50")
    expect(run).to_have_url(re.compile("job=" + job["id"]))
    run.get_by_role("button", name="Undo all changes").click()
    expect(run.get_by_label("cfg", exact=True)).to_have_value("5.0")


def test_a_workflow_too_large_to_be_kept_says_so(run):
    drop(run, "large.json", WORKFLOW.replace("caf", "x" * 2_200_000))
    expect(run.get_by_text("a reload of the page will lose it")).to_be_visible()
    drop(run, "small.json", WORKFLOW)
    expect(run.get_by_text("a reload of the page will lose it")).to_have_count(0)


def test_a_full_queue_and_a_gateway_that_is_gone_are_said_in_words(chromium, tabs):
    with fleet_of(1, settings={"limits": {"queued": 2}}) as f:
        page = tabs.open(f.url + "/mux/#/run")
        drop(page, "mine.json", WORKFLOW.replace('"steps": 2', '"steps": 10000'))
        page.get_by_label("What seed does with each run").select_option("random")
        page.get_by_label("Runs", exact=True).fill("9")
        page.get_by_role("button", name="Run 9 times").click()
        expect(page.get_by_role("alert")).to_contain_text("Too many jobs are waiting.")
        count = len(of_this_window(f, page))
        assert 0 < count < 9
        expect(page.get_by_role("alert")).to_contain_text("%d of 9 were accepted before." % count)
        f.gateway.process.kill()
        page.get_by_role("button", name="Run 9 times").click()
        expect(page.get_by_role("alert")).to_contain_text("The gateway cannot be reached.")


def test_a_file_is_uploaded_into_an_input(fleet, run, tmp_path):
    run.get_by_role("button", name="Paste…").click()
    run.get_by_label("A workflow in API format").fill(json.dumps(LOAD_INVERT_SAVE))
    run.get_by_role("button", name="Open", exact=True).click()
    first = png(16, (255, 0, 0))
    (tmp_path / "in.png").write_bytes(first)
    run.get_by_label("Upload a file for image").first.set_input_files(str(tmp_path / "in.png"))
    expect(run.locator(".file-picture")).to_be_visible()
    expect(run.locator(".file select")).to_have_value("in.png")
    drop(run, "in.png", png(16, (0, 255, 0)), ".file")  # another of the same name replaces nothing
    expect(run.locator(".file select")).not_to_have_value("in.png")
    name = run.locator(".file select").input_value()
    expect(run.locator(".file-picture")).to_have_js_property("naturalWidth", 16)
    expect(run.get_by_role("alert")).to_have_count(0)  # nobody looked for a workflow in it
    run.get_by_role("button", name="Run", exact=True).click()
    job, = ended(fleet, run, 1)
    with urllib.request.urlopen("%s/view?filename=in.png&type=input" % fleet.url) as answer:
        assert answer.read() == first
    assert name in get("%s/mux/v1/jobs/%s/workflow" % (fleet.url, job["id"]))["prompt"]["1"]["inputs"]["image"]


def test_what_the_gateway_refuses_is_shown_at_its_input(fleet, run):
    # Values that came with the workflow are not judged by the page.
    drop(run, "mine.json", WORKFLOW.replace('"steps": 2', '"steps": 0').replace('"sd15.safetensors"', '"none.safetensors"'))
    expect(run.get_by_text("No server lists this.")).to_be_visible()
    run.get_by_role("button", name="Run", exact=True).click()
    expect(run.get_by_role("alert")).to_contain_text("The workflow was not accepted.")
    steps = run.get_by_label("steps", exact=True)
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_have_accessible_description(re.compile("smaller than min"))
    expect(steps).to_be_focused()
    expect(run.get_by_label("ckpt_name", exact=True)).to_have_accessible_description(re.compile("not in list"))
    expect(run.get_by_label("cfg", exact=True)).to_have_attribute("aria-invalid", "false")
    steps.fill("2.5")
    expect(steps).to_have_accessible_description(re.compile("whole number"))
    run.get_by_role("button", name="Run", exact=True).click()  # is not even sent
    expect(steps).to_be_focused()
    steps.fill("2")
    expect(steps).to_have_attribute("aria-invalid", "false")
    run.get_by_label("ckpt_name", exact=True).select_option("sd15.safetensors")
    run.get_by_role("button", name="Run", exact=True).click()
    ended(fleet, run, 1)


def test_hostile_names_stay_text(fleet, run):
    prompt = json.loads(WORKFLOW)
    prompt["6"]["_meta"] = {"title": HOSTILE}
    prompt["4"]["inputs"]["ckpt_name"] = HOSTILE
    prompt["7"] = {"class_type": HOSTILE, "inputs": {HOSTILE: HOSTILE, "__proto__": [HOSTILE, 0]}}
    drop(run, HOSTILE + ".json", json.dumps(prompt))
    expect(run.get_by_role("heading", name=HOSTILE).first).to_be_visible()
    expect(run.get_by_text("No server has this class:")).to_be_visible()
    run.get_by_role("button", name="Run", exact=True).click()
    expect(run.get_by_role("alert")).to_contain_text(HOSTILE)
    assert run.evaluate("window.hit === undefined && document.querySelector('main img[src=\"x\"]') === null")


def test_what_is_no_workflow_is_said_in_words(run):
    drop(run, "drawing.json", '{"nodes": [], "links": []}')
    expect(run.get_by_role("alert")).to_contain_text("Export (API)")
    drop(run, "x.json", '{"1": {"class_type": ')
    expect(run.get_by_role("alert")).to_contain_text("no JSON")
    run.get_by_role("button", name="Try a small example").click()
    expect(run.get_by_role("alert")).to_have_count(0)
    expect(run.get_by_label("width", exact=True)).to_have_value("512")


def test_links_lead_to_their_nodes_wherever_those_are(run):
    drop(run, "mine.json", WORKFLOW)
    expect(run.locator("#node_8")).to_have_count(0)  # has nothing to set
    run.get_by_role("button", name="images comes from node 8").click()
    expect(run.locator("#node_8")).to_be_focused()
    run.get_by_role("button", name="samples comes from node 3").click()
    expect(run.locator("#node_3")).to_be_focused()


def test_it_can_be_used_without_seeing_it(run):
    """axe's rules, in each state; and by keys alone."""
    rules = pathlib.Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
    if not rules.exists():
        missing("web/node_modules is missing (./dev setup)")

    def check():
        run.evaluate(rules.read_text())
        found = run.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")["violations"]
        assert not found, [(v["id"], [n["html"] for n in v["nodes"]]) for v in found]

    expect(run.get_by_role("button", name="Try a small example")).to_be_visible()
    check()
    drop(run, "mine.json", WORKFLOW)
    steps = run.get_by_label("steps", exact=True)
    steps.focus()
    run.keyboard.press("ArrowUp")
    expect(steps).to_have_value("3")
    run.keyboard.press("Shift+Tab")
    run.keyboard.press("Enter")  # its reset button
    expect(steps).to_have_value("2")
    expect(steps).to_be_focused()
    for scheme in ("light", "dark"):
        run.emulate_media(color_scheme=scheme)
        check()
    steps.fill("x")
    run.get_by_role("button", name="Run", exact=True).focus()
    run.keyboard.press("Enter")
    expect(steps).to_be_focused()
    check()
    run.set_viewport_size({"width": 360, "height": 700})
    check()
    assert run.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_all_are_canceled(fleet, run):
    drop(run, "mine.json", WORKFLOW.replace('"steps": 2', '"steps": 10000'))
    run.get_by_label("What seed does with each run").select_option("random")
    run.get_by_label("Runs", exact=True).fill("6")
    run.get_by_role("button", name="Run 6 times").click()
    expect(run.get_by_role("button", name="Run 6 times")).to_be_visible()
    until("six jobs", lambda: len(of_this_window(fleet, run)) == 6)
    run.get_by_role("button", name="Cancel all").click()
    expect(run.get_by_text("6 jobs are canceled.")).to_be_visible()
    expect(run.locator(".runs-list .badge.is-canceled")).to_have_count(6)
    assert {j["state"] for j in of_this_window(fleet, run)} == {"canceled"}
