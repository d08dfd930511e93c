"""HTTP sessions that limit the size and duration of responses, and the errors for failed requests."""

import contextvars
import dataclasses
import io
import math
import re
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ReadTimeoutError

from uaharvest import counters
from uaharvest.errors import BlockedError, HarvestError, SourceError

MEGABYTE = 1_000_000
# Time limit for a whole response, from its first byte to its last, seconds. A request's time-out only limits the pause
# between two chunks, so a server that sends one byte a second would never exceed it.
LONGEST_ANSWER = 300.0
_DISTRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED\]?(?: certificate verify failed)?:? ?([^(\n]*[^(\s])?")
CHUNK = 65_536  # bytes to read at once
LARGEST_ANSWER = 32 * MEGABYTE  # bytes, decompressed: 0.3 MB of gzip can expand to 300 MB


@dataclasses.dataclass(frozen=True, slots=True)
class _Bounds:
    largest: int
    longest: float


_DEFAULT = _Bounds(LARGEST_ANSWER, LONGEST_ANSWER)
_bounds: contextvars.ContextVar[_Bounds] = contextvars.ContextVar("bounds")


class TooLargeError(requests.RequestException):
    """The response is larger than its limit."""


class TooSlowError(TimeoutError):
    """The response takes longer than its limit, although data keeps arriving."""


class BoundedSession(requests.Session):
    """A session with its own connection pool. It does not follow redirects and ignores ~/.netrc.

    Args:
        pool_size: Number of connections kept open, one per concurrent thread.
    """

    def __init__(self, pool_size: int = 4) -> None:
        super().__init__()
        adapter = _Adapter(pool_maxsize=pool_size)
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        # Without an auth, requests looks up the host in ~/.netrc and may replace our Authorization header.
        self.auth = lambda request: request
        self._environments: dict[tuple[object, ...], Any] = {}

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Return proxies and certificates from the environment, which is read once per host.

        Reading it takes a third of a request's CPU time.
        """
        merge = super().merge_environment_settings
        if proxies:
            return merge(url, proxies, stream, verify, cert)
        place = (*urlsplit(url)[:2], stream, verify, cert)
        if place not in self._environments:
            self._environments[place] = merge(url, proxies, stream, verify, cert)
        return self._environments[place]

    def fetch(
        self,
        url: str,
        *,
        timeout: tuple[float, float],
        method: str = "GET",
        largest: int = LARGEST_ANSWER,
        longest: float = LONGEST_ANSWER,
        **options: Any,
    ) -> requests.Response:
        """Send a request and return the complete response.

        Args:
            url: The URL.
            timeout: Seconds to connect, and between two chunks of the response.
            method: The HTTP method.
            largest: Maximum size of the response in bytes, decompressed.
            longest: Maximum seconds from the request to the end of the response.
            options: Passed on to `requests.Session.request`.

        Raises:
            TooLargeError: The response is larger than `largest`. The connection is closed.
            requests.RequestException: There is no complete response. `is_timeout` recognises time-outs.
            ValueError: requests passes some invalid hosts, users and redirects on to urllib3.
        """
        token = _bounds.set(_Bounds(largest, longest))
        try:
            return self.request(method, url, timeout=timeout, allow_redirects=False, **options)
        finally:
            _bounds.reset(token)


class Upstream:
    """Sends requests to one server. Its errors name the server and the settings to check. Thread-safe.

    Args:
        name: The server's name in error messages.
        host: The setting that holds its address.
        login: The settings that hold the credentials.
        timeout: Seconds to connect, and between two chunks of a response.
        pool_size: Number of connections kept open, one per concurrent thread.
    """

    def __init__(
        self, name: str, *, host: str, login: str, timeout: tuple[float, float], pool_size: int = 4
    ) -> None:
        self.session = BoundedSession(pool_size)
        self._name = name
        self._host = host
        self._login = login
        self._timeout = timeout

    def fetch(
        self, url: str, *, shown: str | None = None, timeout: float | None = None, **options: Any
    ) -> requests.Response:
        """Return the response, whatever its status. Redirects are not followed: the credentials are for this host only.

        Args:
            url: The URL.
            shown: The URL to show in errors, if the real one must not appear there.
            timeout: Seconds between two chunks of this response.
            options: Passed on to `BoundedSession.fetch`.

        Raises:
            SourceError: There is no complete response. `__cause__` says why; see `is_timeout` and `TooLargeError`.
            BlockedError: The request cannot be sent until a person fixes a setting or a certificate.
        """
        waits = (self._timeout[0], timeout or self._timeout[1])
        began = time.monotonic()
        try:
            response = self.session.fetch(url, timeout=waits, **options)
        # ValueError: raised, unwrapped, for some invalid hosts, users or Location headers.
        except (requests.RequestException, ValueError) as error:
            fault: counters.Fault = "timeout" if is_timeout(error) else "unreachable"
            counters.request(self._name.lower(), time.monotonic() - began, fault)
            raise self._failure(shown or url, error, waits) from error
        counters.request(self._name.lower(), time.monotonic() - began, fault_of(response.status_code))
        return response

    def clock(self, url: str, response: requests.Response) -> datetime:
        """Return the server's clock, UTC, from the response's Date header.

        Raises:
            SourceError: There is no usable Date header.
        """
        try:
            now = parsedate_to_datetime(response.headers.get("Date", ""))
            # "-0000" is parsed as naive. HTTP dates are always UTC.
            return now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
        except (ValueError, OverflowError):
            raise SourceError(
                f"{self._name} at {url} answered without a usable Date header; see whether a proxy drops it."
            ) from None

    def _failure(self, url: str, error: Exception, timeout: tuple[float, float]) -> HarvestError:
        """Return the error for a request without a response.

        Its message comes from the innermost cause, because the outer exceptions show the query.
        """
        where = f"{self._name} at {url}"
        cause: BaseException = error
        while inner := cause.__cause__ or next(
            (arg for arg in cause.args if isinstance(arg, BaseException)), None
        ):
            cause = inner
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BlockedError(
                f"{where} has a certificate that is not trusted ({cause.verify_message}). Mend it, or"
                " set REQUESTS_CA_BUNDLE to a file with its authority's."
            )
        if isinstance(cause, TooLargeError):
            return SourceError(f"{where} sent an answer of {cause}.")
        if is_timeout(error):
            return SourceError(f"{where} {_lateness(error, cause, timeout)}.")
        if isinstance(
            error,
            requests.ConnectionError
            | requests.exceptions.ChunkedEncodingError
            | requests.exceptions.ContentDecodingError,
        ):
            return SourceError(f"No whole answer from {where}: {cause}. Does it run, and is {self._host} right?")
        return BlockedError(
            f"{self._name} cannot be asked at {url} ({type(error).__name__}). Check {self._host} and {self._login}."
        )


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


class _TimedResponse(HTTPResponse):
    longest = math.inf  # seconds; a pool's own limit

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        timed = _TimedSocket(sock, min(self.longest, _bounds.get(_DEFAULT).longest))
        super().__init__(timed, *args, **options)  # type: ignore[arg-type] # has all it uses


class _Connection(HTTPConnection):
    response_class = _TimedResponse


class _SecureConnection(HTTPSConnection):
    response_class = _TimedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _BoundedBody:
    """The body of a urllib3 response, limited to a number of bytes."""

    def __init__(self, raw: Any, largest: int) -> None:
        self._raw = raw
        self._largest = largest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amount: int, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: FBT001 - urllib3's
        size = 0
        # requests asks for 10 kB at a time.
        for piece in self._raw.stream(max(amount, CHUNK), decode_content=decode_content):
            size += len(piece)
            if size > self._largest:
                self._raw.close()
                raise TooLargeError(f"more than {self._largest:,} bytes")
            yield piece


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        if type(manager) is ProxyManager:  # a SOCKS proxy has its own pool classes
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        response.raw = _BoundedBody(resp, _bounds.get(_DEFAULT).largest)
        return response


def bound(pool: Any, longest: float = LONGEST_ANSWER) -> None:
    """Limit the responses of a urllib3 pool, or of a pool class, to `longest` seconds, as a `BoundedSession` does."""
    response = type("_Limited", (_TimedResponse,), {"longest": longest})
    pool.ConnectionCls = type("_Timed", (pool.ConnectionCls,), {"response_class": response})


_POOLS: dict[str, type] = {"http": _Pool, "https": _SecurePool}


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


def _lateness(error: Exception, cause: BaseException, timeout: tuple[float, float]) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return f"took no connection within {timeout[0]} s"
    if isinstance(cause, TooSlowError):
        return "did not come to the end of its answer in time"
    return f"did not answer within {timeout[1]} s"


def is_timeout(error: BaseException | None) -> bool:
    """Tell whether an error is a time-out, even one within a response, which requests raises as ConnectionError."""
    return isinstance(error, requests.Timeout) or (
        isinstance(error, requests.ConnectionError) and isinstance(next(iter(error.args), None), ReadTimeoutError)
    )
