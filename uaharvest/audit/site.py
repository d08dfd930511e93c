"""Builds what audits the streams of a site, from the settings."""

from functools import partial

from uaharvest import assembly, tombstones
from uaharvest.audit.auditor import Auditor, StreamAudit
from uaharvest.audit.dead_letters import ActionDeadLetters
from uaharvest.audit.results import Results
from uaharvest.audit.rows import DatabaseRows, RangeRows, Rows, StockRows
from uaharvest.audit.useractions import ActionsAudit
from uaharvest.audit.zoom import ZoomAudit
from uaharvest.opencast.cache import EpisodeCache, fetch_from
from uaharvest.opencast.client import ENGAGE_HOST
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.stock import DaySource
from uaharvest.privacy.site import protection
from uaharvest.runs.local import LocalHints
from uaharvest.settings import Settings
from uaharvest.streams import registry
from uaharvest.streams.delivery import RecordDelivery
from uaharvest.streams.engines.useractions import actions_source
from uaharvest.streams.engines.zoom import zoom_client, zoom_engine
from uaharvest.streams.specs import useractions, zoom
from uaharvest.streams.zoom import Meetings

# Episodes are not audited: no source lists the episodes of a day.
STREAMS = (useractions.SPEC.name, zoom.SPEC.name)


def audited(settings: Settings) -> list[str]:
    """Return the streams of this site that can be audited."""
    return [spec.name for spec in registry.enabled(settings) if spec.name in STREAMS]


def auditor(settings: Settings, stream: str) -> Auditor:
    """Return what audits a stream.

    Raises:
        BadInputError: A required setting is missing.
        BlockedError, SourceError: Opencast's profile must be detected, but Opencast refuses or does not answer.
    """
    settings.require("bucket")
    build = _actions if stream == useractions.SPEC.name else _zoom
    results = Results(assembly.redis_client(settings), assembly.place(settings, stream))
    return Auditor(build(settings), assembly.watermarks(settings, stream), results)


def _actions(settings: Settings) -> StreamAudit:
    settings.require("engage_url", "queue")
    client = assembly.redis_client(settings)
    opencast = assembly.opencast_client(settings, settings.engage_url, assembly.SENDERS, ENGAGE_HOST)
    dead_letters = assembly.dead_letters(settings)
    episodes = EpisodeCache(client, fetch_from(opencast), settings.episode_cache_expire, opencast.base_url)
    protected = protection(settings, tombstones.erased(settings))
    delivery = RecordDelivery(
        useractions.SPEC.name,
        episodes,
        assembly.sqs_sink(settings),
        dead_letters,
        protected,
    )
    source = actions_source(settings, client, opencast)
    rows: Rows
    if isinstance(source, DaySource):
        rows = StockRows(source, settings.opencast_zone, wait=settings.wait)
    elif isinstance(source, ActionsSource):
        rows = RangeRows(source, batch_size=settings.batch_size, wait=settings.wait)
    else:
        rows = DatabaseRows(source, wait=settings.wait)
    read = partial(ActionDeadLetters, dead_letters, useractions.SPEC.name)
    store = assembly.document_store(settings)
    # SQLite has no index of times, so each part of a day would cost the whole day.
    return ActionsAudit(rows, store, read, delivery, settings, whole_days=settings.documents_url is not None)


def _zoom(settings: Settings) -> StreamAudit:
    meetings = zoom_engine(settings, LocalHints()).stream
    if not isinstance(meetings, Meetings):
        raise TypeError("the engine of zoom is of another stream")
    client = zoom_client(settings, assembly.redis_client(settings))
    return ZoomAudit(
        client, meetings, assembly.document_store(settings), assembly.dead_letters(settings), settings
    )
