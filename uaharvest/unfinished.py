"""Files that are not whole yet: they may hold personal data, so what a killed process left is removed later."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".uaharvest-unfinished-"  # nobody else names a folder so, and it will be removed


@contextlib.contextmanager
def folder(parent: Path) -> Iterator[Path]:
    """Yield a hidden folder in `parent` that only this user can read; it is removed when the block ends.

    Those that killed processes have left in `parent` are removed first. A lock tells them from those in use; without
    locks, as in some network file systems, they stay.

    Raises:
        OSError: It cannot be created.
    """
    for left in parent.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    own, lock = _locked(parent)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


def put(new: Path, path: Path) -> None:
    """Move a finished file to its place, on the disk too."""
    with new.open("rb") as written:
        os.fsync(written.fileno())
    new.replace(path)


def _locked(parent: Path) -> tuple[Path, int]:
    while True:
        own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Another process may take it for one that was left, until it is locked.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if own.exists():
                return own, lock
            os.close(lock)


def _remove_if_left(path: Path) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:  # in use
        pass
    finally:
        os.close(lock)
