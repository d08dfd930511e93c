"""Pagination with opaque tokens that are valid for one query only, and for a limited time."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from simulators.wire import Request
from simulators.zoom.answers import ENDED_TOKEN, ZoomError, invalid

_DEFAULT, _MOST = 30, 300
_KEPT = 10_000  # expired tokens are removed once there are more than this
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class _Place(Generic[Row]):
    question: tuple[object, ...]
    rows: Sequence[Row]
    offset: int
    expires: float


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A page: its rows and the pagination members."""

    rows: Sequence[Row]
    members: dict[str, object]


class Pages(Generic[Row]):
    """Returns pages. A list is fixed when its first page is requested, so `total_records` is constant."""

    def __init__(self) -> None:
        """Start without issued tokens."""
        self._lock = Lock()
        self._places: dict[str, _Place[Row]] = {}

    def page(
        self,
        request: Request,
        select: Callable[[], Sequence[Row]],
        *,
        now: float,
        life: float,
        overlap: int,
        numbered: bool,
    ) -> Page[Row]:
        """Return the requested page; raises `ZoomError`.

        Args:
            request: Has `page_size`, `next_page_token`, and the parameters that must be repeated with the token.
            select: Returns the rows for a first page.
            now: The server's time, epoch seconds.
            life: Lifetime of a token in seconds.
            overlap: Number of rows that the next page repeats.
            numbered: Whether the deprecated `page_number` is accepted too.
        """
        size = _size(request)
        question = _question(request)
        token = request.parameter("next_page_token")
        number = 1
        if token:
            place = self._find(token, question, now)
            rows, offset = place.rows, place.offset
            number = offset // size + 1
        else:
            rows = select()
            if numbered and request.parameter("page_number"):
                number = _number(request)
            offset = (number - 1) * size
        end = offset + size
        following = ""
        if end < len(rows):
            following = self._give(_Place(question, rows, max(end - overlap, offset + 1), now + life), now)
        members: dict[str, object] = {
            "next_page_token": following,
            "page_count": math.ceil(len(rows) / size),
            "page_size": size,
            "total_records": len(rows),
        }
        if numbered:
            members["page_number"] = number
        return Page(rows[offset:end], members)

    def _find(self, token: str, question: tuple[object, ...], now: float) -> _Place[Row]:
        with self._lock:
            place = self._places.get(token)
        if place is None or place.question != question or place.expires <= now:
            raise ZoomError(300, ENDED_TOKEN)
        return place

    def _give(self, place: _Place[Row], now: float) -> str:
        token = secrets.token_urlsafe(26)
        with self._lock:
            if len(self._places) > _KEPT:
                self._places = {name: kept for name, kept in self._places.items() if kept.expires > now}
            self._places[token] = place
        return token


def _size(request: Request) -> int:
    text = request.parameter("page_size") or str(_DEFAULT)
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise invalid("page_size", f"Invalid field. Expected 1 to {_MOST}.")
    return int(text)


def _number(request: Request) -> int:
    text = request.parameter("page_number")
    if not text.isdecimal() or int(text) < 1:
        raise invalid("page_number", "Invalid field.")
    return int(text)


def _question(request: Request) -> tuple[object, ...]:
    """Return what a token is bound to: the undecoded path and all parameters except those for pagination."""
    query: Mapping[str, list[str]] = request.query
    kept = {name: values for name, values in query.items() if name not in ("next_page_token", "page_number")}
    return request.target.partition("?")[0], tuple(sorted((name, tuple(values)) for name, values in kept.items()))
