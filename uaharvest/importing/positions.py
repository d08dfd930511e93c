"""How far each file is imported: an object in S3 for each, written by compare-and-set."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uaharvest import aws
from uaharvest.errors import BadInputError, BlockedError, HarvestError
from uaharvest.importing.files import File

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PREFIX = "imports/"
_LONGEST = 65_536  # bytes
_PRECONDITION_FAILED = 412


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records of a file so far.

    Attributes:
        read: All records.
        imported: Those that are new at the destination.
        completed: Those that added something to what was there.
        present: Those that were there already.
        skipped: Documents that are no useractions.
        dead: Those that became dead letters.
    """

    read: int = 0
    imported: int = 0
    completed: int = 0
    present: int = 0
    skipped: int = 0
    dead: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the sum of each count."""
        mine, others = dataclasses.asdict(self), dataclasses.asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """How far a file is imported.

    Attributes:
        at: All lines before this byte, uncompressed, are done.
        counts: What became of them.
        done: Whether the file is done.
        etag: That of the S3 object; None if there is none yet.
    """

    at: int = 0
    counts: Counts = Counts()
    done: bool = False
    etag: str | None = None


class Positions:
    """The positions of files on their way to one destination.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created with the first position if it does not exist.
        destination: Where the records go, as text without secrets; a file may go to several.
    """

    def __init__(self, s3: "S3Client", bucket: str, destination: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._destination = destination

    def read(self, file: File, *, again: bool = False) -> Position:
        """Return how far `file` is imported.

        Args:
            file: The file; of stdin nothing is known.
            again: Begin anew, whatever was done.

        Raises:
            BadInputError: The file has changed since.
        """
        if file.identity is None:
            return Position()
        key = self._key(file.identity)
        uri = f"s3://{self._bucket}/{key}"
        with aws.translated(uri):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=key)
                etag, content = aws.etag(answer, uri), answer["Body"].read(_LONGEST)
            except aws.ERRORS as error:
                if not aws.absent(error):
                    raise
                return Position()
        if again:
            return Position(etag=etag)
        stored = _parsed(content, etag)
        if stored is None:
            raise BlockedError(f"{uri} is not what `import` writes there: look at it, or delete it.")
        state, position = stored
        if state != dict(file.state):
            raise BadInputError(
                f"{file.name}: it has changed since {'it' if position.done else 'a part of it'} was imported"
                f" ({_difference(state, file.state)}). Give the file as it was, the new one under another name, or"
                " --again to import all of it."
            )
        return position

    def save(self, file: File, position: Position) -> Position:
        """Store a position in place of the one that has its ETag; return it with the new ETag.

        Raises:
            HarvestError: Another process imports the same file.
        """
        if file.identity is None:
            return position
        key = self._key(file.identity)
        uri = f"s3://{self._bucket}/{key}"
        text = json.dumps(
            {
                "file": file.identity,
                "destination": self._destination,
                "state": dict(file.state),
                "at": position.at,
                "counts": dataclasses.asdict(position.counts),
                "done": position.done,
                "schema": 1,
            }
        )
        condition = {"IfMatch": position.etag} if position.etag else {"IfNoneMatch": "*"}
        with aws.translated(uri):
            try:
                etag = aws.put_object(self._s3, self._bucket, key, text, **condition)
            except aws.ERRORS as error:
                if aws.status(error) != _PRECONDITION_FAILED:
                    raise
                etag = self._written(key, uri, text, file)
        return dataclasses.replace(position, etag=etag)

    def _written(self, key: str, uri: str, text: str, file: File) -> str:
        """Return the ETag of an object that already holds `text`: botocore may have repeated the write."""
        answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        if answer["Body"].read(_LONGEST) != text.encode():
            raise HarvestError(
                f"{file.name}: another process imports it too. Leave it to one, and do not start two at once."
            )
        return aws.etag(answer, uri)

    def _key(self, identity: str) -> str:
        digest = hashlib.sha256(f"{identity}\n{self._destination}".encode("utf-8", "surrogateescape")).hexdigest()
        return f"{PREFIX}{digest[:32]}.json"


def _parsed(content: bytes, etag: str) -> tuple[dict[str, Any], Position] | None:
    """Return the state of the file and its position; None if `content` is not a position."""
    try:
        match json.loads(content):
            case {
                "state": dict(state),
                "at": int(at),
                "counts": dict(counts),
                "done": bool(done),
                "schema": 1,
            }:
                return state, Position(at, Counts(**counts), done, etag)
    except (ValueError, TypeError):
        pass
    return None


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if before.get("bytes") != now.get("bytes"):
        return f"{before.get('bytes'):,} bytes then, {now.get('bytes'):,} now"
    return "as many bytes, but written again"
