"""The watermark: up to when a stream is delivered.

It is an S3 object written by compare-and-set, and the only durable record of progress.
"""

import contextlib
import dataclasses
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from uaharvest import aws
from uaharvest.errors import BadInputError, BlockedError, HarvestError, RetryableError
from uaharvest.intervals import whole_second

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_LEGACY = re.compile(r"\d{14}", re.ASCII)
_LEGACY_FORMAT = "%Y%m%d%H%M%S"
# Retries of a conditional PUT that collides with another or is throttled; about 2 s in all. botocore has already
# repeated a request without a response, for longer than this lasts.
_RETRIES = dataclasses.replace(aws.RETRIES, attempts=5, within=10.0)


_LONGEST = 65_536  # bytes; a larger object cannot be a watermark
_NEVER = datetime.min.replace(tzinfo=UTC)
_BODY_TIMEOUT = 30.0  # time-out for reading the body, seconds


class ChangedError(HarvestError):
    """The watermark changed after it was read."""


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """The source that a watermark belongs to and the destination of its rows.

    Attributes:
        digest: Identifies the deployment; "" if it is not known.
        text: Describes it for people, without secrets; "" if it is not known.
    """

    digest: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Watermark:
    """The instant up to which a stream is delivered, in UTC and whole seconds (fractions are cut off).

    Attributes:
        at: The instant; rows created before it are delivered.
        floor: The search for late rows does not go back beyond this.
        epoch: Random; a first write or an operator's write starts a new one. Known ids are kept per epoch.
        run: The run that wrote it.
        deployment: The deployment that owns it. Earlier versions did not record one; such a watermark belongs to
            whoever reads it.
    """

    at: datetime
    floor: datetime
    epoch: str
    run: str
    deployment: Deployment = Deployment()

    def __post_init__(self) -> None:
        """Round both times down to the second, so that no row is skipped.

        Raises:
            ValueError: A time has no zone, or the floor is after the watermark.
        """
        for name in ("at", "floor"):
            instant = getattr(self, name)
            if instant.tzinfo is None:
                raise ValueError(f"{name} has no time zone")
            object.__setattr__(self, name, whole_second(instant))
        if self.floor > self.at:
            raise ValueError("floor lies after the watermark")

    def to_json(self) -> str:
        """Return the content of the S3 object."""
        content: dict[str, Any] = {
            "watermark": _iso(self.at),
            "floor": _iso(self.floor),
            "epoch": self.epoch,
            "run": self.run,
            "schema": 1,  # earlier versions can still read it: they ignore unknown fields
        }
        if self.deployment.digest:
            content["deployment"] = dataclasses.asdict(self.deployment)
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> "Watermark":
        """Read the content of the S3 object.

        Raises:
            ValueError: The text is not a watermark.
        """
        match json.loads(text):
            case {
                "watermark": str(at),
                "floor": str(floor),
                "epoch": str(epoch),
                "run": str(run),
                "schema": 1,
                **rest,
            }:
                deployment = _deployment(rest.get("deployment"))
                return cls(datetime.fromisoformat(at), datetime.fromisoformat(floor), epoch, run, deployment)
        raise ValueError("not the fields of a watermark")


def _deployment(content: object) -> Deployment:
    match content:
        case None:
            return Deployment()
        case {"digest": str(digest), "text": str(text)}:
            return Deployment(digest, text)
    raise ValueError("not the fields of a deployment")


def first(at: datetime) -> Watermark:
    """Return the first watermark of a stream. Rows before it are never looked for."""
    return Watermark(at=at, floor=at, epoch=_random(), run=_random())


def advanced(mark: Watermark, to: datetime, run: str) -> Watermark:
    """Return `mark` moved to the end of a run's window.

    Raises:
        HarvestError: This would move it backwards.
    """
    if to < mark.at:
        raise HarvestError(f"run {run} would move the watermark back from {_iso(mark.at)} to {_iso(to)}")
    return dataclasses.replace(mark, at=to, run=run)


def moved_by_operator(old: Watermark | None, to: datetime) -> Watermark:
    """Return the watermark that an operator set, in a new epoch, so that everything after it is sent again.

    If it moves forward, the rows in between are skipped on purpose, late ones included: the floor is the new
    watermark. Otherwise the search for late rows goes back as far as before.
    """
    mark = first(to)
    if old is not None and mark.at <= old.at:
        return dataclasses.replace(mark, floor=min(old.floor, mark.at))
    return mark


def legacy(text: str, zone: ZoneInfo) -> datetime:
    """Convert the old tool's `YYYYMMDDHHmmss`, in the server's local time, to UTC.

    When clocks go back, a local time means two instants; when they go forward, some local times do not exist.
    In both cases the earlier reading is used, so that no row is skipped.

    Raises:
        ValueError: The text is not a date.
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
    """Stores one stream's watermark in S3.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.

    The first read of an object that the old tool wrote replaces it. Before that, `<key>.replaced` is written as a
    marker. It records the old object (text, ETag, time of last write). With it, an old cron that writes again can
    be told from a replacement that was interrupted.

    Neither `move` nor `delete` removes the marker. An old cron that still runs would write the old form again.
    Without the marker that would look like a first migration, and rows would be skipped. Anyone who goes back to
    the old tool and then returns is blocked once and continues with `move`.

    Args:
        s3: From `aws.s3_client()`.
        bucket: Created at the first write if it does not exist.
        key: The object's key.
        zone: The time zone of the Opencast server. The old tool wrote local time.
        deployment: The deployment that reads and writes here. A watermark of another one raises BlockedError.
        prove: Before the first write, check that S3 honours conditional writes.
        pause: Sleeps for the given number of seconds.
    """

    def __init__(
        self,
        s3: "S3Client",
        bucket: str,
        key: str,
        zone: ZoneInfo,
        *,
        deployment: Deployment = Deployment(),
        prove: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._deployment = deployment
        self._proved = not prove
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._marker_key = f"{key}.replaced"
        self.uri = f"s3://{bucket}/{key}"
        self._zone = zone
        self._pause = pause

    def read(self) -> Stored | None:
        """Return the watermark; None if there is no such object or bucket.

        Raises:
            BlockedError: The object is not a watermark, it belongs to another deployment, or an old harvester still
                writes it.
        """
        found = self._get(self._key)
        if found is None:
            return None
        if _LEGACY.fullmatch(found.text):
            return self._migrate(found)
        mark = self._parse(found.text)
        owner = mark.deployment
        if owner.digest and self._deployment.digest and owner.digest != self._deployment.digest:
            raise BlockedError(
                f"{self.uri} is the watermark of another harvest: {owner.text}. This one is: {self._deployment.text}."
                " If both are used, give each a key or a bucket of its own. If source or destination were changed on"
                " purpose: `manage.py watermark confirm`; what comes after the watermark then goes to the new one."
            )
        return Stored(mark, found.etag)

    def adopt(self) -> Stored | None:
        """Take over another deployment's watermark after an operator confirmed it; None if that is not needed.

        Raises:
            ChangedError: Somebody else wrote it in the meantime.
            BlockedError: The object is not a watermark.
        """
        found = self._get(self._key)
        if found is None or _LEGACY.fullmatch(found.text):
            return None
        mark = self._parse(found.text)
        if mark.deployment.digest in {"", self._deployment.digest}:
            return None
        return self.replace(dataclasses.replace(mark, run=_random()), found.etag)

    def prove(self) -> None:
        """Check once that S3 honours `If-Match` and `If-None-Match`; does nothing while there is no object.

        A store that ignores them answers 200 to every write, so one of two concurrent writes would be lost
        silently. The check writes back the content that the object already has.

        Raises:
            BlockedError: S3 ignores them.
        """
        if self._proved:
            return
        found = self._get(self._key)
        if found is None:
            return
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": f'"{"0" * 32}"'}):
            try:
                aws.put_object(self._s3, self._bucket, self._key, found.text, **condition)
            except aws.ERRORS as error:
                # Only a store that honours conditions answers 409 (another conditional write is in progress).
                if aws.status(error) not in {409, 412}:
                    raise aws.translate(error, f"{self.uri}, asked for a conditional write") from None
            else:
                name = {"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}[next(iter(condition))]
                raise BlockedError(
                    f"{self.uri}: this store ignores {name}, so that two workers that write at once would lose a"
                    " watermark. Use one that heeds conditional writes (AWS S3, MinIO, a current Ceph)."
                )
        self._proved = True

    def create(self, mark: Watermark) -> Stored:
        """Write the first watermark. Create the bucket if it does not exist.

        Raises:
            ChangedError: Somebody else wrote one first.
        """
        return self._put(mark, IfNoneMatch="*")

    def replace(self, mark: Watermark, etag: str) -> Stored:
        """Replace the object that has `etag` with `mark`; also succeeds if the object already holds `mark`.

        Raises:
            ChangedError: The object has changed or no longer exists.
            RetryableError: S3 cannot be reached; the object may have been written.
        """
        return self._put(mark, IfMatch=etag)

    def move(self, to: datetime) -> Stored:
        """Set the watermark for an operator, whatever the object holds now.

        Raises:
            ChangedError: Somebody else wrote it in the meantime.
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
        """Delete the object. The next run starts like the first run of a new stream."""
        with aws.translated(self.uri):
            self._s3.delete_object(Bucket=self._bucket, Key=self._key)
        if self._get(self._key) is not None:  # a web server that is not S3 may answer 200 to any request
            raise BlockedError(f"{self.uri} is still there after it was deleted. Check AWS_ENDPOINT_URL.")

    def _migrate(self, found: _Object) -> Stored:
        try:
            at = legacy(found.text, self._zone)
        except ValueError:
            raise self._junk() from None
        if self._remember(found) != _memory(found):
            raise BlockedError(
                f"an old harvester (harvest.py in a cron) still writes {self.uri}: stop it, then"
                f" `manage.py watermark set TIME` (it wrote {_iso(at)})."
            )
        try:
            return self.replace(first(at), found.etag)
        except ChangedError:
            # Another worker replaced it first, an old harvester wrote it, or it was deleted: read it again.
            stored = self.read()
            if stored is None:
                raise
            return stored

    def _remember(self, found: _Object) -> dict[str, Any]:
        """Write the marker if there is none. Return the marker that is stored."""
        memory = _memory(found)
        try:
            aws.put_object(self._s3, self._bucket, self._marker_key, json.dumps(memory), IfNoneMatch="*")
        except aws.ERRORS as error:
            if aws.status(error) != 412:  # noqa: PLR2004 - precondition failed: the marker exists
                raise aws.translate(error, f"{self.uri}.replaced") from None
        else:
            return memory
        marker = self._get(self._marker_key)
        try:
            content = json.loads(marker.text) if marker is not None else None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise BlockedError(f"{self.uri}.replaced is not what this program writes there: delete it.")
        return content

    def _put(self, mark: Watermark, **condition: str) -> Stored:
        self.prove()
        if self._deployment.digest:
            mark = dataclasses.replace(mark, deployment=self._deployment)
        text = mark.to_json()
        written = _RETRIES.call(lambda: self._put_if(text, condition), pause=self._pause)
        if written is not None:
            return Stored(mark, written)
        # The confirmation may have been lost, and botocore or this program then repeated the write.
        current = self._get(self._key)
        etag = condition.get("IfMatch")
        if current is None if etag is None else current is not None and current.etag == etag:
            raise BlockedError(
                f"{self.uri}: S3 contradicts itself, because it refuses a write on the condition that it just"
                " confirmed. Does a proxy change ETags? Check AWS_ENDPOINT_URL."
            )
        if current is None:
            raise ChangedError(f"{self.uri} was deleted since it was read; nothing was written.")
        if current.text != text:
            raise ChangedError(f"{self.uri} was written by another since it was read; it stays as it is.")
        return Stored(mark, current.etag)

    def _put_if(self, text: str, condition: Mapping[str, str]) -> str | None:
        """Write the object once and return its ETag; None if the condition is not met."""
        try:
            return aws.put_object(self._s3, self._bucket, self._key, text, **condition)
        except aws.ERRORS as error:
            if aws.status(error) == 412 or aws.code(error) == "NoSuchKey":  # noqa: PLR2004 - precondition failed
                return None
            raise aws.translate(error, self.uri) from None

    def _get(self, key: str) -> _Object | None:
        uri = f"s3://{self._bucket}/{key}"
        with aws.translated(uri):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=key)
                with contextlib.closing(answer["Body"]) as stream:
                    etag = aws.etag(answer, uri)
                    body = _body(stream, uri)
            except aws.ERRORS as error:
                if not aws.absent(error):
                    raise
                return None
        return _Object(body.decode(errors="replace").strip(), etag, answer.get("LastModified") or _NEVER)

    def _parse(self, text: str) -> Watermark:
        try:
            return Watermark.from_json(text)
        except ValueError:
            raise self._junk() from None

    def _junk(self) -> BlockedError:
        return BlockedError(
            f"{self.uri} holds no watermark that this version can read."
            " Look at it, then `manage.py watermark set TIME`."
        )


def _body(stream: Any, uri: str) -> bytes:
    """Read an object that should be small, in pieces. The read time-out applies to each piece, not to the whole."""
    end = time.monotonic() + _BODY_TIMEOUT
    body = b""
    while piece := stream.read(512):
        body += piece
        if len(body) > _LONGEST:
            raise BlockedError(f"{uri} is no watermark: it has more than {_LONGEST:,} bytes. Look at it.")
        if time.monotonic() > end:
            raise RetryableError(f"{uri} did not arrive within {_BODY_TIMEOUT:.0f} s.")
    return body


def _memory(found: _Object) -> dict[str, Any]:
    # The ETag alone is not enough. It is a digest of the content, and with no new rows an old cron writes the same
    # content again, at a later time.
    return {"text": found.text, "etag": found.etag, "written": _iso(found.written)}


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _random() -> str:
    return secrets.token_hex(8)


def required(store: WatermarkStore | None) -> WatermarkStore:
    """Return `store`, which must be configured.

    Raises:
        BadInputError: No bucket is set.
    """
    if store is None:
        raise BadInputError("not set: S3_HARVEST_TS_BUCKET. The watermark is kept there.")
    return store
