"""Every recorded session again, in the order they were recorded, against each kind of server."""
import collections

import pytest

import replay
import session
import targets

# Not replayed, and why.
LEFT_OUT = {
    "f6_server_flags": "needs servers started with other flags",
    "g1_slow_reader": "the client that does not read, and its 40 prompts, are not in the recording",
    "h1_sigterm_mid_job": "stops and starts the server in the middle",
    "h2_sigkill_mid_job": "stops and starts the server in the middle",
}

# Where the gateway refuses what the recorded server ran, its last prompt is run on the server behind it afterwards: the
# next session shows what lies in its cache.
LAST_REFUSED = {"d4_numbers_front_ids"}
# And these were recorded with nothing of theirs in the cache: what ran before them is not all done with the gateway.
EMPTY_CACHE = {"a5_free_and_cache"}


def sessions():
    folder = replay.folder()
    if folder is None:
        return []
    return [s for name in session.FOLDERS for s in session.series(folder / name) if s.name not in LEFT_OUT]


# The recorded servers had no models.
FRESH = {"sim": {"args": ("--checkpoints", "none")}, "gateway": {"sim_args": ("--checkpoints", "none")}}

SESSIONS = sessions()
no_recordings = pytest.mark.skipif(not SESSIONS, reason="no recordings: COMFYMUX_SHARED or ../shared")


def against(version):
    """Every session of a version, against each kind of server; a series gets a target of its own."""
    kinds = [pytest.param((kind, version), id=kind) for kind in ("real", "sim", "gateway")]
    mine = [s for s in SESSIONS if s.version == version]

    def wrap(test):
        test = pytest.mark.parametrize("recorded", mine, ids=lambda s: s.name)(test)
        return no_recordings(pytest.mark.parametrize("servers", kinds, indirect=True, scope="module")(test))

    return wrap


@pytest.fixture(scope="module")
def servers(request):
    """A fresh target for the whole series of a version: what sessions leave behind shows in later ones."""
    kind, version = request.param
    try:
        # The gateway comes with one server behind it: with more, what runs when is not as recorded.
        with targets.KINDS[kind](1 if kind == "gateway" else 2, **FRESH.get(kind, {})) as target:
            if version == "0.3.75":
                replay.prelude(target.url)
            yield target
    except targets.Missing as e:
        targets.skip_or_fail(e)


def check(recorded, target, urls, reports):
    report = replay.replay(recorded, urls, target)
    reports.append(report)
    assert report.exchanges["compared"] + report.frames["compared"] > 0
    if report.different:
        by_path = collections.OrderedDict((str(d), d) for d in report.different)
        text = "\n".join("  " + d for d in list(by_path)[:40])
        pytest.fail("%s\n%s\n  %d differences" % (report.line(), text, len(report.different)), pytrace=False)


def play(servers, recorded, reports):
    if servers.name != "gateway":
        check(recorded, servers.name, servers.urls, reports)
        return
    if len(recorded.uses) > 1:
        pytest.skip("needs a gateway over as many servers: test_two_servers")
    if recorded.name in EMPTY_CACHE:
        replay.free_cache(servers.processes[-1].url)
    try:
        check(recorded, "gateway", servers.urls, reports)
    finally:
        if recorded.name in LAST_REFUSED:
            replay.last_prompt(recorded, servers.processes[-1].url)


@against("0.3.75")
def test_of_0_3_75(servers, recorded, replay_reports):
    play(servers, recorded, replay_reports)


@against("0.3.64")
def test_of_0_3_64(servers, recorded, replay_reports):
    play(servers, recorded, replay_reports)


@no_recordings
@pytest.mark.parametrize("recorded", [s for s in SESSIONS if len(s.uses) > 1], ids=lambda s: s.name)
def test_two_servers(recorded, replay_reports):
    """Two recorded servers are one gateway over two: it stands for both."""
    try:
        with targets.gateway(2, **FRESH["gateway"]) as target:
            check(recorded, "gateway", target.urls * 2, replay_reports)
    except targets.Missing as e:
        targets.skip_or_fail(e)
