import pytest

from uaharvest.zoom.values import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:56", 56),
        ("56:07", 3367),
        ("90:00", 5400),
        ("01:00:00", 3600),
        ("26:00:05", 93605),
        ("123:00:00", 442800),
        ("1:02:00:00", 93600),
        ("00:56.9", 56),
        (" 00:56 ", 56),
        ("", None),
        ("4 mins", None),
        ("56", None),
        (":56", None),
        ("-1:00", None),
        (56, None),
        (None, None),
        ("1:2:3:4:5", None),
        ("\u0660\u0660:\u0665\u0666", None),
    ],
)
def test_a_duration_is_minutes_and_seconds_or_any_number_of_hours(text, expected):
    assert seconds(text) == expected
