"""A small object in S3 that several processes write by compare-and-set."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from uaharvest import aws
from uaharvest.errors import BlockedError, HarvestError, RetryableError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# Retries of a conditional PUT that collides with another or is throttled; about 2 s in all. botocore has already
# repeated a request without a response, for longer than this lasts.
_RETRIES = dataclasses.replace(aws.RETRIES, attempts=5, within=10.0)
LONGEST = 65_536  # bytes; a larger object cannot be what is expected
_NEVER = datetime.min.replace(tzinfo=UTC)
_BODY_TIMEOUT = 30.0  # time-out for reading the body, seconds
_PRECONDITION_FAILED = 412
_CONFLICT = 409


class ChangedError(HarvestError):
    """The object changed after it was read."""


class Content(NamedTuple):
    """What an object holds.

    Attributes:
        text: Its text, without white space at the ends.
        etag: Its ETag.
        written: When it was written, by S3's clock.
    """

    text: str
    etag: str
    written: datetime


class S3Object:
    """An object in S3.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created at the first write if it does not exist.
        key: The object's key.
        what: What the object holds, for error messages.
        longest: Its size at most, bytes.
        prove: Before the first write, check that S3 honours conditional writes.
        pause: Sleeps for the given number of seconds.
    """

    def __init__(
        self,
        s3: "S3Client",
        bucket: str,
        key: str,
        *,
        what: str,
        longest: int = LONGEST,
        prove: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._what = what
        self._longest = longest
        self._proved = not prove
        self._pause = pause
        self.uri = f"s3://{bucket}/{key}"

    def read(self) -> Content | None:
        """Return what the object holds; None if there is no such object or bucket."""
        with aws.translated(self.uri):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=self._key)
                with contextlib.closing(answer["Body"]) as stream:
                    etag = aws.etag(answer, self.uri)
                    body = self._body(stream)
            except aws.ERRORS as error:
                if not aws.absent(error):
                    raise
                return None
        return Content(body.decode(errors="replace").strip(), etag, answer.get("LastModified") or _NEVER)

    def prove(self) -> None:
        """Check once that S3 honours `If-Match` and `If-None-Match`; does nothing while there is no object.

        A store that ignores them answers 200 to every write, so one of two concurrent writes would be lost
        silently. The check writes back the content that the object already has.

        Raises:
            BlockedError: S3 ignores them.
        """
        if self._proved:
            return
        found = self.read()
        if found is None:
            return
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": f'"{"0" * 32}"'}):
            try:
                aws.put_object(self._s3, self._bucket, self._key, found.text, **condition)
            except aws.ERRORS as error:
                # Only a store that honours conditions answers 409 (another conditional write is in progress).
                if aws.status(error) not in {_CONFLICT, _PRECONDITION_FAILED}:
                    raise aws.translate(error, f"{self.uri}, asked for a conditional write") from None
            else:
                name = {"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}[next(iter(condition))]
                raise BlockedError(
                    f"{self.uri}: this store ignores {name}, so that two workers that write at once would lose a"
                    f" {self._what}. Use one that supports conditional writes (AWS S3, MinIO, a current Ceph)."
                )
        self._proved = True

    def write(self, text: str, etag: str | None) -> str:
        """Replace the object that has `etag`, or create it if `etag` is None; return the new ETag.

        Also succeeds if the object already holds `text`.

        Raises:
            ChangedError: Somebody else wrote or deleted it in the meantime.
            RetryableError: S3 cannot be reached; the object may have been written.
        """
        self.prove()
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        written = _RETRIES.call(lambda: self._put_if(text, condition), pause=self._pause)
        if written is not None:
            return written
        # The confirmation may have been lost, and botocore or this program then repeated the write.
        current = self.read()
        if current is None if etag is None else current is not None and current.etag == etag:
            raise BlockedError(
                f"{self.uri}: S3 contradicts itself, because it refuses a write on the condition that it just"
                " confirmed. Does a proxy change ETags? Check AWS_ENDPOINT_URL."
            )
        if current is None:
            raise ChangedError(f"{self.uri} was deleted since it was read; nothing was written.")
        if current.text != text:
            raise ChangedError(f"{self.uri} was written by another since it was read; it stays as it is.")
        return current.etag

    def delete(self) -> None:
        """Delete the object."""
        with aws.translated(self.uri):
            self._s3.delete_object(Bucket=self._bucket, Key=self._key)
        if self.read() is not None:  # a web server that is not S3 may answer 200 to any request
            raise BlockedError(f"{self.uri} is still there after it was deleted. Check AWS_ENDPOINT_URL.")

    def _put_if(self, text: str, condition: Mapping[str, str]) -> str | None:
        """Write the object once and return its ETag; None if the condition is not met."""
        try:
            return aws.put_object(self._s3, self._bucket, self._key, text, **condition)
        except aws.ERRORS as error:
            if aws.status(error) == _PRECONDITION_FAILED or aws.code(error) == "NoSuchKey":
                return None
            raise aws.translate(error, self.uri) from None

    def _body(self, stream: Any) -> bytes:
        """Read the body in pieces. The read time-out applies to each piece, not to the whole."""
        end = time.monotonic() + _BODY_TIMEOUT
        body = b""
        while piece := stream.read(512):
            body += piece
            if len(body) > self._longest:
                raise BlockedError(
                    f"{self.uri} is not a {self._what}: it has more than {self._longest:,} bytes. Look at it."
                )
            if time.monotonic() > end:
                raise RetryableError(f"{self.uri} did not arrive within {_BODY_TIMEOUT:.0f} s.")
        return body
