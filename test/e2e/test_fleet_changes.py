"""Servers come, drain and go while jobs run: by API, by CLI and by the file. No job is lost, none is seen twice."""
import asyncio
import contextlib
import subprocess
import tempfile

import pytest

import configured
import graphs
import targets
from comfy_client import Client, images


def job(color, steps=40):
    return graphs.slow(steps=steps, seconds=0.05, color=color)


@contextlib.contextmanager
def plant(settings=None, count=2, in_file=True, ready_path="/readyz"):
    """Simulators and a gateway with a file; its servers are in it if in_file."""
    try:
        with targets.sims(count) as s, tempfile.TemporaryDirectory(prefix="comfymux-") as data:
            first = {"servers": configured.servers(s.urls)} if in_file else {}
            with configured.gateway({**first, **(settings or {})}, data,
                                    ready_path=ready_path if in_file else "/healthz") as g:
                yield g, s
    except targets.Missing as e:
        targets.skip_or_fail(e)


def by_cli(g, *args):
    run = subprocess.run([targets.binary(), "servers", *args, "--url", g.url, "--json"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, text=True)
    return run.returncode, run.stdout, run.stderr


class ByApi:
    """What an operator does, by API."""

    def __init__(self, g, c):
        self.g, self.c = g, c

    async def add(self, name, url):
        status, body = await self.c.post("/mux/v1/servers", {"name": name, "url": url})
        assert status == 201, (status, body)

    async def drain(self, name):
        status, body = await self.c.post("/mux/v1/servers/%s/drain" % name, None)
        assert status == 200 and body["state"] == "draining", (status, body)

    async def resume(self, name):
        status, _ = await self.c.post("/mux/v1/servers/%s/resume" % name, None)
        assert status == 200

    async def remove(self, name, force=False):
        """Whether it was."""
        path = "/mux/v1/servers/%s%s" % (name, "?force=1" if force else "")
        async with self.c.http.delete(self.c.url + path) as r:
            assert r.status in (200, 409), await r.text()
            return r.status == 200


class ByCli(ByApi):
    """The same by command line."""

    async def call(self, *args):
        status, out, err = await asyncio.to_thread(by_cli, self.g, *args)
        assert status in (0, 1), (status, out, err)
        return status == 0

    async def add(self, name, url):
        assert await self.call("add", "%s=%s" % (name, url))

    async def drain(self, name):
        assert await self.call("drain", name)

    async def resume(self, name):
        assert await self.call("resume", name)

    async def remove(self, name, force=False):
        return await self.call("remove", name, *(["--force"] if force else []))


async def on_server(c, prompt_id, name=None):
    record = await c.until_state(prompt_id, "running")
    if name:
        assert record["server"]["name"] == name, record
    return record["server"]["name"]


async def seen_once(c, ids):
    """Every job ended well; listings hold each once, with the outputs of one attempt."""
    for prompt_id in ids:
        record = await c.until_state(prompt_id)
        assert record["state"] == "succeeded", record
        assert len(record["outputs"]) == 1, record
        entry = await c.history(prompt_id)
        (image,) = images(entry)
        assert await c.view(image)
    listed = [j["id"] for j in (await c.get("/mux/v1/jobs", limit=1000))["jobs"]]
    assert sorted(listed) == sorted(ids)
    assert sorted(await c.get("/history")) == sorted(ids)


@pytest.mark.parametrize("how", [ByApi, ByCli])
def test_added_drained_removed_while_jobs_run(how):
    """One server after the other, and back again under its old name."""
    with plant(in_file=False) as (g, s):

        async def flow():
            async with Client(g.url) as c:
                by = how(g, c)
                early = await c.submit(job(1))  # taken before there is any server
                await by.add("a", s.urls[0])
                assert await on_server(c, early) == "a"
                await by.add("b", s.urls[1])
                await c.until_server("b", "up")
                second = await c.submit(job(2))
                assert await on_server(c, second) == "b"
                await by.drain("b")
                assert (await c.servers())["b"]["running"] == [second]
                assert not await by.remove("b")  # it has a job
                third = await c.submit(job(3))
                await c.until_state(second)  # a draining server finishes what it has
                assert (await c.record(second))["server"]["name"] == "b"
                assert await by.remove("b")
                assert list(await c.servers()) == ["a"]
                await by.add("b", s.urls[1])  # the name is free again, and nothing of before clings to it
                await c.until_server("b", "up")
                await c.until_state(third)
                more = [await c.submit(job(i, steps=2)) for i in range(4, 10)]
                await seen_once(c, [early, second, third, *more])

        asyncio.run(flow())


@pytest.mark.parametrize("how", [ByApi, ByCli])
def test_removed_by_force(how):
    """Its job goes on elsewhere, at once although timeout.lost is an hour; the first attempt is named as what it was,
    and what it makes afterwards is in no listing."""
    with plant({"timeout": {"lost": "1h"}, "retry": {"max_attempts": 1}}, in_file=False) as (g, s):

        async def flow():
            async with Client(g.url) as c:
                by = how(g, c)
                await by.add("a", s.urls[0])
                await c.until_server("a", "up")
                prompt_id = await c.submit(job(1, steps=200))
                await on_server(c, prompt_id, "a")
                await by.add("b", s.urls[1])
                await c.until_server("b", "up")
                assert not await by.remove("a")
                assert await by.remove("a", force=True)
                record = await c.until_state(prompt_id)
                assert [(a["server"], a["error"] and a["error"]["code"]) for a in record["attempts"]] == \
                    [("a", "server_lost"), ("b", None)], record["attempts"]
                assert "removed" in record["attempts"][0]["error"]["message"], record["attempts"]
                await seen_once(c, [prompt_id])

        asyncio.run(flow())


def test_the_last_one_removed():
    """Jobs wait until there is one again."""
    with plant({"timeout": {"lost": "1h"}}, in_file=False) as (g, s):

        async def flow():
            async with Client(g.url) as c:
                by = ByApi(g, c)
                await by.add("a", s.urls[0])
                await c.until_server("a", "up")
                ids = [await c.submit(job(i)) for i in range(3)]
                await on_server(c, ids[0])
                assert await by.remove("a", force=True)
                await c.until_state(ids[0], "queued")
                assert await c.servers() == {}
                status, body = await c.fetch("/readyz")
                assert status == 503 and b"no server is configured" in body
                ids.append(await c.submit(job(4)))
                await by.add("z", s.urls[1])
                await seen_once(c, ids)

        asyncio.run(flow())


def test_gone_from_the_file_and_back():
    """As by API: the job of a server that is no longer in the file goes on elsewhere; then the url of one changes."""
    with plant({"timeout": {"lost": "1h"}}, count=3) as (g, s):
        two, three = configured.servers(s.urls[:2]), configured.servers(s.urls)
        g.reload({"servers": two[:1]})

        async def flow():
            async with Client(g.url) as c:
                await c.until_all_up()
                first = await c.submit(job(1, steps=200))
                await on_server(c, first, "s0")
                g.reload({"servers": two[1:]})
                assert list(await c.servers()) == ["s1"]
                record = await c.until_state(first)
                assert [a["server"] for a in record["attempts"]] == ["s0", "s1"], record
                second = await c.submit(job(2, steps=200))
                await on_server(c, second, "s1")
                g.reload({"servers": [{"name": "s1", "url": three[2]["url"]}]})  # same name, another machine
                record = await c.until_state(second)
                assert len(record["attempts"]) == 2, record
                g.reload({"servers": three[:2]})
                await c.until_all_up()
                more = [await c.submit(job(i, steps=2)) for i in range(3, 9)]
                await seen_once(c, [first, second, *more])

        asyncio.run(flow())


def test_what_was_added_survives_reload_and_restart():
    """Those of the API stay, of two with one name the file's wins; drained stays drained, in the file and out of it."""
    with plant(count=3) as (g, s):

        async def first():
            async with Client(g.url) as c:
                by = ByApi(g, c)
                g.reload({"servers": configured.servers(s.urls[:1])})
                await by.add("mine", s.urls[1])
                await c.until_all_up()
                await by.drain("mine")
                await by.drain("s0")
                g.reload({"limits": {"nodes": 30}})
                assert {n: v["state"] for n, v in (await c.servers()).items()} == \
                    {"s0": "draining", "mine": "draining"}

        async def taken_over():
            async with Client(g.url) as c:
                g.reload({"servers": [*configured.servers(s.urls[:1]), {"name": "mine", "url": s.urls[1]}]})
                await c.until_server("mine", "draining")

        async def second():
            async with Client(g.url) as c:
                await c.until_server("s0", "draining")
                await c.until_server("mine", "draining")
                g.reload({"servers": [*configured.servers(s.urls[:1]), {"name": "mine", "url": s.urls[2]}]})
                mine = (await c.servers())["mine"]
                assert mine["url"] == s.urls[2]
                g.reload({"servers": configured.servers(s.urls[:1])})
                while (await c.servers()).get("mine", {}).get("url") != s.urls[1]:
                    await asyncio.sleep(0.02)  # what the file had hidden
                await c.until_server("mine", "draining")
                g.reload({"servers": []})
                assert list(await c.servers()) == ["mine"]
                g.reload({"servers": configured.servers(s.urls[:1])})
                await c.until_server("s0", "up")  # taken out and put in again: as new
                await c.post("/mux/v1/servers/mine/resume", None)
                await c.until_server("mine", "up")

        async def third():
            async with Client(g.url) as c:
                await c.until_server("mine", "up")
                await c.until_server("s0", "up")

        asyncio.run(first())
        asyncio.run(taken_over())
        assert g.process.stop() == 0
        g.process.ready_path = "/healthz"
        g.process.start().wait_ready()
        asyncio.run(second())
        assert g.process.stop() == 0
        g.process.start().wait_ready()
        asyncio.run(third())


def test_removed_again_and_again_under_load():
    """Servers go by force and come back while forty jobs are under way."""
    with plant({"timeout": {"lost": "1h"}, "retry": {"max_attempts": 1}}, count=3, in_file=False) as (g, s):

        async def flow():
            async with Client(g.url) as c:
                by = ByApi(g, c)
                for i, url in enumerate(s.urls):
                    await by.add("s%d" % i, url)
                await c.until_all_up()
                ids = [await c.submit(job(i, steps=3)) for i in range(40)]
                for turn in range(6):
                    name = "s%d" % (turn % 3)
                    while name not in await c.servers() or not (await c.servers())[name]["running"]:
                        await asyncio.sleep(0.01)
                    assert await by.remove(name, force=True)
                    await by.add(name, s.urls[turn % 3])
                await seen_once(c, ids)

        asyncio.run(flow())
