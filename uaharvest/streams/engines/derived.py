"""Builds the engines of what is made from documents: viewings and attendance."""

from uaharvest import assembly, tombstones
from uaharvest.documents.indices import useractions_of
from uaharvest.runs.days import DAY
from uaharvest.runs.engine import Engine, Hints
from uaharvest.settings import STDOUT, Settings
from uaharvest.sinks.documents import DocumentStore
from uaharvest.streams.attendance import MeetingAttendance
from uaharvest.streams.derived import Derivation, Derived
from uaharvest.streams.parquet import ParquetUseractions
from uaharvest.streams.spec import StreamSpec, documents_at
from uaharvest.streams.specs import attendance, viewings, zoom
from uaharvest.streams.viewings import Recordings, StoredUseractions, UseractionsReader


def viewings_engine(settings: Settings, hints: Hints) -> Engine:
    """Return the engine of the viewings.

    Raises:
        BadInputError: A required setting is missing, or DuckDB is not installed.
    """
    store = assembly.document_store(settings)
    readers: list[UseractionsReader] = [StoredUseractions(store, useractions_of(None, settings.index_infix))]
    if settings.viewings_parquet is not None:
        readers.append(ParquetUseractions(settings.viewings_parquet, tombstones.erased(settings)))
    harvested = assembly.USERACTIONS if settings.queue not in {None, STDOUT} else None
    derivation = Recordings(readers, store, settings)
    return _engine(viewings.SPEC, derivation, settings, hints, store=store, harvested=harvested)


def attendance_engine(settings: Settings, hints: Hints) -> Engine:
    """Return the engine of the attendance; raises as `viewings_engine` does."""
    store = assembly.document_store(settings)
    harvested = zoom.SPEC.name if settings.zoom_enabled else None
    derivation = MeetingAttendance(store, settings)
    return _engine(attendance.SPEC, derivation, settings, hints, store=store, harvested=harvested)


def _engine(
    spec: StreamSpec,
    derivation: Derivation,
    settings: Settings,
    hints: Hints,
    *,
    store: DocumentStore,
    harvested: str | None,
) -> Engine:
    """Return the engine of a stream whose documents are made from those that `harvested` (None: nobody) harvests."""
    client = assembly.redis_client(settings)
    dead_letters = assembly.dead_letters(settings)
    stream = Derived(
        spec.name,
        derivation,
        store,
        dead_letters,
        harvested_until=lambda: assembly.harvested_until(settings, harvested),
        lookback=settings.derived_lookback_days * DAY,
        ready_after=spec.daily_at(settings) if spec.daily_at else DAY,
    )
    return assembly.engine_of(
        stream,
        settings,
        hints,
        client=client,
        dead_letters=dead_letters,
        destination=documents_at(settings),
        source="the documents (DOCUMENTS_URL, else ES_HOST), by this host's clock",
    )
