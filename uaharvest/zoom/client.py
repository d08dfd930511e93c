"""The Zoom client: lists of past meetings, their hosts and participants."""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Literal

from uaharvest.errors import HarvestError

Kind = Literal["past", "pastOne"]
Source = Literal["dashboard", "report"]
KINDS: tuple[Kind, ...] = ("past", "pastOne")

Row = dict[str, Any]


class MeetingUnavailableError(HarvestError):
    """Zoom has no participants of this one meeting, and never will; `code` is Zoom's (3001, 3161, 12702, 404 ...)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a list of past meetings.

    Attributes:
        rows: As Zoom's Dashboard names their fields, each uuid once in the whole list. Those of the Report
            endpoints are renamed, what they lack is None, and `host_id` is set.
        next_token: Where to go on; "" after the last page. It lives 15 minutes.
        source: Which endpoints gave it.
        unreadable: Rows without a uuid: they stand for nothing that could be asked for.
    """

    rows: list[Row]
    next_token: str
    source: Source
    unreadable: int


class Zoom:
    """Asks Zoom; within its quotas, with the token that all workers share. Threads may share a client.

    Every method that calls Zoom raises:
        PutOffError: No call is left now; `due` says when one will be (the next second, minute or day).
        BlockedError: A person must change something; the text names the setting, scope or plan.
        SourceError: Zoom cannot be reached, is busy, fails or answers something else than it should.
    """

    def now(self) -> datetime:
        """Return Zoom's clock, UTC. It uses up no quota."""
        raise NotImplementedError

    def meetings(self, first: date, last: date, kind: Kind, *, token: str = "") -> Iterator[Page]:
        """Yield the pages of the past meetings that started from `first` to `last`, one call each.

        After a PutOffError go on with `token=page.next_token` of the last page that came: nothing is then asked
        for twice. Fetch nothing else in between: a token lives 15 minutes. One that has ended starts the list anew.

        Args:
            first: A day, UTC, of the last six months.
            last: A day, inclusive, at most a month later and not in the future.
            kind: `past` has no meetings of one person, `pastOne` has only those.
            token: Where to go on.

        Raises:
            BadInputError: Zoom does not keep these days, or they are too many for one list.
            BlockedError: Also: Zoom answered for other days than it was asked for.
        """
        raise NotImplementedError

    def host_ids(self, first: date, last: date) -> Mapping[str, str]:
        """Return the ids of those who hosted meetings from `first` to `last`, by e-mail address in lower case."""
        raise NotImplementedError

    def participants(self, uuid: str, kind: Kind) -> list[Row]:
        """Return the participants of a meeting, one row for each join, as the Dashboard names their fields.

        Rows of the Report endpoints are renamed, what they lack is None, and they have `duration`, in seconds.

        Args:
            uuid: Of the meeting.
            kind: Which list it stood in.

        Raises:
            MeetingUnavailableError: Zoom has them not: count and skip it.
        """
        raise NotImplementedError
