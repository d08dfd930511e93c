"""HTTP sessions that limit the size and duration of responses, and the errors for failed requests."""

import contextvars
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ReadTimeoutError

from uaharvest import counters
from uaharvest.answers import LONGEST_ANSWER, TimedResponse, TooSlowError, fault_of, innermost, request_limit
from uaharvest.errors import BlockedError, HarvestError, SourceError

MEGABYTE = 1_000_000
CHUNK = 65_536  # bytes to read at once
LARGEST_ANSWER = 32 * MEGABYTE  # bytes, decompressed: 0.3 MB of gzip can expand to 300 MB


# The limit of the present request, bytes.
_largest: contextvars.ContextVar[int] = contextvars.ContextVar("largest", default=LARGEST_ANSWER)


class TooLargeError(requests.RequestException):
    """The response is larger than its limit."""


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
        size, duration = _largest.set(largest), request_limit.set(longest)
        try:
            return self.request(method, url, timeout=timeout, allow_redirects=False, **options)
        finally:
            request_limit.reset(duration)
            _largest.reset(size)


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
        cause = innermost(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BlockedError(
                f"{where} has a certificate that is not trusted ({cause.verify_message}). Fix it, or"
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
            f"{self._name} cannot be queried at {url} ({type(error).__name__}). Check {self._host} and {self._login}."
        )


class _Connection(HTTPConnection):
    response_class = TimedResponse


class _SecureConnection(HTTPSConnection):
    response_class = TimedResponse


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
        response.raw = _BoundedBody(resp, _largest.get())
        return response


_POOLS: dict[str, type] = {"http": _Pool, "https": _SecurePool}


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
