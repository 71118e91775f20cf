"""A fleet of which one member is no good: every job succeeds, and nobody sees that work was done twice."""
import asyncio

import pytest

import targets
from comfy_client import Client
from witness import all_of, faults_of, judge, killed_now_and_then, lasting, new_books

SERVERS = 4


SICK = {  # fault of the first server -> the code that its attempts end with
    "cuda-error": "execution_error",
    "oom": "out_of_memory",
    "reject": "server_rejected",
    "history-missing": "history_missing",
    "view-500": "output_unavailable",
    "hang": "stalled",
}


@pytest.mark.parametrize("fault, total", [(f, 200 if f == "cuda-error" else 40) for f in SICK])
def test_one_of_four_fails_every_job(fault, total, tmp_path, capsys):
    seed, books = new_books(total)
    config = tmp_path / "comfymux.yaml"
    config.write_text("timeout: {history: 1s, output: 1s, stall: 2s}\n")

    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
        listed = await all_of(url, books, lasting(0.1))
        async with Client(url) as c:
            return listed, (await c.servers())["s0"]

    try:
        with targets.sim(SERVERS, ["--fault", "1/" + fault]) as s, targets.in_front_of(s, ["-c", config]) as g:
            listed, sick = asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    faults = faults_of(listed[0])
    with capsys.disabled():
        print("\nseed %d: %d jobs, one of %d servers with %s: %s; it is %s" % (seed, total, SERVERS, fault, dict(faults),
                                                                              sick["state"]))
    judge(books, total, listed)
    assert set(faults) == {("s0", SICK[fault])}, "else nothing was proved"
    if fault not in ("oom", "reject"):  # these may be the graph's fault, and say nothing about the server
        assert faults["s0", SICK[fault]] < 20, "it was given job after job"


def test_one_of_four_raises_in_every_job(capsys):
    """As one that lacks a package that the others have: what it fails is tried once more elsewhere, and it is fenced."""
    total = 60
    seed, books = new_books(total)

    async def flow(url):
        async with Client(url) as c:
            await c.until_all_up()
        listed = await all_of(url, books, lasting(0.1))
        async with Client(url) as c:
            return listed, (await c.servers())["s0"]

    try:
        with targets.gateway(SERVERS, sim_args=["--fault", "1/node-error", "--fault", "1/slow-prompt=300ms"]) as g:
            (records, _), sick = asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    faults, failed = faults_of(records), [r for r in records if r["state"] == "failed"]
    with capsys.disabled():
        print("\nseed %d: %d jobs, one of %d servers raises: %s; %d failed; it is %s" % (
            seed, total, SERVERS, dict(faults), len(failed), sick["state"]))
    assert not failed and len(records) == total and not books.wrong, books.wrong
    assert set(faults) == {("s0", "execution_error")} and sick["state"] == "fenced"


def test_one_of_four_is_killed_every_five_seconds(tmp_path, capsys):
    total = 200
    seed, books = new_books(total)

    async def flow(url, victim):
        async with Client(url) as c:
            await c.until_all_up()
        return await all_of(url, books, lasting(0.45), beside=killed_now_and_then(books, victim, 5, 2))

    try:
        many = [targets.sim_process(1, ["--name", "p%d_" % i, "--state", tmp_path / str(i)]) for i in range(SERVERS)]
        with targets.running(many):
            with targets.in_front_of(targets.Target("sims", [p.url for p in many], many)) as g:
                listed = asyncio.run(flow(g.url, many[0]))
    except targets.Missing as e:
        targets.skip_or_fail(e)
    faults = faults_of(listed[0])
    with capsys.disabled():
        print("\nseed %d: %d jobs, one of %d servers killed %d times: %s" % (seed, total, SERVERS, books.count["kills"],
                                                                          dict(faults)))
    judge(books, total, listed)
    assert books.count["kills"] > 2 and len(faults) > 0 and {name for name, _ in faults} == {"s0"}, "nothing was proved"
