"""Sum up what `./dev test` ran and print the closing line: N passed, N failed, N skipped.

usage: summary.py RESULTS [STAGE THAT FAILED]...

RESULTS holds meson's test logs (*.json, one JSON object a line), pytest's report (pytest.xml) and fuzz.txt. A cmocka
program counts with each of its test cases; one that died counts as one failed more. A stage that failed without a
test that failed (a build that broke, say) counts as one failed. Exit status 1 if anything failed or nothing passed."""
import glob
import json
import os
import re
import sys
import xml.etree.ElementTree as ET

CASE = re.compile(r"^\[\s*(OK|FAILED|SKIPPED)\s*\] \S", re.M)


def meson(path):
    passed = failed = skipped = 0
    for line in open(path, encoding="utf-8", errors="replace"):
        t = json.loads(line)
        # cmocka names a failed or skipped case twice: where it ran, and again at the end as a count or a list.
        said = CASE.findall((t.get("stdout") or "") + "\n" + (t.get("stderr") or ""))
        if t["result"] == "SKIP":
            skipped += 1
        elif t["result"] in ("OK", "EXPECTEDFAIL"):
            passed += max(1, said.count("OK"))
            skipped += said.count("SKIPPED") // 2
        else:
            passed += said.count("OK")
            failed += max(1, said.count("FAILED") // 2)
    return passed, failed, skipped


def junit(path):
    passed = failed = skipped = 0
    for suite in ET.parse(path).getroot().iter("testsuite"):
        n = {k: int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped")}
        bad = n["failures"] + n["errors"]
        failed += bad
        skipped += n["skipped"]
        passed += max(0, n["tests"] - bad - n["skipped"])
    return passed, failed, skipped


def lines(path):
    text = open(path).read()
    return text.count(": ok\n"), text.count(": FAILED\n"), 0


def main():
    folder, stages = sys.argv[1], sys.argv[2:]
    total = [0, 0, 0]
    for path in sorted(glob.glob(os.path.join(folder, "*"))):
        read = {".json": meson, ".xml": junit, ".txt": lines}[os.path.splitext(path)[1]]
        got = read(path)
        print("%-12s %5d passed %3d failed %3d skipped" % ((os.path.basename(path).split(".")[0],) + got))
        total = [a + b for a, b in zip(total, got)]
    for s in stages:
        print("stage failed: " + s)
    if stages:
        total[1] = max(total[1], len(stages))
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
