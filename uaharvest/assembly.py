"""Builds the parts that streams share, from the settings; `streams/engines/` has what belongs to one stream."""

import contextlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from uaharvest import aws, keys, tombstones
from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import BadInputError
from uaharvest.indexer import STREAM, THREADS, Indexer, IndexerState
from uaharvest.privacy import site as privacy
from uaharvest.redis_url import BoundedRetry, RedisUrl
from uaharvest.runs.backfills import Backfills
from uaharvest.runs.delivered import digest
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.losses import Losses, QueueFacts, lost_queue
from uaharvest.runs.state import StreamState
from uaharvest.runs.watermark import Deployment, WatermarkStore
from uaharvest.s3_object import S3Object
from uaharvest.settings import STDOUT, Settings
from uaharvest.sinks.documents import DocumentStore
from uaharvest.sinks.records import RecordsToDocuments
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.sinks.sqs import Queue, SqsSink
from uaharvest.streams import registry
from uaharvest.streams.spec import documents_at
from uaharvest.streams.specs import useractions

# What takes time to import, and what most commands do not need, is imported where it is used.
if TYPE_CHECKING:
    from uaharvest.alerts import Alerts
    from uaharvest.importing.importer import Importer
    from uaharvest.opencast.client import Opencast
    from uaharvest.runs.engine import Engine, Hints
    from uaharvest.runs.stream import K, R, S, Stream

# Threads that send to SQS, and connections to Opencast, per worker process.
SENDERS = 4
USERACTIONS = useractions.SPEC.name
ALERTS = "alerts"
AUDIT = "audit"
RETENTION = "retention"
BACKFILL = "backfill"
DESTINATIONS = ("documents", "queue")  # of useractions
# Destinations in the keys of what concerns all streams of a deployment and has no source of its own; "": the documents.
_OF_ALL = {ALERTS: "a person", RETENTION: "nothing", BACKFILL: "history", AUDIT: ""}
_LOGIN = re.compile(r"//[^/@]*@")  # in a URL


def redis_client(settings: Settings, *, patient: bool = True) -> "redis.Redis":
    """Return a client that decodes responses; a `patient` one survives 5 s without an answer or a connection."""
    return RedisUrl.parse(settings.redis_url).client(
        decode_responses=True,
        # A server that hangs is waited for once a call, because 8 s are longer than the retries last. So a task or
        # command that makes a few more calls on its way out ends within a minute, and a worker that cannot renew a
        # lease tries twice more before the lease ends.
        socket_timeout=8 if patient else 3,
        socket_connect_timeout=3,
        socket_keepalive=True,
        health_check_interval=30,
        retry=BoundedRetry(within=5.0 if patient else 0.0),
    )


def dead_letters(settings: Settings) -> DeadLetters:
    """Return the dead letters of all streams."""
    return DeadLetters(
        aws.s3_client(), settings.bucket, settings.dead_letter_prefix, encryption=settings.dead_letter_sse
    )


def streams(settings: Settings) -> list[str]:
    """Return the names of the streams that this site harvests."""
    return [spec.name for spec in registry.enabled(settings)]


def watermark_key(settings: Settings, stream: str) -> str:
    """Return the S3 key of a stream's watermark."""
    return registry.spec_of(stream).watermark_key(settings)


def watermarks(settings: Settings, stream: str = USERACTIONS) -> WatermarkStore:
    """Return the watermark of a stream."""
    settings.require("bucket")
    return WatermarkStore(
        aws.s3_client(),
        settings.bucket or "",
        watermark_key(settings, stream),
        settings.opencast_zone,
        deployment=deployment(settings, stream),
        prove=True,
    )


def harvested_until(settings: Settings, stream: str | None) -> datetime | None:
    """Return the watermark of a stream; None if there is none, or if `stream` is None."""
    stored = watermarks(settings, stream).read() if settings.bucket and stream else None
    return stored.mark.at if stored else None


def deployment(settings: Settings, stream: str = USERACTIONS) -> Deployment:
    """Return a stream's source and destination, to which its watermark and its keys in Redis belong."""
    source: str | None
    destination: str | None
    if stream.startswith(f"{BACKFILL}-"):
        return deployment(settings, stream.removeprefix(f"{BACKFILL}-"))
    if stream in _OF_ALL:
        source = " ".join(place(settings, name) for name in streams(settings))
        destination = _OF_ALL[stream] or documents_at(settings)
    elif stream == STREAM:  # the indexer has no runs, but its state belongs to a deployment too
        source, destination = f"{settings.queue}", documents_at(settings)
    else:
        spec = registry.spec_of(stream)
        source, destination = spec.source(settings), spec.destination(settings)
    if source is None or destination is None:
        return Deployment()
    text = _LOGIN.sub("//", f"{stream} of {source} to {destination}")
    return Deployment(digest(f"{stream} {source} {destination}"), text)


def backfills_of(stream: str) -> str:
    """Return the name under which the backfills of a stream keep their ledger and state in Redis."""
    return f"{BACKFILL}-{stream}"


def backfills(settings: Settings, stream: str) -> Backfills:
    """Return the backfills of a stream, which are stored in S3.

    Raises:
        BadInputError: No bucket is set.
    """
    settings.require("bucket")
    key = f"backfills/{place(settings, stream).replace(':', '-')}.json"
    stored = S3Object(
        aws.s3_client(), settings.bucket or "", key, what="list of backfills", longest=1_000_000, prove=True
    )
    return Backfills(stored)


def ledger(settings: Settings, client: "redis.Redis | None" = None, *, stream: str = USERACTIONS) -> Ledger:
    """Return the ledger of a stream."""
    digest_ = deployment(settings, stream).digest
    return Ledger(client or redis_client(settings), stream, lease=settings.lease, deployment=digest_)


def place(settings: Settings, stream: str = USERACTIONS) -> str:
    """Return the part of Redis keys that names a stream and its deployment."""
    return keys.place(stream, deployment(settings, stream).digest)


def losses(settings: Settings, client: "redis.Redis | None" = None, *, stream: str = USERACTIONS) -> Losses:
    """Return the record of what a stream has lost outside the harvest."""
    return Losses(client or redis_client(settings), place(settings, stream))


def state(settings: Settings, client: "redis.Redis | None" = None, *, stream: str = USERACTIONS) -> StreamState:
    """Return the state of a stream: failures, ticks and history."""
    return StreamState(client or redis_client(settings), place(settings, stream))


def engine(stream: str, settings: Settings, hints: "Hints") -> "Engine":
    """Return a stream's engine by the stream's name; raises the errors of its spec's `build`."""
    return registry.spec_of(stream).build(settings, hints)


def engine_of(
    stream: "Stream[S, K, R]",
    settings: Settings,
    hints: "Hints",
    *,
    client: "redis.Redis",
    dead_letters: DeadLetters,
    destination: str,
    source: str,
    again: Callable[[datetime, datetime], str] | None = None,
    site: Settings | None = None,
) -> "Engine":
    """Return the engine for `stream`, which must be registered, with its ledger and watermark.

    Args:
        stream: What to harvest.
        settings: Source and destination.
        hints: How workers are notified.
        client: Redis client.
        dead_letters: Where slices go that keep failing.
        destination: Source and destination, as text; see `Engine`.
        source: The name of the source in error messages.
        again: Returns the command that harvests between two instants; see `Engine`.
        site: The settings whose watermark and ledger are used, if options have changed `settings`.
    """
    from uaharvest.runs.engine import Engine  # noqa: PLC0415

    return Engine(
        stream,
        client=client,
        ledger=ledger(site or settings, client, stream=stream.name),
        watermarks=watermarks(site or settings, stream.name) if settings.bucket else None,
        dead_letters=dead_letters,
        hints=hints,
        settings=settings,
        policy=registry.spec_of(stream.name).policy(settings),
        destination=destination,
        source=source,
        again=again,
    )


def opencast_client(settings: Settings, url: str | None, pool_size: int, host: str) -> "Opencast":
    """Return a client for one of Opencast's hosts.

    Args:
        settings: Provide the login.
        url: The host's URL.
        pool_size: Maximum number of connections.
        host: The setting that names the host, for error messages.
    """
    from uaharvest.opencast.client import Opencast  # noqa: PLC0415

    return Opencast(
        url or "",
        settings.opencast_user,
        settings.opencast_password,
        basic=settings.opencast_auth == "basic",
        pool_size=pool_size,
        host=host,
    )


def sqs_sink(settings: Settings, lost: Losses | None = None) -> SqsSink:
    """Return a sink for the queue SQS_QUEUE_NAME; if the queue was recreated, this is recorded in `lost`."""
    return SqsSink(
        aws.sqs_client(SENDERS),
        settings.queue or "",
        events_per_message=settings.events_per_message,
        threads=SENDERS,
        found=partial(_found_queue, settings, lost) if lost else lambda _: None,
    )


def _found_queue(settings: Settings, lost: Losses, queue: Queue) -> None:
    name = settings.queue or ""
    if queue.created is None:
        return
    # If Redis is down, it still remembers the former queue, so the next look will notice.
    with contextlib.suppress(redis.RedisError):
        former = lost.found_queue(QueueFacts(name=name, created=queue.created, retention=queue.retention))
        if former is None:
            return
        margin = timedelta(seconds=settings.lag + settings.overlap)
        from uaharvest.runs.engine import enqueue_command  # noqa: PLC0415

        start, end = lost_queue(former, queue.created, margin)
        again = enqueue_command(USERACTIONS, start, end, longest=settings.max_span)
        lost.add(
            f"queue {queue.created:%FT%TZ}",
            f"SQS queue {name} was created again at {queue.created:%F %T} UTC. What was still in the former one is"
            f" gone: at most what was sent since {start + margin:%F %T} UTC. Harvest it again: `{again}`; then"
            " `manage.py watermark confirm`.",
        )


def document_store(settings: Settings) -> DocumentStore:
    """Return the document store: DOCUMENTS_URL if set, otherwise ES_HOST.

    Raises:
        BadInputError: Neither is set, or the settings ES_* conflict.
    """
    if settings.documents_url:
        return SqliteStore(Path(settings.documents_url.removeprefix("sqlite:///")))
    from uaharvest.sinks.cluster import connection, store  # noqa: PLC0415

    return store.ClusterStore(connection.connect(settings))


def alerts(settings: Settings, client: "redis.Redis") -> "Alerts":
    """Return the alerts of this deployment, with the receivers that the settings name."""
    from uaharvest.alerts import Alerts, to_command, to_webhook  # noqa: PLC0415

    receivers = {}
    if settings.alert_command:
        receivers["command"] = to_command(settings.alert_command)
    if settings.alert_webhook:
        receivers["webhook"] = to_webhook(settings.alert_webhook)
    return Alerts(client, place(settings, ALERTS), receivers)


def indexer_state(settings: Settings, client: "redis.Redis | None" = None) -> IndexerState:
    """Return the shared state of the indexers."""
    return IndexerState(client or redis_client(settings), place(settings, STREAM))


def indexer(settings: Settings) -> Indexer:
    """Return the indexer, which moves useractions from the queue to the document store.

    Raises:
        BadInputError: A required setting is missing, or GEOLITE_PATH is unusable.
    """
    _require_queue(settings)
    return Indexer(
        aws.sqs_client(THREADS),
        document_store(settings),
        dead_letters=dead_letters(settings),
        shared=indexer_state(settings),
        locate=privacy.locate_stored(settings),
        protection=privacy.protection(settings, tombstones.erased(settings)),
        settings=settings,
    )


def records_to_documents(settings: Settings) -> RecordsToDocuments:
    """Return a sink that stores records as the documents that the indexer makes of them.

    Raises:
        BadInputError: A required setting is missing, or GEOLITE_PATH is unusable.
    """
    return RecordsToDocuments(document_store(settings), privacy.locate_stored(settings), settings.index_infix)


def importer(settings: Settings, to: str) -> "Importer":
    """Return what imports files.

    Args:
        settings: The destination, and the bucket of positions and dead letters.
        to: One of DESTINATIONS.

    Raises:
        BadInputError: A required setting is missing, or GEOLITE_PATH is unusable.
    """
    from uaharvest.importing.importer import Importer, ToDocuments, ToQueue  # noqa: PLC0415
    from uaharvest.importing.positions import Positions  # noqa: PLC0415

    settings.require("bucket")
    destination: ToDocuments | ToQueue
    if to == "queue":
        _require_queue(settings)
        destination, where = ToQueue(sqs_sink(settings)), f"queue {settings.queue}"
    else:
        destination = ToDocuments(document_store(settings), privacy.locate_stored(settings), settings.index_infix)
        where = _LOGIN.sub("//", documents_at(settings))
    return Importer(
        destination,
        label=to,
        dead_letters=dead_letters(settings),
        positions=Positions(aws.s3_client(), settings.bucket or "", where),
        zone=settings.opencast_zone,
        protection=privacy.protection(settings, tombstones.erased(settings)),
    )


def _require_queue(settings: Settings) -> None:
    settings.require("queue")
    if settings.queue == STDOUT:
        raise BadInputError('SQS_QUEUE_NAME is "-": there is no queue.')
