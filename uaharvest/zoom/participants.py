"""Reads the participants of a meeting."""

import contextlib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from uaharvest.errors import BlockedError, PoisonError, RetryableError, SourceError
from uaharvest.rows.zoom import ParticipantRow
from uaharvest.zoom import answers
from uaharvest.zoom.api import Api
from uaharvest.zoom.dashboard import Dashboard
from uaharvest.zoom.endpoints import (
    KINDS,
    MEETINGS,
    PARTICIPANTS,
    REPORTED_PARTICIPANTS,
    Endpoint,
    ListKind,
    Source,
)
from uaharvest.zoom.failures import MeetingUnavailableError, NoDashboardError, verdict
from uaharvest.zoom.paging import Pager, Progress
from uaharvest.zoom.probe import Probe
from uaharvest.zoom.rows import read_participant, read_reported_participant

# Maximum number of other meetings to try, to tell whether a failure concerns one or all. If the failure may be
# temporary, more than two calls are not worth it.
MOST_AFTER_REFUSAL = 3
MOST_AFTER_FAILURE = 2


class Participants(list[ParticipantRow]):
    """The participants of a meeting.

    Attributes:
        came: Number of rows that Zoom sent. If some are equal, the list has only one of them.
        total: Total number of rows according to Zoom; None if it does not say.
        source: The endpoints that they come from.
    """

    def __init__(
        self,
        rows: Sequence[ParticipantRow],
        *,
        came: int | None = None,
        total: int | None = None,
        source: Source = "dashboard",
    ) -> None:
        super().__init__(rows)
        self.came = len(rows) if came is None else came
        self.total = total
        self.source = source


class ParticipantReader:
    """Reads the participants of meetings, from the Dashboard or from reports."""

    def __init__(
        self, api: Api, pager: Pager, probe: Probe, dashboard: Dashboard, clock: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._pager = pager
        self._probe = probe
        self._dashboard = dashboard
        self._clock = clock

    def participants(self, uuid: str, kind: ListKind) -> Participants:
        """Return the participants of a meeting, one row for each join.

        Args:
            uuid: The meeting's uuid.
            kind: The list that the meeting was in.

        Raises:
            MeetingUnavailableError: Zoom does not have them. Count the meeting and skip it.
            PoisonError: Zoom refuses this meeting but answers for others.
            RetryableError: Zoom fails for this meeting and for others: an outage.
        """
        if self._dashboard.source() == "dashboard":
            try:
                return self._of_meeting(PARTICIPANTS, uuid, kind)
            except NoDashboardError as error:
                # Zoom refuses several meetings. Only the list says whether the account has a Dashboard.
                if not self._has_no_dashboard():
                    raise
                self._dashboard.note_missing(error)
        return self._of_meeting(REPORTED_PARTICIPANTS, uuid, kind)

    def _of_meeting(self, endpoint: Endpoint, uuid: str, kind: ListKind) -> Participants:
        """Return the participants of a meeting. If that fails, try other meetings to judge the failure."""
        another = functools.partial(self._probe.answers_another, endpoint, uuid, most=MOST_AFTER_FAILURE)
        with self._probe.judge_429(uuid, another):
            found = self._judged(endpoint, uuid, kind)
        self._probe.note_answered(endpoint, uuid, kind)
        return found

    def _judged(self, endpoint: Endpoint, uuid: str, kind: ListKind) -> Participants:
        try:
            return self._of_either_list(uuid, kind) if endpoint is PARTICIPANTS else self._all(endpoint, {}, uuid)
        except MeetingUnavailableError as error:
            if error.code == HTTPStatus.NOT_FOUND and not self._probe.answers_others(
                endpoint, uuid, most=MOST_AFTER_REFUSAL
            ):
                raise BlockedError(f"{error} Zoom says the same of other meetings. Check ZOOM_API_URL.") from error
            raise
        except SourceError as error:
            if self._probe.answers_others(endpoint, uuid, most=MOST_AFTER_FAILURE):
                raise
            raise RetryableError(f"{error} It answers for no other meeting either.") from error
        except (BlockedError, PoisonError) as error:
            others = self._probe.answers_others(endpoint, uuid, most=MOST_AFTER_REFUSAL)
            judged = verdict(error, others=others)
            if judged is error:
                raise
            raise judged from error

    def _of_either_list(self, uuid: str, kind: ListKind) -> Participants:
        """Return the Dashboard's rows from both lists: a meeting may be in either, in both, or move to the other.

        In the wrong list, Zoom does not find it or shows nobody.
        """
        other = next(one for one in KINDS if one != kind)
        try:
            found = self._all(PARTICIPANTS, {"type": kind}, uuid)
        except MeetingUnavailableError as error:
            if error.code not in answers.NOT_IN_THIS_LIST:
                raise
            try:
                return self._all(PARTICIPANTS, {"type": other}, uuid)
            except MeetingUnavailableError:
                raise error from None
        if not found:
            with contextlib.suppress(MeetingUnavailableError):
                return self._all(PARTICIPANTS, {"type": other}, uuid)
        return found

    def _all(self, endpoint: Endpoint, params: Mapping[str, str], uuid: str) -> Participants:
        """Return the rows of all pages, each once, because pages may repeat rows while Zoom's data settles."""
        rows: dict[str, Any] = {}
        progress = Progress("")
        for page in self._pager.pages(endpoint, params, uuid):
            if page.first:
                rows.clear()
            rows.update({json.dumps(row, sort_keys=True): row for row in page.rows})
            progress = page.progress
        report = endpoint is REPORTED_PARTICIPANTS
        return Participants(
            list(map(read_reported_participant if report else read_participant, rows.values())),
            came=progress.rows,
            total=progress.total,
            source="report" if report else "dashboard",
        )

    def _has_no_dashboard(self) -> bool:
        """Return whether the account has no Dashboard, according to the list of meetings."""
        today = self._clock().astimezone(UTC).date().isoformat()
        params = {"type": KINDS[0], "query_date_type": "start_time", "from": today, "to": today, "page_size": "1"}
        try:
            self._api.ask(MEETINGS, params)
        except NoDashboardError:
            return True
        except (SourceError, BlockedError):
            return False
        return False
