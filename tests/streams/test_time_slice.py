import pytest

from tests.fakes import span
from uaharvest.streams.time_slice import TimeSlice


def test_its_text_is_read_as_the_same_slice():
    assert TimeSlice.parse(str(TimeSlice(span(0, 9)))) == TimeSlice(span(0, 9))
    assert str(TimeSlice(span(0, 9))) == str(span(0, 9))


def test_what_is_no_slice_is_not_read_as_one():
    with pytest.raises(ValueError, match="no interval"):
        TimeSlice.parse("20260303-20260304:days")


def test_a_slice_has_halves_until_it_is_a_second():
    assert TimeSlice(span(0, 3)).halves() == [TimeSlice(span(0, 1)), TimeSlice(span(1, 3))]
    assert TimeSlice(span(0, 1)).halves() == []


def test_its_dead_letter_says_from_when_to_when():
    assert TimeSlice(span(0, 61)).payload == {"start": "2026-03-03T12:00:00Z", "end": "2026-03-03T12:01:01Z"}
