"""What Redis writes is read from its file: across restarts, losses and snapshots, and from scripts too."""

import uuid
from datetime import timedelta

import pytest
import redis

from chaos import site
from chaos.ledger import AppendOnlyFile, Ledger
from chaos.record import Taken
from devservers import stack
from tests.fakes import NOON, span
from uaharvest import keys
from uaharvest.runs import ledger as product
from uaharvest.runs.ledger import Run

KNOWN = keys.KNOWN("useractions", "digest", "epoch")
SLICE = str(span(0, 60))


@pytest.fixture
def valkey():
    with stack.valkey(appendonly=True) as server:
        yield server


@pytest.fixture
def file(valkey):
    made = AppendOnlyFile(valkey.directory / "data")
    yield made
    made.close()


def settle(client):
    """Wait until the file has what this client has written: on a slow disk that may take seconds."""
    client.execute_command("WAITAOF", 1, 0, 0)


class Following(Ledger):
    """A ledger that catches up at the times that a test names."""

    def __init__(self, file, client):
        self.now = 0.0
        self._client = client
        super().__init__(file, lambda: self.now)

    def catch_up_at(self, now):
        settle(self._client)
        self.now = now
        self.catch_up()


@pytest.fixture
def client(valkey):
    with redis.Redis.from_url(valkey.url, decode_responses=True) as made:
        yield made


@pytest.fixture
def ledger(file, client):
    return Following(file, client)


@pytest.fixture
def real(client):
    """The product's own ledger, with an open run of one slice; its leases end at once."""
    made = product.Ledger(client, "useractions", lease=0)
    window = span(0, 60)
    run = Run(
        id="r",
        stream="useractions",
        kind="live",
        requested=window,
        window=window,
        etag="e",
        epoch="epoch",
        known_from=NOON - timedelta(days=1),
        batch_size=100,
        wait=0,
        opened_at=NOON,
    )
    assert made.open(run, [SLICE])
    return made


def claim(real):
    made = real.claim("r", SLICE, uuid.uuid4().hex)
    assert made is not None
    return made


def test_rows_are_known_from_when_the_products_script_marked_them(real, ledger):
    ledger.catch_up_at(1.0)
    assert ledger.known == {}
    real.mark("r", [KNOWN], [(1.0, 7), (2.0, 8)], delivered=2)
    ledger.catch_up_at(2.0)
    real.mark("r", [KNOWN], [(3.0, 9)], delivered=1)
    ledger.catch_up_at(3.0)
    assert ledger.known == {7: [2.0], 8: [2.0], 9: [3.0]}


def test_a_slice_changes_hands_when_it_is_claimed_after_its_lease_and_until_it_is_done(real, ledger):
    claim(real)
    ledger.catch_up_at(1.0)
    assert ledger.taken() == []
    claim(real)
    ledger.catch_up_at(4.0)
    interval = (span(0, 60).start.timestamp(), span(0, 60).end.timestamp())
    assert ledger.taken() == [Taken(*interval, since=1.0, at=4.0)]
    real.complete("r", SLICE, found=1)
    ledger.catch_up_at(5.0)
    assert ledger.taken() == [Taken(*interval, since=1.0, at=4.0, until=5.0)]


def test_a_slice_that_was_given_back_does_not_change_hands(real, ledger):
    real.release("r", claim(real), delay=0, attempts=1, waits=1, reason="an outage")
    claim(real)
    ledger.catch_up_at(1.0)
    assert ledger.taken() == []


def test_it_goes_on_after_a_restart_a_loss_and_a_snapshot(valkey, client, ledger, tmp_path):
    def add(row_id):
        client.zadd(KNOWN, {row_id: 1})
        settle(client)  # a Redis that is killed may lose what it wrote in the last second

    add("1")
    ledger.catch_up_at(1.0)
    valkey.kill()
    valkey.start()
    add("2")
    ledger.catch_up_at(2.0)
    site.snapshot(valkey, tmp_path / "snapshot")
    add("3")
    valkey.kill()
    valkey.forget()
    valkey.start()
    add("4")
    ledger.catch_up_at(3.0)
    assert ledger.known == {1: [1.0], 2: [2.0], 3: [3.0], 4: [3.0]}
    valkey.kill()
    site.restore(valkey, tmp_path / "snapshot")
    valkey.start()
    add("5")
    ledger.catch_up_at(4.0)
    assert ledger.known == {1: [1.0, 4.0], 2: [2.0, 4.0], 3: [3.0], 4: [3.0], 5: [4.0]}
