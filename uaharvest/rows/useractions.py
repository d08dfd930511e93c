"""A row of Opencast's usertracking table."""

import datetime as dt
from typing import NamedTuple

OMITTED = "-omitted-"
"""What Opencast >= 6 stores in place of user, address and session unless the site has it log them."""


class UserAction(NamedTuple):
    """A viewer's action.

    This is not a frozen dataclass, because creating one takes five times as long, and there are millions of rows.

    Attributes:
        id: The row's id. Not monotonic in `created`, because ids are allocated in blocks per node.
        created: Aware, with the UTC offset that the source sent; the time zone check needs it.
        mpid: The mediapackage's id.
        session: The viewer's HTTP session.
        user: The login name.
        ip: The client's address, as reported by the client or its first proxy.
        proxies: The other addresses in X-Forwarded-For.
        agent: The user agent, cut off by Opencast at 255 characters.
        type: HEARTBEAT, PLAY, SEEK …
        inpoint: Seconds into the video.
        outpoint: Seconds into the video.
        length: Seconds; may be negative in the source.
        is_playing: Not paused.
        is_live: Whether the player reported a live stream; None if it did not say.
        omitted: Values that the source is configured to omit: keys of SWITCHES.
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
