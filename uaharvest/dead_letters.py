"""Dead letters: what cannot be delivered, kept in full in S3 until someone replays or drops it."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from uaharvest import aws
from uaharvest.documents import indexed
from uaharvest.errors import BadInputError, BlockedError, PoisonError, RetryableError, UnreadableDeadLetterError
from uaharvest.privacy.protection import WITHHELD

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LetterKind = Literal["record", "slice", "message"]

MOST_BYTES = 50_000_000  # ours are never longer; a dead letter must fit into memory several times
MOST_BARREN = 20  # consecutive pages of a list without a new key
_ENDING = ".json"
_NO_CONTENT, _ABSENT, _BAD_REQUEST = 204, 404, 400


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be delivered, and why.

    Attributes:
        name: "<stream>/<kind>-<id>": writing the same letter twice yields one object.
        stream: The stream it belongs to.
        kind: One record, a whole slice, or a queue message.
        reason: Why it was refused; contains no personal data.
        at: When it failed, UTC.
        payload: The record, the slice's arguments, or the message's body; personal data, so not in the repr.
    """

    name: str
    stream: str
    kind: LetterKind
    reason: str
    at: datetime
    payload: Mapping[str, Any] = dataclasses.field(repr=False)

    @classmethod
    def of_record(
        cls, stream: str, record_id: int | str | None, reason: str, payload: Mapping[str, Any]
    ) -> "DeadLetter":
        """Return the dead letter for one record, named after its id, or after `payload` if it has no id."""
        return cls(
            _name(stream, "record", record_id, payload), stream, "record", reason, datetime.now(UTC), payload
        )

    @classmethod
    def of_slice(cls, stream: str, slice_id: str, reason: str, payload: Mapping[str, Any]) -> "DeadLetter":
        """Return the dead letter for a whole slice, named after the slice's id."""
        return cls(_name(stream, "slice", slice_id, payload), stream, "slice", reason, datetime.now(UTC), payload)

    @classmethod
    def of_message(cls, stream: str, message_id: str, reason: str, payload: Mapping[str, Any]) -> "DeadLetter":
        """Return the dead letter for a text that cannot be read, named after its id."""
        return cls(
            _name(stream, "message", message_id, payload), stream, "message", reason, datetime.now(UTC), payload
        )

    def records(self) -> list[Any]:
        """Return the records that it holds.

        Raises:
            PoisonError: They cannot be read, or the text was withheld because it may hold personal data.
            KeyError: It holds none.
        """
        if WITHHELD in self.payload:
            raise PoisonError(f"its text was withheld: {self.payload[WITHHELD]} Look at its source, then drop it")
        return indexed.records(self.payload["body"]) if self.kind == "message" else [self.payload["record"]]


class DeadLetters:
    """The dead letters stored under a prefix in a bucket.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created with the first dead letter if it does not exist; None means that none can be stored.
        prefix: What their keys begin with, including the "/".
        encryption: How S3 encrypts them, as S3_DEAD_LETTER_SSE; None: as the bucket does by default.
    """

    def __init__(self, s3: "S3Client", bucket: str | None, prefix: str, *, encryption: str | None = None) -> None:
        self._s3 = s3
        self._encryption = how_encrypted(encryption)
        self._bucket = bucket
        self._prefix = prefix

    def put(self, letter: DeadLetter) -> None:
        """Store `letter`; it is confirmed when this returns.

        Raises:
            BlockedError: There is no bucket.
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
        key = f"{self._prefix}{letter.name}{_ENDING}"
        with aws.translated(f"s3://{self._bucket}/{key}"):
            aws.put_object(self._s3, self._bucket, key, text, **self._encryption)

    def names(self, stream: str | None = None) -> Iterator[str]:
        """Yield the names of all dead letters, or of those of `stream`, sorted; for foreign objects their keys.

        Raises:
            RetryableError: Also if the list does not end.
        """
        if self._bucket is None:
            return
        prefix = self._prefix + (f"{stream}/" if stream else "")
        uri = f"s3://{self._bucket}/{prefix}"
        seen: set[str] = set()
        barren = 0
        with aws.translated(uri):
            try:
                for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                    items = page.get("Contents", ())
                    # an empty body or a web page, not a list without letters
                    if "IsTruncated" not in page or not all("Key" in item for item in items):
                        raise aws.not_aws(uri, "S3")
                    fresh = [item for item in items if item["Key"] not in seen]
                    seen.update(item["Key"] for item in fresh)
                    barren = 0 if fresh else barren + 1
                    if barren > MOST_BARREN:  # botocore only notices a token that comes twice in a row
                        raise RetryableError(f"{uri}: the list of objects does not end.")
                    for item in fresh:
                        if item["Key"].endswith("/") and not item.get("Size"):
                            continue  # S3's console creates such an object for a folder
                        yield item["Key"].removeprefix(self._prefix).removesuffix(_ENDING)
            except aws.ERRORS as error:
                if not aws.absent(error):  # no bucket yet, so no dead letters
                    raise

    def count(self, stream: str) -> int:
        """Return how many dead letters `stream` has."""
        return sum(1 for _ in self.names(stream))

    def get(self, name: str) -> DeadLetter:
        """Return the dead letter `name`.

        Raises:
            BadInputError: There is none.
            UnreadableDeadLetterError: The object is not a dead letter, or S3 denies access to this object.
        """
        key = self.key(name)
        uri = f"s3://{self._bucket}/{key}"
        try:
            with aws.translated(uri):
                content = self._s3.get_object(Bucket=self._bucket or "", Key=key)["Body"].read(MOST_BYTES + 1)
        except BlockedError as error:  # perhaps of this object only: it may have its own key or policy
            raise UnreadableDeadLetterError(f"{uri} cannot be read: {error}") from None
        if len(content) > MOST_BYTES:
            raise UnreadableDeadLetterError(f"{uri} is not a dead letter: it has more than {MOST_BYTES:,} bytes.")
        letter = _parsed(name, content)
        if letter is None:
            raise UnreadableDeadLetterError(f"{uri} is not a dead letter that this version can read: look at it.")
        return letter

    def drop(self, name: str) -> None:
        """Delete the dead letter `name`, whether or not it can be read.

        Raises:
            BadInputError: There is none.
        """
        key = self.key(name)
        bucket = self._bucket or ""
        uri = f"s3://{bucket}/{key}"
        with aws.translated(uri):
            answer = self._s3.delete_object(Bucket=bucket, Key=key)
            # A web server may answer any request with a page and 200.
            if answer["ResponseMetadata"]["HTTPStatusCode"] != _NO_CONTENT and self._exists(bucket, key):
                raise BlockedError(f"{uri} is still there after it was deleted. Check AWS_ENDPOINT_URL.")

    def key(self, name: str) -> str:
        """Return the key of the dead letter `name`, and check that it exists: S3 deletes missing objects silently.

        The name of a foreign object is its whole key below the prefix.

        Raises:
            BadInputError: There is none.
        """
        if self._bucket is not None:
            for key in (f"{self._prefix}{name}{_ENDING}", f"{self._prefix}{name}"):
                with aws.translated(f"s3://{self._bucket}/{key}"):
                    if self._exists(self._bucket, key):
                        return key
        raise BadInputError(f"there is no dead letter '{name}'. `manage.py dead-letters list` shows all.")

    def _exists(self, bucket: str, key: str) -> bool:
        try:
            aws.etag(self._s3.head_object(Bucket=bucket, Key=key), f"s3://{bucket}/{key}")
        except aws.ERRORS as error:
            if aws.status(error) == _BAD_REQUEST:  # it exists, encrypted with its own key (SSE-C)
                return True
            if aws.status(error) != _ABSENT:
                raise
        else:
            return True
        # A 404 response to HEAD has no body with S3's error code, so any web server's looks the same.
        try:
            self._s3.get_object(Bucket=bucket, Key=key)["Body"].close()
        except aws.ERRORS as error:
            if not aws.absent(error):
                raise
            return False
        return True


def how_encrypted(chosen: str | None) -> dict[str, str]:
    """Return the arguments of a write that encrypts; see the setting S3_DEAD_LETTER_SSE."""
    if chosen is None:
        return {}
    key = chosen.removeprefix("aws:kms:")
    if key == chosen:
        return {"ServerSideEncryption": chosen}
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}


def _parsed(name: str, content: bytes) -> DeadLetter | None:
    """Return the dead letter `name`; None if `content` is not one, or belongs to a different name."""
    try:
        match json.loads(content):
            case {
                "stream": str(stream),
                "kind": "record" | "slice" | "message" as kind,
                "reason": str(reason),
                "at": str(at),
                "payload": dict(payload),
                "schema": 1,
            } if name.startswith(f"{stream}/{kind}-"):
                instant = datetime.fromisoformat(at)
                return DeadLetter(name, stream, kind, reason, instant, payload) if instant.tzinfo else None
    except (ValueError, RecursionError):
        pass
    return None


def _name(stream: str, kind: LetterKind, given: int | str | None, payload: Mapping[str, Any]) -> str:
    text = json.dumps(payload, sort_keys=True) if given is None else str(given)
    # An id that is unsuitable for a key, such as a meeting UUID with "/", is replaced by its digest.
    safe = given is not None and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", text)
    return f"{stream}/{kind}-{text if safe else hashlib.sha256(text.encode()).hexdigest()[:32]}"
