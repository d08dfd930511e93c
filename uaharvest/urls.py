"""Parses URLs with passwords strictly, so that no library mistakes part of a password for a host or a path."""

import dataclasses
import re
from urllib.parse import parse_qsl, quote, unquote

ENCODE = "in user and password write / as %2F, # as %23, ? as %3F, @ as %40, [ as %5B"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::([0-9]{1,5}))?")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """The decoded parts of a URL; `repr` shows no secrets.

    Attributes:
        scheme: In lower case.
        user, password: Percent-decoded; None if absent or empty.
        authority: The part between the user and the path: one or more hosts with ports.
        path: Percent-decoded, with its leading slash.
        query: The parameters, percent-decoded.
    """

    scheme: str
    user: str | None = dataclasses.field(repr=False)
    password: str | None = dataclasses.field(repr=False)
    authority: str
    path: str
    query: dict[str, str] = dataclasses.field(repr=False)

    @property
    def userinfo(self) -> str:
        """User and password, encoded for a URL and followed by "@"; empty if there are none."""
        if self.user is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{encoded(self.password)}"
        return f"{encoded(self.user or '')}{password}@"


def encoded(text: str) -> str:
    """Return a text with every character percent-encoded that has a meaning in URLs."""
    return quote(text, safe="")


def split(value: str, expected: str) -> Url:
    """Split a URL into its parts.

    An unencoded `/`, `#` or `?` in a password would end the host part early and leave an `@` after it. So only one
    `@` is accepted, before the host.

    Args:
        value: The URL.
        expected: What the error message says was expected.

    Raises:
        ValueError: It is not a URL, or an ambiguous one; the text quotes no part of it.
    """
    scheme, separator, rest = value.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError(expected)
    if rest.count("@") > 1 or "#" in rest or re.search(r"[\s\x00-\x1f\x7f\\]", rest):
        raise ValueError(f"{expected}; {ENCODE}")
    end = next((place for place, character in enumerate(rest) if character in "/?"), len(rest))
    authority, tail = rest[:end], rest[end:]
    if "@" in tail:
        raise ValueError(f"{expected}; {ENCODE}")
    userinfo, _, hosts = authority.rpartition("@")
    if "[" in userinfo or "]" in userinfo:  # urllib would read them as an IPv6 address
        raise ValueError(f"{expected}; {ENCODE}")
    user, _, password = userinfo.partition(":")
    path, _, query = tail.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if len(dict(pairs)) != len(pairs):
        raise ValueError(f"{expected}, with each parameter once")
    return Url(
        scheme=scheme.lower(),
        user=_decoded(user) or None,
        password=_decoded(password) or None,
        authority=hosts,
        path=_decoded(path),
        query=dict(pairs),
    )


def _decoded(text: str) -> str:
    """Return the decoded text; raise ValueError if it is not UTF-8 or contains control characters."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("percent-encoded UTF-8") from None
    if any(ord(character) < ord(" ") or character == "\x7f" for character in decoded):
        raise ValueError("no control characters, percent-encoded ones included")
    return decoded


def host_port(text: str, expected: str, default: int) -> tuple[str, int]:
    """Parse `host`, `host:port` or `[::1]:port`; raise ValueError with `expected`, without quoting `text`."""
    found = _HOST.fullmatch(text)
    if not found:
        raise ValueError(f"{expected}; {ENCODE}")
    port = int(found[2]) if found[2] else default
    if not 0 < port <= 65535:  # noqa: PLR2004 - TCP's own limit
        raise ValueError(expected)
    return found[1].strip("[]"), port


def bracketed(host: str) -> str:
    """Return a host as written in URLs: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host
