"""Client packages as people install them, unmodified, through the gateway: with jobs of some milliseconds and of more than
half a second, one after another and several at once. Each gets the picture of its own job.

They are installed once, into build/clients; without node, npm or the registries the tests are skipped, in CI they fail."""
import base64
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import graphs
import targets

HERE = pathlib.Path(__file__).resolve().parent.parent / "clients"
FOLDER = targets.ROOT / "build" / "clients"
NODE = ["@saintno/comfyui-sdk", "@stable-canvas/comfyui-client", "comfy-ui-client"]
PYTHON = ["comfy-api-simplified", "comfy-toolkit"]
SECONDS = 120  # a safety net: some of them wait for ever for what does not come


def missing(why):
    if targets.in_ci():
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def installed(what, wanted, install):
    """Once per content of the file that lists the packages."""
    stamp, want = FOLDER / (what + ".made-from"), (HERE / wanted).read_text()
    if stamp.exists() and stamp.read_text() == want:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / wanted, FOLDER)
    for command in install:
        try:
            run = subprocess.run(command, cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as e:
            missing("client packages cannot be installed: %s" % e)
        if run.returncode:
            missing("client packages cannot be installed: %s: %s" % (command[0], run.stdout.strip()[-300:]))
    stamp.write_text(want)


def command_of(package):
    if package in NODE:
        if not shutil.which("node") or not shutil.which("npm"):
            missing("client packages of npm need node and npm")
        installed("node", "package.json", [["npm", "install", "--no-audit", "--no-fund", "--silent"]])
        return ["node", HERE / "run.mjs"]
    python = FOLDER / "py" / "bin" / "python"
    installed("python", "requirements.txt", [[sys.executable, "-m", "venv", "py"],
                                             [python, "-m", "pip", "install", "--quiet", "-r", "requirements.txt"]])
    return [python, HERE / "run.py"]


def job(color, seconds):
    graph = graphs.slow(steps=3, seconds=seconds / 3, color=color, seed=color) if seconds else graphs.save(color=color)
    if not seconds:
        graph["9"] = graph.pop("2")
    for node in graph:
        graph[node]["_meta"] = {"title": "Save" if node == "9" else "Node " + node}
    return graph


def color_of(png):
    r, g, b = Image.open(io.BytesIO(png)).convert("RGB").getpixel((0, 0))
    return r << 16 | g << 8 | b


@pytest.fixture(scope="module")
def gateway():
    try:
        with targets.gateway(2, sim_args=("--history-lag", "20")) as t:
            yield t.url
    except targets.Missing as e:
        targets.skip_or_fail(e)


@pytest.mark.parametrize("package", NODE + PYTHON)
def test_a_client_package(gateway, package):
    """The second half of the jobs runs at once, and two of them are the same: the second is found in a server's cache."""
    command = command_of(package)
    base = 0x100000 + (NODE + PYTHON).index(package) * 0x1000
    colors = [base + 1, base + 2, base + 3, base + 1, base + 5, base + 6, base + 7, base + 6]
    jobs = [job(c, 0 if k % 2 == 0 else 0.6) for k, c in enumerate(colors)]
    jobs[3], jobs[7] = job(colors[3], 0), job(colors[7], 0)
    try:
        run = subprocess.run([*map(str, command), package, gateway], input=json.dumps(jobs), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, timeout=SECONDS,
                             env=dict(os.environ, CLIENTS=str(FOLDER), NODE_NO_WARNINGS="1"))
    except subprocess.TimeoutExpired as e:
        pytest.fail("%s waits for ever; it has had %s" % (package, [x[:20] for x in (e.stdout or b"").splitlines()]))
    said = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"job"')]  # some of them log there
    got = {x["job"]: [color_of(base64.b64decode(i)) for i in x["images"]] for x in said}
    assert run.returncode == 0, run.stderr[-2000:]
    assert got == {k: [c] for k, c in enumerate(colors)}, run.stderr[-2000:]
