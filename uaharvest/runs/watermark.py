"""The watermark: up to when a stream is delivered.

It is an S3 object written by compare-and-set, and the only durable record of progress.
"""

import dataclasses
import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from uaharvest.errors import BadInputError, BlockedError, HarvestError
from uaharvest.intervals import whole_second
from uaharvest.s3_object import ChangedError, Content, S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_LEGACY = re.compile(r"\d{14}", re.ASCII)
_LEGACY_FORMAT = "%Y%m%d%H%M%S"


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
        try:
            return cls._read(json.loads(text))
        except (OverflowError, RecursionError):  # times at the calendar's ends; too many brackets
            raise ValueError("not a watermark") from None

    @classmethod
    def _read(cls, content: object) -> "Watermark":
        match content:
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
    try:
        return min(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:  # at the calendar's ends
        raise ValueError("not a date in UTC") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A watermark and the ETag of the object that holds it."""

    mark: Watermark
    etag: str


class WatermarkStore:
    """Stores one stream's watermark in S3.

    Every method raises BlockedError if S3 refuses, and RetryableError if it cannot be reached.

    The first read of an object that the old tool wrote replaces it. Before that, `<key>.replaced` is written as a
    marker. It records the old object (text, ETag, time of last write). It
    distinguishes an old cron that writes again from a replacement that was interrupted.

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
        self._object = S3Object(s3, bucket, key, what="watermark", prove=prove, pause=pause)
        self._marker = S3Object(s3, bucket, f"{key}.replaced", what="marker", pause=pause)
        self.prove = self._object.prove
        self.uri = self._object.uri
        self._zone = zone

    def read(self) -> Stored | None:
        """Return the watermark; None if there is no such object or bucket.

        Raises:
            BlockedError: The object is not a watermark, it belongs to another deployment, or an old harvester still
                writes it.
        """
        found = self._object.read()
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
        found = self._object.read()
        if found is None or _LEGACY.fullmatch(found.text):
            return None
        mark = self._parse(found.text)
        if mark.deployment.digest in {"", self._deployment.digest}:
            return None
        return self.replace(dataclasses.replace(mark, run=_random()), found.etag)

    def create(self, mark: Watermark) -> Stored:
        """Write the first watermark. Create the bucket if it does not exist.

        Raises:
            ChangedError: Somebody else wrote one first.
        """
        return self._put(mark, None)

    def replace(self, mark: Watermark, etag: str) -> Stored:
        """Replace the object that has `etag` with `mark`; also succeeds if the object already holds `mark`.

        Raises:
            ChangedError: The object has changed or no longer exists.
            RetryableError: S3 cannot be reached; the object may have been written.
        """
        return self._put(mark, etag)

    def move(self, to: datetime) -> Stored:
        """Set the watermark for an operator, whatever the object holds now.

        Raises:
            ChangedError: Somebody else wrote it in the meantime.
        """
        found = self._object.read()
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
        self._object.delete()

    def _migrate(self, found: Content) -> Stored:
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

    def _remember(self, found: Content) -> dict[str, Any]:
        """Write the marker if there is none. Return the marker that is stored."""
        memory = _memory(found)
        try:
            self._marker.write(json.dumps(memory), None)
        except ChangedError:
            pass
        else:
            return memory
        marker = self._marker.read()
        try:
            content = json.loads(marker.text) if marker is not None else None
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise BlockedError(f"{self.uri}.replaced is not what this program writes there: delete it.")
        return content

    def _put(self, mark: Watermark, etag: str | None) -> Stored:
        if self._deployment.digest:
            mark = dataclasses.replace(mark, deployment=self._deployment)
        return Stored(mark, self._object.write(mark.to_json(), etag))

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


def _memory(found: Content) -> dict[str, Any]:
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
