"""GET /metrics as Prometheus reads it: checked by promtool where it is there (`./dev setup` fetches it), and by the rules
that it does not know."""
import asyncio
import collections
import itertools
import pathlib
import re
import shutil
import subprocess

import pytest

import graphs
import targets
from comfy_client import Client

fresh = itertools.count(1).__next__
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.eE+-]+)$')


def parse(text):
    """name -> type, and {(name, labels): value}"""
    types, samples, helped = {}, {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, line
            types[name] = kind
        elif line.startswith("# HELP "):
            name, _, words = line[len("# HELP "):].partition(" ")
            assert words and name not in helped, line
            helped.add(name)
        else:
            m = SAMPLE.match(line)
            assert m, line
            key = (m[1], m[2] or "")
            assert key not in samples, line
            samples[key] = float(m[3])
    assert helped == set(types)
    return types, samples


def family(name, types):
    if name in types:
        return name
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    assert types.get(base) == "histogram", name
    return base


def check_rules(types, samples):
    seen = {family(name, types) for name, _ in samples}
    # A server's families are announced before there is a server.
    assert all(name in seen or name.startswith("comfymux_server_") for name in types)
    for name, kind in types.items():
        assert name.startswith(("comfymux_", "process_")), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not re.search(r"_(ms|us|milliseconds|minutes|kb|mb|count|sum|bucket)$", name), name
    buckets = collections.defaultdict(list)
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            le = re.search(r'le="([^"]*)"', labels)[1]
            rest = re.sub(r',?le="[^"]*"', "", labels)
            buckets[name[:-len("_bucket")], rest if rest != "{}" else ""].append((float(le), value))
    for (name, labels), found in buckets.items():
        assert found == sorted(found) and found[-1][0] == float("inf"), name
        assert all(a[1] <= b[1] for a, b in zip(found, found[1:])), name
        assert found[-1][1] == samples[name + "_count", labels], name
        assert (name + "_sum", labels) in samples


def promtool():
    here = pathlib.Path(targets.ROOT) / "build" / "tools" / "promtool"
    return here if here.exists() else shutil.which("promtool")


async def work(c):
    """Something of everything: ends, errors, files, unknown routes."""
    ids = [await c.submit(graphs.save(color=fresh())) for _ in range(4)]
    ids += [await c.submit(graphs.fail("no", color=fresh())), await c.submit(graphs.slow(steps=500, color=fresh()))]
    await c.post("/mux/v1/jobs/%s/cancel" % ids[-1], {})
    for i in ids:
        await c.until_state(i)
    await c.fetch("/result/" + ids[0])
    await c.fetch("/object_info")
    await c.fetch("/history/%d" % fresh())
    await c.fetch("/unheard-of/%d" % fresh())


async def metrics(c):
    status, text = await c.fetch("/metrics")
    assert status == 200
    return text.decode()


@pytest.fixture(scope="module")
def scraped():
    """The text before any work, after some, and after more of the same."""
    async def flow(url):
        async with Client(url) as c, c.socket():
            await c.until_all_up()
            texts = [await metrics(c)]
            await work(c)
            texts.append(await metrics(c))
            for _ in range(3):
                await work(c)
            texts.append(await metrics(c))
            return texts

    try:
        with targets.gateway(2) as g:
            return asyncio.run(flow(g.url))
    except targets.Missing as e:
        targets.skip_or_fail(e)


def test_the_rules_of_prometheus(scraped):
    for text in scraped:
        check_rules(*parse(text))


def test_promtool_is_content(scraped):
    tool = promtool()
    if tool is None:
        targets.skip_or_fail("promtool is not there (./dev setup)")
    for text in scraped:
        run = subprocess.run([tool, "check", "metrics"], input=text, text=True, capture_output=True, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_number_of_series_is_bounded(scraped):
    """Nothing that a client sends becomes a label: the same series before and after any work."""
    before, after, more = ({k for k in parse(text)[1]} for text in scraped)
    assert before == after == more


def test_what_is_counted(scraped):
    (_, before), (_, after), (_, more) = (parse(text) for text in scraped)
    ended = {k: v for k, v in after.items() if k[0] == "comfymux_jobs_ended_total" and v}
    assert ended == {("comfymux_jobs_ended_total", '{state="succeeded",code="ok"}'): 4,
                     ("comfymux_jobs_ended_total", '{state="failed",code="execution_error"}'): 1,
                     ("comfymux_jobs_ended_total", '{state="canceled",code="canceled"}'): 1}
    assert after["comfymux_jobs_accepted_total", ""] == 6 and more["comfymux_jobs_accepted_total", ""] == 24
    assert after["comfymux_submit_commit_duration_seconds_count", ""] == 6
    assert after["comfymux_job_duration_seconds_count", '{state="succeeded"}'] == 4
    assert after["comfymux_job_duration_seconds_sum", '{state="succeeded"}'] > 0
    assert after["comfymux_http_request_duration_seconds_count", '{class="submit"}'] == 6
    assert after["comfymux_websockets", ""] == 1 and after["comfymux_http_connections", ""] >= 1
    assert after["comfymux_server_links", ""] == 2
    assert after["comfymux_blobs", ""] == 4
    for name in "s0", "s1":
        assert after["comfymux_server_up", '{server="%s"}' % name] == 1
        assert after["comfymux_server_state", '{server="%s",state="up"}' % name] == 1
        assert abs(after["comfymux_server_last_seen_timestamp_seconds", '{server="%s"}' % name]
                   - after["process_start_time_seconds", ""]) < 600
    assert sum(v for (name, _), v in after.items() if name == "comfymux_server_successes_total") == 4
    assert sum(v for (name, _), v in before.items() if name.startswith("comfymux_job") and name.endswith("_total")) == 0
    counters = [k for k in before if k[0].endswith(("_total", "_count", "_sum", "_bucket"))]
    assert all(before[k] <= after[k] <= more[k] for k in counters)
