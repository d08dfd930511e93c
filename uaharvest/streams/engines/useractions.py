"""Builds the engine of the useractions."""

import sys
from typing import TYPE_CHECKING

import redis

from uaharvest import assembly, tombstones
from uaharvest.opencast.cache import EpisodeCache, fetch_from
from uaharvest.opencast.client import ENGAGE_HOST, Opencast
from uaharvest.opencast.profile import found_profile
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.stock import DaySource
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.engine import Engine, Hints
from uaharvest.runs.losses import Losses
from uaharvest.runs.stream import K, R, S, Stream
from uaharvest.settings import STDOUT, Settings
from uaharvest.sinks import Sink
from uaharvest.sinks.stdout import StdoutSink
from uaharvest.streams.spec import documents_at
from uaharvest.streams.stock import StockUseractions
from uaharvest.streams.useractions import Useractions

if TYPE_CHECKING:
    from uaharvest.opencast.sql import SqlSource


def useractions_engine(
    settings: Settings, hints: Hints, *, site: Settings | None = None, target: Sink | None = None
) -> Engine:
    """Return the engine of the useractions.

    Args:
        settings: Source and destination.
        hints: Sends hints to the workers.
        site: Settings of the site, whose watermark and ledger are used if options changed `settings`.
        target: Receives the records in place of the queue: the documents.

    Raises:
        BadInputError: A required setting is missing.
        BlockedError, SourceError: The profile must be detected, but Opencast refuses or does not answer.
    """
    settings.require("engage_url", *(["queue"] if target is None else []))
    client = assembly.redis_client(settings)
    opencast = assembly.opencast_client(settings, settings.engage_url, assembly.SENDERS, ENGAGE_HOST)
    dead_letters = assembly.dead_letters(settings)
    episodes = EpisodeCache(client, fetch_from(opencast), settings.episode_cache_expire, opencast.base_url)
    destination = f"{settings.engage_url} {documents_at(settings) if target else settings.queue}"
    # Losses are recorded only for the site's own queue.
    same = site is None or site.queue == settings.queue
    if target is None:
        losses = assembly.losses(site or settings, client)
        target = sink(settings, losses) if same or settings.queue == STDOUT else assembly.sqs_sink(settings)

    erased = tombstones.erased(settings)

    def engine_of(stream: Stream[S, K, R], destination: str) -> Engine:
        return assembly.engine_of(
            stream,
            settings,
            hints,
            client=client,
            dead_letters=dead_letters,
            destination=destination,
            source="Opencast's database (OPENCAST_DATABASE_URL)"
            if settings.database_url
            else f"Opencast at {settings.engage_url} ({ENGAGE_HOST})",
            site=site,
        )

    source = actions_source(settings, client, opencast)
    if isinstance(source, DaySource):
        # Known ids have a different format, so they need a key of their own.
        stock = StockUseractions(source, episodes, target, dead_letters, settings, erased=erased)
        return engine_of(stock, f"{destination} stock")
    # Ids and times are the same in the database and with `start` and `end`, so the known ids are shared.
    return engine_of(Useractions(source, episodes, target, dead_letters, settings, erased=erased), destination)


def actions_source(
    settings: Settings, client: "redis.Redis", opencast: Opencast
) -> "SqlSource | ActionsSource | DaySource":
    """Return the source of useractions: the database if there is one, else Opencast's REST by its profile.

    Raises:
        BlockedError, SourceError: The profile must be detected, but Opencast refuses or does not answer.
    """
    throttle = Throttle(client, opencast.base_url)
    if settings.database_url:
        # Importing SQLAlchemy costs each process 0.2 s and 15 MB, and most sites do not need it.
        from uaharvest.opencast.sql import SqlSource, connect  # noqa: PLC0415

        return SqlSource(connect(settings.database_url), settings.opencast_zone, throttle, opencast)
    profile = settings.opencast_profile
    if (found_profile(client, opencast) if profile == "auto" else profile) == "stock":
        return DaySource(opencast, settings.opencast_zone, throttle)
    return ActionsSource(opencast, settings.opencast_zone, throttle)


def sink(settings: Settings, lost: Losses) -> Sink:
    """Return the sink of the useractions; a queue that replaced an earlier one is recorded in `lost`."""
    if settings.queue == STDOUT:
        return StdoutSink(sys.stdout)
    return assembly.sqs_sink(settings, lost)
