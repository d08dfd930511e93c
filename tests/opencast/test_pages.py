"""The two ways to read a page of `actions.json`: both must give the same."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uaharvest.coerce import many
from uaharvest.opencast.actions import OMITTED, read_page, read_rows

CREATED = "2026-11-20T11:00:02.750-05:00"
ROW = {
    "id": 12580,
    "mediapackageId": "bd6a996d",
    "sessionId": {"sessionId": "node0", "userId": 60002627, "userIp": "200.70.169.1, 10.0.0.1", "userAgent": "M"},
    "inpoint": 394,
    "outpoint": 394,
    "length": -5,
    "type": "SEEK",
    "isPlaying": 1,
    "created": CREATED,
}


def page(*rows, total=None):
    return {"actions": {"total": len(rows) if total is None else total, "offset": 0, "action": list(rows)}}


def with_json(content):
    """Return what the tolerant reader makes of a page; None if it is no page."""
    try:
        actions = json.loads(content)["actions"]
        return int(actions["total"]), *read_rows(many(actions.get("action")))
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError):
        return None


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["", "0", "1", "2", "live", "LIVE", "true", "12", "1.5", "a, ,b", OMITTED, 1.0, 1e22, -0.0])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
texts = st.sampled_from(["", "0", "1", "-1", "12", "2.50", "live", "true", "a, b", "anonymous", OMITTED])
usual = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
names = ("sessionId", "userId", "userIp", "userAgent")
sessions = st.fixed_dictionaries({}, optional=dict.fromkeys(names, usual))
members = ("mediapackageId", "inpoint", "outpoint", "length", "type", "isPlaying", "another")
created = st.sampled_from(
    [CREATED, "2026-11-20T16:00:09Z", "2026-11-20T16:00:09", "Friday", "0001-01-01T00:00:00Z"]
)
usual_rows = st.fixed_dictionaries(
    {"id": st.integers(-(2**64), 2**64), "created": st.just(CREATED), "sessionId": sessions},
    optional=dict.fromkeys(members, usual),
)
odd_rows = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(members, anything) | {"id": anything, "created": created | anything}
    | {"sessionId": sessions | anything},
)  # fmt: skip


@given(rows=st.lists(usual_rows, max_size=4), total=st.integers(0, 9) | st.sampled_from(["7", 7.0]))
def test_a_usual_page_is_read_the_fast_way_and_as_by_json(rows, total):
    content = json.dumps(page(*rows, total=total)).encode()
    assert (*read_page(content), []) == with_json(content)


@settings(max_examples=300)
@given(rows=st.lists(usual_rows | odd_rows, max_size=3), total=st.integers(0, 9) | anything, ascii_=st.booleans())
@example(rows=[ROW | {"type": "\ud800"}], total=1, ascii_=True)
@example(rows=[ROW | {"type": float("nan")}], total=1, ascii_=True)
@example(rows=[ROW | {"isPlaying": True}, ROW | {"isPlaying": 1}, ROW | {"isPlaying": 1.0}], total=3, ascii_=True)
def test_what_is_read_the_fast_way_is_what_json_reads(rows, total, ascii_):
    content = json.dumps(page(*rows, total=total), ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    fast = read_page(content)
    assert fast is None or (*fast, []) == with_json(content)


@pytest.mark.parametrize(
    "changed",
    [
        ('"id": 12580', '"id": 12580, "id": 7'),  # the last one counts
        ('"id": 12580', '"id": "x", "id": 7'),
        ('"total": 1', '"total": 5, "total": 1'),
        ('"actions"', '"actions": {"total": 3, "action": []}, "actions"'),
        ('"type": "SEEK"', '"type": "\\ud83d\\ude00"'),
        ('"type": "SEEK"', '"ty\\u0070e": "PLAY"'),
        ('"inpoint": 394', '"inpoint": 1E400'),
        ('"inpoint": 394', '"inpoint": 12345678901234567890123'),
        ('"inpoint": 394', '"inpoint": 2.0150112345E10'),
        ('"inpoint": 394', f'"inpoint": {"9" * 5000}'),
        ('"inpoint": 394', '"inpoint": -Infinity'),
        ('"inpoint": 394', f'"more": {"[" * 100_000}{"]" * 100_000}, "inpoint": 394'),
        ('"inpoint": 394', '"inpoint": 0394'),
        ('"type": "SEEK"', '"type": "\x01"'),
        ('"type": "SEEK"', '"type": "\\q"'),
        ('"type": "SEEK"', '"type": "\x7f"'),
    ],
    ids=lambda changed: changed[1][:40],
)
def test_no_oddity_of_json_is_read_in_two_ways(changed):
    former, new = changed
    text = json.dumps(page(ROW))
    assert former in text
    content = text.replace(former, new).encode()
    fast = read_page(content)
    assert fast is None or (*fast, []) == with_json(content)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_another_encoding_is_left_to_json(encoding):
    content = json.dumps(page(ROW)).encode(encoding)
    assert read_page(content) is None
    assert len(with_json(content)[1]) == 1


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b'{"actions": ""}', b"<html>", b"\xff", b"[" * 9999]
)
def test_what_is_no_page_is_left_to_json(content):
    assert read_page(content) is None
