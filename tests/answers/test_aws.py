"""Every call of the indexer and of the commands to SQS and S3, with every answer."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from devservers.answers import ANSWERS
from tests.answers.indexed import (
    IndexedSite,
    answering,
    attacked,
    commanded,
    direct,
    manage,
    record,
)
from tests.answers.policy import AWS, AWS_OR_FINE, EVERYTHING, Attack, cases
from tests.answers.site import Site, opencast_environment, verdict
from uaharvest import assembly
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second

RECORDS = 3
USERACTIONS = 40  # of the simulated Opencast
# The messages come back when their lease ends, as those of a worker do that has died.
LEASED = {kind: {"fine"} for kind in EVERYTHING}
# An answer to HEAD has no body. 400 says that the object has a key of its own, and 404 is doubted: GET is asked too.
HEAD = AWS_OR_FINE | {"refused": {"blocked", "fine"}}
# `dead-letters list` shows what it could read, and which one it could not.
LISTED = {kind: {"dead letter"} for kind in EVERYTHING}


def sqs(name, target, policy):
    return Attack(f"SQS: {name}", lambda call: call.target == target, policy, "SQS", "aws")


def letter(method):
    return lambda call: call.method == method and "/dead-letters/" in call.path


def listing(call):
    return call.method == "GET" and call.query.get("list-type") == "2"


def new_bucket(call):
    return call.method == "PUT" and call.path.count("/") == 1


def s3(name, concerns, policy):
    return Attack(f"S3: {name}", concerns, policy, "s3://", "aws")


PUT = s3("put of a dead letter", letter("PUT"), AWS_OR_FINE)
BUCKET = s3("create the bucket, for a dead letter", new_bucket, AWS_OR_FINE)
INDEXER = (
    sqs("url, for the indexer", "GetQueueUrl", AWS),
    sqs("receive", "ReceiveMessage", AWS_OR_FINE),
    sqs("delete", "DeleteMessageBatch", AWS_OR_FINE),
    sqs("attributes, for the indexer", "GetQueueAttributes", AWS),
    PUT,
    BUCKET,
)
VISIBILITY = sqs("change the visibility", "ChangeMessageVisibilityBatch", LEASED)
LIST = s3("list, `dead-letters list`", listing, AWS)
COMMANDS = {
    LIST: ("dead-letters", "list"),
    s3("get, `dead-letters list`", letter("GET"), LISTED): ("dead-letters", "list"),
    s3("get, `dead-letters show`", letter("GET"), AWS): ("dead-letters", "show", "index/record-7"),
    s3("head, `dead-letters drop`", letter("HEAD"), HEAD): ("dead-letters", "drop", "--yes", "index/record-7"),
    s3("delete, `dead-letters drop`", letter("DELETE"), AWS_OR_FINE): (
        "dead-letters",
        "drop",
        "--yes",
        "index/record-7",
    ),
    s3("list, `dead-letters replay --all`", listing, AWS): ("dead-letters", "replay", "--all"),
    s3("delete, `dead-letters replay`", letter("DELETE"), AWS_OR_FINE): (
        "dead-letters",
        "replay",
        "index/record-7",
    ),
    s3("delete, `watermark reset`", lambda call: call.method == "DELETE", AWS_OR_FINE): (
        "watermark",
        "reset",
        "--yes",
    ),
}
QUEUE = sqs("create the queue", "CreateQueue", AWS_OR_FINE)
STATUS = s3("list, `status`", listing, {kind: {"blocked"} for kind in EVERYTHING})
INDEXER_CASES = cases(*((attack, ANSWERS) for attack in INDEXER))
VISIBILITY_CASES = cases((VISIBILITY, ANSWERS))
COMMAND_CASES = cases(*((attack, ANSWERS) for attack in COMMANDS))
STATUS_CASES = cases((STATUS, ANSWERS))
QUEUE_CASES = cases((QUEUE, ANSWERS))
CASES = INDEXER_CASES + VISIBILITY_CASES + COMMAND_CASES + STATUS_CASES + QUEUE_CASES


@pytest.fixture
def environment(index_environment, tmp_path):
    return index_environment | {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}"}


@pytest.fixture
def site(environment, client, monkeypatch):
    site = IndexedSite(environment, client, monkeypatch)
    site.begin(None)
    return site


def indexed(site):
    store = assembly.document_store(site.settings)
    return sorted(int(one["_id"]) for one in store.select("useractions*"))


@pytest.mark.parametrize(("attack", "answer"), INDEXER_CASES)
def test_what_is_in_the_queue_is_indexed_or_kept(*, site, aws_proxy, attack, answer):
    unreadable = ["no JSON"] if attack in {PUT, BUCKET} else []
    if attack is BUCKET:
        site.without_bucket()
    bodies = [json.dumps(record(number)) for number in range(RECORDS)]
    attacked(site, aws_proxy, attack, answer, [*bodies, *unreadable])
    assert indexed(site) == list(range(RECORDS))
    assert len(site.kept()) == len(unreadable)


@pytest.mark.parametrize(("attack", "answer"), VISIBILITY_CASES)
def test_messages_that_cannot_be_given_back_come_back_by_themselves(
    *, environment, client, aws_proxy, monkeypatch, tmp_path, attack, answer
):
    folder = tmp_path / "not there yet"
    environment |= {"DOCUMENTS_URL": f"sqlite:///{folder / 'documents.db'}", "HARVEST_LEASE_SECONDS": "1"}
    site = IndexedSite(environment, client, monkeypatch)
    site.begin(None)
    site.send(*(json.dumps(record(number)) for number in range(RECORDS)))
    with answering(aws_proxy, attack, answer):
        site.tick()
        found, lines = site.found()
        assert found == "blocked", lines
        assert str(folder) in lines[0]
        folder.mkdir()
        site.drained()
        assert site.found()[0] in attack.policy[answer.kind]
    assert indexed(site) == list(range(RECORDS))


@pytest.fixture
def objects(site):
    """The keys of a dead letter, which can be replayed, and of a watermark."""
    site.begin(datetime(2026, 11, 20, tzinfo=UTC))
    assembly.dead_letters(site.settings).put(
        DeadLetter.of_record("index", 7, "the store was ill", {"record": record(7)})
    )
    return site.kept()


@pytest.mark.parametrize(("attack", "answer"), COMMAND_CASES)
def test_a_command_says_what_is_wrong_with_s3_and_can_be_given_again(
    *, site, objects, environment, aws_proxy, monkeypatch, attack, answer
):
    run = partial(manage, environment, monkeypatch, *COMMANDS[attack])
    found, said = commanded(run, aws_proxy, attack, answer)
    if found == "dead letter":
        assert attack.culprit in said
    deletes = {"drop", "replay", "reset"} & {*COMMANDS[attack]}
    left = site.kept()
    if found == "fine":  # then it is
        assert len(left) == len(objects) - 1
    elif not (answer.kind == "broken" and "delete" in attack.name):
        assert left == objects, "half done"
    code, said, error = run()
    again = not deletes or "reset" in deletes or any("record-7" in key for key in left)
    # What was deleted although the answer got lost is not there any more, and the command says so.
    assert code == (Exit.DONE if again or "--all" in COMMANDS[attack] else Exit.USAGE), error
    assert len(site.kept()) == len(objects) - bool(deletes)
    if not deletes:
        assert "record-7" in said
    if "replay" in deletes:
        assert indexed(site) == [7]


@pytest.mark.parametrize(("attack", "answer"), STATUS_CASES)
def test_status_says_that_s3_does_not_list_the_dead_letters(*, site, objects, aws_proxy, attack, answer):
    with answering(aws_proxy, attack, answer):
        report, code = site.report()
    assert code == Exit.BLOCKED
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert any(line.startswith("index: ") and attack.culprit in line for line in lines), lines
    assert site.report()[1] == Exit.DEAD_LETTERS


@pytest.mark.parametrize(("attack", "answer"), QUEUE_CASES)
def test_the_first_delivery_creates_the_queue_sooner_or_later(
    *, opencast_proxy, aws_proxy, index_environment, client, monkeypatch, attack, answer
):
    queue = f"{index_environment['SQS_QUEUE_NAME']}-new"
    environment = index_environment | opencast_environment(opencast_proxy.url) | {"SQS_QUEUE_NAME": queue}
    site = Site("useractions", environment, client, monkeypatch)
    now = whole_second(datetime.now(UTC))
    site.begin(now - timedelta(hours=1))
    with answering(aws_proxy, attack, answer):
        for _ in range(3):
            site.tick()
    report, code = site.report()
    found = verdict(report, site.dead_letters())
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert found in attack.policy[answer.kind], (found, lines)
    if found != "fine":
        assert code == Exit.BLOCKED
        assert any(attack.culprit in line for line in lines), lines
    assert site.heals(now - timedelta(seconds=1))
    sqs = direct("sqs", endpoint_url=environment["DIRECT_AWS"])
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    assert int(counts["Attributes"]["ApproximateNumberOfMessages"]) >= USERACTIONS
    assert site.report()[1] == Exit.DONE
