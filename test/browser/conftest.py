"""Fixtures of the tests in a browser; browser.py says what they are."""
import pytest

import browser


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as b:
        yield b


@pytest.fixture(scope="module")
def whole_fleet(chromium):  # no servers for tests that are skipped
    with browser.fleet() as f:
        yield f


@pytest.fixture
def fleet(whole_fleet):
    whole_fleet.mend()
    return whole_fleet


@pytest.fixture
def tabs(request, chromium):
    t = browser.Tabs(chromium)
    request.node.tabs = t
    yield t
    wrong = t.wrong()
    t.close()
    assert not wrong, "\n".join(wrong)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its pages' consoles said."""
    report = (yield).get_result()
    said = getattr(getattr(item, "tabs", None), "said", None)
    if report.failed and said:
        report.sections.append(("consoles", "\n".join("page %d %s: %s" % s for s in said[-60:])))
