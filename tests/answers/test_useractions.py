"""Every call of the harvest of useractions, with every answer: what becomes of the item, the stream and the rest."""

import collections
from datetime import UTC, datetime, timedelta

import pytest

from devservers.answers import ANSWERS, fewer
from tests.answers.policy import AWS, AWS_OR_FINE, LISTED, LISTED_ITEM, Attack, cases
from tests.answers.site import Site, opencast_environment, verdict
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second


def search(call):
    return call.path.endswith("/search/episode.json")


ACTIONS = Attack(
    "Opencast: actions and clock", lambda call: call.path.endswith("/actions.json"), LISTED, "Opencast"
)
SEARCH = Attack("Opencast: search", search, LISTED, "Opencast")
ONE = Attack(
    "Opencast: search, one episode", lambda call: search(call) and call.query.get("id") == MPID[0], LISTED_ITEM
)
OTHERS = (
    Attack(
        "S3: get",
        lambda call: call.method == "GET" and call.path.endswith("/last-action-timestamp"),
        AWS,
        "s3://",
        "aws",
    ),
    Attack(
        "S3: put",
        lambda call: call.method == "PUT" and call.path.endswith("/last-action-timestamp"),
        AWS_OR_FINE,
        "s3://",
        "aws",
    ),
    Attack("SQS: url", lambda call: call.target == "GetQueueUrl", AWS, "SQS", "aws"),
    Attack("SQS: attributes", lambda call: call.target == "GetQueueAttributes", AWS, "SQS", "aws"),
    Attack("SQS: send", lambda call: call.target == "SendMessageBatch", AWS, "SQS", "aws"),
)
CASES = cases(
    (ACTIONS, (*ANSWERS, fewer("actions", "action"))),
    *((attack, (*ANSWERS, fewer("search-results", "result"))) for attack in (SEARCH, ONE)),
    *((attack, ANSWERS) for attack in OTHERS),
)
MPID = [""]  # the episode that is attacked


@pytest.fixture(scope="module")
def rows(rows):
    """The simulator's useractions; the episode with the fewest of them is the one that is attacked."""
    MPID[0] = collections.Counter(rows.values()).most_common()[-1][0]
    return rows


@pytest.fixture
def site(*, opencast_proxy, aws_proxy, aws, client, valkey_url, bucket, queue_name, monkeypatch):
    environment = opencast_environment(opencast_proxy.url)
    environment |= {"S3_HARVEST_TS_BUCKET": bucket, "SQS_QUEUE_NAME": queue_name}
    environment |= {"REDIS_URL": valkey_url, "DIRECT_AWS": aws}
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_proxy.url)
    return Site("useractions", environment, client, monkeypatch)


@pytest.mark.parametrize(("attack", "answer"), CASES)
def test_an_answer_gets_the_verdict_of_the_policy_and_nothing_is_lost(
    *, site, rows, opencast_proxy, aws_proxy, attack, answer
):
    now = whole_second(datetime.now(UTC))
    site.begin(now - timedelta(hours=1))
    proxy = {"opencast": opencast_proxy, "aws": aws_proxy}[attack.proxy]
    with proxy.answering(attack.concerns, answer.reply):
        for _ in range(5):
            site.tick()
        assert proxy.answered, "the attack never met a call"
    # What stands, before anything heals; the servers are well again, so that the report shows what is remembered.
    report, code = site.report()
    dead_letters = site.dead_letters()
    found = verdict(report, dead_letters)
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert found in attack.policy[answer.kind], (found, lines)
    arrived = site.received()
    if attack is ONE:
        others = {row for row, mpid in rows.items() if mpid != MPID[0]}
        assert others <= set(arrived), "one item holds up the others"
        assert {int(name.rpartition("-")[2]) for name in dead_letters} == set(rows) - others
        assert code == 5
        return
    if answer.kind == "short":
        assert not arrived
    else:
        assert dead_letters == []
    if found == "dead letter":
        assert code == Exit.DEAD_LETTERS
    elif found != "fine":
        assert code == Exit.BLOCKED
        assert any(attack.culprit in line for line in lines), lines
    assert not any(secret in line for line in lines for secret in ("opencast@", "admin:opencast"))
    assert site.heals(now - timedelta(seconds=1))
    site.replay()
    assert set(arrived + site.received()) == set(rows)
    assert site.report()[1] == 0
