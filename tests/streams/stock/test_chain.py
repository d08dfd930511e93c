from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from uaharvest.streams.stock.chain import After, Begin, Chain, LookBack, ReadAll, Step

BERLIN = ZoneInfo("Europe/Berlin")


def chain_of(text):
    return Chain.parse(text, zone=BERLIN, batch_size=100)


def test_the_day_that_fails_is_set_apart_with_its_own_minutes():
    chain = chain_of(
        "20260303-20260305:days@7+20260304-20260305:late+20260304-20260305:early+20260304-20260305:ids~1"
    )
    own, rest = chain.apart()
    assert str(own) == "20260303-20260303:days@7+20260304-20260304:late~1"
    assert (
        str(rest) == "20260304-20260305:days+20260305-20260305:late+20260304-20260305:early+20260304-20260305:ids"
    )
    assert own.apart() == []


def test_a_minute_at_midnight_that_is_given_up_is_replayed_with_the_day_that_it_is_of():
    assert Step("late", date(2026, 3, 4), date(2026, 3, 5)).days == (date(2026, 3, 3), date(2026, 3, 4))
    assert Step("early", date(2026, 3, 4), date(2026, 3, 5)).days == (date(2026, 3, 4), date(2026, 3, 5))
    assert Step("ids", date(2026, 3, 4), date(2026, 3, 5)).days == (date(2026, 3, 3), date(2026, 3, 5))


def test_what_is_no_chain_is_not_read_as_one():
    with pytest.raises(ValueError, match="no chain"):
        chain_of("1772535600-1772535660")


def test_the_rest_of_a_chain_is_a_slice_of_its_own():
    chain = chain_of("20260303-20260304:days@700!r2+20260304-20260304:late+20260304-20260304:ids~50")
    assert str(chain) == "20260303-20260304:days@700!r2+20260304-20260304:late+20260304-20260304:ids~50"
    rest = chain.rest()
    assert str(rest) == "20260304-20260304:days+20260304-20260304:late+20260304-20260304:ids"
    assert str(rest.rest()) == "20260304-20260304:late+20260304-20260304:ids"
    assert rest.rest().rest().rest() is None


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("20260303-20260304:days", Begin()),
        ("20260303-20260304:days*", ReadAll()),
        ("20260303-20260304:days@700", LookBack(700)),
        ("20260303-20260304:days@700r3", LookBack(700, rereads=3)),
        ("20260303-20260304:days@700!r4", LookBack(700, again=True, rereads=4)),
        ("20260303-20260304:ids@700", After(700)),
    ],
)
def test_where_a_chain_goes_on_is_read_as_it_was_written(text, cursor):
    assert chain_of(text).step.cursor == cursor
    assert str(chain_of(text)) == text


@pytest.mark.parametrize("cursor", ["@", "@x", "700", "**", "@7!!"])
def test_a_cursor_of_another_version_is_not_read_as_something_else(cursor):
    with pytest.raises(ValueError, match="no cursor"):
        chain_of(f"20260303-20260304:days{cursor}")


def test_a_chain_stands_for_its_days_and_those_of_its_midnights():
    chain = chain_of("20260304-20260304:days+20260304-20260304:late")
    assert chain.interval.start == datetime(2026, 3, 2, 23, tzinfo=UTC)
    assert chain.payload == {"start": "2026-03-02T23:00:00Z", "end": "2026-03-04T23:00:00Z"}


def test_halving_asks_for_smaller_pages_and_then_sets_the_day_apart():
    chain = chain_of("20260303-20260304:days@7~2")
    assert [str(half) for half in chain.halves()] == ["20260303-20260304:days@7~1"]
    parts = chain_of("20260303-20260304:days@7~1").halves()
    assert [str(part) for part in parts] == ["20260303-20260303:days@7~1", "20260304-20260304:days"]
    assert parts[1].halves() == [chain_of("20260304-20260304:days~50")]
    assert chain_of("20260304-20260304:days~1").halves() == []


def test_a_day_at_once_that_fails_is_read_by_pages():
    assert [str(half) for half in chain_of("20260303-20260303:days*").halves()] == ["20260303-20260303:days~50"]
