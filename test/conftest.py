import contextlib
import shutil

import pytest

import targets


def pytest_sessionstart(session):
    shutil.rmtree(targets.LOGS, ignore_errors=True)


def pytest_runtest_setup(item):
    item.servers_before = len(targets.started)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of the log of every server that runs or that it started; whole logs stay in
    build/test-logs."""
    report = (yield).get_result()
    if report.failed:
        for i, p in enumerate(targets.started):
            if p.running() or i >= getattr(item, "servers_before", 0):
                report.sections.append(("%s, %s" % (p.name, p.log), p.tail()))


@pytest.fixture(scope="session")
def shared_targets():
    """Targets that many tests may share, started when first asked for: shared_targets("sim")."""
    with contextlib.ExitStack() as stack:
        have = {}

        def get(kind):
            if kind not in have:
                try:
                    have[kind] = stack.enter_context(targets.KINDS[kind]())
                except targets.Missing as e:
                    have[kind] = e
            if isinstance(have[kind], targets.Missing):
                targets.skip_or_fail(have[kind])
            return have[kind]

        yield get


@pytest.fixture(params=["sim", "gateway", "real"])
def target(request, shared_targets):
    """Each kind of server that a ComfyUI client may be pointed at."""
    return shared_targets(request.param)


@pytest.fixture
def real(shared_targets):
    return shared_targets("real")
