"""Puts the parts together as the settings say: the one place that knows all of them."""

import dataclasses
import hashlib
import sys
from datetime import timedelta
from pathlib import Path

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from uaharvest import aws
from uaharvest.dead_letters import DeadLetters
from uaharvest.documents.indices import index_name
from uaharvest.errors import BadInputError
from uaharvest.geolite import GeoLite, nowhere
from uaharvest.indexer import STREAM, THREADS, Board, Indexer
from uaharvest.opencast.cache import EpisodeCache, fetch_from
from uaharvest.opencast.client import ADMIN_HOST, ENGAGE_HOST, Opencast
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.profile import found_profile
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.stock import DaySource
from uaharvest.runs.days import DAY
from uaharvest.runs.engine import Engine, Hints
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.watermark import WatermarkStore
from uaharvest.settings import Settings
from uaharvest.sinks import Sink, elasticsearch
from uaharvest.sinks.documents import DocumentSink, DocumentStore
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.sinks.sqs import SqsSink
from uaharvest.sinks.stdout import StdoutSink, StdoutStore
from uaharvest.streams.episodes import CHUNK, FETCHES_AT_ONCE, Chosen, Episodes
from uaharvest.streams.stock import StockUseractions
from uaharvest.streams.useractions import Useractions
from uaharvest.streams.zoom import PATIENCE, Meetings
from uaharvest.zoom.auth import Gateway, Login, ServerToServer, SignedJwt
from uaharvest.zoom.client import Zoom
from uaharvest.zoom.quota import Quota

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


def streams(settings: Settings) -> list[str]:
    """Return the names of the streams that this site harvests."""
    chosen = {Episodes.name: settings.episodes, Meetings.name: settings.zoom}
    return [Useractions.name, *(name for name, wanted in chosen.items() if wanted)]


def watermark_key(settings: Settings, stream: str) -> str:
    """Return the S3 key of a stream's watermark."""
    return {
        Useractions.name: settings.watermark_key,
        Episodes.name: settings.episodes_key,
        Meetings.name: settings.zoom_watermark_key,
    }[stream]


def watermarks(settings: Settings, stream: str = Useractions.name) -> WatermarkStore:
    """Return the watermark of a stream."""
    settings.require("bucket")
    key = watermark_key(settings, stream)
    return WatermarkStore(aws.s3_client(), settings.bucket or "", key, settings.opencast_zone)


def ledger(settings: Settings, client: "redis.Redis | None" = None, *, stream: str = Useractions.name) -> Ledger:
    """Return the ledger of a stream."""
    return Ledger(client or redis_client(settings), stream, lease=settings.lease)


def engine(stream: str, settings: Settings, hints: Hints) -> Engine:
    """Return the engine of a stream; raises as `useractions`, `episodes` and `meetings` do."""
    made = {Useractions.name: useractions, Episodes.name: episodes, Meetings.name: meetings}[stream]
    return made(settings, hints)


def useractions(settings: Settings, hints: Hints) -> Engine:
    """Return the engine of the useractions.

    Raises:
        BadInputError: A setting that it needs is not set.
        BlockedError, SourceError: Opencast, which must be asked for its profile, refuses or does not answer.
    """
    settings.require("engage_url", "queue")
    client = redis_client(settings)
    opencast = _opencast(settings, settings.engage_url, SENDERS, ENGAGE_HOST)
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


def _opencast(settings: Settings, url: str | None, pool_size: int, host: str) -> Opencast:
    return Opencast(
        url or "",
        settings.opencast_user,
        settings.opencast_password,
        basic=settings.opencast_auth == "basic",
        pool_size=pool_size,
        host=host,
    )


def episodes(
    settings: Settings,
    hints: Hints,
    *,
    index: str | None = None,
    ready_after: timedelta | None = None,
    chosen: Chosen | None = None,
) -> Engine:
    """Return the engine of the episodes.

    Args:
        settings: Where from and where to.
        hints: How workers are told.
        index: Where the episodes go; None: `episodes`, with INDEX_INFIX.
        ready_after: How long after its end a day can be harvested; None: at EPISODES_AT.
        chosen: What the runs that are opened here are about; None: a day.

    Raises:
        BadInputError: A setting that it needs is not set.
    """
    settings.require("engage_url", "admin_url")
    store = document_store(settings)
    # A window is a day, of which no span is too long.
    settings = dataclasses.replace(settings, max_window=int(DAY.total_seconds()), max_span=None, batch_size=CHUNK)
    client = redis_client(settings)
    engage = _opencast(settings, settings.engage_url, FETCHES_AT_ONCE, ENGAGE_HOST)
    admin = _opencast(settings, settings.admin_url, FETCHES_AT_ONCE, ADMIN_HOST)
    index = index or index_name("episodes", None, settings)
    letters = dead_letters(settings)
    stream = Episodes(
        engage,
        admin,
        store,
        letters,
        settings,
        pace=Pace(client, f"{engage.base_url} episodes"),
        index=index,
        ready_after=settings.episodes_at if ready_after is None else ready_after,
        chosen=chosen,
    )
    return Engine(
        stream,
        ledger=ledger(settings, client, stream=Episodes.name),
        watermarks=watermarks(settings, Episodes.name) if settings.bucket else None,
        letters=letters,
        hints=hints,
        settings=settings,
        destination=f"{settings.engage_url} {settings.documents_url or settings.es_url} {index}",
    )


def meetings(
    settings: Settings,
    hints: Hints,
    *,
    stdout: bool = False,
    ready_after: timedelta | None = None,
    patience: float = PATIENCE,
) -> Engine:
    """Return the engine of the Zoom meetings.

    Args:
        settings: Where from and where to.
        hints: How workers are told.
        stdout: Print the documents in place of keeping them.
        ready_after: How long after its end a day can be harvested; None: at ZOOM_AT.
        patience: Longest time to wait for the next page of a list, seconds.

    Raises:
        BadInputError: A setting that it needs is not set, or GEOLITE_PATH cannot be used.
    """
    store: DocumentSink = StdoutStore(sys.stdout) if stdout else document_store(settings)
    # A window is a day, of which no span is too long.
    settings = dataclasses.replace(settings, max_window=int(DAY.total_seconds()), max_span=None)
    client = redis_client(settings)
    letters = dead_letters(settings)
    stream = Meetings(
        zoom_client(settings, client),
        store,
        letters,
        settings,
        client=client,
        locate=GeoLite(settings.geolite).locate if settings.geolite else nowhere,
        ready_after=settings.zoom_at if ready_after is None else ready_after,
        patience=patience,
    )
    return Engine(
        stream,
        ledger=ledger(settings, client, stream=Meetings.name),
        watermarks=watermarks(settings, Meetings.name) if settings.bucket else None,
        letters=letters,
        hints=hints,
        settings=settings,
        destination=f"{_zoom_account(settings)} {settings.documents_url or settings.es_url} {settings.index_infix}",
    )


def zoom_client(settings: Settings, client: "redis.Redis") -> Zoom:
    """Return the client of Zoom.

    Raises:
        BadInputError: The settings say not, or not clearly, who asks.
    """
    return Zoom(
        client,
        settings.zoom_api_url,
        _zoom_login(settings, client),
        zoom_quota(settings, client),
        account=_zoom_account(settings),
        header=settings.zoom_header,
        pool_size=SENDERS,
    )


def zoom_quota(settings: Settings, client: "redis.Redis") -> Quota:
    """Return what is left of Zoom's quotas."""
    return Quota(client, _zoom_account(settings), settings.zoom_plan, share=settings.zoom_quota_share)


def _zoom_login(settings: Settings, client: "redis.Redis") -> Login:
    if settings.zoom_key is None and settings.zoom_secret is None and settings.zoom_account_id is None:
        if settings.zoom_header is None:
            settings.require("zoom_account_id", "zoom_key", "zoom_secret")
        return Gateway()
    settings.require("zoom_key", "zoom_secret")
    if settings.zoom_header is not None and settings.zoom_header[0].lower() == "authorization":
        raise BadInputError(
            "ZOOM_HEADER is Authorization: unset it, or ZOOM_ACCOUNT_ID, ZOOM_KEY and ZOOM_SECRET."
        )
    key, secret = settings.zoom_key or "", settings.zoom_secret or ""
    if settings.zoom_account_id is None:
        return SignedJwt(key, secret)
    return ServerToServer(
        client,
        settings.zoom_token_url,
        account_id=settings.zoom_account_id,
        key=key,
        secret=secret,
        place=_zoom_account(settings),
    )


def _zoom_account(settings: Settings) -> str:
    """Return what names the account in Redis: calls are counted per account."""
    account = settings.zoom_account_id or settings.zoom_key or ""
    return hashlib.sha256(f"{settings.zoom_api_url} {account}".encode()).hexdigest()[:12]


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
