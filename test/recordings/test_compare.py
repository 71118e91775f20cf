"""The comparison finds what it should and forgives what it should."""
import json

import allowed
import compare
from compare import Difference

ID_A, ID_B, ID_C = ("%08d-0000-4000-8000-000000000000" % i for i in (1, 2, 3))


def body(recorded, got, names=None):
    return [d[0] for d in compare.body_differences(json.dumps(recorded).encode(),
                                                   got if isinstance(got, bytes) else json.dumps(got).encode(),
                                                   names or compare.Names())]


def test_ids_map_one_to_one():
    names = compare.Names()
    assert body({"prompt_id": ID_A}, {"prompt_id": ID_B}, names) == []
    assert body({"prompt_id": ID_A}, {"prompt_id": ID_B}, names) == []
    assert body({"prompt_id": ID_A}, {"prompt_id": ID_C}, names) == ["body.prompt_id"]
    # ID_B stands for ID_A already, so it cannot stand for another one
    assert body({"prompt_id": ID_C}, {"prompt_id": ID_B}, names) == ["body.prompt_id"]


def test_an_id_the_client_chose_must_come_back():
    names = compare.Names()
    names.client_chose("/history/" + ID_A)
    assert body({"prompt_id": ID_A}, {"prompt_id": ID_B}, names) == ["body.prompt_id"]


def test_ids_as_keys():
    names = compare.Names()
    assert body({ID_A: {"x": 1}}, {ID_B: {"x": 1}}, names) == []
    assert body({ID_A: {"x": 1}}, {ID_B: {"x": 2}}, names) == ["body.%s.x" % ID_B]


def test_file_names_map_as_a_whole():
    names = compare.Names()
    one = {"filename": "a_00001_.png", "subfolder": "", "type": "output"}
    two = {"filename": "a_00007_.png", "subfolder": "job", "type": "output"}
    assert body([one], [two], names) == []
    assert body([one], [one], names) == ["body[0].filename", "body[0].subfolder"]
    assert names.graph_text('["a_00001_.png [output]"]') == '["job/a_00007_.png [output]"]'


def test_numbers_keep_their_kind():
    assert body({"x": 5}, b'{"x": 5.0}') == ["body.x"]
    assert body({"x": 18446744073709551615}, b'{"x": 18446744073709551616}') == ["body.x"]
    assert body([float("nan")], b"[NaN]") == []
    assert body([1], [True]) == ["body[0]"]


def test_missing_extra_and_order():
    assert body({"a": 1}, {}) == ["body.a"]
    assert body({}, {"a": 1}) == ["body.a"]
    assert body([1, 2], [1]) == ["body[1]"]
    assert body({"a": 1, "b": 2}, {"b": 2, "a": 1}) == ["body key order"]


def test_text_form():
    assert body({"a": [1, 2]}, b'{"a":[1,2]}') == ["body text form"]
    assert body({"a": "\u00e9"}, '{"a": "\u00e9"}'.encode()) == ["body text form"]


def test_blank_values_keep_their_type():
    assert body({"timestamp": 5}, {"timestamp": 6}) == []
    assert body({"timestamp": 5}, {"timestamp": "6"}) == ["body.timestamp"]
    assert body({"timestamp": 5}, {}) == ["body.timestamp"]


def test_sets_have_no_order_but_have_members():
    item = [1, "id", {}, {}, ["1", "2"]]
    assert body([item], [[1, "id", {}, {}, ["2", "1"]]]) == []
    assert body([item], [[1, "id", {}, {}, ["2", "3"]]]) == ["body[0][4][0]", "body[0][4][1]"]


def test_headers():
    def check(r, g):
        return [d[0] for d in compare.header_differences(r, g, lambda v: v)]

    assert check([("Date", "x"), ("ETag", '"1"')], [("etag", '"2"'), ("date", "y")]) == []
    assert check([("Etag", '"1"')], []) == ["header etag"]
    assert check([], [("Connection", "close")]) == ["header connection"]
    assert check([("Content-Type", "a")], [("content-type", "b")]) == ["header content-type"]


def frame(kind, node=None, **more):
    return {"type": kind, "data": dict(more, node=node, prompt_id="p")}


def test_only_reordered():
    start, end = frame("execution_start"), frame("executing", None, last=1)
    a = [frame("executing", "1"), frame("executed", "1")]
    b = [frame("executing", "2"), frame("executed", "2")]
    assert compare.only_reordered([start, *a, *b, end], [start, *b, *a, end])
    assert not compare.only_reordered([start, *a, *b, end], [start, *b, a[1], a[0], end])
    assert not compare.only_reordered([start, *a, *b, end], [start, *b, a[0], end, a[1]])
    assert not compare.only_reordered([start, *a, end], [start, *a, *a, end])


def test_raw_answers():
    import replay

    one = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nhi"
    two = one.replace("now", "then")
    assert replay.raw_form(one + one) == replay.raw_form(two + two)
    assert replay.raw_form(one + one) != replay.raw_form(one)
    assert replay.raw_form(one) != replay.raw_form(one.replace("hi", "ho"))
    assert replay.raw_form(one) != replay.raw_form(one.replace("200", "201"))


def test_rows_of_the_table_are_narrow():
    """Nothing is allowed for a plain answer, and no row lacks its reason."""
    for path in ("status", "body", "body.queue_running[0]", "header content-type", "executed.data.output", "executing"):
        for where in ("HTTP 3 GET /queue", "HTTP 3 POST /prompt", "WS w1 frame 3"):
            if (where, path) == ("WS w1 frame 3", "status"):
                continue  # the one that is: a status frame
            for target in ("real", "sim", "gateway"):
                assert allowed.reason(target, "a1_plain_success", Difference(where, path, 1, 2)) is None
    assert all(len(row.reason) > 10 for row in allowed.ALLOWED)
