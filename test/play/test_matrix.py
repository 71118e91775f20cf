"""The fault matrix as one test; its table goes to build/results/matrix.txt and onto the screen with -s."""
import asyncio
import os

import matrix
import targets


def test_matrix():
    try:
        targets.comfymux("serve")
    except targets.Missing as e:
        targets.skip_or_fail(e)
    config, phases, rows = matrix.load()
    cells = asyncio.run(matrix.run(rows, config, long=bool(os.environ.get("COMFYMUX_LONG"))))
    text = matrix.table(rows, phases, cells)
    results = targets.ROOT / "build" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "matrix.txt").write_text(text + "\n")
    print("\n" + text)
    bad = [c for c in cells if c.fault]
    assert not bad, "\n" + "\n\n".join(c.fault for c in bad[:3]) + "\n\n" + text
