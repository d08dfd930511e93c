"""Reads the lists of past meetings, either from the Dashboard or, host by host, from reports."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import structlog

from uaharvest.coerce import members
from uaharvest.errors import BadInputError, BlockedError, HarvestError, PoisonError, RetryableError, SourceError
from uaharvest.rows.zoom import MeetingRow, UserRow
from uaharvest.zoom import answers
from uaharvest.zoom.dashboard import Dashboard
from uaharvest.zoom.endpoints import KINDS, MEETINGS, USER_MEETINGS, USERS, ListKind, Source
from uaharvest.zoom.failures import (
    NoDashboardError,
    RefusedError,
    ThrottledAloneError,
    UserUnavailableError,
    verdict,
)
from uaharvest.zoom.paging import JsonPage, Pager
from uaharvest.zoom.probe import Probe
from uaharvest.zoom.rows import WEBINARS, read_meeting, read_reported_meeting, read_user

# Zoom keeps six months and lists at most one month at a time. These are the shortest such periods in the calendar. If
# asked for more, Zoom answers 200 with data of other days.
OLDEST = timedelta(days=180)
LONGEST = timedelta(days=28)
USERS_KEPT = 600.0  # seconds to remember the hosts of the most recently requested days
MOST_OTHERS = 3  # maximum number of other hosts to try, to tell whether a refusal concerns one or all

Days = tuple[date, date]

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedHost:
    """A host whose meetings cannot be listed, by id or its pseudonym, and why. The reason names no person."""

    id: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class MeetingsPage:
    """One page of a list of past meetings.

    Attributes:
        rows: Meetings, each uuid once in the whole list. A row that cannot be read has no uuid.
        next_token: Token of the next page; "" on the last page. It lives 15 minutes.
        source: The endpoints that it comes from.
        refused: A host whose meetings Zoom does not list although it lists those of others.
        hosts_without_id: Hosts that Zoom lists without an id, so that their meetings cannot be listed. Each has what
            Zoom says of the host, under the names that meetings have for it.
    """

    rows: list[MeetingRow]
    next_token: str
    source: Source
    refused: RefusedHost | None = None
    hosts_without_id: Sequence[Mapping[str, str | None]] = ()


class MeetingReader:
    """Reads the lists of past meetings and their hosts."""

    def __init__(
        self,
        pager: Pager,
        probe: Probe,
        dashboard: Dashboard,
        clock: Callable[[], datetime],
        pseudonym: Callable[[str], str] | None,
    ) -> None:
        self._pager = pager
        self._probe = probe
        self._dashboard = dashboard
        self._clock = clock
        self._has_pseudonyms = pseudonym is not None
        self._pseudonym = pseudonym or str
        self._host_answered = ""
        self._users_of: tuple[Days, float, list[UserRow]] | None = None

    def meetings(self, first: date, last: date, kind: ListKind, *, token: str = "") -> Iterator[MeetingsPage]:
        """Yield the pages of the past meetings that started from `first` to `last`. Each page takes one call.

        After a PutOffError, continue with `token=page.next_token` of the last page, so that no page is read twice. Do
        not fetch anything else in between, because a token expires after 15 minutes. Then the list starts again.

        Args:
            first: First day, UTC, within the last six months.
            last: Last day, inclusive, at most a month later and not in the future.
            kind: `past` for meetings of several people, `pastOne` for meetings of one person.
            token: Where to continue.

        Raises:
            BadInputError: Zoom does not keep these days, or they are too many for one list.
            DaysRefusedError: Zoom refused the days, or answered for other days.
            SourceError: Also if the list has fewer rows than its total, or does not end.
        """
        days = self._checked(first, last)
        seen: set[str] = set()
        for page in self._pages(days, kind, token):
            # Pages may repeat rows while Zoom's data settles, and a list that starts again repeats all of them.
            fresh = {row.uuid: row for row in page.rows if row.uuid and row.uuid not in seen}
            seen.update(fresh)
            self._probe.note_listed(list(fresh), kind)
            yield dataclasses.replace(page, rows=[*fresh.values(), *(row for row in page.rows if not row.uuid)])

    def meetings_of(self, host: str, first: date, last: date, kind: ListKind) -> list[MeetingRow]:
        """Return the meetings of a host from the Report endpoints; otherwise as `meetings`.

        Args:
            host: The host's id or, if there are pseudonyms, that of the id.
            first: As for `meetings`.
            last: As for `meetings`.
            kind: As for `meetings`.

        Raises:
            PoisonError: Zoom refuses this host but answers for others.
            RetryableError: Zoom fails for this host and for others: an outage.
        """
        days = self._checked(first, last)
        if self._has_pseudonyms and self._pseudonym(host) == host:  # it is one: whose it is has to be looked up
            hosts = [one for one in self._host_list(days) if self._pseudonym(one) == host]
            if not hosts:
                return []
            host = hosts[0]
        try:
            with self._judge_429(host, self._host_list(days), days):
                pages = list(self._pager.pages(USER_MEETINGS, {"type": kind}, host, days=days))
        except UserUnavailableError:
            return []
        except ThrottledAloneError:
            raise
        except (BlockedError, PoisonError, SourceError) as error:
            if self._concerns_only(host, self._host_list(days), days, error):
                raise verdict(error, others=True) from error
            if isinstance(error, SourceError):
                raise RetryableError(f"{error} It answers for no other host either.") from error
            raise
        return [row for page in pages for row in _meetings_in(page, host)]

    def host_ids(self, first: date, last: date) -> Mapping[str, str]:
        """Return the ids of the users who hosted meetings on these days (as for `meetings`), by lower-case e-mail."""
        days = self._checked(first, last)
        return {user.email.lower(): user.id for user in self._users(days) if user.email and user.id}

    def _checked(self, first: date, last: date) -> Days:
        """Return the days; raise BadInputError if Zoom would change them, or has no meetings of them."""
        today = self._clock().astimezone(UTC).date()
        asked = f"{first} to {last}" if first != last else f"{first}"
        if not first <= last <= today:
            raise BadInputError(f"Zoom has no past meetings of {asked}: expected days up to today, {today} UTC.")
        if first < today - OLDEST:
            raise BadInputError(
                f"Zoom keeps meetings for six months: expected days since {today - OLDEST}, not {asked}."
            )
        if last - first > LONGEST:
            raise BadInputError(f"Zoom lists a month at most at once, {LONGEST.days + 1} days, not {asked}.")
        return first, last

    def _pages(self, days: Days, kind: ListKind, token: str) -> Iterator[MeetingsPage]:
        """Yield pages as received: rows may lack a uuid, or repeat one."""
        if self._dashboard.source() == "dashboard" or self._is_recheck_due(kind, token):
            # Both must be sent: `type` defaults to current meetings, and `query_date_type`'s default varies by account.
            params = {"type": kind, "query_date_type": "start_time"}
            try:
                for page in self._pager.pages(MEETINGS, params, days=days, token=token):
                    self._dashboard.forget()  # it is no longer missing
                    yield MeetingsPage(list(map(read_meeting, page.rows)), page.next_token, "dashboard")
            except NoDashboardError as error:
                self._dashboard.note_missing(error)
                token = ""
            else:
                return
        yield from self._reported(days, kind, token)

    def _is_recheck_due(self, kind: ListKind, token: str) -> bool:
        """Return whether to try the Dashboard again, which only happens at the start of the first list."""
        return not token and kind == KINDS[0] and self._dashboard.recheck_due()

    def _reported(self, days: Days, kind: ListKind, token: str) -> Iterator[MeetingsPage]:
        """Yield the meetings host by host. A token consists of a host and a page token.

        The hosts are in the order of their ids or pseudonyms, so that one that is no longer listed does no harm.
        """
        begin, _, page_token = token.partition(" ")
        all_hosts = self._host_list(days)
        hosts = [host for host in all_hosts if self._pseudonym(host) >= begin]
        names = list(map(self._pseudonym, hosts))
        if not token and kind == KINDS[0] and (without := self._without_id(days)):
            yield MeetingsPage([], names[0] if names else "", "report", hosts_without_id=without)
        elif not hosts:
            yield MeetingsPage([], "", "report")
        for host, name, following in itertools.zip_longest(hosts, names, names[1:], fillvalue=""):
            at = page_token if name == begin else ""
            try:
                with self._judge_429(host, all_hosts, days):
                    for page in self._pager.pages(USER_MEETINGS, {"type": kind}, host, days=days, token=at):
                        next_token = f"{name} {page.next_token}" if page.next_token else following
                        yield MeetingsPage(_meetings_in(page, host), next_token, "report")
            except UserUnavailableError as error:
                log.info("host left out", reason=str(error))
                yield MeetingsPage([], following, "report")
            except (BlockedError, PoisonError, SourceError) as error:
                if not self._concerns_only(host, all_hosts, days, error):
                    raise
                refused = RefusedHost(name, str(verdict(error, others=True)))
                yield MeetingsPage([], following, "report", refused)
            else:
                self._host_answered = host

    def _host_list(self, days: Days) -> list[str]:
        return sorted({user.id for user in self._users(days) if user.id}, key=self._pseudonym)

    def _without_id(self, days: Days) -> list[Mapping[str, str | None]]:
        return [{"host": user.name, "email": user.email} for user in self._users(days) if not user.id]

    def _judge_429(self, host: str, hosts: Sequence[str], days: Days) -> contextlib.AbstractContextManager[None]:
        return self._probe.judge_429(host, lambda: self._lists_another(host, hosts, days))

    def _concerns_only(self, host: str, hosts: Sequence[str], days: Days, error: HarvestError) -> bool:
        """Return whether an error concerns only this one of the hosts."""
        if isinstance(error, ThrottledAloneError):
            return True
        if isinstance(error, RefusedError) and error.code in answers.SCOPES and not self._others(host, hosts):
            return False  # listing hosts needs another scope and proves nothing
        return self._lists_another(host, hosts, days)

    def _lists_another(self, host: str, hosts: Sequence[str], days: Days) -> bool:
        """Return whether Zoom lists another host's meetings or, if there is no other host, at least lists hosts."""
        asked = {"from": days[0].isoformat(), "to": days[1].isoformat()}
        if others := self._others(host, hosts):
            return any(
                self._probe.answers(USER_MEETINGS, other, {"type": KINDS[0], **asked})
                for other in others[:MOST_OTHERS]
            )
        return self._probe.answers(USERS, "", {"type": "active", **asked})

    def _others(self, host: str, hosts: Sequence[str]) -> list[str]:
        """Return the other hosts, first the one that Zoom answered for last."""
        known = [self._host_answered] if self._host_answered else []
        return [one for one in dict.fromkeys([*known, *hosts]) if one != host]

    def _users(self, days: Days) -> list[UserRow]:
        """Return everybody who hosted meetings. Cached, because several lists of the same days need them in turn."""
        kept = self._users_of
        if kept is not None and kept[0] == days and time.monotonic() < kept[1]:
            return kept[2]
        users: list[UserRow] = []
        for page in self._pager.pages(USERS, {"type": "active"}, days=days):
            users = [*([] if page.first else users), *map(read_user, page.rows)]
        self._users_of = (days, time.monotonic() + USERS_KEPT, users)
        return users


def _meetings_in(page: JsonPage, host: str) -> list[MeetingRow]:
    return [read_reported_meeting(row, host) for row in page.rows if members(row).get("type") not in WEBINARS]
