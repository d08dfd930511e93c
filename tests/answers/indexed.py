"""What the tests of S3, SQS and Elasticsearch share: a site whose queue is indexed, and commands."""

import contextlib
import contextvars
import functools
import json
import time

import boto3
import pytest
import redis
from click.testing import CliRunner

from tests.answers.site import Site, Workers
from uaharvest import answers, assembly, settings, status
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import Exit, HarvestError

PATIENCE = 30.0  # seconds until what was received, or put aside, must have come back
DAY = "2026-11-20"
VERDICTS = {Exit.DONE: "fine", Exit.ERROR: "put off", Exit.BLOCKED: "blocked", Exit.DEAD_LETTERS: "dead letter"}

direct = functools.cache(boto3.client)  # past the proxy; to make one costs as much as most of these tests


class IndexedSite(Site):
    """A site whose queue is indexed."""

    def __init__(self, environment, client, patch):
        super().__init__("useractions", environment, client, patch)
        self._s3 = direct("s3", endpoint_url=environment["DIRECT_AWS"])
        self._sqs = direct("sqs", endpoint_url=environment["DIRECT_AWS"])

    def tick(self):
        try:
            if self.engine is None:
                self.engine = assembly.indexer(self.settings)
            self.engine.drain(seconds=10)
        except (HarvestError, redis.RedisError) as error:
            self._note("working", error)

    def _note(self, place, error):
        assembly.indexer_state(self.settings, self.redis).state.failed(place, error)

    def send(self, *bodies):
        url = self._sqs.get_queue_url(QueueName=self.settings.queue)["QueueUrl"]
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        self._sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def empty(self):
        return not self.waiting()

    def waiting(self):
        """Return how many messages are in the queue, hidden ones too."""
        url = self._sqs.get_queue_url(QueueName=self.settings.queue)["QueueUrl"]
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)

    def without_bucket(self):
        """Delete the bucket, which is empty."""
        self._s3.delete_bucket(Bucket=self.settings.bucket)

    def kept(self):
        """Return the keys of all objects."""
        found = self._s3.list_objects_v2(Bucket=self.settings.bucket)
        return [item["Key"] for item in found.get("Contents", ())]

    def found(self):
        """Return the verdict that `status` shows, and its lines."""
        report = status.status(self.settings, Workers())
        lines = [trouble["line"] for trouble in report["troubles"]]
        if report["index"]["blocked"]:
            return "blocked", lines
        stands = {trouble["line"] for trouble in report["troubles"] if trouble["exit_code"] == Exit.BLOCKED}
        return ("put off" if any(line.startswith("index") for line in stands) else "fine"), lines

    def drained(self):
        """Tick until the queue is empty."""
        end = time.monotonic() + PATIENCE
        self.tick()
        while not self.empty():
            assert time.monotonic() < end, "it does not heal"
            self.tick()
        assert assembly.indexer_state(self.settings, self.redis).state.failures() == []


@contextlib.contextmanager
def answering(proxy, attack, answer):
    """Attack; a client waits for less time than an answer drips, and as long as ever for all others."""
    with pytest.MonkeyPatch.context() as patch, proxy.answering(attack.concerns, answer.reply):
        if answer.reply.breaks == "drip":
            patch.setattr(answers, "request_limit", contextvars.ContextVar("short", default=1.0))
        yield
        assert proxy.answered, "the attack never met a call"


def record(number, day=DAY):
    return {
        "action_id": number,
        "timestamp": f"{day}T16:00:02+00:00",
        "mpid": "mp",
        "action": {"type": "PLAY"},
    }


def attacked(site, proxy, attack, answer, bodies):
    """Index `bodies` under attack, look at the status, and let everything heal."""
    site.send(*bodies)
    with answering(proxy, attack, answer):
        for _ in range(2):
            site.tick()
    found, lines = site.found()
    assert found in attack.policy[answer.kind], (found, lines)
    assert found == "fine" or any(attack.culprit in line for line in lines), lines
    site.drained()


def manage(environment, patch, *arguments):
    """Run a command in this process; return its exit code, stdout and stderr."""
    for name, value in environment.items():
        patch.setenv(name, value)
    settings.current.cache_clear()
    try:
        result = CliRunner().invoke(cli, arguments, obj=Context(Workers))
    finally:
        settings.current.cache_clear()
    return result.exit_code, result.stdout, result.stderr


def commanded(run, proxy, attack, answer):
    """Run a command under attack; return the verdict and what it printed."""
    with answering(proxy, attack, answer):
        code, said, error = run()
    found = VERDICTS[code]
    assert found in attack.policy[answer.kind], (found, said, error)
    assert "--debug" not in error, error  # what was foreseen needs no stack trace
    if found in {"blocked", "put off"}:
        [line] = error.splitlines()
        assert attack.culprit in line, line
    return found, said


def lines_of(said):
    """Return the objects of JSON lines, each whole."""
    assert said == "" or said.endswith("\n")
    return [json.loads(line) for line in said.splitlines()]
