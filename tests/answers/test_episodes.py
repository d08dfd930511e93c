"""Every call of the harvest of episodes, with every answer."""

from datetime import timedelta

import pytest
import requests

from devservers import stack
from devservers.answers import ANSWERS, fewer
from devservers.proxy import Proxy
from tests.answers.policy import LISTED, LISTED_ITEM, Attack, cases
from tests.answers.site import Site, opencast_environment, verdict
from uaharvest.documents.document import Document
from uaharvest.errors import Exit
from uaharvest.sinks.sqlite import SqliteStore

DAY = timedelta(days=1)
EPISODES = 6
TICKS = 10  # enough for a dead letter, where there must be one or must be none
MPID = [""]  # the episode that is attacked


def search(call):
    return call.path.endswith("/search/episode.json")


def workflows(call):
    return call.path.endswith("/instances.json")


def of_episode(call):
    return MPID[0] in {call.query.get("id"), call.query.get("mp"), call.path.split("/")[-2]}


def attacks(release, name):
    """Return the attacks on an Opencast of a release, which `name` names."""
    return (
        Attack(f"{name}: episodes and clock", search, LISTED, "Opencast", release),
        Attack(f"{name}: one episode", lambda call: search(call) and of_episode(call), LISTED_ITEM, "", release),
        Attack(f"{name}: workflows", workflows, LISTED, "Opencast", release),
        Attack(
            f"{name}: workflows of one episode",
            lambda call: workflows(call) and of_episode(call),
            LISTED_ITEM,
            "",
            release,
        ),
    )


def without_total(attack):
    """Return an attack on a list that does not say how many rows it has."""
    policy = {kind: verdicts for kind, verdicts in attack.policy.items() if kind != "short"}
    return Attack(attack.name, attack.concerns, policy, attack.culprit, attack.proxy)


OLD = attacks("old", "Opencast up to 11")
NEW = attacks("new", "Opencast from 16 on")
CASES = cases(
    *((attack, (*ANSWERS, fewer("search-results", "result"))) for attack in OLD[:2]),
    *((attack, (*ANSWERS, fewer("workflows", "workflow"))) for attack in OLD[2:]),
    *((attack, (*ANSWERS, fewer("result"))) for attack in NEW[:2]),
    *((without_total(attack), ANSWERS) for attack in NEW[2:]),
)


@pytest.fixture(scope="module")
def proxies():
    options = ["--rows", "0", "--episodes", str(EPISODES), "--zone", "UTC", "--seed", "7"]
    with (
        stack.opencast_simulator(*options) as old,
        stack.opencast_simulator(*options, "--profile", "oc16") as new,
        Proxy(old.url) as before_old,
        Proxy(new.url) as before_new,
    ):
        yield {"old": before_old, "new": before_new}


@pytest.fixture(scope="module")
def mpids(proxies):
    """The ids of all episodes; both Opencasts have the same."""
    episodes = requests.get(f"http://{proxies['old'].upstream.netloc}/_sim/episodes", timeout=10).json()[
        "episodes"
    ]
    found = sorted(episode["id"] for episode in episodes)
    MPID[0] = found[-1]
    return set(found)


@pytest.fixture
def store(*, tmp_path, mpids, yesterday):
    """A store with the useractions of yesterday, which name every episode."""
    store = SqliteStore(tmp_path / "documents.db")
    watched = [Document(f"useractions-{yesterday:%Y.%m.%d}", mpid, {"mpid": mpid}) for mpid in mpids]
    assert list(store.write(watched))
    return store


@pytest.fixture
def make(*, proxies, aws, client, valkey_url, bucket, tmp_path, monkeypatch):
    def make(release):
        environment = opencast_environment(proxies[release].url) | {
            "MATTERHORN_ADMIN_HOST": proxies[release].url,
            "EPISODES_AT": "00:00",
            "REDIS_URL": valkey_url,
            "S3_HARVEST_TS_BUCKET": bucket,
            "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
            "HARVEST_ATTEMPTS": "2",
            "DIRECT_AWS": aws,
        }
        return Site("episodes", environment, client, monkeypatch)

    return make


def indexed(store):
    return {document["_id"]: document for document in store.select("episodes*")}


@pytest.mark.parametrize(("attack", "answer"), CASES)
def test_an_answer_gets_the_verdict_of_the_policy_and_nothing_is_lost(
    *, make, store, proxies, mpids, yesterday, attack, answer
):
    site, item = make(attack.proxy), attack.policy["refused"] == {"dead letter"}
    site.begin(yesterday)
    with proxies[attack.proxy].answering(attack.concerns, answer.reply) as proxy:
        for _ in range(TICKS):
            site.tick()
        assert proxy.answered, "the attack never met a call"
    report, code = site.report()
    dead_letters, lines = site.dead_letters(), [trouble["line"] for trouble in report["troubles"]]
    before = indexed(store)
    found = verdict(report, dead_letters)
    assert found in attack.policy[answer.kind], (found, lines)
    if item:
        assert set(indexed(store)) == mpids - {MPID[0]}, "one item holds up the others"
        assert len(dead_letters) == 1
        assert code == Exit.DEAD_LETTERS
    else:
        # With fewer workflows than there are, those episodes come that have none.
        assert not before or (answer.kind == "short" and len(before) < len(mpids))
        assert dead_letters == [] or answer.kind == "short"
        assert code == (Exit.DEAD_LETTERS if found == "dead letter" else Exit.BLOCKED)
        assert found == "dead letter" or any(attack.culprit in line for line in lines), lines
    assert site.heals(yesterday + DAY)
    site.replay()
    assert set(indexed(store)) == mpids
    assert before.items() <= indexed(store).items(), "something was missing"
    assert site.report()[1] == 0
