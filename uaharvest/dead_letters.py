"""What cannot be delivered, kept whole in S3 until someone replays or drops it."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from uaharvest import aws
from uaharvest.errors import BadInputError, BlockedError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Kind = Literal["record", "slice", "message"]


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be delivered, and why.

    Attributes:
        name: "<stream>/<kind>-<id>": the same letter written twice is one object.
        stream: The stream it belongs to.
        kind: One record, a whole slice, or a message of the queue.
        reason: What refused it; shows no personal data.
        at: When, UTC.
        payload: The record, the slice's arguments, or the message's body; personal data, so in no repr.
    """

    name: str
    stream: str
    kind: Kind
    reason: str
    at: datetime
    payload: Mapping[str, Any] = dataclasses.field(repr=False)

    @classmethod
    def of_record(
        cls, stream: str, record_id: int | str | None, reason: str, payload: Mapping[str, Any]
    ) -> "DeadLetter":
        """Return the letter of one record, named after its id, or after `payload` where it has none."""
        return cls(
            _name(stream, "record", record_id, payload), stream, "record", reason, datetime.now(UTC), payload
        )

    @classmethod
    def of_slice(cls, stream: str, slice_id: str, reason: str, payload: Mapping[str, Any]) -> "DeadLetter":
        """Return the letter of a whole slice, named after its id."""
        return cls(_name(stream, "slice", slice_id, payload), stream, "slice", reason, datetime.now(UTC), payload)

    @classmethod
    def of_message(cls, stream: str, message_id: str, reason: str, body: str) -> "DeadLetter":
        """Return the letter of a message of the queue, named after the id that SQS gave it."""
        payload = {"body": body}
        return cls(
            _name(stream, "message", message_id, payload), stream, "message", reason, datetime.now(UTC), payload
        )


class DeadLetters:
    """The dead letters under a prefix of a bucket.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created at the first letter if it does not exist; None: there is nowhere to keep any.
        prefix: What their keys begin with, "/" included.
    """

    def __init__(self, s3: "S3Client", bucket: str | None, prefix: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix

    def put(self, letter: DeadLetter) -> None:
        """Keep `letter`; when this returns it is confirmed.

        Raises:
            BlockedError: There is no bucket, or S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        if self._bucket is None:
            raise BlockedError(
                f"a {letter.kind} of {letter.stream} cannot be delivered and there is nowhere to keep it:"
                " set S3_HARVEST_TS_BUCKET."
            )
        text = json.dumps(
            {
                "stream": letter.stream,
                "kind": letter.kind,
                "reason": letter.reason,
                "at": letter.at.isoformat(),
                "payload": letter.payload,
                "schema": 1,
            }
        )
        with aws.translated(self._uri(letter.name)):
            aws.put_object(self._s3, self._bucket, self._key(letter.name), text)

    def names(self, stream: str | None = None) -> Iterator[str]:
        """Yield the names of all letters, or of those of `stream`, sorted.

        Raises:
            BlockedError: S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        if self._bucket is None:
            return
        prefix = self._prefix + (f"{stream}/" if stream else "")
        with aws.translated(f"s3://{self._bucket}/{prefix}"):
            try:
                for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                    for item in page.get("Contents", ()):
                        yield item["Key"].removeprefix(self._prefix).removesuffix(".json")
            except aws.ERRORS as error:
                if aws.status(error) != 404:  # noqa: PLR2004 - no bucket yet, so no letters
                    raise

    def count(self, stream: str) -> int:
        """Return how many letters of `stream` there are; raises as `names` does."""
        return sum(1 for _ in self.names(stream))

    def get(self, name: str) -> DeadLetter:
        """Return the letter `name`.

        Raises:
            BadInputError: There is none.
            BlockedError: S3 refuses, or the object is no dead letter.
            RetryableError: S3 cannot be reached.
        """
        bucket = self._existing(name)
        with aws.translated(self._uri(name)):
            text = self._s3.get_object(Bucket=bucket, Key=self._key(name))["Body"].read()
        try:
            match json.loads(text):
                case {
                    "stream": str(stream),
                    "kind": "record" | "slice" | "message" as kind,
                    "reason": str(reason),
                    "at": str(at),
                    "payload": dict(payload),
                    "schema": 1,
                }:
                    return DeadLetter(name, stream, kind, reason, datetime.fromisoformat(at), payload)
        except ValueError:
            pass
        raise BlockedError(f"{self._uri(name)} is no dead letter that this version can read: look at it.")

    def drop(self, name: str) -> None:
        """Delete the letter `name`.

        Raises:
            BadInputError: There is none.
            BlockedError: S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        bucket = self._existing(name)
        with aws.translated(self._uri(name)):
            self._s3.delete_object(Bucket=bucket, Key=self._key(name))

    def _existing(self, name: str) -> str:
        """Return the bucket, in which `name` is: S3 deletes what is not there without a word."""
        if self._bucket is not None:
            with aws.translated(self._uri(name)):
                try:
                    self._s3.head_object(Bucket=self._bucket, Key=self._key(name))
                except aws.ERRORS as error:
                    if aws.status(error) != 404:  # noqa: PLR2004 - only "not found" means absent
                        raise
                else:
                    return self._bucket
        raise BadInputError(f"there is no dead letter '{name}'. `manage.py dead-letters list` shows all.")

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}.json"

    def _uri(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(name)}"


def _name(stream: str, kind: Kind, given: int | str | None, payload: Mapping[str, Any]) -> str:
    text = json.dumps(payload, sort_keys=True) if given is None else str(given)
    # An id that would not do in a key, such as a meeting's uuid with "/", goes by its digest.
    safe = given is not None and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", text)
    return f"{stream}/{kind}-{text if safe else hashlib.sha256(text.encode()).hexdigest()[:32]}"
