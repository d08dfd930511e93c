"""Sends statements to a learning record store (LRS) in batches."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus

import requests
from requests.auth import HTTPBasicAuth

from uaharvest.answers import is_busy
from uaharvest.coerce import whole
from uaharvest.errors import BadInputError, BlockedError, SourceError
from uaharvest.exporting.xapi.export import Unit
from uaharvest.exporting.xapi.positions import ExportPosition
from uaharvest.exporting.xapi.vocabulary import Statement
from uaharvest.retries import Retries
from uaharvest.settings import Settings
from uaharvest.tolerance import too_many
from uaharvest.transport import Upstream

VERSION = "1.0.3"
BATCH = 200  # statements; about 250 kB
_RETRIES = Retries(attempts=6, first=1.0, longest=20.0, within=120.0)
_LONGEST_WAIT = 60.0  # seconds, whatever Retry-After says
_TIMEOUT = (5.0, 60.0)  # seconds to connect, and for an answer
# An LRS refuses a whole batch if one statement is invalid or has the id of a different one. Then halves are sent.
_ONE_AT_FAULT = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


class _BusyError(SourceError):
    """The LRS is temporarily unavailable; `after` is its Retry-After in seconds."""

    def __init__(self, message: str, after: float | None) -> None:
        super().__init__(message)
        self.after = after


@dataclasses.dataclass(frozen=True, slots=True)
class StatementCounts:
    """What became of statements.

    Attributes:
        taken: How many the LRS took, including those that it already had.
        different: How many ids it had for a statement with another content. It keeps what it had.
        refused: The ids of those that it refused, each with the status of its answer.
    """

    taken: int = 0
    different: int = 0
    refused: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: "StatementCounts") -> "StatementCounts":
        """Return both together."""
        return StatementCounts(
            self.taken + other.taken, self.different + other.different, self.refused + other.refused
        )

    @property
    def total(self) -> int:
        """How many there were."""
        return self.taken + self.different + len(self.refused)


class Lrs:
    """A learning record store.

    Args:
        settings: Its address and login.
        pause: Sleeps for the given number of seconds.

    Raises:
        BadInputError: LRS_URL is not set, or only one of LRS_USER and LRS_PASSWORD.
    """

    def __init__(self, settings: Settings, *, pause: Callable[[float], None] = time.sleep) -> None:
        settings.require("lrs_url")
        if bool(settings.lrs_user) != bool(settings.lrs_password):
            raise BadInputError("LRS_USER and LRS_PASSWORD go together; one of them is not set.")
        self._url = f"{(settings.lrs_url or '').rstrip('/')}/statements"
        self._upstream = Upstream("LRS", host="LRS_URL", login="LRS_USER, LRS_PASSWORD", timeout=_TIMEOUT)
        if settings.lrs_user and settings.lrs_password:
            user, password = (text.encode() for text in (settings.lrs_user, settings.lrs_password))
            self._upstream.session.auth = HTTPBasicAuth(user, password)
        self._pause = pause

    def send(self, statements: Sequence[Statement]) -> StatementCounts:
        """Send statements, and return once each is taken or refused.

        Raises:
            RetryableError: The LRS cannot be reached or is busy; some may have arrived.
            BlockedError: It denies us access, or refuses too many statements for them to be at fault.
        """
        sent = sum(self._parts(statements), StatementCounts())
        if too_many(len(sent.refused), sent.total):
            id_, status = sent.refused[0]
            raise BlockedError(
                f"LRS at {self._url} refuses {len(sent.refused)} of {sent.total} statements, such as {id_} ({status})."
                " So many cannot be single bad statements: does it accept xAPI 1.0.3?"
            )
        return sent

    def probe(self) -> str:
        """Send a batch without statements, and return the address; raises as `send` does."""
        self._post([])
        return self._url

    def _parts(self, statements: Sequence[Statement]) -> Iterator[StatementCounts]:
        waiting = [list(statements)] if statements else []
        while waiting:
            part = waiting.pop()
            status = _RETRIES.call(partial(self._post, part), pause=self._pause, wait=_wait)
            if status < HTTPStatus.MULTIPLE_CHOICES:
                yield StatementCounts(taken=len(part))
            elif len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            elif status == HTTPStatus.CONFLICT:
                yield StatementCounts(different=1)
            else:
                yield StatementCounts(refused=((str(part[0]["id"]), status),))

    def _post(self, statements: Sequence[Statement]) -> int:
        """Send a batch once; return the status, that of a success or one in `_ONE_AT_FAULT`."""
        response = self._upstream.fetch(
            self._url,
            method="POST",
            data=json.dumps(statements, separators=(",", ":")).encode(),
            headers={"Content-Type": "application/json", "X-Experience-API-Version": VERSION},
        )
        status = response.status_code
        if status in _ONE_AT_FAULT or status == HTTPStatus.NO_CONTENT:
            return status
        if is_busy(status):
            after = whole(response.headers.get("Retry-After"))  # None if it is a date
            raise _BusyError(f"LRS at {self._url} is busy ({status}).", after)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise BlockedError(f"LRS at {self._url} denied access ({status}). Check LRS_USER and LRS_PASSWORD.")
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise BlockedError(f"LRS at {self._url} answered {status}. Check LRS_URL: /statements is added to it.")
        return self._judged(response, frozenset(str(statement["id"]) for statement in statements))

    def _judged(self, response: requests.Response, sent: frozenset[str]) -> int:
        """Return the status that an answer with content stands for."""
        try:
            match response.json():
                case [*ids] if sent.issuperset(ids):  # Ralph leaves out those that it had
                    return HTTPStatus.OK
                case {"ids": [*ids], "errors": []} if sent.issuperset(ids):
                    return HTTPStatus.OK
                case {"ids": [*_], "errors": [*_]}:  # Ralph with RALPH_LRS_PARTIAL_SUCCESS_DEFAULT
                    return HTTPStatus.BAD_REQUEST
        except (ValueError, TypeError):
            pass
        # A proxy or a web server answers 200 to anything.
        raise BlockedError(f"LRS at {self._url} did not answer as an LRS does. Check LRS_URL.")


def _wait(error: Exception, planned: float) -> float:
    after = error.after if isinstance(error, _BusyError) else None
    return planned if after is None else min(float(after), _LONGEST_WAIT)


def deliver(units: Iterable[Unit], lrs: Lrs, position: ExportPosition | None) -> Iterator[StatementCounts]:
    """Send the statements of all units in batches; yield what became of each batch.

    After some units the position moves, so that an export that was stopped
    goes on there. A repeated statement adds nothing.

    Raises:
        HarvestError: Another process does the same export.
        RetryableError: The LRS or S3 fails.
        BlockedError: A person must change something at either.
    """
    waiting: list[Statement] = []
    for unit in units:
        waiting += unit.statements
        if len(waiting) < BATCH:
            continue
        yield from _batches(lrs, waiting)
        waiting = []
        if position:
            position.save(unit.name)
    yield from _batches(lrs, waiting)


def _batches(lrs: Lrs, statements: Sequence[Statement]) -> Iterator[StatementCounts]:
    for start in range(0, len(statements), BATCH):
        yield lrs.send(statements[start : start + BATCH])
