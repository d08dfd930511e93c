"""A whole stream in one file: a row for each even second of this host's clock, delivered into a list in Redis.

`python toy.py celery ...` and `python toy.py manage.py ...` are those programs with this stream in the registry.
"""

import runpy
import sys
from datetime import UTC, datetime, timedelta

from uaharvest import assembly
from uaharvest.intervals import Interval, whole_second
from uaharvest.runs.delivered import IdsByTime, TimeReporter
from uaharvest.runs.stream import Delivered, Plan
from uaharvest.runs.windows import next_window
from uaharvest.sinks import Outgoing
from uaharvest.streams import registry
from uaharvest.streams.spec import StreamSpec
from uaharvest.streams.time_slice import TimeSlice

DELIVERED = "toy:delivered"


def rows(interval):
    """Return what the source has in `interval`."""
    start, end = int(interval.start.timestamp()), int(interval.end.timestamp())
    return [second for second in range(start, end) if second % 2 == 0]


class Toy:
    name = "toy"

    def __init__(self, client, settings, longest_window):
        self._redis = client
        self._lag = settings.lag
        self.longest_window = longest_window

    def now(self):
        return datetime.now(UTC)

    def begin(self, now, minutes):
        return whole_second(now - timedelta(minutes=minutes))

    def next_window(self, watermark, now):
        return next_window(watermark, whole_second(now), lag=self._lag, longest=self.longest_window)

    def first_window(self, rest):
        return Interval(rest.start, min(rest.end, rest.start + timedelta(seconds=self.longest_window)))

    def delivered_ids(self, client, key):
        return IdsByTime(client, key)

    def reporter(self, delivered, ledger, run, slice_):
        return TimeReporter(ledger, run, slice_.interval, delivered)

    def parse_slice(self, text):
        return TimeSlice.parse(text)

    def late_from(self, watermark):
        return watermark

    def plan(self, run, *, late, delivered):
        total = len(rows(run.window))
        return Plan(TimeSlice(run.window).cut(-(-total // run.batch_size)) if total else [], total)

    def count(self, interval, *, wait):
        return len(rows(interval))

    def work(self, run, slice_, reporter):
        known = reporter.delivered(slice_.interval.start, slice_.interval.end)
        found = [row for row in rows(slice_.interval) if str(row) not in known]
        if found:
            self._redis.rpush(DELIVERED, *found)
        reporter.confirm(Outgoing(row, float(row), "") for row in found)
        return Delivered(len(found))

    def redeliver(self, payload):
        raise NotImplementedError  # no row is ever refused


def build(settings, hints):
    client = assembly.redis_client(settings)
    return assembly.engine_of(
        Toy(client, settings, SPEC.policy(settings).longest_window),
        settings,
        hints,
        client=client,
        dead_letters=assembly.dead_letters(settings),
        destination=DELIVERED,
        source="this host's clock",
    )


SPEC = StreamSpec(
    name="toy",
    watermark_key=lambda _: "toy-watermark",
    source=lambda _: "the clock",
    destination=lambda _: DELIVERED,
    build=build,
)

if __name__ == "__main__":
    registry.register(SPEC)
    del sys.argv[0]
    if sys.argv[0] == "celery":
        runpy.run_module("celery", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
