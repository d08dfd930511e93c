"""Erases one person.

First a tombstone is written, so that nothing brings them back; then all stores are cleared, until a look finds nothing.
"""

import collections
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from uaharvest import __version__, assembly, tombstones
from uaharvest.errors import BadInputError, HarvestError
from uaharvest.person.dead_letters import STORE as DEAD_LETTERS
from uaharvest.person.dead_letters import Mention, PersonDeadLetters
from uaharvest.person.documents import RECORDINGS, Found, PersonDocuments
from uaharvest.privacy import site as privacy
from uaharvest.privacy.people import forms
from uaharvest.settings import STDOUT, Settings
from uaharvest.tombstones import SEEN_WITHIN, Tombstone

LOOKS = 5
# A row may be on its way for longer than a worker takes to know of the tombstone: it is sent, tried again, confirmed.
SETTLED = SEEN_WITHIN + 10.0  # seconds


@dataclasses.dataclass(frozen=True, slots=True)
class PersonData:
    """What is stored about the person.

    Attributes:
        found: Documents.
        mentions: Dead letters that name them.
        unread: Why some dead letters cannot be read.
    """

    found: Sequence[Found]
    mentions: Sequence[Mention]
    unread: Sequence[str]

    @property
    def counts(self) -> dict[str, int]:
        """Return how much there is in each store."""
        counts = collections.Counter(one.store for one in self.found)
        return dict(counts) | ({DEAD_LETTERS: len(self.mentions)} if self.mentions else {})

    @property
    def left(self) -> list[str]:
        """Return what a person must look at."""
        unclear = [f"dead letter {one.letter.name}: {one.unclear}" for one in self.mentions if one.unclear]
        return [*unclear, *(f"a dead letter cannot be read: {reason}" for reason in self.unread)]


class Person:
    """One person at a site.

    Args:
        settings: Those of the site.
        given: Their ids, or `name:NAME`.

    Raises:
        BadInputError: None of these is one, or a required setting is missing.
    """

    def __init__(self, settings: Settings, given: Sequence[str]) -> None:
        if not given:
            raise BadInputError("ID: expected at least one.")
        pseudonyms, anonymous = privacy.choice(settings).pseudonyms, settings.anonymous_users
        self.ids = list(dict.fromkeys(id_ for one in given for id_ in sorted(forms(one, pseudonyms, anonymous))))
        self._settings = settings
        self.documents = PersonDocuments(assembly.document_store(settings), settings.index_infix, self.ids)
        self._dead_letters = PersonDeadLetters(assembly.dead_letters(settings), self.ids)

    @property
    def label(self) -> str:
        """Return what stands for the person in logs: the name of their tombstone, or "-" if there is no key for one."""
        try:
            return tombstones.tombstone(self._settings, self.ids).id
        except BadInputError:
            return "-"

    def look(self) -> PersonData:
        """Find all that there is of the person, except in the queue, which cannot be read without being emptied."""
        mentions = list(self._dead_letters.found())
        return PersonData(
            list(self.documents.found()),
            [one for one in mentions if isinstance(one, Mention)],
            [str(one) for one in mentions if isinstance(one, HarvestError)],
        )

    def queue(self) -> tuple[int, int] | None:
        """Return how many messages of all people wait in the queue, and are being read; None without a queue."""
        if self._settings.queue is None or self._settings.queue == STDOUT:
            return None
        return assembly.sqs_sink(self._settings).depth()

    def tombstone(self) -> Tombstone:
        """Return the tombstone of the person: that of an earlier erasure, with all ids, or a new one.

        Raises:
            BadInputError: There is no key for one.
        """
        new = tombstones.tombstone(self._settings, self.ids)
        for one in tombstones.tombstones(self._settings).all():
            if one.key == new.key and not set(one.digests).isdisjoint(new.digests):
                digests = list(dict.fromkeys([*one.digests, *new.digests]))
                # Counts of an erasure that has ended are in its receipt.
                return dataclasses.replace(one if one.done is None else new, digests=digests, since=one.since)
        return new

    def erase(
        self,
        look: PersonData,
        say: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> dict[str, Any]:
        """Erase the person; return the receipt, in which `left` says what could not be done.

        It can be stopped and started again at any moment.

        Args:
            look: What is stored.
            say: Receives lines to show meanwhile.
            pause: Waits for so many seconds.

        Raises:
            HarvestError: A store fails. The tombstone is there, and `status` shows that the erasure is not finished.
        """
        stored = tombstones.tombstones(self._settings)
        stone = self.tombstone()
        if not stone.before:
            stone = dataclasses.replace(stone, before=look.counts)
        stored.put(stone)
        written = time.monotonic()
        removed = collections.Counter(stone.removed)
        looks = 1
        settled = False
        while True:
            self._remove(look, removed)
            stone = dataclasses.replace(stone, removed=dict(removed))
            stored.put(stone)
            if not settled and (busy := self._busy()):
                wait = max(SETTLED - (time.monotonic() - written), 0.0)
                say(f"{busy}: for up to {SETTLED:.0f} s they may still bring rows. Looking again in {wait:.0f} s.")
                pause(wait)
            settled = True
            look, looks = self.look(), looks + 1
            if not look.found and all(one.unclear for one in look.mentions):
                break
            if looks > LOOKS:
                break
        left = [*look.left, *self._left_in_queue()]
        if look.found:
            left.append(
                f"{sum(look.counts.values()):,} documents came again while others were deleted: erase again"
            )
        if not left:
            stone = dataclasses.replace(stone, done=datetime.now(UTC).replace(microsecond=0))
            stored.put(stone)
        return self._receipt(stone, look, looks, left)

    def _remove(self, look: PersonData, removed: "collections.Counter[str]") -> None:
        for store, count in self.documents.erase(look.found):
            removed[store] += count
        for mention in look.mentions:
            if mention.unclear is None:
                self._dead_letters.erase(mention)
                removed[DEAD_LETTERS] += 1

    def _busy(self) -> str:
        """Return what may still bring rows that were read before the tombstone was there; "" for nothing."""
        working = []
        client = assembly.redis_client(self._settings)
        for name in assembly.streams(self._settings):
            for place in (name, assembly.backfills_of(name)):
                ledger = assembly.ledger(self._settings, client, stream=place)
                live = ledger.live()
                runs = [*([live.id] if live else []), *ledger.explicit()]
                if any(ledger.in_flight(run) for run in runs):
                    working.append(f"{place} is being harvested")
        depth = self.queue()
        if depth and depth[1]:
            working.append(f"{depth[1]:,} messages of the queue are being read")
        return ", ".join(working)

    def _left_in_queue(self) -> list[str]:
        depth = self.queue()
        if not depth or not sum(depth) or self._settings.indexer:
            return []
        line = (
            f"{sum(depth):,} messages are in SQS queue {self._settings.queue}, and this site's indexer (INDEXER) does"
            " not read them. Erase again when their reader has indexed them"
        )
        return [line]

    def _receipt(self, stone: Tombstone, look: PersonData, looks: int, left: Sequence[str]) -> dict[str, Any]:
        stores = sorted({*stone.before, *stone.removed, *look.counts} - {RECORDINGS})
        depth = self.queue()
        body: dict[str, Any] = {
            "receipt": 1,
            "uaharvest": __version__,
            "tombstone": stone.id,
            "key": stone.key,
            "begun": f"{stone.since:%FT%TZ}",
            "ended": f"{datetime.now(UTC):%FT%TZ}",
            "stores": {
                store: {
                    "before": stone.before.get(store, 0),
                    "removed": stone.removed.get(store, 0),
                    "after": look.counts.get(store, 0),
                }
                for store in stores
            },
            "looks": looks,
            "queue": None if depth is None else {"waiting": depth[0], "in_flight": depth[1]},
            "recomputed": _recomputed(stone.removed),
            "left": list(left),
        }
        return body | {"sha256": signed(body)}


def signed(receipt: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a receipt: of its canonical JSON, without the member `sha256`."""
    body = {name: value for name, value in receipt.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _recomputed(removed: Mapping[str, int]) -> dict[str, str]:
    said = {}
    if removed.get("sessions"):
        said["meetings"] = "figures of attendance computed again from the other sessions"
    if removed.get(RECORDINGS):
        said[RECORDINGS] = f"figures of {removed[RECORDINGS]:,} computed again from the other viewings"
    return said
