"""Records who looked at personal data: one JSON line for each command that shows some, without the data."""

import json
import os
import pwd
import socket
from datetime import UTC, datetime
from pathlib import Path

from uaharvest.errors import BlockedError

_MODE = 0o600


class AccessLog:
    """A file that only grows.

    Args:
        path: ACCESS_LOG_FILE; None: nothing is recorded.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def note(self, command: str, **scope: str) -> None:
        """Append a line before the data are shown.

        Args:
            command: The command, such as "documents export".
            scope: What it is about: an index, the name of a dead letter, a pseudonym; never a person's data.

        Raises:
            BlockedError: The line cannot be written, so nothing may be shown.
        """
        if self._path is None:
            return
        line = {
            "at": f"{datetime.now(UTC):%FT%TZ}",
            "user": _user(),
            "sudo_user": os.environ.get("SUDO_USER"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "command": command,
            **scope,
        }
        try:
            with open(self._path, "ab", opener=_append) as file:
                file.write(f"{json.dumps(line)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BlockedError(
                f"ACCESS_LOG_FILE: {self._path} cannot be written: {error.strerror}. Nothing is shown without a line"
                " there. Let this user append to it."
            ) from None


def _append(path: str, flags: int) -> int:
    return os.open(path, flags, _MODE)


def _user() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container, a user may have no name
        return str(uid)
