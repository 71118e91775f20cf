"""`comfymux run`, `jobs`, `servers`: what they print, write and exit with, against a gateway and a bare server."""
import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time

import pytest
from PIL import Image

import graphs
import targets

DONE, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


def fresh():
    return random.randrange(1 << 24)


@pytest.fixture(scope="module")
def fast():
    """Two simulators that play at 40 times their speed, and a gateway."""
    with contextlib.ExitStack() as stack:
        try:
            s = stack.enter_context(targets.sim(2, ["--speed", "40"]))
            yield stack.enter_context(targets.in_front_of(s)), s
        except targets.Missing as e:
            targets.skip_or_fail(e)


@pytest.fixture(params=["gateway", "bare server"])
def url(request, fast):
    return (fast[0] if request.param == "gateway" else fast[1]).url


class Folder:
    """A working directory with a workflow in it; out/ is where outputs go."""

    def __init__(self, path):
        self.path = path
        self.out = path / "out"

    def workflow(self, graph, name="workflow.json"):
        (self.path / name).write_text(graph if isinstance(graph, str) else json.dumps(graph))
        return name

    def start(self, *args, url=None, **more):
        env = {k: v for k, v in os.environ.items() if k != "COMFYMUX_URL"}
        if url:
            env["COMFYMUX_URL"] = url
        return subprocess.Popen([targets.comfymux("run"), *map(str, args)], cwd=self.path, env=env, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def run(self, *args, status=DONE, url=None):
        """(stdout, stderr)"""
        p = self.start(*args, url=url)
        out, err = p.communicate(timeout=60)
        assert p.returncode == status, "status %d\n%s\n%s" % (p.returncode, out, err)
        assert "\x1b" not in out + err, "colours or cursor moves, and this is no terminal"
        return out, err

    def files(self):
        return sorted(f.name for f in self.out.iterdir()) if self.out.exists() else []


@pytest.fixture
def here(tmp_path):
    return Folder(tmp_path)


# ---- run: what it does ---------------------------------------------------------------------------------------------


def test_text_to_image(url, here):
    w = here.workflow(graphs.text_to_image(seed=fresh()))
    out, err = here.run("run", w, "--url", url, "-o", "out")
    (path,) = out.splitlines()
    assert here.files() == [os.path.basename(path)]
    assert Image.open(here.path / path).size == (128, 128)
    assert "KSampler" in err or "%" in err or "3" in err  # it told what goes on, on stderr


def test_set_changes_inputs(url, here):
    w = here.workflow(graphs.text_to_image(seed=fresh()))
    out, _ = here.run("run", w, "-o", "out", "--set", "5.width=192", "--set", "Positive Prompt.text=a blue fox",
                      "--set", "KSampler.steps=2", "--json", url=url)
    (job,) = json.loads(out)["jobs"]
    (path,) = job["files"]
    image = Image.open(here.path / path)
    sent = json.loads(image.text["prompt"])
    assert image.size == (192, 128)
    assert sent["6"]["inputs"]["text"] == "a blue fox" and sent["3"]["inputs"]["steps"] == 2


def test_image_to_image(url, here):
    """A file from elsewhere by --input; a file beside the workflow by its path."""
    inside, outside = here.path / "pictures" / ("in%d.png" % fresh()), here.path / ("out%d.png" % fresh())
    inside.parent.mkdir()
    for k, f in enumerate((inside, outside)):
        Image.new("RGB", (64, 96), (40 * k, 200, 10)).save(f)
    w = here.workflow(graphs.image_to_image("pictures/" + inside.name, seed=fresh()))
    out, _ = here.run("run", w, "--url", url, "-o", "out")
    assert Image.open(here.path / out.strip()).size == (64, 96)
    elsewhere = here.path / "else"
    elsewhere.mkdir()
    w = here.workflow(graphs.image_to_image(outside.name, seed=fresh()), "else/w.json")
    there = Folder(elsewhere)
    out, _ = there.run("run", "w.json", "--input", outside, "--url", url, "-o", "out")
    assert Image.open(there.path / out.strip()).size == (64, 96)


def test_the_uploaded_bytes_arrive(url, here):
    color = (fresh() & 255, fresh() & 255, fresh() & 255)
    Image.new("RGB", (8, 8), color).save(here.path / "seen.png")
    w = here.workflow(graphs.load("seen.png"))
    out, _ = here.run("run", w, "--url", url, "-o", "out", "--quiet")
    got = Image.open(here.path / out.strip()).convert("RGB").getpixel((0, 0))
    assert all(0 <= 255 - v - g <= 1 for v, g in zip(color, got))


def test_several_outputs_and_a_preview(url, here):
    graph = graphs.text_to_image(seed=fresh(), batch=2)
    graph["11"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    graph["12"] = {"class_type": "ReportText", "inputs": {"value": "said", "count": 1}}
    out, _ = here.run("run", here.workflow(graph), "--url", url, "-o", "out", "--json")
    (job,) = json.loads(out)["jobs"]
    assert [os.path.basename(f) for f in sorted(job["files"])] == here.files()
    pictures = [f for f in here.files() if f.endswith(".png")]
    assert len([f for f in pictures if f.startswith("ComfyUI_0")]) == 2
    assert len(pictures) >= 2
    for f in pictures:
        Image.open(here.out / f).load()


def test_websocket_pictures_are_written(url, here):
    color = fresh()
    here.run("run", here.workflow(graphs.websocket_image(color)), "--url", url, "-o", "out")
    assert here.files() == ["ws_save_image_websocket_node_0.png"]
    assert Image.open(here.out / here.files()[0]).convert("RGB").getpixel((0, 0)) == \
        (color >> 16, color >> 8 & 255, color & 255)


def test_nothing_is_written_over(fast, here):
    w = here.workflow(graphs.save(prefix="keep%d" % fresh(), color=fresh()))
    here.out.mkdir()
    # Both servers' first file has this name.
    name = json.loads((here.path / w).read_text())["2"]["inputs"]["filename_prefix"] + "_00001_.png"
    (here.out / name).write_bytes(b"mine")
    out, _ = here.run("run", w, "--url", fast[0].url, "-o", "out")
    assert (here.out / name).read_bytes() == b"mine"
    assert here.files() == sorted([name, name.replace(".png", " (1).png")])
    assert os.path.basename(out.strip()) == name.replace(".png", " (1).png")


def test_count_and_seeds(fast, here):
    seed = fresh()
    w = here.workflow(graphs.text_to_image(seed=seed))
    out, _ = here.run("run", w, "--url", fast[0].url, "-o", "out", "-n", "4", "--json")
    jobs = json.loads(out)["jobs"]
    assert len(jobs) == 4 and len({j["id"] for j in jobs}) == 4
    files = [f for j in jobs for f in j["files"]]
    assert len(set(files)) == 4 == len(here.files())
    seeds = [json.loads(Image.open(here.path / j["files"][0]).text["prompt"])["3"]["inputs"]["seed"] for j in jobs]
    assert seeds == [seed, seed + 1, seed + 2, seed + 3]
    out, _ = here.run("run", w, "--url", fast[0].url, "-o", "out", "-n", "2", "--set", "3.seed=5", "--json")
    seeds = [json.loads(Image.open(here.path / j["files"][0]).text["prompt"])["3"]["inputs"]["seed"]
             for j in json.loads(out)["jobs"]]
    assert seeds == [5, 5]


def test_json_is_one_document(url, here):
    w = here.workflow(graphs.save(color=fresh()))
    out, _ = here.run("run", w, "--url", url, "-o", "out", "--json")
    document = json.loads(out)
    assert set(document) == {"jobs"}
    (job,) = document["jobs"]
    assert {"id", "state", "server", "attempt", "attempts", "outputs", "error", "timeline", "files", "created_at",
            "started_at", "finished_at", "window_id", "client_id", "registered_at", "progress",
            "queue_position"} <= set(job)
    assert job["state"] == "succeeded" and len(job["files"]) == len(job["outputs"]) == 1


def test_from_standard_input(fast, here):
    p = subprocess.run([targets.comfymux("run"), "run", "-", "--url", fast[0].url, "-o", "out", "--quiet"],
                       input=json.dumps(graphs.save(color=fresh())), cwd=here.path, text=True, capture_output=True,
                       timeout=60)
    assert p.returncode == DONE and p.stderr == "" and len(p.stdout.splitlines()) == 1


# ---- run: how it ends ----------------------------------------------------------------------------------------------


def test_a_job_that_fails(url, here):
    w = here.workflow(graphs.fail("boom %d" % fresh()))
    out, err = here.run("run", w, "--url", url, "-o", "out", "--json", status=FAILED)
    (job,) = json.loads(out)["jobs"]
    assert job["state"] == "failed" and job["error"]["code"] == "execution_error" and job["files"] == []
    assert "execution_error" in err and "boom" in err


def test_a_graph_that_is_refused(url, here):
    graph = graphs.save()
    graph["1"]["inputs"]["width"] = "wide"
    _, err = here.run("run", here.workflow(graph), "--url", url, "-o", "out", status=FAILED)
    assert "width" in err or "validation" in err


@pytest.mark.parametrize("args, text", [
    (["nothing.json"], "nothing.json"), (["broken.json"], "broken.json"), (["list.json"], "list.json"), ([], ""),
    (["w.json", "w.json"], ""), (["w.json", "--set", "77.x=1"], "77"), (["w.json", "--set", "x"], "x"),
    (["w.json", "-n", "0"], "-n"), (["w.json", "--surprise"], "surprise"),
    (["w.json", "--input", "missing.png"], "missing.png"), (["w.json", "--url", "ftp://x"], "ftp")])
def test_wrong_use(here, args, text):
    here.workflow(graphs.save(), "w.json")
    here.workflow("{nonsense", "broken.json")
    here.workflow("[1, 2]", "list.json")
    out, err = here.run("run", *args, status=USAGE, url="http://127.0.0.1:1")
    assert out == "" and text in err


def test_not_reachable(here):
    with socket.socket() as s:  # bound, not listening: nobody else gets the port meanwhile
        s.bind(("127.0.0.1", 0))
        url = "http://127.0.0.1:%d" % s.getsockname()[1]
        _, err = here.run("run", here.workflow(graphs.save()), "--url", url, "-o", "out", status=UNREACHABLE)
        assert url in err
        for command in ("jobs", "servers"):
            with contextlib.suppress(targets.Missing):
                p = subprocess.run([targets.comfymux(command), command, "--url", url], capture_output=True, text=True,
                                   timeout=60)
                assert p.returncode == UNREACHABLE and url in p.stderr


def test_ctrl_c_cancels_the_job(url, here):
    """SIGINT while it runs: status 130, and the server is free at once for what comes next."""
    w = here.workflow(graphs.slow(steps=4000, seconds=1, color=fresh()))
    p = here.start("run", w, "--url", url, "-o", "out")
    try:
        said = []
        while True:  # until it says that the job runs
            line = p.stderr.readline()
            assert line, "ended early: %s" % said
            said.append(line)
            if "running" in line or "1/4000" in line:
                break
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
    assert p.returncode == INTERRUPTED, err
    assert here.files() == []
    out, _ = here.run("run", here.workflow(graphs.save(color=fresh())), "--url", url, "-o", "out")
    assert len(out.splitlines()) == 1


def test_the_gateway_is_killed_while_it_waits(here):
    """run goes on with the gateway that comes back."""
    try:
        with targets.sim(1) as s, targets.in_front_of(s) as g:
            w = here.workflow(graphs.slow(steps=40, seconds=0.05, color=fresh()))
            p = here.start("run", w, "--url", g.url, "-o", "out")
            while "running" not in (line := p.stderr.readline()):
                assert line, p.communicate()
            g.processes[0].kill()
            g.processes[0].start().wait_ready()
            out, err = p.communicate(timeout=60)
            assert p.returncode == DONE, err
            assert len(here.files()) == 1 and out.strip().endswith(here.files()[0])
    except targets.Missing as e:
        targets.skip_or_fail(e)


# ---- jobs, servers -------------------------------------------------------------------------------------------------


def tool(name, *args, status=DONE):
    try:
        program = targets.comfymux(name)
    except targets.Missing as e:
        targets.skip_or_fail(e)
    p = subprocess.run([program, name, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=60)
    assert p.returncode == status, "status %d\n%s\n%s" % (p.returncode, p.stdout, p.stderr)
    return p.stdout, p.stderr


def test_jobs(fast, here):
    url = fast[0].url
    out, _ = here.run("run", here.workflow(graphs.save(color=fresh())), "--url", url, "-o", "out", "--json")
    done = json.loads(out)["jobs"][0]
    out, _ = here.run("run", here.workflow(graphs.fail("x%d" % fresh())), "--url", url, "--json", status=FAILED)
    failed = json.loads(out)["jobs"][0]
    out, _ = tool("jobs", "--url", url)
    assert out.index(failed["id"]) < out.index(done["id"])
    listed = json.loads(tool("jobs", "ls", "--url", url, "--json")[0])["jobs"]
    assert [j["id"] for j in listed[:2]] == [failed["id"], done["id"]]
    out, _ = tool("jobs", "show", failed["id"], "--url", url)
    assert "execution_error" in out and failed["id"] in out
    shown = json.loads(tool("jobs", "show", done["id"], "--url", url, "--json")[0])
    assert {k: v for k, v in done.items() if k != "files"} == shown
    out, _ = tool("jobs", "retry", failed["id"], "--url", url)
    new = json.loads(tool("jobs", "show", out.strip(), "--url", url, "--json")[0])
    assert new["retry_of"] == failed["id"]
    _, err = tool("jobs", "retry", done["id"], "--url", url, status=FAILED)
    assert err
    _, err = tool("jobs", "show", "01a00000-0000-7000-8000-000000000000", "--url", url, status=FAILED)
    assert "not_found" in err
    tool("jobs", "dance", "--url", url, status=USAGE)
    p = here.start("run", here.workflow(graphs.slow(steps=4000, seconds=1, color=fresh())), "--url", url)
    while "running" not in (line := p.stderr.readline()):
        assert line, p.communicate()
    (running,) = json.loads(tool("jobs", "--url", url, "--json")[0])["jobs"][:1]
    assert running["state"] == "running"
    tool("jobs", "cancel", running["id"], "--url", url)
    _, err = p.communicate(timeout=60)
    assert p.returncode == FAILED and "canceled" in err


def test_servers():
    try:
        with targets.sim(1) as one, targets.sim(1) as two, targets.in_front_of(one) as g:
            out, _ = tool("servers", "--url", g.url)
            assert "s0" in out and one.url in out
            tool("servers", "add", "new=" + two.url, "--depth", 2, "--tag", "big", "--url", g.url)
            deadline = time.monotonic() + 60
            while True:
                body = json.loads(tool("servers", "ls", "--json", "--url", g.url)[0])
                assert [s["name"] for s in body["servers"]] == ["s0", "new"]
                if body["servers"][1]["state"] == "up":
                    break
                assert time.monotonic() < deadline, body
                time.sleep(0.05)
            assert body["servers"][1]["depth"] == 2 and body["servers"][1]["tags"] == ["big"]
            tool("servers", "add", "new=" + two.url, "--url", g.url, status=FAILED)
            tool("servers", "drain", "new", "--url", g.url)
            body = json.loads(tool("servers", "--json", "--url", g.url)[0])
            assert body["servers"][1]["state"] == "draining"
            tool("servers", "resume", "new", "--url", g.url)
            tool("servers", "remove", "new", "--url", g.url)
            assert "new" not in tool("servers", "--url", g.url)[0]
            tool("servers", "remove", "new", "--url", g.url, status=FAILED)
    except targets.Missing as e:
        targets.skip_or_fail(e)


# ---- serve ---------------------------------------------------------------------------------------------------------


def serve(*args):
    return subprocess.run([targets.comfymux("serve"), "serve", *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)


def test_serve_says_what_is_wrong(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("listen: 127.0.0.1:0\nretry: {max_attempts: many}\n")
    p = serve("-c", bad, "--data", tmp_path / "d")
    assert p.returncode == USAGE and "bad.yaml:2" in p.stderr and "max_attempts" in p.stderr
    assert serve("--surprise").returncode == USAGE
    assert serve("--data", tmp_path / "d", "--server", "x=nonsense").returncode == USAGE
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = "127.0.0.1:%d" % s.getsockname()[1]
        p = serve("--data", tmp_path / "d", "--listen", taken)
        assert p.returncode == FAILED and taken in p.stderr


def test_one_data_folder_has_one_gateway():
    """A second one on the same folder does not start, and does no harm."""
    try:
        with tempfile.TemporaryDirectory() as data:
            first = targets.serve_process([], data, ready_path="/healthz")
            with targets.running([first]):
                p = serve("--data", data, "--listen", "127.0.0.1:0")
                assert p.returncode == FAILED and p.stderr
                assert first.running()
    except targets.Missing as e:
        targets.skip_or_fail(e)
