"""Parses and normalises rows of the usertracking table."""

import datetime as dt
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from uaharvest.coerce import text, whole
from uaharvest.errors import PoisonError
from uaharvest.rows.useractions import OMITTED, UserAction

SWITCH = "org.opencastproject.usertracking"
CONFIGURATION = "etc/org.opencastproject.usertracking.impl.UserTrackingServiceImpl.cfg"
SWITCHES = {"without_session": "log.session", "without_user": "log.user", "without_address": "log.ip"}
"""Names of counts: rows that lack what one of Opencast's switches (org.opencastproject.usertracking...) leaves out."""
_MEMBERS = {"without_session": "sessionId", "without_user": "userId", "without_address": "userIp"}

# Harvard DCE's Matterhorn has 0, 1 and 2 (live). Stock Opencast has a boolean, which does not show live playback.
_PLAYING = {
    "true": (True, None),
    "false": (False, None),
    0: (False, False),
    "0": (False, False),
    1: (True, False),
    "1": (True, False),
    2: (True, True),
    "2": (True, True),
    "live": (True, True),
}
_UNKNOWN = (False, None)
_NUMBERS: Mapping[int, tuple[bool, bool | None]] = {
    value: meaning for value, meaning in _PLAYING.items() if isinstance(value, int)
}

# UserAction's own constructor takes twice as long.
_action = functools.partial(tuple.__new__, UserAction)

Unreadable = tuple[dict[str, Any], str]
"""A raw row that cannot be read, and the reason."""
_Viewer = tuple[str | None, str | None, str | None, tuple[str, ...], str | None, tuple[str, ...]]
_Scalar = str | int | float | bool | None


class _JsonSession(msgspec.Struct, gc=False):
    sessionId: _Scalar = None  # noqa: N815 - Opencast's names, here and below
    userId: _Scalar = None  # noqa: N815
    userIp: _Scalar = None  # noqa: N815
    userAgent: _Scalar = None  # noqa: N815


class _JsonRow(msgspec.Struct, gc=False):
    id: int
    created: str
    sessionId: msgspec.Raw  # noqa: N815
    mediapackageId: _Scalar = None  # noqa: N815
    type: _Scalar = None
    inpoint: _Scalar = None
    outpoint: _Scalar = None
    length: _Scalar = None
    isPlaying: _Scalar = None  # noqa: N815


class _Actions(msgspec.Struct):
    total: _Scalar
    action: list[_JsonRow]


class _Answer(msgspec.Struct):
    actions: _Actions


_decode = msgspec.json.Decoder(_Answer).decode
_decode_session = msgspec.json.Decoder(_JsonSession).decode


def read_page(content: bytes) -> tuple[int, list[UserAction]] | None:
    """Return the total and the rows of a response of `actions.json`, or None if anything in it is unusual.

    That is a row that cannot be read, a page of one or no row, rows of Matterhorn <= 1.6, a lone surrogate, NaN …:
    `json` and `read_rows` read those too, but take three times as long.
    """
    try:
        actions = _decode(content).actions
        rows: list[Any] = actions.action
        for place, row in enumerate(rows):  # in place, which frees one row after the other
            rows[place] = _read_typed(row)
    except (msgspec.MsgspecError, PoisonError, ValueError, RecursionError):
        return None
    total = whole(actions.total)
    return None if total is None or total < 0 else (total, rows)


def read_rows(rows: Iterable[dict[str, Any]]) -> tuple[list[UserAction], list[Unreadable]]:
    """Parse rows of `actions.json`; return those that can be read and those that cannot."""
    actions: list[UserAction] = []
    unreadable: list[Unreadable] = []
    for row in rows:
        try:
            actions.append(read_action(row))
        except PoisonError as error:
            unreadable.append((row, str(error)))
    return actions, unreadable


def read_action(raw: dict[str, Any]) -> UserAction:
    """Parse a row of `actions.json`. Only `id` and `created` are required.

    Raises:
        PoisonError: `id` or `created` is missing or unusable.
    """
    try:
        return _read(raw)
    except PoisonError:
        raise
    except Exception as error:  # malformed in any way; other rows may be fine
        raise PoisonError(f"A useraction cannot be read ({type(error).__name__}).") from error


def _read(raw: dict[str, Any]) -> UserAction:
    number = whole(raw.get("id"))
    if number is None:
        raise PoisonError("A useraction has no usable 'id'; expected a whole number.")
    nested = raw.get("sessionId")
    # Opencast >= 2 nests the session. Matterhorn <= 1.6 has its members in the action itself.
    session = nested if isinstance(nested, dict) else raw
    name, user, ip, proxies, agent, omitted = _viewer(
        session.get("sessionId"), session.get("userId"), session.get("userIp"), session.get("userAgent")
    )
    is_playing, is_live = _playing(raw.get("isPlaying"))
    return UserAction(
        number,
        _created(raw.get("created"), number),
        text(raw.get("mediapackageId")),
        name,
        user,
        ip,
        proxies,
        agent,
        text(raw.get("type")),
        whole(raw.get("inpoint")),
        whole(raw.get("outpoint")),
        whole(raw.get("length")),
        is_playing,
        is_live,
        omitted,
    )


def _read_typed(row: _JsonRow) -> UserAction:
    """Do the same as `_read`, without a call for values of the usual types: this runs for each useraction."""
    name, user, ip, proxies, agent, omitted = _known_viewer(bytes(row.sessionId))
    mpid, type_, playing = row.mediapackageId, row.type, row.isPlaying
    inpoint, outpoint, length = row.inpoint, row.outpoint, row.length
    is_playing, is_live = _NUMBERS.get(playing, _UNKNOWN) if type(playing) is int else _playing(playing)
    return _action(
        (
            row.id,
            _instant(row.created) or _created(row.created, row.id),
            mpid or None if type(mpid) is str else text(mpid),
            name,
            user,
            ip,
            proxies,
            agent,
            type_ or None if type(type_) is str else text(type_),
            inpoint if type(inpoint) is int else whole(inpoint),
            outpoint if type(outpoint) is int else whole(outpoint),
            length if type(length) is int else whole(length),
            is_playing,
            is_live,
            omitted,
        )
    )


def _viewer(session: Any, user: Any, address: Any, agent: Any) -> _Viewer:
    """Return the values of UserAction that a session has: session, user, ip, proxies, agent, omitted."""
    names = (text(session), text(user), text(address))
    omitted: tuple[str, ...] = ()
    browser = text(agent)
    if OMITTED in names:
        omitted = tuple(lack for lack, name in zip(SWITCHES, names, strict=True) if name == OMITTED)
        # All viewers share this session, so its values belong to whoever came first.
        shared = names[0] == OMITTED
        names = (None, None, None) if shared else (names[0], _given(names[1]), _given(names[2]))
        browser = None if shared else browser
    ip, proxies = _addresses(names[2])
    return names[0], names[1], ip, proxies, browser, omitted


# Cached, because a player reports twice a minute, and so that rows share their texts.
@functools.lru_cache(maxsize=4096)
def _known_viewer(session: bytes) -> _Viewer:
    """Return the same as `_viewer` for a session in JSON."""
    given = _decode_session(session)
    return _viewer(given.sessionId, given.userId, given.userIp, given.userAgent)


def raw_action(action: UserAction) -> dict[str, Any]:
    """Return a row that `read_action` parses to the same action."""
    proxies = ", ".join(action.proxies)
    session = {
        "sessionId": action.session,
        "userId": action.user,
        "userIp": f"{action.ip or ''}, {proxies}" if proxies else action.ip,
        "userAgent": action.agent,
    }
    session |= {name: OMITTED for lack, name in _MEMBERS.items() if lack in action.omitted}
    return {
        "id": action.id,
        "created": action.created.isoformat(),
        "mediapackageId": action.mpid,
        "sessionId": session,
        "type": action.type,
        "inpoint": action.inpoint,
        "outpoint": action.outpoint,
        "length": action.length,
        "isPlaying": 2
        if action.is_live
        else int(action.is_playing)
        if action.is_live is False
        else action.is_playing,
    }


def report_omitted(counts: Mapping[str, int]) -> str:
    """Return a note for operators about omitted values; "" if nothing was omitted.

    Args:
        counts: The counts of a run.
    """
    lacks = sorted(lack for lack in SWITCHES if counts.get(lack))
    if not lacks:
        return ""
    what = ", ".join(f"{lack.removeprefix('without_')} of {counts[lack]:,}" for lack in lacks)
    switches = ", ".join(f"{SWITCH}.{SWITCHES[lack]}" for lack in lacks)
    shared = " Without sessions nobody's browser is known either." if "without_session" in lacks else ""
    return (
        f"Opencast left out ('{OMITTED}') the {what} useractions.{shared} It keeps them from then on if {switches} "
        f"{'is' if ',' not in switches else 'are'} true in {CONFIGURATION} (false by default since Opencast 6)."
    )


def _created(value: Any, number: int) -> dt.datetime:
    try:
        created = _instant(value)
    except (TypeError, ValueError):
        created = None
    if created is None:
        raise PoisonError(
            f"Useraction {number} has no usable 'created'; expected a time with its offset, such as"
            " 2014-09-01T12:46:18-04:00."
        )
    return created


# Cached, because many rows share the same second.
@functools.lru_cache(maxsize=4096)
def _instant(value: str) -> dt.datetime | None:
    """Return the time; None if it has no offset, or overflows when converted to UTC (the calendar's end years)."""
    created = dt.datetime.fromisoformat(value)
    return created if created.tzinfo is not None and dt.MINYEAR < created.year < dt.MAXYEAR else None


def _given(name: str | None) -> str | None:
    return None if name == OMITTED else name


def _addresses(forwarded: str | None) -> tuple[str | None, tuple[str, ...]]:
    if forwarded is None or "," not in forwarded:
        return forwarded, ()
    given = [address for address in map(str.strip, forwarded.split(",")) if address]
    return (given[0], tuple(given[1:])) if given else (None, ())


def _playing(value: Any) -> tuple[bool, bool | None]:
    if isinstance(value, bool):  # must come first, because True == 1 and 1 means more
        return value, None
    if isinstance(value, str):
        value = value.lower()
    try:
        return _PLAYING.get(value, _UNKNOWN)
    except TypeError:  # a list or an object, which is not hashable
        return _UNKNOWN
