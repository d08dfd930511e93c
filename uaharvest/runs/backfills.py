"""The backfills of a stream: what they harvest and what of it is done, in one S3 object written by compare-and-set.

The object is all that a backfill needs to go on: Redis may be empty, and the host another one. Because it holds all
backfills of the stream, two that overlap cannot both begin.
"""

import dataclasses
import json
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from uaharvest.errors import BadInputError, BlockedError, RetryableError
from uaharvest.intervals import Interval, union, without
from uaharvest.s3_object import ChangedError, S3Object

BackfillState = Literal["running", "stopped", "done"]
# Ended backfills that are kept, for `backfill list`.
KEPT = 20
# Backfills that have not ended: the object stays small.
MOST = 40
# Attempts to write when workers write at the same time. Each waits for up to LONGEST_WAIT seconds more.
TRIES = 30
LONGEST_WAIT = 0.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """A backfill.

    Attributes:
        id: Random.
        requested: The interval that it harvests.
        to: Where its rows go: `queue` or `documents`.
        rate: Most rows per second that are read.
        state: Whether it is running, stopped or done.
        done_to: The end of the last whole window that is done.
        spans: What is done after that, sorted.
        expected: Approximate number of rows in `requested` according to the source; 0: it cannot count them.
        rows: Rows in what is done.
        dead: Dead letters written.
        began_at: When it was started, or last resumed.
        rows_before: Rows that were done at that time.
        saved_at: When this was written.
    """

    id: str
    requested: Interval
    to: str
    rate: int
    state: BackfillState
    done_to: datetime
    spans: tuple[Interval, ...] = ()
    expected: int = 0
    rows: int = 0
    dead: int = 0
    began_at: datetime
    rows_before: int = 0
    saved_at: datetime

    @classmethod
    def new(cls, requested: Interval, *, to: str, rate: int, now: datetime, expected: int = 0) -> "Backfill":
        """Return a running backfill that has not done anything yet."""
        return cls(
            id=secrets.token_hex(4),
            requested=requested,
            to=to,
            rate=rate,
            state="running",
            done_to=requested.start,
            expected=expected,
            began_at=now,
            saved_at=now,
        )

    @property
    def run_id(self) -> str:
        """Return the id of the run that harvests the window after `done_to`.

        It is the same in each worker, so only one can be opened. It never comes again once the window is done, so a
        late message finds nothing.
        """
        return f"{self.id}-{int(self.done_to.timestamp())}"

    @property
    def share(self) -> float:
        """Return the share of `requested` that is done, from 0 to 1."""
        done = (self.done_to - self.requested.start).total_seconds() + sum(span.seconds for span in self.spans)
        return done / self.requested.seconds

    @property
    def rows_per_second(self) -> float:
        """Return the mean rate since it was started or resumed."""
        seconds = (self.saved_at - self.began_at).total_seconds()
        return (self.rows - self.rows_before) / seconds if seconds > 0 else 0.0

    @property
    def rows_left(self) -> float | None:
        """Return about how many rows are left; None if that is not known."""
        # Without a count, assume that rows are spread evenly.
        expected = self.expected or (self.rows / self.share if self.share else 0)
        return max(expected - self.rows, 0) if expected else None

    def seconds_left(self, rate: float) -> float | None:
        """Return the seconds left at `rate` rows per second; None if that is not known."""
        left = self.rows_left
        return None if left is None or rate <= 0 else left / rate

    def rest(self, window: Interval) -> list[Interval]:
        """Return the parts of a window that are not done."""
        begun = [Interval(self.requested.start, self.done_to)] if self.done_to > self.requested.start else []
        return without([window], [*begun, *self.spans])

    def with_span(self, span: Interval, *, rows: int, dead: int, now: datetime) -> "Backfill":
        """Return it with one more slice done; itself if that is done already."""
        if not self.rest(span):
            return self
        bounds = union((one.start, one.end) for one in (*self.spans, span))
        spans = tuple(Interval(start, end) for start, end in bounds)
        return dataclasses.replace(self, spans=spans, rows=self.rows + rows, dead=self.dead + dead, saved_at=now)

    def with_window(self, window: Interval, *, rows: int, dead: int, now: datetime) -> "Backfill":
        """Return it with the window after `done_to` done; itself if that is done already.

        Args:
            window: The window.
            rows: Rows that its run has found.
            dead: Dead letters that its run has written.
            now: The present.
        """
        if window.start != self.done_to:
            return self
        if self.spans:  # its slices have recorded theirs
            rows = dead = 0
        done = dataclasses.replace(
            self, done_to=window.end, spans=(), rows=self.rows + rows, dead=self.dead + dead, saved_at=now
        )
        return dataclasses.replace(done, state="done") if window.end >= self.requested.end else done

    def report(self) -> dict[str, Any]:
        """Return what is shown of it, as JSON has it."""
        left = self.seconds_left(self.rows_per_second) if self.state == "running" else None
        return {
            "id": self.id,
            "start": f"{self.requested.start:%FT%TZ}",
            "end": f"{self.requested.end:%FT%TZ}",
            "to": self.to,
            "state": self.state,
            "done_to": f"{self.done_to:%FT%TZ}",
            "share": round(self.share, 4),
            "rows": self.rows,
            "expected": self.expected,
            "rows_left": None if self.rows_left is None else round(self.rows_left),
            "dead_letters": self.dead,
            "rate": self.rate,
            "rows_per_second": round(self.rows_per_second, 1),
            "seconds_left": None if left is None else round(left),
            "saved_at": f"{self.saved_at:%FT%TZ}",
        }

    def entry(self) -> dict[str, Any]:
        """Return the fields as they are stored."""
        fields = dataclasses.asdict(self)
        del fields["requested"]
        return {
            **fields,
            "asked": str(self.requested),  # the name that older versions read
            "spans": [str(span) for span in self.spans],
            **{name: f"{getattr(self, name):%FT%TZ}" for name in ("done_to", "began_at", "saved_at")},
        }

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> "Backfill":
        """Return the backfill of an `entry()`; other versions may have written more fields.

        Raises:
            ValueError, KeyError, TypeError: It is not one.
        """
        entry = {**entry, "requested": entry["asked"]}
        fields = {field.name: entry[field.name] for field in dataclasses.fields(cls)}
        fields |= {name: datetime.fromisoformat(fields[name]) for name in ("done_to", "began_at", "saved_at")}
        fields["requested"] = Interval.parse(fields["requested"])
        fields["spans"] = tuple(map(Interval.parse, fields["spans"]))
        return cls(**fields)


class Backfills:
    """Stores the backfills of a stream.

    Every method raises BlockedError if S3 refuses or the object is not one, and RetryableError if S3 cannot be reached.

    Args:
        stored: The object.
        pause: Sleeps for the given number of seconds.

    Attributes:
        known: All backfills by id, as this process read or wrote them last.
    """

    def __init__(self, stored: S3Object, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._object = stored
        self._pause = pause
        self.known: Mapping[str, Backfill] = {}

    def read(self) -> dict[str, Backfill]:
        """Return all backfills by id, the oldest first."""
        found = self._object.read()
        self.known = stored = self._parsed(found.text) if found else {}
        return stored

    def add(self, new: Backfill) -> Backfill:
        """Store a new backfill.

        Raises:
            BadInputError: Another one that has not ended harvests a part of its interval.
        """

        def added(stored: Mapping[str, Backfill]) -> Mapping[str, Backfill]:
            require_apart(new.requested, [one for one in stored.values() if one.id != new.id])
            ended = [one.id for one in stored.values() if one.state == "done"]
            dropped = set(ended[: max(len(ended) - KEPT, 0)])
            # If the confirmation of the first attempt was lost, workers may have begun it: what they have done stays.
            return {key: one for key, one in stored.items() if key not in dropped} | {
                new.id: stored.get(new.id, new)
            }

        return self._write(added)[new.id]

    def change(self, id_: str, change: Callable[[Backfill], Backfill]) -> Backfill | None:
        """Change a backfill and return it; None if it no longer exists.

        Args:
            id_: Its id.
            change: May be called again, with what another process has written meanwhile.
        """
        return self._write(lambda stored: {**stored, id_: change(stored[id_])} if id_ in stored else stored).get(
            id_
        )

    def drop(self, id_: str) -> None:
        """Forget a backfill."""
        self._write(lambda stored: {key: one for key, one in stored.items() if key != id_})

    def _write(self, change: Callable[[Mapping[str, Backfill]], Mapping[str, Backfill]]) -> Mapping[str, Backfill]:
        for tried in range(TRIES):
            found = self._object.read()
            stored = self._parsed(found.text) if found else {}
            changed = change(stored)
            if changed == stored:
                self.known = stored
                return stored
            content = {"schema": 1, "backfills": [one.entry() for one in changed.values()]}
            try:
                self._object.write(json.dumps(content), found.etag if found else None)
            except ChangedError:
                self._pause(random.uniform(0, min(0.02 * 2**tried, LONGEST_WAIT)))  # noqa: S311 - no secret
            else:
                self.known = changed
                return changed
        raise RetryableError(f"{self._object.uri} is written by too many workers at once.")

    def _parsed(self, text: str) -> dict[str, Backfill]:
        try:
            match json.loads(text):
                case {"schema": 1, "backfills": list(entries)}:
                    return {one.id: one for one in map(Backfill.parse, entries)}
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise BlockedError(
            f"{self._object.uri} is not what `backfill` writes there: look at it, or delete it. What is done is then"
            " no longer known."
        )


def require_apart(interval: Interval, others: Iterable[Backfill]) -> None:
    """Raise BadInputError if `interval` overlaps with an open one of the `others`, or if too many are open."""
    open_ = [one for one in others if one.state != "done"]
    for one in open_:
        if one.requested.start < interval.end and interval.start < one.requested.end:
            start, end = one.requested.start, one.requested.end
            raise BadInputError(
                f"backfill {one.id} ({one.state}) is of {start:%F %T} to {end:%F %T} UTC, which overlaps. Expected"
                f" another span; or go on with that one (`manage.py backfill resume {one.id}`), or give it up"
                f" (`manage.py backfill drop {one.id}`)."
            )
    if len(open_) >= MOST:
        raise BadInputError(f"{len(open_)} backfills have not ended. Wait for some, or drop them.")


def utc_now() -> datetime:
    """Return the present, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
