"""Minimal HTTP/1.1 on a socket's two files: just what a simulator needs, and too fast to be a bottleneck."""

from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

_MAX_LINE = 1 << 20
JSON_TYPE = "application/json"
HTML_TYPE = "text/html;charset=utf-8"
TEXT_TYPE = "text/plain"


class BadRequestError(ValueError):
    """The received data is not HTTP."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names are in lower case, `target` is as sent."""

    method: str
    target: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    def header(self, name: str) -> str:
        """Return a header's value; empty if absent."""
        return self.headers.get(name, "")

    def parameter(self, name: str) -> str:
        """Return a query parameter's first value, as JAX-RS does; empty if absent."""
        return self.query.get(name, [""])[0]


@dataclass(frozen=True, slots=True)
class Response:
    """A response. With `cut`, half of the body is sent and the connection is closed."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def html(status: int, text: str) -> Response:
    """Return a small HTML page, like those of Jetty and the login form."""
    page = f"<!DOCTYPE html><html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"
    return Response(status, page.encode(), HTML_TYPE)


def read_request(stream: BinaryIO) -> Request | None:
    """Read the next request; None if the client has closed the connection. Raises `BadRequestError`."""
    line = stream.readline(_MAX_LINE)
    if not line:
        return None
    try:
        method, target, version = line.decode("latin-1").split()
        headers = {}
        while (line := stream.readline(_MAX_LINE)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        parts = urlsplit(target)
        return Request(
            method=method,
            target=target,
            path=unquote(parts.path),
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=headers,
            body=stream.read(length) if length else b"",
            keep_alive=version == "HTTP/1.1" and headers.get("connection", "").lower() != "close",
        )
    except ValueError as error:
        raise BadRequestError(str(error)) from error


def write_response(stream: BinaryIO, response: Response, *, now: float, keep_alive: bool) -> None:
    """Send a response in one write; `now` (epoch seconds) becomes its Date header."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [
        f"HTTP/1.1 {response.status} {phrase}",
        f"Date: {formatdate(now, usegmt=True)}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
        *(() if keep_alive else ("Connection: close",)),
    ]
    body = response.body[: len(response.body) // 2] if response.cut else response.body
    stream.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
