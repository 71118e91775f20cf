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
# Sessions that make no sense against a target.
NOT_FOR = {
    ("gateway", "a2_two_servers_same_names"): "two servers side by side; a gateway is one",
}
# What the gateway's core of the native API is held against; the other sessions come with the rest of its routes.
GATEWAY_HOLDS = {
    "a1_plain_success", "a3_many_outputs", "a4_load_invert_save", "b1_two_clients", "b2_reconnect", "b5_preview_formats",
    "d1_execution_error", "d2_interrupt", "e3_view",
    "f1_catalogue", "f3_internal_static_misc", "f4_http_wire", "f5_body_limit",
}

# What the gateway is not held against leaves its traces in the cache of the server behind it all the same: it is done
# there, directly, and not compared.
LEAVES_CACHE = {"a5_free_and_cache", "b3_same_client_id_twice", "c1_validation_errors", "c2_partial_200",
                "c3_malformed_bodies"}

MAIN = "sessions-0.3.75"
MORE = "sessions"  # those that MAIN does not have; recorded with 0.3.64


def sessions():
    folder = replay.folder()
    if folder is None:
        return []
    main = session.series(folder / MAIN)
    have = {s.name for s in main}
    more = [s for s in session.series(folder / MORE) if s.name not in have]
    return [s for s in main + more if s.name not in LEFT_OUT]


# The recorded servers had no models.
FRESH = {"sim": {"args": ("--checkpoints", "none")}, "gateway": {"sim_args": ("--checkpoints", "none")}}

SESSIONS = sessions()
no_recordings = pytest.mark.skipif(not SESSIONS, reason="no recordings: COMFYMUX_SHARED or ../shared")


@pytest.fixture(scope="module", params=["real", "sim", "gateway"])
def servers(request):
    """A fresh target for the whole series: what sessions leave behind shows in later ones."""
    try:
        # The gateway comes with one server behind it: with more, what runs when is not as recorded.
        with targets.KINDS[request.param](1 if request.param == "gateway" else 2, **FRESH.get(request.param, {})) as target:
            replay.prelude(target.url)
            yield target
    except targets.Missing as e:
        targets.skip_or_fail(e)


@no_recordings
@pytest.mark.parametrize("recorded", SESSIONS, ids=lambda s: s.name)
def test_session(servers, recorded, replay_reports):
    why = NOT_FOR.get((servers.name, recorded.name))
    if servers.name == "gateway" and not why and recorded.name not in GATEWAY_HOLDS:
        why = "the gateway serves the core of the native API so far (docs/native.md)"
    if why and servers.name == "gateway" and recorded.name in LEAVES_CACHE:
        replay.replay(recorded, servers.processes[-1].urls, "sim")
    if why:
        pytest.skip(why)
    report = replay.replay(recorded, servers.urls, servers.name)
    replay_reports.append(report)
    assert report.exchanges["compared"] + report.frames["compared"] > 0
    if report.different:
        by_path = collections.OrderedDict((str(d), d) for d in report.different)
        text = "\n".join("  " + d for d in list(by_path)[:40])
        pytest.fail("%s\n%s\n  %d differences" % (report.line(), text, len(report.different)), pytrace=False)
