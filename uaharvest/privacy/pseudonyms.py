"""Keyed pseudonyms: the same value gets the same one, and nobody without the key can tell which value that was."""

import functools
import hmac
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from uaharvest.rows.useractions import OMITTED

REMEMBERED = 20_000  # values per process; a busy evening has fewer viewers and sessions
BYTES = 16  # of the HMAC; two of a billion values have the same with a probability of 10^-21
LENGTH = 26  # characters of these bytes in base32
# What sources put in place of a name, besides ANONYMOUS_USERS. It is nobody's, and readers look for it.
NOBODY = frozenset({"", "anonymous", "public_user", OMITTED})


class PseudonymKey(NamedTuple):
    """A key of pseudonyms.

    Attributes:
        id: Its name, which every pseudonym shows.
        secret: The secret.
    """

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Key({self.id!r})"


class Pseudonyms:
    """Makes pseudonyms with the newest of some keys, and finds people by all of them.

    A pseudonym is `p<key id>-` and 26 characters of base32, the first half of the HMAC-SHA-256 of the value. An
    e-mail address is put in lower case before that, so that a person has one pseudonym however the address is written.

    Args:
        keys: The newest first; at least one.
        anonymous: Further values that stand for nobody.
    """

    def __init__(self, keys: Sequence[PseudonymKey], anonymous: Collection[str] = ()) -> None:
        self.keys = tuple(keys)
        self._nobody = NOBODY | frozenset(anonymous)
        ids = "|".join(key.id for key in keys)
        self._made = re.compile(rf"p(?:{ids})-[a-z2-7]{{{LENGTH}}}")
        self.of = functools.lru_cache(REMEMBERED)(self._of)

    def _of(self, value: str) -> str:
        """Return the pseudonym of a value; what is nobody's name, or a pseudonym of a known key, stays."""
        value = value.strip()
        if value in self._nobody or self._made.fullmatch(value):
            return value
        return _made(self.keys[0], value)

    def every(self, value: str) -> list[str]:
        """Return the pseudonyms of a value by all keys, the newest first: under one of them the person is stored."""
        value = value.strip()
        return [value] if value in self._nobody else [_made(key, value) for key in self.keys]


def _made(key: PseudonymKey, value: str) -> str:
    if "@" in value:
        value = value.lower()
    digest = hmac.digest(key.secret.encode(), value.encode("utf-8", "surrogatepass"), "sha256")
    return f"p{key.id}-{_base32(digest[:BYTES])}"


# Base32 as in RFC 4648, in small letters and without padding, two characters at a time: base64.b32encode takes longer
# than the HMAC.
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]
_SHIFTS = range(5 * (LENGTH - 2), -1, -10)


def _base32(digest: bytes) -> str:
    number = int.from_bytes(digest, "big") << (5 * LENGTH - 8 * BYTES)
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
