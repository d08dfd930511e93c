"""Quotas: by label and by day, how answers tell of them, and what is counted."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
import requests

from simulators.zoom.quotas import PLANS, Plan, Quotas, Rate, Rules

DAY = "2026-11-20"
PER_SECOND = "You have reached the maximum per-second rate limit for this API. Try again later."
PER_DAY = (
    "You have reached the maximum daily rate limit for this API."
    " Refer to the response header for details on when you can make another request."
)
LIGHT, MEDIUM, HEAVY, INTENSIVE = "Light", "Medium", "Heavy", "Resource-intensive"


def heavy(calls, day):
    """A plan of so many heavy calls a second and a day."""
    return Plan(dict(PLANS["business"].rates) | {HEAVY: Rate(calls, 1)}, {(HEAVY,): day})


class Account:
    """Quotas on clocks of the test's own."""

    def __init__(self, plan=PLANS["business"], **rules):
        self.now, self.monotonic = 1_000_000.0, 50.0
        self.rules = Rules(plan, **rules)
        self.quotas = Quotas(lambda: self.now, lambda: self.monotonic)

    def wait(self, seconds):
        self.now += seconds
        self.monotonic += seconds

    def admits(self, label):
        return self.quotas.admit(label, self.rules).error is None

    def burst(self, label, calls):
        """How many of so many calls at once are let through."""
        return sum(self.admits(label) for _ in range(calls))

    def read(self, label):
        return self.quotas.read(self.rules)[label]


@pytest.mark.parametrize(
    ("plan", "rates"), [("free", (4, 2, 1, 10)), ("pro", (30, 20, 10, 10)), ("business", (80, 60, 40, 20))]
)
def test_each_plan_has_its_rates_and_labels_do_not_share_them(plan, rates):
    account = Account(PLANS[plan])
    assert tuple(account.burst(label, 100) for label in (LIGHT, MEDIUM, HEAVY, INTENSIVE)) == rates


def test_a_rate_holds_for_every_stretch_of_its_length():
    account = Account()
    account.wait(0.9)
    assert account.burst(HEAVY, 40) == 40
    account.wait(0.2)
    assert account.burst(HEAVY, 40) == 0
    account.wait(0.7999)
    assert account.burst(HEAVY, 40) == 0
    account.wait(0.001)
    assert account.burst(HEAVY, 50) == 40


def test_a_fixed_window_begins_anew_with_each_second_of_the_clock():
    account = Account(sliding=False)
    account.wait(0.9)
    assert account.burst(HEAVY, 50) == 40
    account.wait(0.2)
    assert account.burst(HEAVY, 50) == 40


def test_the_main_list_is_counted_by_the_minute():
    account = Account()
    assert account.burst(INTENSIVE, 30) == 20
    account.wait(59.9)
    assert account.burst(INTENSIVE, 30) == 0
    account.wait(0.2)
    assert account.burst(INTENSIVE, 30) == 20


@pytest.mark.parametrize(("plan", "day"), [("pro", 30_000), ("business", 60_000)])
def test_heavy_and_intensive_calls_share_a_day(plan, day):
    account = Account(PLANS[plan])
    account.quotas.consume(HEAVY, day - 2, account.rules)
    account.wait(60)
    assert account.admits(INTENSIVE)
    assert account.admits(HEAVY)
    assert not account.admits(HEAVY)
    assert not account.admits(INTENSIVE)
    assert account.admits(LIGHT)


def test_labels_of_a_free_plan_have_days_of_their_own():
    account = Account(PLANS["free"])
    account.quotas.consume(HEAVY, 1000, account.rules)
    account.wait(1)
    assert not account.admits(HEAVY)
    assert account.admits(LIGHT)
    assert account.read(MEDIUM)["day_left"] == 2000


def test_the_day_begins_at_midnight_utc():
    account = Account(heavy(9, day=1))
    account.now = 20_000 * 86_400 - 1.5
    assert account.burst(HEAVY, 2) == 1
    refused = account.quotas.admit(HEAVY, account.rules)
    assert refused.headers["Retry-After"] == "2024-10-04T00:00:00Z"
    account.wait(1)
    assert not account.admits(HEAVY)
    account.wait(0.5)
    assert account.admits(HEAVY)


def test_refused_calls_use_up_nothing():
    account = Account(heavy(2, day=5))
    account.burst(HEAVY, 100)
    assert account.read(HEAVY)["day_left"] == 3


def test_what_is_counted():
    account = Account(heavy(3, day=4))
    account.burst(HEAVY, 2)
    account.wait(0.9)
    account.burst(HEAVY, 2)
    account.wait(10)
    account.burst(HEAVY, 2)
    read = account.read(HEAVY)
    assert (read["calls"], read["refused"], read["refused_by_rate"], read["refused_by_day"]) == (6, 2, 1, 1)
    assert read["peak"] == 4  # refused ones too: what the client did, not what the server let happen
    account.quotas.forget_log()
    read = account.read(HEAVY)
    assert (read["calls"], read["refused"], read["peak"]) == (0, 0, 0)
    assert read["day_left"] == 0


# Over HTTP


def test_every_answer_tells_its_label_and_what_is_left(start):
    zoom = start("--meetings", 3)
    listed = zoom.get("/metrics/meetings", type="past", from_=DAY, to=DAY)
    users = zoom.get("/users")
    missing = zoom.participants("nosuchmeeting")
    told = [{name: value for name, value in answer.headers.items() if name.startswith("X-RateLimit")} for answer in
            (listed, users, missing)]  # fmt: skip
    assert told == [
        {"X-RateLimit-Category": INTENSIVE, "X-RateLimit-Type": "Daily-limit", "X-RateLimit-Limit": "60000",
         "X-RateLimit-Remaining": "59999"},
        {"X-RateLimit-Category": MEDIUM, "X-RateLimit-Type": "QPS", "X-RateLimit-Limit": "60",
         "X-RateLimit-Remaining": "59"},
        {"X-RateLimit-Category": HEAVY, "X-RateLimit-Type": "Daily-limit", "X-RateLimit-Limit": "60000",
         "X-RateLimit-Remaining": "59998"},
    ]  # fmt: skip


def test_over_the_rate_it_is_429_of_type_qps_without_a_retry_after(start):
    zoom = start("--meetings", 1, "--limit", "heavy=2/1000s")
    answers = [zoom.participants("any") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[2].json() == {"code": 429, "message": PER_SECOND}
    headers = answers[2].headers
    assert (headers["X-RateLimit-Type"], headers["X-RateLimit-Remaining"]) == ("QPS", "0")
    assert "Retry-After" not in headers
    reset = int(headers["X-RateLimit-Reset"]) - datetime.fromisoformat("2026-11-22T12:00:00Z").timestamp()
    assert 990 < reset <= 1011
    heavy = zoom.heavy()
    assert (heavy["calls"], heavy["refused_by_rate"], heavy["peak"], heavy["limit"]) == (3, 1, 3, 2)
    assert zoom.requests()["statuses"] == {"200": 1, "404": 2, "429": 1}


def test_no_more_are_let_through_when_many_ask_at_once(start):
    zoom = start("--meetings", 1, "--limit", "heavy=10/1000s")
    with ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(lambda _: zoom.participants("any").status_code, range(40)))
    assert statuses.count(404) == 10
    assert statuses.count(429) == 30
    assert zoom.heavy()["calls"] == 40


def test_over_the_day_it_is_429_with_a_time_or_seconds(start):
    zoom = start("--meetings", 1, "--limit", "heavy=2/day", "--day-ends-in", 3000)
    answers = [zoom.participants("any") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[2].json() == {"code": 429, "message": PER_DAY}
    headers = answers[2].headers
    assert (headers["X-RateLimit-Type"], headers["X-RateLimit-Limit"]) == ("Daily-limit", "2")
    assert headers["Retry-After"].startswith("2026-11-22T12:50:0")
    assert zoom.get("/metrics/meetings").status_code == 429  # it shares the day
    zoom.set(retry_after="seconds")
    assert 2900 < int(zoom.participants("any").headers["Retry-After"]) <= 3000
    zoom.advance(3001)
    assert zoom.participants("any").status_code == 404
    assert zoom.heavy()["refused_by_day"] == 2


def test_the_end_of_the_day_can_be_set_while_it_runs(start):
    zoom = start("--limit", "heavy=1/day")
    zoom.set(day_ends_in=100)
    assert [zoom.participants("any").status_code for _ in range(2)] == [404, 429]
    zoom.advance(101)
    assert zoom.participants("any").status_code == 404


def test_a_day_can_be_so_short_that_a_test_sees_it_end(start):
    zoom = start("--meetings", 1, "--limit", "heavy=1/day", "--day-ends-in", "0.2", "--day-seconds", "0.5")
    end = time.monotonic() + 10
    statuses = []
    while time.monotonic() < end and (429 not in statuses or statuses.count(404) < 3):
        statuses.append(zoom.participants("any").status_code)
    assert statuses.count(404) >= 3


def test_headers_can_be_left_out(start):
    zoom = start("--rate-headers", "off", "--limit", "heavy=1/day")
    answers = [zoom.participants("any") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [404, 429]
    assert not any(name.startswith(("X-RateLimit", "Retry")) for answer in answers for name in answer.headers)


def test_other_applications_of_the_account_use_up_its_quota(start):
    zoom = start("--meetings", 1)
    zoom.control("POST", "consume", {"label": HEAVY, "calls": 60_000})
    assert zoom.participants("any").headers["X-RateLimit-Type"] == "Daily-limit"
    assert zoom.heavy()["calls"] == 1


def test_limits_can_be_changed_while_it_runs(start):
    zoom = start("--meetings", 1, "--limit", "heavy=1/1000s")
    assert [zoom.participants("any").status_code for _ in range(2)] == [404, 429]
    zoom.set(limit=["heavy=100/s", "light+medium=7/2s"])
    assert zoom.participants("any").status_code == 404
    labels = zoom.requests()["labels"]
    assert [labels[label]["limit"] for label in (LIGHT, MEDIUM, HEAVY, INTENSIVE)] == [7, 7, 100, 20]
    assert labels[LIGHT]["seconds"] == 2


def test_calls_without_a_token_are_not_counted_by_label(zoom):
    requests.get(f"{zoom.url}/v2/users", timeout=60)
    counted = zoom.requests()
    assert counted["labels"][MEDIUM]["calls"] == 0
    assert (counted["endpoints"], counted["statuses"]) == ({"users": 1}, {"401": 1})
