"""How far the import of each file has come: an object in S3 for each, written by compare-and-set."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uaharvest.errors import BadInputError, BlockedError, HarvestError
from uaharvest.importing.files import File
from uaharvest.s3_object import ChangedError, Content, S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PREFIX = "imports/"


@dataclasses.dataclass(frozen=True, slots=True)
class RecordCounts:
    """What became of the records of a file so far.

    Attributes:
        read: All records.
        imported: Those that are new at the destination.
        completed: Those that added something to what was there.
        present: Those that were there already.
        skipped: Documents that are not useractions.
        dead: Those that became dead letters.
        erased: Those of people who were erased, which are left out.
    """

    read: int = 0
    imported: int = 0
    completed: int = 0
    present: int = 0
    skipped: int = 0
    dead: int = 0
    erased: int = 0

    def __add__(self, other: "RecordCounts") -> "RecordCounts":
        """Return the sum of each count."""
        mine, others = dataclasses.asdict(self), dataclasses.asdict(other)
        return RecordCounts(**{name: mine[name] + others[name] for name in mine})


@dataclasses.dataclass(frozen=True, slots=True)
class FilePosition:
    """How far a file is imported.

    Attributes:
        at: All lines before this byte, uncompressed, are done.
        counts: What became of them.
        done: Whether the file is done.
        etag: That of the S3 object; None if there is none yet.
    """

    at: int = 0
    counts: RecordCounts = RecordCounts()
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

    def read(self, file: File, *, again: bool = False) -> FilePosition:
        """Return how far `file` is imported.

        Args:
            file: The file; of stdin nothing is known.
            again: Start from the beginning, whatever was done before.

        Raises:
            BadInputError: The file has changed since.
        """
        if file.identity is None:
            return FilePosition()
        stored = self._object(file.identity)
        found = stored.read()
        if found is None:
            return FilePosition()
        if again:
            return FilePosition(etag=found.etag)
        parsed = _parsed(found)
        if parsed is None:
            raise BlockedError(f"{stored.uri} is not what `import` writes there: look at it, or delete it.")
        state, position = parsed
        if state != dict(file.state):
            raise BadInputError(
                f"{file.name}: it has changed since {'it' if position.done else 'a part of it'} was imported"
                f" ({_difference(state, file.state)}). Give the file as it was, the new one under another name, or"
                " --again to import all of it."
            )
        return position

    def save(self, file: File, position: FilePosition) -> FilePosition:
        """Store a position in place of the one that has its ETag; return it with the new ETag.

        Raises:
            HarvestError: Another process imports the same file.
        """
        if file.identity is None:
            return position
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
        try:
            etag = self._object(file.identity).write(text, position.etag)
        except ChangedError:
            raise HarvestError(
                f"{file.name}: another process imports it too. Leave it to one, and do not start two at once."
            ) from None
        return dataclasses.replace(position, etag=etag)

    def _object(self, identity: str) -> S3Object:
        digest = hashlib.sha256(f"{identity}\n{self._destination}".encode("utf-8", "surrogateescape")).hexdigest()
        return S3Object(self._s3, self._bucket, f"{PREFIX}{digest[:32]}.json", what="position of an import")


def _parsed(found: Content) -> tuple[dict[str, Any], FilePosition] | None:
    """Return the state of the file and its position; None if the object holds no position."""
    try:
        match json.loads(found.text):
            case {
                "state": dict(state),
                "at": int(at),
                "counts": dict(counts),
                "done": bool(done),
                "schema": 1,
            }:
                return state, FilePosition(at, RecordCounts(**counts), done, found.etag)
    except (ValueError, TypeError):
        pass
    return None


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if before.get("bytes") != now.get("bytes"):
        return f"{before.get('bytes'):,} bytes then, {now.get('bytes'):,} now"
    return "as many bytes, but written again"
