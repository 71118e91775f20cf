"""What `./dev demo` plays: three ComfyUI servers, one gateway in front of them, two browser windows that work at the
same time, and one command line. At the end it checks that every picture is the one its server made.

    ./dev demo            simulated servers: no GPU, no models
    ./dev demo --real     real ComfyUI servers; their workflows need no model
    ./dev demo --once     end after the checks, also on a terminal

On a terminal it stays up until Ctrl-C. Exit status: 0 all was right, 1 something was not."""
import argparse
import asyncio
import contextlib
import fcntl
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "test" / "lib"), str(ROOT / "test" / "real")]
import aiohttp  # noqa: E402
from PIL import Image, ImageDraw, ImageOps  # noqa: E402

import comfyui  # noqa: E402
from comfy_client import Client, images  # noqa: E402
from process import Announced  # noqa: E402

DEMO = ROOT / "build" / "demo"
COUNT = 3
SECONDS = 120  # a safety net for what is awaited


class Wrong(Exception):
    """The demo cannot go on; the text says why."""


# ---- the screen --------------------------------------------------------------------------------------------------


class Screen:
    """Prints; on a terminal it can also draw a few lines over and over."""

    def __init__(self):
        self.tty = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.colour = self.tty and "NO_COLOR" not in os.environ
        self.utf8 = "utf" in (sys.stdout.encoding or "").lower()
        self.drawn = 0

    def width(self):
        return max(40, shutil.get_terminal_size((100, 24)).columns)

    def fits(self, lines):
        return self.tty and shutil.get_terminal_size().lines > lines + 1

    def paint(self, style, text):
        codes = {"dim": "2", "bold": "1", "good": "32", "bad": "31", "fox": "33", "sea": "36", "terminal": "35"}
        return "\x1b[%sm%s\x1b[0m" % (codes[style], text) if self.colour and style in codes else text

    def mark(self, good):
        if self.utf8:
            return self.paint("good" if good else "bad", "✓" if good else "✗")
        return "ok" if good else "NO"

    def bar(self, part, columns):
        full = min(columns, int(part * columns))
        on, off = ("━", "─") if self.utf8 else ("#", ".")
        return on * full + self.paint("dim", off * (columns - full))

    def say(self, text=""):
        self.erase()
        print(text, flush=True)

    def draw(self, lines):
        """In place of what was drawn last."""
        out = "\x1b[%dA\r" % self.drawn if self.drawn else "\x1b[?25l"
        out += "".join(line + "\x1b[K\n" for line in lines) + "\x1b[J"
        self.drawn = len(lines)
        sys.stdout.write(out)
        sys.stdout.flush()

    def erase(self):
        if self.drawn:
            sys.stdout.write("\x1b[%dA\r\x1b[J\x1b[?25h" % self.drawn)
            sys.stdout.flush()
            self.drawn = 0

    def keep(self):
        """What was drawn last stays where it is."""
        if self.drawn:
            sys.stdout.write("\x1b[?25h")
            self.drawn = 0


# ---- the servers -------------------------------------------------------------------------------------------------


def program():
    path = pathlib.Path(os.environ.get("COMFYMUX_BIN") or ROOT / "build" / "release" / "src" / "comfymux")
    if not path.exists():
        raise Wrong("%s is not there (./dev build)" % path)
    return path.absolute()


def child(*command):
    """In a process group of its own, so that Ctrl-C on the terminal reaches the demo alone and it stops the others
    in order; and ended by the kernel should the demo be killed."""
    return ["setsid", "setpriv", "--pdeathsig", "TERM", *command]


def simulated(processes):
    """Starts them; [(name, url)]"""
    sim = Announced("comfymux sim", child(program(), "sim", "--listen", "127.0.0.1:0", "--count", COUNT,
                                          "--state", DEMO / "servers"), DEMO / "log" / "servers.log", COUNT)
    processes.append(sim.start())
    sim.wait_ready(SECONDS)
    return [("sim%d" % (i + 1), url) for i, url in enumerate(sim.urls)]


def real(processes):
    comfyui.install()
    many = [comfyui.Server(DEMO / "servers" / str(i + 1)) for i in range(COUNT)]
    for i, s in enumerate(many):
        s.command = [str(c) for c in child(*s.command)]
        s.log = DEMO / "log" / ("server%d.log" % (i + 1))
        processes.append(s.start())
    for s in many:
        s.wait_ready(SECONDS)
    return [("comfy%d" % (i + 1), s.url) for i, s in enumerate(many)]


def gateway(processes, servers):
    """Starts it; its url, once it knows what each server can do."""
    args = [a for name, url in servers for a in ("--server", "%s=%s" % (name, url))]
    front = Announced("comfymux serve", child(program(), "serve", "--listen", "127.0.0.1:0", "--data", DEMO / "data",
                                              *args), DEMO / "log" / "comfymux.log", ready_path="/readyz")
    processes.append(front.start())
    front.wait_ready(SECONDS)
    asyncio.run(asyncio.wait_for(all_known(front.url), SECONDS))
    return front.url


async def all_known(url):
    async with aiohttp.ClientSession() as http:
        while True:
            servers = (await get_json(http, url + "/mux/v1/servers"))["servers"]
            if all(s["state"] == "up" and s["nodes"] for s in servers):
                return
            await asyncio.sleep(0.1)


# ---- workflows ---------------------------------------------------------------------------------------------------


def node(title, class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def sample(text, seed, checkpoint="sd15.safetensors", steps=20, denoise=1.0, latent=None, size=512, batch=1):
    """The workflow everybody begins with; every one of them saves under the same prefix, so that names collide."""
    return {
        "4": node("load checkpoint", "CheckpointLoaderSimple", ckpt_name=checkpoint),
        "6": node("prompt", "CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("negative prompt", "CLIPTextEncode", text="blurry", clip=["4", 1]),
        "5": node("empty latent", "EmptyLatentImage", width=size, height=size, batch_size=batch),
        "3": node("sample", "KSampler", seed=seed, steps=steps, cfg=7.0, sampler_name="euler", scheduler="normal",
                  denoise=denoise, model=["4", 0], positive=["6", 0], negative=["7", 0],
                  latent_image=latent or ["5", 0]),
        "8": node("decode", "VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("save", "SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }


def from_upload(name, text, seed):
    graph = sample(text, seed, denoise=0.6, latent=["11", 0])
    del graph["5"]
    graph["10"] = node("load image", "LoadImage", image=name)
    graph["11"] = node("encode", "VAEEncode", pixels=["10", 0], vae=["4", 2])
    return graph


def batch(text, seed):
    """One saved picture and a preview of each of four."""
    graph = sample(text, seed, size=256, batch=4)
    graph["12"] = node("previews", "PreviewImage", images=["8", 0])
    return graph


def plain(color, steps=25, count=1, source=None):
    """For real servers: no model, but progress and live previews."""
    return {
        "1": source or node("empty image", "EmptyImage", width=256, height=256, batch_size=count, color=color),
        "2": node("invert", "ImageInvert", image=["1", 0]),
        "5": node("take steps", "SlowProgress", image=["2", 0], steps=steps, seconds_per_step=0.12, preview="jpeg",
                  seed=color, text=False),
        "9": node("save", "SaveImage", images=["5", 0], filename_prefix="ComfyUI"),
    }


def plain_batch(color):
    graph = plain(color, count=4)
    graph["12"] = node("previews", "PreviewImage", images=["5", 0])
    return graph


def scenes(simulators):
    """window: (what, workflow; or what makes one from the name of the uploaded picture)"""
    if simulators:
        return {
            "fox": [("text to image", sample("a red fox in the snow", 11)),
                    ("text to image", sample("a red fox in the snow", 12)),
                    ("batch of four", batch("a red fox, four times", 13))],
            "sea": [("image to image", lambda name: from_upload(name, "the sea at night", 21)),
                    ("another model", sample("the sea in the morning", 22, "sdxl.safetensors")),
                    ("image to image", lambda name: from_upload(name, "the sea in a storm", 23))],
        }
    loaded = lambda color: lambda name: plain(color, source=node("load image", "LoadImage", image=name))  # noqa: E731
    return {
        "fox": [("colour", plain(0x2080C0)), ("colour", plain(0x40A0D0)), ("batch of four", plain_batch(0x104070))],
        "sea": [("from an upload", loaded(1)), ("colour", plain(0xE0B060)), ("from an upload", loaded(2))],
    }


def picture():
    """What window sea uploads."""
    im = ImageOps.colorize(Image.radial_gradient("L").resize((512, 512)), "#f2e6c8", "#17495e", "#4f9fb0")
    ImageDraw.Draw(im).text((16, 488), "uploaded by window sea", fill="white")
    out = io.BytesIO()
    im.save(out, "PNG")
    return out.getvalue()


# ---- the windows -------------------------------------------------------------------------------------------------


class Job:
    """What a window knows about one of its jobs, from its WebSocket and its polls."""

    def __init__(self, window, what, graph):
        self.window, self.what, self.graph = window, what, graph
        self.id = self.server = self.place = self.node = None
        self.state = "sending"
        self.value = self.max = 0
        self.done = set()
        self.fault = None
        self.seen = {}      # (filename, type) -> bytes, as the window got them when it heard "done"
        self.started = self.ended = 0

    def title(self, node_id):
        top = str(node_id).split(".")[0]
        return self.graph.get(top, {}).get("_meta", {}).get("title", top)

    def part(self):
        """How far, 0 to 1; a node that takes steps counts as much as ten others."""
        weight = {n: 10 if "steps" in g["inputs"] else 1 for n, g in self.graph.items()}
        part = sum(w for n, w in weight.items() if n in self.done)
        if self.node in weight and self.node not in self.done and self.max:
            part += weight[self.node] * self.value / self.max
        return part / sum(weight.values())

    def hear(self, kind, data):
        if kind == "execution_cached":
            self.done.update(data["nodes"])
        elif kind == "executing" and data["node"] != self.node:
            if self.node:
                self.done.add(self.node)
            self.node, self.value, self.max = data["node"], 0, 0
        elif kind == "progress":
            self.value, self.max = data["value"], data["max"]
        elif kind in ("execution_error", "execution_interrupted"):
            self.fault = data.get("exception_message") or kind


class Window(Client):
    """A browser window: its own client id and WebSocket; every request names the window."""

    def __init__(self, url, name, scene):
        super().__init__(url, window=name)
        self.name, self.scene = name, scene
        self.jobs = []
        self.previews = 0
        self.strangers = set()  # prompt ids of events that are none of its own

    async def play(self):
        name = None
        if any(callable(g) for _, g in self.scene):
            name = (await self.upload("sea.png", picture()))["name"]
        # With this flag, as the official frontend sends it, events of several jobs at a time are no problem.
        async with self.socket({"supports_preview_metadata": True}) as ws:
            for what, graph in self.scene:
                job = Job(self.name, what, graph(name) if callable(graph) else graph)
                self.jobs.append(job)
                job.id = await self.submit(job.graph)
            await self.listen(ws, {j.id: j for j in self.jobs})

    async def listen(self, ws, mine):
        left = set(mine)
        while left:
            m = await ws.receive()
            if not isinstance(m, dict):
                self.previews += 1
                continue
            prompt_id = m.get("data", {}).get("prompt_id")
            if prompt_id in mine:
                mine[prompt_id].hear(m["type"], m["data"])
            elif prompt_id:
                self.strangers.add(prompt_id)
            if m["type"] == "executing" and m["data"]["node"] is None and prompt_id in left:
                left.discard(prompt_id)
                await self.fetch(mine[prompt_id])

    async def fetch(self, job):
        """As ComfyUI's example scripts do, at once: history, then every file it names."""
        entry = await self.history(job.id)
        if not entry or not entry["status"]["completed"]:
            job.fault = job.fault or "history does not have it although it was said to be done"
            return
        for image in images(entry):
            job.seen[image["filename"], image["type"]] = await self.view(image)


async def poll(url, windows):
    """What no event says: which server, and the place in the queue."""
    async with aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url + "/mux/v1/jobs") as r:
                    records = {j["id"]: j for j in (await r.json())["jobs"]}
                for job in (j for w in windows for j in w.jobs):
                    record = records.get(job.id)
                    if record:
                        job.state, job.place = record["state"], record["queue_position"]
                        job.server = record["server"] and record["server"]["name"]
                        job.started, job.ended = record["started_at"] or 0, record["finished_at"] or 0
            await asyncio.sleep(0.2)


def job_line(screen, job):
    done, columns = job.state == "succeeded", max(8, min(30, screen.width() - 58))
    if job.state in ("running", "collecting") and job.node:
        step = "  %d/%d" % (job.value, job.max) if job.max > 1 else ""
        tail = screen.bar(job.part(), columns) + "  " + job.title(job.node) + step
    elif done:
        tail = screen.bar(1, columns) + "  %s %.1f s" % (screen.mark(True), (job.ended - job.started) / 1000)
    elif job.state == "queued" and job.place is not None:
        tail = screen.bar(0, columns) + screen.paint("dim", "  waiting, place %d" % (job.place + 1))
    else:
        tail = screen.bar(job.part(), columns) + screen.paint("dim", "  " + job.state)
    return "  %s  %-15s %-7s %s" % (screen.paint(job.window, "%-4s" % job.window), job.what, job.server or "", tail)


async def show(screen, windows):
    told = {}
    while True:
        jobs = [j for w in windows for j in w.jobs]
        if screen.fits(len(jobs)):
            screen.draw([job_line(screen, j) for j in jobs])
        else:
            for j in jobs:
                now = (j.state, j.server)
                if told.get(j) != now and j.state in ("running", "succeeded", "failed"):
                    screen.say("  %-4s  %-15s %-7s %s" % (j.window, j.what, j.server or "", j.state))
                told[j] = now
        await asyncio.sleep(0.1)


async def watched(screen, url, windows):
    """Both windows at the same time, drawn until both are done."""
    async with contextlib.AsyncExitStack() as stack:
        for w in windows:
            await stack.enter_async_context(w)
        beside = [asyncio.create_task(poll(url, windows)), asyncio.create_task(show(screen, windows))]
        try:
            await asyncio.wait_for(asyncio.gather(*(w.play() for w in windows)), SECONDS)
            await asyncio.sleep(0.5)  # the last poll and the last lines
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            screen.keep()


# ---- the command line --------------------------------------------------------------------------------------------


def command_line(screen, url, workflow):
    """A third party at the same gateway. Its progress bar is its own."""
    command = [program(), "run", workflow.relative_to(ROOT), "-n", "2", "-o", "build/demo/out"]
    screen.say("  %s  $ comfymux %s" % (screen.paint("terminal", "terminal"), " ".join(map(str, command[1:]))))
    run = subprocess.run([*command, *([] if screen.tty else ["--quiet"])], cwd=ROOT, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, env={**os.environ, "COMFYMUX_URL": url}, text=True, timeout=SECONDS)
    if run.returncode:
        raise Wrong("comfymux run ended with status %d" % run.returncode)
    paths = [ROOT / line for line in run.stdout.splitlines()]
    for path in paths:
        screen.say("            " + screen.paint("dim", str(path.relative_to(ROOT))))
    return [p.read_bytes() for p in paths]


# ---- the checks --------------------------------------------------------------------------------------------------


async def get(http, url, **query):
    async with http.get(url, params=query) as r:
        if r.status != 200:
            raise Wrong("GET %s: %d" % (r.url, r.status))
        return await r.read()


async def get_json(http, url):
    return json.loads(await get(http, url))


class Output:
    """One output as the gateway keeps it and as its server has it."""

    def __init__(self, record, entry, ours, theirs):
        self.record, self.entry, self.ours, self.theirs = record, entry, ours, theirs
        self.filename = entry["filename"]


async def outputs_of(http, url, record):
    out = []
    for o in record["outputs"]:
        ours = await get(http, url + o["url"])
        theirs = await get(http, record["server"]["url"] + "/view", filename=o["filename"],
                           subfolder=o["subfolder"], type=o["type"])
        out.append(Output(record, o, ours, theirs))
    return out


def same_name(outputs):
    """The name that most servers used for different pictures: (name, how many servers)."""
    servers = {}
    for o in outputs:
        servers.setdefault((o.filename, o.entry["type"]), {})[o.record["server"]["name"]] = o.theirs
    count = {name: len(set(by.values())) for (name, kind), by in servers.items() if kind == "output"}
    return max(count.items(), key=lambda item: item[1], default=(None, 0))


def checks(windows, printed, records, table, outputs):
    """(is it right, what was checked), in the order of the story."""
    jobs = [j for w in windows for j in w.jobs]
    servers = {r["server"]["name"] for r in records if r["server"]}
    by_job = {}
    for o in outputs:
        by_job.setdefault(o.record["id"], {})[o.filename, o.entry["type"]] = o.ours
    wanted = {w.name: {j.id for j in w.jobs} for w in windows}
    listed = {w["window_id"]: {j["id"] for j in w["jobs"]} for w in table}
    name, count = same_name(outputs)
    yield (all(r["state"] == "succeeded" for r in records) and len(servers) == COUNT,
           "%d jobs succeeded, on %d servers" % (sum(r["state"] == "succeeded" for r in records), len(servers)))
    same = sum(o.ours == o.theirs for o in outputs)
    yield (0 < same == len(outputs), "%s pictures, each byte for byte the one its server made" % (
        same if same == len(outputs) else "only %d of %d" % (same, len(outputs))))
    yield (not any(j.fault for j in jobs) and all(j.seen == by_job.get(j.id) for j in jobs),
           "every picture was there the moment its window heard that the job was done")
    yield (sorted(printed) == sorted(o.ours for o in outputs if o.record["window_id"] is None),
           "the command line wrote what its jobs made")
    yield (all(listed.get(name) == ids for name, ids in wanted.items()) and not any(w.strangers for w in windows),
           "each window has its own jobs and heard of no others (%d live previews)" % sum(w.previews for w in windows))
    yield (count > 1, "%s: %d different pictures on %d servers, no mix-up" % (name, count, count))


def files_of(record):
    """The first name and how many more there are."""
    names = [o["filename"] for o in record["outputs"]]
    return (names[0] + (" and %d more" % (len(names) - 1) if names[1:] else "")) if names else record["state"]


def print_table(screen, windows, records, table):
    by_id = {r["id"]: r for r in records}
    what = {j.id: j.what for w in windows for j in w.jobs}
    screen.say(screen.paint("dim", "  %-9s %-15s %-7s %7s  %s" % ("window", "job", "server", "time",
                                                                 "files, as the server named them")))
    for window in sorted(table, key=lambda w: (w["window_id"] is None, w["window_id"] or "")):
        name = window["window_id"] or "terminal"
        for row in sorted(window["jobs"], key=lambda j: (j["registered_at"], j["id"])):
            r = by_id[row["id"]]
            spent = "%.1f s" % ((r["finished_at"] - r["started_at"]) / 1000) if r["finished_at"] else ""
            screen.say("  %s %-15s %-7s %7s  %s" % (screen.paint(name, "%-9s" % name), what.get(r["id"], "first.json"),
                                                    r["server"]["name"] if r["server"] else "-", spent, files_of(r)))


def write_pictures(windows, outputs):
    """out/WINDOW/..., and all of them on one sheet."""
    what = {j.id: j.what for w in windows for j in w.jobs}
    sheet = []
    for o in outputs:
        window = o.record["window_id"]
        if window:
            name = "%s %s %s" % (what[o.record["id"]], o.record["server"]["name"], o.filename)
            path = DEMO / "out" / window / name.replace(" ", "-")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(o.ours)
        sheet.append((window or "terminal", "%s  %s" % (o.record["server"]["name"], o.filename), o.ours))
    sheet.sort(key=lambda s: {"fox": 0, "sea": 1}.get(s[0], 2))
    side, gap, columns = 224, 12, 4
    rows = -(-len(sheet) // columns)
    all_of_them = Image.new("RGB", (gap + columns * (side + gap), gap + rows * (side + 36 + gap)), "#101418")
    draw = ImageDraw.Draw(all_of_them)
    for i, (window, label, data) in enumerate(sheet):
        x, y = gap + i % columns * (side + gap), gap + i // columns * (side + 36 + gap)
        all_of_them.paste(Image.open(io.BytesIO(data)).convert("RGB").resize((side, side)), (x, y))
        draw.text((x, y + side + 4), window, fill={"fox": "#e0b050", "sea": "#5fc0d0"}.get(window, "#c090d0"))
        draw.text((x, y + side + 18), label, fill="#c8ccd0")
    all_of_them.save(DEMO / "out" / "all.png")


async def judge(screen, url, windows, printed):
    """Prints the table and the checks; true if all of them hold."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as http:
        records = (await get_json(http, url + "/mux/v1/jobs"))["jobs"]
        table = (await get_json(http, url + "/mux/v1/windows"))["windows"]
        print_table(screen, windows, records, table)
        outputs = [o for r in reversed(records) if r["server"] for o in await outputs_of(http, url, r)]
    write_pictures(windows, outputs)
    screen.say()
    good = True
    for right, text in checks(windows, printed, records, table, outputs):
        good &= right
        screen.say("  %s %s" % (screen.mark(right), text))
    for j in (j for w in windows for j in w.jobs if j.fault):
        screen.say("    %s of %s: %s" % (j.what, j.window, j.fault))
    return good


# ---- all of it ---------------------------------------------------------------------------------------------------


def places(screen, url, gone):
    """Where everything is; `gone`: the servers end now."""
    binary = os.path.relpath(program(), ROOT)
    rows = [("pictures", "build/demo/out"), ("", "build/demo/out/all.png"), ("logs", "build/demo/log"),
            ("data", "build/demo/data")]
    if not gone:
        rows += [("look at", url + "/mux/"), ("", url + "/mux/v1/jobs"), ("", url + "/metrics"),
                 ("type", "export COMFYMUX_URL=" + url), ("", binary + " servers"), ("", binary + " jobs"),
                 ("", binary + " run build/demo/first.json -o build/out")]
    screen.say()
    for label, text in rows:
        screen.say("  %s  %s" % (screen.paint("dim", "%-9s" % label), text))


def stay(screen, processes):
    screen.say("\n  It all stays up until you press Ctrl-C.")
    while True:
        time.sleep(0.5)
        for p in processes:
            if not p.running():
                raise Wrong("%s ended with status %s:\n%s" % (p.name, p.child.returncode, p.tail()))


def play(screen, args, processes):
    kind = "real ComfyUI " + comfyui.VERSION if args.real else "simulated"
    screen.say("\n  %s\n" % screen.paint("bold", "Three ComfyUI servers, one address, two windows and a command line"))
    if args.real and not comfyui.CACHE.exists():
        screen.say("  installing ComfyUI %s into build/real (some minutes, once)" % comfyui.VERSION)
    servers = real(processes) if args.real else simulated(processes)
    url = gateway(processes, servers)
    screen.say("  %-9s %s" % ("comfymux", screen.paint("bold", url)))
    for name, at in servers:
        screen.say("  %-9s %s" % (name, screen.paint("dim", "%s  %s" % (at, kind))))
    screen.say()
    first = DEMO / "first.json"
    first.write_text(json.dumps(plain(0x60C080) if args.real else sample("a lighthouse", 31), indent=2))
    windows = [Window(url, name, jobs) for name, jobs in scenes(not args.real).items()]
    asyncio.run(watched(screen, url, windows))
    screen.say()
    printed = command_line(screen, url, first)
    screen.say()
    good = asyncio.run(judge(screen, url, windows, printed))
    remain = screen.tty and not args.once
    places(screen, url, not remain)
    if remain:
        with contextlib.suppress(KeyboardInterrupt):
            stay(screen, processes)
        screen.say()
    return good


def alone():
    """An open file that stands for "the demo runs"; two would use one folder."""
    (ROOT / "build").mkdir(exist_ok=True)
    lock = open(ROOT / "build" / "demo.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Wrong("a demo is running already") from None
    return lock


def stop(processes):
    """Gateway first. Gives false if one did not end well."""
    good = True
    for p in reversed(processes):
        status = p.stop()
        if status and p.name.startswith("comfymux"):
            print("demo: %s ended with status %s:\n%s" % (p.name, status, p.tail()), file=sys.stderr)
            good = False
    return good


def main():
    parser = argparse.ArgumentParser(prog="./dev demo", description="Play a small fleet and look at it.")
    parser.add_argument("--real", action="store_true", help="three real ComfyUI servers instead of simulated ones")
    parser.add_argument("--once", action="store_true", help="end after the checks, also on a terminal")
    args = parser.parse_args()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))
    screen, processes, good, lock = Screen(), [], False, None
    try:
        lock = alone()
        shutil.rmtree(DEMO, ignore_errors=True)
        DEMO.mkdir()
        good = play(screen, args, processes)
    except KeyboardInterrupt:
        screen.erase()
    except comfyui.Unavailable as e:
        print("demo: no real ComfyUI server: %s" % e, file=sys.stderr)
    except (Wrong, RuntimeError, OSError, AssertionError, aiohttp.ClientError, asyncio.TimeoutError,
            subprocess.TimeoutExpired) as e:
        screen.keep()
        print("demo: %s: %s" % (type(e).__name__, e) if not isinstance(e, Wrong) else "demo: %s" % e,
              file=sys.stderr)
        for p in processes:
            print("---- %s\n%s" % (p.log.relative_to(ROOT), p.tail(15)), file=sys.stderr)
    finally:
        good &= stop(processes)
        if lock:
            lock.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
