"""The names of the indices: one per family, or one per family and day."""

import datetime as dt
from typing import Literal, get_args

from uaharvest.settings import Settings

Family = Literal["useractions", "episodes", "meetings", "sessions"]
FAMILIES: tuple[Family, ...] = get_args(Family)


def index_name(family: Family, day: dt.date | None, settings: Settings) -> str:
    """Return `family[-INDEX_INFIX][-YYYY.MM.DD]`, in production `useractions-<stack>-2026.11.20`.

    Args:
        family: What the documents are.
        day: The event's UTC day, never the day of writing: a repeat must find the document that it repeats.
            None for a family that has one index.
        settings: For INDEX_INFIX.
    """
    parts = [family, settings.index_infix, day and day.isoformat().replace("-", ".")]
    return "-".join(part for part in parts if part)
