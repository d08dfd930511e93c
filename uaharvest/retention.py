"""Deletes what is older than a site keeps it: whole daily indices, derived documents, dead letters."""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import redis

from uaharvest import assembly, keys
from uaharvest.documents.indices import Family, index_name
from uaharvest.errors import BusyError, HarvestError
from uaharvest.opencast.times import look_back
from uaharvest.privacy.people import Form
from uaharvest.runs.days import DAY, midnight
from uaharvest.settings import Settings
from uaharvest.sinks.documents import Within
from uaharvest.streams import registry
from uaharvest.streams.specs import useractions, zoom

DEAD_LETTERS = "dead letters"
DERIVED: tuple[Form, ...] = ("viewings", "recordings", "attendance")
_OF_STREAM: Mapping[str, tuple[Family, ...]] = {
    useractions.SPEC.name: ("useractions",),
    zoom.SPEC.name: ("meetings", "sessions"),
}
_HELD = 900  # time-out of the lock, seconds; a task takes no longer


@dataclasses.dataclass(frozen=True, slots=True)
class Expired:
    """Something that is too old.

    Attributes:
        what: Which setting applies: the name of a stream, `derived` or `dead letters`.
        name: The index, or DEAD_LETTERS.
        count: How many documents or dead letters are deleted.
        before: They are from before this instant, UTC.
        dead_letters: The names of the dead letters.
    """

    what: str
    name: str
    count: int
    before: datetime
    dead_letters: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Cutoff:
    """Before when a setting deletes.

    Attributes:
        what: As `Expired.what`.
        days: The setting.
        before: What is older than this is deleted; a midnight, UTC.
        because: Why that is earlier than the setting says; None if it is not.
    """

    what: str
    days: int
    before: datetime
    because: str | None = None


class Retention:
    """The retention of a site."""

    def __init__(self, settings: Settings, client: "redis.Redis", now: Callable[[], datetime]) -> None:
        """Read what is open in `client`; `now` returns the time, UTC."""
        self._settings = settings
        self._redis = client
        self._now = now
        self._store = assembly.document_store(settings)
        self._dead_letters = assembly.dead_letters(settings)
        self._place = assembly.place(settings, assembly.RETENTION)

    def limits(self) -> list[Cutoff]:
        """Return before when each setting deletes at the moment.

        Raises:
            HarvestError, redis.RedisError: Nobody can tell what is still written.
        """
        current = self._settings
        chosen = {
            useractions.SPEC.name: current.retention_useractions,
            zoom.SPEC.name: current.retention_zoom,
            "derived": current.retention_derived,
            DEAD_LETTERS: current.retention_dead_letters,
        }
        found = []
        for what, days in chosen.items():
            if days is None:
                continue
            before = midnight(self._now()) - DAY * days
            floor, because = min(self._written(what), default=(before, ""))
            if floor < before:
                found.append(Cutoff(what, days, midnight(floor), because))
            else:
                found.append(Cutoff(what, days, before))
        return found

    def plan(self, limits: Sequence[Cutoff]) -> Iterator[Expired]:
        """Yield what is too old, the oldest first."""
        for limit in limits:
            if limit.what == DEAD_LETTERS:
                yield from self._expired_dead_letters(limit)
            elif limit.what == "derived":
                yield from self._derived(limit)
            else:
                yield from self._days(limit)

    def delete(self, expired: Expired) -> None:
        """Delete it; a repetition does no harm."""
        if expired.dead_letters:
            for name in expired.dead_letters:
                self._dead_letters.drop(name)
        elif expired.what == "derived":
            older = self._store.select(expired.name, Within("@timestamp", end=expired.before), fields=())
            for _ in self._store.delete([(expired.name, one["_id"]) for one in older]):
                pass
        else:
            self._store.drop(expired.name)

    def run(self, seconds: float | None = None) -> Iterator[Expired]:
        """Delete all that is too old and yield each item afterwards; `status` shows how it ended.

        Args:
            seconds: Begin with no further item after that time; the next time continues.

        Raises:
            BusyError: Another process is deleting.
            HarvestError, redis.RedisError: Something fails; what was deleted is recorded.
        """
        lock = self._redis.lock(keys.RETENTION_LOCK(self._place), timeout=_HELD)
        if not lock.acquire(blocking=False):
            raise BusyError("another process deletes what is too old.")
        try:
            yield from self._run(time.monotonic() + seconds if seconds is not None else float("inf"))
        finally:
            if lock.owned():
                lock.release()

    def _run(self, until: float) -> Iterator[Expired]:
        day = f"{self._now():%F}"
        former = self.last()
        removed: dict[str, int] = {}
        if former and former["day"] == day and not former["done"]:
            removed = dict(former["removed"])
        limits = self.limits()
        kept = [
            f"{one.what}: kept from {one.before:%F} on, because {one.because}" for one in limits if one.because
        ]
        done = False
        try:
            for expired in self.plan(limits):
                if time.monotonic() > until:
                    break
                self.delete(expired)
                removed[expired.what] = removed.get(expired.what, 0) + expired.count
                yield expired
            else:
                done = True
        finally:
            last = {"day": day, "at": f"{self._now():%FT%TZ}", "removed": removed, "kept": kept, "done": done}
            self._redis.set(keys.RETENTION(self._place), json.dumps(last))

    def is_due(self) -> bool:
        """Tell whether it is time: once a day, from RETENTION_AT on."""
        now = self._now()
        last = self.last()
        done = last is not None and last["done"] and last["day"] == f"{now:%F}"
        return self._settings.retention_enabled and now >= midnight(now) + self._settings.retention_at and not done

    def last(self) -> dict[str, Any] | None:
        """Return what was deleted the last time; None if nothing ever was."""
        return last(self._redis, self._place)

    def _written(self, what: str) -> Iterator[tuple[datetime, str]]:
        """Yield from when on something may still be written, and why."""
        if what == DEAD_LETTERS:
            return
        streams = [spec.name for spec in registry.specs() if spec.name == what or (what, spec.name) in _DERIVED_BY]
        enabled = assembly.streams(self._settings)
        for name in streams:
            ledger = assembly.ledger(self._settings, self._redis, stream=name)
            live = ledger.live()
            for run in [live, *map(ledger.run, ledger.explicit())]:
                if run is not None:
                    yield min(run.requested.start, run.window.start), f"a run of {name} is open"
            for one in assembly.backfills(self._settings, name).read().values():
                if one.state != "done":
                    yield one.requested.start, f"backfill {one.id} is {one.state}"
            # A stream that is switched off would keep everything for ever.
            stored = assembly.watermarks(self._settings, name).read() if name in enabled else None
            if stored is not None:
                yield self._late_from(name, stored.mark.at), f"late rows of {name} are still looked for"

    def _late_from(self, name: str, mark: datetime) -> datetime:
        if name == useractions.SPEC.name:
            return look_back(mark, timedelta(seconds=self._settings.overlap), self._settings.opencast_zone)
        days = (
            self._settings.zoom_lookback_days if name == zoom.SPEC.name else self._settings.derived_lookback_days
        )
        return midnight(mark) - days * DAY

    def _days(self, limit: Cutoff) -> Iterator[Expired]:
        counts = self._store.indices()
        found = []
        for family in _OF_STREAM[limit.what]:
            begin = f"{index_name(family, None, self._settings.index_infix)}-"
            for name in self._store.matching(f"{begin}*"):
                match = re.fullmatch(rf"{re.escape(begin)}(\d{{4}})\.(\d{{2}})\.(\d{{2}})", name)
                if match and date(*map(int, match.groups())) < limit.before.date():
                    found.append(Expired(limit.what, name, counts.get(name, 0), limit.before))
        yield from sorted(found, key=lambda expired: expired.name[-10:])

    def _derived(self, limit: Cutoff) -> Iterator[Expired]:
        for form in DERIVED:
            name = "-".join(filter(None, (form, self._settings.index_infix)))
            count = sum(1 for _ in self._store.select(name, Within("@timestamp", end=limit.before), fields=()))
            if count:
                yield Expired(limit.what, name, count, limit.before)

    def _expired_dead_letters(self, limit: Cutoff) -> Iterator[Expired]:
        names = []
        for name in self._dead_letters.names():
            try:
                letter = self._dead_letters.get(name)
            except HarvestError:  # dropped meanwhile, or not ours; `dead-letters list` shows what cannot be read
                continue
            if letter.at < limit.before:
                names.append(name)
        if names:
            yield Expired(limit.what, DEAD_LETTERS, len(names), limit.before, names)


# The streams that write what is derived.
_DERIVED_BY = {("derived", "viewings"), ("derived", "attendance")}


def last(client: "redis.Redis", place: str) -> dict[str, Any] | None:
    """Return what was deleted the last time at a deployment; None if nothing ever was."""
    text = client.get(keys.RETENTION(place))
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found


def retention(settings: Settings, client: "redis.Redis") -> Retention:
    """Return the retention of a site.

    Raises:
        BadInputError: A required setting is missing.
    """
    settings.require("bucket")
    return Retention(settings, client, lambda: datetime.now(UTC))
