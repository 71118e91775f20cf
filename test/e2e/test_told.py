"""The end of a job is told to a client that was away, that came late, and after a gateway that was killed or stopped before
it had told it; and not again."""
import asyncio
import signal
import tempfile

import pytest

import graphs
import targets
from comfy_client import Client

class Gateway:
    """One that is started anew over the same folder."""

    def __init__(self, process):
        self.process = process

    async def ended(self, sig):
        if sig == signal.SIGKILL:
            self.process.kill()
        else:
            assert await asyncio.to_thread(self.process.stop, sig) == 0, self.process.tail()

    async def begin(self):
        self.process.start()
        await asyncio.to_thread(self.process.wait_ready)

    async def again(self, sig):
        await self.ended(sig)
        await self.begin()


@pytest.fixture()
def gateway():
    try:
        with targets.sim(1) as servers, tempfile.TemporaryDirectory(prefix="comfymux-") as data:
            p = targets.serve_process(servers.urls, data)
            with targets.running([p]):
                yield Gateway(p)
    except targets.Missing as e:
        targets.skip_or_fail(e)


async def all_of(c, job_id):
    """What a socket that is opened now is told, up to the end of a job that is submitted on it."""
    async with c.socket() as ws:
        other = await c.submit(graphs.slow(steps=1, seconds=0.01, seed=len(job_id)))
        await ws.until_done(other)
    return ws.types(job_id)


async def away(c, job):
    """A job of this client that ends while it has no socket."""
    job_id = await c.submit(job)
    await c.until_state(job_id)
    return job_id


def ends(types):
    return [t for t in types if t in ("execution_success", "execution_error", "execution_interrupted")]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_who_was_away_is_told_by_the_next_gateway(gateway, sig):
    async def flow():
        async with Client(gateway.process.url) as c, Client(gateway.process.url) as stranger:
            ids = [await away(c, graphs.slow(steps=1, seconds=0.01, seed=k)) for k in range(3)]
            failed = await away(c, graphs.fail())
            await gateway.again(sig)
            await gateway.again(sig)
            assert await all_of(stranger, ids[0]) == []
            async with c.socket() as ws:
                for k in ids:
                    await ws.until_done(k)
                    assert ends(ws.types(k)) == ["execution_success"] and ws.types(k)[-1] == "executing", ws.types(k)
                    assert k in await c.get("/history/" + k)
                await ws.until_done(failed)
                assert ends(ws.types(failed)) == ["execution_error"], ws.types(failed)
            # Told once: neither to a second socket, nor by another gateway.
            assert await all_of(c, ids[0]) == []
            await gateway.again(signal.SIGTERM)
            for k in ids:
                assert await all_of(c, k) == []

    asyncio.run(flow())


def test_who_was_told_is_not_told_again_after_a_stop(gateway):
    async def flow():
        async with Client(gateway.process.url) as c:
            async with c.socket() as ws:
                job_id = await c.submit(graphs.slow(steps=1, seconds=0.01))
                await ws.until_done(job_id)
            await gateway.again(signal.SIGTERM)
            assert await all_of(c, job_id) == []

    asyncio.run(flow())


def test_what_was_taken_away_while_it_waited_is_never_told(gateway):
    async def flow():
        async with Client(gateway.process.url) as c:
            first = await c.submit(graphs.slow(steps=2, seconds=0.5))
            waiting = await c.submit(graphs.slow(steps=1, seconds=0.01, seed=2))
            assert (await c.post("/queue", {"delete": [waiting]}))[0] == 200
            await c.until_state(first)
            await gateway.again(signal.SIGKILL)
            async with c.socket() as ws:
                await ws.until_done(first)
            assert ws.types(waiting) == []

    asyncio.run(flow())
