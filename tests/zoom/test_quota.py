import contextlib
import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from uaharvest.errors import PutOffError
from uaharvest.zoom.quota import PLANS, Label, Quota, RateLimit

ROOT = Path(__file__).resolve().parents[2]
HEAVY = Label.HEAVY
LISTS = Label.RESOURCE_INTENSIVE
DAILY = {"X-RateLimit-Type": "Daily-limit"}
QPS = {"X-RateLimit-Type": "QPS"}

# A worker: makes calls that take a while to arrive at the server, and to be answered; prints when they arrived
# (CLOCK_MONOTONIC is one for all processes).
WORKER = """
import json, random, sys, threading, time
from redis import Redis
from uaharvest.zoom.quota import Label, Quota
url, plan, calls, threads, latency = json.loads(sys.argv[1])
arrived = []
def work():
    quota = Quota(Redis.from_url(url, decode_responses=True), "account", plan)
    for _ in range(calls):
        with quota.permit(Label.HEAVY, patience=60):
            time.sleep(random.uniform(0, latency))
            arrived.append(time.monotonic())
            time.sleep(random.uniform(0, latency))
workers = [threading.Thread(target=work) for _ in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(json.dumps(arrived))
"""


@pytest.fixture
def client(redis, valkey_url):
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def plans(monkeypatch):
    """Put a plan "tiny" among the plans, with windows that a test can wait for; it is not near midnight."""
    monkeypatch.setattr("uaharvest.zoom.quota.MIDNIGHT", 0)

    def set_heavy(calls, window, per_day=None, cap="Heavy"):
        lists = RateLimit(10, 60, per_day, cap)
        monkeypatch.setitem(
            PLANS, "tiny", {**PLANS["pro"], HEAVY: RateLimit(calls, window, per_day, cap), LISTS: lists}
        )

    return set_heavy


def quota(client, plan="pro", **more):
    return Quota(client, "account", plan, **more)


def call(quota, label=HEAVY, patience=0.0):
    with quota.permit(label, patience=patience):
        pass


def most_within(instants, window):
    instants = sorted(instants)
    return max(sum(first <= instant < first + window for instant in instants) for first in instants)


def test_several_processes_together_never_exceed_the_quota_in_any_window_yet_come_near_it(client, valkey_url):
    arguments = json.dumps([valkey_url, "pro", 10, 3, 0.04])
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, arguments], stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(2)
    ]
    arrived = [instant for worker in workers for instant in json.loads(worker.communicate()[0])]
    assert len(arrived) == 60
    assert most_within(arrived, 1.0) <= 10
    floor = (60 / 10 - 1) * 1.0
    assert max(arrived) - min(arrived) < floor * 1.6  # the least, and latency, and two processes that begin apart


def test_a_call_counts_until_a_whole_window_after_its_answer_however_late_it_arrived(client, plans):
    plans(1, 0.5)
    slow = quota(client, "tiny")
    with slow.permit(HEAVY, patience=0):
        time.sleep(0.6)  # longer than a window: it may have arrived only now
        with pytest.raises(PutOffError):
            call(slow)
        answered = time.monotonic()
    call(slow, patience=2)
    assert time.monotonic() - answered >= 0.5


def test_a_permit_of_a_worker_that_died_is_free_again_after_longer_than_a_request_takes(client, plans):
    plans(1, 0.5)
    permit = quota(client, "tiny").permit(HEAVY, patience=0)
    permit.__enter__()
    (places,) = client.keys("*places*")
    assert 60_000 < client.pttl(places) < 75_000


def test_what_is_not_to_be_had_soon_is_put_off_until_it_is(client):
    busy = quota(client)
    for _ in range(10):
        call(busy, LISTS)
    with pytest.raises(
        PutOffError, match=r"Resource-intensive calls of this minute .*ZOOM_PLAN pro: 10"
    ) as caught:
        call(busy, LISTS, patience=2)
    assert 50 < (caught.value.due - datetime.now(UTC)).total_seconds() < 64


def test_labels_have_quotas_of_their_own(client):
    busy = quota(client)
    for _ in range(10):
        call(busy, LISTS)
    call(busy, HEAVY)


def test_a_share_of_less_than_a_call_makes_the_window_longer(client, plans):
    plans(1, 0.2)
    half = quota(client, "tiny", share=50)
    began = time.monotonic()
    call(half)
    call(half, patience=2)
    assert time.monotonic() - began >= 0.4


def test_a_share_of_a_quota_is_kept(client):
    half = quota(client, share=50)
    for _ in range(5):
        call(half, LISTS)
    with pytest.raises(PutOffError):
        call(half, LISTS)


def test_heavy_and_resource_intensive_calls_share_a_day_on_a_paid_plan(client, plans):
    plans(100, 1, per_day=3, cap="both")
    tiny = quota(client, "tiny")
    call(tiny, HEAVY)
    call(tiny, LISTS)
    call(tiny, HEAVY)
    for label in (HEAVY, LISTS):
        with pytest.raises(PutOffError, match="calls for the day are used up") as caught:
            call(tiny, label)
        assert caught.value.due >= _next_midnight()
    call(tiny, Label.LIGHT)


def test_only_a_share_of_the_day_is_used(client, plans):
    plans(100, 1, per_day=4)
    half = quota(client, "tiny", share=50)
    call(half)
    call(half)
    with pytest.raises(PutOffError, match="ZOOM_QUOTA_SHARE"):
        call(half)


def test_after_429_for_a_second_the_label_rests_for_all_workers(client):
    due = quota(client).refused(HEAVY, {**QPS, "Retry-After": "3"}, "")
    assert 2 < (due - datetime.now(UTC)).total_seconds() < 6
    with pytest.raises(PutOffError, match="Zoom allows no Heavy calls until"):
        call(quota(client), patience=1)
    call(quota(client), LISTS)


@pytest.mark.parametrize(("label", "rest"), [(HEAVY, 1), (LISTS, 60)])
def test_429_that_says_nothing_lets_the_label_rest_for_a_window(client, label, rest):
    due = quota(client).refused(label, {}, "")
    assert rest - 0.5 < (due - datetime.now(UTC)).total_seconds() < rest + 3


@pytest.mark.parametrize(
    "retry_after",
    ["7200", "2026-11-24T14:00:00Z", "Tue, 24 Nov 2026 14:00:00 GMT", "2026-11-24T14:00:00"],
)
def test_an_exhausted_day_lasts_until_retry_after_by_zooms_own_clock(client, retry_after):
    headers = {**DAILY, "Retry-After": retry_after, "Date": "Tue, 24 Nov 2026 12:00:00 GMT"}
    quota(client).refused(HEAVY, headers, "")
    for label in (HEAVY, LISTS):
        with pytest.raises(PutOffError, match="calls for the day are used up") as caught:
            call(quota(client), label, patience=2)
        assert 7199 < (caught.value.due - datetime.now(UTC)).total_seconds() < 7206


@pytest.mark.parametrize("retry_after", [None, "", "soon", "1999-01-01T00:00:00Z", "-5"])
def test_an_exhausted_day_without_a_usable_retry_after_lasts_until_midnight(client, retry_after):
    headers = DAILY | ({} if retry_after is None else {"Retry-After": retry_after})
    quota(client).refused(HEAVY, headers, "")
    with pytest.raises(PutOffError) as caught:
        call(quota(client))
    assert timedelta(0) <= caught.value.due - _next_midnight() < timedelta(seconds=65)


def test_429_without_headers_is_told_by_its_words(client):
    quota(client).refused(HEAVY, {}, "You have reached the maximum daily rate limit for this API.")
    assert quota(client).usage()[LISTS].exhausted_until is not None


def test_a_longer_rest_is_not_cut_short_by_a_later_429(client):
    quota(client).refused(HEAVY, {**QPS, "Retry-After": "30"}, "")
    quota(client).refused(HEAVY, QPS, "")
    with pytest.raises(PutOffError) as caught:
        call(quota(client))
    assert (caught.value.due - datetime.now(UTC)).total_seconds() > 25


def test_reset_as_seconds_since_1970_is_understood(client):
    now = int(datetime.now(UTC).timestamp())
    due = quota(client).refused(LISTS, {**QPS, "X-RateLimit-Reset": str(now + 20)}, "")
    assert 17 < (due - datetime.now(UTC)).total_seconds() < 24


def test_a_reset_later_than_the_quotas_window_is_no_reason_to_rest_longer(client):
    now = int(datetime.now(UTC).timestamp())
    due = quota(client).refused(HEAVY, {**QPS, "X-RateLimit-Reset": str(now + 20)}, "")
    assert (due - datetime.now(UTC)).total_seconds() < 3.5


def test_what_other_apps_used_up_is_learnt_from_what_remains_and_tried_once_a_minute(client, plans):
    plans(100, 1, per_day=1000)
    tiny = quota(client, "tiny")
    call(tiny)
    tiny.answered(HEAVY, {**DAILY, "X-RateLimit-Remaining": "1"})
    assert tiny.usage()[HEAVY].counted == 999
    call(tiny)
    call(tiny)  # one tries it
    with pytest.raises(PutOffError, match="calls for the day are used up") as caught:
        call(tiny)
    assert (caught.value.due - datetime.now(UTC)).total_seconds() < 65
    assert tiny.usage()[HEAVY].calls == 3


def test_a_day_that_began_anew_at_zoom_gives_calls_again(client, plans):
    plans(10, 1, per_day=1000)
    tiny = quota(client, "tiny")
    tiny.answered(HEAVY, {**DAILY, "X-RateLimit-Remaining": "0"})
    call(tiny)  # the one that tries it
    tiny.answered(HEAVY, {**DAILY, "X-RateLimit-Remaining": "999"})
    call(tiny)
    call(tiny)


def test_an_answer_that_was_overtaken_does_not_give_calls_back(client, plans):
    plans(10, 1, per_day=1000)
    tiny = quota(client, "tiny")
    tiny.answered(HEAVY, {**DAILY, "X-RateLimit-Remaining": "500"})
    tiny.answered(HEAVY, {**DAILY, "X-RateLimit-Remaining": "510"})
    assert tiny.usage()[HEAVY].counted == 500


def test_what_remains_of_a_second_says_nothing_of_the_day(client):
    quota(client).answered(HEAVY, {**QPS, "X-RateLimit-Remaining": "0"})
    call(quota(client))


def test_calls_are_counted_by_label(client):
    counting = quota(client)
    call(counting, HEAVY)
    call(counting, HEAVY)
    call(counting, LISTS)
    assert counting.calls(datetime.now(UTC).date()) == {HEAVY: 2, LISTS: 1}
    usage = counting.usage()
    assert (usage[HEAVY].calls, usage[HEAVY].counted, usage[HEAVY].per_day) == (2, 3, 30_000)
    assert usage[Label.LIGHT].calls == 0


def test_accounts_do_not_share_their_quotas(client):
    for _ in range(10):
        call(Quota(client, "one", "pro"), LISTS)
    call(Quota(client, "other", "pro"), LISTS)


def test_near_midnight_a_call_counts_on_both_days(client):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uaharvest.zoom.quota.MIDNIGHT", 86_400_000)  # all day long is near midnight
        call(quota(client))
    assert len(client.keys("*:used:*")) == 2
    assert len(client.keys("*:calls:*")) == 1


def test_a_call_that_fails_frees_its_place_too(client, plans):
    plans(1, 0.2)
    tiny = quota(client, "tiny")
    with pytest.raises(ZeroDivisionError), tiny.permit(HEAVY, patience=0):
        raise ZeroDivisionError
    call(tiny, patience=1)


def test_who_waits_first_is_served_first(client, plans):
    plans(1, 0.2)
    tiny = quota(client, "tiny")
    call(tiny)
    served = []

    def work(number):
        call(tiny, patience=5)
        served.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for number, thread in enumerate(threads):
        thread.start()
        _until(lambda number=number: client.zcard("uaharvest:zoom:account:queue:Heavy") + len(served) > number)
    for thread in threads:
        thread.join()
    assert served == sorted(served)


def test_who_would_wait_too_long_behind_others_is_put_off_at_once_until_its_turn(client, plans):
    plans(1, 1)
    tiny = quota(client, "tiny")
    waiting = threading.Thread(target=lambda: call(tiny, patience=9))
    with tiny.permit(HEAVY, patience=0):  # no answer yet: its place may be free in a second at the earliest
        waiting.start()
        _until(lambda: client.zcard("uaharvest:zoom:account:queue:Heavy") == 1)
        began = datetime.now(UTC)
        with pytest.raises(PutOffError) as caught:
            call(quota(client, "tiny", pause=lambda _: pytest.fail("it waits")), patience=1.5)
        ended = datetime.now(UTC)
    waiting.join()
    assert (caught.value.due - began).total_seconds() > 1
    assert (caught.value.due - ended).total_seconds() < 4.1
    assert client.zcard("uaharvest:zoom:account:queue:Heavy") == 0


def test_who_died_in_the_queue_holds_it_up_for_a_few_seconds_only(client, plans):
    plans(1, 1)
    tiny = quota(client, "tiny")
    client.zadd("uaharvest:zoom:account:queue:Heavy", {"dead": (time.time() - 9) * 1_000_000})
    with pytest.raises(PutOffError):
        call(tiny)
    client.zadd("uaharvest:zoom:account:queue:Heavy", {"dead": (time.time() - 11) * 1_000_000})
    call(tiny)


def _until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _next_midnight():
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


@pytest.mark.parametrize("left", ["-5", "1e400", "9" * 40, "-" + "9" * 40, "many", ""])
def test_what_remains_may_be_no_number_that_can_be_and_calls_go_on(client, left):
    one = Quota(client, "account", "pro")
    one.answered(Label.HEAVY, {"X-RateLimit-Type": "Daily-limit", "X-RateLimit-Remaining": left})
    with contextlib.suppress(PutOffError), one.permit(Label.HEAVY, patience=0):
        pass
    assert 0 <= one.usage()[Label.HEAVY].counted <= 30_001


@pytest.mark.parametrize("header", ["Retry-After", "X-RateLimit-Reset", "Date"])
@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01T00:00:00+14:00",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "9999-12-31T23:59:59-14:00",
        " ",
        "x" * 60_000,
    ],
)
def test_a_time_that_cannot_be_is_none(client, header, value):
    until = Quota(client, "account", "pro").refused(Label.HEAVY, {"X-RateLimit-Type": "QPS", header: value}, "")
    assert (until - datetime.now(UTC)).total_seconds() < 5
