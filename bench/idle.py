"""./dev bench idle: the memory of a gateway that has nothing to do.

A release gateway with 64 simulated servers attached; then with 2,000 WebSocket clients that say nothing; then with
4,000. Measured is the gateway process alone, once it has settled: PSS and private bytes of /proc/PID/smaps_rollup
(what the kernel keeps for its sockets is not in there). Every repeat is a new gateway with a new data folder. The
simulated servers run from a copy of the program, so that no page of it is shared with them. All of them have the same
few dozen node classes; a real server has many more, but what servers have in common is kept once. Writes
build/bench/idle.json."""
import argparse
import contextlib
import json
import os
import pathlib
import resource
import shutil
import socket
import statistics
import struct
import sys
import tempfile
import time
import urllib.request
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test" / "lib"))
from process import Announced  # noqa: E402

KB = 1024
MB = 1024 * KB
GOAL_FLEET = 10 * MB
GOAL_CLIENT = 4 * KB
SETTLED = 8         # so many readings in a row that differ by less than 1 % ...
READ_EVERY = 0.25   # ... this many seconds apart
IDLE = 5            # seconds over which its CPU time is taken
SECONDS = 60        # a safety net for each wait
FLAGS = b'{"type":"feature_flags","data":{"supports_preview_metadata":true}}'  # as the official frontend


# ---- the process measured ----------------------------------------------------------------------------------------


def memory(pid):
    """Bytes of PSS, private and RSS."""
    fields = {}
    for line in pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines()[1:]:
        key, value = line.split(":")
        fields[key] = int(value.split()[0]) * KB
    return {"pss": fields["Pss"], "private": fields["Private_Clean"] + fields["Private_Dirty"], "rss": fields["Rss"]}


def cpu_seconds(pid):
    """Time its threads have run so far."""
    return sum(int(p.read_text().split()[0]) for p in pathlib.Path("/proc/%d/task" % pid).glob("*/schedstat")) / 1e9


def settled(pid):
    """Its memory, once it has stayed the same for a while."""
    last = []
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        last = [*last[1 - SETTLED:], memory(pid)]
        values = [m["pss"] for m in last]
        if len(last) == SETTLED and max(values) - min(values) < max(values) * 0.01:
            return last[-1]
        time.sleep(READ_EVERY)
    raise RuntimeError("its memory does not settle: %s" % [m["pss"] for m in last])


def get(url):
    with urllib.request.urlopen(url, timeout=10) as r:
        return r.read()


def wait_for(what, ready):
    deadline = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("%s: not within %d s" % (what, SECONDS))
        time.sleep(0.1)


# ---- the fleet and the clients -----------------------------------------------------------------------------------


@contextlib.contextmanager
def running(process):
    try:
        yield process.start().wait_ready()
    finally:
        status = process.stop()
    if status != 0:
        raise RuntimeError("%s ended with status %s:\n%s" % (process.name, status, process.tail()))


def simulators(program, count, folder):
    copy = shutil.copy(program, folder / "comfymux-sim")
    return Announced("comfymux sim", [copy, "sim", "--listen", "127.0.0.1:0", "--count", count,
                                      "--state", folder / "sims"], folder / "sim.log", count)


def gateway(program, urls, folder, log):
    servers = [a for i, url in enumerate(urls) for a in ("--server", "sim%d=%s" % (i, url))]
    return Announced("comfymux serve", [program, "serve", "--listen", "127.0.0.1:0", "--data", folder, *servers], log,
                     ready_path="/readyz")


def all_known(url):
    servers = json.loads(get(url + "/mux/v1/servers"))["servers"]
    return all(s["state"] == "up" and s["nodes"] for s in servers)


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise RuntimeError("the gateway closed a client's socket")
        data += more
    return data


def read_text(s):
    """One unfragmented text frame of a server."""
    first, length = struct.unpack("!BB", read_exactly(s, 2))
    if length == 126:
        (length,) = struct.unpack("!H", read_exactly(s, 2))
    if first != 0x81 or length > 65535:
        raise RuntimeError("unexpected frame 0x%02x of %d bytes" % (first, length))
    return json.loads(read_exactly(s, length))


def client(address):
    """A socket as a browser tab has it: opened, greeted with its status, feature flags exchanged, silent."""
    s = socket.create_connection(address, timeout=SECONDS)
    s.sendall(b"GET /ws?clientId=%s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
              % (str(uuid.uuid4()).encode(), address[0].encode(), address[1]))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(s, 1)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError("no WebSocket: %r" % head[:200])
    if read_text(s)["type"] != "status":
        raise RuntimeError("the first message is no status")
    s.sendall(struct.pack("!BB4s", 0x81, 0x80 | len(FLAGS), bytes(4)) + FLAGS)  # a mask of zeros changes nothing
    if read_text(s)["type"] != "feature_flags":
        raise RuntimeError("no answer to feature_flags")
    return s


def still_open(sockets):
    """How many the gateway has not closed; what it may have sent meanwhile is left unread."""
    count = 0
    for s in sockets:
        s.setblocking(False)
        try:
            count += len(s.recv(1, socket.MSG_PEEK)) > 0
        except BlockingIOError:
            count += 1
    return count


# ---- measuring ---------------------------------------------------------------------------------------------------


def measure(program, urls, folder, clients):
    """One repeat: bytes by kind with the fleet alone, with clients, with twice as many; and CPU seconds per second."""
    with running(gateway(program, urls, folder / "data", folder / "gateway.log")) as g, contextlib.ExitStack() as open_:
        wait_for("all servers up", lambda: all_known(g.url))
        settled(g.pid)
        before, since = cpu_seconds(g.pid), time.monotonic()
        time.sleep(IDLE)
        cpu = (cpu_seconds(g.pid) - before) / (time.monotonic() - since)
        fleet = settled(g.pid)
        address = ("127.0.0.1", int(g.url.rpartition(":")[2]))
        sockets = [open_.enter_context(client(address)) for _ in range(clients)]
        first = settled(g.pid)
        sockets += [open_.enter_context(client(address)) for _ in range(clients)]
        second = settled(g.pid)
        if still_open(sockets) != 2 * clients:
            raise RuntimeError("the gateway closed idle clients")
    return {"fleet": fleet, "first": first, "second": second, "cpu": cpu}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": values}


def row(ident, what, values, goal, unit):
    s = spread(values)
    return {"id": ident, "what": what, "ours": s["median"], "peer": None, "peer_name": None, "ratio": None,
            "goal": goal, "met": None if goal is None else s["median"] <= goal, "unit": unit, "spread": s}


def rows(runs, servers, clients):
    fleet = lambda kind: [r["fleet"][kind] for r in runs]  # noqa: E731
    each = lambda kind, a, b: [(r[b][kind] - r[a][kind]) / clients for r in runs]  # noqa: E731
    return [
        row("G7.idle", "PSS with %d servers" % servers, fleet("pss"), GOAL_FLEET, "MB"),
        row("G7.idle.private", "private bytes with %d servers" % servers, fleet("private"), None, "MB"),
        row("G7.idle.rss", "RSS with %d servers (all of libc, OpenSSL ...)" % servers, fleet("rss"), None, "MB"),
        row("G7.idle.cpu", "CPU time per second with %d servers" % servers, [r["cpu"] for r in runs], None, "ms"),
        # The first ones also fill what starting has left free, so the next ones say what a client costs.
        row("G4.websocket", "PSS per idle WebSocket, %d after %d others" % (clients, clients),
            each("pss", "first", "second"), GOAL_CLIENT, "KB"),
        row("G4.websocket.private", "private bytes per idle WebSocket", each("private", "first", "second"), None, "KB"),
        row("G4.websocket.first", "PSS per idle WebSocket, the first %d" % clients, each("pss", "fleet", "first"),
            GOAL_CLIENT, "KB"),
    ]


def text(value, unit):
    return "%.2f %s" % (value / {"MB": MB, "KB": KB, "ms": 0.001}[unit], unit)


def print_rows(table, repeats):
    print("%-48s %10s  %-22s %10s" % ("idle, %d repeats" % repeats, "median", "from to", "goal"))
    for r in table:
        s, unit = r["spread"], r["unit"]
        goal = "" if r["goal"] is None else "<= " + text(r["goal"], unit)
        print("%-48s %10s  %-22s %10s%s" % (r["what"], text(s["median"], unit), "%s to %s" % (
            text(s["min"], unit), text(s["max"], unit)), goal, {None: "", True: "  met", False: "  MISSED"}[r["met"]]))


def main():
    parser = argparse.ArgumentParser(prog="./dev bench idle", description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=64)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    program = pathlib.Path(os.environ.get("COMFYMUX_BIN") or ROOT / "build" / "release" / "src" / "comfymux").absolute()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    runs = []
    with tempfile.TemporaryDirectory(prefix="comfymux-idle-") as tmp:
        folder = pathlib.Path(tmp)
        with running(simulators(program, args.servers, folder)) as sim:
            for i in range(args.repeats):
                (folder / str(i)).mkdir()
                runs.append(measure(program, sim.urls, folder / str(i), args.clients))
                print("repeat %d of %d: PSS %s, per client %s" % (
                    i + 1, args.repeats, text(runs[-1]["fleet"]["pss"], "MB"),
                    text((runs[-1]["second"]["pss"] - runs[-1]["first"]["pss"]) / args.clients, "KB")),
                    file=sys.stderr, flush=True)
    table = rows(runs, args.servers, args.clients)
    out = ROOT / "build" / "bench" / "idle.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(table, indent=1) + "\n")
    print_rows(table, args.repeats)
    return 0 if all(r["met"] is not False for r in table) else 1


if __name__ == "__main__":
    sys.exit(main())
