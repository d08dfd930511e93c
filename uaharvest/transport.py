"""What a request to a source means that got no answer."""

import ssl

import requests
from urllib3.exceptions import ReadTimeoutError

from uaharvest.errors import BlockedError, HarvestError, SourceError


def failure(
    whose: str, url: str, error: Exception, *, host: str, login: str, timeout: tuple[float, float]
) -> HarvestError:
    """Return what a request without an answer means, told by its first cause: the rest shows the query.

    Args:
        whose: The server is.
        url: Without a query.
        error: What requests raised.
        host: The setting that names the server.
        login: Those that say who asks.
        timeout: Seconds to connect, and between two pieces of the answer.
    """
    cause: BaseException = error
    while inner := cause.__cause__ or next((arg for arg in cause.args if isinstance(arg, BaseException)), None):
        cause = inner
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BlockedError(
            f"{whose} at {url} has a certificate that is not trusted ({cause.verify_message}). Mend it, or"
            " set REQUESTS_CA_BUNDLE to a file with its authority's."
        )
    if isinstance(error, requests.ConnectTimeout):
        return SourceError(f"{whose} at {url} took no connection within {timeout[0]} s.")
    if is_timeout(error):
        return SourceError(f"{whose} at {url} did not answer within {timeout[1]} s.")
    if isinstance(
        error,
        requests.ConnectionError
        | requests.exceptions.ChunkedEncodingError
        | requests.exceptions.ContentDecodingError,
    ):
        return SourceError(f"No whole answer from {whose} at {url}: {cause}. Does it run, and is {host} right?")
    return BlockedError(f"{whose} cannot be asked at {url} ({type(error).__name__}). Check {host} and {login}.")


def is_timeout(error: BaseException | None) -> bool:
    """Tell a time-out, also one in the midst of an answer, which requests calls a ConnectionError."""
    return isinstance(error, requests.Timeout) or (
        isinstance(error, requests.ConnectionError) and isinstance(next(iter(error.args), None), ReadTimeoutError)
    )
