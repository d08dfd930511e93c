"""Reads the documents that exports are made of: by day, by recording, by series."""

import dataclasses
import datetime as dt
import re
from collections.abc import Collection, Iterator
from typing import Any

from uaharvest.coerce import text
from uaharvest.documents.episode_part import taken_apart
from uaharvest.exporting.useractions import Facts, facts, with_viewers
from uaharvest.sinks.documents import DocumentStore, Has

Fields = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ChosenSeries:
    """Chooses recordings by their series.

    Attributes:
        series: These series.
        year: All series of this year and `term`, if these are set: `YYYYTTCCCCC`, as Harvard DCE names its series.
        term: The term, two digits.
    """

    series: frozenset[str] = frozenset()
    year: str | None = None
    term: str | None = None

    def __contains__(self, series: object) -> bool:
        if not isinstance(series, str):
            return False
        parts = taken_apart(series)
        of_term = self.year is not None and (parts["year"], parts["term"]) == (self.year, self.term)
        return series in self.series or of_term


class SiteDocuments:
    """The documents of a site.

    Every method raises RetryableError if the store fails, and BlockedError if it refuses.

    Args:
        store: Where they are.
        infix: INDEX_INFIX.
        anonymous: ANONYMOUS_USERS.
    """

    def __init__(self, store: DocumentStore, infix: str | None, anonymous: Collection[str]) -> None:
        self.store = store
        self._anonymous = frozenset(anonymous)
        self._infix = infix

    def index(self, family: str) -> str:
        """Return the name of a family's only index, or the beginning of the names of its daily ones."""
        return f"{family}-{self._infix}" if self._infix else family

    def days(self, family: str, start: dt.date | None = None, end: dt.date | None = None) -> list[dt.date]:
        """Return the days, from `start` to `end` inclusive, that a daily family has an index for."""
        pattern = re.compile(rf"{re.escape(self.index(family))}-(\d{{4}})\.(\d\d)\.(\d\d)")
        found = []
        for name in self.store.matching(f"{self.index(family)}-*"):
            if match := pattern.fullmatch(name):
                day = dt.date(*map(int, match.groups()))
                if (start is None or start <= day) and (end is None or day <= end):
                    found.append(day)
        return sorted(found)

    def of_day(self, family: str, day: dt.date) -> Iterator[Fields]:
        """Yield all documents of a day, useractions with their viewers."""
        return self._of_day(family, day, None)

    def of_recordings(self, family: str, mpids: Collection[str], days: Collection[dt.date]) -> Iterator[Fields]:
        """Yield the documents of these recordings, day by day."""
        for day in days:
            yield from self._of_day(family, day, Has("mpid", mpids))

    def _of_day(self, family: str, day: dt.date, where: Has | None) -> Iterator[Fields]:
        documents = self.store.select(f"{self.index(family)}-{day:%Y.%m.%d}", where)
        return with_viewers(documents, self._anonymous) if family == "useractions" else documents

    def viewings(self, mpids: Collection[str]) -> Iterator[Fields]:
        """Yield what was watched of these recordings, by recording and viewer; nothing without this stream."""
        return self.store.select(self.index("viewings"), Has("mpid", mpids))

    def recordings(self, mpids: Collection[str]) -> Iterator[Fields]:
        """Yield how these recordings were watched; nothing without this stream."""
        return self.store.select(self.index("recordings"), Has("mpid", mpids))

    def episodes(self, chosen: ChosenSeries) -> dict[str, Fields]:
        """Return the chosen episodes by recording.

        A recording that has no episode, but that viewers watched, has what is known of it in `recordings`.
        """
        found: dict[str, Fields] = {}
        for family in ("recordings", "episodes"):
            for document in self._of_series(family, chosen):
                mpid = text(document.get("mpid"))
                if mpid is None or document.get("series") not in chosen:
                    continue
                if family == "recordings" and document.get("duration_s"):
                    document["duration"] = round(1000 * document["duration_s"])
                found[mpid] = document
        return dict(sorted(found.items()))

    def _of_series(self, family: str, chosen: ChosenSeries) -> Iterator[Fields]:
        """Yield the chosen documents of a family, and perhaps others."""
        if chosen.year is None:
            return self.store.select(self.index(family), Has("series", chosen.series))
        if family == "episodes" and not chosen.series:
            return self.store.select(self.index(family), Has("year", [chosen.year]))
        return self.store.select(self.index(family))

    def facts(self, mpids: Collection[str]) -> dict[str, Facts]:
        """Return what the episodes say of these recordings."""
        found = {}
        for document in self.store.select(self.index("episodes"), Has("mpid", mpids)):
            if mpid := text(document.get("mpid")):
                found[mpid] = facts(document)
        return found
