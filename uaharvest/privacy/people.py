"""Recognises a person by ids: in documents, records and rows; and those who were erased, by digests of their ids. Pure.

An id is what a system tells people apart by: a login, a session, an e-mail address, an id at Zoom, or the pseudonym of
one of these. A name is not an id, because several people may have it: names count only if `name:NAME` is given.
"""

import functools
import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from uaharvest.coerce import text
from uaharvest.errors import BadInputError, BlockedError
from uaharvest.privacy.pseudonyms import NOBODY, Pseudonyms

# What a thing is: a family of documents, including those derived from others, or a row as a source sends it.
Form = Literal[
    "useractions",
    "sessions",
    "meetings",
    "viewings",
    "recordings",
    "attendance",
    "row of a useraction",
    "row of a meeting",
]
Knows = Callable[[str], bool]  # tells whether an id, in the form that `normal` returns, is a person's

REMEMBERED = 50_000
NAME, SESSION = "name:", "session:"
_DOMAIN = b"uaharvest tombstone\0"  # without it, the digest of a login would begin with the bytes of its pseudonym

# The fields that say whom a document is about: ids, and names.
IDS: Mapping[Form, Sequence[str]] = {
    "useractions": ("huid", "session_id"),
    "sessions": (*("id", "participant_user_id", "registrant_id", "participant_uuid", "customer_key", "email"),),
    "viewings": ("viewer", "huid"),
    "attendance": ("person", "user_id", "registrant_id", "user_email"),
    "row of a useraction": ("userId", "sessionId", "sessionId.userId", "sessionId.sessionId"),
}
NAMES: Mapping[Form, Sequence[str]] = {"sessions": ("user_name",), "attendance": ("user_name",)}
# The fields that name the host of a meeting. The document is about others too.
HOST_IDS: Mapping[Form, Sequence[str]] = {
    "meetings": ("host.host_id", "host.email"),
    "attendance": ("host_id",),
    "row of a meeting": ("host_id", "email"),
}
HOST_NAMES: Mapping[Form, Sequence[str]] = {"meetings": ("host.name",), "row of a meeting": ("host",)}
# Texts that may name the host, such as "Ann's Zoom Meeting"; and lists of objects with such texts.
_TEXTS = ("topic", "dept")
_PAIRS = ("tracking_fields", "custom_keys")
_SHORTEST = 3  # characters of a name that is looked for in texts


def normal(id_: str) -> str:
    """Return the form in which ids are compared: e-mail addresses in small letters."""
    id_ = id_.strip().removeprefix(SESSION)
    return id_.lower() if "@" in id_ else id_


def forms(given: str, pseudonyms: Pseudonyms | None, anonymous: Collection[str] = ()) -> frozenset[str]:
    """Return all that may be stored for an id or `name:NAME`: itself, and its pseudonyms by all keys.

    Args:
        given: The id.
        pseudonyms: Those of the site; None if it has none.
        anonymous: User ids that stand for nobody.

    Raises:
        BadInputError: It is empty, or stands for nobody.
    """
    prefix = NAME if given.startswith(NAME) else ""
    value = given.removeprefix(prefix).strip().removeprefix(SESSION)
    if value in NOBODY or value in anonymous:
        raise BadInputError("ID: expected a login, a session, an e-mail address, an id at Zoom or a pseudonym.")
    return frozenset(prefix + normal(one) for one in (value, *(pseudonyms.every(value) if pseudonyms else ())))


def ids_in(form: Form, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each field that says whom `fields` are about, with its value as `forms` has it."""
    yield from _values(fields, IDS.get(form, ()), "")
    yield from _values(fields, NAMES.get(form, ()), NAME)


def hosts_in(form: Form, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each field that names the host of a meeting, with its value as `forms` has it."""
    yield from _values(fields, HOST_IDS.get(form, ()), "")
    yield from _values(fields, HOST_NAMES.get(form, ()), NAME)


def is_about(knows: Knows, form: Form, fields: Mapping[str, Any]) -> bool:
    """Tell whether `fields` are about the person."""
    return any(knows(id_) for _, id_ in ids_in(form, fields))


def without_host(knows: Knows, form: Form, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `fields` without their host, also in texts, if that is the person; otherwise None."""
    found = dict(hosts_in(form, fields))
    if not any(map(knows, found.values())):
        return None
    kept = dict(fields)
    for path in found:
        owner, _, member = path.partition(".")
        if member and isinstance(kept.get(owner), Mapping):
            kept[owner] = {name: value for name, value in kept[owner].items() if name != member}
        else:
            kept.pop(owner, None)
    names = {_member(fields, path) for path in found}
    words = sorted((one for one in names if len(one) >= _SHORTEST), key=len, reverse=True)
    for name in _TEXTS:
        if isinstance(kept.get(name), str):
            kept[name] = _cleared(kept[name], words)
    for name in _PAIRS:
        if isinstance(kept.get(name), list):
            kept[name] = [
                {key: _cleared(value, words) if isinstance(value, str) else value for key, value in pair.items()}
                for pair in kept[name]
                if isinstance(pair, Mapping)
            ]
    return kept


def _cleared(value: str, words: Sequence[str]) -> str:
    for word in words:
        start = 0
        while (at := value.lower().find(word.lower(), start)) >= 0:
            value = value[:at] + "…" + value[at + len(word) :]
            start = at + 1
    return value


def _values(fields: Mapping[str, Any], paths: Sequence[str], prefix: str) -> Iterator[tuple[str, str]]:
    for path in paths:
        value = _member(fields, path)
        if value.removeprefix(SESSION) in NOBODY:
            continue
        # The person of an attendance may be a name.
        yield path, value if value.startswith(NAME) else prefix + normal(value)


def _member(fields: Mapping[str, Any], path: str) -> str:
    found: Any = fields
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return ""
    return (text(found) or "").strip()


def digest(secret: str, id_: str) -> str:
    """Return the digest that recognises an id after its erasure; the id has the form that `forms` returns."""
    message = _DOMAIN + id_.encode("utf-8", "surrogatepass")
    return hmac.digest(secret.encode(), message, "sha256").hex()


class Erased:
    """The people who were erased.

    Args:
        secrets: The secret keys of digests by their names.
        pseudonyms: This site's; None if it has none.
        digests: Returns the digests by the name of their key; the same object until they change. Raises as reading S3
            does.
    """

    def __init__(
        self,
        secrets: Mapping[str, str],
        pseudonyms: Pseudonyms | None,
        digests: Callable[[], Mapping[str, frozenset[str]]],
    ) -> None:
        self._secrets = secrets
        self._pseudonyms = pseudonyms
        self._digests = digests
        self._known: tuple[Mapping[str, frozenset[str]], Knows | None] | None = None

    def knows(self) -> Knows | None:
        """Return what tells whether an id is that of somebody who was erased; None if nobody was.

        Call it for each group of rows, because the answer may change.

        Raises:
            BlockedError: A key of the digests is no longer set, so nobody can tell who was erased; or S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        digests = self._digests()
        if self._known is None or self._known[0] is not digests:
            if lacking := sorted(digests.keys() - self._secrets.keys()):
                raise BlockedError(
                    f"people were erased with the key {', '.join(lacking)}, which is not set: without it they would"
                    " come back. Set PRIVACY_PSEUDONYMS, with its older keys, and PRIVACY_TOMBSTONE_KEY as before."
                )
            is_erased = functools.lru_cache(REMEMBERED)(functools.partial(self._is_erased, digests))
            self._known = (digests, is_erased if digests else None)
        return self._known[1]

    def _is_erased(self, digests: Mapping[str, frozenset[str]], id_: str) -> bool:
        if id_.removeprefix(NAME) in NOBODY:
            return False
        candidates = forms(id_, self._pseudonyms)
        return any(
            digest(self._secrets[key], one) in known for key, known in digests.items() for one in candidates
        )


_NOTHING: Mapping[str, frozenset[str]] = {}
NO_ONE = Erased({}, None, lambda: _NOTHING)
