"""Files of lines: local, in S3 or stdin; plain, gzip or zstd."""

import contextlib
import dataclasses
import gzip
import io
import os
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from backports import zstd

from uaharvest import aws, plain
from uaharvest.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined] # Python 3.12

    from mypy_boto3_s3.client import S3Client

STDIN = "-"
LONGEST_LINE = 5_000_000  # bytes; a message in SQS has 1 MiB at most
KEPT = 10_000  # bytes of a longer line
# One request to S3. A single request for the whole object would have to last as long as the import.
PIECE = 4_194_304
_SCHEME = "s3://"
_NOT_FOUND, _PRECONDITION_FAILED = 404, 412
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        start: Its position in bytes, uncompressed.
        end: The position of the next.
        content: Its bytes, without white space at the ends; only the first of a line that is too long.
    """

    start: int
    end: int
    content: bytes

    @property
    def is_too_long(self) -> bool:
        """Tell whether it has more than LONGEST_LINE bytes."""
        return self.end - self.start > LONGEST_LINE


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """An open file.

    Attributes:
        name: Its path or URI, as given.
        identity: Its absolute path or URI; None for stdin and pipes, which cannot be read again.
        state: What changes with its content: its size, and its ETag or time of modification; {} without identity.
    """

    name: str
    identity: str | None
    state: Mapping[str, Any]
    _raw: IO[bytes]
    _stream: IO[bytes]

    @property
    def share(self) -> float | None:
        """The share of the file that is read, from 0 to 1; None if its size is not known."""
        size = self.state.get("bytes")
        return self._raw.tell() / size if size else None

    def lines(self, position: int) -> Iterator[Line]:
        """Yield the lines from `position` on, without empty ones.

        Raises:
            BadInputError: It is compressed and broken or cut off, or it has changed in S3 since it was opened.
            RetryableError: S3 cannot be reached.
        """
        end = position
        try:
            if position:
                self._stream.seek(position)
            while content := self._stream.readline(LONGEST_LINE + 1):
                start, end = end, end + len(content)
                rest = content
                while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
                    rest = self._stream.readline(LONGEST_LINE + 1)
                    end += len(rest)
                line = Line(start, end, content.strip())
                if line.is_too_long:
                    line = line._replace(content=content[:KEPT])
                if line.content:
                    yield line
        except _BROKEN:
            raise BadInputError(
                f"{self.name}: its compressed content is broken or cut off after {end:,} bytes of lines."
                " Expected a whole file."
            ) from None


@contextlib.contextmanager
def opened(name: str) -> Iterator[File]:
    """Open a file; its first bytes tell whether it is compressed.

    Args:
        name: A path, `s3://<bucket>/<key>`, or "-" for stdin.

    Raises:
        BadInputError: There is no such file, or it cannot be read.
        BlockedError: S3 refuses.
        RetryableError: S3 cannot be reached.
    """
    shown = plain.one_line(name)
    with contextlib.ExitStack() as stack:
        raw: IO[bytes]
        state: dict[str, Any] = {}
        identity: str | None = None
        if name.startswith(_SCHEME):
            piecewise = _S3File(aws.s3_client(), name)
            raw = stack.enter_context(io.BufferedReader(piecewise, PIECE))
            identity, state = name, piecewise.state
        else:
            try:
                # A file descriptor of our own, so that closing it leaves Python's stdin as it is.
                raw = stack.enter_context(open(os.dup(0) if name == STDIN else name, "rb"))  # noqa: PTH123
            except OSError as error:
                raise BadInputError(
                    f"{shown}: {error.strerror}. Expected a file of JSON lines, s3://BUCKET/KEY, or - for stdin."
                ) from None
            status = os.fstat(raw.fileno())
            if name != STDIN and stat.S_ISREG(status.st_mode):
                identity = str(Path(name).resolve())
                state = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        yield File(shown, identity, state, raw, _uncompressed(raw))


def _uncompressed(raw: Any) -> IO[bytes]:
    first: bytes = raw.peek(len(_ZSTD))
    if first.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value] # it has all that we use
    if first.startswith(_ZSTD):
        return zstd.ZstdFile(raw)  # type: ignore[return-value] # it has all that we use
    return raw  # type: ignore[no-any-return]


class _S3File(io.RawIOBase):
    """An object in S3, read in pieces. A request fails if the object has changed since the first one."""

    def __init__(self, s3: "S3Client", uri: str) -> None:
        super().__init__()
        self._s3 = s3
        self._uri = plain.one_line(uri)
        self._bucket, _, self._key = uri.removeprefix(_SCHEME).partition("/")
        self._position = 0
        if not self._bucket or not self._key:
            raise BadInputError(f"{self._uri}: Expected s3://BUCKET/KEY.")
        with aws.translated(self._uri):
            try:
                head = s3.head_object(Bucket=self._bucket, Key=self._key)
            except aws.ERRORS as error:
                if aws.status(error) != _NOT_FOUND:
                    raise
                raise BadInputError(f"{self._uri}: there is no such object.") from None
        self._size, self._etag = head["ContentLength"], aws.etag(head, self._uri)
        self.state: dict[str, Any] = {"bytes": self._size, "etag": self._etag}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        last = min(self._position + len(view), self._size) - 1
        if last < self._position:
            return 0
        content = aws.RETRIES.call(lambda: self._piece(self._position, last), pause=time.sleep)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _piece(self, first: int, last: int) -> bytes:
        with aws.translated(self._uri):
            try:
                answer = self._s3.get_object(
                    Bucket=self._bucket, Key=self._key, IfMatch=self._etag, Range=f"bytes={first}-{last}"
                )
                with contextlib.closing(answer["Body"]) as stream:
                    return stream.read(last - first + 1)
            except aws.ERRORS as error:
                if aws.status(error) not in {_NOT_FOUND, _PRECONDITION_FAILED}:
                    raise
                raise BadInputError(f"{self._uri}: it has changed since it was opened.") from None
