"""A fleet in the middle of its work, for pictures of the page and for tests that look at every view: servers that are well, one
that is down, one that is drained, one that fails; finished pictures of many seeds, running and waiting jobs, one that failed."""
import contextlib
import json
import random
import urllib.request
import uuid

import browser
import configured
import graphs
import targets

SPEED = 20
NAMES = ["rtx4090-1", "rtx3090-1", "a6000-1", "l40s-1", "t4-1", "gtx1080-1"]
FAILS, DRAINED, DOWN = NAMES[3:]
WINDOWS = ["anna-sketches", "poster-series", "window-7f3a"]
TEXTS = ["a red fox in the snow", "a lighthouse at dusk, oil on canvas", "portrait of an old sailor", "a glass city under the sea",
         "morning fog over rice terraces", "a paper boat in the rain", "an owl reading by candlelight", "the last train home"]
SIZES = [(512, 512), (512, 512), (640, 448), (448, 640)]


def post(url, body=None):
    request = urllib.request.Request(url, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def submit(url, graph, window=None, client=None):
    return post(url + "/prompt", {"prompt": graph, **({"client_id": client} if client else {}),
                                  "extra_data": {"window_id": window} if window else {}})["prompt_id"]


def picture(chance, batch=1):
    """A workflow as people have them: the seeds are larger than a double holds."""
    width, height = chance.choice(SIZES)
    graph = graphs.text_to_image(chance.getrandbits(64) | 1 << 63, chance.choice(TEXTS), batch=batch)
    graph["5"]["inputs"].update(width=width, height=height)
    graph["7"]["inputs"]["text"] = "blurry, watermark"
    graph["7"]["_meta"] = {"title": "Negative Prompt"}
    return graph


def slow(chance, prefix):
    """Something that is at work for as long as pictures are taken."""
    graph = graphs.slow(steps=chance.randrange(40, 90), seconds=chance.uniform(1.5, 3.5) * SPEED, seed=chance.getrandbits(63), prefix=prefix,
                        color=chance.getrandbits(24))
    graph["5"]["_meta"] = {"title": "Upscale"}
    return graph


class Lively:
    """url; job: one with several pictures; failed: one that failed."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.url = gateway.url
        self.job = self.failed = None

    def servers(self):
        return {s["name"]: s for s in browser.get(self.url + "/mux/v1/servers")["servers"]}

    def until_ended(self, ids):
        for i in ids:
            browser.until("the end of " + i, lambda: browser.get(self.url + "/mux/v1/jobs/" + i)["finished_at"])

    def make(self, count):
        """So many jobs with pictures, over all that is well."""
        chance = random.Random(count)
        clients = {w: str(uuid.UUID(int=chance.getrandbits(128), version=4)) for w in [*WINDOWS, None]}
        ids = []
        for i in range(count):
            window = chance.choice([*WINDOWS, *WINDOWS, None])
            ids.append(submit(self.url, picture(chance, 4 if i % 9 == 4 else 1), window, clients[window]))
        self.until_ended(ids)
        self.failed = submit(self.url, graphs.fail("mask is 512 by 512 pixels, the image 768 by 512"), WINDOWS[1], clients[WINDOWS[1]])
        self.until_ended([self.failed])
        self.job = submit(self.url, picture(chance, 4), WINDOWS[0], clients[WINDOWS[0]])
        self.until_ended([self.job])
        for i in range(7):
            window = WINDOWS[i % len(WINDOWS)]
            submit(self.url, slow(chance, "poster"), window, clients[window])

    def until_at_work(self):
        """Several jobs tell how far they are."""
        browser.until("progress", lambda: sum(
            j["progress"]["value"] > 4 for s in self.servers().values() for j in s["jobs"]) >= 3)


@contextlib.contextmanager
def fleet(count=40):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(targets.sim(1, ["--name", name[:-1], "--speed", SPEED, "--seed", i,
                                                    *(["--fault", "cuda-error"] if name == FAILS else [])]))
                for i, name in enumerate(NAMES)]
        servers = [{"name": name, "url": t.url} for name, t in zip(NAMES, many)]
        servers[0].update(depth=2, tags=["big", "fast"])
        servers[2]["tags"] = ["big"]
        f = Lively(stack.enter_context(configured.gateway({"servers": servers})))
        browser.until("servers to be up", lambda: all(s["state"] == "up" for s in f.servers().values()))
        submit(f.url, picture(random.Random(0)))
        many[NAMES.index(DOWN)].processes[0].kill()
        browser.until("one to be down", lambda: f.servers()[DOWN]["state"] == "down")
        post("%s/mux/v1/servers/%s/drain" % (f.url, DRAINED))
        f.make(count)
        browser.until("one to be fenced", lambda: f.servers()[FAILS]["state"] == "fenced")
        f.until_at_work()
        yield f
