"""Every place where the end of a job shows, and what must stand there."""
import json

from world import Unmet, until

ENDED = ("succeeded", "failed", "canceled", "expired")
# code -> HTTP status of /result: the contract's list, written down once more on purpose
RESULT = {422: "no_image_output validation_failed server_rejected no_capable_server execution_error out_of_memory "
               "output_unrecognised",
          502: "interrupted server_lost server_restarted stalled dispatch_failed history_unavailable history_missing "
               "output_unavailable",
          500: "storage_failed", 410: "expired", 409: "canceled"}
RESULT = {code: status for status, codes in RESULT.items() for code in codes.split()}


def need(ok, what, got):
    if not ok:
        raise Unmet("%s; got %s" % (what, got if isinstance(got, str) else json.dumps(got)))


def find(value, path):
    """error.code, attempts.0.server: a member of a member."""
    for key in path.split("."):
        if isinstance(value, list):
            value = value[int(key)] if key.isdigit() and int(key) < len(value) else None
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value


def compare(what, got, pairs):
    for p in pairs:
        value = find(got, p.key)
        need(p.holds(value), "expected %s %s" % (what, p), {p.key: value, "in": got})


async def record(g, job, pairs):
    """The job's record, once all pairs hold; it fails when the job ends without that."""
    last = {}

    async def there():
        r = last["is"] = await g.record(job)
        if all(p.holds(find(r, p.key)) for p in pairs):
            return r
        if r["state"] in ENDED:
            compare("job", r, pairs)
        return None

    return await until(lambda: "job %s; it is %s" % (" ".join(map(str, pairs)), json.dumps(last.get("is"))), there)


async def files(g, r):
    """What a record lists can be had, and is what was hashed."""
    for o in r["outputs"]:
        async with g.http.get(g.url + o["url"]) as a:
            data = await a.read()
            need(a.status == 200, "expected output %d of a job that has ended well to be there" % o["n"], str(a.status))
        need(len(data) == o["size"], "expected %d bytes of %s" % (o["size"], o["filename"]), str(len(data)))
    return len(r["outputs"])


def native_images(entry):
    return [i for out in entry["outputs"].values() for many in out.values() if isinstance(many, list)
            for i in many if isinstance(i, dict) and "filename" in i]


async def done(g, job, peers, outputs):
    """A job that succeeded: one set of outputs in every listing, and each of them a file that its server made."""
    r = await record(g, job, [])
    need(r["error"] is None, "expected no error in the record of a job that succeeded", r)
    need(await files(g, r) == outputs, "expected %d outputs in the record" % outputs, r)
    status, body = await g.ask("GET", "/history/" + job)
    entry = body.get(job) or {}
    need(find(entry, "status.status_str") == "success", "expected success in native history", body)
    made = [d for p in peers if p.name == r["server"]["name"] for d in p.given]
    images = native_images(entry)
    need(len(images) == len([o for o in r["outputs"] if o["kind"] == "image"]),
         "expected the same images in native history as in the record", entry)
    for i in images:
        async with g.http.get(g.url + "/view", params={k: i[k] for k in ("filename", "subfolder", "type")}) as a:
            data = await a.read()
        need(a.status == 200 and data in made,
             "expected /view to give a file of the server that the job ran on", "%d, %d bytes" % (a.status, len(data)))
    status, body = await g.ask("GET", "/result/" + job)
    want = 200 if any(o["kind"] == "image" for o in r["outputs"]) else RESULT["no_image_output"]
    need(status == want, "expected /result %d" % want, "%d %s" % (status, json.dumps(body)))
    return r


def sentence(text, code):
    """Words for a person: not the code alone, not a bare status."""
    return isinstance(text, str) and len(text.split()) >= 4 and text != code and text[0].isupper()


async def failed(g, job, code, server=None, attempt=None, cause="", state=None, native=True):
    """The end of a job that did not succeed shows in the record, /status, /result, native history and log."""
    state = state or {"expired": "expired", "canceled": "canceled"}.get(code, "failed")
    r = await record(g, job, [])
    e = r["error"] or {}
    need(r["state"] == state and e.get("code") == code, "expected the record to say %s, %s" % (state, code), r)
    if attempt is not None:
        need(e.get("attempt") == attempt and r["attempt"] == attempt, "expected attempt %d in the record" % attempt, r)
    if server:
        need(e.get("server") == server and (r["server"] or {}).get("name") == server,
             "expected server %s in the record's error" % server, r)
        last = r["attempts"][-1]
        need(last["server"] == server and last["error"] and last["error"]["code"] == code and last["ended_at"],
             "expected the last attempt to have ended on %s with %s" % (server, code), r["attempts"])
    need(sentence(e.get("message"), code), "expected a sentence in error.message", e)
    need(cause in e["message"], "expected the cause %r in error.message" % cause, e)
    need(r["timeline"][-1]["state"] == state and r["finished_at"], "expected the timeline to end in %s" % state, r)
    await failed_task_api(g, job, code, server, attempt, cause)
    if native:
        await failed_history(g, job, code, server, attempt, cause)
    want = ["state=" + state, "code=" + code] + (["server=" + server] if server else []) + \
        (["attempt=%d" % attempt] if attempt is not None else [])
    lines = g.has_logged(job, want)
    need(len(lines) == 1 and "reason=" in lines[0], "expected one log line with %s and a reason" % " ".join(want),
         "\n".join(g.has_logged(job, [])))
    status, out, err = await g.cli("jobs", "show", job)
    need(status == 0 and "%s: %s" % (code, e["message"].split("\n")[0]) in out,
         "expected `jobs show` to say it", "%d %s%s" % (status, out, err))
    if server:
        need(server in out, "expected `jobs show` to name %s" % server, out)
    return r


async def failed_task_api(g, job, code, server, attempt, cause):
    status, s = await g.ask("GET", "/status/" + job)
    want = "canceled" if code == "canceled" else "failed"
    need(status == 200 and s["status"] == want, "expected /status %s" % want, s)
    need(find(s, "error.code") == code and sentence(s["message"], code) and sentence(find(s, "error.message"), code),
         "expected /status to say %s in words" % code, s)
    need(cause in s["error"]["message"], "expected the cause %r in /status" % cause, s)
    status, t = await g.ask("GET", "/result/" + job)
    need(status == RESULT[code], "expected /result %d" % RESULT[code], "%d %s" % (status, json.dumps(t)))
    need(find(t, "error.code") == code and "detail" in t["error"], "expected the error in /result", t)
    if server:
        for body in (s, t):
            need(body["server"] == server and server in body["error"]["message"] and
                 "attempt %d" % attempt in body["error"]["message"],
                 "expected server %s and attempt %s in /status and /result" % (server, attempt), body)


async def failed_history(g, job, code, server, attempt, cause):
    status, body = await g.ask("GET", "/history/" + job)
    entry = body.get(job) or {}
    messages = find(entry, "status.messages") or []
    stopped = [d for k, d in messages if k == "execution_interrupted"]
    if code == "canceled" or code == "interrupted" and stopped:
        need(len(stopped) == 1, "expected one execution_interrupted in native history", body)
        return
    said = [d for k, d in messages if k == "execution_error"]
    need(find(entry, "status.status_str") == "error" and len(said) == 1 and not stopped,
         "expected one execution_error in native history", body)
    if said[0]["exception_type"] == code:
        text = said[0]["exception_message"]
        need(sentence(text, code) and cause in text,
             "expected %s and its cause in native history" % code, said[0])
        if server:
            need(server in text and "attempt %d" % attempt in text,
                 "expected server %s and attempt %s in native history" % (server, attempt), said[0])
    else:
        need(code in ("execution_error", "out_of_memory") and cause in said[0]["exception_message"], "expected the node's own words in native history", said[0])


async def told(c, g, job, ok=None):
    """What the client's socket was told: one start, one end, executing{null} last. ok None: either end."""
    await until(lambda: "executing{node:null} of %s at %s; it has %s" % (job, c.name, [k for k, _ in c.of_job()]),
                lambda: any(k == "executing" and d.get("node") is None for k, d in c.of_job()))
    kinds = [k for k, _ in c.of_job(since=c.since)]  # a gateway that was started again tells a new socket anew
    ends = [k for k in kinds if k in c.TERMINAL]
    need(len(ends) == 1, "expected one terminal event at %s" % c.name, kinds)
    need(kinds.count("execution_start") <= 1, "expected one execution_start at %s" % c.name, kinds)
    need(c.of_job("execution_start") or ends[0] != "execution_success",
         "expected an execution_start at %s" % c.name, kinds)
    need(c.of_job()[-1][0] == "executing" and c.of_job()[-1][1]["node"] is None,
         "expected executing{node:null} to come last at %s" % c.name, kinds)
    if ok is not None:
        need((ends[0] == "execution_success") == ok, "expected the end to be told as it was at %s" % c.name, kinds)
