"""Settings, user data and the log: routes that a frontend lives on, against a real server, the simulator and the gateway."""
import asyncio

import pytest

import graphs
import targets
from comfy_client import Client


@pytest.fixture(scope="module", params=["real", "sim", "gateway"])
def server(request):
    try:
        with targets.KINDS[request.param](1) as t:
            yield t
    except targets.Missing as e:
        targets.skip_or_fail(e)


async def call(c, method, path, **more):
    """(status, text)"""
    async with c.http.request(method, c.url + path, **more) as r:
        return r.status, await r.text()


def test_settings_are_a_file_of_the_user(server):
    async def flow():
        async with Client(server.url) as c:
            assert (await call(c, "POST", "/settings/Test.One", json="v"))[0] == 200
            assert (await call(c, "POST", "/settings", data='{"Test.Two": {"seed": 18446744073709551615}}'))[0] == 200
            assert await c.get("/settings/Test.One") == "v"
            assert (await c.get("/settings"))["Test.Two"] == {"seed": 18446744073709551615}
            assert await c.get("/settings/Test.None") is None
            status, text = await call(c, "GET", "/userdata/comfy.settings.json")
            assert status == 200 and '    "Test.Two": {\n        "seed": 18446744073709551615\n    }' in text
            assert (await call(c, "POST", "/settings", json=[]))[0] == (400 if server.name == "gateway" else 500)

    asyncio.run(flow())


def test_files_are_stored_listed_moved_and_deleted(server):
    async def flow():
        async with Client(server.url) as c:
            for name in ("flows%2Fa.json", "flows%2Fsub%2Fb.json"):
                assert (await call(c, "POST", "/userdata/" + name, data=b"{}"))[0] == 200
            assert await c.get("/userdata", dir="flows") == ["a.json"]
            assert await c.get("/userdata", dir="flows", recurse="true") == ["a.json", "sub/b.json"]
            assert await c.get("/userdata", dir="flows", recurse="true", split="true") == [
                ["a.json", "a.json"], ["sub/b.json", "sub", "b.json"]]
            (info,) = await c.get("/userdata", dir="flows", full_info="true")
            assert info["path"] == "a.json" and info["size"] == 2
            tree = await c.get("/v2/userdata?path=flows")
            assert [(e["path"], e["type"]) for e in tree] == [
                ("flows/sub", "directory"), ("flows/a.json", "file"), ("flows/sub/b.json", "file")]
            assert (await call(c, "POST", "/userdata/flows%2Fa.json?overwrite=false", data=b"x"))[0] == 409
            assert await call(c, "POST", "/userdata/flows%2Fa.json/move/flows%2Fnew%2Fc.json") == (
                200, '"flows/new/c.json"')
            assert (await call(c, "GET", "/userdata/flows%2Fa.json"))[0] == 404
            assert await call(c, "GET", "/userdata/flows%2Fnew%2Fc.json") == (200, "{}")
            assert (await call(c, "DELETE", "/userdata/flows%2Fnew%2Fc.json"))[0] == 204
            assert (await call(c, "DELETE", "/userdata/flows%2Fnew%2Fc.json"))[0] == 404

    asyncio.run(flow())


def test_nothing_outside_the_users_folder(server):
    async def flow():
        async with Client(server.url) as c:
            for name in ("..%2Fx", "..%2F..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "a%252F..%252F..%252F..%252Fx"):
                for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/move/x")):
                    assert (await call(c, method, "/userdata/" + name + path))[0] in (403, 404), (method, name)
                assert (await call(c, "POST", "/userdata/comfy.settings.json/move/" + name))[0] in (403, 404), name
            assert (await call(c, "GET", "/userdata?dir=.."))[0] == 403
            assert (await call(c, "GET", "/v2/userdata?path=../.."))[0] == 400

    asyncio.run(flow())


def test_the_log_comes_to_a_socket_that_subscribed(server):
    if server.name == "gateway":
        pytest.skip("servers keep their logs to themselves")

    async def flow():
        async with Client(server.url) as c, c.socket() as ws:
            status, _ = await call(c, "PATCH", "/internal/logs/subscribe", json={"clientId": c.client_id, "enabled": True})
            assert status == 200
            await c.submit(graphs.save(color=77))
            lines = []
            while not any(line.startswith("Prompt executed in ") for line in lines):
                lines += [e["m"] for e in (await ws.until("logs"))["entries"]]
            assert "got prompt\n" in lines
            raw = await c.get("/internal/logs/raw")
            assert "got prompt\n" in [e["m"] for e in raw["entries"]]

    asyncio.run(flow())
