"""The site that is broken: the servers of `devservers.site`, three workers, two beats, and proxies in between."""

import contextlib
import dataclasses
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import boto3
import redis
import requests
from celery import Celery
from kombu.exceptions import OperationalError

from chaos.schedule import AWS, BEATS, DOCUMENTS, OPENCAST, WORKERS
from devservers import site as servers
from devservers import stack
from devservers.proxy import Call, Proxy, Reply
from devservers.stack import Child
from uaharvest import assembly, aws
from uaharvest import settings as settings_
from uaharvest.redis_url import RedisUrl
from uaharvest.settings import ENV_FILE, Settings

TICK = 4  # seconds
LEASE = 2  # seconds; a tick and a lease have the same proportion as in production
LAG = 1  # seconds
ROWS_PER_SECOND = 20
HISTORY_SECONDS = 600
FLOOR_MINUTES = 1
COMMAND_SECONDS = 180  # for a busy machine; an idle one takes 2 s
MANAGE = "manage"
INDEX_SECONDS = 5.0  # how long a drain that chaos asks for may last


class Listener(Protocol):
    """Hears the calls of S3 and SQS, as `Proxy` tells them."""

    def drops(self, call: Call) -> bool:
        """Return whether the server must not get a call."""
        ...

    def called(self, call: Call, status: int, body: bytes, reply: Reply | None) -> None:
        """Note a call that the server has answered."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended: its exit code and all that it wrote."""

    code: int
    output: str


class Site:
    """The running site.

    Attributes:
        environment: The settings of all processes, with the proxies in place of the servers.
        settings: The same, as settings. In this process S3 and SQS are used without the proxy.
        opencast, aws, valkey: Server processes.
        cluster: The process of Elasticsearch; None with SQLite.
        proxies: By what is behind them.
        workers, beats: By name.
        history: Start and end of the span in the past that the backfill harvests.
    """

    def __init__(
        self, running: servers.Site, history: tuple[datetime, datetime], proxies: Mapping[str, Proxy]
    ) -> None:
        self.history = history
        self.proxies = proxies
        self.opencast, self.aws, self.valkey = (
            _child(running.opencast),
            _child(running.aws),
            _child(running.redis),
        )
        self.cluster = _child(running.documents[0]) if running.documents else None
        direct = {
            **running.environment,
            "HARVEST_EVERY_SECONDS": str(TICK),
            "HARVEST_LEASE_SECONDS": str(LEASE),
            "HARVEST_LAG_SECONDS": str(LAG),
            "HARVEST_BATCH_SIZE": "100",
            "SQS_EVENTS_PER_MESSAGE": "5",
            "DEFAULT_INTERVAL": str(FLOOR_MINUTES),
            "LOG_FORMAT": "console",
        }
        for name in ("MATTERHORN_ADMIN_HOST", *(name for name in direct if name.startswith("ZOOM_"))):
            del direct[name]
        self.environment = {
            **direct,
            "AWS_ENDPOINT_URL": proxies[AWS].url,
            "MATTERHORN_ENGAGE_HOST": proxies[OPENCAST].url,
            **({"ES_HOST": proxies[DOCUMENTS].url} if self.cluster else {}),
        }
        self.settings: Settings = settings_.load(self.environment)
        self.workers: dict[str, Child] = {}
        self.beats: dict[str, Child] = {}
        self._celery = Celery()
        self._celery.config_from_object("celeryconfig")
        broker = RedisUrl.parse(self.settings.redis_url).broker({})
        self._celery.conf.broker_url = broker.url
        self._celery.conf.broker_transport_options |= broker.transport_options
        self.redis: redis.Redis = redis.Redis.from_url(
            self.settings.redis_url, decode_responses=True, socket_timeout=30
        )

    def child(self, name: str) -> Child:
        """Return a process by the name that the schedule uses."""
        others = {OPENCAST: self.opencast, AWS: self.aws, DOCUMENTS: self.cluster, "Redis": self.valkey}
        child = self.workers.get(name) or self.beats.get(name) or others[name]
        assert child is not None, name
        return child

    def manage(self, *arguments: str) -> Done:
        """Run `manage.py`. One that hangs is ended, and its output then says where each of its threads was."""
        environment = {**os.environ, **self.environment, "AWS_ACCESS_KEY_ID": MANAGE, "PYTHONFAULTHANDLER": "1"}
        command = [sys.executable, str(stack.ROOT / "manage.py"), *arguments]
        with subprocess.Popen(
            command,
            cwd=self.valkey.directory,  # no .env is there
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                output, _ = process.communicate()
        return Done(process.returncode, output)

    def index(self) -> None:
        """Ask the workers to index what is in the queue; a broker that is down hears nothing."""
        with contextlib.suppress(redis.RedisError, OperationalError, OSError):
            self._celery.send_task(
                "index.drain", kwargs={"seconds": INDEX_SECONDS}, queue="index", retry=False, expires=INDEX_SECONDS
            )

    def tick(self) -> None:
        """Ask the workers to advance the stream, as beat does."""
        with contextlib.suppress(redis.RedisError, OperationalError, OSError):
            self._celery.send_task("useractions.advance", queue="control", retry=False)

    def simulate(self, path: str, body: object = None, *, timeout: float = 20) -> Any:
        """Talk to the simulator's /_sim/ interface.

        Raises:
            requests.RequestException: It does not answer.
        """
        answer = requests.request(
            "GET" if body is None else "POST", f"{self.opencast.url}/_sim/{path}", json=body, timeout=timeout
        )
        answer.raise_for_status()
        return answer.json()

    def truth(self, start: datetime, end: datetime) -> set[int]:
        """Return the ids of the rows that Opencast has in [start, end)."""
        return set(self.simulate(f"truth?start={start.timestamp()}&end={end.timestamp()}")["ids"])

    def close(self) -> None:
        """Close connections."""
        self._celery.close()
        self.redis.close()


def pool_children(worker: Child) -> list[int]:
    """Return the ids of a worker's pool processes."""
    try:
        return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    except OSError:
        return []


def freeze(child: Child) -> int:
    """Let a process group stand still; return its id."""
    group = child.pid
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGSTOP)
    return group


def thaw(group: int) -> None:
    """Let a process group go on, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGCONT)


def snapshot(valkey: Child, to: Path) -> None:
    """Copy the data of a Valkey with AOF, of one instant."""
    group = freeze(valkey)
    try:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(valkey.directory / "data", to)
    finally:
        thaw(group)


def restore(valkey: Child, snapshot_: Path) -> None:
    """Put a snapshot in place of the data of a Valkey that does not run."""
    valkey.forget()
    shutil.copytree(snapshot_, valkey.directory / "data")


@contextlib.contextmanager
def site(documents: str, rows: int, observer: Listener, say: Callable[[str], None]) -> Iterator[Site]:
    """Start everything; it ends with the block.

    Args:
        documents: As in `devservers.site.started`.
        rows: How many rows the history has.
        observer: Hears the calls of S3 and SQS.
        say: Called with a line for what takes long.

    Raises:
        HarvestError: A process does not start.
    """
    day = (datetime.now(UTC) - timedelta(days=2)).date()
    until = datetime.combine(day, dt.time(12, 10), UTC)
    history = (until - timedelta(seconds=HISTORY_SECONDS), until)
    options = {
        "rows": rows,
        "span-seconds": HISTORY_SECONDS,
        "until": until.isoformat(),
        "live-rate": ROWS_PER_SECOND,
        "episodes": 40,
    }
    with contextlib.ExitStack() as resources:
        running = resources.enter_context(servers.started(documents, None, say, opencast_options=options))
        behind = {AWS: running.aws.url, OPENCAST: running.opencast.url}
        if running.documents:
            behind[DOCUMENTS] = running.documents[0].url
        proxies = {
            name: resources.enter_context(
                Proxy(url, passed=observer.called, drops=observer.drops)
                if name == AWS
                else Proxy(url, passed=_ignore)
            )
            for name, url in behind.items()
        }
        resources.enter_context(_own_environment(stack.aws_variables_at(running.aws.url)))
        made = Site(running, history, proxies)
        resources.callback(made.close)
        boto3.client("s3").create_bucket(Bucket=servers.BUCKET)
        if made.cluster:
            made.manage("setup", "index-templates")
        for name in WORKERS:
            made.workers[name] = _worker(name, made.environment)
            resources.enter_context(made.workers[name])
            resources.callback(made.workers[name].kill)  # nobody waits for it to shut down softly
        for name in BEATS:
            made.beats[name] = stack.celery("beat", "-s", name, environment=made.environment)
            resources.enter_context(made.beats[name])
        resources.enter_context(stack.supervised(*made.workers.values(), *made.beats.values()))
        yield made


def _ignore(call: Call, status: int, body: bytes, reply: Reply | None) -> None:
    pass


def _worker(name: str, environment: Mapping[str, str]) -> Child:
    # Each request contains its access key, so the proxy knows who sends it.
    return stack.celery(
        *("worker", "--concurrency", "1", "--hostname", f"{name}@chaos", "--without-gossip", "--without-mingle"),
        environment={**environment, "AWS_ACCESS_KEY_ID": name},
    )


@contextlib.contextmanager
def _own_environment(aws_variables: Mapping[str, str]) -> Iterator[None]:
    """Let boto3 in this process use the site's S3 and SQS, and nothing affect the site, until the block ends."""
    before = dict(os.environ)
    variables = {name for name in before if name.startswith(("AWS_", "CELERY_"))}
    variables |= {field.metadata["variable"] for field in dataclasses.fields(Settings)}
    for name in variables:
        os.environ.pop(name, None)
    os.environ |= {**aws_variables, ENV_FILE: os.devnull}
    _forget()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
        _forget()


def _forget() -> None:
    """Forget what this process has made of its environment: settings and clients that lead to other servers."""
    settings_.current.cache_clear()
    aws.s3_client.cache_clear()
    aws.sqs_client.cache_clear()


def _child(server: servers.Server) -> Child:
    assert server.child is not None  # containers only with an engine
    return server.child


def document_ids(settings: Settings) -> frozenset[int]:
    """Return the ids of all useractions in the documents."""
    store = assembly.document_store(settings)
    return frozenset(int(document["action_id"]) for document in store.select("useractions-*"))
