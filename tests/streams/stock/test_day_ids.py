from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given

from uaharvest.keys import KNOWN
from uaharvest.opencast.days import ClockReading, begin_of
from uaharvest.streams.stock.day_ids import CHUNK, DaySet, IdsByDay

KEY = KNOWN("useractions", "here", "epoch")
BERLIN = ZoneInfo("Europe/Berlin")
DAY = date(2026, 3, 4)
FIRST = begin_of(DAY, BERLIN)
END = begin_of(DAY + timedelta(days=1), BERLIN)


@pytest.fixture
def ids(client):
    return IdsByDay(client, KEY, BERLIN)


def at(hour, minute, second=0.0):
    return FIRST + hour * 3600 + minute * 60 + second


# The ids of a day in this process


@given(st.sets(st.integers(1, 5 * CHUNK)), st.sets(st.integers(1, 5 * CHUNK)))
def test_exactly_the_ids_that_were_added_are_known(added, others):
    known = DaySet(FIRST, END)
    for row_id in added:
        known.add(row_id, at(12, 0))
    assert {row_id for row_id in added | others if row_id in known} == added
    assert len(known) == len(added)
    assert known.span() == ((min(added), max(added)) if added else None)


@given(
    st.dictionaries(st.integers(1, 10_000), st.floats(0, END - FIRST, exclude_max=True)),
    st.floats(FIRST, END),
    st.floats(0, 2),
    st.floats(0, 1),
)
def test_what_opencast_counts_lies_between_what_it_counts_at_least_and_at_most(rows, earliest, width, share):
    known = DaySet(FIRST, END)
    for row_id, second in rows.items():
        known.add(row_id, FIRST + second)
    second = (earliest + share * width) % 60
    counted = sum(FIRST + second <= when <= END - 60 + second for when in (FIRST + row for row in rows.values()))
    least, most = known.counted(ClockReading(earliest, earliest + width))
    assert least <= counted <= most


def test_a_clock_that_is_known_leaves_no_doubt():
    known = DaySet(FIRST, END)
    for second in range(60):
        known.add(second + 1, at(0, 0, second))
        known.add(second + 101, at(23, 59, second))
    assert known.counted(ClockReading(at(15, 7, 20.1), at(15, 7, 20.9))) == (39 + 21, 39 + 21)
    assert known.counted(ClockReading(at(15, 7, 20.9), at(15, 7, 21.1))) == (38 + 21, 39 + 22)


def test_over_the_turn_of_a_minute_anything_may_be_hidden():
    known = DaySet(FIRST, END)
    known.add(1, at(0, 0, 30))
    known.add(2, at(12, 0))
    assert known.counted(ClockReading(at(15, 7, 59.9), at(15, 8, 0.1))) == (1, 2)


# In Redis


def test_rows_are_kept_by_day_with_the_times_of_both_edges(ids):
    ids.add([(at(0, 0, 5), 1), (at(12, 0), CHUNK + 7), (at(23, 59, 30.5), 3), (at(24, 0, 1), 4)])
    known = ids.load(DAY)
    assert [row_id for row_id in (1, 2, 3, 4, CHUNK + 7) if row_id in known] == [1, 3, CHUNK + 7]
    assert known.edges == {1: at(0, 0, 5), 3: at(23, 59, 30.5)}
    assert len(ids.load(DAY + timedelta(days=1))) == 1


def test_a_row_that_comes_again_is_one_row(ids):
    ids.add([(at(0, 0, 5), 1)])
    ids.add([(at(0, 0, 5), 1)])
    assert len(ids.load(DAY)) == 1


def test_what_is_true_of_a_day_is_kept_apart_from_its_ids(ids):
    ids.flag(DAY, "whole", "settled")
    ids.add([(at(12, 0), 1)])
    assert (ids.load(DAY).flags, ids.flags(DAY), len(ids.load(DAY))) == (
        {"whole", "settled"},
        {"whole", "settled"},
        1,
    )


@pytest.mark.parametrize(("seconds", "left"), [(-1, 2), (59, 2), (61, 1)])
def test_a_day_is_forgotten_a_minute_after_the_bound_has_left_it(ids, client, seconds, left):
    ids.add([(at(12, 0), 1), (at(0, 0), 2), (at(36, 0), 3)])
    ids.flag(DAY, "whole")
    ids.trim(datetime.fromtimestamp(END + seconds, UTC))
    assert len(client.smembers(KEY)) == left
    assert bool(client.keys(f"{KEY}:{DAY:%Y%m%d}*")) == (left == 2)


def test_nothing_is_left_of_what_is_forgotten(ids, client):
    ids.add([(at(0, 0), 1), (at(36, 0), CHUNK)])
    ids.flag(DAY, "closed")
    ids.forget()
    assert client.keys() == []


def test_a_day_that_is_replaced_keeps_what_is_true_of_it(ids):
    ids.add([(at(12, 0), 1), (at(12, 0), 2)])
    ids.flag(DAY, "whole")
    ids.replace(DAY, {2: at(12, 0), 5: at(0, 0, 3)})
    known = ids.load(DAY)
    assert [row_id for row_id in (1, 2, 5) if row_id in known] == [2, 5]
    assert (known.flags, known.edges) == ({"whole"}, {5: at(0, 0, 3)})


def test_ids_of_a_run_expire(client):
    IdsByDay(client, KEY, BERLIN, expires=100).add([(at(0, 0), 1), (at(36, 0), CHUNK)])
    keys = client.keys()
    assert len(keys) == 6
    assert all(0 < client.ttl(key) <= 100 for key in keys)


def test_a_busy_day_takes_less_than_half_a_byte_an_id(ids, client):
    rows = 200_000
    ids.add((at(0, 0, 86_400 * number / rows), 5_000_000 + number + number // 400 * 50) for number in range(rows))
    size = sum(client.memory_usage(key) for key in client.scan_iter(f"{KEY}*"))
    assert size / rows < 0.5
