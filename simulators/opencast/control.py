"""The control interface under /_sim/: no login, JSON in and out, errors that say what was expected."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from random import Random

from simulators.control import Controls, Members, read_members, read_number, read_text, read_whole
from simulators.opencast.faults import parse_fault
from simulators.opencast.rows import Row
from simulators.opencast.site import Site
from simulators.opencast.viewers import PLAYERS, Habits, Viewer, make_live_viewer, make_viewer
from simulators.wire import Request

_KINDS = ("actions", "search", "workflow", "other")
_ROW_MEMBERS = {
    *("created", "id", "mediapackage", "user", "ip", "agent", "session"),
    *("type", "inpoint", "outpoint", "length", "playing"),
}


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
                "GET /_sim/episodes": self._episodes,
                "POST /_sim/rows": self._rows,
                "POST /_sim/delete": self._delete,
                "POST /_sim/viewers": self._viewers,
                "POST /_sim/grow": self._grow,
                "GET /_sim/footprints": self._footprints,
                "POST /_sim/footprints": self._report_footprints,
                "POST /_sim/insert-while-reading": self._insert_while_reading,
            },
            faults=site.faults,
            parse_fault=parse_fault,
            set_clock=site.set_clock,
        )

    def _requests(self, _: Request) -> object:
        counts, statuses, actions = self._site.log.read()
        return {
            **{kind: counts.get(kind, 0) for kind in _KINDS},
            "statuses": {str(status): count for status, count in statuses.items()},
            "actions_times": [asked.at for asked in actions],
            "actions_log": [asdict(asked) for asked in actions],
        }

    def _reset_requests(self, _: Request) -> object:
        self._site.log.reset()
        return {}

    def _truth(self, request: Request) -> object:
        start, end = _bound(request, "start"), _bound(request, "end")
        # The window is half-open and in whole milliseconds, so its last millisecond is end - 1.
        ids = self._site.truth(start, end - 1, with_late=request.parameter("all") == "1")
        return {"ids": ids, "count": len(ids)}

    def _episodes(self, _: Request) -> object:
        return {"episodes": [asdict(episode) for episode in self._site.episodes]}

    def _rows(self, request: Request) -> object:
        asked = read_members(request, {"rows"}).get("rows")
        if not isinstance(asked, list) or not all(isinstance(members, dict) for members in asked):
            raise ValueError("rows: expected a list of objects")
        rows = [self._row(members) for members in asked]
        ids = [row.id for row in rows]
        if len(set(ids)) != len(ids):
            raise ValueError("id: the same one twice")
        reported = self._site.store(rows)
        return {"ids": ids, "created": [reported_ms / 1000 for reported_ms in reported]}

    def _delete(self, request: Request) -> object:
        self._site.delete(_ids(read_members(request, {"ids"})))
        return {}

    def _report_footprints(self, request: Request) -> object:
        asked = read_members(request, {"rows"}).get("rows")
        if not isinstance(asked, list) or not all(isinstance(members, dict) for members in asked):
            raise ValueError("rows: expected a list of objects")
        rows = [self._row({**members, "type": "FOOTPRINT"}) for members in asked]
        return {"ids": self._site.report_footprints(rows)}

    def _footprints(self, request: Request) -> object:  # noqa: ARG002 - all of them
        return {"seconds": {str(row.id): row.length for row in self._site.footprints()}}

    def _viewers(self, request: Request) -> object:
        members = read_members(
            request, {"viewers", "users", "player", "mediapackage", "duration", "start", "lost", "seed", "live"}
        )
        player, recording = read_text(members, "player", "heartbeats"), read_text(members, "mediapackage", None)
        if player not in PLAYERS:
            raise ValueError(f"player: expected one of {', '.join(sorted(PLAYERS))}, got {player!r}")
        if not recording:
            raise ValueError("mediapackage: expected the id of a recording")
        duration, lost = read_number(members, "duration", 3600), read_number(members, "lost", 0)
        if duration < 60 or not 0 <= lost <= 1:
            raise ValueError("duration, lost: expected at least 60 seconds, and a share from 0 to 1")
        start, live = read_number(members, "start"), members.get("live") is True
        rng = Random(f"viewers {read_whole(members, 'seed', 1)}")
        viewers = [
            make_live_viewer(rng, recording, duration, start, user)
            if live
            else make_viewer(rng, recording, duration, start, Habits(), user)
            for user in _users(members)
        ]
        ids = self._site.report(viewers, PLAYERS[player], rng, lost)
        return {"ids": ids, "viewers": [_truth(viewer) for viewer in viewers]}

    def _row(self, members: Members) -> Row:
        unknown = members.keys() - _ROW_MEMBERS
        if unknown:
            raise ValueError(f"{min(unknown)}: no such member of a row")
        created, row_id = read_number(members, "created"), members.get("id")
        if row_id is not None and (isinstance(row_id, bool) or not isinstance(row_id, int)):
            raise ValueError(f"id: expected a whole number, got {row_id!r}")
        row = self._site.new_row(created, row_id)
        inpoint = read_whole(members, "inpoint", row.inpoint)
        outpoint = read_whole(members, "outpoint", inpoint + row.length)
        playing = read_whole(members, "playing", row.playing)
        if playing not in (0, 1, 2):
            raise ValueError(f"playing: expected 0, 1 or 2, got {playing}")
        session = replace(
            row.session,
            id=read_text(members, "session", row.session.id) or "",
            user=read_text(members, "user", row.session.user),
            ip=read_text(members, "ip", row.session.ip),
            agent=read_text(members, "agent", row.session.agent),
        )
        return replace(
            row,
            session=session,
            mediapackage=read_text(members, "mediapackage", row.mediapackage) or "",
            type=read_text(members, "type", row.type) or "",
            inpoint=inpoint,
            outpoint=outpoint,
            length=read_whole(members, "length", outpoint - inpoint),
            playing=playing,
        )

    def _grow(self, request: Request) -> object:
        members = read_members(request, {"seconds", "ids"})
        only = None if members.get("ids") is None else _ids(members)
        ids = self._site.grow_footprints(read_whole(members, "seconds", 5), only)
        return {"ids": ids, "count": len(ids)}

    def _insert_while_reading(self, request: Request) -> object:
        members = read_members(request, {"rows_per_request", "back_seconds"})
        rows, back_seconds = read_whole(members, "rows_per_request", 0), read_number(members, "back_seconds", 60)
        if rows < 0 or back_seconds < 0:
            raise ValueError("rows_per_request, back_seconds: expected at least 0")
        self._site.insert_while_reading(rows, back_seconds)
        return {"rows_per_request": rows, "back_seconds": back_seconds}


def _users(members: Members) -> Sequence[str | None]:
    """Return the viewers' users: those that `users` names, or None for each of `viewers`."""
    users = members.get("users")
    if users is None:
        return [None] * read_whole(members, "viewers", 1)
    if "viewers" in members or not isinstance(users, list) or not all(users) or set(map(type, users)) - {str}:
        raise ValueError(f"users: expected a list of users, and no viewers, got {users!r}")
    return users


def _truth(viewer: Viewer) -> dict[str, object]:
    return {
        "user": viewer.user,
        "seen": viewer.seen(),
        "seen_s": viewer.seen_s,
        "watched_s": viewer.watched_s,
        "live_s": viewer.live_s,
    }


def _ids(members: Members) -> frozenset[int]:
    ids = members.get("ids")
    if not (isinstance(ids, list) and all(isinstance(row, int) for row in ids)):
        raise ValueError(f"ids: expected a list of whole numbers, got {ids!r}")
    return frozenset(ids)


def _bound(request: Request, name: str) -> int:
    """Read epoch seconds from the query and round them up to a whole millisecond."""
    text = request.parameter(name)
    try:
        return math.ceil(round(float(text) * 1000, 3))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected epoch seconds, got {text!r}") from error
