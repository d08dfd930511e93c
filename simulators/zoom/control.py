"""The control interface under /_sim/ of the Zoom simulator; the package's docstring lists it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta

from simulators.control import Controls, Members, read_members, read_number, read_text, read_whole
from simulators.wire import Request
from simulators.zoom.endpoints import NAMES
from simulators.zoom.faults import parse_fault
from simulators.zoom.generator import Generator
from simulators.zoom.quotas import LABELS
from simulators.zoom.site import Site
from simulators.zoom.world import Meeting, Session

_MEETING = {"uuid", "id", "topic", "seconds", "defective", "delay_seconds", "sessions", "host"}
_SESSION = {field.name for field in fields(Session)}


class Control(Controls):
    """Scripts a running site; reports its true data and the requests that it received."""

    def __init__(self, site: Site) -> None:
        """Control `site`."""
        self._site = site
        super().__init__(
            {
                "GET /_sim/requests": self._requests,
                "POST /_sim/reset-requests": self._reset_requests,
                "GET /_sim/truth": self._truth,
                "POST /_sim/meetings": self._add_meeting,
                "PATCH /_sim/meetings": self._change_meeting,
                "DELETE /_sim/meetings": self._remove_meeting,
                "POST /_sim/options": self._change_options,
                "POST /_sim/consume": self._consume,
                "POST /_sim/revoke": self._revoke,
            },
            faults=site.faults,
            parse_fault=lambda order: parse_fault(order, NAMES),
            set_clock=site.set_clock,
        )

    def _requests(self, _: Request) -> object:
        return {
            **self._site.log.read(),
            "labels": self._site.quotas.read(self._site.rules),
            "tokens": self._site.gate.issued,
        }

    def _reset_requests(self, _: Request) -> object:
        self._site.log.reset()
        self._site.quotas.forget_log()
        self._site.gate.forget_log()
        return {}

    def _truth(self, request: Request) -> object:
        day = request.parameter("from") or self._site.options.date.isoformat()
        start = _day_ms(day)
        end = _day_ms(request.parameter("to") or day) + int(timedelta(days=1).total_seconds()) * 1000
        return self._site.truth(start, end, keys=request.parameter("sessions") == "1")

    def _add_meeting(self, request: Request) -> object:
        members = read_members(request, _MEETING | {"start", "people"})
        start_ms = _instant_ms(members, "start")
        duration_ms = _ms(members, "seconds", 1800.0)
        people = read_whole(members, "people", 2)
        meeting = self._site.post(
            start_ms, duration_ms, people, lambda made: self._edit(made, members, {"start", "seconds"})
        )
        return {"uuid": meeting.uuid, "id": meeting.id, "rows": len(meeting.sessions)}

    def _change_meeting(self, request: Request) -> object:
        members = read_members(request, _MEETING | {"more_people"})
        uuid = read_text(members, "uuid", None)

        def change(meeting: Meeting, generator: Generator) -> None:
            self._edit(meeting, members, {"uuid"})
            meeting.sessions = meeting.sessions + generator.sessions(
                meeting, read_whole(members, "more_people", 0)
            )

        meeting = self._site.change(uuid or "", change)
        return {"uuid": meeting.uuid, "rows": len(meeting.sessions)}

    def _remove_meeting(self, request: Request) -> object:
        self._site.remove(read_text(read_members(request, {"uuid"}), "uuid", None) or "")
        return {}

    def _edit(self, meeting: Meeting, members: Members, done: set[str]) -> None:
        """Set what `members` name, except what is `done`; validate everything before changing anything."""
        readers: dict[str, tuple[str, Callable[[], object]]] = {
            "uuid": ("uuid", lambda: read_text(members, "uuid", "")),
            "id": ("id", lambda: read_whole(members, "id", 0)),
            "topic": ("topic", lambda: read_text(members, "topic", "")),
            "seconds": ("end_ms", lambda: meeting.start_ms + _ms(members, "seconds")),
            "defective": ("defective", lambda: bool(members["defective"])),
            "delay_seconds": ("delay_ms", lambda: _ms(members, "delay_seconds")),
            "host": ("host", lambda: self._host(read_text(members, "host", "") or "")),
            "sessions": ("sessions", lambda: _sessions(members["sessions"], meeting)),
        }
        changes = {
            attribute: read() for name, (attribute, read) in readers.items() if name in members.keys() - done
        }
        for attribute, value in changes.items():
            setattr(meeting, attribute, value)

    def _host(self, id_or_email: str) -> object:
        person = self._site.read(lambda world: world.person(id_or_email))
        if person is None:
            raise ValueError(f"host: no user {id_or_email}")
        return person

    def _change_options(self, request: Request) -> object:
        wanted = read_members(request, None)
        self._site.change_options(wanted)
        return wanted

    def _consume(self, request: Request) -> object:
        members = read_members(request, {"label", "calls"})
        label = next((one for one in LABELS if one == members.get("label")), None)
        if label is None:
            raise ValueError(f"label: expected one of {', '.join(LABELS)}, got {members.get('label')!r}")
        self._site.quotas.consume(label, read_whole(members, "calls", 1), self._site.rules)
        return {}

    def _revoke(self, _: Request) -> object:
        self._site.gate.revoke()
        return {}


def _sessions(value: object, meeting: Meeting) -> list[Session]:
    """Read a list of sessions; missing members are taken from the meeting's first session."""
    if not isinstance(value, list) or not all(isinstance(members, dict) for members in value):
        raise ValueError("sessions: expected a list of objects")
    return [_session(members, meeting.sessions[0], number) for number, members in enumerate(value)]


def _session(members: Mapping[str, object], like: Session, number: int) -> Session:
    unknown = members.keys() - _SESSION
    if unknown:
        raise ValueError(f"{min(unknown)}: no such member of a session")
    defaults = {"person": number, "user_id": str(20_000_000 + number), "participant_uuid": f"POSTED-{number}"}
    return replace(like, **{**defaults, **members})  # type: ignore[arg-type] # members of a Session, from JSON


def _ms(members: Members, name: str, default: float | None = None) -> int:
    return int(read_number(members, name, default) * 1000)


def _day_ms(text: str) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"from, to: expected a day like 2026-11-20, got {text!r}") from error
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _instant_ms(members: Members, name: str) -> int:
    text = read_text(members, name, None)
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError as error:
        raise ValueError(f"{name}: expected an ISO time like 2026-11-20T16:00:00Z, got {text!r}") from error
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
