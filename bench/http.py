"""./dev bench http: requests a second through the gateway, beside nginx doing the same on the same machine.

    G1  GET of a job's status (mux, native, small task API), 64 connections: against nginx proxying the same body from an
        nginx behind it, and against nginx's `return 200` of that body
    G2  a small GET that is passed on to a server: against nginx passing it on to the same server; and what each adds at
        one connection to what the server itself takes
    G3  GET /view of a 4 MB output from the store: against nginx sending the file

A release gateway in front of one simulated server with one finished job; nginx with one worker per process; load by wrk,
one thread. Sides take turns, each repeat gives a ratio, and the table shows the median of these. nginx and wrk are
Debian's: those installed, or else downloaded with apt and unpacked into build/bench/tools, used from there. Writes
build/bench/http.json."""
import sys

del sys.path[0]  # this folder, in which http.py would stand in for Python's own http

import argparse  # noqa: E402
import asyncio
import contextlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "test" / "lib"), str(ROOT / "test" / "e2e")]
import graphs  # noqa: E402
from comfy_client import Client  # noqa: E402
from process import Announced, Process, free_port  # noqa: E402

TOOLS = ROOT / "build" / "bench" / "tools"
PACKAGES = ("nginx", "wrk", "libluajit-5.1-2")  # the last for wrk
PIXELS = 1180  # a square of noise that makes a PNG of 4 MB
PASSED_ON = "/i18n"  # which the primary answers, each time


# ---- nginx and wrk -----------------------------------------------------------------------------------------------


def tool(name):
    """(command, environment): the one installed, else one unpacked below build/."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path:
        return path, dict(os.environ)
    found = list(TOOLS.glob("usr/*bin/" + name))
    if not found:
        TOOLS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if run.returncode:
                raise RuntimeError("nginx and wrk are not installed and cannot be downloaded: " + run.stdout[-500:])
            for package in pathlib.Path(folder).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, TOOLS], check=True)
        found = list(TOOLS.glob("usr/*bin/" + name))
    libraries = {str(p.parent) for p in TOOLS.glob("usr/lib/**/*.so*")}
    return str(found[0]), {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def quoted(text):
    """A string of nginx's configuration, where $ begins a variable and cannot be quoted."""
    if "$" in text:
        raise RuntimeError("a body holds a $: " + text[:200])
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Nginx(Process):
    """One process that does everything, as a worker does. lines: the inside of its server block; upstreams: name -> url."""

    def __init__(self, folder, name, lines, upstreams):
        folder = pathlib.Path(folder) / name
        folder.mkdir()
        port = free_port()
        temp = "".join("%s_temp_path %s/%s; " % (k, folder, k) for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        behind = ["upstream %s { server %s; keepalive 128; keepalive_requests 100000000; }" % (
            k, urllib.parse.urlsplit(url).netloc) for k, url in upstreams.items()]
        (folder / "nginx.conf").write_text("""
daemon off; master_process off; pid %(folder)s/pid; error_log %(folder)s/error.log;
events { worker_connections 2048; }
http {
    %(temp)s
    access_log off; default_type application/json; sendfile on; tcp_nopush on; keepalive_requests 100000000;
    %(behind)s
    server {
        listen 127.0.0.1:%(port)d;
        location = /ready { return 200; }
        %(lines)s
    }
}
""" % {"folder": folder, "temp": temp, "behind": "\n    ".join(behind), "port": port, "lines": "\n        ".join(lines)})
        path, env = tool("nginx")
        super().__init__("nginx " + name, [path, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"],
                         "http://127.0.0.1:%d" % port, folder / "log.txt", ready_path="/ready", env=env)


PROXY = 'proxy_pass http://%s; proxy_http_version 1.1; proxy_set_header Connection "";'


def seconds_of(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


def cpu_seconds(pid):
    """Time its threads have run so far."""
    return sum(int(p.read_text().split()[0]) for p in pathlib.Path("/proc/%d/task" % pid).glob("*/schedstat")) / 1e9


def load(side, connections, seconds):
    """What wrk measures of (url, pid): requests a second, seconds at p50 and p99; and the process's CPU seconds per request."""
    url, pid = side
    before = cpu_seconds(pid)
    path, env = tool("wrk")
    run = subprocess.run([path, "-t1", "-c%d" % connections, "-d%ds" % seconds, "--latency", url], env=env,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    bad = re.search(r"(Non-2xx.*|Socket errors.*)", run.stdout)
    if run.returncode or bad:
        raise RuntimeError("%s: %s" % (url, bad.group(1) if bad else run.stdout))
    requests = int(re.search(r"(\d+) requests in", run.stdout).group(1))
    return {"cpu": (cpu_seconds(pid) - before) / requests,
            "rate": float(re.search(r"Requests/sec: *([\d.]+)", run.stdout).group(1)),
            "p50": seconds_of(re.search(r"50% +(\S+)", run.stdout).group(1)),
            "p99": seconds_of(re.search(r"99% +(\S+)", run.stdout).group(1))}


# ---- what is asked -----------------------------------------------------------------------------------------------


async def one_job(url):
    """Runs a job whose output is a picture of 4 MB. Returns {name: path} to ask for, and the picture's bytes."""
    from PIL import Image

    noise = io.BytesIO()
    Image.frombytes("RGB", (PIXELS, PIXELS), random.Random(1).randbytes(PIXELS * PIXELS * 3)).save(noise, "PNG")
    async with Client(url) as c:
        await c.until_all_up()
        up = await c.upload("noise.png", noise.getvalue())
        graph = graphs.load(up["name"])
        del graph["2"]
        graph["3"]["inputs"]["images"] = ["1", 0]
        job = await c.submit(graph)
        record = await c.until_state(job)
        if record["state"] != "succeeded":
            raise RuntimeError("the job did not succeed: %s" % record)
        (image,) = (await c.history(job))["outputs"]["3"]["images"]
        view = "/view?" + urllib.parse.urlencode({k: image[k] for k in ("filename", "subfolder", "type")})
        status, data = await c.fetch(view)
        if status != 200 or len(data) < 4_000_000:
            raise RuntimeError("the picture has %d bytes" % len(data))
        paths = {"mux": "/mux/v1/jobs/" + job, "native": "/history/" + job, "task": "/status/" + job, "view": view}
        bodies = {name: (await c.fetch(paths[name]))[1] for name in ("mux", "native", "task")}
        return paths, bodies, data


# ---- measuring ---------------------------------------------------------------------------------------------------


class Table:
    def __init__(self):
        self.rows = []

    def add(self, ident, what, ours, peer, peer_name, goal, better, unit):
        """ours and peer: one value per repeat. better: "more" or "less" of ours is good."""
        ratios = [a / b for a, b in zip(ours, peer)]
        ratio = statistics.median(ratios)
        met = None if goal is None else ratio >= goal if better == "more" else ratio <= goal
        self.rows.append({"id": ident, "what": what, "ours": statistics.median(ours), "peer": statistics.median(peer),
                          "peer_name": peer_name, "ratio": ratio, "goal": goal, "met": met, "better": better, "unit": unit,
                          "spread": {"min": min(ratios), "max": max(ratios), "runs": ratios}})

    def show(self, repeats):
        print("%-44s %-22s %12s %12s %7s %-14s %9s" % ("http, %d repeats" % repeats, "peer", "ours", "peer's", "ratio",
                                                       "from to", "goal"))
        for r in self.rows:
            value = lambda v: "%.1f us" % (v * 1e6) if r["unit"] == "s" else "%.0f/s" % v  # noqa: E731,B023
            goal = "" if r["goal"] is None else "%s %.2f" % (">=" if r["better"] == "more" else "<=", r["goal"])
            print("%-44s %-22s %12s %12s %7.2f %-14s %9s%s" % (
                r["what"], r["peer_name"], value(r["ours"]), value(r["peer"]), r["ratio"],
                "%.2f to %.2f" % (r["spread"]["min"], r["spread"]["max"]),
                goal, {None: "", True: "  met", False: "  MISSED"}[r["met"]]))


def in_turns(sides, connections, seconds, repeats):
    """{name: [what wrk measured at each repeat]}, the sides one after the other in every repeat."""
    out = {name: [] for name in sides}
    for url, _ in sides.values():
        for _ in range(20):  # the first ones are slower on every side
            with urllib.request.urlopen(url, timeout=30) as answer:
                answer.read()
    for _ in range(repeats):
        for name, side in sides.items():
            out[name].append(load(side, connections, seconds))
    return out


def of(runs, key):
    return [r[key] for r in runs]


def measure(gateway, sim, front, paths, seconds, repeats):
    """Each server is (url, pid)."""
    table = Table()
    at = lambda server, path: (server[0] + path, server[1])  # noqa: E731
    proxying, returning, file = "nginx, proxying", "nginx, return 200", "nginx, the file"

    def compare(ident, what, r, peer, peer_name, goal):
        table.add(ident, what, of(r["ours"], "rate"), of(r[peer], "rate"), peer_name, goal, "more", "1/s")
        # What a busy machine changes less.
        table.add(ident + ".cpu", "  its own CPU time for each", of(r["ours"], "cpu"), of(r[peer], "cpu"), peer_name, None,
                  "less", "s")

    for name, what in (("mux", "GET /mux/v1/jobs/{id}"), ("native", "GET /history/{id}"), ("task", "GET /status/{id}")):
        r = in_turns({"ours": at(gateway, paths[name]), "proxy": at(front, "/proxied/" + name),
                      "return": at(front, "/return/" + name)}, 64, seconds, repeats)
        compare("G1.%s.proxy" % name, what + ", 64 connections", r, "proxy", proxying, 1.0)
        compare("G1.%s.return" % name, what + ", 64 connections", r, "return", returning, 0.8)
    sides = {k: at(server, PASSED_ON) for k, server in (("ours", gateway), ("proxy", front), ("direct", sim))}
    r = in_turns({k: sides[k] for k in ("ours", "proxy")}, 64, seconds, repeats)
    compare("G2.rate", "passed on, 64 connections", r, "proxy", proxying, 0.7)
    r = in_turns(sides, 1, seconds, repeats)
    added = {side: [max(a["p50"] - d["p50"], 1e-6) for a, d in zip(r[side], r["direct"])] for side in ("ours", "proxy")}
    table.add("G2.p50", "passed on, 1 connection, added p50", added["ours"], added["proxy"], proxying, 1.25, "less", "s")
    table.add("G2.p99", "passed on, 1 connection, p99", of(r["ours"], "p99"), of(r["proxy"], "p99"), proxying, 1.5, "less", "s")
    r = in_turns({"ours": at(gateway, paths["view"]), "file": at(front, "/picture.png")}, 8, seconds, repeats)
    compare("G3.view", "GET /view of 4 MB, 8 connections", r, "file", file, 1.0)
    return table


@contextlib.contextmanager
def running(process):
    try:
        yield process.start().wait_ready()
    finally:
        process.stop()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench http", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=1, help="of load, each time")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    program = pathlib.Path(os.environ.get("COMFYMUX_BIN") or ROOT / "build" / "release" / "src" / "comfymux").absolute()
    with tempfile.TemporaryDirectory(prefix="comfymux-http-") as tmp, contextlib.ExitStack() as stack:
        folder = pathlib.Path(tmp)
        sim = stack.enter_context(running(Announced("comfymux sim", [program, "sim", "--listen", "127.0.0.1:0", "--state",
                                                                     folder / "sim"], folder / "sim.log")))
        gateway = stack.enter_context(running(Announced(
            "comfymux serve", [program, "serve", "--listen", "127.0.0.1:0", "--data", folder / "data", "--server",
                               "s0=" + sim.url], folder / "gateway.log", ready_path="/readyz")))
        paths, bodies, picture = asyncio.run(one_job(gateway.url))
        (folder / "picture.png").write_bytes(picture)
        same = ["location = /%s/%s { return 200 %s; }" % (kind, name, quoted(body.decode()))
                for name, body in bodies.items() for kind in ("return", "proxied")]
        origin = stack.enter_context(running(Nginx(folder, "origin", same, {})))
        front = stack.enter_context(running(Nginx(
            folder, "front", [*(line for line in same if "= /return/" in line),
                              "location /proxied/ { %s }" % PROXY % "origin",
                              "location = %s { %s }" % (PASSED_ON, PROXY % "sim"),
                              "location = /picture.png { root %s; }" % folder],
            {"origin": origin.url, "sim": sim.url})))
        table = measure(*((p.url, p.pid) for p in (gateway, sim, front)), paths, args.seconds, args.repeats)
    out = ROOT / "build" / "bench" / "http.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(table.rows, indent=1) + "\n")
    table.show(args.repeats)
    return 0 if all(r["met"] is not False for r in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
