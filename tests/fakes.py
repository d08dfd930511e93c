"""What the tests of runs harvest from and deliver to, in memory; only Redis is real.

Every fake calls `gates(name)` where a worker could be killed, delayed or overtaken.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from botocore.exceptions import ClientError

from uaharvest import assembly
from uaharvest.dead_letters import DeadLetters
from uaharvest.intervals import Interval
from uaharvest.keys import PLANNING, PREFIX
from uaharvest.opencast.actions import read_rows
from uaharvest.opencast.client import ActionsPage
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.delivered import IdsByTime, known_key
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.policy import Policy
from uaharvest.runs.watermark import Watermark, WatermarkStore
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.streams.useractions import Useractions

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DESTINATION = "http://engage.example.edu/ queue"


def no_gates(name):
    """Let everybody through."""


class Clock:
    """The time at the source."""

    def __init__(self, now=NOON):
        self.now = now

    def forward(self, seconds):
        self.now += timedelta(seconds=seconds)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row as it is told; `created` None: it cannot be read."""

    id: int
    created: datetime
    readable: bool = True

    def to_json(self, zone):
        told = self.created.astimezone(zone).isoformat() if self.readable else "yesterday"
        return {"id": self.id, "mediapackageId": "lecture", "type": "PLAY", "created": told, "isPlaying": True}


class FakeOpencast:
    """An Opencast in whose table rows appear.

    Args:
        clock: Its clock.
        zone: Its zone.
        wall_column: Its column knows only wall times, so that it tells a repeated one as the later (MariaDB).
        reading: How it reads an ambiguous wall time in `start` and `end`: 1 is the later instant (Java), 0 the earlier.
    """

    base_url = "http://engage.example.edu/"

    def __init__(self, clock, *, zone=ZoneInfo("UTC"), wall_column=False, reading=1):  # noqa: B008
        self.clock = clock
        self.zone = zone
        self.wall_column = wall_column
        self.reading = reading
        self.rows = []
        self.gates = no_gates
        self.fails = lambda first, last, limit: None
        self.asked = []
        self.heeds_range = True
        self.withheld = 0
        self.told = lambda row: row.to_json(self.zone)

    def add(self, *created, readable=True):
        """Let rows appear; return their ids."""
        rows = [Row(len(self.rows) + n, self._told(at), readable) for n, at in enumerate(created, 1)]
        self.rows += rows
        return [row.id for row in rows]

    def actions(self, first, last, limit):
        self.gates("before the request")
        self.asked.append((first, last, limit))
        error = self.fails(first, last, limit)
        if error is not None:
            raise error
        rows = [row for row in self.rows if not self.heeds_range or self._matches(row, first, last)]
        shown = sorted(rows, key=lambda row: row.id * 7919 % 1000)[:limit]
        told = [self.told(row) for row in shown[: len(shown) - self.withheld]]
        page = ActionsPage(len(rows), *read_rows(told), self.clock.now)
        self.gates("after the request")
        return page

    def _told(self, created):
        """Return the time at which a row created then is told."""
        if not self.wall_column:
            return created
        wall = created.astimezone(self.zone).replace(tzinfo=None)
        return max(wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))

    def _matches(self, row, first, last):
        if self.wall_column:
            return first <= row.created.astimezone(self.zone).replace(tzinfo=None) <= last
        low, high = (wall.replace(tzinfo=self.zone, fold=self.reading).astimezone(UTC) for wall in (first, last))
        return low <= row.created <= high


class FakeEpisodes:
    """Episodes of which nothing is known; those in `refused` cannot be looked up."""

    def __init__(self):
        self.fails = None
        self.refused = {}

    def get_many(self, mpids):
        if self.fails is not None:
            raise self.fails
        return {mpid: "{}" for mpid in mpids if mpid not in self.refused}

    ask_again = get_many

    def failing(self, mpids):
        return {mpid: self.refused[mpid] for mpid in mpids if mpid in self.refused}


class FakeSink:
    """Takes records in chunks; remembers each that arrived."""

    def __init__(self, chunk=2):
        self.arrived = []
        self.chunk = chunk
        self.refused = set()
        self.gates = no_gates
        self.fails = lambda: None
        self.loses_confirmation = lambda: None

    @property
    def ids(self):
        return sorted(self.arrived)

    def deliver(self, records):
        records = list(records)
        while records:
            chunk, records = records[: self.chunk], records[self.chunk :]
            self.gates("before the delivery")
            error = self.fails()
            if error is not None:
                raise error
            taken = [row for row in chunk if row.id not in self.refused]
            self.arrived += [row.id for row in taken]
            error = self.loses_confirmation()
            if error is not None:
                raise error
            self.gates("after the delivery")
            yield Receipt(taken, [(row, "refused") for row in chunk if row.id in self.refused])


class FakeReporter:
    """Remembers what a slice reports."""

    def __init__(self, delivered=()):
        self.left_out = set(delivered)
        self.confirmed = []
        self.dead = []
        self.counts = collections.Counter()

    def delivered(self, start, end):
        return self.left_out

    def confirm(self, rows):
        self.confirmed += [row.id for row in rows]

    def dead_letter(self, rows):
        self.dead += [row_id for _, row_id in rows]

    def count(self, counts):
        self.counts += counts


class _Meta:
    region_name = "us-east-1"


class FakeS3:
    """S3's objects with conditional PUT; an ETag is the digest of the content, as there."""

    meta = _Meta()

    def __init__(self):
        self.objects = {}
        self.gates = no_gates
        self.fails = lambda operation, key: None
        self.loses_confirmation = lambda key: None

    def get_object(self, *, Bucket, Key):  # noqa: N803
        self._maybe_fail("GetObject", Key)
        if Key not in self.objects:
            raise _answer("NoSuchKey", 404, "GetObject")
        body = self.objects[Key]
        self.gates("after the get")
        return {"Body": io.BytesIO(body), "ETag": etag(body), "LastModified": NOON}

    def head_object(self, *, Bucket, Key):  # noqa: N803
        return self.get_object(Bucket=Bucket, Key=Key)

    def put_object(self, *, Bucket, Key, Body, ContentType, IfMatch=None, IfNoneMatch=None):  # noqa: N803
        self.gates("before the put")
        self._maybe_fail("PutObject", Key)
        if IfNoneMatch and Key in self.objects:
            raise _answer("PreconditionFailed", 412, "PutObject")
        if IfMatch and Key not in self.objects:
            raise _answer("NoSuchKey", 404, "PutObject")
        if IfMatch and etag(self.objects[Key]) != IfMatch:
            raise _answer("PreconditionFailed", 412, "PutObject")
        self.objects[Key] = Body
        error = self.loses_confirmation(Key)
        if error is not None:
            raise error
        self.gates("after the put")
        return {"ETag": etag(Body)}

    def delete_object(self, *, Bucket, Key):  # noqa: N803
        self.objects.pop(Key, None)
        return {"ResponseMetadata": {"HTTPStatusCode": 204}}

    def get_paginator(self, operation):
        return self

    def paginate(self, *, Bucket, Prefix):  # noqa: N803
        contents = [{"Key": key} for key in sorted(self.objects) if key.startswith(Prefix)]
        return [{"IsTruncated": False, "Contents": contents}]

    def _maybe_fail(self, operation, key):
        error = self.fails(operation, key)
        if error is not None:
            raise error


def etag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


def _answer(code, status, operation):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


def unavailable(operation="PutObject"):
    """Return what S3 answers while it is down."""
    return _answer("ServiceUnavailable", 503, operation)


def access_denied(operation="PutObject"):
    """Return what S3 answers to one who may not."""
    return _answer("AccessDenied", 403, operation)


class Mailbox:
    """Hints that nobody has read yet."""

    def __init__(self):
        self.advances = 0
        self.last_advance = None
        self.slices = []

    def advance(self, run_id):
        self.advances += 1
        self.last_advance = run_id

    def work(self, run_id, slice_id):
        self.slices.append((run_id, slice_id))


class GatedLedger(Ledger):
    """The real ledger, with a gate before and after each script."""

    gates = staticmethod(no_gates)

    def _script(self, name, keys, arguments):
        self.gates(f"before {name}")
        answer = super()._script(name, keys, arguments)
        self.gates(f"after {name}")
        return answer


class World:
    """An engine of the useractions with all that it touches."""

    def __init__(
        self, client, *, wall_column=False, reading=1, destination=DESTINATION, deployment="", **settings
    ):
        chosen = {
            "opencast_zone": ZoneInfo("UTC"),
            "bucket": "bucket",
            "queue": "queue",
            "batch_size": 4,
            "lag": 10,
            "overlap": 600,
            "max_window": 300,
            "attempts": 3,
            "lease": 3600,
            "default_interval": 2,
        }
        self.settings = Settings(**(chosen | settings))
        self.redis = client
        self.clock = Clock()
        self.opencast = FakeOpencast(
            self.clock, zone=self.settings.opencast_zone, wall_column=wall_column, reading=reading
        )
        self.sink = FakeSink()
        self.s3 = FakeS3()
        self.episodes = FakeEpisodes()
        self.mailbox = Mailbox()
        self.store = WatermarkStore(self.s3, "bucket", "mark", self.settings.opencast_zone, pause=lambda _: None)
        self.dead_letters = DeadLetters(self.s3, "bucket", "dead/")
        self.ledger = GatedLedger(client, "useractions", lease=self.settings.lease, deployment=deployment)
        source = ActionsSource(
            self.opencast, self.settings.opencast_zone, Throttle(client, self.opencast.base_url)
        )
        self.stream = Useractions(source, self.episodes, self.sink, self.dead_letters, self.settings)
        self.destination = destination
        self.use()

    def use(self, **others):
        """Make the engine, with some parts in the place of the usual ones."""
        usual = {
            "stream": self.stream,
            "client": self.redis,
            "ledger": self.ledger,
            "watermarks": self.store,
            "dead_letters": self.dead_letters,
            "hints": self.mailbox,
            "settings": self.settings,
            "policy": Policy.of(self.settings),
            "destination": self.destination,
        }
        self.engine = Engine(**(usual | others))
        # Redis's clock is the real one, the world's is not.
        self.engine.clocks.now = lambda: self.clock.now

    def run_of(self, window):
        """Return a live run that is not opened."""
        return Run(
            id="run",
            stream=self.stream.name,
            kind="live",
            requested=window,
            window=window,
            etag=None,
            epoch="",
            known_from=None,
            batch_size=self.settings.batch_size,
            wait=self.settings.wait,
            opened_at=self.clock.now,
        )

    def options(self, **others):
        return dataclasses.replace(self.engine.usual_options, **others)

    def start_at(self, at=NOON):
        """Write the first watermark."""
        self.store.create(Watermark(at, at, "first-epoch", "nobody"))

    @property
    def mark(self):
        return self.store.read().mark

    @property
    def live(self):
        return self.ledger.live()

    def known(self):
        """Return the ids known in the watermark's epoch."""
        ids = IdsByTime(self.redis, known_key("useractions", self.mark.epoch, DESTINATION))
        return sorted(ids.within(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)), key=int)

    def due(self, run_id):
        """Return the outstanding slices by start."""
        return sorted(self.redis.zrange(f"{PREFIX}run:{run_id}:due", 0, -1))

    def time_passes_in_redis(self):
        """Let all leases and back-offs end, and all hints get lost."""
        for key in self.redis.scan_iter(f"{PREFIX}run:*:due"):
            self.redis.zadd(key, dict.fromkeys(self.redis.zrange(key, 0, -1), 0))
        for key in self.redis.scan_iter(f"{PREFIX}run:*:hinted"):
            self.redis.unlink(key)
        for key in self.redis.scan_iter(PLANNING("*")):
            self.redis.unlink(key)

    def work(self):
        """Follow all hints to work that there are, and those that come of it; return how many."""
        count = 0
        while self.mailbox.slices:
            self.engine.work(*self.mailbox.slices.pop(0))
            count += 1
            assert count < 2000, "slices are worked at for ever"
        return count

    def harvest(self):
        """Tick, then do all that was hinted at and that comes of it."""
        self.mailbox.advances = 1
        while self.mailbox.advances:
            self.mailbox.advances = 0
            self.engine.advance()
            self.work()

    def dead(self):
        """Return the dead letters as (kind, payload)."""
        return [
            (letter["kind"], letter["payload"])
            for key, body in sorted(self.s3.objects.items())
            if key.startswith("dead/")
            for letter in [json.loads(body)]
        ]


def beat_is_heard(settings):
    """Let a site be one whose beat ticks, and finds nothing to do."""
    with contextlib.closing(assembly.redis_client(settings)) as client:
        for stream in assembly.streams(settings):
            assembly.state(settings, client, stream=stream).tick(settings.every)


def at(seconds):
    """Return the instant so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def span(start, end):
    """Return an interval by seconds after noon."""
    return Interval(at(start), at(end))
