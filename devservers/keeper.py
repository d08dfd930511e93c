"""Keeps the servers of `manage.py dev` running in the background, and starts again what ends.

One process, the keeper, owns all servers, so they end with it, even if it is killed. It holds a lock on `.dev/lock`
for as long as it lives, and the lock file has its process id: whoever cannot get the lock knows that this process is
the keeper, not another with the same id.

    python -m devservers.keeper FOLDER DOCUMENTS docker|processes
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

from devservers import site
from devservers.compose import Engine
from devservers.stack import ROOT
from uaharvest import plain
from uaharvest.errors import HarvestError

SETTINGS = ".env.dev"
_FOLDER = ".dev"
# The last line of the keeper begins with one of these.
_READY, _FAILED = "ready", "failed: "
_DOCKER, _PROCESSES = "docker", "processes"
_LOOK_EVERY = 0.5  # seconds between two looks for servers that have ended
_ENDS_WITHIN = 90  # seconds
_LOCKS_WITHIN = 2  # seconds; `Keeper.running` holds the lock for an instant


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A server as other processes know it; `log` is the path of its output, None for a container."""

    name: str
    url: str
    log: str | None

    def answers(self) -> bool:
        """Tell whether it accepts connections."""
        parts = urlsplit(self.url)
        try:
            with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1):
                return True
        except OSError:
            return False


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What is running: the document store, whether in containers, and all servers."""

    documents: str
    docker: bool
    servers: tuple[Server, ...]


class Keeper:
    """The keeper of a folder, seen from other processes.

    Attributes:
        settings: The file with the settings of the servers.
    """

    def __init__(self, folder: Path) -> None:
        """Look after the site of `folder`, whose state is in `.dev`."""
        self.settings = folder / SETTINGS
        self._home = folder / _FOLDER
        self._folder = folder

    def running(self) -> bool:
        """Tell whether the keeper is alive, perhaps still starting the servers."""
        lock = _locked(self._home / "lock") if self._home.is_dir() else None
        if lock:
            lock.close()
        return self._home.is_dir() and lock is None

    def state(self) -> State | None:
        """Return what is running; None before the servers are ready and after they have ended."""
        if not self.running():
            return None
        try:
            found: dict[str, Any] = json.loads((self._home / "state.json").read_text())
        except FileNotFoundError:
            return None
        servers = tuple(Server(**server) for server in found["servers"])
        return State(found["documents"], found["docker"], servers)

    def start(self, documents: str, say: Callable[[str], None], *, docker: bool) -> State:
        """Start the servers, and leave them running in the background.

        Args:
            documents: The document store, see `site.started`.
            say: Called with a line for each step.
            docker: Whether to run containers.

        Raises:
            HarvestError: A server does not start; nothing is left running.
        """
        self._home.mkdir(mode=0o700, exist_ok=True)
        engine = _DOCKER if docker else _PROCESSES
        with (self._home / "log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "devservers.keeper", str(self._folder), documents, engine],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        reason = f"The servers do not start. {self._home / 'log'} may say why."
        try:
            for line in process.stdout or ():
                if (state := self.state()) and line.strip() == _READY:
                    return state
                if line.startswith(_FAILED):
                    reason = line.removeprefix(_FAILED).strip()
                else:
                    say(line.strip())
        except BaseException:
            process.terminate()
            process.wait()
            raise
        process.wait()
        raise HarvestError(reason)

    def stop(self) -> bool:
        """End the servers and remove what is kept of them; tell whether anything was there.

        Raises:
            HarvestError: The keeper does not end.
        """
        if not self._home.is_dir():
            return False
        if (lock := _locked(self._home / "lock")) is None:
            while not (pid_read := (self._home / "lock").read_text()):  # it has just begun
                time.sleep(0.05)
            pid = int(pid_read)
            lock = self._ended(pid, signal.SIGTERM) or self._ended(pid, signal.SIGKILL)
            if lock is None:
                raise HarvestError(f"Process {pid} does not end.")
        with lock:
            if (self._home / _DOCKER).exists():  # if it was killed, it could not remove its containers
                Engine(self._folder).down()
            self.settings.unlink(missing_ok=True)
            shutil.rmtree(self._home)
        return True

    def _ended(self, pid: int, by: signal.Signals) -> IO[str] | None:
        """Send the keeper a signal; return the lock once it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, by)
        end = time.monotonic() + _ENDS_WITHIN
        while (lock := _locked(self._home / "lock")) is None and time.monotonic() < end:
            time.sleep(0.05)
        return lock


def _locked(path: Path) -> IO[str] | None:
    """Return the lock file, which this process then holds until it closes it; None if another process does."""
    while True:
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        # `stop` may have removed it meanwhile.
        if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
            return lock
        lock.close()
        path.parent.mkdir(mode=0o700, exist_ok=True)


def main() -> None:
    """Run the keeper until SIGTERM."""
    folder, documents, engine = sys.argv[1:]
    home = Path(folder) / _FOLDER
    end = time.monotonic() + _LOCKS_WITHIN
    while (lock := _locked(home / "lock")) is None:
        if time.monotonic() > end:
            _say(f"{_FAILED}Another `manage.py dev` is at work here.")
            sys.exit(1)
        time.sleep(0.05)
    lock.truncate(0)
    lock.write(f"{os.getpid()}")
    lock.flush()
    signal.signal(signal.SIGTERM, _end)
    settings = Path(folder) / SETTINGS
    docker = Engine(Path(folder)) if engine == _DOCKER else None
    if docker:
        (home / _DOCKER).touch()
    try:
        with site.started(documents, docker, _say) as running:
            site.write_settings(running.environment, settings)
            _write_state(home, documents, running, docker=docker is not None)
            _say(_READY)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _keep(running)
    except HarvestError as error:
        _say(f"{_FAILED}{plain.one_line(error)}")
        sys.exit(1)
    except (KeyboardInterrupt, BrokenPipeError):  # told to end; or nobody waits for the servers any more
        sys.exit(1)
    finally:
        settings.unlink(missing_ok=True)
        (home / "state.json").unlink(missing_ok=True)


def _end(_: int, __: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write_state(home: Path, documents: str, running: site.Site, *, docker: bool) -> None:
    servers = [
        Server(server.name, server.url, str(server.child.directory / "log") if server.child else None)
        for server in running.servers
    ]
    state = State(documents, docker, tuple(servers))
    (home / "new").write_text(json.dumps(dataclasses.asdict(state), indent=2))
    (home / "new").rename(home / "state.json")


def _keep(running: site.Site) -> None:
    while True:
        time.sleep(_LOOK_EVERY)
        for server in running.servers:
            if server.child:
                with contextlib.suppress(HarvestError):  # its port is taken; `manage.py dev status` shows it
                    server.child.revive()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
