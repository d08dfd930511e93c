"""How far an export to an LRS has come: an object in S3, written by compare-and-set."""

import hashlib
import json
from typing import TYPE_CHECKING

from uaharvest.errors import BlockedError, HarvestError
from uaharvest.s3_object import ChangedError, S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PREFIX = "exports/"


class ExportPosition:
    """The position of one export: all statements of units up to a name are sent, in the order of names.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created with the first position if it does not exist.
        export: What is exported and to where, as text without secrets.
    """

    def __init__(self, s3: "S3Client", bucket: str, export: str) -> None:
        digest = hashlib.sha256(export.encode()).hexdigest()[:32]
        self._object = S3Object(s3, bucket, f"{PREFIX}{digest}.json", what="position of an export")
        self._export = export
        self._etag: str | None = None

    def read(self) -> str | None:
        """Return the last unit that is sent; None at the beginning."""
        found = self._object.read()
        if found is None:
            return None
        self._etag = found.etag
        try:
            match json.loads(found.text):
                case {"sent": str(unit), "schema": 1}:
                    return unit
        except ValueError:
            pass
        raise BlockedError(f"{self._object.uri} is not what `export` writes there: look at it, or delete it.")

    def save(self, unit: str) -> None:
        """Store that all up to `unit` is sent.

        Raises:
            HarvestError: Another process does the same export.
        """
        text = json.dumps({"export": self._export, "sent": unit, "schema": 1})
        try:
            self._etag = self._object.write(text, self._etag)
        except ChangedError:
            raise HarvestError("Another process does the same export. Leave it to one.") from None

    def finish(self) -> None:
        """Forget the position: all is sent, and the next export begins at the beginning."""
        if self._etag is not None:
            self._object.delete()
