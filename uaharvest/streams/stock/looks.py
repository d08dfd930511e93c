"""Decides which page of a day to request next until every row that Opencast counts is known; pure functions."""

import dataclasses

from uaharvest.streams.stock.chain import Begin, LookBack, ReadAll

LEAST_MARGIN = 20  # known rows to request before the new ones if the number of young rows is not known
# When MariaDB scans a table, it returns rows by id. Each node takes ids in blocks of 50, so new rows may be this many
# rows before the end.
MARGIN = 100
# Pages overlap, because a row's places by created and by id may differ by up to a block per node. If the window moved
# between two pages, the page does not end with a known row.
OVERLAP = 100
REREADS = 20  # most pages of a day that are read again because the window moved
# Rows to request at the beginning of a day to see where Opencast's window begins.
FRONT = 20
# In a day that was fully known, each page further back is this many times as long as everything after it. The server
# reads all the rows that an offset skips, so a few long pages cost less than many short ones, and much less than the
# whole day.
WIDER = 4
LARGE = 50  # a day of more pages is expensive to count
SMALL = 3  # a day of at most this many pages is requested at once
# How often a day is counted again, at another fraction of a second, if the hidden minute leaves a doubt.
LOOKS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DayFacts:
    """What is known about a day when a slice starts on it.

    Attributes:
        size: Maximum number of rows per request.
        reduced: The size was reduced because requests failed.
        cursor: Where the slice begins.
        known: How many ids are known.
        counted: How many of these Opencast counts now, at least.
        whole: At some time, all rows of the day were known.
        tail: How many known rows were young at the last look; None: not recorded.
        may_wait: A doubt about the hidden minute is acceptable, because the day will be counted again.
    """

    size: int
    reduced: bool
    cursor: Begin | LookBack
    known: int
    counted: int
    whole: bool
    tail: int | None
    may_wait: bool

    @property
    def overlap(self) -> int:
        """Return the number of rows by which pages overlap."""
        return min(OVERLAP, self.size // 2)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PageFacts:
    """What a page shows after its rows were taken in.

    Attributes:
        total: How many rows Opencast counted.
        empty: The page has no readable row.
        in_order: The page proves to be in the order of event time.
        connected: One of its last rows (two overlaps) was known before this slice.
        fresh: It has rows that were not known before.
        nothing_known: No row of the day is known.
        certain: All counted rows are known.
        likely: All counted rows are known if the server handled the request as early as it usually does.
        lacks: Some counted rows are certainly not known.
        stale: Some known rows no longer exist, so the total may hide new ones.
    """

    total: int
    empty: bool = False
    in_order: bool = False
    connected: bool = False
    fresh: bool = False
    nothing_known: bool = False
    certain: bool = False
    likely: bool = False
    lacks: bool = False
    stale: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class AtEnd:
    """The page after the known rows, where new rows usually are.

    Attributes:
        offset: Where it begins.
        filled: It was requested again with the maximum number of rows.
        by_time: Pages are in the order of event time, so there are no new rows around the offset.
    """

    offset: int
    filled: bool = False
    by_time: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FurtherBack:
    """A page further from the end.

    Attributes:
        offset: Where it begins.
        span: How many rows from there on it was meant to cover.
        unbroken: No rows were left out between it and the page after it.
    """

    offset: int
    span: int
    unbroken: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class AtFront:
    """The day's first rows. They show where Opencast's window begins, which removes the doubt about its clock.

    Attributes:
        origin: The page that left the doubt.
        rows: How many rows are requested.
        looks: How many looks there have been.
        late: Look late in a second; a table that stores whole seconds then leaves no doubt.
    """

    origin: AtEnd | FurtherBack
    rows: int = FRONT
    looks: int = 0
    late: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Around:
    """Rows around the offset of the first page. If pages are in the order of id, new rows may be before it.

    Attributes:
        offset: Offset of the first page.
        lacked: Rows were missing before. (Rows written between a count and its page may hide this later.)
        left: Remaining looks. More than one is needed because the query plan, and so the order, may change.
    """

    offset: int
    lacked: bool
    left: int


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Request a page: `limit` rows of the day from `offset` on, for the purpose `why`."""

    limit: int
    offset: int
    why: AtEnd | FurtherBack | AtFront | Around


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """All counted rows are known, or the remaining doubt is acceptable.

    Attributes:
        empty: The day has no rows, so it shows nothing about the server's time zone.
    """

    empty: bool = False


Next = Look | LookBack | ReadAll | Done


def first_look(day: DayFacts) -> Look:
    """Return the first page to request.

    Usually one request after the known rows is enough: the known rows determine its offset, and its total shows
    whether it had all new rows. Each request reads the day's index twice at the server: to count, and up to the offset.
    """
    if isinstance(day.cursor, LookBack):
        behind = day.cursor.offset
        span = max(WIDER * day.size, WIDER * (day.known - behind)) if _is_wide(day) else day.size
        offset = max(0, behind + day.overlap - span)
        return Look(behind + day.overlap - offset, offset, FurtherBack(offset, span))
    margin = LEAST_MARGIN if day.tail is None else day.tail + 1
    offset = max(0, day.counted - min(margin, day.size // 2))
    return Look(day.size if day.known else 1, offset, AtEnd(offset))


def next_look(day: DayFacts, look: Look, page: PageFacts) -> Next:
    """Return what to do after `look` returned `page`.

    Returns:
        Another look in this slice; or LookBack or ReadAll, where a new slice continues; or Done.
    """
    match look.why:
        case AtEnd() as at_end:
            return _after_end(day, at_end, page)
        case FurtherBack() as further:
            return _after_further(day, further, page)
        case AtFront() as front:
            return _after_front(day, front, page)
        case Around() as around:
            return _look_around(day, around, page)


def shows_tail(day: DayFacts, look: Look, page: PageFacts) -> bool:
    """Tell whether the page has the day's last rows; count the young ones among them for the next look."""
    match look.why:
        case AtEnd() as at_end:
            last = page.certain or at_end.offset + day.size >= page.total
            return last and not _is_filled_next(day, at_end, page)
        case FurtherBack(offset, span):
            return offset + span >= page.total
        case _:
            return False


def _is_wide(day: DayFacts) -> bool:
    return day.whole and not day.reduced


def _is_filled_next(day: DayFacts, why: AtEnd, page: PageFacts) -> bool:
    return not why.filled and not why.offset and 1 < page.total <= day.size and not page.certain


def _after_end(day: DayFacts, why: AtEnd, page: PageFacts) -> Next:
    if not page.total and page.nothing_known:
        return Done(empty=True)
    if _is_filled_next(day, why, page):
        return Look(day.size, 0, dataclasses.replace(why, filled=True))
    if why.offset + day.size < page.total and not page.certain:
        return ReadAll() if page.stale else LookBack(page.total)
    if day.may_wait and page.likely:
        return Done()
    # If pages are in the order of event time, new rows come after the known ones and the offset skipped none. In a
    # small day the order may be chance, and looking around the offset costs little.
    by_time = page.in_order and page.total > LARGE * day.size
    return _look_at_front(day, AtFront(dataclasses.replace(why, by_time=by_time)), page)


def _after_further(day: DayFacts, why: FurtherBack, page: PageFacts) -> Next:
    at_end = why.offset + why.span >= page.total
    why = dataclasses.replace(why, unbroken=at_end or not day.overlap or page.connected)
    return _go_back(day, why, page) if page.lacks else _look_at_front(day, AtFront(why), page)


def _after_front(day: DayFacts, why: AtFront, page: PageFacts) -> Next:
    why = dataclasses.replace(why, looks=why.looks + 1)
    if page.fresh:  # a different part of the minute is hidden now
        return _look_at_front(day, dataclasses.replace(why, rows=day.size, late=False), page)
    if page.lacks or page.stale:
        return _from_front(day, why, page)
    return _look_at_front(day, dataclasses.replace(why, late=True), page)


def _look_at_front(day: DayFacts, why: AtFront, page: PageFacts) -> Next:
    if page.certain or why.looks >= LOOKS:
        return _from_front(day, why, page)
    return Look(min(day.size, why.rows), 0, why)


def _from_front(day: DayFacts, why: AtFront, page: PageFacts) -> Next:
    match why.origin:
        case AtEnd(offset, _, by_time):
            return _look_around(day, Around(offset, page.lacks, 0 if by_time else 2), page)
        case FurtherBack() as further:
            return _go_back(day, further, page)


def _look_around(day: DayFacts, why: Around, page: PageFacts) -> Next:
    if page.certain:
        return Done()
    if page.lacks and why.left:
        limit = min(day.size, 2 * MARGIN)
        offset = max(0, min(why.offset, page.total) - limit // 2)
        return Look(limit, offset, dataclasses.replace(why, left=why.left - 1))
    if page.stale:  # two answers show it
        return ReadAll()
    if why.lacked or page.lacks:
        if page.total <= SMALL * day.size and not day.reduced:
            return ReadAll()
        return LookBack(why.offset if day.whole else page.total)
    return Done() if day.may_wait else ReadAll()


def _go_back(day: DayFacts, why: FurtherBack, page: PageFacts) -> Next:
    cursor = day.cursor if isinstance(day.cursor, LookBack) else LookBack(0)
    if page.certain:
        return Done()
    if not why.unbroken and not cursor.again and cursor.rereads < REREADS and not page.empty:
        # The window moved or the order changed, so rows between this page and the one after it were left out.
        behind = min(cursor.offset + day.size - day.overlap, page.total)
        return LookBack(behind, again=True, rereads=cursor.rereads + 1)
    if not page.lacks and not page.stale and day.may_wait:
        return Done()
    if why.offset == 0 or page.stale or (_is_wide(day) and 2 * why.span >= page.total):
        return ReadAll()
    return LookBack(why.offset, rereads=cursor.rereads)
