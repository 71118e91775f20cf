"""A page that polls /status faster than any page would, while servers answer late, wrongly and in pieces: `completed`
always has an image, and a failure always has a name and a sentence."""
import asyncio
import collections
import json
import os
import random

import graphs
import targets
from comfy_client import Client
from witness import color_of

JOBS, AT_ONCE = 500, 12
SERVERS = 8
CODES = set("no_capable_server validation_failed server_rejected execution_error out_of_memory interrupted server_lost"
            " server_restarted stalled dispatch_failed history_unavailable history_missing output_unavailable"
            " output_unrecognised storage_failed expired canceled no_image_output".split())
RESULT = {"queued": 202, "processing": 202, "fetching_image": 202, "completed": 200, "canceled": 409}


def is_sentence(text):
    return isinstance(text, str) and text[:1].isupper() and len(text.split()) > 2


class Page:
    """Looks at one job every 5 ms, or as often as the machine can; now and then at /result instead."""

    def __init__(self, url, rng):
        self.c = Client(url)
        self.rng = rng
        self.looks = collections.Counter()
        self.ends = {}  # id -> code, or "completed"

    async def image(self, job_id, color, url):
        status, png = await self.c.fetch(url)
        assert status == 200, "%s has image_url %s, which answers %d" % (job_id, url, status)
        assert color_of(png) == color, "%s shows another picture" % job_id

    async def judge(self, job_id, color, http, s):
        """One answer of /status or /result. True at the end."""
        self.looks[s["status"]] += 1
        if s["image_url"] is not None:
            assert s["status"] == "completed" and s["image_urls"][0] == s["image_url"], s
        if http is not None:
            assert http == RESULT.get(s["status"], http), (http, s)
        assert s["message"].strip(), s
        if s["status"] == "completed":
            assert s["image_url"], "%s is completed without an image_url" % job_id
            assert s["error"] is None, s
            await self.image(job_id, color, s["image_url"])
            self.ends[job_id] = "completed"
        elif s["status"] == "failed":
            assert s["error"]["code"] in CODES and len(s["error"]["message"].split()) > 1, s
            assert is_sentence(s["message"]), s
            assert http in (None, 422, 502, 500), (http, s)
            self.ends[job_id] = s["error"]["code"]
        else:
            assert s["error"] is None, s
        return s["status"] in ("completed", "failed")

    async def watch(self, job_id, color):
        while True:
            result = self.rng.random() < 0.2
            async with self.c.http.get(self.c.url + ("/result/" if result else "/status/") + job_id) as r:
                assert result or r.status == 200, (job_id, r.status)
                body = json.loads(await r.read())
                if await self.judge(job_id, color, r.status if result else None, body):
                    return
            await asyncio.sleep(0.005)


def graph_of(rng, color):
    """(graph, what /status is to say at the end)"""
    kind = rng.choices(("save", "slow", "fail", "text"), (50, 35, 10, 5))[0]
    if kind == "save":
        return graphs.save(prefix="ComfyUI", color=color), "completed"
    if kind == "slow":
        return graphs.slow(steps=2, seconds=0.02, color=color, seed=color, prefix="ComfyUI"), "completed"
    if kind == "fail":
        return graphs.fail("boom %d" % color, color=color), "execution_error"
    return graphs.text_only("text %d" % color), "no_image_output"


FAULTS = ["history-lag=120ms", "history-500%15", "view-slow=100ms%40", "view-500%10", "view-404%5",
          "view-truncate%10", "prompt-lost%2", "ws-silent%5", "ws-drop%2", "prompt-slow-answer=50ms%10"]


def test_five_hundred_jobs_behind_bad_servers(capsys):
    seed = int(os.environ.get("COMFYMUX_SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    work = [(color, *graph_of(rng, color)) for color in rng.sample(range(1, 1 << 24), JOBS)]

    async def tab(page, wanted):
        while work:
            color, graph, end = work.pop()
            job_id = await page.c.submit(graph)
            wanted[job_id] = end
            await page.watch(job_id, color)

    async def flow(url):
        page, wanted = Page(url, rng), {}
        async with page.c:
            await page.c.until_all_up()
            await asyncio.gather(*(tab(page, wanted) for _ in range(AT_ONCE)))
        return page, wanted

    args = [a for f in FAULTS for a in ("--fault", f)]
    try:
        with targets.gateway(SERVERS, sim_args=["--seed", str(seed % 1000), *args]) as g:
            page, wanted = asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    with capsys.disabled():
        print("\nseed %d: %d jobs, looks %s, ends %s" % (seed, len(wanted), dict(page.looks),
                                                         dict(collections.Counter(page.ends.values()))))
    assert page.ends == wanted, "seed %d" % seed
    assert len(wanted) == JOBS and page.looks["fetching_image"] > JOBS


ALONE = {  # fault of a server -> the code that its job ends with
    "history-missing": "history_missing",
    "history-500": "history_unavailable",
    "view-404": "output_unavailable",
    "view-truncate": "output_unavailable",
    "reject": "server_rejected",
    "oom": "out_of_memory",
    "cuda-error": "execution_error",
    "hang": "stalled",
    "die-after-start": "server_lost",
    "die-after-start=500ms": "server_restarted",
}


def test_each_failure_of_a_server_has_its_code(tmp_path):
    """As many servers as faults, each with its own, and nothing is tried twice."""
    config = tmp_path / "comfymux.yaml"
    config.write_text("retry: {max_attempts: 1}\ntimeout: {history: 2s, output: 2s, stall: 3s, lost: 5s}\n")
    faults = list(ALONE)

    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
            page = Page(url, random.Random(1))
            async with page.c:
                ids = [await c.submit(graphs.slow(steps=10, seconds=0.02, color=k + 1)) for k in range(len(faults))]
                await asyncio.gather(*(page.watch(job_id, k + 1) for k, job_id in enumerate(ids)))
            got = {}
            for job_id in ids:
                record = await c.record(job_id)
                assert record["error"]["code"] == page.ends[job_id] and record["attempt"] == 1, record
                assert record["error"]["server"] == record["attempts"][0]["server"], record
                got[faults[int(record["error"]["server"][1:])]] = page.ends[job_id]
            assert got == ALONE

    try:
        args = [a for k, f in enumerate(faults) for a in ("--fault", "%d/%s" % (k + 1, f))]
        with targets.gateway(len(faults), ["-c", config], args) as g:
            asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)
