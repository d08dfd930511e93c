"""A watermark or a queue that is gone, and two deployments that share what is one's; by real processes."""

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import timedelta

import boto3
import pytest

from devservers import stack


def status(site, **settings):
    """Return the exit code of `status`, what is wrong by it, and its report."""
    done = site.manage("status", "--json", **settings)
    report = json.loads(done.stdout)
    return done.returncode, [trouble["line"] for trouble in report["troubles"]], report


def lost(site):
    return [entry["reason"] for entry in status(site)[2]["streams"]["useractions"]["lost"]]


def follow(site, line):
    """Do what a line of `status` says is to be done: its `enqueue` as `run`, for no worker is here."""
    command = re.search(r"`manage.py (enqueue [^`]*)`", line)[1]
    done = site.manage(*shlex.split(command.replace("enqueue", "run", 1)))
    assert done.returncode == 0, done.stderr


def run(site, *arguments, **settings):
    done = site.manage("run", "useractions", *arguments, **settings)
    assert done.returncode == 0, done.stderr
    return done


def test_a_watermark_that_is_gone_stands_in_status_until_a_person_has_confirmed_it(start_site):
    site = start_site(rows=400, seconds=3_600, workers=0)
    bucket = site.environment["S3_HARVEST_TS_BUCKET"]
    middle = site.end.timestamp() - 1_800
    site.manage("watermark", "set", f"{site.end.fromtimestamp(site.end.timestamp() - 3_700).astimezone():%FT%T%z}")
    start = site.mark().at
    run(site, "--start", f"{start:%FT%TZ}", "--end", f"{site.end.fromtimestamp(middle, start.tzinfo):%FT%TZ}")
    delivered = site.mark().at
    assert lost(site) == []

    boto3.client("s3").delete_object(Bucket=bucket, Key="last-action-timestamp")
    ended = run(site, "--interval", "10", DEFAULT_INTERVAL="10")
    begun = site.mark().floor
    assert (begun - delivered).total_seconds() > 600
    assert f"{delivered:%F %T}" in ended.stderr + ended.stdout or lost(site)

    code, troubles, _ = status(site)
    assert code == 4
    [line] = [trouble for trouble in troubles if "was gone" in trouble]
    assert f"up to {delivered:%F %T} UTC" in line
    assert f"again at {begun:%F %T} UTC" in line
    follow(site, line)
    assert set(site.delivered()) == site.truth(start, site.mark().at)
    assert set(site.delivered().values()) == {1}

    assert lost(site)  # the harvest alone confirms nothing
    confirmed = site.manage("watermark", "confirm")
    assert (confirmed.returncode, "was gone" in confirmed.stdout) == (0, True)
    assert lost(site) == []
    assert "nothing to confirm" in site.manage("watermark", "confirm").stdout


def test_a_first_start_is_no_loss(start_site):
    site = start_site(rows=20, seconds=600, workers=0)
    run(site)
    assert lost(site) == []


def test_a_queue_that_was_made_again_stands_in_status_with_the_window_to_harvest(start_site):
    site = start_site(rows=200, seconds=600, workers=0)
    run(site)
    first = site.waiting()
    assert first
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=site.environment["SQS_QUEUE_NAME"])["QueueUrl"]
    created = int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["CreatedTimestamp"])
    sqs.delete_queue(QueueUrl=url)

    def made_again():
        sqs.create_queue(QueueName=site.environment["SQS_QUEUE_NAME"])
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        if int(attributes["CreatedTimestamp"]) > created:
            return True
        sqs.delete_queue(QueueUrl=url)
        return False

    site.until(made_again, ticking=False)
    code, troubles, _ = status(site)
    assert code == 4
    [line] = [trouble for trouble in troubles if "was created again" in trouble]
    follow(site, line)
    assert set(site.delivered()) == site.truth(site.end.replace(year=2000), site.mark().at)
    site.manage("watermark", "confirm")
    assert lost(site) == []


@pytest.fixture
def two(start_site):
    """A site, and the settings of another Opencast's that uses the same bucket, key and Redis."""
    site = start_site(rows=20, seconds=600, workers=0)
    with stack.opencast_simulator(
        "--rows", "10", "--span-seconds", "600", "--until", site.end.isoformat()
    ) as other:
        yield (
            site,
            {"MATTERHORN_ENGAGE_HOST": other.url, "SQS_QUEUE_NAME": f"{site.environment['SQS_QUEUE_NAME']}-2"},
        )


def test_two_deployments_with_one_watermark_block_and_lose_no_row(two):
    site, other = two
    run(site)
    delivered = site.mark()
    blocked = site.manage("run", "useractions", **other)
    assert blocked.returncode == 4
    assert blocked.stderr.count("\n") == 1
    for words in (
        site.environment["MATTERHORN_ENGAGE_HOST"],
        other["MATTERHORN_ENGAGE_HOST"],
        "watermark confirm",
    ):
        assert words in blocked.stderr
    assert status(site, **other)[0] == 4
    assert site.mark() == delivered
    run(site)

    # With a key of its own it gets its rows, in the same Redis.
    run(site, **other, S3_LAST_ACTION_TS_KEY="other")
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=other["SQS_QUEUE_NAME"])["QueueUrl"]
    name = "ApproximateNumberOfMessages"
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name] == "10"
    slots = site.redis.keys("uaharvest:history:useractions*")
    assert len(slots) == 2


@pytest.mark.fault
@pytest.mark.long
def test_a_source_that_was_changed_on_purpose_is_confirmed_and_goes_on(two):
    site, other = two
    run(site)
    at = site.mark().at
    confirmed = site.manage("watermark", "confirm", **other)
    assert (confirmed.returncode, other["SQS_QUEUE_NAME"] in confirmed.stdout) == (0, True)
    assert site.mark().at == at
    run(site, **other)
    assert site.manage("run", "useractions").returncode == 4


def test_an_enqueued_run_whose_messages_cannot_be_sent_is_open_and_says_so(start_site):
    site = start_site(rows=50, seconds=600, workers=0)
    start = site.end.replace(microsecond=0) - timedelta(seconds=900)
    window = ("--start", f"{start:%FT%TZ}", "--end", f"{site.end:%FT%TZ}")
    nowhere = f"redis://127.0.0.1:{stack.free_port()}/0"
    done = site.manage("enqueue", "useractions", *window, CELERY_BROKER_URL=nowhere)
    assert done.returncode == 0, done.stderr
    [run_id] = site.ledger.explicit()
    assert f"run {run_id[:8]} is open" in done.stderr
    assert "do not ask for it again" in done.stderr
    site.add_worker()
    site.until(lambda: not site.ledger.explicit())
    assert set(site.delivered()) == site.truth(site.end.replace(year=2000), site.end)


@pytest.mark.parametrize("redirect", ["> /dev/full", ">&-"])
def test_a_stdout_that_takes_nothing_ends_the_run_with_one_line_and_no_dead_letter(start_site, redirect):
    site = start_site(rows=300, seconds=600, workers=0)
    manage = shlex.join([sys.executable, str(stack.ROOT / "manage.py"), "run", "useractions"])
    done = subprocess.run(
        ["sh", "-c", f"{manage} --output - --batch-size 20 --interval 15 {redirect}"],
        env={**os.environ, **site.environment},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 1, done.stderr
    assert "stdout cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(site.dead_letters.names()) == []
