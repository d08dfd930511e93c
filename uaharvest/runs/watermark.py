"""How far a stream is delivered: an S3 object, written by compare-and-set, the only durable truth."""

import dataclasses
import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from uaharvest import aws
from uaharvest.errors import BlockedError, HarvestError, RetryableError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_LEGACY = re.compile(r"\d{14}", re.ASCII)
_LEGACY_FORMAT = "%Y%m%d%H%M%S"
_ATTEMPTS = 5  # at one conditional PUT that collides with another or is throttled; about 2 s


class ChangedError(HarvestError):
    """The watermark is not the one that was read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watermark:
    """The instant up to which a stream is delivered, in UTC and whole seconds (fractions are cut off).

    Attributes:
        at: The instant; rows created before it are delivered.
        floor: Late rows are not looked for before this.
        epoch: New at each first write and each operator's write; known ids are kept per epoch.
        run: The run that wrote it.
    """

    at: datetime
    floor: datetime
    epoch: str
    run: str

    def __post_init__(self) -> None:
        """Cut to the second: earlier, so that nothing is lost.

        Raises:
            ValueError: A time without zone, or a floor after the watermark.
        """
        for name in ("at", "floor"):
            moment = getattr(self, name)
            if moment.tzinfo is None:
                raise ValueError(f"{name} has no time zone")
            object.__setattr__(self, name, moment.astimezone(UTC).replace(microsecond=0))
        if self.floor > self.at:
            raise ValueError("floor lies after the watermark")

    def to_json(self) -> str:
        """Return the content of the S3 object."""
        return json.dumps(
            {
                "watermark": _iso(self.at),
                "floor": _iso(self.floor),
                "epoch": self.epoch,
                "run": self.run,
                "schema": 1,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Watermark":
        """Read the content of the S3 object.

        Raises:
            ValueError: It is none.
        """
        match json.loads(text):
            case {
                "watermark": str(at),
                "floor": str(floor),
                "epoch": str(epoch),
                "run": str(run),
                "schema": 1,
            }:
                return cls(datetime.fromisoformat(at), datetime.fromisoformat(floor), epoch, run)
        raise ValueError("not the fields of a watermark")


def first(at: datetime) -> Watermark:
    """Return the watermark of a stream that had none: nothing before it is looked for."""
    return Watermark(at=at, floor=at, epoch=_random(), run=_random())


def advanced(mark: Watermark, to: datetime, run: str) -> Watermark:
    """Return `mark` moved to the end of a run's window.

    Raises:
        HarvestError: That would move it backwards.
    """
    if to < mark.at:
        raise HarvestError(f"run {run} would move the watermark back from {_iso(mark.at)} to {_iso(to)}")
    return dataclasses.replace(mark, at=to, run=run)


def moved_by_operator(old: Watermark | None, to: datetime) -> Watermark:
    """Return what a person set it to, in a new epoch, so that everything after it is sent again.

    Forward, the rows between are left out on purpose, late ones too: the floor is the new watermark. Backward
    or not at all, late rows are looked for as far back as before.
    """
    mark = first(to)
    if old is not None and mark.at <= old.at:
        return dataclasses.replace(mark, floor=min(old.floor, mark.at))
    return mark


def legacy(text: str, zone: ZoneInfo) -> datetime:
    """Return the instant of the old tool's `YYYYMMDDHHmmss`, local time of the server, in UTC.

    Where clocks went back such a time names two instants, where they went forward none: the earlier reading
    is taken, so that nothing is lost.

    Raises:
        ValueError: It is no date.
    """
    local = datetime.strptime(text, _LEGACY_FORMAT).replace(tzinfo=zone)
    return min(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A watermark and the ETag of the object that holds it."""

    mark: Watermark
    etag: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Object:
    text: str
    etag: str
    written: datetime


class WatermarkStore:
    """Keeps one stream's watermark in S3.

    The old tool's object is replaced when it is first read. Before that `<key>.replaced` is written, which
    says what was there (text, ETag, time of its last write), so that an old cron that writes once more is
    told from a replacement that was cut short. This marker is never removed, neither by `move` nor by
    `delete`: after both an old cron that still runs would write the old form again, and without the marker
    that would be taken for a first migration, and rows skipped. Who really goes back to the old tool and
    returns is stopped once, and goes on with `move`.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created at the first write if it does not exist.
        key: The object's key.
        zone: The time zone of the Opencast server, in which the old tool wrote.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        s3: "S3Client",
        bucket: str,
        key: str,
        zone: ZoneInfo,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._marker_key = f"{key}.replaced"
        self._uri = f"s3://{bucket}/{key}"
        self._zone = zone
        self._pause = pause

    def read(self) -> Stored | None:
        """Return the watermark; None if there is no such object or bucket.

        Raises:
            BlockedError: It may not be read, is none, or an old harvester still writes it.
            RetryableError: S3 cannot be reached.
        """
        found = self._get(self._key)
        if found is None:
            return None
        if _LEGACY.fullmatch(found.text):
            return self._migrate(found)
        return Stored(self._parse(found.text), found.etag)

    def create(self, mark: Watermark) -> Stored:
        """Write the first watermark, in a new bucket if there is none.

        Raises:
            ChangedError: Somebody else has written one.
            BlockedError: S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        return self._put(mark, IfNoneMatch="*")

    def replace(self, mark: Watermark, etag: str) -> Stored:
        """Write `mark` over the object with `etag`; done, too, if the object already is `mark`.

        Raises:
            ChangedError: The object is another one, or gone.
            BlockedError: S3 refuses.
            RetryableError: S3 cannot be reached; the object may have been written.
        """
        return self._put(mark, IfMatch=etag)

    def move(self, to: datetime) -> Stored:
        """Set the watermark as an operator does, whatever the object holds.

        Raises:
            ChangedError: Somebody wrote it meanwhile.
            BlockedError: S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        found = self._get(self._key)
        if found is None:
            return self.create(moved_by_operator(None, to))
        if _LEGACY.fullmatch(found.text):
            self._remember(found)
        try:
            old = Watermark.from_json(found.text)
        except ValueError:
            old = None
        return self.replace(moved_by_operator(old, to), found.etag)

    def delete(self) -> None:
        """Delete the object; the next run starts as a first one does.

        Raises:
            BlockedError: S3 refuses.
            RetryableError: S3 cannot be reached.
        """
        with aws.translated(self._uri):
            self._s3.delete_object(Bucket=self._bucket, Key=self._key)

    def _migrate(self, found: _Object) -> Stored:
        try:
            at = legacy(found.text, self._zone)
        except ValueError:
            raise self._junk() from None
        if self._remember(found) != _memory(found):
            raise BlockedError(
                f"an old harvester (harvest.py in a cron) still writes {self._uri}: stop it, then"
                f" `manage.py watermark set TIME` (it wrote {_iso(at)})."
            )
        try:
            return self.replace(first(at), found.etag)
        except ChangedError:
            # Another worker replaced it first, an old harvester wrote it, or it was deleted: look again.
            stored = self.read()
            if stored is None:
                raise
            return stored

    def _remember(self, found: _Object) -> dict[str, Any]:
        """Write the marker if there is none; return the one that counts."""
        memory = _memory(found)
        try:
            aws.put_object(self._s3, self._bucket, self._marker_key, json.dumps(memory), IfNoneMatch="*")
        except aws.ERRORS as error:
            if aws.status(error) != 412:  # noqa: PLR2004 - precondition failed: there is one
                raise aws.translate(error, f"{self._uri}.replaced") from None
        else:
            return memory
        marker = self._get(self._marker_key)
        try:
            content = json.loads(marker.text) if marker is not None else None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise BlockedError(f"{self._uri}.replaced is not what this program writes there: delete it.")
        return content

    def _put(self, mark: Watermark, **condition: str) -> Stored:
        text = mark.to_json()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return Stored(mark, aws.put_object(self._s3, self._bucket, self._key, text, **condition))
            except aws.ERRORS as error:
                if aws.status(error) in {404, 412}:
                    break
                failure = aws.translate(error, self._uri)
                if not isinstance(failure, RetryableError) or attempt == _ATTEMPTS:
                    raise failure from None
            self._pause(aws.backoff(attempt))
        # A confirmation may have been lost, after which botocore, or the loop above, wrote a second time.
        current = self._get(self._key)
        if current is None:
            raise ChangedError(f"{self._uri} was deleted since it was read; nothing was written.")
        if current.text != text:
            raise ChangedError(f"{self._uri} was written by another since it was read; it stays as it is.")
        return Stored(mark, current.etag)

    def _get(self, key: str) -> _Object | None:
        with aws.translated(f"s3://{self._bucket}/{key}"):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=key)
                body = answer["Body"].read()
            except aws.ERRORS as error:
                if aws.status(error) != 404:  # noqa: PLR2004 - only "not found" means absent
                    raise
                return None
        return _Object(body.decode(errors="replace").strip(), answer["ETag"], answer["LastModified"])

    def _parse(self, text: str) -> Watermark:
        try:
            return Watermark.from_json(text)
        except ValueError:
            raise self._junk() from None

    def _junk(self) -> BlockedError:
        return BlockedError(
            f"{self._uri} holds no watermark that this version can read."
            " Look at it, then `manage.py watermark set TIME`."
        )


def _memory(found: _Object) -> dict[str, Any]:
    # The ETag is a digest of the content: an old cron in a quiet hour writes the same again, at another time.
    return {"text": found.text, "etag": found.etag, "written": _iso(found.written)}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _random() -> str:
    return secrets.token_hex(8)
