"""The fault matrix, each cell as a test. The cells are played side by side when the first is asked for; the table is shown at
the end and stands in build/matrix.txt."""
import asyncio
import os
import pathlib

import pytest

import matrix
import targets

CONFIG, PHASES, ROWS = matrix.load()
LONG = bool(os.environ.get("COMFYMUX_LONG"))
CELLS = {c.name: c for row in ROWS if LONG or "long" not in row.options for c in row.cells.values()}


@pytest.fixture(scope="module")
def played(request):
    try:
        targets.comfymux("serve")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    wanted = {i.callspec.params["name"] for i in request.session.items
              if i.path.name == pathlib.Path(__file__).name and hasattr(i, "callspec")}
    cells = asyncio.run(matrix.run(ROWS, CONFIG, lambda c: c.name in wanted, LONG))
    table = matrix.table(ROWS, PHASES, cells)
    if len(cells) == len(CELLS):
        (targets.ROOT / "build").mkdir(exist_ok=True)
        (targets.ROOT / "build" / "matrix.txt").write_text(table + "\n")
    request.config.matrix_table = table


@pytest.mark.parametrize("name", CELLS)
def test_cell(name, played):
    cell = CELLS[name]
    assert cell.got is not None or cell.fault, "it was not played"
    assert cell.fault is None, "\n" + cell.fault


def test_it_is_large_enough():
    """What the project's goals ask for: at least 35 faults, every phase of every one either played or given a reason."""
    assert len(ROWS) >= 35 and len(PHASES) == 5
    assert all(set(row.cells) | set(row.reasons) == set(PHASES) for row in ROWS)
