"""The one table of allowed differences between a recording and a server, each with its reason.

A Difference is allowed by the first row that fits all of: target (real, sim, gateway, or several of them; * for all), session (pattern),
where (regular expression on "HTTP 12 GET /queue (note)" or "WS w1 frame 3" or "RAW note"), path (regular expression
on "status", "header content-type", "body.a.b[0]", "executed.data.node"). Keep rows narrow: what a row allows, nobody
will see."""
import collections
import fnmatch
import re

Row = collections.namedtuple("Row", "target session where path reason")

ALLOWED = [
    # What ComfyUI itself leaves open.
    Row("*", "*", r"^HTTP \d+ GET /(api/)?history", r"\.(outputs|meta) key order$",
        "outputs that do not depend on each other run in set order"),
    Row("*", "*", r"^WS ", r" moved$",
        "outputs that do not depend on each other run in set order; order within each node is checked"),
    Row("*", "*", r"", r"\.current_inputs\..*\[0\]$",
        "an input that is a tensor is printed, and torch prints in its own way"),
    Row("*", "c?_*", r"POST /prompt", r"node_errors( key order|\.\w+\.dependent_outputs)",
        "outputs are validated in set order, and a node found bad is not looked at again for the next output"),
    Row("*", "b1_*", r"^WS \w+ frame", r"^progress(_state)? 6 of 60$",
        "the interrupt is sent at the very moment of this tick"),
    Row("*", "c1_*", r"^HTTP 30 GET /history\?max_items=1", r"^body\.[0-9a-f-]{36}$",
        "asked a millisecond after a prompt was accepted: whether that one is in history by then is a race"),
    Row("*", "c1_*", r"exception_during_inner_validation", r"^body\.",
        "outputs are validated in set order: the failing node is met as an output or as an input"),
    Row("*", "*", r"^WS .* frame", r"^status",
        "status frames hold what is true when they are sent: how many come, and which values, is a race"),

    # What these recordings cannot tell.
    Row("*", "f[13]_*", r"GET /(api/)?system_stats", r"^body\.system\.(argv\[\d+\]|\w+_version)$",
        "how that server was started and with which packages"),
    Row("*", "f[13]_*", r"(GET|HEAD) (/api)?/(index\.html|\?x=1|assets.*|scripts/app\.js|templates/.*)?( |$)", r"",
        "files of the official frontend, which is not installed here"),
    Row("*", "f1_*", r"GET /(api/)?extensions$", r"^body\[\d+\]$",
        "extensions of the official frontend, which is not installed here"),
    Row("*", "f3_*", r"GET /internal/logs", r"only its hash", "the server's own log"),
    Row("*", "f3_*", r"^WS lg", r"^logs\.data\.entries\[0\]\.m$", "a line of the server's log that holds a duration"),
    Row("*", "[ef][13]_*", r"GET /internal/files/", r"^body",
        "every file in the folder, newest first: what sessions ran before, and files written in the same instant"),
    Row("*", "g2_*", r"^WS a close", r"^code$", "the 4 MiB messages that were sent on it are not in the recording"),

    # Sessions that exist for 0.3.64 only, against servers that speak 0.3.75.
    Row("*", "[ag][12]_*", r"GET /history", r"prompt\[3\]\.create_time$", "added to extra_data after 0.3.64"),
    Row("*", "f3_*", r"GET /internal/folder_paths", r"^body\.latent_upscale_models$", "a folder added after 0.3.64"),

    # The gateway: docs/native.md says where it differs.
    Row("gateway", "*", r"(GET|HEAD) (/api)?/view", r"header (x-content-type-options|content-security-policy)$",
        "files made by others are never active on our origin"),
    Row("gateway", "*", r"", r"(outputs\.\w+|executed\.data\.output)\.\w+\[\d+\]\.subfolder$",
        "names are unique: the virtual subfolder is the job's own, for a file that came from the cache too"),

    Row("gateway", "*", r"", r"(prompt|queue_running\[\d+\]|queue_pending\[\d+\])\[0\]$|\.number$",
        "its counter starts at 1, and refused prompts do not count"),
    Row("gateway", "a3_*", r"^WS ", r"^executed\.data\.|^progress_state\.data\.nodes\.",
        "outputs from the cache come in set order"),
    Row("gateway", "a4_*", r"GET /view", r"^body\.text\.prompt$",
        "the name under which an input was staged stands in the file; it is an alias of the client's name"),
    Row("gateway", "a4_*", r"GET /history", r"prompt\[2\]\.1\.inputs\.image$",
        "an earlier output is named with its virtual subfolder"),
    Row("gateway", "b1_*", r"^WS ", r"^(progress|progress_state) \d+ of \d+$|^binary [13]$|^execution_interrupted$",
        "who is told of prompts without a client: a stock server tells everybody, a gateway nobody"),
    Row("gateway", "b1_*", r"^HTTP 14 GET /history", r"prompt\[3\]\.client_id$", "an empty client id is none"),
    Row("gateway", "b1_*", r"^HTTP 27 POST /prompt", r"^(status|body\.(prompt_id|error|number|node_errors))$",
        "a client id that is a number: types are insisted on, because lists and objects end a server"),
    Row("gateway", "b2_*", r"^WS (w2|w4|late) frame 1$", r"^(executing|execution_success|progress_state)",
        "a client that comes back is told what runs, with its prompt_id, and the end that it has missed"),
    Row("gateway", "b2_*", r"^WS w2 frame 3$", r"^(progress|progress_state) \d+ of 12$|^binary 4$",
        "how many ticks come before the client leaves is a race"),
    Row("gateway", "b5_*", r"^WS n ", r"", "flags that are null do no harm: on a stock server the prompt fails"),
    Row("gateway", "d1_*", r"", r"exception_message$", "the server's own folder and the staged name stand in it"),
    Row("gateway", "b5_*", r"^WS [lm] ", r"^binary 3$", "progress texts go to the prompt's own client, not to everybody"),
    Row("gateway", "d2_*", r"^HTTP 11 GET /queue", r"^body\.queue_pending\[0\]$",
        "an interrupt that names a waiting prompt takes it out of the queue, as a cancel does"),
    Row("gateway", "d2_*", r"^HTTP 20 GET /history", r"^body\.[0-9a-f-]{36}$",
        "an interrupt that names a waiting prompt takes it out of the queue: it leaves no history"),
    Row("gateway", "d2_*", r"^WS (w1 frame 49|w2 frame (1|16))$", r"",
        "an interrupt that names a waiting prompt takes it out of the queue: it is not run"),
    Row("gateway", "d2_*", r"^WS w1 frame (27|41|47)$", r"^(progress|progress_state) \d+ of \d+$",
        "how many ticks come before an interrupt is a race"),
    Row("gateway", "b4_*", r"deflate", r"^header sec-websocket-extensions$|^received",
        "our WebSocket takes no extensions (http/websocket.h)"),
    Row("gateway", "b4_*", r"^RAW unmasked", r"", "an unmasked frame ends the connection, as RFC 6455 5.1 asks"),

    Row("gateway", "e3_*", r"GET /view.*content type of v\.(html|svg|js|css)\)", r"^header content-(type|disposition)$",
        "what a browser would run is sent as an attachment"),
    Row("gateway", "e3_*", r"(preview|channel) of a text file", r"^(header connection|body)$",
        "the reason is told instead of a general sentence, and the connection stays"),
    Row("gateway", "e3_*", r"\(Range (out|multi|malformed|other unit)\)", r"^header (transfer-encoding|content-length)$",
        "an empty body has a length"),
    Row("gateway", "e3_*", r"HEAD missing", r"^header content-length$", "an empty body has a length"),

    Row("gateway", "f1_*", r"GET /object_info$", r"^header (etag|vary)$",
        "it can be asked whether it has changed, and comes compressed to those who take it"),
    Row("gateway", "f3_*", r"\(GET other port\)$", r"^(status|body|header content-type)$",
        "the other port is that of the second server, which a gateway does not have"),
    Row("gateway", "f1_*", r"GET /object_info(/LoadImage)?$", r"^body\.\w+\.input\.required\.image",
        "what there is to choose from was uploaded in sessions that the gateway is not held against"),
    Row("gateway", "f1_*", r"GET /experiment/models$", r"^body\[\d+\]\.folders", "paths of hosts are not told"),
    Row("gateway", "f1_*", r"GET /history\?max_items=1$", r"^body\.[0-9a-f-]{36}",
        "the last job there was one of a session that the gateway is not held against"),
    Row("gateway", "f1_*", r"GET /(api/)?(settings|v2/userdata\?path=)$", r"^body",
        "what was kept there in a session that the gateway is not held against"),
    Row("gateway", "f1_*", r"GET /(api/)?(prompt|queue)$", r"^body\.(exec_info\.queue_remaining|queue_pending\[0\])$",
        "the last job of an earlier session waits until its server has given up the one that was interrupted there"),
    Row("gateway", "f1_*", r"GET /api/jobs$", r"", "the jobs API is served, whatever the servers' version"),
    Row("gateway", "f3_*", r"GET /internal/folder_paths", r"", "paths of hosts are not told"),
    Row("gateway", "f3_*", r"GET /internal/files/", r"^(status|header content-type)$", "names of files are not listed yet"),
    Row("gateway", "f3_*", r"PATCH /internal/logs/subscribe \(bad body\)", r"^(status|body|header (content-type|connection))$",
        "wrong bodies are a 400 with the reason, and the connection stays"),
    Row("gateway", "f3_*", r"^WS lg frame (1|13)$", r"^logs$",
        "events of a job are held until its POST is answered and its first moments are over; the servers' log lines are not"),
    Row("gateway", "f4_*", r"^RAW (POST without body and length|500 and then pipelined GET: connection is closed)$",
        r"^(received\[[0-3]\]|server closed)", "wrong bodies are a 400 with the reason, and the connection stays"),
    Row("gateway", "f4_*", r"^RAW gzip request body$", r"^received\[[01]\]", "bodies are taken as they come; no client compresses"),
    Row("gateway", "f4_*", r"^RAW invalid utf-8 escape$", r"^received\[[01]\]", "an id that is no text is no path of ours"),
    Row("gateway", "f5_*", r"^HTTP \d+ POST /prompt \(JSON", r"^(status|body|header (connection|content-type))$",
        "limits.json is not limits.upload; a length that is over it is refused before a byte of it comes"),

    # The simulator: docs/simulator.md says where it differs.
    Row("sim", "a4_*", r"GET /view", r"^body\.text\.prompt$",
        "the hash of an input that the server wrote itself stands in it, and its PNG encoder writes other bytes"),
    Row("sim", "b4_*", r"", r"sec-websocket-extensions", "permessage-deflate is not taken up"),
    Row("sim", "b4_*", r"^RAW handshake with subprotocols and deflate", r"^received\[", "nor are frames deflated"),
    Row("sim", "b4_*", r"^RAW unmasked client frame", r"^(received\[1\]|server closed)$",
        "RFC 6455 5.1: a server closes the connection on an unmasked frame; aiohttp reads it"),
    Row("sim", "e1_*", r"GET /internal/files/", r"^body\[\d+\]$", "files written in the same instant"),
    Row("sim", "e3_*", r"GET /view.*preview=(webp|png)?[;\s&]?", r"^(header content-type|body\.(picture|mode|pixels))$",
        "there is no WebP encoder in it: JPEG, or PNG where there is transparency"),
    Row("sim", "e3_*", r"\(preview=", r"^(header content-type|body\.(picture|mode|pixels))$",
        "there is no WebP encoder in it: JPEG, or PNG where there is transparency"),
    Row("sim", "e3_*", r"HEAD /view.*preview=webp", r"^header content-type$", "there is no WebP encoder in it"),
    Row("sim gateway", "f1_*", r"GET /object_info$", r"^body(\.[\w ()/-]+| key order)$", "the classes that it can execute"),
    Row("sim gateway", "f1_*", r"GET /object_info/SaveVideo", r"^body", "the classes that it can execute"),
    Row("sim gateway", "f[13]_*", r"GET /(api/)?system_stats", r"^body\.devices\[0\]\.", "it plays a server with a GPU"),
    Row("sim gateway", "f3_*", r"HTTP \d+ FOO /prompt", r"", "what is no request our HTTP server refuses itself, in its own words"),
    Row("sim gateway", "f4_*", r"^RAW (no Host|Expect: foo|two lengths|length and chunked|garbage|HTTP/9\.9|300 headers|NUL in path|"
        r"bare LF|HTTP/2 preface|raw utf-8 in path)$", r"^(received\[[01]\]|server closed)",
        "what is no request our HTTP server refuses itself (http/server.h): its status, its words, and it closes"),
    Row("sim gateway", "f4_*", r"^RAW HTTP/1\.0( keep-alive)?$", r"^received\[0\]\.(status|headers)",
        "RFC 9110 6.2: a server answers with its own version; and ours says when it closes"),
    Row("sim", "g2_*", r"^RAW (reserved opcode 3|RSV1 without deflate|invalid utf-8 text)$", r"^received\[1\]$",
        "our close frame says why, behind the same code"),
    Row("sim", "g2_*", r"^RAW close without code$", r"^received\[1\]$",
        "RFC 6455 5.5.1: a close frame without a code is answered by one without"),
    Row("sim", "c1_*", r"GET /history\?max_items=1 ", r"^body", "it is quicker: the last prompt has ended already"),
    Row("sim", "i1_*", r"GET /prompt$", r"queue_remaining$", "it is quicker: some of the burst have ended already"),

    # The real server as we start it: torch and friends are stand-ins.
    Row("real", "f1_*", r"GET /object_info$", r"^body\.\w+$", "API nodes import packages that are not installed here"),
    Row("real", "f1_*", r"GET /object_info$", r"^body\.LoadImage(Text)?DataSetFromFolder\.input\.required\.folder",
        "a 3D node makes the folder input/3d when it loads; it is one of those that do not load here"),
]


def reason(target, session, difference):
    for row in ALLOWED:
        if (row.target == "*" or target in row.target.split()) and fnmatch.fnmatch(session, row.session):
            if re.search(row.where, difference.where) and re.search(row.path, difference.path):
                return row.reason
    return None
