"""Puts the parts together as the settings say: the one place that knows all of them."""

import sys

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from uaharvest import aws
from uaharvest.dead_letters import DeadLetters
from uaharvest.opencast.cache import EpisodeCache, fetch_from
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.profile import found_profile
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.stock import DaySource
from uaharvest.runs.engine import Engine, Hints
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.watermark import WatermarkStore
from uaharvest.settings import Settings
from uaharvest.sinks import Sink
from uaharvest.sinks.sqs import SqsSink
from uaharvest.sinks.stdout import StdoutSink
from uaharvest.streams.stock import StockUseractions
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
        BlockedError, SourceError: Opencast, which must be asked for its profile, refuses or does not answer.
    """
    settings.require("engage_url", "queue")
    client = redis_client(settings)
    opencast = Opencast(
        settings.engage_url or "",
        settings.opencast_user,
        settings.opencast_password,
        basic=settings.opencast_auth == "basic",
        pool_size=SENDERS,
    )
    letters = dead_letters(settings)
    pace = Pace(client, opencast.base_url)
    episodes = EpisodeCache(client, fetch_from(opencast), settings.episode_cache_expire, opencast.base_url)
    destination = f"{settings.engage_url} {settings.queue}"
    auto = settings.opencast_profile == "auto"
    stream: Useractions
    if settings.database_url:
        # SQLAlchemy takes 0.2 s and 15 MB of every process, and most sites have no use for it.
        from uaharvest.opencast.sql import SqlSource, connect  # noqa: PLC0415

        # The same ids and times as by `start` and `end`, so the same known ids.
        rows = SqlSource(connect(settings.database_url), settings.opencast_zone, pace, opencast)
        stream = Useractions(rows, episodes, sink(settings), letters, settings)
    elif (found_profile(client, opencast) if auto else settings.opencast_profile) == "stock":
        source = DaySource(opencast, settings.opencast_zone, pace)
        stream = StockUseractions(source, episodes, sink(settings), letters, settings)
        destination += " stock"  # known ids are kept in another way
    else:
        ranges = ActionsSource(opencast, settings.opencast_zone, pace)
        stream = Useractions(ranges, episodes, sink(settings), letters, settings)
    return Engine(
        stream,
        ledger=ledger(settings, client),
        watermarks=watermarks(settings) if settings.bucket else None,
        letters=letters,
        hints=hints,
        settings=settings,
        destination=destination,
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
