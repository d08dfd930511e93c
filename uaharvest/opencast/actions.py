"""One row of the usertracking table, made regular."""

import datetime as dt
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from uaharvest.errors import PoisonError
from uaharvest.opencast.foreign import text, whole

OMITTED = "-omitted-"
"""What Opencast >= 6 stores in place of user, address and session unless the site has it log them."""

SWITCH = "org.opencastproject.usertracking"
CONFIGURATION = "etc/org.opencastproject.usertracking.impl.UserTrackingServiceImpl.cfg"
SWITCHES = {"without_session": "log.session", "without_user": "log.user", "without_address": "log.ip"}
"""Names of counts: rows that lack what one of Opencast's switches (org.opencastproject.usertracking...) leaves out."""

# Harvard DCE's Matterhorn has 0, 1 and 2 (live). Stock Opencast has a boolean, which does not say whether it was live.
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

# Rows of the same second have the same text, and then share one instant.
_instant = functools.lru_cache(maxsize=4096)(dt.datetime.fromisoformat)


class UserAction(NamedTuple):
    """What a viewer did; no dataclass, for a frozen one takes five times as long to make, and there are millions.

    Attributes:
        id: The row's id; not monotonic in `created`, for it is handed out in blocks per node.
        created: Aware, with the offset that the source gave it: the check of the zone needs that.
        mpid: The mediapackage.
        session: The viewer's HTTP session.
        user: The login name.
        ip: The address of the client as it or its first proxy gave it.
        proxies: The further addresses of X-Forwarded-For.
        agent: The browser, cut by Opencast at 255 characters.
        type: HEARTBEAT, PLAY, SEEK …
        inpoint: Seconds into the video.
        outpoint: Seconds into the video.
        length: Seconds; the source may have it negative.
        is_playing: Not paused.
        is_live: Playing a live stream, as the player said; None where it does not say.
        omitted: What the source was told to leave out of this row: keys of SWITCHES.
    """

    id: int
    created: dt.datetime
    mpid: str | None
    session: str | None
    user: str | None
    ip: str | None
    proxies: tuple[str, ...]
    agent: str | None
    type: str | None
    inpoint: int | None
    outpoint: int | None
    length: int | None
    is_playing: bool
    is_live: bool | None
    omitted: tuple[str, ...] = ()


def read_action(raw: dict[str, Any]) -> UserAction:
    """Make a row of `actions.json` regular; only `id` and `created` are needed.

    Raises:
        PoisonError: `id` or `created` is missing or cannot be used.
    """
    number = whole(raw.get("id"))
    if number is None:
        raise PoisonError("A useraction has no usable 'id'; expected a whole number.")
    nested = raw.get("sessionId")
    # Opencast >= 2 nests the session, Matterhorn <= 1.6 has its members on the action itself.
    session = nested if isinstance(nested, dict) else raw
    names = (text(session.get("sessionId")), text(session.get("userId")), text(session.get("userIp")))
    omitted: tuple[str, ...] = ()
    agent = text(session.get("userAgent"))
    if OMITTED in names:
        omitted = tuple(lack for lack, name in zip(SWITCHES, names, strict=True) if name == OMITTED)
        # One session for everybody: what is said of it is true of whoever came first.
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


def told_omitted(counts: Mapping[str, int]) -> str:
    """Return what to say to an operator about rows of which something was left out; "" if nothing was.

    Args:
        counts: Of a run.
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
    # The first and the last year there is cannot be brought to UTC from every offset.
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
    if isinstance(value, bool):  # also equal to 0 or 1, which say more
        return value, None
    if isinstance(value, str):
        value = value.lower()
    try:
        return _PLAYING.get(value, _UNKNOWN)
    except TypeError:  # a list or an object, which cannot be looked up
        return _UNKNOWN
