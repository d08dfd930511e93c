"""A busy day: an audit takes little more time than reading the ids, little memory, and finds 1,000 gaps."""

import random
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from uaharvest.audit.day import added
from uaharvest.audit.rows import DatabaseRows
from uaharvest.audit.useractions import ActionsAudit
from uaharvest.documents.document import Document
from uaharvest.intervals import Interval
from uaharvest.opencast.sql import SqlSource, connect
from uaharvest.settings import Settings
from uaharvest.sinks.cluster.store import ClusterStore

pytestmark = [pytest.mark.fault, pytest.mark.long]

A_DAY = 500_000
BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
INDEX = "useractions-2026.11.20"
# More than the ids' own transfer, of the source and of the documents.
SPARE = 1.3
MEGABYTES = 50

SERIES = {
    "mariadb": (
        "seq_1_to_{rows}",
        "seq",
        "TIMESTAMP '2026-11-20 00:00:00' + INTERVAL (seq * 86399 DIV {a_day}) SECOND",
    ),
    "postgresql": (
        "generate_series(1, {rows}) AS seq",
        "seq",
        "TIMESTAMP '2026-11-20 00:00:00' + (seq::bigint * 86399 / {a_day}) * INTERVAL '1 second'",
    ),
}


class NoThrottle:
    def turn(self, wait):
        pass


class NoLetters:
    ids = frozenset()

    def covers(self, at):
        return False


class Opencast:
    """Refuses to be asked for the zone of rows."""

    base_url = "http://engage.example.edu/"

    def action(self, row_id):
        return None


class Delivery:
    """Takes note of what is sent."""

    def __init__(self):
        self.sent = []

    def send(self, actions, reporter):
        self.sent += [action.id for action in actions]
        reporter.confirm(actions)
        return 0

    def is_erased(self, action):
        return False


def at(number):
    return BEGIN + timedelta(seconds=number * 86_399 // A_DAY)


class Part(NamedTuple):
    """The first hours of the day, and how many rows it has there."""

    hours: list[Interval]
    rows: int


# The fewer hours, the sooner it is done; an hour costs the same.
@pytest.fixture(params=[2, 24])
def part(request):
    span = Interval(BEGIN, BEGIN + timedelta(hours=request.param))
    return Part(span.cut(request.param), next(number for number in range(A_DAY, 0, -1) if at(number) < span.end))


@pytest.fixture
def source(database, tables, part, request):
    kind = request.node.callspec.params["database"]
    table, number, created = (text.format(rows=part.rows, a_day=A_DAY) for text in SERIES[kind])
    with tables.begin() as connection:
        connection.execute(sa.text("INSERT INTO oc_user_session (session_id) VALUES ('one')"))
        connection.execute(
            sa.text(
                "INSERT INTO oc_user_action"
                " (id, created, mediapackage, type, playing, session_id, inpoint, outpoint, length)"
                f" SELECT {number}, {created}, 'm', 'PLAY', true, 'one', 1, 2, 1 FROM {table}"
            )
        )
    engine = connect(database.url)
    yield SqlSource(engine, ZoneInfo("UTC"), NoThrottle(), Opencast())
    engine.dispose()


@pytest.fixture
def gaps(part):
    return sorted(random.Random(14).sample(range(1, part.rows + 1), 1_000))


@pytest.fixture
def store(cluster, templates, es, part, gaps):
    made = ClusterStore(cluster)
    lacking = set(gaps)
    documents = (
        Document(INDEX, str(number), {"action_id": number, "@timestamp": f"{at(number):%FT%T}.000Z"})
        for number in range(1, part.rows + 1)
        if number not in lacking
    )
    for _ in made.write(documents):
        pass
    es.indices.refresh(index=INDEX)
    return made


def test_a_day_of_half_a_million_rows_costs_little_and_1000_gaps_are_found(
    source, store, part, gaps, record_property
):
    hours, rows = part
    delivery = Delivery()
    audit = ActionsAudit(DatabaseRows(source, wait=0), store, NoLetters, delivery, Settings())

    def read_ids():
        there = sum(len(ids) for hour in hours for ids in source.ids(hour))
        return there, sum(1 for _ in store.select(INDEX, fields=()))

    def compare(*, repair=False):
        found = {}
        for piece in hours:
            found = added(found, audit.audit(piece, repair=repair))
        return found["useractions"]

    def processor(work):
        began = time.process_time()
        return work(), time.process_time() - began

    assert read_ids() == (rows, rows - 1_000)
    found, _ = processor(compare)
    assert (found.source, found.indexed, found.missing, found.extra) == (rows, rows - 1_000, 1_000, 0)
    least = min(processor(read_ids)[1] for _ in range(3))
    took = min(processor(compare)[1] for _ in range(3))
    record_property("seconds of CPU time", f"{took:.2f}, {took / least:.2f} times the ids' own transfer")
    assert took <= SPARE * least, (took, least)
    tracemalloc.start()
    assert compare(repair=True).sent == 1_000
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    record_property("megabytes", f"{peak:.0f}")
    assert peak < MEGABYTES
    assert sorted(delivery.sent) == gaps
