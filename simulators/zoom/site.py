"""The state of a simulated account: its clock, its world, credentials and quotas, and the request log."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from threading import Lock, RLock
from typing import Any, TypeVar

from simulators.zoom.faults import Faults
from simulators.zoom.gate import Gate
from simulators.zoom.generator import Generator, make_people
from simulators.zoom.options import Options, change_options
from simulators.zoom.paging import Pages
from simulators.zoom.quotas import Quotas, Rules
from simulators.zoom.world import Meeting, State, World

Result = TypeVar("Result")


class RequestLog:
    """Counts requests, except control requests."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._endpoints, self._statuses = Counter[str](), Counter[str]()
            self._meetings = Counter[str]()

    def add(self, endpoint: str, uuid: str | None, status: int) -> None:
        """Count a request; status 0 is a dropped connection."""
        with self._lock:
            self._endpoints[endpoint] += 1
            self._statuses[str(status)] += 1
            if uuid is not None:
                self._meetings[uuid] += 1

    def read(self) -> dict[str, dict[str, int]]:
        """Return the counts by endpoint, status and meeting UUID."""
        with self._lock:
            return {
                "endpoints": dict(self._endpoints),
                "statuses": dict(self._statuses),
                "meetings": dict(self._meetings),
            }


class Site:
    """All data that the endpoints read. Thread-safe."""

    def __init__(self, options: Options) -> None:
        """Create the world; `open` starts its clock and daily counters."""
        self.options = options
        self.faults = Faults(options.seed)
        for fault in options.fault:
            self.faults.add(fault)
        self.log = RequestLog()
        self.gate = Gate()
        self.quotas = Quotas(self.now, time.monotonic)
        self.pages = Pages[Any]()
        self._lock = RLock()
        self._offset = 0.0
        people = make_people(options.seed, options.people)
        days = [options.date - timedelta(days=back) for back in range(options.days)]
        self._generator = Generator(options.seed, people, options.date)
        made: list[Meeting] = self._generator.make(options.meetings)
        for day in days[1:]:
            made += Generator(options.seed, people, day).make(options.meetings)
        self._world = World(people, made)
        self.open()
        for meeting in self._generator.make_live(options.live, self.now_ms()):
            self._world.add(meeting)

    def open(self) -> None:
        """Begin: set the clock to `--now` and count `--day-ends-in` from now."""
        if self.options.now is not None:
            self._offset = self.options.now - time.time()
        self._day_since = self.now()

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return time.time() + self._offset

    def now_ms(self) -> int:
        """Return the server's time in epoch ms."""
        return int(self.now() * 1000)

    def set_clock(self, offset_seconds: float) -> float:
        """Set the server clock's offset from the real one; return the server's time."""
        self._offset = offset_seconds
        return self.now()

    def change_options(self, wanted: Mapping[str, object]) -> None:
        """Change options, in the notation of the command line; raises `ValueError`."""
        with self._lock:
            self.options = change_options(self.options, wanted)
            if {"day_ends_in", "day-ends-in"} & wanted.keys():
                self._day_since = self.now()

    @property
    def rules(self) -> Rules:
        """The current quotas."""
        return self.options.rules(self._day_since)

    def state(self, meeting: Meeting) -> State:
        """Return a meeting's state by the server's clock."""
        return meeting.state(self.now_ms(), int(self.options.delay_seconds * 1000))

    def read(self, ask: Callable[[World], Result]) -> Result:
        """Query the world while nobody changes it."""
        with self._lock:
            return ask(self._world)

    def post(self, start_ms: int, duration_ms: int, people: int, change: Callable[[Meeting], None]) -> Meeting:
        """Create a meeting, change it and add it; raise `ValueError` if its UUID is taken."""
        with self._lock:
            meeting = self._generator.meeting(start_ms, duration_ms, people)
            change(meeting)
            if meeting.uuid in self._world:
                raise ValueError(f"uuid: {meeting.uuid} is taken")
            self._world.add(meeting)
            return meeting

    def change(self, uuid: str, change: Callable[[Meeting, Generator], None]) -> Meeting:
        """Change a meeting in place; raise `ValueError` if the UUID is unknown."""
        with self._lock:
            meeting = self._world.by_uuid(uuid)
            if meeting is None:
                raise ValueError(f"uuid: no meeting {uuid}")
            self._world.remove(uuid)
            try:
                change(meeting, self._generator)
            finally:
                self._world.add(meeting)
            return meeting

    def remove(self, uuid: str) -> None:
        """Remove a meeting; raise `ValueError` if the UUID is unknown."""
        with self._lock:
            if uuid not in self._world:
                raise ValueError(f"uuid: no meeting {uuid}")
            self._world.remove(uuid)

    def truth(self, start_ms: int, end_ms: int, *, keys: bool) -> dict[str, object]:
        """Return everything about the meetings that start in [start, end), and the fewest calls that read them.

        The fewest calls are the lists of `past` and `pastOne` and /report/users with pages of 300, and each
        meeting's participants likewise; only for what is visible by now.
        """
        with self._lock:
            found = [meeting for meeting in self._world if start_ms <= meeting.start_ms < end_ms]
            rows = [self._describe(meeting, keys=keys) for meeting in reversed(found)]
            past = [meeting for meeting in found if self.state(meeting) == "past"]
        hosts = {meeting.host.id for meeting in past if meeting.host.listed}
        alone = sum(meeting.alone for meeting in past)
        return {
            "meetings": rows,
            "count": len(rows),
            "rows": sum(len(meeting.sessions) for meeting in found),
            "distinct": sum(_distinct(meeting) for meeting in found),
            "least_calls": {
                "meetings": _pages([len(past) - alone, alone]),
                "report-users": _pages([len(hosts)]),
                "participants": _pages(len(meeting.sessions) for meeting in past),
            },
        }

    def _describe(self, meeting: Meeting, *, keys: bool) -> Mapping[str, object]:
        described: dict[str, object] = {
            "uuid": meeting.uuid,
            "id": meeting.id,
            "kind": meeting.kind,
            "state": self.state(meeting),
            "type": "pastOne" if meeting.alone else "past",
            "start_ms": meeting.start_ms,
            "end_ms": meeting.end_ms,
            "host_id": meeting.host.id if meeting.host.listed else None,
            "email": meeting.host.email,
            "defective": meeting.defective,
            "rows": len(meeting.sessions),
            "distinct": _distinct(meeting),
            "people": len({session.person for session in meeting.sessions}),
            "distinguishable": meeting.distinguishable,
        }
        if keys:
            described["sessions"] = sorted({session.key for session in meeting.sessions})
        return described


def _distinct(meeting: Meeting) -> int:
    return len({session.key for session in meeting.sessions})


def _pages(lengths: Iterable[int]) -> int:
    return sum(max(1, math.ceil(length / 300)) for length in lengths)
