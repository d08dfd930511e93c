import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.rows.zoom import Pair
from uaharvest.zoom.rows import read_meeting, read_participant, read_reported_meeting

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_the_state_of_a_meeting_is_a_digest_of_the_values_as_zoom_wrote_them():
    """Redis holds these digests. A different one would have every known meeting fetched again."""
    row = {"uuid": "a", "participants": "3", "end_time": "2026-11-17T11:00:00Z", "duration": "01:00:00"}
    expected = hashlib.sha256(b'["3", "2026-11-17T11:00:00Z", "01:00:00"]').hexdigest()[:12]
    assert read_meeting(row).state == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([{"field": "a", "value": 1}, {"field": "b"}, {"value": "c"}], (("a", "1"), ("b", None), (None, "c"))),
        ([{}, 5, None, {"other": "x"}], ()),
        ({"field": "a", "value": "b"}, (("a", "b"),)),
        ("", ()),
        (None, ()),
    ],
)
def test_tracking_fields_are_pairs_without_the_empty_ones(fields, expected):
    assert read_meeting({"tracking_fields": fields}).tracking_fields == tuple(Pair(*one) for one in expected)


def test_a_row_of_a_report_keeps_what_it_was_read_from_under_the_dashboards_names():
    row = read_reported_meeting({"uuid": "a", "user_name": "Jill", "duration": 6, "other": 1}, "u1")
    assert (row.raw["host"], row.raw["host_id"], row.host_id) == ("Jill", "u1", "u1")
    assert not {"user_name", "duration", "other"} & set(row.raw)


@pytest.mark.parametrize("read", [read_meeting, read_participant])
def test_no_name_or_address_is_in_a_repr(read):
    row = read({"host": "Ann", "user_name": "Ann", "email": "ann@example.edu", "ip_address": "192.0.2.1"})
    assert not any(secret in repr(row) for secret in ("Ann", "ann@", "192.0.2.1"))


@pytest.mark.parametrize("read", [read_meeting, read_participant])
@given(raw=JSON)
def test_any_json_is_a_row_and_is_kept(read, raw):
    assert json.dumps(read(raw).raw) == json.dumps(raw)
