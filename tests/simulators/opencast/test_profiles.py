"""JSON as each release types it."""

import pytest

from simulators.opencast.profiles import PROFILES, guess, one_or_many, through_gson, wrapped


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("12345678", 12345678),
        ("24", 24),
        ("-5", -5),
        ("0", 0),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808", "9223372036854775808"),
        ("1.5", 1.5),
        ("true", True),
        ("false", False),
        ("007", "007"),
        ("0123", "0123"),
        ("-0", "-0"),
        ("1e5", "1e5"),
        ("1.50", "1.50"),
        (" 12", " 12"),
        ("", ""),
        ("١٢", "١٢"),
    ],
)
def test_text_becomes_a_number_or_boolean_where_jettison_guesses_so(text, typed):
    assert guess(text) == typed
    assert type(guess(text)) is type(typed)


def test_a_whole_double_becomes_an_integer():
    assert type(guess("1.0")) is int


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (20150112345, "2.0150112345E10"),
        (4160, "4160.0"),
        (9999999, "9999999.0"),
        (10000000, "1.0E7"),
        (-12345678, "-1.2345678E7"),
        (0, "0.0"),
    ],
)
def test_gson_writes_every_number_as_java_writes_a_double(number, written):
    assert PROFILES["stock"].encode(through_gson({"n": [number]})) == f'{{"n":[{written}]}}'


def test_gson_leaves_texts_and_booleans_alone():
    assert through_gson({"a": "1", "b": True}) == {"a": "1", "b": True}


def test_a_list_is_absent_an_object_or_an_array():
    assert one_or_many("x", []) == {}
    assert one_or_many("x", [1]) == {"x": 1}
    assert one_or_many("x", [1, 2]) == {"x": [1, 2]}


def test_an_empty_wrapper_is_an_empty_string():
    assert wrapped("x", []) == ""
