"""Puts the parts together as the settings say: the one place that knows all of them."""

import sys
from pathlib import Path

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from uaharvest import aws
from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import BadInputError
from uaharvest.geolite import GeoLite, nowhere
from uaharvest.indexer import STREAM, THREADS, Board, Indexer
from uaharvest.opencast.cache import EpisodeCache, fetch_from
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.source import ActionsSource
from uaharvest.runs.engine import Engine, Hints
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.watermark import WatermarkStore
from uaharvest.settings import Settings
from uaharvest.sinks import Sink, elasticsearch
from uaharvest.sinks.documents import DocumentStore
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.sinks.sqs import SqsSink
from uaharvest.sinks.stdout import StdoutSink
from uaharvest.streams.useractions import Useractions

# Threads that send to SQS, and connections to Opencast, of one worker process.
SENDERS = 4
STDOUT = "-"


def redis_client(settings: Settings) -> "redis.Redis":
    """Return a client that decodes, and rides out a short break of the connection (about 3 s)."""
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_timeout=10,
        socket_connect_timeout=3,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.1), 5),
    )


def dead_letters(settings: Settings) -> DeadLetters:
    """Return the dead letters of all streams."""
    return DeadLetters(aws.s3_client(), settings.bucket, settings.dead_letter_prefix)


def watermarks(settings: Settings) -> WatermarkStore:
    """Return the watermark of the useractions."""
    settings.require("bucket")
    return WatermarkStore(aws.s3_client(), settings.bucket or "", settings.watermark_key, settings.opencast_zone)


def ledger(settings: Settings, client: "redis.Redis | None" = None) -> Ledger:
    """Return the ledger of the useractions."""
    return Ledger(client or redis_client(settings), Useractions.name, lease=settings.lease)


def useractions(settings: Settings, hints: Hints) -> Engine:
    """Return the engine of the useractions.

    Raises:
        BadInputError: A setting that it needs is not set.
    """
    settings.require("engage_url", "queue")
    client = redis_client(settings)
    opencast = Opencast(
        settings.engage_url or "", settings.opencast_user, settings.opencast_password, pool_size=SENDERS
    )
    letters = dead_letters(settings)
    stream = Useractions(
        ActionsSource(opencast, settings.opencast_zone, Pace(client, opencast.base_url)),
        EpisodeCache(client, fetch_from(opencast), settings.episode_cache_expire, opencast.base_url),
        sink(settings),
        letters,
        settings,
    )
    return Engine(
        stream,
        ledger=ledger(settings, client),
        watermarks=watermarks(settings) if settings.bucket else None,
        letters=letters,
        hints=hints,
        settings=settings,
        destination=f"{settings.engage_url} {settings.queue}",
    )


def sink(settings: Settings) -> Sink:
    """Return where the useractions go."""
    if settings.queue == STDOUT:
        return StdoutSink(sys.stdout)
    return sqs_sink(settings)


def sqs_sink(settings: Settings) -> SqsSink:
    """Return the queue SQS_QUEUE_NAME."""
    return SqsSink(
        aws.sqs_client(SENDERS),
        settings.queue or "",
        events_per_message=settings.events_per_message,
        threads=SENDERS,
    )


def document_store(settings: Settings) -> DocumentStore:
    """Return where documents are kept: DOCUMENTS_URL, else ES_HOST.

    Raises:
        BadInputError: Neither is set, or the settings of Elasticsearch do not go together.
    """
    if settings.documents_url:
        return SqliteStore(Path(settings.documents_url.removeprefix("sqlite:///")))
    return elasticsearch.ElasticsearchStore(elasticsearch.connect(settings))


def board(settings: Settings, client: "redis.Redis | None" = None) -> Board:
    """Return what is remembered of the indexers."""
    return Board(Ledger(client or redis_client(settings), STREAM, lease=settings.lease))


def indexer(settings: Settings) -> Indexer:
    """Return what takes the useractions from the queue to the document store.

    Raises:
        BadInputError: A setting that it needs is not set, or GEOLITE_PATH cannot be used.
    """
    settings.require("queue")
    if settings.queue == STDOUT:
        raise BadInputError('SQS_QUEUE_NAME is "-": there is no queue to index from.')
    return Indexer(
        aws.sqs_client(THREADS),
        document_store(settings),
        letters=dead_letters(settings),
        board=board(settings),
        locate=GeoLite(settings.geolite).locate if settings.geolite else nowhere,
        settings=settings,
    )
