"""A stock Opencast is harvested whole: simulated nights, every physical order, both passes of a repeated hour."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.fakes import DESTINATION, NOON, World
from tests.stock import ORDERS, StockWorld
from uaharvest import assembly
from uaharvest.errors import RetryableError, SourceError
from uaharvest.intervals import Interval
from uaharvest.opencast.stock import ServerClock
from uaharvest.replay import Replayer

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 3, 3, 22, 55, tzinfo=UTC)  # five minutes before midnight in Berlin


def live(world, ends, *, every=120, rows_per_tick=20, late_share=0.05, seed=1, loses_redis_at=()):
    """Let rows appear and ticks come until `ends`; return the ids of all rows by the instant that they are told at."""
    dice = random.Random(seed)
    made = {}
    late = []
    losses = sorted(loses_redis_at)
    since = world.clock.now
    while world.clock.now < ends:
        world.clock.forward(every)
        now = world.clock.now
        while losses and losses[0] <= now:
            losses.pop(0)
            world.redis.flushall()
            world.mailbox.slices.clear()
        span = (now - since).total_seconds()
        instants = sorted(since + timedelta(seconds=dice.uniform(0, span)) for _ in range(rows_per_tick))
        for instant in instants:
            if dice.random() < late_share:
                # Its id it has from when it was made.
                seen = instant + timedelta(seconds=dice.uniform(30, world.settings.overlap - 2 * every))
                late.append((seen, instant, world.opencast.new_id()))
            else:
                remember(world, made, instant, world.opencast.new_id())
        for row in sorted(late):
            if row[0] <= now:
                remember(world, made, *row[1:])
                late.remove(row)
        since = now
        world.settle()
    for row in late:
        remember(world, made, *row[1:])
    return made


def remember(world, made, instant, row_id):
    world.opencast.add(instant, ids=[row_id])
    made[row_id] = world.opencast.rows[-1].at


def finish(world):
    """Let time pass until the overlap is over and the last midnight closed, tick by tick."""
    for _ in range(3 + world.settings.overlap // 600):
        world.clock.forward(600)
        world.settle()


@pytest.fixture
def world(client):
    world = StockWorld(client, opencast_zone=BERLIN)
    world.clock.now = EVENING
    world.start_at(EVENING - timedelta(minutes=1))
    return world


def ago(world, *seconds):
    """Let rows appear that were made so many seconds ago; return their ids."""
    return world.opencast.add(*(world.clock.now - timedelta(seconds=second) for second in seconds))


def costs(world):
    """Forget what was asked so far; return a function that tells requests and rows since."""
    requests, rows = world.opencast.requests, world.opencast.transferred
    return lambda: (world.opencast.requests - requests, world.opencast.transferred - rows)


# Nothing is lost, and nothing sent twice


@pytest.mark.parametrize("millis", [False, True], ids=["whole seconds", "milliseconds"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_night_is_delivered_whole_and_once_whatever_the_order_of_rows(client, order, millis):
    world = StockWorld(client, opencast_zone=BERLIN, order=order, millis=millis)
    world.clock.now = EVENING
    world.start_at(EVENING - timedelta(minutes=1))
    made = live(world, EVENING + timedelta(minutes=30), every=300, rows_per_tick=50)
    finish(world)
    assert Counter(world.sink.arrived) == Counter(list(made))


NIGHTS = {
    "Berlin": ("Europe/Berlin", EVENING),
    "New York, clocks go back": ("America/New_York", datetime(2026, 11, 1, 3, 50, tzinfo=UTC)),
    "New York, clocks go forward": ("America/New_York", datetime(2026, 3, 8, 4, 50, tzinfo=UTC)),
    "Kolkata": ("Asia/Kolkata", datetime(2026, 3, 3, 18, 25, tzinfo=UTC)),
}


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    night=st.sampled_from(sorted(NIGHTS)),
    loss=st.none() | st.integers(0, 120),
    table=st.fixed_dictionaries(
        {
            "order": st.sampled_from(ORDERS),
            "millis": st.booleans(),
            "seed": st.integers(1, 10**6),
            "skew": st.sampled_from([0.0, 3.3, -7_200.0]),
        }
    ),
    rows=st.fixed_dictionaries(
        {
            "every": st.sampled_from([300, 601, 1_200]),
            "rows_per_tick": st.sampled_from([0, 1, 7, 60, 250]),
            "late_share": st.sampled_from([0.0, 0.05, 0.5]),
            "seed": st.integers(1, 10**6),
        }
    ),
)
def test_no_row_is_lost_and_none_sent_twice_but_for_a_lost_redis(client, night, loss, table, rows):
    client.flushall()
    zone, start = NIGHTS[night]
    world = StockWorld(client, opencast_zone=ZoneInfo(zone), **table)
    world.clock.now = start
    world.start_at(start - timedelta(minutes=1))
    losses = [] if loss is None else [start + timedelta(minutes=loss)]
    made = live(world, start + timedelta(hours=3.5 if "clocks" in night else 0.6), loses_redis_at=losses, **rows)
    finish(world)
    arrived = Counter(world.sink.arrived)
    assert set(arrived) == set(made)
    assert loss is not None or set(arrived.values()) <= {1}
    assert not world.dead()


def test_rows_of_every_second_around_midnight_come_soon_after_it(world):
    midnight = EVENING + timedelta(minutes=5)
    world.harvest()
    world.clock.now = midnight + timedelta(minutes=2)
    ids = world.opencast.add(*(midnight + timedelta(seconds=second) for second in range(-60, 60)))
    world.settle()
    assert world.sink.ids == sorted(ids)


def test_both_hidden_minutes_are_seen_by_asking_at_both_ends_of_a_minute(world):
    midnight = EVENING + timedelta(minutes=5)
    world.clock.now = midnight + timedelta(minutes=2, seconds=30)
    # Nothing beside them from which their ids could be guessed, and too much after them.
    hidden = world.opencast.add(
        midnight - timedelta(seconds=10), midnight + timedelta(seconds=10), ids=[10_000, 20_000]
    )
    world.opencast.add(*(midnight + timedelta(seconds=80 + n / 10) for n in range(300)), ids=range(50_000, 50_300))
    world.settle()
    assert set(hidden) < set(world.sink.arrived)


def test_a_row_of_the_first_second_of_a_quiet_night_is_found_though_nothing_lies_beside_it(world):
    midnight = EVENING + timedelta(minutes=5)
    world.clock.now = midnight + timedelta(minutes=2)
    [row_id] = world.opencast.add(midnight)
    world.settle()
    assert world.sink.arrived == [row_id]


def test_rows_of_the_hidden_minute_that_appear_late_are_found_before_the_overlap_ends(world):
    midnight = EVENING + timedelta(minutes=5)
    world.clock.now = midnight + timedelta(minutes=2)
    world.settle()
    ids = world.opencast.add(midnight - timedelta(seconds=10), midnight + timedelta(seconds=1))
    while world.clock.now < midnight + timedelta(seconds=world.settings.overlap + 300):
        world.clock.forward(120)
        world.settle()
    assert world.sink.ids == sorted(ids)


def test_a_late_row_is_found_by_the_count_wherever_it_lies(world):
    ago(world, *range(3_000, 0, -5))
    world.settle()
    [late] = ago(world, 1_500)
    world.clock.forward(60)
    world.settle()
    assert late in world.sink.arrived


def test_a_row_that_comes_between_count_and_page_does_not_hide_a_late_one(client):
    world = StockWorld(client, opencast_zone=BERLIN, order="created", millis=True)
    world.clock.now = EVENING - timedelta(hours=1)
    world.start_at(world.clock.now - timedelta(minutes=1))
    ago(world, *range(900, 0, -1))
    world.settle()
    world.clock.forward(60)
    for _ in range(60):  # a worker that has run for a while knows the server's clock
        world.source.now()
        world.clock.forward(0.617)
    [late] = ago(world, 700)
    world.opencast.during = lambda: ago(world, -0.3)
    world.settle()
    assert late in world.sink.arrived


def test_a_doubt_about_what_the_hidden_minute_hides_is_no_proof(world):
    midnight = EVENING + timedelta(minutes=5)
    world.clock.now = midnight + timedelta(minutes=2)
    # A second more or less of these is more than what is missing.
    world.opencast.add(*(midnight + timedelta(seconds=n / 10) for n in range(600)))
    world.settle()
    for tick in range(10):
        # Each time at another fraction of a second.
        world.clock.now = world.clock.now.replace(microsecond=tick * 100_000) + timedelta(seconds=73)
        world.source._server = ServerClock()  # of a worker that begins
        [late] = ago(world, 50)
        world.settle()
        assert late in world.sink.arrived


def test_what_pages_do_not_find_is_found_by_asking_for_all_at_once(client):
    world = StockWorld(client, opencast_zone=BERLIN, order="shuffled")
    world.clock.now = EVENING - timedelta(hours=1)
    world.start_at(world.clock.now - timedelta(hours=1))
    ids = ago(world, *range(2_000, 0, -1))
    world.settle()
    assert Counter(world.sink.arrived) == dict.fromkeys(ids, 1)


def test_rows_that_are_gone_at_the_source_do_not_hide_new_ones(world):
    ago(world, *range(300, 0, -1))
    world.settle()
    del world.opencast.rows[:50]
    world.clock.forward(60)
    new = ago(world, 20, 10)
    world.settle()
    assert set(new) <= set(world.sink.arrived)
    assert max(Counter(world.sink.arrived).values()) == 1


@pytest.mark.parametrize("share", [0, 0.5], ids=["nothing", "half of it"])
def test_an_answer_that_is_too_poor_once_sends_nothing_twice(world, share):
    ids = ago(world, *range(900, 0, -1))
    world.settle()
    rows = world.opencast.rows
    world.clock.forward(60)
    world.opencast.rows = rows[: int(len(rows) * share)]  # a replica that is behind
    world.settle()
    world.clock.forward(60)
    world.opencast.rows = rows
    ids += ago(world, 20, 10)
    world.settle()
    world.clock.forward(60)
    world.settle()
    due = {row.id for row in rows if row.at >= world.mark.floor.timestamp()}
    assert Counter(world.sink.arrived) == dict.fromkeys(due, 1)
    assert len(world.ids_by_day().load(EVENING.astimezone(BERLIN).date())) == len(ids)


def test_what_was_there_before_the_watermark_and_its_overlap_is_counted_and_not_sent(world):
    before = ago(world, *range(9_000, 60, -30))
    new = ago(world, 40, 20)
    world.settle()
    assert world.sink.ids == new
    assert len(world.ids_by_day().load(EVENING.astimezone(BERLIN).date())) == len(before) + len(new)


def test_a_worker_that_outlives_a_lost_redis_does_not_take_the_new_one_for_whole(world):
    before = ago(world, *range(9_000, 3_000, -300))
    ago(world, 30)
    lost = iter([world.redis.flushall])
    world.sink.gates = lambda where: next(lost, lambda: None)()
    world.settle()
    world.settle()
    assert not set(before) & set(world.sink.arrived)


# What it costs


def test_a_tick_with_nothing_new_counts_and_no_more(world):
    ago(world, *range(5_000, 60, -5))
    world.settle()
    world.clock.forward(30)
    cost = costs(world)
    world.settle()
    requests, rows = cost()
    assert requests <= 4
    assert rows <= 3


@pytest.mark.parametrize("order", ["created", "id", "insertion"])
def test_a_tick_transfers_at_most_twice_what_is_new_in_six_requests(client, order):
    world = StockWorld(client, opencast_zone=BERLIN, order=order, batch_size=1_000)
    world.clock.now = EVENING - timedelta(hours=1)
    world.start_at(world.clock.now - timedelta(minutes=1))
    ago(world, *(n * 5 for n in range(3_000, 0, -1)))
    world.settle()
    for _ in range(3):
        world.clock.forward(120)
        new = ago(world, *(n * 0.5 for n in range(240, 0, -1)))
        cost = costs(world)
        world.settle()
        requests, rows = cost()
        assert set(new) <= set(world.sink.arrived)
        assert requests <= 6
        assert rows <= 2 * len(new)


@pytest.mark.parametrize("order", ["created", "id", "insertion", "mariadb"])
def test_a_lost_redis_costs_the_day_once(client, order):
    world = StockWorld(client, opencast_zone=BERLIN, order=order, batch_size=1_000)
    world.clock.now = EVENING - timedelta(hours=1)
    world.start_at(world.clock.now - timedelta(minutes=1))
    ago(world, *(n * 5 for n in range(8_000, 0, -1)))
    cost = costs(world)
    world.settle()
    requests, rows = cost()
    assert requests <= 14
    assert rows <= 8_000 * 1.15


# Explicit windows


def test_a_window_that_is_asked_for_sends_all_of_it_and_nothing_else_each_time(world):
    day = datetime(2026, 3, 2, 23, tzinfo=UTC)
    outside = world.opencast.add(day - timedelta(seconds=1), day + timedelta(days=1))
    inside = world.opencast.add(*(day + timedelta(seconds=432 * n) for n in range(200)))
    inside += world.opencast.add(day + timedelta(days=1, seconds=-1), day + timedelta(seconds=1))
    world.clock.now = day + timedelta(days=2)
    for times in (1, 2):
        run = world.engine.ask(Interval(day, day + timedelta(days=1)), world.options(), may_move=False)
        while world.ledger.run(run.id):
            world.engine.advance_explicit(run.id)
            world.work()
        assert Counter(world.sink.arrived) == dict.fromkeys(inside, times)
    assert not set(outside) & set(world.sink.arrived)
    assert world.mark.at == EVENING - timedelta(minutes=1)


def test_a_window_of_several_days_is_one_chain(client):
    world = StockWorld(client, opencast_zone=BERLIN, max_window=250_000)
    world.start_at(EVENING)
    start = EVENING - timedelta(days=3, hours=2)
    ids = world.opencast.add(*(start + timedelta(hours=n) for n in range(74)))
    world.clock.now = EVENING + timedelta(hours=5)
    run = world.engine.ask(Interval(start, EVENING), world.options(), may_move=False)
    assert (run.window, run.planned or len(world.due(run.id))) == (run.requested, 1)
    while world.ledger.run(run.id):
        world.engine.advance_explicit(run.id)
        world.work()
    assert Counter(world.sink.arrived) == dict.fromkeys(ids, 1)


def test_windows_are_days(world):
    start = EVENING - timedelta(hours=30)
    rest = Interval(start, EVENING + timedelta(days=4))
    window = world.stream.first_window(rest)
    assert window.end.astimezone(BERLIN) == datetime(2026, 3, 3, tzinfo=BERLIN)
    assert world.stream.first_window(Interval(window.end, rest.end)).seconds == 86_400
    assert world.stream.next_window(start, EVENING) == window


# Failures


def test_a_confirmation_that_is_lost_costs_a_repeat_and_never_a_row(world):
    ids = ago(world, 50, 40, 30)
    losses = iter([RetryableError("no answer")])
    world.sink.loses_confirmation = lambda: next(losses, None)
    world.settle()
    assert set(world.sink.arrived) == set(ids)
    assert len(ids) < len(world.sink.arrived) <= 2 * len(ids)


def test_a_row_that_cannot_be_read_becomes_a_dead_letter_once_and_counts(world):
    ids = ago(world, 50, 40)
    told = world.opencast._json
    world.opencast._json = lambda row: told(row) | ({"created": "yesterday"} if row.id == ids[0] else {})
    for _ in range(3):
        world.settle()
        world.clock.forward(60)
    assert world.sink.arrived == ids[1:]
    assert [payload["raw"]["id"] for _, payload in world.dead()] == ids[:1]


@pytest.fixture
def replay(monkeypatch):
    """Replays the only dead letter of a world, as `manage.py dead-letters replay` does."""

    def replayed(world):
        def made(_, __, hints):
            world.use(hints=hints)
            return world.engine

        monkeypatch.setattr(assembly, "engine", made)
        [name] = world.dead_letters.names()
        sent = Replayer(world.settings).replay(world.dead_letters.get(name))
        world.dead_letters.drop(name)
        world.use()
        return sent

    return replayed


def test_a_day_that_always_fails_becomes_a_dead_letter_holds_nothing_up_and_is_harvested_by_its_replay(
    client, replay
):
    world = StockWorld(client, opencast_zone=BERLIN, max_window=30 * 3600, max_span=6 * 3600, catch_up=False)
    world.clock.now = datetime(2026, 3, 3, 21, 30, tzinfo=UTC)
    world.start_at(world.clock.now)
    bad = world.opencast.add(*(world.clock.now + timedelta(minutes=n) for n in (1, 20, 80)), ids=(1, 2, 3))
    world.clock.forward(5 * 3600)
    # Far from these by id, and more than the table's end that is looked at in a quiet night.
    good = world.opencast.add(
        *(world.clock.now - timedelta(seconds=n) for n in range(9_000, 100, -10)), ids=range(1_000, 1_890)
    )
    world.opencast.broken_days = {date(2026, 3, 3)}
    end = world.clock.now - timedelta(seconds=world.settings.lag)
    world.settle()
    assert world.mark.at == end
    assert set(good) <= set(world.sink.arrived)
    assert not set(bad) & set(world.sink.arrived)
    assert world.dead() == [("slice", {"start": "2026-03-02T23:00:00Z", "end": "2026-03-03T23:00:00Z"})]

    world.opencast.broken_days = set()
    assert replay(world) == len(bad)  # a day is more than MAX_START_END_SPAN
    assert Counter(world.sink.arrived) == dict.fromkeys([*bad, *good], 1)


def test_a_day_with_a_dead_letter_gives_what_is_new_in_it_and_is_not_given_up_at_each_tick(client, replay):
    world = StockWorld(client, opencast_zone=BERLIN, order="created", millis=True)
    world.clock.now = EVENING - timedelta(hours=4)
    world.start_at(world.clock.now - timedelta(minutes=1))
    ago(world, *range(18_000, 900, -5))
    made = ago(world, *range(900, 0, -9))
    bad = made[-3]
    world.opencast.broken = {bad}
    world.settle()
    [name] = world.dead_letters.names()
    world.dead_letters.drop(name)
    for _ in range(3):
        world.clock.forward(120)
        made += ago(world, *range(110, 0, -1))
        cost = costs(world)
        world.harvest()
        assert world.live is None  # nothing is put off
        requests, _ = cost()
        assert requests <= 25
    since = world.opencast.rows[0].at
    wanted = {row.id for row in world.opencast.rows if row.at >= world.mark.floor.timestamp()} - {bad}
    assert since < world.mark.floor.timestamp()
    assert wanted <= set(world.sink.arrived)
    assert max(Counter(world.sink.arrived).values()) == 1
    assert list(world.dead_letters.names()) == []


def test_a_midnight_after_a_day_with_a_dead_letter_holds_nothing_up(world):
    midnight = EVENING + timedelta(minutes=5)
    ago(world, 30)
    world.opencast.broken_days = {date(2026, 3, 3)}
    world.settle()
    assert len(list(world.dead_letters.names())) == 1
    world.clock.now = midnight + timedelta(minutes=5)
    new = ago(world, *range(240, 0, -10))
    world.harvest()
    assert world.live is None  # nothing is put off
    assert set(new) <= set(world.sink.arrived)
    assert len(list(world.dead_letters.names())) == 1


def test_a_day_whose_dead_letter_was_replayed_is_harvested_as_any_other(client, replay):
    world = StockWorld(client, opencast_zone=BERLIN, order="created", millis=True)
    world.clock.now = EVENING - timedelta(hours=4)
    world.start_at(world.clock.now - timedelta(minutes=1))
    made = ago(world, *range(900, 0, -9))
    world.opencast.broken = {made[-3]}
    world.settle()
    world.opencast.broken = set()
    assert replay(world) == len(made)
    world.clock.forward(60)
    world.settle()
    late = ago(world, 500)
    world.clock.forward(60)
    world.settle()
    assert set(late) <= set(world.sink.arrived)
    assert world.engine.state.gaps() == []


def test_an_outage_while_a_day_has_a_dead_letter_is_waited_for(client):
    world = StockWorld(client, opencast_zone=BERLIN, order="created", millis=True)
    world.clock.now = EVENING - timedelta(hours=4)
    world.start_at(world.clock.now - timedelta(minutes=1))
    made = ago(world, *range(900, 0, -9))
    world.opencast.broken = {made[-3]}
    world.settle()
    world.clock.forward(60)
    new = ago(world, 20, 10)
    world.engine.advance()
    world.opencast.fails = lambda *asked: SourceError("down")
    world.work()
    assert world.live.outstanding == 1
    world.opencast.fails = lambda *asked: None
    world.time_passes_in_redis()
    world.settle()
    assert set(new) <= set(world.sink.arrived)


def test_pages_that_are_too_large_for_the_source_are_made_smaller(world):
    world.opencast.order = "id"
    ids = ago(world, *range(500, 0, -1))
    world.opencast.fails = lambda kind, limit: SourceError("too much") if limit > 30 else None
    world.settle()
    assert set(ids[-50:]) <= set(world.sink.arrived)
    assert not world.dead()


def test_a_wrong_zone_stops_it_before_anything_is_sent(client):
    world = StockWorld(client, opencast_zone=BERLIN)
    world.start_at(NOON)
    world.clock.now = NOON + timedelta(minutes=5)
    world.opencast.zone = ZoneInfo("America/New_York")
    ago(world, 60)
    world.harvest()
    assert "Try America/New_York" in world.engine.state.blocked("working").reason
    assert world.sink.arrived == []


# The profile changes while a run is open


@pytest.mark.parametrize("before", ["stock", "dce"])
@pytest.mark.parametrize("kind", ["live", "explicit"])
def test_nothing_is_lost_when_the_profile_changes_while_a_run_is_open(client, before, kind):
    worlds = {
        "stock": StockWorld(client, opencast_zone=BERLIN, destination=f"{DESTINATION} stock"),
        "dce": World(client, opencast_zone=BERLIN, max_window=3600, overlap=1800),
    }
    old = worlds.pop(before)
    [new] = worlds.values()
    new.s3.objects = old.s3.objects
    instants = [EVENING + timedelta(seconds=30 * n) for n in range(1, 9)]
    for world in (old, new):
        world.opencast.add(*instants, **({"ids": range(1, 9)} if isinstance(world, StockWorld) else {}))
        world.clock.now = EVENING + timedelta(minutes=20)
    old.start_at(EVENING)
    if kind == "live":
        old.engine.advance()
    else:
        end = EVENING + timedelta(minutes=15)
        run = old.engine.ask(Interval(EVENING, end), old.options(), may_move=True)
        old.engine.advance_explicit(run.id)
    hints = old.mailbox.slices
    assert hints
    for hint in hints:
        new.engine.work(*hint)
    assert new.sink.arrived == []
    for _ in range(6):
        new.harvest()
        new.time_passes_in_redis()
    assert Counter(new.sink.arrived) == dict.fromkeys(range(1, 9), 1)
    assert new.mark.at >= instants[-1]
    assert [entry.outcome for entry in new.engine.state.history() if entry.kind == kind][-1] == "void"
    assert not new.dead()
