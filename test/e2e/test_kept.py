"""What users keep (saved workflows, settings) is the gateway's: it outlives its process and every server."""
import asyncio
import contextlib
import os
import random
import tempfile

import aiohttp
import pytest

import targets
from comfy_client import Client
from test_full_disk import disk


@contextlib.contextmanager
def plant(args=(), data=None):
    with contextlib.ExitStack() as stack:
        try:
            s = stack.enter_context(targets.sim(1))
            data = data or stack.enter_context(tempfile.TemporaryDirectory(prefix="comfymux-"))
            p = targets.serve_process(s.urls, data, args, ready_path="/healthz")
            stack.enter_context(targets.running([p]))
        except targets.Missing as e:
            targets.skip_or_fail(e)
        yield p, s, data


async def call(c, method, path, **more):
    """(status, body)"""
    async with c.http.request(method, c.url + path, **more) as r:
        return r.status, await r.read()


async def ok(c, method, path, **more):
    status, body = await call(c, method, path, **more)
    assert status in (200, 204), (method, path, status, body)
    return body


def test_what_was_answered_survives_sigkill_and_the_death_of_every_server():
    with plant() as (p, s, data):

        async def save(url, told):
            """Until the gateway dies in the middle of it."""
            try:
                async with Client(url) as c:
                    for i in range(100000):
                        text = b"%d %s" % (i, os.urandom(random.randrange(100)).hex().encode())
                        await ok(c, "POST", "/userdata/workflows%%2F%d.json" % (i % 7), data=text)
                        told["workflows/%d.json" % (i % 7)] = (text, i)
                        await ok(c, "POST", "/settings/Test.n%d" % (i % 5), data=str(i))
                        told[i % 5] = i
            except (aiohttp.ClientError, OSError):
                return

        async def kill_when(told, p, n):
            while told.get(n % 5, -1) < n:
                await asyncio.sleep(0.01)
            p.kill()

        async def look(url, told):
            """What was told stands; at most the change that was under way came after it."""
            async with Client(url) as c:
                settings = await c.get("/settings")
                for key, value in told.items():
                    if isinstance(key, int):
                        assert settings["Test.n%d" % key] in (value, value + 5), (key, value, settings)
                    else:
                        body = await ok(c, "GET", "/userdata/" + key.replace("/", "%2F"))
                        assert body == value[0] or int(body.split()[0]) == value[1] + 7, (key, value, body)
                listed = await c.get("/userdata", dir="workflows")
                assert {"workflows/" + name for name in listed} >= {k for k in told if isinstance(k, str)}
                assert await c.get("/users") == {"storage": "server", "migrated": True}

        async def round_of(p, n):
            told = {}
            saving = asyncio.create_task(save(p.url, told))
            await kill_when(told, p, n)
            await saving
            return told

        for n in (12, 37):
            told = asyncio.run(round_of(p, n))
            p.start()
            p.wait_ready()
            asyncio.run(look(p.url, told))
        for process in s.processes:
            process.kill()
        asyncio.run(look(p.url, told))
        p.kill()
        p.start()
        p.wait_ready()
        asyncio.run(look(p.url, told))


def test_two_browsers_at_one_time():
    """Each changes settings of its own, and both change the same files: no change is lost, no file is half of each."""
    with plant() as (p, _, _data):

        async def browser(name, n=25):
            async with Client(p.url) as c:
                for i in range(n):
                    await asyncio.gather(
                        ok(c, "POST", "/settings/%s.%d" % (name, i), json={"by": name}),
                        ok(c, "POST", "/settings", json={"%s.last" % name: i, "shared": name}),
                        ok(c, "POST", "/userdata/shared.json", data=name.encode() * 5000))

        async def flow():
            await asyncio.gather(*(browser(name) for name in ("one", "two", "three")))
            async with Client(p.url) as c:
                settings = await c.get("/settings")
                for name in ("one", "two", "three"):
                    assert settings["%s.last" % name] == 24
                    assert all(settings["%s.%d" % (name, i)] == {"by": name} for i in range(25))
                assert len(settings) == 3 * 26 + 1
                body = await ok(c, "GET", "/userdata/shared.json")
                assert body in (b"one" * 5000, b"two" * 5000, b"three" * 5000)
                # exactly one of many can be the first
                new = await asyncio.gather(*(call(c, "POST", "/userdata/new?overwrite=false", data=b"%d" % i)
                                             for i in range(8)))
                assert sorted(status for status, _ in new) == [200] + [409] * 7
                # and exactly one can take it away
                moved = await asyncio.gather(*(call(c, "POST", "/userdata/new/move/m%d" % i) for i in range(8)))
                assert sorted(status for status, _ in moved) == [200] + [404] * 7

        asyncio.run(flow())


HOSTILE = ("..%2Fx", "%2e%2e%2Fx", "..%2F..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "a%252F..%252F..%252F..%252Fx",
           "a%2F..%2F..%2Fcomfymux.db", "a%00b", "%ff%fe", "a" * 300, "%2F".join(["d"] * 700))
ODD = {"100%25.json": "100%.json", "h%C3%A9%20%E4%B8%96%F0%9F%98%80.json": "hé 世😀.json", "a%22b%27c%3Cd%3E.json": 'a"b\'c<d>.json',
       "back%5Cslash": "back\\slash", "line%0Abreak": "line\nbreak", "a%2F.%2F%2Fb%2F..%2Fc": "a/c", "%20": " ", "...": "..."}


def test_hostile_and_odd_names():
    with plant() as (p, s, data):

        async def flow():
            async with Client(p.url) as c:
                for name in HOSTILE:
                    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/move/x")):
                        status, _ = await call(c, method, "/userdata/" + name + path, data=b"evil" if method == "POST" else None)
                        assert status in (400, 403, 404, 405), (method, name, status)
                assert await c.get("/v2/userdata") == []
                assert not s.processes[0].said("evil")
                for name, meant in ODD.items():
                    assert await ok(c, "POST", "/userdata/" + name, data=meant.encode()) is not None
                    assert await ok(c, "GET", "/userdata/" + name) == meant.encode(), name
                assert {e["path"] for e in await c.get("/v2/userdata") if e["type"] == "file"} == set(ODD.values())
                status, _ = await call(c, "POST", "/userdata/a%2Fc%2Fd", data=b"through a file")
                assert status == 400
                status, _ = await call(c, "POST", "/userdata/a", data=b"over a folder")
                assert status == 400
                status, _ = await call(c, "DELETE", "/userdata/a")
                assert status == 400
                assert (await call(c, "POST", "/userdata/x", data=b"", headers={"Origin": "http://evil"}))[0] == 403
                assert (await call(c, "POST", "/settings/x", data=b"1", headers={"Origin": "http://evil"}))[0] == 403
                assert (await call(c, "DELETE", "/userdata/a%2Fc", headers={"Origin": "http://evil"}))[0] == 403

        asyncio.run(flow())


def test_what_is_kept_is_never_active():
    with plant() as (p, _, _data):

        async def flow():
            async with Client(p.url) as c:
                for name in ("x.html", "x.svg", "x.js", "x.css", "x.json", "user.css", "sub%2Fuser.css"):
                    await ok(c, "POST", "/userdata/" + name, data=b"<script>")
                    async with c.http.get(c.url + "/api/userdata/" + name) as r:
                        assert r.headers["X-Content-Type-Options"] == "nosniff"
                        assert r.headers["Content-Disposition"].startswith("attachment") == (name != "user.css")
                        assert r.content_type == {"user.css": "text/css", "x.json": "application/json"}.get(
                            name, "application/octet-stream"), (name, r.content_type)

        asyncio.run(flow())


def test_settings_are_bounded_and_odd_ones_do_no_harm():
    with plant() as (p, _, _data):

        async def flow():
            async with Client(p.url) as c:
                assert (await call(c, "POST", "/settings/big", data=b'"' + b"x" * (5 << 20) + b'"'))[0] == 413
                assert (await call(c, "POST", "/settings/deep", data=b"[" * 512 + b"]" * 512))[0] == 400
                assert await c.get("/settings") == {}
                for body in (b"", b"nope", b"[1", b"\xff"):
                    assert (await call(c, "POST", "/settings/x", data=body))[0] == 400
                await ok(c, "POST", "/settings/a%2Fb%20%C3%A9", data=b"18446744073709551615",
                         headers={"Content-Type": "text/plain"})
                assert await c.get("/settings") == {"a/b é": 18446744073709551615}
                assert await c.get("/settings/a%2Fb%20%C3%A9") == 18446744073709551615
                # a file that is no JSON is begun anew, as a stock server does; a list cannot have members
                await ok(c, "POST", "/userdata/comfy.settings.json", data=b"{broken")
                assert await c.get("/settings") == {}
                await ok(c, "POST", "/settings/x", data=b"1")
                assert await c.get("/settings") == {"x": 1}
                await ok(c, "POST", "/userdata/comfy.settings.json", data=b"[1]")
                assert await c.get("/settings") == [1]
                assert (await call(c, "POST", "/settings/x", data=b"2"))[0] == 500
                await ok(c, "DELETE", "/userdata/comfy.settings.json")
                await ok(c, "POST", "/settings/x", data=b"2")

        asyncio.run(flow())


def test_users_are_added_once():
    with plant() as (p, _, _data):

        async def flow():
            async with Client(p.url) as c:
                assert await c.get("/users") == {"storage": "server", "migrated": False}
                added = await asyncio.gather(*(call(c, "POST", "/users", json={"username": "bob b"}) for _ in range(5)))
                assert sorted(status for status, _ in added) == [200] + [400] * 4
                assert all(body == b'{"error": "Duplicate username."}' for status, body in added if status == 400)
                assert any(body.startswith(b'"bob-b_') for status, body in added)
                for bad in ({}, {"username": ""}, {"username": 5}, {"username": "__x"}, {"username": "default"}):
                    assert (await call(c, "POST", "/users", json=bad))[0] == 400, bad

        asyncio.run(flow())


def test_big_files(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("limits: {upload: 3MiB}\n")
    with plant(["-c", str(config)]) as (p, _, data):

        async def flow():
            async with Client(p.url) as c:
                big = os.urandom(3 << 20)
                await ok(c, "POST", "/userdata/big", data=big)
                assert await ok(c, "GET", "/userdata/big") == big
                status, part = await call(c, "GET", "/userdata/big", headers={"Range": "bytes=1000-1999"})
                assert status == 206 and part == big[1000:2000]
                with contextlib.suppress(aiohttp.ClientError):  # it may say so before it has read all
                    assert (await call(c, "POST", "/userdata/big", data=big + b"x"))[0] == 413
                with contextlib.suppress(aiohttp.ClientError):
                    async def pieces():
                        for _ in range(4):
                            yield os.urandom(1 << 20)
                    assert (await call(c, "POST", "/userdata/other", data=pieces()))[0] == 413
                assert await ok(c, "GET", "/userdata/big") == big
                assert (await call(c, "GET", "/userdata/other"))[0] == 404

        asyncio.run(flow())


def test_a_full_disk_is_said_and_harms_nothing():
    with disk() as d, plant(data=d.data) as (p, _, _data):

        async def flow():
            async with Client(p.url) as c:
                await ok(c, "POST", "/userdata/a.json", data=b"first")
                await ok(c, "POST", "/settings/x", data=b"1")
                d.fill()
                status, body = await call(c, "POST", "/userdata/a.json", data=os.urandom(200000))
                assert status == 507 and b"No space left" in body, (status, body)
                status, body = await call(c, "POST", "/settings/x", data=b'"%s"' % (b"y" * 200000))
                assert status == 507 and b"No space left" in body, (status, body)
                assert await ok(c, "GET", "/userdata/a.json") == b"first"
                assert await c.get("/settings/x") == 1
                d.clear()
                while (await call(c, "POST", "/userdata/a.json", data=b"second"))[0] != 200:
                    await asyncio.sleep(0.05)
                await ok(c, "POST", "/settings/x", data=b"2")
                assert await ok(c, "GET", "/userdata/a.json") == b"second"
                assert await c.get("/settings/x") == 2

        asyncio.run(flow())
