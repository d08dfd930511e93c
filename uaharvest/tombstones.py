"""Who was erased: an object in S3 with digests of their ids, so that nothing brings them back."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from uaharvest import aws
from uaharvest.errors import BadInputError, BlockedError, HarvestError
from uaharvest.privacy import site
from uaharvest.privacy.people import NO_ONE, Erased, digest
from uaharvest.s3_object import ChangedError, S3Object
from uaharvest.settings import Settings

KEY = "erasures/tombstones.json"
SEEN_WITHIN = 20.0  # seconds until every process knows of a new tombstone
OWN = "PRIVACY_TOMBSTONE_KEY"  # names that key; those of pseudonyms have ids
_LONGEST = 20_000_000  # bytes; a person has about 500
_ATTEMPTS = 5  # writes that collide with others


@dataclasses.dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of somebody who was erased.

    Attributes:
        key: The name of the key of its digests.
        digests: The digests of all their ids; the first names the tombstone.
        since: When they were erased first, UTC.
        done: When nothing about them was found any more; None: the erasure is not finished.
        before: How many documents and letters were about them, by store; no personal data.
        removed: How many of these have been removed or changed.
    """

    key: str
    digests: Sequence[str]
    since: datetime
    done: datetime | None = None
    before: Mapping[str, int] = dataclasses.field(default_factory=dict)
    removed: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        """Return what names it in reports and receipts."""
        return self.digests[0][:16]

    def entry(self) -> dict[str, Any]:
        """Return it as the object has it."""
        done = f"{self.done:%FT%TZ}" if self.done else None
        return dataclasses.asdict(self) | {"since": f"{self.since:%FT%TZ}", "done": done}

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> "Tombstone":
        """Return the tombstone of an `entry`; raises KeyError, TypeError or ValueError if that is none."""
        since = datetime.fromisoformat(entry["since"])
        done = datetime.fromisoformat(entry["done"]) if entry["done"] else None
        if not entry["digests"]:
            raise ValueError("no digests")
        counts = (dict(entry["before"]), dict(entry["removed"]))
        return cls(str(entry["key"]), [str(one) for one in entry["digests"]], since, done, *counts)


class Tombstones:
    """The tombstones of a bucket.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.
    """

    def __init__(self, stored: S3Object) -> None:
        """Keep them in `stored`."""
        self._stored = stored

    def all(self) -> list[Tombstone]:
        """Return all tombstones."""
        return self._read()[0]

    def put(self, tombstone: Tombstone) -> None:
        """Keep a tombstone, in place of those that share a digest with it.

        Raises:
            HarvestError: Others write all the time.
        """
        for _ in range(_ATTEMPTS):
            there, etag = self._read()
            kept = [one for one in there if set(one.digests).isdisjoint(tombstone.digests)]
            text = json.dumps({"schema": 1, "people": [one.entry() for one in (*kept, tombstone)]})
            try:
                self._stored.write(text, etag)
            except ChangedError:
                continue
            return
        raise HarvestError(f"{self._stored.uri}: others write it all the time. Try again.")

    def _read(self) -> tuple[list[Tombstone], str | None]:
        found = self._stored.read()
        if found is None:
            return [], None
        try:
            whole = json.loads(found.text)
            people = {1: whole["people"]}[whole["schema"]]
            return [Tombstone.of_entry(entry) for entry in people], found.etag
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BlockedError(
                f"{self._stored.uri} is not what `person erase` writes there, so nobody can tell who was erased."
                " Restore it from a backup; do not delete it."
            ) from None


class Known:
    """The digests of all tombstones, read again if they are older than SEEN_WITHIN."""

    def __init__(self, tombstones: Tombstones, clock: Callable[[], float] = time.monotonic) -> None:
        """Read `tombstones`; `clock` returns seconds."""
        self._tombstones = tombstones
        self._clock = clock
        self._at = float("-inf")
        self._digests: Mapping[str, frozenset[str]] = {}

    def __call__(self) -> Mapping[str, frozenset[str]]:
        """Return the digests by the name of their key; the same object until they change."""
        now = self._clock()
        if now - self._at >= SEEN_WITHIN:
            found: dict[str, set[str]] = {}
            for one in self._tombstones.all():
                found.setdefault(one.key, set()).update(one.digests)
            digests = {key: frozenset(those) for key, those in found.items()}
            if digests != self._digests:
                self._digests = digests
            self._at = now
        return self._digests


def tombstones(settings: Settings) -> Tombstones:
    """Return the tombstones of a site.

    Raises:
        BadInputError: No bucket is set.
    """
    settings.require("bucket")
    return Tombstones(
        S3Object(
            aws.s3_client(), settings.bucket or "", KEY, what="list of tombstones", longest=_LONGEST, prove=True
        )
    )


def erased(settings: Settings) -> Erased:
    """Return the people who were erased at a site."""
    if settings.bucket is None:
        return NO_ONE
    return Erased(_secrets(settings), site.choice(settings).pseudonyms, Known(tombstones(settings)))


def tombstone(settings: Settings, ids: Sequence[str]) -> Tombstone:
    """Return a new tombstone for ids in the form that `people.forms` returns, the first of which names it.

    Raises:
        BadInputError: There is no key.
    """
    secrets = _secrets(settings)
    if not secrets:
        raise BadInputError(
            f"not set: {OWN}. Without a secret key, uaharvest cannot recognise the person if the data"
            " come again. Set it, or PRIVACY_PSEUDONYMS, for all workers and commands, and never change it."
        )
    key, secret = next(iter(secrets.items()))
    return Tombstone(key, [digest(secret, one) for one in ids], datetime.now(UTC).replace(microsecond=0))


def _secrets(settings: Settings) -> dict[str, str]:
    """Return the keys of digests by name; the first is for new ones."""
    secrets = dict(settings.privacy_pseudonyms)
    if settings.privacy_tombstone_key:
        secrets[OWN] = settings.privacy_tombstone_key
    return secrets
