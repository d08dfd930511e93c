"""Builds the engine of the Zoom meetings, with the client's login and quotas."""

import sys
from datetime import timedelta

import redis

from uaharvest import assembly, tombstones
from uaharvest.errors import BadInputError
from uaharvest.geolite import GeoLite, nowhere
from uaharvest.privacy.site import protection
from uaharvest.runs.days import DAY
from uaharvest.runs.engine import Engine, Hints
from uaharvest.settings import Settings
from uaharvest.sinks.documents import DocumentSink
from uaharvest.sinks.stdout import StdoutStore
from uaharvest.streams.specs.zoom import account, quota
from uaharvest.streams.zoom import Meetings
from uaharvest.streams.zoom.lists import PAGE_WAIT
from uaharvest.zoom.api import Api
from uaharvest.zoom.auth import Gateway, Login, ServerToServer, SignedJwt
from uaharvest.zoom.client import Zoom
from uaharvest.zoom.dashboard import Dashboard


def zoom_engine(
    settings: Settings,
    hints: Hints,
    *,
    stdout: bool = False,
    ready_after: timedelta | None = None,
    patience: float = PAGE_WAIT,
    dashboard: bool = False,
    site: Settings | None = None,
) -> Engine:
    """Return the engine of the Zoom meetings.

    Args:
        settings: Source and destination.
        hints: Sends hints to the workers.
        stdout: Print the documents instead of storing them.
        ready_after: How long after its end a day can be harvested; None: use ZOOM_AT.
        patience: Longest wait for the next page of a list, seconds.
        dashboard: Try the Dashboard again, even if Zoom said that the account has none.
        site: Settings of the site, whose watermark and ledger are used if options changed `settings`.

    Raises:
        BadInputError: A required setting is missing, or GEOLITE_PATH cannot be used.
    """
    store: DocumentSink = StdoutStore(sys.stdout) if stdout else assembly.document_store(settings)
    client = assembly.redis_client(settings)
    dead_letters = assembly.dead_letters(settings)
    place = assembly.place(settings, Meetings.name)
    stream = Meetings(
        zoom_client(settings, client),
        store,
        dead_letters,
        settings,
        client=client,
        place=f"{place}:stdout" if stdout else place,  # what is printed says nothing about what is stored
        locate=GeoLite(settings.geolite).locate if settings.geolite else nowhere,
        ready_after=settings.zoom_at if ready_after is None else ready_after,
        patience=patience,
        erased=tombstones.erased(settings),
    )
    if dashboard:
        stream.ask_dashboard()
    return assembly.engine_of(
        stream,
        settings,
        hints,
        client=client,
        dead_letters=dead_letters,
        destination=f"{account(settings)} {settings.documents_url or settings.es_url} {settings.index_infix}",
        source=f"Zoom at {settings.zoom_api_url} (ZOOM_API_URL)",
        again=lambda start, end: f"manage.py enqueue {Meetings.name} --from {start:%F} --to {end - DAY:%F}",
        site=site,
    )


def zoom_client(settings: Settings, client: "redis.Redis") -> Zoom:
    """Return the Zoom client.

    Raises:
        BadInputError: The login settings are missing or contradict each other.
    """
    return Zoom(
        client,
        settings.zoom_api_url,
        zoom_login(settings, client),
        quota(settings, client),
        account=account(settings),
        header=settings.zoom_header,
        pool_size=assembly.SENDERS,
        pseudonym=protection(settings).id if settings.privacy_pseudonyms else None,
    )


def zoom_api(settings: Settings, client: "redis.Redis") -> Api:
    """Return Zoom's API without the readers of `zoom_client`; raises as `zoom_login` does."""
    login = zoom_login(settings, client)
    dashboard = Dashboard(client, account(settings), login)
    return Api(settings.zoom_api_url, login, quota(settings, client), dashboard, header=settings.zoom_header)


def zoom_login(settings: Settings, client: "redis.Redis") -> Login:
    """Return the source of Zoom's tokens.

    Raises:
        BadInputError: The login settings are missing or contradict each other.
    """
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
        place=account(settings),
    )
