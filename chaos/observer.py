"""Watches a run all the time: what SQS confirmed, what the watermark said at that moment, how late this machine is."""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests

from chaos.record import Ahead, Delivery, Happened
from chaos.site import MANAGE, Site
from devservers.proxy import Call, Reply
from uaharvest import assembly
from uaharvest.documents import indexed
from uaharvest.errors import HarvestError
from uaharvest.runs.watermark import Stored, Watermark

LOOK_EVERY = 0.1  # seconds
LATE = 0.5  # seconds by which this process may wake up late, before the machine counts as standing still
# How often a row that seems unconfirmed is looked at again: who inserts late rows notes them a moment later.
LOOKS = 3
_CREDENTIAL = re.compile(r"\bCredential=(\w+)/")
MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class _Mark:
    """The watermark was written, or read, when so many deliveries had been confirmed."""

    at: float
    mark: Watermark
    deliveries: int


class Observer:
    """Hears all calls of S3 and SQS from the proxy, and looks at S3, the source and the clock by itself.

    Attributes:
        deliveries: In the order in which SQS confirmed them.
        ahead: Where the watermark was ahead of them.
        pauses: When this machine stood still.
        marks: How often the watermark was written.
        seen: How often it was read.
        late: Ids of rows that appeared late, which the watermark need not have waited for.
        late_spans: Spans in which rows may appear late because the source's clock went back, with the ids that were
            there before.
    """

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.ahead: list[Ahead] = []
        self.pauses: list[Happened] = []
        self.marks = self.seen = 0
        self.late: set[int] = set()
        self.late_spans: list[tuple[datetime, datetime, set[int]]] = []
        self.heard: Callable[[str, str], bool] = lambda _kind, _by: False
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._pending: list[_Mark] = []
        self._over = threading.Event()
        self._newest = ""

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def drops(self, call: Call) -> bool:
        """Tell `heard` of a batch that SQS does not have yet; return whether SQS must not get it."""
        return call.target == "SendMessageBatch" and self.heard("before sending", _caller(call))

    def called(self, call: Call, status: int, body: bytes, reply: Reply | None) -> None:
        """Note a call that SQS or S3 has answered; then tell `heard` what it was, and who made it."""
        if status != requests.codes.ok:
            return
        by = _caller(call)
        if call.target == "SendMessageBatch":
            self._sent(call, body, by, told=reply is None)
            self.heard("sending", by)
        elif call.method == "PUT" and call.path.endswith("/last-action-timestamp"):
            self._written(call)
            self.heard("committing", by)

    def _sent(self, call: Call, body: bytes, by: str, *, told: bool) -> None:
        confirmed = {entry["Id"] for entry in json.loads(body).get("Successful", ())}
        now = self.now
        with self._lock:
            for entry in json.loads(call.body)["Entries"]:
                if entry["Id"] in confirmed:
                    records = indexed.records(entry["MessageBody"])
                    self.deliveries += [_delivery(record, now, by, told=told) for record in records]

    def _written(self, call: Call) -> None:
        mark = Watermark.from_json(_unchunked(call.body))
        with self._lock:
            self.marks += 1
            self._pending.append(_Mark(self.now, mark, len(self.deliveries)))

    def run(self, site: Site) -> None:
        """Look until `stop`; for a thread of its own."""
        store = assembly.watermarks(site.settings)
        while not self._over.is_set():
            before = time.monotonic()
            self._over.wait(LOOK_EVERY)
            self._note_pause(time.monotonic() - before - LOOK_EVERY)
            self.look(site, store.read)
        self.look(site, store.read)

    def stop(self) -> None:
        """End `run`."""
        self._over.set()

    def look(self, site: Site, read: Callable[[], Stored | None]) -> None:
        """Read the watermark from S3 and check all marks that were not checked yet."""
        try:
            stored = read()
        except HarvestError:  # it stands still
            stored = None
        with self._lock:
            if stored is not None:
                self.seen += 1
                if stored.etag != self._newest:
                    self._newest = stored.etag
                    self._pending.append(_Mark(self.now, stored.mark, len(self.deliveries)))
            pending = list(self._pending)
        for mark in pending:
            try:
                missing = self._missing(site, mark)
            except (requests.RequestException, HarvestError):
                return  # the source stands still
            if missing:
                self.ahead.append(Ahead(mark.at, f"{mark.mark.at:%T}", sorted(missing)))
            with self._lock:
                self._pending.remove(mark)

    def _missing(self, site: Site, mark: _Mark) -> set[int]:
        """Return the rows before a mark that were not confirmed when it was written."""
        for _ in range(LOOKS):
            confirmed = {delivery.id for delivery in self.deliveries[: mark.deliveries]}
            missing = site.truth(mark.mark.floor, mark.mark.at) - confirmed - self.late_ids(site)
            if missing:
                missing -= dead_ids(site)
            if not missing:
                return missing
            time.sleep(LOOK_EVERY)
        return missing

    def late_ids(self, site: Site) -> set[int]:
        """Return the rows that appeared late."""
        late = set(self.late)
        for start, end, before in list(self.late_spans):
            late |= site.truth(start, end) - before
        return late

    def _note_pause(self, late: float) -> None:
        if late > LATE:
            now = self.now
            self.pauses.append(Happened("stop", MACHINE, now - late - LOOK_EVERY, now))


def dead_ids(site: Site) -> set[int]:
    """Return the rows that are in dead letters."""
    letters = assembly.dead_letters(site.settings)
    found: set[int] = set()
    for name in letters.names("useractions"):
        payload = letters.get(name).payload
        if {"start", "end"} <= payload.keys():
            found |= site.truth(*_bounds(payload["start"], payload["end"]))
        else:
            found |= {int(number) for number in re.findall(r"/record-(\d+)$", name)}
    return found


def _bounds(start: str, end: str) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(start), datetime.fromisoformat(end)


def _delivery(record: Mapping[str, Any], now: float, by: str, *, told: bool) -> Delivery:
    created = datetime.fromisoformat(record["timestamp"]).timestamp()
    return Delivery(record["action_id"], now, by, told, created, record["action"]["outpoint"] or 0)


def _caller(call: Call) -> str:
    found = _CREDENTIAL.search(call.headers.get("authorization", ""))
    return found[1] if found else MANAGE


def _unchunked(body: bytes) -> str:
    """Return the JSON object in the body of a PUT, which botocore may send in chunks."""
    return body[body.index(b"{") : body.rindex(b"}") + 1].decode()
