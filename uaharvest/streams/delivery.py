"""Delivers useractions: enriches them from the episodes and sends them, or makes them dead letters."""

import collections
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents.useraction import record
from uaharvest.errors import BlockedError, PoisonError, PutOffError, RetryableError, SourceError
from uaharvest.opencast.actions import raw_action, read_action
from uaharvest.opencast.cache import TRY_AGAIN_SECONDS, EpisodeCache, Failing
from uaharvest.privacy.people import is_about, normal
from uaharvest.privacy.protection import Protection
from uaharvest.rows.useractions import UserAction
from uaharvest.runs.footprints import HEARTBEAT, Seen
from uaharvest.runs.footprints import TYPE as FOOTPRINT
from uaharvest.runs.stream import SliceReporter
from uaharvest.sinks import Outgoing, Sink
from uaharvest.streams.rows import seconds_of, seen_of
from uaharvest.tolerance import too_many

ERASED = "erased"  # the count of rows that are left out
# Outgoing's own constructor takes three times as long.
_outgoing = functools.partial(tuple.__new__, Outgoing)
# If no other record was built, this plain one shows whether records can be built at all.
PLAIN = read_action({"id": 1, "created": "2026-01-01T00:00:00Z"})


class RecordDelivery:
    """Delivers the useractions of a stream as records."""

    def __init__(
        self,
        stream: str,
        episodes: EpisodeCache,
        sink: Sink,
        dead_letters: DeadLetters,
        protection: Protection,
    ) -> None:
        """Create the delivery.

        Args:
            stream: The name under which undeliverable rows become dead letters.
            episodes: Enriches the rows.
            sink: Receives the records.
            dead_letters: Receives undeliverable rows.
            protection: Protects personal data in records, dead letters and what is known of sessions.
        """
        self._stream = stream
        self._protection = protection
        self._episodes = episodes
        self._sink = sink
        self._dead_letters = dead_letters

    def seen(self, actions: Iterable[UserAction]) -> list[Seen]:
        """Return what footprints need to know of rows."""
        kept, _ = self._without_erased(action for action in actions if action.type != HEARTBEAT)
        session = self._protection.session
        return [
            seen_of(action, session(action.session))
            for action in kept
            if action.session or action.type == FOOTPRINT
        ]

    def send(self, actions: Sequence[UserAction], reporter: SliceReporter) -> int:
        """Enrich and deliver; return how many became dead letters. Rows of people who were erased are left out.

        Raises:
            PutOffError: The search fails for some episodes so far. All rows of other episodes are delivered.
            RetryableError: The search is down, which is never the slice's fault.
        """
        actions, left_out = self._without_erased(actions)
        if left_out:
            self._leave_out([(seconds_of(action), action.id) for action in left_out], reporter)
        mpids = {action.mpid for action in actions if action.mpid}
        try:
            episodes = self._episodes.get_many(mpids)
        except SourceError as error:
            raise RetryableError(str(error)) from error
        lacking = mpids - episodes.keys()
        if not lacking:
            return self._deliver(actions, episodes, reporter)
        failing = self._episodes.failing(lacking)
        waits = [mpid for mpid in lacking if mpid not in failing or not failing[mpid].final]
        rest = [action for action in actions if action.mpid not in lacking]
        if waits:
            self._deliver(rest, episodes, reporter, final=False)
            due = datetime.now(UTC) + timedelta(seconds=TRY_AGAIN_SECONDS)
            raise PutOffError(_refused(failing.get(waits[0])), due)
        dead = self._deliver(rest, episodes, reporter)
        for action in actions:
            if action.mpid in lacking:
                self._give_up(action, _refused(failing[action.mpid]), reporter)
                dead += 1
        return dead

    def give_up_unreadable(
        self,
        unreadable: Sequence[tuple[dict[str, Any], str]],
        *,
        readable: int,
        at: float,
        reporter: SliceReporter,
    ) -> int:
        """Write dead letters for rows that cannot be read; return how many there were.

        Args:
            unreadable: Pairs of raw row and reason.
            readable: How many rows of the same page can be read.
            at: The event time to assume for them, seconds UTC.
            reporter: Where they are reported.

        Raises:
            BlockedError: There are too many for the rows themselves to be at fault.
        """
        if too_many(len(unreadable), readable + len(unreadable)):
            raise BlockedError(
                f"{len(unreadable)} of {readable + len(unreadable)} useractions of Opencast cannot be read: "
                f"{unreadable[0][1]} Its answers may have changed with an upgrade."
            )
        knows = self._protection.erased.knows()
        left_out = 0
        for raw, reason in unreadable:
            payload = self._raw(raw)
            text = json.dumps(payload["raw"], sort_keys=True)
            row_id = str(raw.get("id") or "") or hashlib.sha256(text.encode()).hexdigest()
            if knows and is_about(knows, "row of a useraction", raw):
                self._leave_out([(at, row_id)], reporter)
                left_out += 1
            else:
                self._dead_letter(row_id, at, payload, reason, reporter)
        return len(unreadable) - left_out

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Send the record of a dead letter; return 1, the number of records, or 0 if it is of somebody who was erased.

        Raises:
            PoisonError: It still cannot be read or enriched, or the sink still refuses it.
        """
        knows = self._protection.erased.knows()
        if knows and (
            is_about(knows, "row of a useraction", payload.get("raw") or {})
            or is_about(knows, "useractions", payload.get("record") or {})
        ):
            return 0
        if "raw" in payload:
            action = read_action(payload["raw"])
            mpids = [action.mpid] if action.mpid else []
            episodes = self._episodes.get_many(mpids)
            if action.mpid and action.mpid not in episodes:
                episodes = self._episodes.ask_again(mpids)
            if action.mpid and action.mpid not in episodes:
                raise PoisonError(_refused(self._episodes.failing(mpids).get(action.mpid)))
            body = self._record(action, episodes, more=payload.get("more"))
        else:
            body = json.dumps(self._protection.record(payload["record"]), separators=(",", ":"))
        for delivery in self._sink.deliver([Outgoing("replayed", 0.0, body)]):
            if delivery.refused:
                raise PoisonError(delivery.refused[0][1])
        return 1

    def is_erased(self, action: UserAction) -> bool:
        """Tell whether a row is of somebody who was erased."""
        return bool(self._without_erased([action])[1])

    def _without_erased(self, actions: Iterable[UserAction]) -> tuple[Sequence[UserAction], list[UserAction]]:
        """Return the rows to deliver, and those of people who were erased."""
        knows = self._protection.erased.knows()
        rows = list(actions)
        if knows is None:
            return rows, []
        kept: list[UserAction] = []
        left_out: list[UserAction] = []
        for action in rows:
            known = any(knows(normal(id_)) for id_ in (action.user, action.session) if id_)
            (left_out if known else kept).append(action)
        return kept, left_out

    def _leave_out(self, rows: Sequence[tuple[float, int | str]], reporter: SliceReporter) -> None:
        """Mark rows that are not sent as known, like dead letters."""
        reporter.dead_letter(rows)
        reporter.count({ERASED: len(rows)})

    def _deliver(
        self,
        actions: Sequence[UserAction],
        episodes: Mapping[str, str],
        reporter: SliceReporter,
        *,
        final: bool = True,
    ) -> int:
        """Deliver; return how many became dead letters. Without `final` none do: the slice will be tried again."""
        refused: list[tuple[Outgoing, str]] = []
        unbuilt: list[tuple[UserAction, Exception]] = []
        for delivery in self._sink.deliver(self._outgoing(actions, episodes, unbuilt)):
            reporter.confirm(delivery.confirmed)
            refused.extend(delivery.refused)
        reporter.count(collections.Counter(lack for action in actions for lack in action.omitted))
        _judge(unbuilt, len(actions))
        if not final:
            return 0
        for row, reason in refused:
            self._dead_letter(row.id, row.at, {"record": json.loads(row.body)}, reason, reporter)
        for action, error in unbuilt:
            self._give_up(action, f"Its record cannot be built ({type(error).__name__}).", reporter)
        return len(refused) + len(unbuilt)

    def _outgoing(
        self,
        actions: Iterable[UserAction],
        episodes: Mapping[str, str],
        unbuilt: list[tuple[UserAction, Exception]],
    ) -> Iterator[Outgoing]:
        """Yield the records; those that cannot be built go to `unbuilt`."""
        for action in actions:
            try:
                body = self._record(action, episodes)
            except Exception as error:  # noqa: BLE001 - `_judge` decides whose fault it is
                unbuilt.append((action, error))
            else:
                yield _outgoing((action.id, seconds_of(action), body))

    def _record(
        self, action: UserAction, episodes: Mapping[str, str], *, more: Mapping[str, Any] | None = None
    ) -> str:
        """Return the record of a row, protected; `more` are members that its dead letter has kept."""
        members = f",{json.dumps(more, separators=(',', ':'))[1:-1]}" if more else None
        return record(action, episodes.get(action.mpid or "", "{}"), self._protection.writers, members)

    def _give_up(self, action: UserAction, reason: str, reporter: SliceReporter) -> None:
        self._dead_letter(action.id, seconds_of(action), self._raw(raw_action(action)), reason, reporter)

    def _raw(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the payload of the dead letter of a row."""
        more = self._protection.more_of(raw)
        return {"raw": self._protection.raw_action(raw), **({"more": more} if more else {})}

    def _dead_letter(
        self, row_id: int | str, at: float, payload: dict[str, Any], reason: str, reporter: SliceReporter
    ) -> None:
        """Write a record's dead letter, then report the record as known."""
        self._dead_letters.put(DeadLetter.of_record(self._stream, row_id, reason, payload))
        reporter.dead_letter([(at, row_id)])


def _judge(unbuilt: Sequence[tuple[UserAction, Exception]], tried: int) -> None:
    """Return if the records themselves are the reason that they cannot be built; raise if our code is."""
    if too_many(len(unbuilt), tried):
        raise unbuilt[0][1]
    if unbuilt and len(unbuilt) == tried:
        record(PLAIN, "{}")


def _refused(failing: Failing | None) -> str:
    """Return the reason for a useraction whose episode cannot be looked up."""
    reason = failing.reason if failing else "It is requested again."
    return f"Its episode cannot be looked up, though others can: {reason}"
