"""Which page is asked for next, case by case: 10,000 rows are known, of 100 a page at most."""

import dataclasses

import pytest

from uaharvest.streams.stock.chain import Begin, LookBack, ReadAll
from uaharvest.streams.stock.looks import (
    FRONT,
    LARGE,
    LEAST_MARGIN,
    LOOKS,
    REREADS,
    SMALL,
    Around,
    AtEnd,
    AtFront,
    DayFacts,
    Done,
    FurtherBack,
    Look,
    PageFacts,
    first_look,
    next_look,
    shows_tail,
)

SIZE = 100
DAY = DayFacts(
    size=SIZE,
    reduced=False,
    cursor=Begin(),
    known=10_000,
    counted=10_000,
    whole=True,
    tail=4,
    may_wait=True,
)
EMPTY = dataclasses.replace(DAY, known=0, counted=0, whole=False, tail=None)
HISTORY = dataclasses.replace(DAY, may_wait=False)
FIRST = Look(SIZE, 9_995, AtEnd(9_995))


def day(**changes):
    return dataclasses.replace(DAY, **changes)


def page(total=10_020, **facts):
    return PageFacts(total=total, **facts)


# The first look


@pytest.mark.parametrize(
    ("facts", "look"),
    [
        (day(tail=4), FIRST),
        (day(tail=None), Look(SIZE, 10_000 - LEAST_MARGIN, AtEnd(10_000 - LEAST_MARGIN))),
        (day(tail=700), Look(SIZE, 9_950, AtEnd(9_950))),  # half a page at most
        (day(counted=3), Look(SIZE, 0, AtEnd(0))),
        (EMPTY, Look(1, 0, AtEnd(0))),
    ],
)
def test_it_begins_where_new_rows_are_as_a_rule(facts, look):
    assert first_look(facts) == look


@pytest.mark.parametrize(
    ("facts", "offset", "limit", "span"),
    [
        # Not known well: a page, of which half overlaps with what is behind it.
        (day(whole=False, cursor=LookBack(5_000)), 4_950, 100, 100),
        (day(reduced=True, cursor=LookBack(5_000)), 4_950, 100, 100),
        # Known well: four times as much as all behind it, four pages at least.
        (day(cursor=LookBack(9_990)), 9_640, 400, 400),
        (day(cursor=LookBack(9_000)), 5_050, 4_000, 4_000),
        (day(cursor=LookBack(5_000)), 0, 5_050, 20_000),
        (day(whole=False, size=1, cursor=LookBack(5_000)), 4_999, 1, 1),
    ],
)
def test_further_back_a_page_overlaps_with_the_one_behind_it_and_gets_longer(facts, offset, limit, span):
    assert first_look(facts) == Look(limit, offset, FurtherBack(offset, span))


# Behind the known rows


def test_an_empty_day_says_nothing_about_the_zone():
    look = first_look(EMPTY)
    assert next_look(EMPTY, look, page(0, nothing_known=True, certain=True)) == Done(empty=True)
    assert next_look(DAY, FIRST, page(0, certain=True)) == Done()


def test_a_day_that_fits_into_a_page_is_asked_for_whole_once():
    look = first_look(EMPTY)
    assert next_look(EMPTY, look, page(SIZE)) == Look(SIZE, 0, AtEnd(0, filled=True))
    filled = Look(SIZE, 0, AtEnd(0, filled=True))
    assert next_look(EMPTY, filled, page(SIZE)) == Look(FRONT, 0, AtFront(AtEnd(0, filled=True)))
    assert next_look(EMPTY, look, page(1, certain=True)) == Done()
    assert next_look(EMPTY, look, page(1)) == Look(FRONT, 0, AtFront(AtEnd(0)))  # one row is all of it
    assert next_look(EMPTY, look, page(SIZE + 1)) == LookBack(SIZE + 1)


@pytest.mark.parametrize(
    ("facts", "following"),
    [
        ({"certain": True}, Done()),
        ({}, LookBack(10_096)),
        ({"lacks": True}, LookBack(10_096)),
        ({"likely": True}, LookBack(10_096)),
        ({"stale": True}, ReadAll()),
    ],
)
def test_rows_behind_the_page_are_looked_for_from_the_end(facts, following):
    assert next_look(DAY, FIRST, page(10_096, **facts)) == following


def test_a_day_that_was_known_may_be_likely_complete():
    assert next_look(DAY, FIRST, page(likely=True)) == Done()
    assert isinstance(next_look(HISTORY, FIRST, page(likely=True)), Look)


@pytest.mark.parametrize("facts", [{}, {"lacks": True}, {"stale": True}])
def test_what_is_not_certain_is_looked_at_by_the_days_first_rows(facts):
    assert next_look(DAY, FIRST, page(**facts)) == Look(FRONT, 0, AtFront(AtEnd(9_995)))


def test_no_more_rows_are_asked_for_than_are_allowed():
    small = day(size=5)
    assert next_look(small, Look(5, 9_998, AtEnd(9_998)), page(10_001)) == Look(5, 0, AtFront(AtEnd(9_998)))


@pytest.mark.parametrize(
    ("total", "in_order", "by_time"),
    [
        (LARGE * SIZE + 1, True, True),
        (LARGE * SIZE, True, False),
        (LARGE * SIZE + 1, False, False),
    ],
)
def test_of_few_rows_their_order_may_be_chance(total, in_order, by_time):
    look = Look(SIZE, total - SIZE, AtEnd(total - SIZE))
    following = next_look(DAY, look, page(total, in_order=in_order))
    assert following.why.origin.by_time == by_time


# The day's first rows


@pytest.mark.parametrize("origin", [AtEnd(9_995), FurtherBack(9_000, 400)])
def test_the_first_rows_are_looked_at_until_they_leave_no_doubt(origin):
    look = Look(FRONT, 0, AtFront(origin))
    assert next_look(DAY, look, page(certain=True)) == Done()
    late = Look(FRONT, 0, AtFront(origin, looks=1, late=True))
    assert next_look(DAY, look, page()) == late
    fresh = Look(SIZE, 0, AtFront(origin, rows=SIZE, looks=2))
    assert next_look(DAY, late, page(fresh=True)) == fresh
    assert next_look(DAY, late, page(fresh=True, lacks=True)) == fresh
    assert next_look(DAY, fresh, page()) == Done()  # the third: the doubt may stay
    assert LOOKS == 3


def test_rows_that_are_gone_at_the_source_are_not_looked_for_at_its_clock():
    look = Look(FRONT, 0, AtFront(AtEnd(9_995)))
    assert next_look(DAY, look, page(stale=True)) == ReadAll()


def test_a_doubt_that_may_not_stay_is_ended_by_the_whole_day():
    last = Look(FRONT, 0, AtFront(AtEnd(9_995), looks=LOOKS - 1))
    assert next_look(HISTORY, last, page()) == ReadAll()
    further = dataclasses.replace(HISTORY, cursor=LookBack(9_500))
    last = Look(FRONT, 0, AtFront(FurtherBack(9_000, 400), looks=LOOKS - 1))
    assert next_look(further, last, page()) == LookBack(9_000)


# Around the offset


def around(left, *, lacked=True):
    return Look(SIZE, 9_945, Around(9_995, lacked, left))


def test_where_rows_are_missing_those_around_the_offset_are_looked_at_twice():
    front = Look(FRONT, 0, AtFront(AtEnd(9_995)))
    assert next_look(DAY, front, page(lacks=True)) == around(1)
    assert next_look(DAY, around(1), page(lacks=True)) == around(0)
    assert next_look(DAY, around(0), page(lacks=True)) == LookBack(9_995)


def test_not_where_pages_are_in_the_order_of_time():
    front = Look(FRONT, 0, AtFront(AtEnd(9_995, by_time=True)))
    assert next_look(DAY, front, page(lacks=True)) == LookBack(9_995)


def test_the_rows_around_the_offset_lie_within_the_day():
    front = Look(FRONT, 0, AtFront(AtEnd(9_995)))
    assert next_look(DAY, front, page(9_000, lacks=True)) == Look(SIZE, 8_950, Around(9_995, True, 1))
    front = Look(FRONT, 0, AtFront(AtEnd(10)))
    assert next_look(DAY, front, page(lacks=True)) == Look(SIZE, 0, Around(10, True, 1))
    wide = day(size=1_000)
    front = Look(FRONT, 0, AtFront(AtEnd(9_995)))
    assert next_look(wide, front, page(lacks=True)) == Look(200, 9_895, Around(9_995, True, 1))


@pytest.mark.parametrize(
    ("changes", "lacked", "facts", "following"),
    [
        ({}, True, {"certain": True}, Done()),
        ({}, True, {"stale": True}, ReadAll()),
        ({}, False, {"stale": True}, ReadAll()),
        # Missing at the first of the looks: another page may hide it.
        ({}, True, {}, LookBack(9_995)),
        ({}, False, {"lacks": True}, LookBack(9_995)),
        ({"whole": False}, True, {}, LookBack(10_020)),
        ({}, True, {"total": SMALL * SIZE}, ReadAll()),
        ({}, True, {"total": SMALL * SIZE + 1}, LookBack(9_995)),
        ({"reduced": True}, True, {"total": SMALL * SIZE}, LookBack(9_995)),
        ({}, False, {}, Done()),
        ({"may_wait": False}, False, {}, ReadAll()),
    ],
)
def test_after_that_the_day_is_known_or_rows_are_looked_for_further_back(changes, lacked, facts, following):
    assert next_look(day(**changes), around(0, lacked=lacked), page(**facts)) == following


# Further back


BACK = day(cursor=LookBack(9_900, rereads=2))
UNKNOWN = dataclasses.replace(BACK, whole=False)


def further(offset=5_000, span=400, **others):
    return Look(span, offset, FurtherBack(offset, span, **others))


@pytest.mark.parametrize(
    ("facts", "following"),
    [
        ({"lacks": True, "connected": True}, LookBack(5_000, rereads=2)),
        # The window moved: rows between this page and the one behind it were left out.
        ({"lacks": True}, LookBack(9_950, again=True, rereads=3)),
        ({"lacks": True, "total": 9_920}, LookBack(9_920, again=True, rereads=3)),
        ({"lacks": True, "empty": True}, LookBack(5_000, rereads=2)),
        ({"connected": True}, Look(FRONT, 0, AtFront(FurtherBack(5_000, 400)))),
        ({}, Look(FRONT, 0, AtFront(FurtherBack(5_000, 400, unbroken=False)))),
        ({"certain": True}, Done()),
    ],
)
def test_each_page_further_back_is_joined_to_the_one_behind_it(facts, following):
    assert next_look(BACK, further(), page(**facts)) == following


def test_a_page_at_the_end_is_joined_to_nothing():
    look = further(9_700, 400)
    assert next_look(BACK, look, page(10_100, lacks=True)) == LookBack(9_700, rereads=2)
    assert next_look(BACK, look, page(10_101, lacks=True)) == LookBack(9_950, again=True, rereads=3)


def test_pages_of_one_row_do_not_overlap():
    single = dataclasses.replace(UNKNOWN, size=1, reduced=True)
    assert next_look(single, further(span=1), page(lacks=True)) == LookBack(5_000, rereads=2)


@pytest.mark.parametrize("cursor", [LookBack(9_900, again=True, rereads=2), LookBack(9_900, rereads=REREADS)])
def test_a_page_is_read_again_once_and_not_for_ever(cursor):
    following = LookBack(5_000, rereads=cursor.rereads)
    assert next_look(day(cursor=cursor), further(), page(lacks=True)) == following


@pytest.mark.parametrize(
    ("facts_of_day", "why", "facts", "following"),
    [
        (BACK, FurtherBack(5_000, 400), {"certain": True}, Done()),
        (BACK, FurtherBack(5_000, 400), {}, Done()),
        (BACK, FurtherBack(5_000, 400), {"lacks": True}, LookBack(5_000, rereads=2)),
        (BACK, FurtherBack(5_000, 400, unbroken=False), {"lacks": True}, LookBack(9_950, again=True, rereads=3)),
        (BACK, FurtherBack(5_000, 400), {"stale": True}, ReadAll()),
        (BACK, FurtherBack(0, 400), {"lacks": True}, ReadAll()),
        # The next page would be all of the day.
        (BACK, FurtherBack(5_000, 5_010), {"lacks": True}, ReadAll()),
        (BACK, FurtherBack(5_000, 5_009), {"lacks": True}, LookBack(5_000, rereads=2)),
        (UNKNOWN, FurtherBack(5_000, 5_010), {"lacks": True}, LookBack(5_000, rereads=2)),
    ],
)
def test_after_the_days_first_rows_it_goes_on_from_there(facts_of_day, why, facts, following):
    look = Look(FRONT, 0, AtFront(why, looks=LOOKS - 1))
    assert next_look(facts_of_day, look, page(**facts)) == following


# Young rows


@pytest.mark.parametrize(
    ("look", "facts", "shown"),
    [
        (FIRST, {"total": 10_095}, True),
        (FIRST, {"total": 10_096}, False),
        (FIRST, {"total": 10_096, "certain": True}, True),
        (Look(1, 0, AtEnd(0)), {"total": 50}, False),  # it is asked for again
        (Look(SIZE, 0, AtEnd(0, filled=True)), {"total": 50}, True),
        (further(9_700, 400), {"total": 10_100}, True),
        (further(9_700, 400), {"total": 10_101}, False),
        (Look(FRONT, 0, AtFront(AtEnd(0))), {"total": 5}, False),
        (around(1), {"total": 9_950}, False),
    ],
)
def test_the_young_rows_are_counted_where_the_page_has_the_last_ones(look, facts, shown):
    assert shows_tail(DAY, look, page(**facts)) == shown
