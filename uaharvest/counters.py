"""Counts requests to other services, with their failures and durations, until a script writes the counts to Redis.

Counting only adds to a dictionary. Scripts that run anyway (at the end of a slice, at a failure, at a tick of beat)
take the counts along, and `manage.py metrics` reads them from Redis. If a process is killed in between, its last
counts are missing.

Names of counts, which are fields of the hash `keys.COUNTERS`:

    requests:<upstream>:<bucket>    requests that took at most so many seconds, but longer than the bucket before
    microseconds:<upstream>         total duration of all requests
    faults:<upstream>:<fault>       requests that failed
    delivered, repeated, dead       rows; written by run_mark.lua, slice_complete.lua and the indexer themselves
    failures:<kind>                 failures of the stream; written by stream_failed.lua
"""

import collections
import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Literal

# Upper limits of the buckets of durations, seconds. The last bucket has none.
BUCKETS = ("0.05", "0.25", "1.0", "5.0", "30.0", "+Inf")

# Why a request failed: no answer in time; no connection, or no whole answer; the server is busy (408, 429, 5xx); it
# refuses (any other status).
Fault = Literal["timeout", "unreachable", "busy", "refused"]

_lock = threading.Lock()
_counts: collections.Counter[str] = collections.Counter()


def request(upstream: str, seconds: float, fault: Fault | None = None) -> None:
    """Count a request that has ended: how long it took, and why it failed if it did."""
    bucket = next(limit for limit in BUCKETS if seconds <= float(limit))
    with _lock:
        _counts[f"requests:{upstream}:{bucket}"] += 1
        _counts[f"microseconds:{upstream}"] += int(seconds * 1e6)
        if fault:
            _counts[f"faults:{upstream}:{fault}"] += 1


@contextlib.contextmanager
def taken() -> Iterator[Mapping[str, int]]:
    """Take the counts, for a block that writes them. If the block fails, they are kept for the next one."""
    global _counts
    with _lock:
        counts, _counts = _counts, collections.Counter()
    try:
        yield counts
    except BaseException:
        with _lock:
            _counts.update(counts)
        raise


@contextlib.contextmanager
def taken_as_json() -> Iterator[str]:
    """Take the counts like `taken`, as the JSON object that scripts expect."""
    with taken() as counts:
        yield json.dumps(counts)


def _forget() -> None:
    """Start from zero in a forked process, because its parent writes the parent's counts."""
    global _counts, _lock
    _counts, _lock = collections.Counter(), threading.Lock()


os.register_at_fork(after_in_child=_forget)
