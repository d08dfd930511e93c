"""The stream of episodes: days, chunks, what fails of them; with real Valkey, SQLite and, for both ages, simulators."""

import functools
import json
import re
import urllib.request
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from redis import Redis

from devservers import stack
from uaharvest import aws, settings
from uaharvest.dead_letters import DeadLetters
from uaharvest.documents.document import Document
from uaharvest.errors import BadInputError, BlockedError, RetryableError, SourceError
from uaharvest.intervals import Interval
from uaharvest.keys import PREFIX
from uaharvest.opencast.client import ADMIN_HOST, Opencast
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.policy import Policy
from uaharvest.runs.watermark import WatermarkStore, first
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.streams.episodes import DAY, Chosen, EpisodeChunk, Episodes
from uaharvest.streams.specs.episodes import CHUNK

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
TUESDAY, WEDNESDAY, THURSDAY = (MONDAY + n * DAY for n in (1, 2, 3))
HOUR = timedelta(hours=1)
AT = 4 * HOUR  # EPISODES_AT


class FakeOpencast:
    """Both hosts in one: every episode that is asked for is there, unless it is among the `gone`."""

    base_url = "http://engage.example.edu/"

    def __init__(self):
        self.clock = WEDNESDAY + AT
        self.gone = set()
        self.failing = {}
        self.down = None
        self.asked = []
        self.found = {}
        self.workflow = None

    def now(self):
        if self.down:
            raise self.down
        return self.clock

    def episode(self, mpid):
        self.asked.append(mpid)
        if self.down or mpid in self.failing:
            raise self.down or self.failing[mpid]
        if mpid in self.gone:
            return None
        whole = {"id": mpid, "title": f"Lecture {mpid}", "duration": 1000, "attachments": ""}
        return {"mediapackage": whole | self.found}

    def workflows(self, mpid, definition):
        if self.down:
            raise self.down
        return [self.workflow] if self.workflow else []


class Store(SqliteStore):
    """A store that may fail or refuse."""

    def __init__(self, path):
        super().__init__(path)
        self.refuses = set()
        self.error = None

    def write(self, documents):
        documents = list(documents)
        if self.error:
            raise self.error
        yield from super().write([document for document in documents if document.id not in self.refuses])
        refused = [(document, "mapper_parsing_exception") for document in documents if document.id in self.refuses]
        yield Receipt(refused=refused)


class Mailbox:
    """Hints that nobody has read yet."""

    def __init__(self):
        self.advances = 0
        self.slices = []

    def advance(self, run_id=None):
        self.advances += 1

    def work(self, run_id, slice_id):
        self.slices.append((run_id, slice_id))


class Upstream:
    """What is known of the useractions; by default they are harvested elsewhere, and days without any are empty."""

    def __init__(self):
        self.until = None
        self.blocked = ()
        self.count = 0
        self.error = None

    def harvested_until(self):
        return self.until

    def held(self):
        return self.blocked

    def rows(self, interval):
        if self.error:
            raise self.error
        return self.count


class World:
    """An engine of the episodes with all that it touches."""

    def __init__(self, client, bucket, path, opencast=None, *, chosen=None, store=None, **changes):
        chosen_settings = {"opencast_zone": ZoneInfo("UTC"), "attempts": 3, "lease": 3600, "batch_size": 2}
        self.settings = Settings(**(chosen_settings | {"max_window": 86400} | changes))
        self.redis = client
        self.opencast = opencast or FakeOpencast()
        engage, admin = self.opencast if isinstance(self.opencast, tuple) else (self.opencast, self.opencast)
        self.store = store or Store(path)
        self.mailbox = Mailbox()
        self.marks = WatermarkStore(aws.s3_client(), bucket, "episodes", ZoneInfo("UTC"))
        self.dead_letters = DeadLetters(aws.s3_client(), bucket, "dead/")
        self.ledger = Ledger(client, "episodes", lease=self.settings.lease)
        self.upstream = Upstream()
        self.stream = Episodes(
            engage,
            admin,
            self.store,
            self.dead_letters,
            self.settings,
            upstream=self.upstream,
            throttle=Throttle(client, "episodes"),
            index="episodes",
            ready_after=AT,
            chosen=chosen,
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

    def watched(self, day, *mpids, index=None):
        """Index useractions of that day."""
        name = index or f"useractions-{day:%Y.%m.%d}"
        events = [Document(name, f"{day:%d}-{mpid}-{n}", {"mpid": mpid}) for mpid in mpids for n in range(3)]
        assert list(self.store.write(events))

    def start_at(self, day):
        self.marks.create(first(day))

    @property
    def mark(self):
        return self.marks.read().mark.at

    @property
    def indexed(self):
        return sorted(document["_id"] for document in self.store.select("episodes*"))

    def work(self):
        while self.mailbox.slices:
            self.engine.work(*self.mailbox.slices.pop(0))

    def harvest(self):
        self.mailbox.advances = 1
        while self.mailbox.advances:
            self.mailbox.advances = 0
            self.engine.advance()
            self.work()

    def time_passes(self):
        """Let all back-offs end, and all hints get lost."""
        for key in self.redis.scan_iter(f"{PREFIX}run:*:due"):
            self.redis.zadd(key, dict.fromkeys(self.redis.zrange(key, 0, -1), 0))
        for key in self.redis.scan_iter(f"{PREFIX}run:*:hinted"):
            self.redis.unlink(key)

    def dead(self):
        return [
            (letter.kind, letter.payload)
            for letter in map(self.dead_letters.get, self.dead_letters.names("episodes"))
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
    """A site whose watermark is Monday; it is Wednesday, four o'clock."""
    world = make()
    world.start_at(MONDAY)
    return world


# Days


def test_a_first_run_indexes_yesterday(make):
    world = make()
    world.watched(MONDAY, "before")
    world.watched(TUESDAY, "a", "b", "c")
    world.watched(WEDNESDAY, "today")
    world.harvest()
    assert (world.indexed, world.mark) == (["a", "b", "c"], WEDNESDAY)


def test_a_run_is_a_day_and_missed_days_are_caught_up_one_by_one(world):
    world.watched(MONDAY, "a")
    world.watched(TUESDAY, "a", "b")
    world.harvest()
    assert (world.indexed, world.mark) == (["a", "b"], WEDNESDAY)
    assert [(f"{entry.start:%F}", entry.delivered) for entry in reversed(world.engine.state.history())] == [
        ("2026-11-16", 1),
        ("2026-11-17", 2),
    ]


def test_a_day_of_which_opencast_has_no_useractions_is_done_at_once(world):
    world.watched(MONDAY - DAY, "before")
    world.harvest()
    assert (world.indexed, world.mark) == ([], WEDNESDAY)


def test_a_day_without_an_index_is_not_closed_while_opencast_has_useractions_of_it(world):
    world.watched(TUESDAY, "b")
    world.upstream.count = 1234
    with pytest.raises(BlockedError, match=r"useractions\*-2026\.11\.16, but Opencast has 1,234 useractions"):
        world.harvest()
    assert (world.indexed, world.mark) == ([], MONDAY)
    assert "watermark set --stream episodes 2026-11-17T00:00:00Z" in world.engine.state.blocked().reason
    world.watched(MONDAY, "a")  # history that was taken later
    world.harvest()
    assert (world.indexed, world.mark, world.engine.state.blocked()) == (["a", "b"], WEDNESDAY, None)


def test_a_person_may_confirm_that_a_day_has_none(world):
    world.watched(TUESDAY, "b")
    world.upstream.count = 1
    with pytest.raises(BlockedError):
        world.harvest()
    world.marks.move(TUESDAY)
    world.harvest()
    assert (world.indexed, world.mark, world.engine.state.blocked()) == (["b"], WEDNESDAY, None)


def test_where_no_useractions_are_indexed_at_all_no_day_is_closed(world):
    with pytest.raises(
        BlockedError, match=r"no useractions are indexed\. Check the indexer or Logstash, INDEX_INFIX"
    ):
        world.harvest()
    assert world.mark == MONDAY


def test_another_sites_indices_are_not_this_sites(make):
    world = make(index_infix="stack")
    world.start_at(MONDAY)
    world.watched(MONDAY, "a", index="useractions-other-2026.11.16")
    with pytest.raises(BlockedError, match="no index matches useractions-stack-2026"):
        world.harvest()


def test_an_opencast_that_cannot_say_closes_no_day(world):
    world.watched(TUESDAY, "b")
    world.upstream.error = SourceError("No whole answer")
    with pytest.raises(SourceError):
        world.harvest()
    assert world.mark == MONDAY


def test_a_day_waits_for_the_harvest_and_for_the_index_of_its_useractions(world):
    world.watched(MONDAY, "a")
    world.watched(TUESDAY, "b")
    world.upstream.until = TUESDAY + 15 * HOUR
    with pytest.raises(RetryableError, match="useractions are harvested up to 2026-11-17 15:00:00 UTC"):
        world.harvest()
    assert (world.indexed, world.mark) == (["a"], TUESDAY)
    world.upstream.until, world.upstream.blocked = WEDNESDAY, ["useractions-2026.11.17"]
    with pytest.raises(BlockedError, match=r"the index useractions-2026\.11\.17 takes no documents"):
        world.harvest()
    world.upstream.blocked = ["useractions-2026.11.18"]
    world.harvest()
    assert (world.indexed, world.mark) == (["a", "b"], WEDNESDAY)


@pytest.mark.parametrize("pattern", ["useractoins-*", "useractions-2025*", "a,b"])
def test_a_pattern_that_matches_no_index_is_an_error_that_names_it(world, make, pattern):
    world.watched(MONDAY, "a")
    asking = make(chosen=Chosen(source_index_pattern=pattern))
    now = world.opencast.clock
    with pytest.raises(BadInputError, match=f"no index matches '{re.escape(pattern)}'"):
        asking.engine.ask(Interval(now - DAY, now), asking.engine.usual_options, may_move=False)
    assert world.ledger.explicit() == []


def test_a_day_waits_until_its_useractions_are_indexed(world):
    world.watched(MONDAY, "a")
    world.opencast.clock = WEDNESDAY + AT - timedelta(seconds=1)
    world.harvest()
    assert world.mark == TUESDAY
    world.opencast.clock += timedelta(seconds=1)
    world.harvest()
    assert world.mark == WEDNESDAY


def test_a_watermark_within_a_day_means_the_whole_day(make):
    world = make()
    world.start_at(TUESDAY + 15 * HOUR)
    world.watched(TUESDAY, "a")
    world.harvest()
    assert (world.indexed, world.mark) == (["a"], WEDNESDAY)


def test_a_watermark_in_the_future_is_an_error(make):
    world = make()
    world.start_at(THURSDAY)
    with pytest.raises(BlockedError, match="watermark set"):
        world.engine.advance()


@pytest.mark.parametrize(
    ("infix", "indices", "indexed"),
    [
        (None, ["useractions-2026.11.17", "useractions-stack-2026.11.17", "useractions-2026.11.18"], ["0", "1"]),
        (
            "stack",
            ["useractions-2026.11.17", "useractions-stack-2026.11.17", "useractions-stack-2026.11.18"],
            ["1"],
        ),
    ],
)
def test_a_day_is_in_the_index_of_that_day_with_the_sites_infix(make, infix, indices, indexed):
    world = make(index_infix=infix)
    for number, index in enumerate(indices):
        world.watched(TUESDAY, str(number), index=index)
    world.harvest()
    assert world.indexed == indexed


# Chunks


def test_a_chunk_is_its_id():
    chunk = EpisodeChunk(Interval(MONDAY, TUESDAY), ["a b", 'c"', "\ud83d"])
    assert EpisodeChunk.parse(str(chunk)) == chunk
    assert str(chunk).isascii()


def test_a_chunk_of_usual_ids_is_short():
    assert (
        len(str(EpisodeChunk(Interval(MONDAY, TUESDAY), ["1600a35a-6f03-46b0-a11e-17383d9c1724"] * CHUNK))) < 500
    )


def test_each_episode_is_asked_for_once_however_often_it_was_watched(world):
    world.watched(MONDAY, *"abcde")
    world.harvest()
    assert sorted(world.opencast.asked) == list("abcde")
    assert (world.engine.state.history()[-1].slices, world.engine.state.history()[-1].records) == (3, 5)


def test_a_lost_redis_costs_the_day_once_more_and_no_episode(world):
    world.watched(MONDAY, *"abcde")
    world.engine.advance()
    world.engine.work(*world.mailbox.slices.pop())
    world.redis.flushall()
    world.work()
    world.harvest()
    assert (world.indexed, world.mark) == (list("abcde"), WEDNESDAY)


# Documents


def test_what_is_unknown_this_time_is_kept(world):
    world.watched(MONDAY, "a")
    world.watched(TUESDAY, "a")
    operations = {"operation": {"id": "retract-element", "completed": 1_795_104_000_000}}
    world.opencast.workflow = {
        "template": "DCE-archive-publish-external",
        "state": "SUCCEEDED",
        "operations": operations,
    }
    world.opencast.clock = TUESDAY + AT
    world.harvest()
    world.opencast.workflow = None
    world.opencast.found = {"title": "New title", "duration": None}
    world.opencast.clock = WEDNESDAY + AT
    world.harvest()
    assert world.store.get("episodes", "a") == {
        "mpid": "a",
        "title": "New title",
        "duration": 1000,
        "live_stream": 0,
        "available": "2026-11-19T16:00:00+00:00",
    }


def test_what_is_missing_is_counted_and_holds_back_nothing(world):
    world.watched(MONDAY, *"abcd")
    world.opencast.gone = {"b", "c"}
    world.opencast.clock = TUESDAY + AT
    world.harvest()
    assert world.indexed == ["a", "d"]
    assert world.last().records == 4
    assert world.last().delivered == 2
    assert world.last().counts == {
        "gone": 2,
        "without_attachments": 2,
        "without_start": 2,
        "without_workflow": 2,
    }


def test_an_episode_that_is_gone_leaves_its_document_as_it_was(world):
    world.watched(MONDAY, "a")
    world.watched(TUESDAY, "a")
    world.opencast.clock = TUESDAY + AT
    world.harvest()
    before = world.store.get("episodes", "a")
    world.opencast.gone = {"a"}
    world.opencast.clock = WEDNESDAY + AT
    world.harvest()
    assert world.store.get("episodes", "a") == before


# Failures


def test_an_episode_that_cannot_be_looked_up_holds_back_no_other_and_becomes_a_dead_letter(world):
    world.watched(MONDAY, *"abcde")
    world.opencast.failing = {"b": SourceError("answered 500")}
    world.opencast.clock = TUESDAY + AT
    for _ in range(20):
        world.harvest()
        world.time_passes()
    assert (world.indexed, world.mark) == (list("acde"), TUESDAY)
    assert world.dead() == [("slice", {"mpids": ["b"]})]
    assert [world.opencast.asked.count(mpid) for mpid in "acde"] == [1, 1, 1, 1]


def test_a_failure_that_passes_costs_an_attempt_and_nothing_else(world):
    world.watched(MONDAY, *"ab")
    world.opencast.failing = {"b": SourceError("answered 500")}
    world.harvest()
    assert world.indexed == ["a"]
    world.opencast.failing = {}
    world.time_passes()
    world.harvest()
    assert (world.indexed, world.mark, world.dead()) == (["a", "b"], WEDNESDAY, [])


def test_an_outage_of_the_admin_host_alone_uses_up_no_attempts(make):
    engage, admin = FakeOpencast(), FakeOpencast()
    world = make((engage, admin))
    world.start_at(MONDAY)
    world.watched(MONDAY, "a")
    world.engine.advance()
    admin.down = SourceError("No whole answer")
    for _ in range(8):
        world.work()
        world.time_passes()
        world.mailbox.slices += [
            (world.ledger.live().id, one) for one in world.ledger.take(world.ledger.live().id, 9)
        ]
    admin.down = None
    world.work()
    world.harvest()
    assert (world.indexed, world.mark, world.dead()) == (["a"], WEDNESDAY, [])


def test_a_refused_document_is_counted_though_its_chunk_was_tried_again(world):
    world.watched(MONDAY, "a", "b")
    world.store.refuses = {"a"}
    world.opencast.failing = {"b": SourceError("answered 500")}
    world.opencast.clock = TUESDAY + AT
    world.harvest()
    world.opencast.failing = {}
    world.time_passes()
    world.harvest()
    assert (world.last().dead_letters, len(world.dead())) == (1, 1)


def test_an_outage_of_a_host_or_of_the_store_uses_up_no_attempts(world):
    world.watched(MONDAY, *"abc")
    world.engine.advance()
    world.opencast.down = SourceError("No whole answer")
    for _ in range(6):
        world.work()
        world.time_passes()
        world.mailbox.slices += [
            (world.ledger.live().id, one) for one in world.ledger.take(world.ledger.live().id, 9)
        ]
    world.opencast.down = None
    world.store.error = RetryableError("Elasticsearch does not answer")
    for _ in range(6):
        world.work()
        world.time_passes()
        world.mailbox.slices += [
            (world.ledger.live().id, one) for one in world.ledger.take(world.ledger.live().id, 9)
        ]
    world.store.error = None
    world.work()
    world.harvest()
    assert (world.indexed, world.mark, world.dead()) == (["a", "b", "c"], WEDNESDAY, [])


def test_a_refusal_blocks_the_stream_and_heals_by_itself(world):
    world.watched(MONDAY, *"abc")
    world.engine.advance()
    world.opencast.down = BlockedError("refused user 'harvester'")
    world.work()
    assert world.engine.state.blocked("working").reason == "refused user 'harvester'"
    world.opencast.down = None
    world.time_passes()
    world.harvest()
    assert world.engine.state.blocked() is None
    assert (world.indexed, world.mark) == (["a", "b", "c"], WEDNESDAY)


def test_one_episode_that_is_refused_is_its_own_dead_letter_and_blocks_nothing(world):
    world.watched(MONDAY, *"abc")
    world.opencast.failing = {"b": BlockedError("403 from a firewall")}
    world.opencast.clock = TUESDAY + AT
    world.harvest()
    assert world.engine.state.blocked() is None
    assert (world.indexed, world.last().dead_letters) == (["a", "c"], 1)
    assert world.dead() == [("record", {"mpid": "b"})]
    world.opencast.failing = {}
    assert world.engine.stream.redeliver({"mpid": "b"}) == 1


def test_a_host_that_refuses_all_that_it_has_blocks_though_its_clock_answers(make):
    world = make(batch_size=CHUNK)
    world.start_at(MONDAY)
    world.watched(MONDAY, *"abcdef")
    world.opencast.failing = dict.fromkeys("abcdef", BlockedError("403"))
    world.opencast.clock = TUESDAY + AT
    world.harvest()
    assert world.engine.state.blocked("working").reason == "403"
    assert world.dead() == []


def test_a_document_that_the_store_refuses_becomes_a_dead_letter_and_the_others_are_written(world):
    world.watched(MONDAY, *"abc")
    world.store.refuses = {"b"}
    world.harvest()
    [(kind, payload)] = world.dead()
    assert (kind, payload["mpid"], payload["document"]["title"]) == ("record", "b", "Lecture b")
    assert (world.indexed, world.mark) == (["a", "c"], WEDNESDAY)


def test_dead_letters_are_looked_up_and_written_after_all(world):
    assert world.stream.redeliver({"mpid": "a", "document": {}}) == 1
    assert world.stream.redeliver({"mpids": ["b", "c"]}) == 2
    assert world.indexed == ["a", "b", "c"]
    world.opencast.failing = {"d": SourceError("answered 500")}
    with pytest.raises(SourceError):
        world.stream.redeliver({"mpids": ["d"]})


# What a person chose


@pytest.mark.parametrize(
    ("chosen", "indexed"),
    [
        (Chosen(mpid="c"), ["c"]),
        (Chosen(source_index_pattern="useractions*-2026.11.1*"), ["a", "b"]),
        (Chosen(source_index_pattern="useractions-2026.11.16,useractions-none"), ["a"]),
    ],
)
def test_chosen_episodes_are_indexed_by_workers_that_know_nothing_of_the_choice(world, make, chosen, indexed):
    world.watched(MONDAY, "a")
    world.watched(TUESDAY, "b")
    asking = make(chosen=chosen)
    now = world.opencast.clock
    run = asking.engine.ask(Interval(now - DAY, now), asking.engine.usual_options, may_move=False)
    assert run.expected == len(indexed)
    world.engine.advance_explicit(run.id)
    world.work()
    world.engine.advance_explicit(run.id)
    assert (world.indexed, world.mark) == (indexed, MONDAY)
    assert world.last().outcome == "done"


def test_what_a_person_had_indexed_is_indexed_again_in_its_turn(world, make):
    world.watched(TUESDAY, "a")
    asking = make(chosen=Chosen(mpid="a"))
    now = world.opencast.clock
    run = asking.engine.ask(Interval(now - DAY, now), asking.engine.usual_options, may_move=False)
    world.engine.advance_explicit(run.id)
    world.work()
    world.harvest()
    assert world.opencast.asked == ["a", "a"]


# Both ages of Opencast


@pytest.fixture(scope="module", params=["dce", "stock"])
def simulator(request):
    with stack.opencast_simulator("--profile", request.param, "--rows", "10", "--episodes", "60") as server:
        server.profile = request.param
        yield server


def test_every_episode_of_a_campus_is_indexed_counted_or_both(simulator, make):
    login = ("admin", "opencast")
    with urllib.request.urlopen(f"{simulator.url}/_sim/episodes") as answer:
        truth = json.load(answer)["episodes"]
    hosts = (Opencast(simulator.url, *login), Opencast(simulator.url, *login, host=ADMIN_HOST))
    world = make(hosts, batch_size=CHUNK)
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - DAY
    world.start_at(yesterday - DAY)
    world.watched(yesterday - DAY, *(episode["id"] for episode in truth), "junk/../id", "no such episode")
    world.engine.advance()
    world.work()
    world.engine.advance()
    entry = next(entry for entry in world.engine.state.history() if entry.records)
    shown = [
        episode
        for episode in truth
        if episode["state"] == "published" or (episode["state"] == "deleted" and simulator.profile == "dce")
    ]
    assert world.indexed == sorted(episode["id"] for episode in shown)
    assert entry.counts["gone"] == len(truth) + 2 - len(shown)
    assert entry.counts["without_attachments"] == sum(episode["stills"] == 0 for episode in shown)
    assert entry.counts["without_duration"] == sum(episode["duration_ms"] is None for episode in shown)
    assert entry.counts["without_workflow"] == sum(episode["live"] for episode in shown)
    assert world.dead() == []
    for episode in shown:
        found = world.store.get("episodes", episode["id"])
        captured = episode["number"] % 3 == 0 and not episode["live"]
        assert found.get("live_duration") == (3_600_000 if captured else None)
        assert found.get("title") == episode["title"]


# Elasticsearch


@pytest.mark.usefixtures("templates")
def test_in_elasticsearch_too_episodes_are_found_by_day_and_what_is_unknown_this_time_is_kept(make, es, cluster):
    store = ClusterStore(cluster)
    world = make(store=store, batch_size=CHUNK)
    world.start_at(MONDAY)
    many = [f"{number:04}" for number in range(1100)]  # more than a page of the composite aggregation
    world.watched(MONDAY, "a")
    world.watched(TUESDAY, "a", *many)
    es.indices.refresh(index="useractions-*")
    world.opencast.clock = TUESDAY + AT
    world.opencast.found = {"series": "20260310002", "seriestitle": "Course 2"}
    world.harvest()
    world.opencast.clock = WEDNESDAY + AT
    world.opencast.found = {"duration": None, "title": "New title"}
    world.harvest()
    es.indices.refresh(index="episodes")
    assert es.count(index="episodes")["count"] == len(many) + 1
    assert store.get("episodes", "a") == {
        "mpid": "a",
        "title": "New title",
        "duration": 1000,
        "course": "Course 2",
        "series": "20260310002",
        "year": "2026",
        "term": "03",
        "crn": "10002",
    }
    term = {"bool": {"filter": [{"term": {"year": "2026"}}, {"term": {"term": "03"}}, {"term": {"mpid": "a"}}]}}
    assert es.count(index="episodes*", body={"query": term})["count"] == 1


# Settings


def test_the_time_of_day_is_a_setting():
    assert Settings().episodes_at == timedelta(hours=4)
    assert settings.load({"EPISODES_AT": "23:05"}).episodes_at == timedelta(hours=23, minutes=5)


@pytest.mark.parametrize("value", ["4", "24:00", "4:00", "04:60", "noon"])
def test_what_is_no_time_of_day_is_refused(value):
    with pytest.raises(BadInputError, match=f"EPISODES_AT: '{value}' cannot be used. Expected a time of day"):
        settings.load({"EPISODES_AT": value})


def test_episodes_are_harvested_where_what_they_need_is_set():
    assert not Settings().episodes_enabled
    assert not settings.load({"MATTERHORN_ADMIN_HOST": "admin"}).episodes_enabled
    assert settings.load({"MATTERHORN_ADMIN_HOST": "admin", "ES_HOST": "es"}).episodes_enabled
    assert settings.load({"MATTERHORN_ADMIN_HOST": "admin", "DOCUMENTS_URL": "sqlite:///d.db"}).episodes_enabled
