"""Plays a scenario file: `python test/play/play.py FILE...`. README.md describes the language."""
import asyncio
import contextlib
import json
import pathlib
import re
import resource
import sys

HERE = pathlib.Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "lib"), str(HERE.parent / "real")]

import checks
from checks import compare, need
from language import Fault, Line, Pair, read
from peer import GATES, Peer, Rule
from world import Client, Gateway, Tape, Unmet, until

CLIENT = re.compile(r"^c\d*$")


def pairs_of(words):
    return [w for w in words if isinstance(w, Pair)]


def plain_of(words):
    return [w for w in words if not isinstance(w, Pair)]


def option(words, key, otherwise=None):
    return next((w.value for w in words if isinstance(w, Pair) and w.key == key), otherwise)


METADATA = {"supports_preview_metadata": True, "supports_progress_text_metadata": True}  # what the frontend negotiates


def graph_of(node, seed=1):
    return {"7": {"class_type": node, "inputs": {"seed": seed}}}


class Scene:
    """Servers, clients and the one gateway of a scenario. way: how jobs are submitted, by a socket's client or by
    `comfymux run`."""

    def __init__(self, tape=None, way="socket", gateway=None, suffix=""):
        self.tape = tape or Tape()
        self.way = way
        self.shared = gateway is not None
        self.gateway = gateway
        self.suffix = suffix  # of names in a gateway that others use too
        self.peers, self.clients = {}, {}
        self.client = None  # the one that submitted last
        self.node = "Make" + suffix
        self.seed = 0

    @property
    def job(self):
        if self.client is None or self.client.job is None:
            raise Unmet("no job has been submitted")
        return self.client.job

    def peer(self, name):
        if name not in self.peers:
            raise Unmet("there is no server %s" % name)
        return self.peers[name]

    def client_named(self, name):
        if name not in self.clients:
            self.clients[name] = Client(name, self.gateway, self.tape)
        return self.clients[name]

    async def add_peer(self, name, nodes=None, paid=()):
        p = Peer(name + self.suffix, self.tape, nodes or [self.node], [n + self.suffix for n in paid])
        self.peers[name] = p
        await p.listen()
        return p

    async def close(self):
        for c in self.clients.values():
            await c.close()
        try:
            if self.gateway and not self.shared:
                await self.gateway.close()
        finally:
            for p in self.peers.values():
                await p.close()

    async def step(self, line):
        w = line.words
        name = w[0]
        try:
            if not isinstance(name, str):
                raise Unmet("a step begins with a word")
            if name in self.peers:
                kind, target, verb, rest = "server", self.peers[name], w[1], w[2:]
            elif CLIENT.match(name):
                kind, target, verb, rest = "client", self.client_named(name), w[1], w[2:]
            elif name == "gateway":
                kind, target, verb, rest = "gateway", self.gateway, w[1], w[2:]
            else:
                kind, target, verb, rest = "check", None, name, w[1:]
            do = getattr(self, "%s_%s" % (kind, verb.replace("-", "_")), None)
            if do is None:
                raise Unmet("%s cannot %r" % (name, verb))
            self.tape.note("play", "%s: %s" % (line.where, line.text))
            await do(target, rest)
        except Fault:
            raise
        except Unmet as e:
            raise Fault(line, "%s\n    %s" % (line.text, e)) from e
        except (LookupError, ValueError, TypeError, AssertionError) as e:
            raise Fault(line, "%s: not understood (%s: %s)" % (line.text, type(e).__name__, e)) from e

    # ---- servers ----

    async def server_on(self, p, w):
        method, path, action, *args = plain_of(w)
        times = option(w, "times")
        p.rules.append(Rule(method, path, action, args, int(times) if times else None))

    async def server_off(self, p, w):
        for r in p.rules:
            if not w or (r.method, r.pattern) == (w[0], w[1]):
                r.times = 0
                r.released.set()

    async def server_release(self, p, w):
        """What waits goes on, by the rules that hold then."""
        for r in p.rules:
            if r.action in ("wait", "late", "hold-body"):
                r.times = 0
                r.released.set()

    async def server_expect(self, p, w):
        method, path = plain_of(w)
        want = pairs_of(w)

        def there():
            for r in p.requests:
                if not r.taken and r.matches(method, path) and all(q.holds(checks.find(r.json(), q.key)) for q in want):
                    r.taken = True
                    return True
            return False

        await until(lambda: "%s to be asked %s %s; it was asked %s" % (
            p.name, method, path, ", ".join(str(r) for r in p.requests[-12:]) or "nothing"), there)

    async def server_count(self, p, w):
        n = sum(1 for r in p.requests if r.matches(w[0], w[1]))
        need(n == int(w[2]), "expected %s %s %s times at %s" % (w[0], w[1], w[2], p.name), str(n))

    async def server_hold(self, p, w):
        need(all(g in GATES for g in w) and w, "a gate is one of %s" % " ".join(GATES), w)
        p.held.update(w)

    async def server_go(self, p, w):
        p.held.difference_update(w or GATES)
        p.stir()

    async def server_at(self, p, w):
        await until(lambda: "%s to be at %s; it runs %s" % (p.name, w[0], p.running and p.running.at),
                    lambda: p.running and p.running.at == w[0])

    async def server_idle(self, p, w):
        await until("%s to have nothing to do" % p.name, lambda: not p.running and not p.pending)

    async def server_makes(self, p, w):
        p.makes = w[0]

    async def server_fails(self, p, w):
        p.fails = None if w[0] == "nothing" else w[0]

    async def server_nodes(self, p, w):
        p.nodes = [n + self.suffix for n in w]

    async def server_paid(self, p, w):
        p.paid = [n + self.suffix for n in w]

    async def server_die(self, p, w):
        p.note("-- dies")
        p.die()

    async def server_unplug(self, p, w):
        p.note("-- cannot be reached")
        p.unplug()

    async def server_back(self, p, w):
        p.note("-- is back")
        await p.listen()

    async def server_restart(self, p, w):
        p.note("-- restarts")
        p.die()
        await p.listen()

    async def server_freeze(self, p, w):
        p.note("-- answers nothing any more")
        p.frozen = True
        p.thawed.clear()

    async def server_thaw(self, p, w):
        p.frozen = False
        p.thawed.set()

    async def server_mute(self, p, w):
        p.mute = True

    async def server_stubborn(self, p, w):
        p.stubborn = True

    async def server_interrupt(self, p, w):
        p.note("-- somebody stops what it runs")
        p.running.interrupted = True
        p.stir()

    async def server_busy(self, p, w):
        """Somebody else's prompt, which ends only with `go`."""
        await self.server_hold(p, ["work"])
        p.post_prompt(type("R", (), {"json": lambda self: {"prompt_id": "somebody-else", "prompt": graph_of("Make")}})())
        await self.server_at(p, ["work"])

    async def server_unqueue(self, p, w):
        p.note("-- somebody clears its queue")
        p.pending.clear()
        p.status()

    async def server_forget_history(self, p, w):
        p.history.clear()

    async def server_socket(self, p, w):
        what = w[0]
        p.note("-- socket %s" % what)
        if what == "drop":
            for s in list(p.sockets):
                p.reset(s.writer)
            p.sockets.clear()
        elif what in ("refuse", "allow"):
            p.ws_refused = what == "refuse"
        elif what == "text":
            p.raw(1, (w[1] if isinstance(w[1], str) else json.dumps(w[1])).encode())
        elif what == "bytes":
            p.raw(2, bytes.fromhex(w[1]))
        elif what == "wire":
            for s in p.sockets:
                s.writer.write(bytes.fromhex(w[1]))
        else:
            raise ValueError(what)

    async def server_event(self, p, w):
        pid = p.running.id if p.running else ""
        data = json.loads(json.dumps(w[1] if len(plain_of(w)) > 1 else {}).replace("$id", pid))
        data.update({"pad": "x" * int(option(w, "pad"))} if option(w, "pad") else {})
        for _ in range(int(option(w, "times", "1"))):
            p.send(None, w[0], data)

    # ---- clients ----

    async def client_connect(self, c, w):
        flags = {"flags": {}, "metadata": METADATA}.get(w[0] if w else None)
        await c.connect(flags)

    async def client_disconnect(self, c, w):
        await c.disconnect()

    async def client_submit(self, c, w):
        """Accepted. node=Class, id=UUID; by the way of this run."""
        self.client = c
        node = option(w, "node")
        self.seed += 1
        graph = graph_of(node + self.suffix if node else self.node, self.seed)
        if self.way == "cli" and "socket" not in w:
            await c.run_cli(graph)
            return
        if c.ws is None and "away" not in w:
            await c.connect()
        extra = {"prompt_id": option(w, "id")} if option(w, "id") else {}
        status, answer = await c.submit(graph, **extra)
        need(status == 200, "expected the submit to be taken", "%d %s" % (status, json.dumps(answer)))

    async def client_refused(self, c, w):
        """Its submit is refused with this HTTP status and error type."""
        self.seed += 1
        node = option(w, "node")
        extra = {"prompt_id": option(w, "id")} if option(w, "id") else {}
        status, answer = await c.submit(graph_of(node or self.node, self.seed), **extra)
        need(status == int(w[0]), "expected the submit to be refused with %s" % w[0], "%d %s" % (status, answer))
        compare("the refusal", answer, [q for q in pairs_of(w) if q.key not in ("node", "id")])

    async def client_expect(self, c, w):
        if self.way == "cli":
            return
        want = pairs_of(self.with_job(w))

        def there():
            for i in range(c.seen, len(c.events)):
                k, d = c.events[i]
                if k == w[0] and all(q.holds(checks.find(d, q.key)) for q in want):
                    c.seen = i + 1
                    return True
            return False

        await until(lambda: "%s to be told %s %s; it was told %s" % (
            c.name, w[0], " ".join(map(str, want)), [k for k, _ in c.events[c.seen:]]), there)

    async def client_unheard(self, c, w):
        """It has not been told any of these, over all its sockets."""
        kinds = [k for k, _ in c.events]
        need(not set(w) & set(kinds), "%s is not to be told %s" % (c.name, " ".join(w)), kinds)

    async def client_serial(self, c, w):
        """What it was told of one job was never interrupted by what it was told of another."""
        ids = [d["prompt_id"] for _, d in c.events if isinstance(d, dict) and d.get("prompt_id")]
        turns = [i for n, i in enumerate(ids) if n == 0 or ids[n - 1] != i]
        need(len(turns) == len(set(turns)) == int(w[0]), "%s is to be told of %s jobs, one after another" % (c.name, w[0]),
             turns)

    async def client_told(self, c, w):
        if self.way == "socket":
            await checks.told(c, self.gateway, c.job, {"success": True, "failure": False}[w[0]])

    async def client_view(self, c, w):
        """Begins to read the file that `executed` named; half: until some of it has come."""
        await until("%s to be told of a file" % c.name, lambda: c.of_job("executed"))
        images = checks.native_images({"outputs": {"": c.of_job("executed")[-1][1]["output"]}})
        await c.view(images[0])
        if "half" in w:
            await until("the first bytes of the file", lambda: c.viewed or c.view_end is not None)

    async def client_viewed(self, c, w):
        """whole, cut, or either: a file that is shown as whole must be."""
        await until("the end of the file", lambda: c.view_end is not None)
        made = [d for p in self.peers.values() for d in p.files.values()]
        whole = c.view_end == 200 and (c.viewed in made or not made)
        need(whole or c.view_end != 200 or "any" in w, "expected a file that is whole where it looks whole",
             "%s, %d bytes" % (c.view_end, len(c.viewed)))
        if w[0] in ("whole", "cut"):
            need(whole == (w[0] == "whole"), "expected the file %s" % w[0], "%s, %d bytes" % (c.view_end, len(c.viewed)))

    async def client_cancel(self, c, w):
        status, body = await self.gateway.ask("POST", "/mux/v1/jobs/%s/cancel" % c.job)
        need(status == 200, "expected the cancel to be taken", str(body))

    async def client_interrupt(self, c, w):
        status, body = await self.gateway.ask("POST", "/interrupt", {"prompt_id": c.job})
        need(status == 200, "expected the interrupt to be taken", str(body))

    async def client_retry(self, c, w):
        status, body = await self.gateway.ask("POST", "/mux/v1/jobs/%s/retry" % c.job)
        need(status == 201, "expected the retry to be taken", str(body))
        c.job = body["id"]

    async def client_exit(self, c, w):
        """`comfymux run` ended with this status; what it said holds these texts."""
        if self.way != "cli":
            return
        status, out, err = await c.running
        need(status == int(w[0]), "expected `comfymux run` to end with status %s" % w[0], "%d %s" % (status, err))
        for text in w[1:]:
            need(text in err, "expected %r of `comfymux run`" % text, err)

    # ---- the gateway ----

    async def gateway_drain(self, g, w):
        await self.operate(w[0], "drain", "draining")

    async def gateway_resume(self, g, w):
        await self.operate(w[0], "resume", None)

    async def operate(self, name, verb, state):
        name = self.peer(name).name
        status, body = await self.gateway.ask("POST", "/mux/v1/servers/%s/%s" % (name, verb))
        need(status in (200, 404), "expected to %s %s" % (verb, name), str(body))

    async def gateway_add(self, g, w):
        p = self.peer(w[0])
        status, body = await self.gateway.ask("POST", "/mux/v1/servers", {"name": p.name, "url": p.url})
        need(status == 201, "expected to add %s" % p.name, str(body))

    async def gateway_remove(self, g, w):
        status, body = await self.gateway.ask("DELETE", "/mux/v1/servers/%s?force=1" % self.peer(w[0]).name)
        need(status == 200, "expected to remove %s" % w[0], str(body))

    async def gateway_sees(self, g, w):
        """A server's state, as the gateway has it."""
        name, states = self.peer(w[0]).name, w[1].split("|")

        async def there():
            body = (await self.gateway.ask("GET", "/mux/v1/servers"))[1]
            mine = [s for s in body["servers"] if s["name"] == name]
            return mine and mine[0]["state"] in states and (mine[0]["nodes"] or "up" not in states)

        await until("%s to be seen %s" % (name, w[1]), there)

    async def gateway_kill(self, g, w):
        self.gateway.kill()

    async def gateway_stop(self, g, w):
        status = await self.gateway.stop()
        need(status == 0, "expected the gateway to end with status 0", str(status))

    async def gateway_start(self, g, w):
        await self.gateway.start([p for p in self.peers.values()])

    async def check_store_spoilt(self, _, w):
        """What is kept on disk turns to garbage."""
        for path in self.gateway.data.glob("comfymux.db*"):
            if not path.name.endswith("-shm"):
                path.write_bytes(b"\xa5" * path.stat().st_size)

    async def gateway_term(self, g, w):
        """SIGTERM, without waiting for its end."""
        self.gateway.process.child.terminate()

    async def gateway_ended(self, g, w):
        await until("the gateway to end", lambda: not self.gateway.process.running())
        need(self.gateway.process.child.returncode == int(w[0]), "expected the gateway to end with %s" % w[0],
             str(self.gateway.process.child.returncode))

    async def check_disk(self, _, w):
        """holds SIZE: no file of the gateway's may grow beyond so many bytes, as on a disk that is full. free."""
        limit = int(w[1]) if w[0] == "holds" else resource.RLIM_INFINITY
        resource.prlimit(self.gateway.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    async def gateway_ask(self, g, w):
        """METHOD PATH STATUS, pairs of the answer; body={...}, job stands for the last job's id."""
        method, path, status = plain_of(w)[:3]
        w = self.with_job(w)
        path, body = self.with_job_in(path), option(w, "body")
        data = body * int(option(w, "times", "1")) if isinstance(body, str) else None
        got, answer = await self.gateway.ask(method, path, None if data else body, data)
        need(got == int(status), "expected %s" % status, "%d %s" % (got, json.dumps(answer)))
        compare("the answer's", answer, [q for q in pairs_of(w) if q.key not in ("body", "times")])

    def with_job(self, words):
        """$job in pairs, also inside of JSON, is the last job's id."""
        return [Pair(q.key, q.op, json.loads(self.with_job_in(json.dumps(q.value)))) if isinstance(q, Pair) else q
                for q in words]

    def with_job_in(self, text):
        return text.replace("$job", self.job) if "$job" in text else text

    async def gateway_asks_until(self, g, w):
        """METHOD PATH STATUS, pairs of the answer: this is the answer in the end."""
        async def there():
            status, answer = await self.gateway.ask(w[0], w[1])
            return status == int(w[2]) and all(q.holds(checks.find(answer, q.key)) for q in pairs_of(w))

        await until("%s for %s %s" % (w[2], w[0], w[1]), there)

    # ---- checks ----

    def named(self, pairs):
        """The servers of a shared gateway have a suffix."""
        for q in pairs:
            if q.key in ("server", "server.name", "error.server") and q.value in self.peers:
                q.value = self.peers[q.value].name
        return pairs

    async def check_job(self, _, w):
        await checks.record(self.gateway, self.job, self.named(pairs_of(w)))

    async def check_status(self, _, w):
        status, body = await self.gateway.ask("GET", "/status/" + self.job)
        compare("/status", body, self.named(pairs_of(w)))

    async def check_result(self, _, w):
        status, body = await self.gateway.ask("GET", "/result/" + self.job)
        need(status == int(plain_of(w)[0]), "expected /result %s" % w[0], "%d %s" % (status, json.dumps(body)))
        compare("/result", body, self.named(pairs_of(w)))

    async def check_history(self, _, w):
        status, body = await self.gateway.ask("GET", "/history/" + self.job)
        if "none" in w:
            need(body == {}, "expected no entry in history", body)
        else:
            compare("history", body.get(self.job), pairs_of(w))

    async def check_log(self, _, w):
        want = [str(x) if isinstance(x, str) else "%s=%s" % (x.key, x.value) for x in w]
        await until(lambda: "a log line of the job with %s; there are\n%s" % (
            " ".join(want), "\n".join(self.gateway.has_logged(self.job, []))),
            lambda: self.gateway.has_logged(self.job, want))

    async def check_attempts(self, _, w):
        """What each attempt came to: `A server_lost`, `B ok`, one after the other."""
        r = await self.gateway.record(self.job)
        got = [x for a in r["attempts"] for x in (a["server"], a["error"]["code"] if a["error"] else "ok")]
        want = [self.peers[x].name if x in self.peers else x for x in w]
        need(got == want, "expected the attempts %s" % " ".join(want), got)

    async def check_placed(self, _, w):
        """The job was given to this server, or the server is not one that could be given work."""
        name = self.peer(w[0]).name

        async def there():
            r = await self.gateway.record(self.job)
            if r["attempts"] or r["state"] in checks.ENDED:
                return True
            body = (await self.gateway.ask("GET", "/mux/v1/servers"))[1]
            states = {s["name"]: s["state"] for s in body["servers"]}
            return states.get(name) not in ("up", "suspect")

        await until("the job to be given to %s" % name, there)

    async def check_done(self, _, w):
        """The job succeeded, with so many outputs in every listing."""
        await checks.record(self.gateway, self.job, [Pair("state", "=", "succeeded")])
        await checks.done(self.gateway, self.job, list(self.peers.values()), int(w[0]) if w else 1)
        await self.end_told(True)

    async def check_everywhere(self, _, w):
        """The end of the job shows in every place. code, server=, attempt=, cause="..." """
        server, attempt = option(w, "server"), option(w, "attempt")

        async def over():
            return (await self.gateway.record(self.job))["state"] in checks.ENDED
        await until("the job to end", over)
        await checks.failed(self.gateway, self.job, w[0], server and self.peers[server].name,
                            int(attempt) if attempt else None, option(w, "cause", ""),
                            native="unseen" not in w)
        if "unseen" not in w:
            await self.end_told(False)
        if self.way == "cli":
            await self.client_exit(self.client, [1, w[0], option(w, "cause", "")])

    async def end_told(self, ok):
        if self.client.running is None and self.client.ws:
            await checks.told(self.client, self.gateway, self.job, ok)


async def play(path, way="socket"):
    """One scenario against a gateway of its own. Raises Fault; the tape stands in its `tape`."""
    scene = Scene(way=way)
    blocks = read(path)
    config, ready = {}, "/readyz"
    for b in blocks:
        if b.kind == "gateway":
            config.update({q.key: q.value for line in b.lines for q in pairs_of(line.words)})
            ready = "/healthz" if "unready" in b.args else ready
    try:
        try:
            scene.gateway = Gateway(scene.tape, config, ready)
            for b in blocks:
                if b.kind == "server":
                    await scene.add_peer(b.args[0])
                    for line in b.lines:
                        await scene.step(Line(line.path, line.number, "%s %s" % (b.args[0], line.text),
                                              [b.args[0], *line.words]))
            await scene.gateway.start(list(scene.peers.values()))
            if ready == "/readyz":
                for name, p in scene.peers.items():
                    if p.listener:
                        await scene.gateway_sees(None, [name, "up"])
            for b in blocks:
                if b.kind == "play":
                    for line in b.lines:
                        await scene.step(line)
                elif b.kind not in ("gateway", "server"):
                    raise Fault(b.head, "a block is gateway, server or play, not %s" % b.kind)
        finally:
            await scene.close()
    except (Fault, Unmet) as e:
        e.tape = scene.tape
        if isinstance(e, Unmet):
            e.args = ("%s: %s" % (path, e),)
        raise
    return scene.tape


def ways(path):
    """A scenario that checks every place is played with a page and with `comfymux run`."""
    steps = [line.words[0] for b in read(path) if b.kind == "play" for line in b.lines]
    return ["socket", "cli"] if "everywhere" in steps and "gateway" not in steps else ["socket"]


AT_ONCE = 10  # they mostly wait


async def play_all(pairs, done=lambda path, way, fault, tape: None):
    """Plays (path, way) pairs side by side: {pair: None, or what went wrong as a text}."""
    gate, results = asyncio.Semaphore(AT_ONCE), {}

    async def one(path, way):
        async with gate:
            fault = tape = None
            try:
                tape = await play(path, way)
            except (Fault, Unmet) as e:
                fault, tape = str(e), e.tape
            except Exception as e:  # ours; the others are to be played all the same
                fault = "%s: %r" % (path, e)
            if fault and tape:
                fault += "\n\nwhat was said:\n" + tape.text()
            results[path, way] = fault
            done(path, way, fault, tape)

    await asyncio.gather(*[one(*p) for p in pairs])
    return results


def main(paths, verbose):
    def done(path, way, fault, tape):
        print("%s %s, %s%s" % ("FAILED " if fault else "ok     ", path, way, "\n" + fault + "\n" if fault else ""))
        if verbose and not fault:
            print(tape.text())

    results = asyncio.run(play_all([(p, w) for p in paths for w in ways(p)], done))
    bad = sum(1 for fault in results.values() if fault)
    print("%d played, %d failed" % (len(results), bad))
    return 1 if bad else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main([a for a in sys.argv[1:] if a != "-v"], "-v" in sys.argv))
