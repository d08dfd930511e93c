"""Types of useractions. Some players append what the viewer typed, such as the words of a search."""

import functools
import re
from collections.abc import Sequence

REMEMBERED = 10_000
# What the players of Opencast 1.4 to 17 send: the engage player, Theodul, Paella 5 to 7.
_NAMES = (
    r"FOOTPRINT|HEARTBEAT|PLAY|PAUSE|STOP|ENDED|SEEK_SEGMENT|SEEK|FAST_FORWARD|REWIND|MUTE|UNMUTE|VIEWS|SEARCH"
    r"|FULLSCREEN|EXIT_FULLSCREEN|LAYOUT|CAPTIONS|BUTTON|NORMAL_STARTUP|EMBED_STARTUP"
    r"|(?:SHOW|HIDE|VIDEOSIZE)_[A-Z_]+|[A-Z_]+_AJAX_FAILED|paella:[A-Za-z:]+"
)
# Only these keep a number, which is a volume or a size.
_NUMBERED = r"(?:SET_VOLUME|VOLUME|QUALITY|RESIZE[_-]TO)(?:-\d+(?:x\d+)?)?"
_REST = r"(?=\Z|[^A-Za-z0-9_])"
ANY = "*"  # at the end of a type in PRIVACY_TYPES: the text after it is allowed too


class Types:
    """The types that may be stored.

    Args:
        allowed: Further types besides those of Opencast's players. One that ends with `*` allows what follows.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        whole = [f"{re.escape(name.removesuffix(ANY))}.*" for name in allowed if name.endswith(ANY)]
        names = [re.escape(name) for name in allowed if not name.endswith(ANY)]
        self._pattern = re.compile(
            "|".join([*whole, f"(?:{'|'.join([*names, _NUMBERED, _NAMES])}){_REST}"]), re.DOTALL
        )
        self.of = functools.lru_cache(REMEMBERED)(self._of)

    def _of(self, type_: str) -> str | None:
        """Return a type without its free text; None if it is not one that is allowed."""
        match = self._pattern.match(type_)
        return match[0] if match else None
