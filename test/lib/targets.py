"""What a test can be run against: a real ComfyUI server, `comfymux sim`, `comfymux serve`.

A target that is not there raises Missing with the reason; pytest then skips. Two reasons are failures where CI
is set: a real server that cannot be installed, and a binary that was not built (`./dev test` builds it)."""
import contextlib
import functools
import itertools
import os
import pathlib
import subprocess
import tempfile

import pytest

import comfyui
from process import Announced

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LOGS = ROOT / os.environ.get("COMFYMUX_TEST_LOGS", "build/test-logs")

started = []  # every process of this run, for the log tails of a failed test


class Missing(Exception):
    """This target does not exist here; the text says why."""


def in_ci():
    return os.environ.get("CI", "") not in ("", "0", "false")


def binary():
    """The comfymux program: COMFYMUX_BIN, else the ASan build, else the release build."""
    if os.environ.get("COMFYMUX_BIN"):
        path = pathlib.Path(os.environ["COMFYMUX_BIN"])
        if not path.exists():
            raise Missing("COMFYMUX_BIN names %s, which is not there" % path)
        return path
    for kind in ("asan", "release"):
        path = ROOT / "build" / kind / "src" / "comfymux"
        if path.exists():
            return path
    raise Missing("comfymux is not built (./dev build asan)")


@functools.lru_cache
def _subcommand(path, name):
    run = subprocess.run([path, name, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, timeout=60)
    return run.returncode == 0


def comfymux(name):
    """The program, if it has this subcommand."""
    path = binary()
    if not _subcommand(path, name):
        raise Missing("%s has no subcommand `%s` yet" % (path.name, name))
    return path


_numbers = itertools.count()


def _log(name):
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / ("%d-%s.log" % (next(_numbers), name))


class Target:
    """urls[0] is where a client connects; name is real, sim or gateway; processes are those behind it."""

    def __init__(self, name, urls, processes):
        self.name = name
        self.urls = urls
        self.processes = processes

    @property
    def url(self):
        return self.urls[0]


@contextlib.contextmanager
def running(processes, wait=60):
    try:
        for p in processes:
            started.append(p)
            p.start()
        for p in processes:
            p.wait_ready(wait)
        yield processes
    finally:
        status = {p: p.stop() for p in reversed(processes)}
    # A sanitizer's finding shows in the exit status; so does an assertion.
    for p, code in status.items():
        if p.name.startswith("comfymux") and not p.killed:
            assert code == 0, "%s ended with status %s:\n%s" % (p.name, code, p.tail())


@contextlib.contextmanager
def real(count=1):
    try:
        comfyui.install()
    except comfyui.Unavailable as e:
        raise Missing("no real ComfyUI server: %s" % e) from e
    with tempfile.TemporaryDirectory(prefix="comfyui-") as folder:
        many = [comfyui.Server(pathlib.Path(folder) / str(i)) for i in range(count)]
        for s in many:
            s.log = _log("real")
        with running(many, wait=120):
            yield Target("real", [s.url for s in many], many)


def sim_process(count=1, args=()):
    program = comfymux("sim")
    return Announced("comfymux sim", [program, "sim", "--listen", "127.0.0.1:0", "--count", count, *args],
                     _log("sim"), count)


def serve_process(urls, data, args=(), ready_path="/readyz"):
    """The gateway in front of servers called s0, s1 ..., not started; data is its folder."""
    program = comfymux("serve")
    fleet = [a for i, url in enumerate(urls) for a in ("--server", "s%d=%s" % (i, url))]
    return Announced("comfymux serve", [program, "serve", "--listen", "127.0.0.1:0", "--data", data, *fleet, *args],
                     _log("gateway"), ready_path=ready_path)


@contextlib.contextmanager
def sim(count=1, args=()):
    """count simulated servers in one process."""
    p = sim_process(count, args)
    with running([p]):
        yield Target("sim", p.urls, [p])


@contextlib.contextmanager
def sims(count, args=()):
    """count simulated servers, each a process of its own, that can be killed."""
    many = [sim_process(1, ["--name", "p%d_" % i, *args]) for i in range(count)]
    with running(many):
        yield Target("sims", [p.url for p in many], many)


@contextlib.contextmanager
def in_front_of(servers, args=(), ready_path="/readyz"):
    """`comfymux serve` in front of a target's servers, with a data folder of its own. processes[0] is the gateway."""
    with tempfile.TemporaryDirectory(prefix="comfymux-") as data:
        p = serve_process(servers.urls, data, args, ready_path)
        with running([p]):
            yield Target("gateway", [p.url], [p, *servers.processes])


@contextlib.contextmanager
def gateway(count=2, args=(), sim_args=()):
    """`comfymux serve` in front of `count` simulated servers."""
    with sim(count, sim_args) as servers, in_front_of(servers, args) as front:
        yield front


@functools.lru_cache
def _can_mount():
    """Why a file system of our own cannot be mounted here, or None."""
    with tempfile.TemporaryDirectory(prefix="comfymux-") as folder:
        try:
            run = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as e:
            return str(e)
        if run.returncode:
            return run.stdout.strip()
        subprocess.run(["umount", folder], check=True)
        return None


def need_mount():
    """For tests with a small file system of their own: root is needed, and a root that cannot mount is told in CI."""
    why = _can_mount()
    if why and os.geteuid() == 0 and in_ci():
        pytest.fail("nothing can be mounted here: " + why, pytrace=False)
    if why:
        pytest.skip("a file system of its own is needed: " + why)


KINDS = {"real": real, "sim": sim, "gateway": gateway}


def skip_or_fail(why):
    """For fixtures: skip this test with the reason; fail where CI is set and the machine owes us the target."""
    if in_ci() and ("real ComfyUI" in str(why) or "COMFYMUX_BIN" in str(why)):
        pytest.fail(str(why), pytrace=False)
    pytest.skip(str(why))
