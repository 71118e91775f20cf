import pytest

LINES = []


@pytest.fixture
def count_line():
    """count_line("text"): a line that stands at the end of pytest's output, passed or not."""
    return LINES.append


def pytest_terminal_summary(terminalreporter):
    if LINES:
        terminalreporter.section("counted")
        for line in LINES:
            terminalreporter.line(line)
