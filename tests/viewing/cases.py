"""What the tests of viewings share: useractions in few words, and viewers of known truth as useractions."""

from pathlib import Path

import pytest

from uaharvest.viewing.actions import Action, Actions
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import measures

START = 1_700_000_000
HOUR = {"r": 3600.0}


def oracle(*path):
    """Return a file of the published answers; skip where they are not there."""
    for folder in Path(__file__).resolve().parents[2:]:
        if (found := (folder / "shared/oracles").joinpath(*path)).exists():
            return found
    pytest.skip("the published answers (shared/oracles beside the repository) are not there")
    return None


def said(what, at, position, out=None, **fields):
    """Return a useraction `at` seconds after START. HEARTBEAT- is one of a paused player."""
    kind = what.rstrip("-")
    playing = what != "HEARTBEAT-" and kind != "PAUSE"
    row = {
        "id": at,
        "at": START + at,
        "recording": "r",
        "viewer": "v",
        "session": "s",
        "type": kind,
        "inpoint": position,
        "outpoint": position if out is None else out,
        "playing": playing,
        "live": False,
    }
    return Action(**row | fields)


def beats(*positions, start=0, **fields):
    """Return heartbeats, the first 30 s after `start`; `None` is a lost one, a string one of a paused player."""
    return [
        said(f"HEARTBEAT{'-' * isinstance(position, str)}", start + 30 * number, int(position), **fields)
        for number, position in enumerate(positions, 1)
        if position is not None
    ]


def played(rows, durations=HOUR):
    """Return what was played, as (start, end, began, ended); times are seconds after START."""
    found = viewings(Actions.of(rows), durations)
    return [
        tuple(round(float(value), 2) for value in row)
        for row in zip(found.start, found.end, found.began - START, found.ended - START, strict=True)
    ]


def parts(rows, durations=HOUR):
    """Return what was played without the times."""
    return [row[:2] for row in played(rows, durations)]


def measured(rows, durations=HOUR):
    """Return the measures of the only viewer."""
    [one] = measures(viewings(Actions.of(rows), durations), durations)
    return one


def actions_of(rows):
    """Return a simulator's rows as useractions."""
    return Actions.of(
        Action(
            id=row.id,
            at=row.created_ms / 1000,
            recording=row.mediapackage,
            viewer=row.session.user,
            session=row.session.id,
            type=row.type,
            inpoint=row.inpoint,
            outpoint=row.outpoint,
            playing=row.playing > 0,
            live=row.playing == 2,
        )
        for row in rows
    )
