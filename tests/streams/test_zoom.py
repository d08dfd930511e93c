"""The stream of Zoom meetings: days, lists, meetings, what fails of them; with real Valkey and SQLite."""

import functools
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from redis import Redis

from uaharvest import assembly, aws, settings
from uaharvest.dead_letters import DeadLetters
from uaharvest.documents.meeting import LONGEST_ID
from uaharvest.errors import (
    BadInputError,
    BlockedError,
    BusyError,
    IndexBlockedError,
    PoisonError,
    PutOffError,
    RetryableError,
    SourceError,
)
from uaharvest.intervals import Interval
from uaharvest.keys import PREFIX
from uaharvest.runs.days import DAY
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.policy import Policy
from uaharvest.runs.watermark import WatermarkStore, first
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.streams.zoom import Meetings
from uaharvest.streams.zoom.lists import MOST_WAITS
from uaharvest.streams.zoom.slices import Meeting, parse_slice
from uaharvest.zoom.failures import DaysRefusedError, MeetingUnavailableError
from uaharvest.zoom.lists import MeetingsPage, RefusedHost
from uaharvest.zoom.participants import Participants
from uaharvest.zoom.rows import read_meeting, read_participant

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (MONDAY + n * DAY for n in (1, 2, 3, 4))
HOUR = timedelta(hours=1)
AT = 5 * HOUR  # ZOOM_AT
TEN = 10 * HOUR


class FakeZoom:
    """An account with meetings; its lists have pages of two."""

    def __init__(self):
        self.clock = WEDNESDAY + AT
        self.rows = []
        self.rooms = {}
        self.failing = {}
        self.down = None
        self.full = []  # raised, one after another, in place of a page
        self.calls = Counter()
        self.asked = []
        self.hosts = {"h@example.edu": "host-1"}
        self.totals = {}
        self.source = "dashboard"

    def meet(self, uuid, start, *people, kind="past", **changes):
        """Add a meeting of so many people, an hour long."""
        end = start + HOUR
        row = {
            "uuid": uuid,
            "id": 123,
            "topic": f"Topic of {uuid}",
            "email": "H@example.edu",
            "start_time": f"{start:%FT%TZ}",
            "end_time": f"{end:%FT%TZ}",
            "duration": "01:00:00",
            "participants": len(people),
        }
        self.rows.append((kind, start, row | changes))
        self.rooms[uuid] = [
            {
                "user_id": f"{n}",
                "user_name": name,
                "join_time": f"{start:%FT%TZ}",
                "leave_time": f"{end:%FT%TZ}",
                "status": "in_meeting",
            }
            for n, name in enumerate(people)
        ]

    def change(self, uuid, **changes):
        next(row for _, _, row in self.rows if row["uuid"] == uuid).update(changes)

    def now(self):
        if self.down:
            raise self.down
        return self.clock

    def meetings(self, first, last, kind, *, token=""):
        if first < date(2026, 6, 1):
            raise BadInputError("Zoom keeps meetings for six months: expected days from 2026-06-01 on.")
        listed = [row for of, start, row in self.rows if of == kind and first <= start.date() <= last]
        at = int(token or 0)
        while True:
            if self.full and (error := self.full.pop(0)):
                raise error
            if self.down:
                raise self.down
            self.calls[f"{kind} {at}"] += 1
            rest = len(listed) > at + 2
            yield MeetingsPage(
                [read_meeting(row) for row in listed[at : at + 2]], str(at + 2) if rest else "", "dashboard"
            )
            if not rest:
                return
            at += 2

    def host_ids(self, first, last):
        self.calls["hosts"] += 1
        return self.hosts

    def participants(self, uuid, kind):
        if self.down or uuid in self.failing:
            raise self.down or self.failing[uuid]
        self.asked.append(uuid)
        assert kind == next(of for of, _, row in self.rows if row["uuid"] == uuid)
        return Participants(self.joins(uuid), total=self.totals.get(uuid), source=self.source)

    def joins(self, uuid):
        return [read_participant(row) for row in self.rooms[uuid]]


class Store(SqliteStore):
    """A store that may fail or refuse."""

    def __init__(self, path):
        super().__init__(path)
        self.refuses = set()
        self.blocked = {}  # indices that take nothing, and why
        self.error = None

    def write(self, documents):
        documents = list(documents)
        if self.error:
            raise self.error
        blocked = {one.index: self.blocked[one.index] for one in documents if one.index in self.blocked}
        documents = [document for document in documents if document.index not in blocked]
        refused = [document for document in documents if document.id in self.refuses]
        yield from super().write([document for document in documents if document not in refused])
        yield Receipt(refused=[(document, "mapper_parsing_exception") for document in refused])
        if blocked:
            raise IndexBlockedError(blocked)


class Mailbox:
    """Hints that nobody has read yet."""

    def __init__(self):
        self.advances = 0
        self.slices = []

    def advance(self, run_id=None):
        self.advances += 1

    def work(self, run_id, slice_id):
        self.slices.append((run_id, slice_id))


class World:
    """An engine of the meetings with all that it touches."""

    def __init__(
        self, client, bucket, path, *, zoom=None, patience=1.0, locate=lambda _: None, deployment="", **changes
    ):
        chosen = {"opencast_zone": ZoneInfo("UTC"), "attempts": 3, "lease": 3600, "max_window": 86400}
        self.settings = Settings(**(chosen | changes))
        self.redis = client
        self.zoom = zoom or FakeZoom()
        self.store = Store(path)
        self.mailbox = Mailbox()
        self.marks = WatermarkStore(aws.s3_client(), bucket, f"zoom{deployment}", ZoneInfo("UTC"))
        self.dead_letters = DeadLetters(aws.s3_client(), bucket, "dead/")
        self.ledger = Ledger(client, "zoom", lease=self.settings.lease, deployment=deployment)
        self.pauses = []
        self.stream = Meetings(
            self.zoom,
            self.store,
            self.dead_letters,
            self.settings,
            client=client,
            place=self.ledger.place,
            locate=locate,
            ready_after=AT,
            patience=patience,
            pause=self.pauses.append,
        )
        self.engine = Engine(
            self.stream,
            client=client,
            ledger=self.ledger,
            watermarks=self.marks,
            dead_letters=self.dead_letters,
            hints=self.mailbox,
            settings=self.settings,
            policy=Policy.of(self.settings),
            destination="here",
        )

    def start_at(self, day, floor=None):
        self.marks.create(first(floor or day))
        if floor:
            stored = self.marks.read()
            self.marks.replace(type(stored.mark)(day, floor, stored.mark.epoch, "x"), stored.etag)

    @property
    def mark(self):
        return self.marks.read().mark.at

    def work(self):
        while self.mailbox.slices:
            self.engine.work(*self.mailbox.slices.pop(0))

    def harvest(self):
        self.mailbox.advances = 1
        while self.mailbox.advances:
            self.mailbox.advances = 0
            self.engine.advance()
            self.work()

    def ask(self, day):
        run = self.engine.ask(Interval(day, day + DAY), self.engine.usual_options, may_move=False)
        while self.ledger.run(run.id):
            self.engine.advance_explicit(run.id)
            self.work()

    def time_passes(self):
        """Let all back-offs end, and all hints get lost."""
        for key in self.redis.scan_iter(f"{PREFIX}run:*:due"):
            self.redis.zadd(key, dict.fromkeys(self.redis.zrange(key, 0, -1), 0))
        for key in self.redis.scan_iter(f"{PREFIX}run:*:hinted"):
            self.redis.unlink(key)

    def found(self, pattern):
        return sorted(f"{one['_index']} {one['_id']}" for one in self.store.select(pattern))

    def meetings(self):
        return [one["uuid"] for one in self.store.select("meetings*")]

    def sessions(self):
        return sorted(f"{one['meeting']} {one['user_name']}" for one in self.store.select("sessions*"))

    def dead(self):
        return [
            (letter.kind, letter.payload) for letter in map(self.dead_letters.get, self.dead_letters.names("zoom"))
        ]

    def last(self):
        return self.engine.state.history()[0]


@pytest.fixture
def client(redis, valkey_url):
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def make(client, bucket, tmp_path):
    """A function that makes worlds of one site."""
    return functools.partial(World, client, bucket, tmp_path / "documents.db")


@pytest.fixture
def world(make):
    """A site whose watermark is Tuesday; it is Wednesday, five o'clock."""
    world = make()
    world.start_at(TUESDAY)
    return world


def put_off(seconds):
    return PutOffError("Zoom's calls of this minute are used up.", datetime.now(UTC) + timedelta(seconds=seconds))


# Days


def test_a_first_run_harvests_yesterday(make):
    world = make()
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        world.zoom.meet(f"{day:%A}", day + TEN, "Ann")
    world.harvest()
    assert (world.meetings(), world.sessions(), world.mark) == (["Tuesday"], ["Tuesday Ann"], WEDNESDAY)


def test_missed_days_are_caught_up_one_by_one(make):
    world = make()
    world.start_at(MONDAY)
    world.zoom.meet("a", MONDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Ann", "Bob")
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann", "b Ann", "b Bob"], WEDNESDAY)
    entries = [(f"{one.start:%F}", one.delivered, one.counts) for one in world.engine.state.history()]
    assert entries == [("2026-11-17", 1, {"sessions": 2}), ("2026-11-16", 1, {"sessions": 1})]


def test_a_day_waits_for_its_hour(world):
    world.zoom.clock = WEDNESDAY + AT - timedelta(seconds=1)
    world.harvest()
    assert world.mark == TUESDAY
    world.zoom.clock += timedelta(seconds=1)
    world.harvest()
    assert world.mark == WEDNESDAY


def test_a_day_without_meetings_is_done_at_once_and_asks_for_no_hosts(world):
    world.harvest()
    assert (world.mark, world.zoom.calls) == (WEDNESDAY, {"past 0": 1, "pastOne 0": 1})


def test_a_watermark_that_zoom_does_not_keep_blocks_and_says_what_to_do(make):
    world = make()
    world.start_at(datetime(2026, 5, 1, tzinfo=UTC))
    with pytest.raises(BlockedError, match=r"six months.*watermark set --stream zoom"):
        world.engine.advance()
    assert world.engine.state.blocked().exit_code == 4


# Lists and documents


def test_meetings_of_one_and_of_many_are_fetched_as_what_they_are(world):
    world.zoom.meet("/many//==", TUESDAY + TEN, "Ann", "Bob")
    world.zoom.meet("one", TUESDAY + TEN, "Ann", kind="pastOne")
    world.harvest()
    assert world.sessions() == ["/many//== Ann", "/many//== Bob", "one Ann"]
    assert world.store.get("meetings-2026.11.17", "/many//==") == {
        "uuid": "/many//==",
        "meeting_series_id": "123",
        "topic": "Topic of /many//==",
        "host": {"host_id": "host-1", "email": "H@example.edu"},
        "start_time": "2026-11-17T10:00:00Z",
        "end_time": "2026-11-17T11:00:00Z",
        "duration": 3600,
        "participant_sessions": 2,
        "unique_participants": 2,
        "person_seconds": 7200,
        "peak_participants": 2,
        "waiting_room_sessions": 0,
        "breakout_sessions": 0,
    }


def test_no_call_is_made_twice(world):
    for n in range(5):
        world.zoom.meet(f"m{n}", TUESDAY + n * HOUR, "Ann")
    world.harvest()
    assert world.zoom.calls == {"past 0": 1, "past 2": 1, "past 4": 1, "pastOne 0": 1, "hosts": 1}
    assert Counter(world.zoom.asked) == {f"m{n}": 1 for n in range(5)}


def test_all_of_a_meeting_is_in_the_indices_of_the_day_on_which_it_started(make):
    world = make(index_infix="site")
    world.zoom.meet("a", TUESDAY + timedelta(hours=23, minutes=30), "Ann")
    world.zoom.rooms["a"][0]["join_time"] = "2026-11-18T00:10:00Z"
    world.harvest()
    (session,) = world.found("sessions*")
    assert session.startswith("sessions-site-2026.11.17 ")
    assert world.found("meetings*") == ["meetings-site-2026.11.17 a"]


def test_a_host_that_is_not_known_is_no_reason_to_leave_out_the_meeting(world):
    world.zoom.hosts = {}
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Ann", email="", host_id="host-of-report")
    world.harvest()
    hosts = [world.store.get("meetings-2026.11.17", uuid)["host"] for uuid in "ab"]
    assert hosts == [{"email": "H@example.edu"}, {"host_id": "host-of-report"}]


def test_a_meeting_in_both_lists_is_one(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann", "Bob")
    world.zoom.rows.append(("pastOne", TUESDAY + TEN, world.zoom.rows[0][2]))
    world.zoom.rows.reverse()
    world.zoom.participants = lambda uuid, _: world.zoom.asked.append(uuid) or Participants(world.zoom.joins(uuid))
    world.harvest()
    assert (world.zoom.asked, world.last().slices) == (["a"], 1)


def test_a_meeting_without_times_is_of_the_day_that_was_asked_for(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann", start_time="", end_time="", duration="", participants=0)
    world.harvest()
    assert world.found("meetings*") == ["meetings-2026.11.17 a"]
    assert world.sessions() == ["a Ann"]
    world.zoom.clock = THURSDAY + AT  # listed once more, and nobody could say of which day it is
    world.harvest()
    assert world.found("meetings*") == ["meetings-2026.11.17 a"]


def test_a_slice_is_its_id_and_names_no_person(world):
    one = Meeting("pastOne", '/a"//\u00e4==', TUESDAY, "123abc")
    assert parse_slice(str(one)) == one
    assert str(one).isascii()
    world.zoom.meet("a", TUESDAY + TEN, "Ann Smith")
    world.engine.advance()
    run = world.ledger.live()
    kept = json.dumps([world.redis.hgetall(f"{PREFIX}run:{run.id}"), world.ledger.take(run.id, 9)])
    kept += json.dumps(world.mailbox.slices)
    assert '[\\"past\\",\\"a\\",' in kept
    assert not any(secret in kept for secret in ("Ann", "example.edu", "Topic"))


def test_addresses_get_their_place(make):
    world = make(locate=lambda address: {"ip": address, "city_name": "Cambridge"})
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.rooms["a"][0]["ip_address"] = "192.0.2.1"
    world.harvest()
    (session,) = world.store.select("sessions*")
    assert session["geoip"] == {"ip": "192.0.2.1", "city_name": "Cambridge"}


# Looking back


def test_looking_back_fetches_what_is_new_or_has_changed_and_nothing_else(world):
    world.zoom.meet("same", TUESDAY + TEN, "Ann")
    world.zoom.meet("longer", TUESDAY + TEN, "Ann")
    world.zoom.meet("more", TUESDAY + TEN, "Ann")
    world.harvest()
    world.zoom.asked.clear()
    world.zoom.meet("late", TUESDAY + 23 * HOUR, "Ann")  # 26 hours, say: it had not ended
    world.zoom.change("longer", end_time="2026-11-17T12:00:00Z", duration="02:00:00")
    world.zoom.change("more", participants=2)
    world.zoom.rooms["more"].append({**world.zoom.rooms["more"][0], "user_id": "9", "user_name": "Bob"})
    world.zoom.change("same", topic="Another topic")
    world.zoom.clock = THURSDAY + AT
    world.harvest()
    assert sorted(world.zoom.asked) == ["late", "longer", "more"]
    assert world.sessions() == ["late Ann", "longer Ann", "more Ann", "more Bob", "same Ann"]
    assert world.store.get("meetings-2026.11.17", "more")["unique_participants"] == 2
    assert world.store.get("meetings-2026.11.17", "same")["topic"] == "Another topic"
    assert world.store.get("meetings-2026.11.17", "same")["unique_participants"] == 1  # kept
    world.zoom.asked.clear()
    world.zoom.clock = FRIDAY + AT
    world.harvest()
    assert world.zoom.asked == []


@pytest.mark.parametrize(("days", "found"), [(0, []), (1, []), (2, ["a"])])
def test_it_is_looked_back_so_many_days(make, days, found):
    world = make(zoom_lookback_days=days)
    world.start_at(THURSDAY, floor=MONDAY)
    world.zoom.meet("before", TUESDAY - HOUR, "Ann")
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.clock = FRIDAY + AT
    world.harvest()
    assert world.zoom.asked == found


def test_it_is_not_looked_back_before_the_first_day(world):
    world.zoom.meet("before", MONDAY + TEN, "Ann")
    world.harvest()
    assert world.zoom.asked == []


def test_a_day_that_was_harvested_from_its_noon_on_is_not_looked_back_at_before_noon(make):
    world = make()
    world.start_at(MONDAY + 12 * HOUR)
    world.zoom.meet("morning", MONDAY + TEN, "Ann")
    world.zoom.meet("evening", MONDAY + 18 * HOUR, "Ann")
    world.zoom.meet("some time", MONDAY + TEN, "Ann", start_time="", end_time="", duration="")
    world.harvest()
    assert (sorted(world.zoom.asked), world.mark) == (["evening", "morning", "some time"], WEDNESDAY)
    assert "meetings-2026.11.16 some time" in world.found("meetings*")
    assert len(world.meetings()) == 3


def test_a_redis_that_lost_its_data_costs_calls_and_no_meeting(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.harvest()
    before = world.found("*")
    world.redis.flushall()
    world.zoom.clock = THURSDAY + AT
    world.harvest()
    assert (world.found("*"), world.zoom.asked) == (before, ["a", "a"])


def test_a_redis_that_loses_its_data_in_the_middle_loses_no_meeting(world):
    for n in range(4):
        world.zoom.meet(f"m{n}", TUESDAY + n * HOUR, "Ann")
    world.engine.advance()
    world.engine.work(*world.mailbox.slices.pop())
    world.redis.flushall()
    world.work()
    world.harvest()
    assert (world.sessions(), world.mark) == ([f"m{n} Ann" for n in range(4)], WEDNESDAY)


def test_a_meeting_whose_documents_are_not_confirmed_is_fetched_again(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.engine.advance()
    world.store.error = RetryableError("Elasticsearch does not answer")
    world.work()
    assert world.sessions() == []
    world.store.error = None
    world.time_passes()
    world.harvest()
    assert (world.sessions(), world.mark, world.zoom.asked) == (["a Ann"], WEDNESDAY, ["a", "a"])


def test_what_a_worker_that_died_had_written_is_not_fetched_again(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.engine.advance()
    run_id, slice_id = world.mailbox.slices[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "complete", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            world.engine.work(run_id, slice_id)
    world.time_passes()
    world.harvest()
    assert (world.zoom.asked, world.mark) == (["a"], WEDNESDAY)


def test_asked_for_again_a_day_is_fetched_again_and_the_watermark_stays(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.harvest()
    world.ask(TUESDAY)
    assert (world.zoom.asked, world.mark, world.last().delivered) == (["a", "a"], WEDNESDAY, 1)


def test_a_range_is_harvested_day_by_day(world):
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        world.zoom.meet(f"{day:%A}", day + HOUR, "Ann")
    run = world.engine.ask(Interval(MONDAY, WEDNESDAY), world.engine.usual_options, may_move=False)
    while world.ledger.run(run.id):
        world.engine.advance_explicit(run.id)
        world.work()
    assert (world.meetings(), world.last().delivered) == (["Monday", "Tuesday"], 2)


# Quotas


def test_a_list_that_must_wait_long_goes_on_where_it_stopped(world):
    for n in range(5):
        world.zoom.meet(f"m{n}", TUESDAY + n * HOUR, "Ann")
    world.zoom.full = [None, put_off(60)]
    with pytest.raises(PutOffError):
        world.engine.advance()
    assert (world.zoom.calls, world.pauses) == ({"past 0": 1, "hosts": 1}, [])
    world.zoom.full = [None, None, put_off(60)]
    with pytest.raises(PutOffError):
        world.engine.advance()
    world.harvest()
    del world.zoom.calls["hosts"]  # which the client keeps for some minutes
    assert world.zoom.calls == {"past 0": 1, "past 2": 1, "past 4": 1, "pastOne 0": 1}
    assert (len(world.sessions()), world.mark) == (5, WEDNESDAY)


def test_a_list_that_must_wait_shortly_waits(world):
    for n in range(3):
        world.zoom.meet(f"m{n}", TUESDAY + n * HOUR, "Ann")
    world.zoom.full = [None, put_off(0.5)]
    world.harvest()
    assert world.zoom.calls == {"past 0": 1, "past 2": 1, "pastOne 0": 1, "hosts": 1}
    assert [0 < pause <= 0.5 for pause in world.pauses] == [True]
    assert world.mark == WEDNESDAY


def test_another_worker_reads_the_lists_of_the_next_day_anew(make, tmp_path):
    """Where one stopped is forgotten once the lists are read."""
    world = make()
    world.start_at(TUESDAY)
    world.harvest()
    assert not list(world.redis.scan_iter(f"{PREFIX}zoom:lists:*"))


def test_lists_are_read_by_one_worker_at_a_time(make):
    world, other = make(), make()
    world.start_at(TUESDAY)
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    hosts = world.zoom.host_ids

    def meanwhile(first, last):
        with pytest.raises(BusyError, match="another worker"):
            other.engine.advance()
        return hosts(first, last)

    world.zoom.host_ids = meanwhile
    world.harvest()
    assert (other.zoom.calls, world.sessions(), world.mark) == ({}, ["a Ann"], WEDNESDAY)


def test_another_deployment_reads_its_lists_meanwhile(client, bucket, tmp_path):
    world, other = (World(client, bucket, tmp_path / f"{name}.db", deployment=name) for name in ("one", "another"))
    for one in (world, other):
        one.start_at(TUESDAY)
        one.zoom.meet("a", TUESDAY + TEN, "Ann")
    hosts = world.zoom.host_ids

    def meanwhile(first, last):
        if other.mark == TUESDAY:
            other.harvest()
        return hosts(first, last)

    world.zoom.host_ids = meanwhile
    world.harvest()
    assert (world.sessions(), world.mark) == (other.sessions(), other.mark) == (["a Ann"], WEDNESDAY)


def test_who_read_for_longer_than_it_may_writes_nothing_over_what_another_reads(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    hosts = world.zoom.host_ids

    def too_late(first, last):
        for key in world.redis.scan_iter(f"{PREFIX}zoom:lists:*:held"):
            world.redis.delete(key)
        return hosts(first, last)

    world.zoom.host_ids = too_late
    with pytest.raises(RetryableError, match="took too long"):
        world.engine.advance()
    assert not list(world.redis.scan_iter(f"{PREFIX}zoom:lists:*"))
    world.zoom.host_ids = hosts
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], WEDNESDAY)


def test_a_meeting_whose_quota_is_used_up_waits_and_uses_up_no_attempt(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.failing = {"a": put_off(3600)}
    world.engine.advance()
    for _ in range(6):
        world.work()
        world.time_passes()
        world.mailbox.slices += [
            (world.ledger.live().id, one) for one in world.ledger.take(world.ledger.live().id, 9)
        ]
    world.zoom.failing = {}
    world.harvest()
    assert (world.sessions(), world.mark, world.dead()) == (["a Ann"], WEDNESDAY, [])


def test_when_a_meeting_that_waits_is_due_is_known(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.failing = {"a": put_off(3600)}
    world.engine.advance()
    world.work()
    due = world.ledger.next_due(world.ledger.live().id)
    assert 3590 < (due - datetime.now(UTC)).total_seconds() < 3610
    assert world.ledger.next_due("another") is None


# Failures


def test_a_meeting_that_zoom_has_not_is_counted_and_holds_back_nothing(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.meet("gone", TUESDAY + TEN, "Ann")
    world.zoom.meet("empty", TUESDAY + TEN)
    world.zoom.failing = {"gone": MeetingUnavailableError("Zoom has no such meeting (404, code 3001).", 3001)}
    world.harvest()
    assert (world.sessions(), world.mark, world.dead()) == (["a Ann"], WEDNESDAY, [])
    assert world.last().counts == {"sessions": 1, "unavailable": 1, "without_participants": 1}
    assert "unique_participants" not in world.store.get("meetings-2026.11.17", "gone")


def test_what_was_not_there_is_looked_for_when_looking_back(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.failing = {"a": MeetingUnavailableError("Zoom has no such meeting (404, code 3001).", 3001)}
    world.harvest()
    world.zoom.failing = {}
    world.zoom.clock = THURSDAY + AT
    world.harvest()
    assert world.sessions() == ["a Ann"]


def test_a_meeting_that_zoom_refuses_is_a_dead_letter_and_can_be_replayed(world):
    world.zoom.meet("/a//", TUESDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Ann")
    world.zoom.failing = {"/a//": PoisonError("Zoom refused this meeting (400, code 9999).")}
    for _ in range(8):
        world.harvest()
        world.time_passes()
    assert (world.sessions(), world.mark, world.last().dead_letters) == (["b Ann"], WEDNESDAY, 1)
    ((kind, payload),) = world.dead()
    assert (kind, payload) == ("slice", {"uuid": "/a//", "kind": "past", "start": "2026-11-17T10:00:00Z"})
    world.zoom.failing = {}
    assert world.stream.redeliver(json.loads(json.dumps(payload))) == 1
    assert world.sessions() == ["/a// Ann", "b Ann"]
    assert world.store.get("meetings-2026.11.17", "/a//")["unique_participants"] == 1


def test_a_refusal_that_passes_is_no_dead_letter(world):
    """Zoom at times answers 200 with an error in it."""
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.failing = {"a": PoisonError("Zoom refused this meeting (200, code 300).")}
    world.harvest()
    world.zoom.failing = {}
    world.time_passes()
    world.harvest()
    assert (world.sessions(), world.mark, world.dead()) == (["a Ann"], WEDNESDAY, [])


def test_a_meeting_that_keeps_failing_while_others_succeed_is_a_dead_letter(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Ann")
    world.zoom.failing = {"a": SourceError("answered 500")}
    for _ in range(8):
        world.harvest()
        world.time_passes()
    assert (world.sessions(), world.mark) == (["b Ann"], WEDNESDAY)
    assert [payload["uuid"] for _, payload in world.dead()] == ["a"]


def test_an_outage_uses_up_no_attempts(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Ann")
    world.engine.advance()
    world.zoom.down = SourceError("No whole answer")
    for _ in range(6):
        world.work()
        world.time_passes()
        world.mailbox.slices += [
            (world.ledger.live().id, one) for one in world.ledger.take(world.ledger.live().id, 9)
        ]
    world.zoom.down = None
    world.work()
    world.harvest()
    assert (world.sessions(), world.mark, world.dead()) == (["a Ann", "b Ann"], WEDNESDAY, [])


def test_a_list_that_is_refused_blocks_and_heals(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.full = [BlockedError("Give the app the scope dashboard:read:list_meetings:admin.")]
    with pytest.raises(BlockedError, match="scope"):
        world.engine.advance()
    assert "scope" in world.engine.state.blocked().reason
    world.harvest()
    assert (world.engine.state.blocked(), world.mark) == (None, WEDNESDAY)


def test_a_document_that_is_refused_is_a_dead_letter_and_the_others_are_there(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann", "Bob")
    world.harvest()
    (ann,) = (one["_id"] for one in world.store.select("sessions*") if one["user_name"] == "Ann")
    world.store.refuses = {ann}
    world.redis.flushall()
    world.ask(TUESDAY)
    assert (world.last().dead_letters, world.last().counts) == (1, {"sessions": 1})
    ((kind, payload),) = world.dead()
    assert (kind, payload["document"]["body"]["user_name"]) == ("record", "Ann")
    with pytest.raises(PoisonError, match="mapper_parsing_exception"):
        world.stream.redeliver(payload)
    world.store.refuses = set()
    assert world.stream.redeliver(payload) == 1


def test_a_meeting_that_is_refused_is_replayed_without_losing_what_its_sessions_told(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.store.refuses = {"a"}
    world.harvest()
    world.store.refuses = set()
    for _, payload in world.dead():
        world.stream.redeliver(payload)
    document = world.store.get("meetings-2026.11.17", "a")
    assert (document["topic"], document["unique_participants"]) == ("Topic of a", 1)


def test_a_row_that_is_no_participant_is_a_dead_letter(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.rooms["a"].append({"user_name": "Nobody"})
    world.harvest()
    assert (world.sessions(), world.last().dead_letters) == (["a Ann"], 1)
    assert world.dead() == [("record", {"uuid": "a", "row": {"user_name": "Nobody"}})]
    with pytest.raises(PoisonError, match="still cannot be read"):
        world.engine.stream.redeliver(world.dead()[0][1])


def test_a_uuid_that_no_document_can_have_is_a_dead_letter(world):
    world.zoom.meet("x" * (LONGEST_ID + 1), TUESDAY + TEN, "Ann")
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], WEDNESDAY)
    ((kind, payload),) = world.dead()
    assert (kind, len(payload["row"]["uuid"])) == ("record", LONGEST_ID + 1)
    with pytest.raises(PoisonError, match="still cannot be read"):
        world.engine.stream.redeliver(payload)


def test_a_meeting_without_a_uuid_is_a_dead_letter(world):
    world.zoom.meet("", TUESDAY + TEN, "Ann")
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], WEDNESDAY)
    assert [(kind, payload["row"]["topic"]) for kind, payload in world.dead()] == [("record", "Topic of ")]


def test_a_row_whose_dead_letter_was_dropped_does_not_come_back_with_the_look_back(world):
    world.zoom.meet("", TUESDAY + TEN, "Ann")
    world.harvest()
    [name] = world.dead_letters.names()
    world.dead_letters.drop(name)
    world.zoom.clock = THURSDAY + AT
    world.zoom.meet("", TUESDAY + TEN + HOUR, "Bob")  # another one, which appears late
    world.harvest()
    assert world.mark == THURSDAY
    [(_, payload)] = world.dead()
    assert payload["row"]["start_time"] == f"{TUESDAY + TEN + HOUR:%FT%TZ}"


# What is not whole


def test_fewer_participants_than_the_list_says_are_written_counted_and_looked_for_again(world):
    """American evening classes at 05:00 UTC: the list has three joins, the participants one."""
    world.zoom.meet("a", TUESDAY + TEN, "Ann", participants=3)
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], WEDNESDAY)
    assert world.last().counts == {"sessions": 1, "incomplete": 1}
    world.zoom.rooms["a"] += [
        {**world.zoom.rooms["a"][0], "user_id": f"{n}", "user_name": f"B{n}"} for n in (7, 8)
    ]
    world.zoom.clock = THURSDAY + AT
    world.harvest()
    assert (world.zoom.asked, world.sessions()) == (["a", "a"], ["a Ann", "a B7", "a B8"])
    assert world.store.get("meetings-2026.11.17", "a")["unique_participants"] == 3
    world.zoom.clock = FRIDAY + AT
    world.harvest()
    assert world.zoom.asked == ["a", "a"]  # now it is known


def test_fewer_participants_than_their_total_says_are_looked_for_again(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann", participants=0)
    world.zoom.totals = {"a": 2}
    world.harvest()
    assert world.last().counts == {"sessions": 1, "incomplete": 1}
    world.zoom.totals = {}
    world.zoom.clock = THURSDAY + AT
    world.harvest()
    assert (world.zoom.asked, world.last().counts) == (["a", "a"], {"sessions": 1})


def test_fewer_participants_than_before_do_not_overwrite_what_more_of_them_told(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann", "Bob")
    world.harvest()
    world.zoom.rooms["a"].pop()
    world.ask(TUESDAY)
    assert world.sessions() == ["a Ann", "a Bob"]
    assert world.store.get("meetings-2026.11.17", "a")["unique_participants"] == 2
    assert world.last().counts == {"sessions": 1, "incomplete": 1}


def test_fewer_participants_than_another_deployment_has_are_told(client, bucket, tmp_path):
    for name, people in {"one": ["Ann", "Bob"], "another": ["Ann"]}.items():
        world = World(client, bucket, tmp_path / f"{name}.db", deployment=name)
        world.start_at(TUESDAY)
        world.zoom.meet("a", TUESDAY + TEN, *people)
        world.harvest()
        assert world.store.get("meetings-2026.11.17", "a")["unique_participants"] == len(people)


def assert_reports_take_nothing_away(world, store, refresh):
    world.zoom.meet("a", TUESDAY + TEN, "Ann", "Bob", has_pstn=True, user_type="Licensed")
    richer = {"ip_address": "192.0.2.1", "device": "Mac", "location": "Cambridge (US)", "share_desktop": True}
    for row in world.zoom.rooms["a"]:
        row.update(richer)
    world.harvest()
    refresh()
    sessions, details = list(store.select("sessions*")), store.get("meetings-2026.11.17", "a")
    assert [(one["ip_address"], one["device"], one["city"]) for one in sessions] == [
        ("192.0.2.1", "Mac", "Cambridge")
    ] * 2
    for row in world.zoom.rooms["a"]:
        for name in richer:
            del row[name]
    world.zoom.change("a", has_pstn=None, user_type=None, duration=None, host_id="host-1")
    world.zoom.source = "report"
    world.ask(TUESDAY)
    assert world.last().delivered == 0  # what the Dashboard listed, and reports gave, is not known
    assert world.last().counts == {"sessions": 2, "from_report": 1}
    refresh()
    assert sorted(store.select("sessions*"), key=lambda one: one["_id"]) == sorted(
        sessions, key=lambda one: one["_id"]
    )
    assert store.get("meetings-2026.11.17", "a") == details


def test_rows_of_the_report_take_away_nothing_that_the_dashboard_said(world):
    assert_reports_take_nothing_away(world, world.store, lambda: None)


def test_rows_of_the_report_take_nothing_away_in_elasticsearch(world, templates, es, elasticsearch_url):
    store = assembly.document_store(settings.load({"ES_HOST": elasticsearch_url, "INDEX_INFIX": ""}))
    world.stream._documents._store = store
    assert_reports_take_nothing_away(world, store, lambda: es.indices.refresh(index="_all"))


def test_what_reports_gave_of_a_meeting_that_the_dashboard_listed_is_read_again(world):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.source = "report"
    world.harvest()
    world.zoom.source = "dashboard"
    world.zoom.rooms["a"][0]["ip_address"] = "192.0.2.1"
    world.zoom.clock = THURSDAY + AT
    world.harvest()
    (session,) = world.store.select("sessions*")
    assert session["ip_address"] == "192.0.2.1"


# The place in the lists


def snapshot(client):
    return {key: client.dump(key) for key in client.scan_iter(f"{PREFIX}zoom:lists:*")}


def set_back(raw, kept):
    """Let Redis be what it was: a replica took over, or a snapshot was loaded."""
    for key in list(raw.scan_iter(f"{PREFIX}zoom:lists:*")):
        raw.delete(key)
    for key, value in kept.items():
        raw.restore(key, 0, value, replace=True)


@pytest.mark.parametrize("pages", [1, 2])
def test_a_redis_that_is_set_back_while_lists_are_read_loses_no_meeting(world, redis, pages):
    for n in range(7):
        world.zoom.meet(f"m{n}", TUESDAY + n * HOUR, "Ann")
    kept, listed = {}, world.zoom.meetings

    def meetings(first, last, kind, *, token=""):
        for number, page in enumerate(listed(first, last, kind, token=token), 1):
            if kind == "past" and not token and number == pages + 1:
                kept.update(snapshot(redis))  # the position after so many pages
            if kind == "past" and not token and number == pages + 2:
                set_back(redis, kept)  # when the next one is read already
            yield page

    world.zoom.meetings = meetings
    with pytest.raises(RetryableError, match="another page"):
        world.engine.advance()
    world.zoom.meetings = listed
    world.harvest()
    assert (world.sessions(), world.mark) == ([f"m{n} Ann" for n in range(7)], WEDNESDAY)


def test_a_redis_that_loses_the_place_before_the_lists_are_done_begins_again(world, redis):
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    listed = world.zoom.meetings

    def meetings(first, last, kind, *, token=""):
        yield from listed(first, last, kind, token=token)
        if kind == "pastOne":
            set_back(redis, {})

    world.zoom.meetings = meetings
    with pytest.raises(RetryableError):
        world.engine.advance()
    world.zoom.meetings = listed
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], WEDNESDAY)


def test_a_list_that_is_always_put_off_for_a_moment_is_given_up(world):
    world.zoom.full = [put_off(0.01)] * 100
    with pytest.raises(PutOffError):
        world.engine.advance()
    assert len(world.pauses) == MOST_WAITS


def test_a_slice_of_an_earlier_version_is_still_read():
    one = parse_slice('["past","a",1763373600,"123abc"]')
    assert (one.uuid, one.joins, one.listed_by) == ("a", 0, "dashboard")


# Hosts and days


@pytest.fixture
def refusing(world):
    """A world with the meeting `a`, and a host whose list, with the meeting `b`, is refused."""
    listed = world.zoom.meetings
    world.zoom.meet("a", TUESDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Bob", kind="report")
    world.zoom.refusal = PoisonError(
        "Zoom's report/users/{id}/meetings answered 400, code 200, and answers for others."
    )

    def meetings(first, last, kind, *, token=""):
        yield MeetingsPage([], "0", "report", RefusedHost("host-9", "answered 400, code 200"))
        yield from listed(first, last, kind, token="")

    def meetings_of(host, first, last, kind):
        assert (host, first, last) == ("host-9", TUESDAY.date(), TUESDAY.date())
        if world.zoom.refusal:
            raise world.zoom.refusal
        return [read_meeting(world.zoom.rows[1][2])] if kind == "past" else []

    world.zoom.meetings, world.zoom.meetings_of = meetings, meetings_of
    world.zoom.participants = lambda uuid, _: Participants(world.zoom.joins(uuid), source="report")
    return world


def test_a_host_without_an_id_is_a_dead_letter_and_the_others_are_harvested(world):
    listed = world.zoom.meetings
    world.zoom.meet("a", TUESDAY + TEN, "Ann")

    def meetings(first, last, kind, *, token=""):
        if kind == "past":
            yield MeetingsPage([], "0", "report", hosts_without_id=[{"host": "Bob", "email": "bob@x.edu"}])
        yield from listed(first, last, kind, token=token)

    world.zoom.meetings = meetings
    for _ in range(2):
        world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], WEDNESDAY)
    ((_, payload),) = world.dead()
    assert payload == {"row": {"host": "Bob", "email": "bob@x.edu"}}


def test_a_host_that_is_refused_is_a_dead_letter_that_counts_and_can_be_replayed(refusing):
    for _ in range(8):
        refusing.harvest()
        refusing.time_passes()
    assert (refusing.sessions(), refusing.mark) == (["a Ann"], WEDNESDAY)
    assert refusing.last().dead_letters == 1
    assert refusing.dead() == [("slice", {"host": "host-9", "from": "2026-11-17", "to": "2026-11-17"})]
    refusing.zoom.refusal = None
    assert refusing.stream.redeliver(json.loads(json.dumps(refusing.dead()[0][1]))) == 1
    assert (refusing.sessions(), sorted(refusing.meetings())) == (["a Ann", "b Bob"], ["a", "b"])


def test_a_host_whose_refusal_passes_is_no_dead_letter(refusing):
    refusing.harvest()
    refusing.zoom.refusal = None
    refusing.time_passes()
    refusing.harvest()
    assert (refusing.sessions(), refusing.mark, refusing.dead()) == (["a Ann", "b Bob"], WEDNESDAY, [])


@pytest.mark.parametrize(
    "error",
    [
        BadInputError("Zoom keeps meetings for six months: expected days from 2026-06-01 on."),
        DaysRefusedError("Zoom answered for 2026-06-01 to 2026-06-03. It keeps six months."),
        DaysRefusedError("Zoom refused the days (400, code 300)."),
    ],
)
def test_whatever_says_that_the_watermark_is_too_old_says_how_to_move_it(world, error):
    world.zoom.full = [error] * 2
    with pytest.raises(BlockedError, match=r"watermark set --stream zoom 20\d\d-\d\d-\d\dT00:00:00Z$"):
        world.engine.advance()


def test_a_day_that_is_kept_is_read_though_those_looked_back_at_are_not(make):
    world = make()
    june = datetime(2026, 6, 1, tzinfo=UTC)
    world.start_at(june, floor=june - 10 * DAY)
    world.zoom.clock = june + DAY + AT
    world.zoom.meet("a", june + TEN, "Ann")
    world.harvest()
    assert (world.sessions(), world.mark) == (["a Ann"], june + DAY)


# One index that takes nothing


def test_a_closed_index_of_a_day_that_was_read_holds_nothing_up(make):
    world = make()
    world.start_at(MONDAY)
    world.zoom.meet("a", MONDAY + TEN, "Ann")
    world.zoom.meet("b", TUESDAY + TEN, "Bob")
    world.zoom.clock = TUESDAY + AT
    world.harvest()
    assert world.mark == TUESDAY
    world.store.blocked = {"meetings-2026.11.16": "closed", "sessions-2026.11.16": "closed"}
    world.zoom.clock = WEDNESDAY + AT
    world.harvest()
    assert (world.mark, world.sessions(), world.dead()) == (WEDNESDAY, ["a Ann", "b Bob"], [])
    assert world.engine.state.failure() is None


def test_a_blocked_index_keeps_its_meetings_only_is_shown_and_heals(make):
    world = make()
    world.start_at(TUESDAY, floor=MONDAY)
    world.zoom.meet("a", MONDAY + TEN, "Ann")
    world.zoom.meet("b", MONDAY + TEN, "Bob")
    for number in range(5):
        world.zoom.meet(f"t{number}", TUESDAY + TEN, "Tom")
    world.store.blocked = {"sessions-2026.11.16": "the index sessions-2026.11.16 is closed"}
    world.harvest()
    assert (world.mark, len(world.sessions()), world.dead()) == (TUESDAY, 5, [])
    standing = world.engine.state.blocked()
    assert (standing.place, standing.reason) == ("index", "the index sessions-2026.11.16 is closed")
    world.store.blocked = {}
    for _ in range(3):
        world.time_passes()
        world.harvest()
    assert (world.mark, len(world.sessions()), world.dead()) == (WEDNESDAY, 7, [])
    assert world.engine.state.failure() is None
