"""Every call that only the harvest of a stock Opencast makes, with every answer: days, and single useractions."""

import collections
from datetime import UTC, datetime, timedelta

import pytest
import requests

from devservers import stack
from devservers.answers import ANSWERS, fewer
from devservers.proxy import Proxy
from tests.answers.policy import EVERYTHING, LISTED, Attack, cases
from tests.answers.site import Site, opencast_environment, verdict
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second
from uaharvest.opencast.stock import DaySource

NOW = whole_second(datetime.now(UTC))
MORNING = 9
WEST = (NOW.hour - MORNING + 11) % 24 - 11
ZONE = f"Etc/GMT{WEST:+d}"  # where it is morning, far from any midnight
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
# A footprint that was sent is read once more, by its id, to see whether it has grown. One that cannot be read then is
# read again later, so only a refusal, which later ones would get too, holds anything up.
BY_ID = {kind: {"fine"} for kind in EVERYTHING} | {"refused": {"blocked"}, "moved": {"blocked"}}
DAYS = Attack(
    "Stock Opencast: actions of a day", lambda call: call.path.endswith("/actions.json"), LISTED, "Opencast"
)
SINGLE = Attack(
    "Stock Opencast: action by id", lambda call: "/usertracking/action/" in call.path, BY_ID, "Opencast"
)
CASES = cases((DAYS, (*ANSWERS, fewer("actions", "action"))), (SINGLE, ANSWERS))


class Server:
    """A stock Opencast behind a proxy, whose clock the test sets."""

    def __init__(self, proxy):
        self.proxy = proxy

    def simulate(self, path, body):
        url = f"http://{self.proxy.upstream.netloc}/_sim/{path}"
        answer = requests.post(url, json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def set_clock(self, instant):
        self.simulate("clock", {"offset_seconds": (instant - datetime.now(UTC)).total_seconds()})


@pytest.fixture
def server():
    options = ["--rows", "0", "--zone", ZONE, "--seed", "7", "--profile", "stock"]
    with stack.opencast_simulator(*options) as simulator, Proxy(simulator.url) as proxy:
        yield Server(proxy)


@pytest.fixture
def site(*, server, aws, client, valkey_url, bucket, queue_name, monkeypatch):
    monkeypatch.setitem(DaySource.__init__.__kwdefaults__, "pause", lambda seconds: None)
    environment = opencast_environment(server.proxy.url) | {
        "OPENCAST_PROFILE": "stock",
        "OPENCAST_TIMEZONE": ZONE,
        "HARVEST_MAX_WINDOW": "3600",
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
        "HARVEST_MAX_SKEW_SECONDS": "86400",
        "HARVEST_ATTEMPTS": "2",
        "DIRECT_AWS": aws,
    }
    return Site("useractions", environment, client, monkeypatch)


@pytest.mark.parametrize(("attack", "answer"), CASES)
def test_an_answer_gets_the_verdict_of_the_policy_and_nothing_is_lost(*, site, server, attack, answer):
    rows = [{"created": (NOW - MINUTE).timestamp() + number, "type": "PLAY"} for number in range(5)]
    rows.append({"created": (NOW - MINUTE).timestamp(), "type": "FOOTPRINT", "session": "s1"})
    ids = server.simulate("rows", {"rows": rows})["ids"]
    server.set_clock(NOW + MINUTE)
    site.begin(NOW - HOUR)
    arrived = collections.Counter()
    if attack is SINGLE:
        assert site.heals(NOW)
        arrived += site.received()
        server.simulate("grow", {"seconds": 5})
        server.set_clock(NOW + HOUR)
    with server.proxy.answering(attack.concerns, answer.reply):
        for _ in range(4):
            site.tick()
        assert server.proxy.answered, "the attack never met a call"
    report, code = site.report()
    dead_letters, lines = site.dead_letters(), [trouble["line"] for trouble in report["troubles"]]
    found = verdict(report, dead_letters)
    assert found in attack.policy[answer.kind], (found, lines)
    if found in {"blocked", "put off"}:
        assert code == Exit.BLOCKED
        assert any(attack.culprit in line for line in lines), lines
    assert set(arrived) == (set(ids) if attack is SINGLE else set())
    later = NOW + 4 * HOUR
    server.set_clock(later)
    assert site.heals(later)
    site.replay()
    arrived += site.received()
    assert set(arrived) == set(ids)
    assert attack is DAYS or arrived == collections.Counter(ids) + collections.Counter(ids[-1:])
    assert site.report()[1] == 0
