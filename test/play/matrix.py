"""The fault matrix: every fault of matrix.play in every phase. `python test/play/matrix.py [--long] [ROW | ROW/PHASE]...`"""
import asyncio
import contextlib
import itertools
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "lib"), str(HERE.parent / "real")]

import checks
import play
from checks import need
from language import Fault, Pair, read
from world import Gateway, Tape, Unmet, until

FILE = HERE / "matrix.play"
GATEWAYS, AT_ONCE = 2, 24  # cells side by side in each gateway
ONCE = ("kill", "stop", "start", "disk")  # steps for the whole gateway: done once for all cells of the row


class Cell:
    def __init__(self, row, phase, want, line):
        self.row, self.phase, self.want, self.line = row, phase, want, line
        self.got = self.fault = self.tape = None
        self.good = False

    @property
    def name(self):
        return "%s/%s" % (self.row.name, self.phase.name)


class Phase:
    def __init__(self, block):
        self.name = block.args[0]
        at = next(i for i, line in enumerate(block.lines) if line.words == ["FAULT"])
        self.before, self.after = block.lines[:at], block.lines[at + 1:]


class Row:
    """fault NAME "what happens" [long] [paid] [together] [unlinked] [makes=…]"""

    def __init__(self, block, phases):
        self.name, self.text, *options = block.args
        self.options = play.plain_of(options)
        self.makes = play.option(options, "makes", "image")
        self.steps, self.cells, self.reasons = [], {}, {}
        for line in block.lines:
            if line.words[0] == "=":
                self.expectation(line, phases)
            else:
                self.steps.append(line)
        missing = [p for p in phases if p not in self.cells and p not in self.reasons]
        if missing:
            raise Fault(block.head, "nothing is said about %s" % ", ".join(missing))

    def expectation(self, line, phases):
        text = line.text[1:].strip()
        names, sep, rest = text.partition(":")
        if sep:
            for n in phases if names.strip() == "*" else names.split():
                self.cells[n] = Cell(self, phases[n], rest.strip(), line)
        else:
            names, _, reason = text.partition(" - ")
            for n in names.split():
                self.cells.pop(n, None)
                self.reasons[n] = reason.strip()


def load():
    blocks = read(FILE)
    phases = {b.args[0]: Phase(b) for b in blocks if b.kind == "phase"}
    config = {q.key: q.value for b in blocks if b.kind == "gateway" for line in b.lines for q in play.pairs_of(line.words)}
    return config, phases, [Row(b, phases) for b in blocks if b.kind == "fault"]


class Together:
    """The cells of a row that strikes the gateway itself: when all have come to their phase it is done once."""

    def __init__(self, count):
        self.count, self.here, self.struck = count, 0, asyncio.Event()

    async def strike(self, scene, steps):
        self.here += 1
        if self.here == self.count:
            for line in steps:
                await scene.step(line)
            self.struck.set()
        await until("the other cells of the row", self.struck.is_set)

    def leave(self):
        self.count -= 1


numbers = itertools.count(1)


async def enter(scene, cell):
    """Two servers that can run the job, the second of which gets no work yet."""
    for name in ("A", "B"):
        p = await scene.add_peer(name)
        p.makes = cell.row.makes
        if "paid" in cell.row.options:
            p.nodes, p.paid = [], p.nodes
        await scene.gateway_add(None, [name])
    for name in ("A", "B"):
        await scene.gateway_sees(None, [name, "up"])
    await scene.gateway_drain(None, ["B"])
    if "proven" in cell.row.options:
        await scene.client_submit(scene.client_named("c0"), [])
        await checks.record(scene.gateway, scene.job, [Pair("state", "=", "succeeded")])


async def strike(scene, cell, together):
    once = [line for line in cell.row.steps if line.words[1] in ONCE or line.words[0] in ONCE]
    if together:
        await together.strike(scene, once)
    for line in cell.row.steps:
        if line not in once:
            await scene.step(line)


async def outcome(scene, cell):
    """How it ended, in the words of the table; everything that must hold for such an end has been checked."""
    async def ended():
        r = await scene.gateway.record(scene.job)
        return r if r["state"] in checks.ENDED else None

    r = await until("the job to end", ended)
    codes = [a["error"]["code"] for a in r["attempts"] if a["error"]]
    images = len(r["outputs"])
    got = " ".join([r["state"], str(len(r["attempts"]))] + codes)
    if r["state"] == "succeeded":
        await checks.done(scene.gateway, scene.job, list(scene.peers.values()), images)
    else:
        e = r["error"]
        native = bool(r["attempts"]) or r["state"] == "failed"
        await checks.failed(scene.gateway, scene.job, e["code"], e["server"], e["attempt"], native=native)
        if e["code"] not in codes:
            got += " " + e["code"]
    if images != (r["state"] == "succeeded"):
        got += " outputs=%d" % images
    if scene.client.ws and (r["attempts"] or r["state"] != "canceled"):
        await checks.told(scene.client, scene.gateway, scene.job, r["state"] == "succeeded")
    return got


def may_be(cell):
    """What is expected; of a job that waited for a server whose loss was not noticed yet, one dispatch more."""
    state, attempts, *codes = cell.want.split()
    more = " ".join([state, str(int(attempts) + 1), "dispatch_failed", *codes])
    return [cell.want, more] if "unlinked" in cell.row.options and cell.phase.name == "queued" else [cell.want]


async def run_cell(cell, gateway, together=None):
    cell.tape = Tape()
    scene = play.Scene(cell.tape, gateway=gateway, suffix="_%d" % next(numbers))
    struck = False
    try:
        await enter(scene, cell)
        for line in cell.phase.before:
            await scene.step(line)
        struck = True
        await strike(scene, cell, together)
        for line in cell.phase.after:
            await scene.step(line)
        cell.got = await outcome(scene, cell)
        cell.good = cell.got in may_be(cell)
        need(cell.good, "expected %s" % cell.want, cell.got)
    except (Fault, Unmet) as e:
        cell.fault = "%s: %s, %s: %s" % (cell.line.where, cell.name, cell.row.text, e)
    except Exception as e:  # ours; the others are to be played all the same
        cell.fault = "%s: %s: %r" % (cell.line.where, cell.name, e)
    finally:
        if together and not struck:
            together.leave()
        if cell.fault:
            with contextlib.suppress(Exception):
                cell.fault += "\n\nthe gateway's log:\n" + "\n".join(
                    gateway.has_logged(scene.job, []) + gateway.has_logged("", ["server=A" + scene.suffix]))
            cell.fault += "\n\nwhat was said:\n" + cell.tape.text()
        for name, p in scene.peers.items():
            with contextlib.suppress(Exception):
                await gateway.ask("DELETE", "/mux/v1/servers/%s?force=1" % p.name)
        with contextlib.suppress(Exception):
            await scene.close()


async def run_row_alone(row, cells, config):
    gateway = Gateway(Tape(), config, "/healthz")
    await gateway.start()
    together = Together(len(cells))
    try:
        await asyncio.gather(*[run_cell(c, gateway, together) for c in cells])
    finally:
        await close(gateway, cells)


async def close(gateway, cells):
    """The gateway's own end belongs to the verdict: a sanitizer's finding shows there."""
    try:
        await gateway.close()
    except Unmet as e:
        for c in cells:
            c.fault = c.fault or "%s: %s" % (c.name, e)


async def run(rows, config, wanted=None, long=False, progress=lambda cell: None):
    """Plays the cells that wanted(cell) names; got and fault of each are set."""
    cells = [c for row in rows if long or "long" not in row.options for c in row.cells.values()
             if wanted is None or wanted(c)]
    apart = [c for c in cells if "together" in c.row.options]
    shared = [c for c in cells if c not in apart]
    waiting = iter(shared)

    async def lane(gateway):
        for cell in waiting:
            await run_cell(cell, gateway)
            progress(cell)

    async def house(mine):
        gateway = Gateway(Tape(), config, "/healthz")
        await gateway.start()
        try:
            await asyncio.gather(*[lane(gateway) for _ in range(mine)])
        finally:
            await close(gateway, shared)

    async def others():
        for row in rows:
            mine = [c for c in apart if c.row is row]
            if mine:
                await run_row_alone(row, mine, config)
                for c in mine:
                    progress(c)

    lanes = min(AT_ONCE, -(-len(shared) // GATEWAYS))
    await asyncio.gather(others(), *[house(lanes) for _ in range(GATEWAYS if shared else 0)])
    return cells


def table(rows, phases, cells):
    """Every cell with what came of it; `!` where that is not what was expected."""
    played = {(c.row.name, c.phase.name): c for c in cells}
    lines = [["fault", *phases]]
    notes = []
    for row in rows:
        line = [row.name]
        for p in phases:
            c = played.get((row.name, p))
            if c:
                line.append(c.got if c.good and not c.fault else "! %s, not %s" % (c.got, c.want))
            elif p in row.reasons:
                if row.reasons[p] not in notes:
                    notes.append(row.reasons[p])
                line.append("- (%d)" % (notes.index(row.reasons[p]) + 1))
            else:
                line.append("not played")
        lines.append(line)
    widths = [max(len(line[i]) for line in lines) for i in range(len(phases) + 1)]
    text = [" | ".join(x.ljust(w) for x, w in zip(line, widths)).rstrip() for line in lines]
    text.insert(1, "-+-".join("-" * w for w in widths))
    text += ["(%d) %s" % (i + 1, n) for i, n in enumerate(notes)]
    good = sum(1 for c in cells if not c.fault)
    text.append("%d faults, %d phases: cells %d/%d" % (len(rows), len(phases), good, len(cells)))
    return "\n".join(text)


def main(args):
    config, phases, rows = load()
    names = [a for a in args if not a.startswith("-")]
    rows = [r for r in rows if not names or any(n.split("/")[0] == r.name for n in names)]
    wanted = (lambda c: c.row.name in names or c.name in names) if names else None
    cells = asyncio.run(run(rows, config, wanted, "--long" in args or bool(names)))
    for c in cells:
        if c.fault:
            print("FAILED  %s\n" % c.fault)
        elif "-v" in args:
            print("%s: %s\n%s\n" % (c.name, c.got, c.tape.text()))
    print(table(rows, phases, cells))
    return 1 if any(c.fault for c in cells) else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
