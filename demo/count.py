"""Counts the same useractions at three places: at Opencast, in the queue, and as the ledger says it delivered."""

import dataclasses
import json
from collections.abc import Iterable

import boto3
import requests

from uaharvest import assembly
from uaharvest.settings import Settings

AT_ONCE = 10  # SQS gives no more messages to one request


@dataclasses.dataclass(slots=True)
class Queue:
    """What was read from the queue so far."""

    name: str
    ids: set[int] = dataclasses.field(default_factory=set)
    messages: int = 0
    records: int = 0
    episodes: set[str] = dataclasses.field(default_factory=set)
    missing_episodes: set[str] = dataclasses.field(default_factory=set)

    def drain(self) -> None:
        """Read all that waits, and delete it, as Logstash does."""
        sqs = boto3.client("sqs")
        url = sqs.get_queue_url(QueueName=self.name)["QueueUrl"]
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=AT_ONCE).get("Messages"):
            self._read(message["Body"] for message in messages)
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]

    def _read(self, bodies: Iterable[str]) -> None:
        for body in bodies:
            self.messages += 1
            for record in json.loads(body):
                self.records += 1
                self.ids.add(record["action_id"])
                (self.episodes if record["episode"] else self.missing_episodes).add(record["mpid"])


def at_opencast(opencast: str, settings: Settings) -> set[int]:
    """Return the ids of all rows that the simulator shows between the first watermark and the present one."""
    stored = assembly.watermarks(settings).read()
    if stored is None:
        return set()
    bounds = {"start": int(stored.mark.floor.timestamp()), "end": int(stored.mark.at.timestamp())}
    answer = requests.get(f"{opencast}/_sim/truth", params=bounds, timeout=60)
    return set(answer.json()["ids"])


def delivered(settings: Settings) -> int:
    """Return how many rows the ledger says were delivered."""
    return sum(run["delivered"] for run in assembly.ledger(settings).history())
