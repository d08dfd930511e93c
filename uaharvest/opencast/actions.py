"""Parses and normalises rows of the usertracking table."""

import datetime as dt
import functools
from collections.abc import Mapping
from typing import Any

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

# Cached, because many rows share the same second.
_instant = functools.lru_cache(maxsize=4096)(dt.datetime.fromisoformat)


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
    names = (text(session.get("sessionId")), text(session.get("userId")), text(session.get("userIp")))
    omitted: tuple[str, ...] = ()
    agent = text(session.get("userAgent"))
    if OMITTED in names:
        omitted = tuple(lack for lack, name in zip(SWITCHES, names, strict=True) if name == OMITTED)
        # All viewers share this session, so its values belong to whoever came first.
        shared = names[0] == OMITTED
        names = (None, None, None) if shared else (names[0], _given(names[1]), _given(names[2]))
        agent = None if shared else agent
    ip, proxies = _addresses(names[2])
    is_playing, is_live = _playing(raw.get("isPlaying"))
    return UserAction(
        number,
        _created(raw.get("created"), number),
        text(raw.get("mediapackageId")),
        names[0],
        names[1],
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
        created = dt.datetime.min  # noqa: DTZ901 - refused below
    # Times in the first and the last year of the calendar overflow when converted to UTC.
    if created.tzinfo is None or not dt.MINYEAR < created.year < dt.MAXYEAR:
        raise PoisonError(
            f"Useraction {number} has no usable 'created'; expected a time with its offset, such as"
            " 2014-09-01T12:46:18-04:00."
        )
    return created


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
