import math
from datetime import UTC, datetime

import pytest

from uaharvest.coerce import instant, many, members, text, whole


@pytest.mark.parametrize(
    ("value", "expected"), [(None, []), ("", []), ({"a": 1}, [{"a": 1}]), ([1, 2], [1, 2]), ([], []), (0, [0])]
)
def test_what_stands_for_a_list_is_a_list(value, expected):
    assert many(value) == expected


@pytest.mark.parametrize(("value", "expected"), [({"a": 1}, {"a": 1}), ("", {}), (None, {}), ([1], {})])
def test_what_stands_for_an_object_has_members(value, expected):
    assert members(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("abc", "abc"),
        ("007", "007"),
        ("", None),
        (None, None),
        (24, "24"),
        (0, "0"),
        (2.0150112345e10, "20150112345"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (math.inf, "inf"),
        ({"a": 1}, None),
        (["a"], None),
    ],
)
def test_a_guessed_type_is_the_text_again_that_it_was(value, expected):
    assert text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7000", 7000),
        ("-3", -3),
        (4160.0, 4160),
        ("4160.9", 4160),
        ("", None),
        ("seven", None),
        (None, None),
        (True, None),
        (math.inf, None),
        (math.nan, None),
        ("1e400", None),
        ([7], None),
        ({}, None),
    ],
)
def test_a_number_is_whole_however_it_is_written(value, expected):
    assert whole(value) == expected


@pytest.mark.parametrize("value", ["2026-11-20T07:00:00Z", "2026-11-20T02:00:00-05:00", "20261120T070000+00:00"])
def test_an_instant_is_in_utc(value):
    assert instant(value) == datetime(2026, 11, 20, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", [None, "", "yesterday", 5, [], "2026-11-20T07:00:00", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_instant_is_none(value):
    assert instant(value) is None
