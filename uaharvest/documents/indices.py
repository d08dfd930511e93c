"""Index names. Each family of documents has one index, or one per day."""

import datetime as dt
import re
from typing import Literal, get_args

from uaharvest.errors import PoisonError

Family = Literal["useractions", "episodes", "meetings", "sessions", "viewings", "recordings", "attendance"]
FAMILIES: tuple[Family, ...] = get_args(Family)


def index_name(family: Family, day: dt.date | None, infix: str | None) -> str:
    """Return `family[-INDEX_INFIX][-YYYY.MM.DD]`, in production for example `useractions-<stack>-2026.11.20`.

    Args:
        family: The family of documents.
        day: The event's UTC day, never the day of writing, because a repeat must overwrite the same document. None for
            a family with a single index.
        infix: INDEX_INFIX.
    """
    parts = [family, infix, day and day.isoformat().replace("-", ".")]
    return "-".join(part for part in parts if part)


def useractions_of(day: dt.date | None, infix: str | None) -> str:
    """Return the pattern of the indices of a day's useractions, or of all days'."""
    # Without INDEX_INFIX the names may contain an infix that is configured in Logstash only.
    family = f"useractions-{infix}-" if infix else "useractions*-"
    return f"{family}{day:%Y.%m.%d}" if day else f"{family}*"


def require_own(index: str, infix: str | None) -> None:
    """Raise PoisonError unless this site's harvests write to `index`, whose name comes from an object in S3."""
    for family in FAMILIES:
        if re.fullmatch(rf"{re.escape(index_name(family, None, infix))}(-\d{{4}}\.\d{{2}}\.\d{{2}})?", index):
            return
    raise PoisonError(
        f"it names the index '{index[:100]}', which is none of this site's (INDEX_INFIX is {infix or 'not set'})"
    )
