"""Builds the engine of the episodes."""

import dataclasses
from collections.abc import Collection
from datetime import datetime, timedelta

from uaharvest import assembly
from uaharvest.documents.indices import index_name
from uaharvest.intervals import Interval
from uaharvest.opencast.client import ADMIN_HOST, ENGAGE_HOST
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.engine import Engine, Hints
from uaharvest.settings import STDOUT, Settings
from uaharvest.streams.engines.useractions import useractions_engine
from uaharvest.streams.episodes import FETCHES_AT_ONCE, Chosen, Episodes


class _Upstream:
    """Answers the questions of the stream of episodes about the useractions."""

    def __init__(self, settings: Settings, hints: Hints) -> None:
        self._settings = settings
        self._hints = hints

    def harvested_until(self) -> datetime | None:
        harvested = None if self._settings.queue in {None, STDOUT} else assembly.USERACTIONS
        return assembly.harvested_until(self._settings, harvested)

    def held(self) -> Collection[str]:
        return assembly.indexer_state(self._settings).held()

    def rows(self, interval: Interval) -> int:
        # Nothing is sent, so any queue works.
        asking = dataclasses.replace(self._settings, queue=self._settings.queue or STDOUT)
        return useractions_engine(asking, self._hints).stream.count(interval, wait=self._settings.wait)


def episodes_engine(
    settings: Settings,
    hints: Hints,
    *,
    index: str | None = None,
    ready_after: timedelta | None = None,
    chosen: Chosen | None = None,
    site: Settings | None = None,
) -> Engine:
    """Return the engine of the episodes.

    Args:
        settings: Source and destination.
        hints: Sends hints to the workers.
        index: Index of the episodes; None: `episodes`, with INDEX_INFIX.
        ready_after: How long after its end a day can be harvested; None: use EPISODES_AT.
        chosen: Episodes for the runs that are opened here; None: those of each day.
        site: Settings of the site, whose watermark and ledger are used if options changed `settings`.

    Raises:
        BadInputError: A required setting is missing.
    """
    settings.require("engage_url", "admin_url")
    store = assembly.document_store(settings)
    client = assembly.redis_client(settings)
    engage = assembly.opencast_client(settings, settings.engage_url, FETCHES_AT_ONCE, ENGAGE_HOST)
    admin = assembly.opencast_client(settings, settings.admin_url, FETCHES_AT_ONCE, ADMIN_HOST)
    index = index or index_name("episodes", None, settings.index_infix)
    dead_letters = assembly.dead_letters(settings)
    stream = Episodes(
        engage,
        admin,
        store,
        dead_letters,
        settings,
        upstream=_Upstream(settings, hints),
        throttle=Throttle(client, f"{engage.base_url} episodes"),
        index=index,
        ready_after=settings.episodes_at if ready_after is None else ready_after,
        chosen=chosen,
    )
    return assembly.engine_of(
        stream,
        settings,
        hints,
        client=client,
        dead_letters=dead_letters,
        destination=f"{settings.engage_url} {settings.documents_url or settings.es_url} {index}",
        source=f"Opencast at {settings.engage_url} ({ENGAGE_HOST})",
        again=lambda start, _: f"manage.py watermark set {start:%FT%TZ} --stream {Episodes.name}",
        site=site,
    )
