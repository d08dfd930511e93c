"""A small site to audit: a simulated Opencast, its documents, a queue, and the command line in this process."""

import json
from datetime import UTC, datetime

import boto3
import requests
from click.testing import CliRunner

from tests import commands
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.documents import indexed
from uaharvest.documents.useraction import record
from uaharvest.geolite import nowhere
from uaharvest.opencast.actions import read_action
from uaharvest.runs.watermark import first

DAY = "2026-11-20"
INDEX = "useractions-2026.11.20"
# The day after it is over, and with it the time in which late rows are looked for.
WATERMARK = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
# Rows from before the day until after it.
ROWS = ("--rows", "1600", "--span-seconds", "93600", "--until", "2026-11-21T01:30:00Z", "--auth", "open")


class Site:
    """What is audited, and the means to spoil it."""

    def __init__(self, environment, monkeypatch, simulator=None):
        self.environment = {"INDEXER": "true", "OPENCAST_TIMEZONE": "America/Bogota", **environment}
        self.settings = settings.load(self.environment)
        self.simulator = simulator
        self._patch = monkeypatch
        self.store = assembly.document_store(self.settings)
        self.dead_letters = assembly.dead_letters(self.settings)

    def pass_day(self, stream="useractions", at=WATERMARK):
        """Let the watermark stand after the day."""
        assembly.watermarks(self.settings, stream).create(first(at))

    def rows(self):
        """Return all rows of the simulator, as REST reports them."""
        url = f"{self.simulator.url}/usertracking/actions.json"
        return requests.get(url, params={"limit": 10**6}, timeout=60).json()["actions"]["action"]

    def index(self, rows):
        """Write the documents of rows, as the indexer does."""
        bodies = (json.loads(record(read_action(row), "{}")) for row in rows)
        return [*self.store.write(indexed.document(body, nowhere, None) for body in bodies)]

    def sim(self, path, body):
        answer = requests.post(f"{self.simulator.url}/_sim/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def manage(self, *arguments, **changes):
        for name, value in {**self.environment, **changes}.items():
            self._patch.setenv(name, value)
        settings.current.cache_clear()
        return CliRunner().invoke(cli, arguments, obj=Context(lambda: None))

    def process(self, *arguments):
        """Run a command in a process of its own, which closes all its connections."""
        return commands.manage(*arguments, environment=self.environment)

    def audit(self, *arguments, **changes):
        """Audit the day; return the exit code, the counts of each audit, and what was said."""
        done = self.manage("audit", "--start", DAY, "--end", DAY, "--json", *arguments, **changes)
        found = [json.loads(line)["found"] for line in done.stdout.splitlines()]
        return done.exit_code, found, done.stderr

    def forget(self, ids, index=INDEX):
        """Delete documents."""
        list(self.store.delete([(index, str(id_)) for id_ in ids]))

    def in_queue(self):
        url = boto3.client("sqs").get_queue_url(QueueName=self.environment["SQS_QUEUE_NAME"])["QueueUrl"]
        names = ["ApproximateNumberOfMessages"]
        return int(
            boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"][names[0]]
        )

    def documents(self, index=INDEX):
        return {one["_id"] for one in self.store.select(index, fields=())}


def day_of(row):
    return f"{read_action(row).created.astimezone(UTC):%F}"
