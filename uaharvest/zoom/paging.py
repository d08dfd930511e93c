"""Reads paginated lists, checks that they are complete, and stops reading if one does not end.

Each page has the list's `total_records`. A list with fewer rows is incomplete; a list that continues far beyond them is
endless. Zoom has produced both, by sending null in place of rows, no page token, or endless new tokens for the same
rows.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import redis

from uaharvest import keys
from uaharvest.coerce import text, whole
from uaharvest.errors import SourceError
from uaharvest.zoom.api import Api, Json
from uaharvest.zoom.endpoints import MEETINGS, USER_MEETINGS, USERS, Endpoint
from uaharvest.zoom.failures import DaysRefusedError, PageTokenEndedError

MOST_PAGES = 500
# Consecutive pages without new rows. Pages may repeat rows while Zoom's data settles, but not all of them.
MOST_BARREN = 3
# Allowed pages beyond those that the total implies, because the list may grow while it is read.
SLACK = 10
PAGE_SIZE = 300  # Zoom's maximum
RESTARTS = 2  # restarts of a list whose page token expires early
PROGRESS_KEPT = 1_000  # seconds to remember how much of a list came before a page token; tokens live 900
# Prefix of a page number, which replaces the page token if an endpoint sends none.
NUMBERED = "#"

# Lists of meetings, or of users whose meetings are harvested. These must be complete.
_LISTS = frozenset({MEETINGS, USERS, USER_MEETINGS})


def rows_of(body: Json, name: str, where: str) -> list[Any]:
    """Return the rows of a page.

    Raises:
        SourceError: The page has no list. Null counts as a list only if the page says that there are no rows.
    """
    rows = body.get(name)
    if isinstance(rows, list):
        return rows
    if rows is None and name in body and total_of(body) == 0:
        return []
    what = "null" if rows is None and name in body else type(rows).__name__
    raise SourceError(
        f"{where} answered without {name}." if name not in body else f"{where} has {what} for {name}."
    )


def total_of(body: Json) -> int | None:
    """Return how many rows the whole list has, or None if the page does not say."""
    total = whole(body.get("total_records"))
    return total if total is not None and total >= 0 else None


class Progress:
    """Counts the rows of a list, page by page.

    Attributes:
        pages: Number of pages read, including those read before continuing from a token.
        total: Number of rows in the list according to the last page; None if it does not say.
    """

    def __init__(self, where: str, *, pages: int = 0, rows: int | None = 0) -> None:
        """Start counting, or continue.

        Args:
            where: What is read, for errors.
            pages: Number of pages read before.
            rows: Number of rows read before; None if unknown.
        """
        self._where = where
        self.pages = pages
        self.total: int | None = None
        self._before = rows
        self._rows: Counter[str] = Counter()
        self._largest = 1
        self._barren = 0

    @property
    def rows(self) -> int | None:
        """Number of rows read. Equal rows on one page all count; a row on two pages counts once."""
        return None if self._before is None else self._before + self._rows.total()

    @property
    def missing(self) -> int:
        """Number of rows that are missing from the list; 0 if unknown."""
        return 0 if self.total is None or self.rows is None else max(self.total - self.rows, 0)

    def take(self, rows: list[Any], total: int | None) -> bool:
        """Count a page; return whether it had new rows.

        Raises:
            SourceError: The list should have ended long ago.
        """
        before = self._rows.total()
        self._rows |= Counter(json.dumps(row, sort_keys=True) for row in rows)
        fresh = self._rows.total() > before
        self.pages += 1
        self.total = total
        self._largest = max(self._largest, len(rows))
        self._barren = 0 if fresh else self._barren + 1
        most = MOST_PAGES if total is None else min(MOST_PAGES, math.ceil(total / self._largest) + SLACK)
        if self.pages > most or self._barren > MOST_BARREN:
            raise SourceError(f"{self._where} does not end: {self.pages} pages{self._said}.")
        return fresh

    def require_whole(self) -> None:
        """Raise SourceError if rows are missing."""
        if self.missing:
            raise SourceError(f"{self._where} gave {self.rows} rows{self._said}.")

    @property
    def _said(self) -> str:
        return "" if self.total is None else f" of a list that has {self.total} rows, as it says"


@dataclasses.dataclass(frozen=True, slots=True)
class JsonPage:
    """A page as Zoom sent it.

    Attributes:
        rows: Members of the list, of any type.
        next_token: Token of the next page; "" on the last page.
        first: Whether it is the first page, also after a restart of the list.
        progress: Counts of the list so far.
    """

    rows: list[Any]
    next_token: str
    first: bool
    progress: Progress


class Pager:
    """Reads the pages of lists. How much of a list came before a page is kept in Redis."""

    def __init__(self, api: Api, client: "redis.Redis", account: str) -> None:
        self._api = api
        self._redis = client
        self._account = account

    def pages(
        self,
        endpoint: Endpoint,
        params: Mapping[str, str],
        name: str = "",
        *,
        days: tuple[date, date] | None = None,
        token: str = "",
    ) -> Iterator[JsonPage]:
        """Yield the pages of a list. All parameters except the page token stay the same from page to page.

        If a list of meetings or users is incomplete, SourceError is raised before its last page is yielded, so that a
        later attempt reads that page again. Lists of participants are yielded even if incomplete; `progress` says how
        many rows are missing.
        """
        asked = (days[0].isoformat(), days[1].isoformat()) if days else None
        where = f"Zoom's {endpoint.path}"
        params = {**params, "page_size": str(PAGE_SIZE)} | ({"from": asked[0], "to": asked[1]} if asked else {})
        restarts, tokens = 0, {token}
        progress = self._progress(where, _place(endpoint, name, params, token)) if token else Progress(where)
        while True:
            try:
                body = self._api.ask(endpoint, params | _page_of(token), name)
            except PageTokenEndedError:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                token, tokens, progress = "", {""}, Progress(where)
                continue
            if asked:
                _check_echo(endpoint, body, asked)
            rows, next_token = rows_of(body, endpoint.rows, where), text(body.get("next_page_token")) or ""
            fresh = progress.take(rows, total_of(body))
            if next_token and next_token in tokens:
                raise SourceError(f"{where} gives the same page token again and again.")
            if not next_token and progress.missing and fresh and endpoint.numbered:
                # Zoom may omit the token although there are more pages (parsons #522).
                next_token = f"{NUMBERED}{(whole(token.removeprefix(NUMBERED)) or 1) + 1}"
            if not next_token and endpoint in _LISTS:
                progress.require_whole()
            if next_token and endpoint in _LISTS:
                self._keep_progress(_place(endpoint, name, params, next_token), progress)
            yield JsonPage(rows, next_token, first=not token, progress=progress)
            if not next_token:
                return
            token = next_token
            tokens.add(token)

    def _progress(self, where: str, place: str) -> Progress:
        """Return how much of a list came before a page."""
        kept = self._redis.get(keys.PAGE(self._account, place))
        pages, rows = json.loads(kept) if kept else (0, None)
        return Progress(where, pages=pages, rows=rows)

    def _keep_progress(self, place: str, progress: Progress) -> None:
        kept = json.dumps([progress.pages, progress.rows])
        self._redis.set(keys.PAGE(self._account, place), kept, ex=PROGRESS_KEPT)


def _place(endpoint: Endpoint, name: str, params: Mapping[str, str], token: str) -> str:
    """Return a digest that identifies a page of a list."""
    what = json.dumps([endpoint.path, name, params, token], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:24]


def _page_of(token: str) -> dict[str, str]:
    """Return the parameter that asks for a page."""
    if token.startswith(NUMBERED):
        return {"page_number": token.removeprefix(NUMBERED)}
    return {"next_page_token": token} if token else {}


def _check_echo(endpoint: Endpoint, body: Json, asked: tuple[str, str]) -> None:
    """Raise DaysRefusedError if Zoom answered for other days. It silently changes days that are too old or too many."""
    answered = tuple((text(body.get(name)) or "")[:10] for name in ("from", "to"))
    if any(is_ and is_ != was for is_, was in zip(answered, asked, strict=True)):
        shown = [day if re.fullmatch(r"[\d-]+", day) else "?" for day in answered]
        raise DaysRefusedError(
            f"Zoom's {endpoint.path} answered for {shown[0]} to {shown[1]}, not for {asked[0]} to {asked[1]}."
            " It keeps six months, and lists one at once: ask for other days."
        )
