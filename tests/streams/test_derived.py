"""Viewings and attendance from documents: days, late rows, what fails; with real Valkey and SQLite."""

import datetime as dt
import functools
import json
import zlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.viewing.test_documents import beats
from uaharvest import aws
from uaharvest.dead_letters import DeadLetters
from uaharvest.documents.attendance import attendance
from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError, PoisonError, RetryableError
from uaharvest.intervals import Interval
from uaharvest.keys import PREFIX
from uaharvest.runs.days import DAY
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.policy import Policy
from uaharvest.runs.watermark import WatermarkStore, first
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.sinks.documents import Has
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.streams.attendance import MeetingAttendance
from uaharvest.streams.derived import Derived, DerivedChunk
from uaharvest.streams.viewings import Recordings, StoredUseractions
from uaharvest.viewing.documents import documents
from uaharvest.viewing.recording import RecordingActions

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
TUESDAY, WEDNESDAY, THURSDAY = (MONDAY + n * DAY for n in (1, 2, 3))
AT = timedelta(hours=5)
LOOKBACK = 3 * DAY


class Store(SqliteStore):
    """A store that may fail or refuse, and remembers what was read."""

    def __init__(self, path):
        super().__init__(path)
        self.refuses = set()
        self.error = None
        self.read = []

    def select(self, index_pattern, where=None, fields=None, *, only_open=False):
        if isinstance(where, Has) and index_pattern != "attendance":
            self.read += where.values
            if self.error:
                raise self.error
        yield from super().select(index_pattern, where, fields, only_open=only_open)

    def write(self, documents):
        documents = list(documents)
        yield from super().write([one for one in documents if one.body.get("viewer") not in self.refuses])
        refused = [
            (one, "mapper_parsing_exception") for one in documents if one.body.get("viewer") in self.refuses
        ]
        yield Receipt(refused=refused)


class Mailbox:
    """Hints that nobody has read yet."""

    def __init__(self):
        self.advances = 0
        self.slices = []
        self.sent = 0

    def advance(self, run_id=None):
        self.advances += 1

    def work(self, run_id, slice_id):
        self.slices.append((run_id, slice_id))
        self.sent += 1


class Clocked(Derived):
    """The stream at another time than now."""

    clock = WEDNESDAY + AT

    def now(self):
        super().now()
        return self.clock


class World:
    """An engine of one of the two streams, with all that it touches."""

    def __init__(self, client, bucket, path, name="viewings", **changes):
        self.settings = Settings(
            **{"opencast_zone": ZoneInfo("UTC"), "attempts": 3, "lease": 3600, "max_window": 86400} | changes
        )
        self.redis = client
        self.store = Store(path)
        self.mailbox = Mailbox()
        self.marks = WatermarkStore(aws.s3_client(), bucket, name, ZoneInfo("UTC"))
        self.dead_letters = DeadLetters(aws.s3_client(), bucket, "dead/")
        self.until = None
        reader = StoredUseractions(self.store, "useractions*-*")
        derivation = {
            "viewings": Recordings([reader], self.store, self.settings),
            "attendance": MeetingAttendance(self.store, self.settings),
        }[name]
        self.stream = Clocked(
            name,
            derivation,
            self.store,
            self.dead_letters,
            harvested_until=lambda: self.until,
            lookback=LOOKBACK,
            ready_after=AT,
        )
        self.engine = Engine(
            self.stream,
            client=client,
            ledger=Ledger(client, name, lease=self.settings.lease),
            watermarks=self.marks,
            dead_letters=self.dead_letters,
            hints=self.mailbox,
            settings=self.settings,
            policy=Policy.by_day(2),
            destination="here",
        )

    def index(self, day, mpid, rows):
        """Index useractions of a recording: rows whose times are seconds since that day's midnight."""
        shift = day.timestamp() - dt.datetime.fromisoformat("2023-11-14T22:13:20Z").timestamp()
        for row in rows:
            at = dt.datetime.fromisoformat(row["@timestamp"]).timestamp() + shift
            body = row | {"mpid": mpid, "@timestamp": dt.datetime.fromtimestamp(at, UTC).isoformat()}
            assert list(self.store.write([Document(f"useractions-{day:%Y.%m.%d}", str(row["action_id"]), body)]))

    def watched(self, day, *mpids, viewers=("v",), first=0):
        """Index two minutes of each viewer of some recordings; ids differ by day, recording and viewer."""
        for mpid in mpids:
            for viewer in viewers:
                id_ = zlib.crc32(f"{day} {mpid} {viewer} {first}".encode()) * 100
                session = f"{viewer}{day:%d}{first}"
                self.index(
                    day, mpid, beats(30, 60, 90, 120, first=id_, start=first, huid=viewer, session_id=session)
                )

    def start_at(self, day):
        self.marks.create(first(day))

    @property
    def mark(self):
        return self.marks.read().mark.at

    def work(self):
        while self.mailbox.slices:
            self.engine.work(*self.mailbox.slices.pop(0))

    def harvest(self, clock=None):
        """Do all that is due; return which recordings were read for it."""
        self.stream.clock = clock or self.stream.clock
        self.store.read.clear()
        self.mailbox.advances = 1
        while self.mailbox.advances:
            self.mailbox.advances = 0
            self.engine.advance()
            self.work()
        return sorted(self.store.read)

    def ask(self, start, end):
        """Do an explicit run; return which recordings were read for it."""
        self.store.read.clear()
        self.engine.ask(Interval(start, end), self.engine.usual_options, may_move=False)
        return self.harvest_again()

    def harvest_again(self):
        self.mailbox.advances = 1
        while self.mailbox.advances:
            self.mailbox.advances = 0
            self.engine.advance()
            self.work()
        return sorted(self.store.read)

    def time_passes(self):
        """Let all back-offs end, and all hints get lost."""
        for key in self.redis.scan_iter(f"{PREFIX}run:*:due"):
            self.redis.zadd(key, dict.fromkeys(self.redis.zrange(key, 0, -1), 0))
        for key in self.redis.scan_iter(f"{PREFIX}run:*:hinted"):
            self.redis.unlink(key)

    def made(self, pattern="viewings,recordings"):
        return {f"{one.pop('_index')}/{one.pop('_id')}": json.dumps(one) for one in self.store.select(pattern)}

    def truth(self, *mpids):
        """Return the documents that follow from all useractions of some recordings."""
        found = {}
        for mpid in mpids:
            rows = RecordingActions(mpid, self.settings.anonymous_users)
            for row in self.store.select("useractions-*"):
                if row["mpid"] == mpid:
                    rows.add(row)
            found |= {f"{body.family}/{body.id}": json.dumps(body.fields) for body in documents(rows, None)}
        assert found
        return found

    def dead(self):
        names = self.dead_letters.names(self.stream.name)
        return [(letter.kind, letter.payload) for letter in map(self.dead_letters.get, names)]

    def last(self):
        return self.engine.state.history()[0]


@pytest.fixture
def make(client, bucket, tmp_path):
    """A function that makes worlds of one site."""
    return functools.partial(World, client, bucket, tmp_path / "documents.db")


@pytest.fixture
def world(make):
    """A site whose watermark is Monday; it is Wednesday, five o'clock."""
    world = make()
    world.start_at(MONDAY)
    return world


# Days


def test_a_day_makes_the_documents_of_its_recordings_from_all_their_rows(world):
    world.watched(MONDAY - 30 * DAY, "a", "old", viewers=("v", "w"))
    world.watched(MONDAY, "a", "b", "c", viewers=("v", "x"))
    world.watched(WEDNESDAY, "today")
    assert world.harvest() == ["a", "b", "c"]
    assert world.mark == WEDNESDAY
    assert world.made() == world.truth("a", "b", "c")
    [run] = [entry for entry in world.engine.state.history() if entry.delivered]
    assert (run.delivered, run.counts) == (3, {"viewers": 7})


def test_a_first_run_takes_yesterday(make):
    world = make()
    world.watched(MONDAY, "before")
    world.watched(TUESDAY, "a")
    assert world.harvest() == ["a"]
    assert world.mark == WEDNESDAY


def test_a_recording_that_nobody_played_is_counted(world):
    world.index(MONDAY, "a", [row | {"action": {"type": "RESIZE"}} for row in beats(30)])
    world.harvest()
    assert world.made() == {}
    assert world.engine.state.history()[1].counts == {"without_viewers": 1}


def test_a_day_waits_until_its_useractions_are_harvested(world):
    world.watched(MONDAY, "a")
    world.until = TUESDAY - timedelta(seconds=1)
    with pytest.raises(RetryableError, match=r"viewings of 2026-11-16 wait: .* up to 2026-11-16 23:59:59 UTC"):
        world.harvest()
    world.until = TUESDAY
    with pytest.raises(RetryableError, match="2026-11-17"):
        world.harvest()
    assert (world.mark, world.made()) == (TUESDAY, world.truth("a"))


def test_without_any_useractions_the_stream_is_blocked(world):
    with pytest.raises(BlockedError, match=r"no index matches useractions\*-\*"):
        world.harvest()
    world.watched(THURSDAY, "a")
    world.harvest()
    assert world.mark == WEDNESDAY


def test_a_site_reads_and_writes_its_own_indices(make):
    world = make(index_infix="site")
    world.start_at(MONDAY)
    world.watched(MONDAY, "other")  # in an index without the infix
    row = beats(30)[0] | {"mpid": "a"}
    list(world.store.write([Document("useractions-site-2026.11.16", "1", row)]))
    assert world.harvest() == ["a"]
    assert {name.split("/")[0] for name in world.made("viewings*,recordings*")} == {
        "viewings-site",
        "recordings-site",
    }


def test_the_episodes_document_is_read(world):
    world.index(MONDAY, "a", [row | {"episode": {}} for row in beats(30, 60)])
    list(
        world.store.write(
            [Document("episodes", "a", {"mpid": "a", "title": "T", "duration": 60_000}, update=True)]
        )
    )
    world.harvest()
    assert json.loads(world.made()["recordings/a"])["mean_coverage"] == 1.0


# Late rows and repeats


def test_late_rows_of_an_earlier_day_are_found_by_the_next_days_run(world):
    world.watched(MONDAY, "a", "b")
    world.watched(TUESDAY, "c")
    world.harvest()
    world.watched(MONDAY, "a", viewers=("late",))
    world.watched(WEDNESDAY, "c")
    assert world.harvest(THURSDAY + AT) == ["a", "c"]
    assert world.made() == world.truth("a", "b", "c")


def test_a_row_that_is_written_again_makes_its_recording_due_and_changes_no_byte(world):
    world.watched(MONDAY, "a", "b")
    world.harvest()
    before = world.made()
    world.watched(MONDAY, "a")
    assert world.harvest(THURSDAY + AT) == ["a"]
    assert world.made() == before


def test_a_footprint_that_grew_makes_its_recording_due(world):
    row = beats(30)[0] | {"mpid": "a", "@timestamp": "2026-11-16T10:00:00Z"}
    for reach in (20, 200):
        body = row | {"action": {"type": "FOOTPRINT", "inpoint": 0, "outpoint": reach}}
        list(world.store.write([Document("useractions-2026.11.16", "1", body, version=reach)]))
        assert world.harvest(WEDNESDAY + AT if reach == 20 else THURSDAY + AT) == ["a"]
    assert world.made() == world.truth("a")


def test_late_rows_are_found_as_long_as_their_day_is_within_the_look_back(world):
    world.watched(MONDAY, "a", "b")
    world.harvest(TUESDAY + AT)
    world.watched(MONDAY, "a", viewers=("late",))
    assert world.harvest(TUESDAY + LOOKBACK + AT) == ["a"]  # the run of Thursday looks at Monday
    world.watched(MONDAY, "b", viewers=("late",))
    assert world.harvest(TUESDAY + LOOKBACK + DAY + AT) == []
    assert world.ask(MONDAY, TUESDAY) == ["a", "b"]
    assert world.made() == world.truth("a", "b")


def test_late_rows_of_a_recording_that_is_watched_again_are_never_missed(world):
    world.watched(MONDAY - 300 * DAY, "a")
    world.watched(MONDAY, "a")
    world.harvest(TUESDAY + AT)
    world.watched(MONDAY - 300 * DAY, "a", viewers=("late",))
    world.watched(TUESDAY, "a")
    world.harvest(WEDNESDAY + AT)
    assert world.made() == world.truth("a")


def test_rows_that_arrive_while_their_recording_is_worked_are_found_the_next_day(world):
    world.watched(MONDAY, "a")
    world.stream.clock = TUESDAY + AT
    world.engine.advance()
    world.watched(MONDAY, "a", viewers=("meanwhile",))
    world.work()
    assert world.made() == world.truth("a")
    assert world.harvest(WEDNESDAY + AT) == ["a"]  # planned before they came, so looked at once more


def test_nothing_is_read_on_days_on_which_nothing_changed(world):
    world.watched(MONDAY, "a")
    assert world.harvest() == ["a"]
    assert world.harvest(WEDNESDAY + 2 * DAY + AT) == []
    assert world.mailbox.sent == 1  # a day without changes has no slices


def test_a_redis_that_lost_its_data_costs_work_and_no_byte(world):
    world.watched(MONDAY, "a", "b")
    world.harvest()
    before = world.made()
    world.redis.flushall()
    world.watched(WEDNESDAY, "c")
    assert world.harvest(THURSDAY + AT) == ["a", "b", "c"]
    assert world.made() == before | world.truth("c")


def test_a_requested_month_reads_each_recording_once(world):
    for number in range(5):
        world.watched(MONDAY - number * DAY, "a")
    world.harvest()
    assert world.ask(MONDAY - 10 * DAY, TUESDAY) == ["a"]
    assert world.last().delivered == 5
    assert world.made() == world.truth("a")
    # Later than a month, in two windows.
    assert world.ask(MONDAY - 40 * DAY, TUESDAY) == ["a"]


# What fails


def test_a_worker_that_dies_between_two_recordings_does_not_repeat_the_first(world):
    world.watched(MONDAY, "a", "b")
    world.engine.advance()
    [(run_id, slice_id)] = world.mailbox.slices
    run = world.engine.ledger.run(run_id)
    reporter = world.stream.reporter(
        world.engine.parts.epochs.ids(run.epoch), world.engine.ledger, run, DerivedChunk.parse(slice_id)
    )
    first_only = DerivedChunk(DerivedChunk.parse(slice_id).interval, {"a": DerivedChunk.parse(slice_id).due["a"]})
    world.stream.work(run, first_only, reporter)
    reporter.flush()
    assert world.harvest(TUESDAY + AT) == ["b"]
    assert world.made() == world.truth("a", "b")


def test_a_store_that_is_down_uses_up_no_attempts(world):
    world.watched(MONDAY, "a")
    world.store.error = RetryableError("the store is down")
    world.stream.clock = TUESDAY + AT
    for _ in range(6):
        world.engine.advance()
        world.work()
        world.time_passes()
    assert (world.mark, world.dead()) == (MONDAY, [])
    world.store.error = None
    world.harvest()
    assert world.made() == world.truth("a")


def test_a_document_that_is_refused_is_a_dead_letter_and_is_not_tried_again_each_day(world):
    world.store.refuses = {"w"}
    world.watched(MONDAY, "a", viewers=("v", "w"))
    world.harvest()
    [(kind, payload)] = world.dead()
    assert (kind, list(payload["due"])) == ("record", ["a"])
    assert "w" not in json.dumps(payload)
    assert set(world.made()) < set(world.truth("a"))
    assert world.harvest(THURSDAY + AT) == []
    with pytest.raises(PoisonError, match="mapper_parsing_exception"):
        world.stream.redeliver(payload)
    world.store.refuses = set()
    assert world.stream.redeliver(payload) == 1
    assert world.made() == world.truth("a")


@pytest.mark.parametrize("payload", [{}, {"due": []}, {"due": {"a": {}}}, {"due": {"a": "x"}}])
def test_a_dead_letter_without_names_says_so(world, payload):
    with pytest.raises(PoisonError, match="it does not name the recordings"):
        world.stream.redeliver(payload)


def test_names_that_are_too_long_for_an_id_are_left_out(world):
    world.watched(MONDAY, "a")
    world.index(MONDAY, "x" * 513, beats(30, first=7))
    world.index(MONDAY, "", beats(30, first=8))
    assert world.harvest() == ["a"]


def test_a_chunk_is_its_text_and_halves_to_single_recordings():
    chunk = DerivedChunk(Interval(MONDAY, TUESDAY), {"a b": {"2026-11-16": "3.7"}, 'ü"': {"2026-11-15": "1.1"}})
    assert DerivedChunk.parse(str(chunk)) == chunk
    first_half, second = chunk.halves()
    assert (list(first_half.due), list(second.due)) == (["a b"], ['ü"'])
    assert first_half.halves() == []


# Attendance


def session(name, joined, left, **fields):
    times = {"join_time": f"2026-11-16T{joined}:00Z", "leave_time": f"2026-11-16T{left}:00Z"}
    return {"meeting": "u==", "email": f"{name}@x", "waiting_room": False} | times | fields


@pytest.fixture
def meetings(make):
    """A site with attendance whose watermark is Monday, when a meeting was."""
    world = make("attendance")
    world.start_at(MONDAY)
    about = {
        "uuid": "u==",
        "topic": "Lecture",
        "start_time": "2026-11-16T10:00:00Z",
        "end_time": "2026-11-16T11:00:00Z",
    }
    list(world.store.write([Document("meetings-2026.11.16", "u==", about, update=True)]))
    world.about = about
    world.sessions = lambda *sessions: list(
        world.store.write(
            [
                Document("sessions-2026.11.16", f"{one['email']}{one['join_time']}", one, update=True)
                for one in sessions
            ]
        )
    )
    return world


def test_each_person_of_a_days_meetings_has_a_document(meetings):
    came = [session("kim", "10:00", "10:30"), session("kim", "10:40", "11:00"), session("lee", "10:10", "11:00")]
    meetings.sessions(*came)
    meetings.harvest()
    expected = attendance("u==", meetings.about, came)
    assert meetings.made("attendance") == {f"attendance/{id_}": json.dumps(body) for id_, body in expected.items()}
    assert len(expected) == 2
    assert meetings.engine.state.history()[1].counts == {"people": 2}


def test_sessions_that_zoom_shows_late_are_found_by_the_next_days_run(meetings):
    came = [session("kim", "10:00", "10:30")]
    meetings.sessions(*came)
    meetings.harvest(TUESDAY + AT)
    came.append(session("kim", "10:40", "11:00"))
    meetings.sessions(came[-1])
    assert meetings.harvest(WEDNESDAY + AT) == ["u=="]
    [body] = meetings.made("attendance").values()
    assert json.loads(body)["minutes"] == 50.0


def test_a_person_whose_better_identity_is_seen_late_has_one_document(meetings):
    guest = session("", "10:00", "10:30", user_name="Kim", user_id="1")
    meetings.sessions(guest | {"email": None})
    meetings.harvest(TUESDAY + AT)
    assert [json.loads(body)["person"] for body in meetings.made("attendance").values()] == ["name:Kim"]
    meetings.sessions(session("kim", "10:30", "11:00", user_name="Kim", user_id="1"))
    assert meetings.harvest(WEDNESDAY + AT) == ["u=="]
    [body] = map(json.loads, meetings.made("attendance").values())
    assert (body["person"], body["minutes"]) == ("kim@x", 60.0)


def test_a_meeting_in_whose_waiting_room_everybody_stayed_is_counted(meetings):
    meetings.sessions(session("kim", "10:00", "10:30", waiting_room=True))
    meetings.harvest()
    assert meetings.made("attendance") == {}
    assert meetings.engine.state.history()[1].counts == {"without_people": 1}
