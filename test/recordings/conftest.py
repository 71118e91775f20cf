import collections

import pytest

REPORTS = []


@pytest.fixture(scope="session")
def replay_reports():
    return REPORTS


def pytest_terminal_summary(terminalreporter):
    """Counts of the whole replay, per target, and what was allowed how often."""
    for target in dict.fromkeys(r.target for r in REPORTS):
        mine = [r for r in REPORTS if r.target == target]
        terminalreporter.section("recordings against %s" % target)
        for what in ("exchanges", "frames"):
            total = sum((getattr(r, what) for r in mine), collections.Counter())
            terminalreporter.line("%-9s %5d compared, %5d equal, %4d allowed, %4d different" % (
                what, total["compared"], total["equal"], total["allowed"], total["different"]))
        for why, n in sum((r.allowed for r in mine), collections.Counter()).most_common():
            terminalreporter.line("  allowed %4d: %s" % (n, why))
        for what in [w for r in mine for w in r.left_out]:
            terminalreporter.line("  left out: " + what)
