"""Reads useractions from a stock Opencast, which can only be queried by `day`.

How `actions.json` behaves when asked for a day (1.4 to 20):

- The window is [00:00:ss.SSS, 23:59:ss.SSS], both inclusive, where ss.SSS are the seconds of the server's clock at the
  time of the request. One minute of each day is therefore missing, and which one depends on when the request is made.
- Rows have no fixed order. It may differ from page to page, so pagination by `offset` loses rows: MariaDB orders by
  `created` at small offsets and by id at large ones, where it prefers a full scan. A single request with `limit` >=
  `total` loses nothing. A page is therefore a sample: rows in it exist, but rows not in it may exist too.
- `total` counts the whole window, regardless of the page.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from uaharvest.coerce import whole
from uaharvest.errors import BlockedError, PoisonError, SourceError
from uaharvest.opencast.actions import read_action
from uaharvest.opencast.client import ActionsPage, Opencast
from uaharvest.opencast.days import MINUTE, TWO_READINGS, ClockReading, Shown, begin_of
from uaharvest.opencast.source import wrong_zone
from uaharvest.opencast.throttle import Throttle
from uaharvest.rows.useractions import UserAction

# A day without useractions in any Opencast, to ask only for the clock.
LONG_AGO = date(2000, 1, 1)
# Upper bound for the drift between two synchronised clocks, seconds per second.
DRIFT = 1e-4
# The server usually starts to process a request within this time after it was sent, seconds.
QUICK = 0.1
# After this many consecutive consistent responses, they are assumed to come from the same clock.
AGREEING = 20
# If the nodes' clocks differ by more than this, we do not wait for all of them together, seconds.
APART = 8.0
# Attempts to read a whole day, each with a larger limit.
TRIES = 3
# Time-out in seconds, below Celery's time limit. For a day of 500,000 rows the first byte takes a minute.
WHOLE_DAY_TIMEOUT = 600


@dataclasses.dataclass(frozen=True, slots=True)
class DayPage:
    """A page of a day.

    Attributes:
        total: Number of rows that Opencast counted in its window of the day.
        actions: The page's readable rows, each once.
        unreadable: (id, raw row, reason) for each unreadable row.
        moment: When the server read its clock.
        shown: What the rows show about the counted window.
    """

    total: int
    actions: list[UserAction]
    unreadable: list[tuple[int, dict[str, Any], str]]
    moment: ClockReading
    shown: Shown


class ServerClock:
    """Estimates how far the server's clock is ahead of this process's clock, from the `Date` headers of its responses.

    `Date` has whole seconds. Each response shows that the server's clock was between `Date` and a second later at some
    instant between request and response. Many responses together narrow the estimate down to the duration of a request.

    One address may lead to several nodes whose clocks differ. Their responses contradict each other. Each response is
    then evaluated alone, until AGREEING consecutive ones are consistent again.
    """

    def __init__(self) -> None:
        """Start without any observations."""
        self._least = float("-inf")
        self._most = float("inf")
        self._at = 0.0
        self._agreeing = AGREEING
        self._all = (float("inf"), float("-inf"))

    def between(self, sent: float, received: float, server_time: float) -> ClockReading:
        """Return the server's time when it processed a request.

        Args:
            sent: When the request was sent, by this process's clock, seconds.
            received: When the response was received, by the same clock.
            server_time: The response's `Date`, seconds UTC.
        """
        age = max(0.0, received - self._at)
        least, most = self._least - DRIFT * age, self._most + DRIFT * age
        low, high = server_time - received, server_time + 1 - sent
        if max(low, least) < min(high, most):
            self._agreeing += 1
            self._all = min(self._all[0], low), max(self._all[1], high)
            self._least, self._most = max(low, least), min(high, most)
        else:  # another node answered, or a clock was set
            self._all = (low, high) if self._agreeing >= AGREEING else self._all
            self._all = min(self._all[0], low, self._least), max(self._all[1], high, self._most)
            self._agreeing = 0
            self._least, self._most = low, high
        self._at = received
        if self._agreeing < AGREEING:
            return ClockReading(sent + low, received + high)
        return ClockReading(sent + self._least, received + self._most, sent + self._most + QUICK)

    def at(self, instant: float) -> ClockReading:
        """Return the server's time at an instant of this process's clock, for any node that may answer."""
        low, high = self._all
        if self._agreeing < AGREEING and high - low < APART:
            return ClockReading(instant + low, instant + high)
        return ClockReading(instant + self._least, instant + self._most)


class DaySource:
    """Reads days, respects the request rate, and checks that the server understood the parameters."""

    def __init__(
        self,
        client: Opencast,
        zone: ZoneInfo,
        throttle: Throttle,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take a client of the engage host, the server's time zone, that host's throttle, and this process's clock."""
        self._client = client
        self._zone = zone
        self._throttle = throttle
        self._clock = clock
        self._pause = pause
        self._server = ServerClock()

    def now(self, *, wait: float = 0) -> datetime:
        """Return the server's clock, UTC, in whole seconds."""
        return self._ask(LONG_AGO, 1, 0, wait)[0].now

    def total(self, day: date, *, wait: float = 0) -> DayPage:
        """Count the rows of a day. The count comes with one row, which is checked like any other."""
        return self.page(day, 1, wait=wait)

    def page(self, day: date, limit: int, offset: int = 0, *, wait: float = 0) -> DayPage:
        """Return up to `limit` rows of a day, after skipping `offset` rows.

        Raises:
            SourceError: Opencast fails.
            BlockedError: Opencast does not understand `day`, or its time zone is not OPENCAST_TIMEZONE.
        """
        page, moment = self._ask(day, limit, offset, wait)
        return self._read(page, day, moment, offset)

    def all(self, day: date, *, wait: float = 0) -> DayPage:
        """Return all rows of a day, in a single request with a sufficient limit, so that none are lost.

        Raises:
            SourceError: As for `page`; or the response has fewer rows than its total.
            BlockedError: As for `page`.
        """
        page, _ = self._ask(day, 1, 0, wait)
        for _ in range(TRIES):
            limit = page.sufficient_limit
            page, moment = self._ask(day, limit, 0, wait, timeout=WHOLE_DAY_TIMEOUT)
            if page.total <= limit:
                break
        else:
            raise SourceError(f"Opencast's {day} grew faster than it could be read, {TRIES} times.")
        if len(page) < page.total:
            raise SourceError(f"Opencast says there are {page.total} useractions and gives {len(page)}")
        return self._read(page, day, moment, 0)

    def row(self, row_id: int, *, wait: float = 0) -> UserAction | None:
        """Return a row by its id, even from the hidden minute; None if it does not exist or cannot be read."""
        self._throttle.turn(wait)
        raw = self._client.action(row_id)
        try:
            action = read_action(raw) if raw is not None else None
        except PoisonError:
            return None
        if action is not None:
            self._check_zone(action)
        return action

    def newest(self, count: int, *, wait: float = 0) -> list[UserAction]:
        """Return the last `count` rows of the whole table, by id or in the order written. No minute is hidden.

        This is expensive if the table is large; see `Opencast.any_actions`.
        """
        self._throttle.turn(wait)
        total = self._client.any_actions(timeout=WHOLE_DAY_TIMEOUT).total
        self._throttle.turn(wait)
        page = self._client.any_actions(2 * count, max(0, total - count), timeout=WHOLE_DAY_TIMEOUT)
        for action in page.actions:
            self._check_zone(action)
        return page.actions

    def wait_for_phase(self, low: float, high: float) -> None:
        """Wait until the server's clock is between the seconds `low` and `high` of a minute."""
        self.now()
        now = self._server.at(self._clock())
        least, most = now.phase
        if low <= least <= most <= high:
            return
        # If the nodes' clocks differ by more than `high - low`, at least make sure that all of them are past `low`
        # (early in the minute) or not yet past `high` (late in it).
        before_end = low > MINUTE / 2 and now.latest - now.earliest > high - low
        self._pause((high - now.latest if before_end else low - now.earliest) % MINUTE)

    def soon(self) -> ClockReading:
        """Estimate the server's clock now, without a request. Unbounded if there was no request yet."""
        return self._server.at(self._clock())

    def wait_for_end_of_second(self) -> None:
        """Wait until late in a second of the server's clock, but before its end. This takes at most a second.

        If a table stores whole seconds, it is then known which rows of the hidden minute it counts, including most of
        those just being written. If the server's clock is not known precisely enough, the next request is made at
        another fraction of the second, which improves the estimate.
        """
        now = self._server.at(self._clock())
        # The whole estimate must fit into one second, with some room for the duration of the request.
        self._pause((0.85 - now.latest) % 1 if now.latest - now.earliest < 0.6 else 0.37)  # noqa: PLR2004

    def _ask(
        self, day: date, limit: int, offset: int, wait: float, timeout: int | None = None
    ) -> tuple[ActionsPage, ClockReading]:
        self._throttle.turn(wait)
        sent = self._clock()
        further = {"timeout": timeout} if timeout else {}
        page = self._client.actions_of_day(day, limit, offset, **further)
        return page, self._server.between(sent, self._clock(), page.now.timestamp())

    def _read(self, page: ActionsPage, day: date, moment: ClockReading, offset: int) -> DayPage:
        unreadable = []
        for raw, reason in page.unreadable:
            number = whole(raw.get("id"))
            if number is None:
                raise SourceError(f"A useraction of {day} has no usable id, so it cannot be counted.")
            unreadable.append((number, raw, reason))
        actions = {action.id: action for action in page.actions}
        self._check(actions.values(), day)
        shown = _shown(
            [*actions.values()], day, self._zone, begins=not offset, ends=offset + len(page) >= page.total
        )
        return DayPage(page.total, list(actions.values()), unreadable, moment, shown)

    def _check(self, actions: Iterable[UserAction], day: date) -> None:
        """Raise BlockedError if a row shows that the server did not interpret `day` as intended."""
        seen: set[datetime] = set()
        for action in actions:
            if action.created in seen:
                continue
            seen.add(action.created)
            self._check_zone(action)
            # The wall time must be on that day in any zone.
            if action.created.date() != day:
                raise BlockedError(
                    f"Opencast at {self._client.base_url} ignores the day in requests for actions.json: a row of "
                    f"{action.created:%F %T%z} came back for {day}. It is not a stock Opencast: see "
                    "OPENCAST_PROFILE."
                )

    def _check_zone(self, action: UserAction) -> None:
        if action.created.utcoffset() != action.created.astimezone(self._zone).utcoffset():
            raise BlockedError(wrong_zone(action.created, self._zone, self._client.base_url))


def _shown(actions: Sequence[UserAction], day: date, zone: ZoneInfo, *, begins: bool, ends: bool) -> Shown:
    """Return what a page's rows show about its window.

    Args:
        actions: The page's readable rows.
        day: The local day.
        zone: The server's time zone.
        begins: Whether the page has the first rows of the day.
        ends: Whether the page has the last rows of the day.
    """
    first, end = begin_of(day, zone), begin_of(day + timedelta(days=1), zone)
    instants = [action.created.timestamp() for action in actions]
    in_order = bool(instants) and all(one <= other for one, other in itertools.pairwise(instants))
    firsts = [at - first for at in instants if at < first + MINUTE]
    lasts = [at - (end - MINUTE) for at in instants if at >= end - MINUTE]
    return Shown(
        least=max(0.0, max(lasts, default=0.0) - TWO_READINGS),
        most=min(firsts, default=MINUTE),
        first=min(firsts, default=MINUTE) if in_order and begins else 0.0,
        last=max(lasts, default=0.0) if in_order and ends else MINUTE,
    )
