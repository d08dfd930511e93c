"""Useractions from an Opencast as everybody has it: by `day` only.

What `actions.json` gives for a day (1.4 to 20), and what must be made of it:

- The window is [00:00:ss.SSS, 23:59:ss.SSS] with the seconds of the server's clock at each request, both included:
  a minute of each day is not in it, and which one depends on when it was asked for.
- No order, and pages by `offset` of what may be ordered in another way for each: they lose rows. MariaDB orders by
  `created` at small offsets and by id at great ones, where it prefers a full scan. One request with `limit` >= `total`
  loses nothing. So a page is a sample: what it shows is there; what it does not show may be there all the same.
- `total` is the count of the window, whatever the page shows.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from uaharvest.errors import BlockedError, PoisonError, SourceError
from uaharvest.opencast.actions import UserAction, read_action
from uaharvest.opencast.client import ActionsPage, Opencast
from uaharvest.opencast.foreign import whole
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.source import wrong_zone
from uaharvest.runs.day_ids import Moment

# Only the clock is asked for: a day that no Opencast has.
LONG_AGO = date(2000, 1, 1)
# Two clocks that are kept right drift apart by less; seconds per second.
DRIFT = 1e-4
# One request for a day of 500,000 rows works for a minute before its first byte; less than celery's time limit.
PATIENCE = 600


@dataclasses.dataclass(frozen=True, slots=True)
class DayPage:
    """A page of a day.

    Attributes:
        total: How many rows Opencast counted in its window of the day.
        actions: Those of the page that can be read, each once.
        unreadable: (id, raw row, reason) of those that cannot.
        moment: When the server looked at its clock.
    """

    total: int
    actions: list[UserAction]
    unreadable: list[tuple[int, dict[str, Any], str]]
    moment: Moment


class ServerClock:
    """How far the server's clock is ahead of this process's, from the `Date` of its answers.

    Whole seconds, but many answers tell it to the time that a request takes: each says that the server's clock was
    between `Date` and a second later at some instant between the request and the answer.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._least = float("-inf")
        self._most = float("inf")
        self._at = 0.0

    def between(self, sent: float, received: float, told: float) -> Moment:
        """Return the server's time at which a request was worked at.

        Args:
            sent: By this process's clock, seconds.
            received: The same.
            told: `Date`, seconds UTC.
        """
        age = max(0.0, received - self._at)
        least, most = self._least - DRIFT * age, self._most + DRIFT * age
        low, high = told - received, told + 1 - sent
        if max(low, least) < min(high, most):
            self._least, self._most = max(low, least), min(high, most)
        else:  # one of the clocks was set
            self._least, self._most = low, high
        self._at = received
        return Moment(sent + self._least, received + self._most)

    def at(self, instant: float) -> Moment:
        """Return the server's time at an instant of this process's clock, after at least one answer."""
        return Moment(instant + self._least, instant + self._most)


class DaySource:
    """Asks for days, keeps the pace, and checks that the server understood."""

    def __init__(
        self,
        client: Opencast,
        zone: ZoneInfo,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take a client of the engage host, the server's zone, the pace at that host, and this process's clock."""
        self._client = client
        self._zone = zone
        self._pace = pace
        self._clock = clock
        self._pause = pause
        self._server = ServerClock()

    def now(self, *, wait: float = 0) -> datetime:
        """Return the server's clock, UTC, whole seconds."""
        return self._ask(LONG_AGO, 1, 0, wait)[0].now

    def total(self, day: date, *, wait: float = 0) -> DayPage:
        """Count the rows of a day; the one that comes with the count is checked like all others."""
        return self.page(day, 1, wait=wait)

    def page(self, day: date, limit: int, offset: int = 0, *, wait: float = 0) -> DayPage:
        """Return rows of a day, as many as `limit`, of those behind the first `offset`.

        Raises:
            SourceError: Opencast fails.
            BlockedError: It does not understand `day`, or its zone is another one.
        """
        page, moment = self._ask(day, limit, offset, wait)
        return self._read(page, day, moment)

    def all(self, day: date, *, wait: float = 0) -> DayPage:
        """Return all rows of a day: one request with a limit that is large enough loses none.

        Raises:
            SourceError: As for `page`; or the answer holds fewer rows than it says.
            BlockedError: As for `page`.
        """
        limit = self._ask(day, 1, 0, wait)[0].total
        while True:
            # Rows that come meanwhile make it too small.
            page, moment = self._ask(day, limit + limit // 20 + 100, 0, wait, timeout=PATIENCE)
            if page.total <= limit + limit // 20 + 100:
                break
            limit = page.total
        if len(page.rows) < page.total:
            raise SourceError(f"Opencast says there are {page.total} useractions and gives {len(page.rows)}")
        return self._read(page, day, moment)

    def row(self, row_id: int, *, wait: float = 0) -> UserAction | None:
        """Return one row by its id, whatever minute it is of; None if there is none, or it cannot be read."""
        self._pace.turn(wait)
        raw = self._client.action(row_id)
        try:
            action = read_action(raw) if raw is not None else None
        except PoisonError:
            return None
        if action is not None:
            self._check_zone(action)
        return action

    def newest(self, count: int, *, wait: float = 0) -> list[UserAction]:
        """Return the last `count` rows of the whole table, which hides no minute: by id, or as they were written.

        No small request where the table is large: see `Opencast.any_actions`.
        """
        self._pace.turn(wait)
        total = self._client.any_actions(timeout=PATIENCE).total
        self._pace.turn(wait)
        page = self._client.any_actions(2 * count, max(0, total - count), timeout=PATIENCE)
        actions = []
        for raw in page.rows:
            with contextlib.suppress(PoisonError):  # its day shows it too, and makes a dead letter of it
                actions.append(read_action(raw))
        for action in actions:
            self._check_zone(action)
        return actions

    def wait_for_phase(self, low: float, high: float) -> None:
        """Return when the server's clock is between the seconds `low` and `high` of a minute; at once if it is."""
        self.now()
        now = self._server.at(self._clock())
        least, most = now.phase
        if not low <= least <= most <= high:
            self._pause((low + (now.latest - now.earliest) / 2 - (now.earliest + now.latest) / 2) % 60)

    def wait_for_end_of_second(self) -> None:
        """Return in a second at the latest, late in one by the server's clock, and surely before its end.

        Of a table that keeps whole seconds is then known which rows of the hidden minute it counts, and of most of
        those that are just being written. Where its clock is not known well, it is asked again at another fraction of
        the second, and is known better.
        """
        now = self._server.at(self._clock())
        # All of it within one second, with some room for the time of the request.
        self._pause((0.85 - now.latest) % 1 if now.latest - now.earliest < 0.6 else 0.37)  # noqa: PLR2004

    def _ask(
        self, day: date, limit: int, offset: int, wait: float, timeout: int | None = None
    ) -> tuple[ActionsPage, Moment]:
        self._pace.turn(wait)
        sent = self._clock()
        further = {"timeout": timeout} if timeout else {}
        page = self._client.actions_of_day(day, limit, offset, **further)
        return page, self._server.between(sent, self._clock(), page.now.timestamp())

    def _read(self, page: ActionsPage, day: date, moment: Moment) -> DayPage:
        actions: dict[int, UserAction] = {}
        unreadable = []
        for raw in page.rows:
            try:
                action = read_action(raw)
            except PoisonError as error:
                number = whole(raw.get("id"))
                if number is None:
                    raise SourceError(
                        f"A useraction of {day} has no usable id, by which it could be counted."
                    ) from error
                unreadable.append((number, raw, str(error)))
                continue
            actions[action.id] = action
        self._check(actions.values(), day)
        return DayPage(page.total, list(actions.values()), unreadable, moment)

    def _check(self, actions: Iterable[UserAction], day: date) -> None:
        """Refuse rows that show that the server did not take `day` as it was meant."""
        seen: set[datetime] = set()
        for action in actions:
            if action.created in seen:
                continue
            seen.add(action.created)
            self._check_zone(action)
            # Its wall time is of that day, whatever the zone.
            if action.created.date() != day:
                raise BlockedError(
                    f"Opencast at {self._client.base_url} does not heed the day of actions.json: a row of "
                    f"{action.created:%F %T%z} came back for {day}. It is not a stock Opencast: see "
                    "OPENCAST_PROFILE."
                )

    def _check_zone(self, action: UserAction) -> None:
        if action.created.utcoffset() != action.created.astimezone(self._zone).utcoffset():
            raise BlockedError(wrong_zone(action.created, self._zone, self._client.base_url))
