"""What HTTP responses have in common, whichever client reads them: how long one may take, and what a failed one means.

It needs no client, so that commands which use one do not import another.
"""

import contextvars
import io
import math
import re
import time
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

from uaharvest import counters

# Time limit for a whole response, from its first byte to its last, seconds. A request's time-out only limits the pause
# between two chunks, so a server that sends one byte a second would never exceed it.
LONGEST_ANSWER = 300.0
_DISTRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED\]?(?: certificate verify failed)?:? ?([^(\n]*[^(\s])?")

# The limit of the present request, seconds.
request_limit: contextvars.ContextVar[float] = contextvars.ContextVar("request_limit", default=LONGEST_ANSWER)


class TooSlowError(TimeoutError):
    """The response takes longer than its limit, although data keeps arriving."""


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a deadline, even if data keeps arriving slowly."""

    def __init__(self, sock: Any, longest: float) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + longest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TooSlowError
        # urllib3 sets the time-out again before each request.
        pause = self._sock.gettimeout()
        if pause is None or left < pause:
            self._sock.settimeout(left)
        try:
            received: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() < self._deadline:
                raise
            raise TooSlowError from None
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """The part of a socket that http.client's response uses."""

    def __init__(self, sock: Any, longest: float) -> None:
        self._sock = sock
        self._longest = longest

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._longest), 65536)


class TimedResponse(HTTPResponse):
    """A response that ends in time; see `bound`."""

    longest = math.inf  # seconds; a pool's own limit

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        timed = _TimedSocket(sock, min(self.longest, request_limit.get()))
        super().__init__(timed, *args, **options)  # type: ignore[arg-type] # has all it uses


def bound(pool: Any, longest: float = LONGEST_ANSWER) -> None:
    """Limit the responses of a urllib3 pool, or of a pool class, to `longest` seconds, as a `BoundedSession` does."""
    response = type("_Limited", (TimedResponse,), {"longest": longest})
    pool.ConnectionCls = type("_Timed", (pool.ConnectionCls,), {"response_class": response})


def is_busy(status: int) -> bool:
    """Tell whether a status may be temporary, so that a retry makes sense."""
    passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    return status in passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def fault_of(status: int) -> counters.Fault | None:
    """Return the fault that a status stands for; None if it is a success."""
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    return "busy" if is_busy(status) else "refused"


def distrust(said: str) -> str | None:
    """Return a phrase such as "has a certificate that is not trusted" if that is the error; otherwise None.

    For clients that pass on errors of the TLS library only as text.
    """
    if (found := _DISTRUST.search(said)) is None:
        return None
    return f"has a certificate that is not trusted{f' ({found[1]})' if found[1] else ''}"


def innermost(error: BaseException) -> BaseException:
    """Return the innermost cause of an error: those around it show the query, or the cause as Python writes it."""
    while inner := error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None):
        error = inner
    return error
