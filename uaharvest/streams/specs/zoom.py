"""The spec of the stream of Zoom meetings."""

import hashlib
from typing import TYPE_CHECKING

from uaharvest.runs.policy import Policy
from uaharvest.settings import Settings
from uaharvest.streams.spec import StreamSpec, documents_at

if TYPE_CHECKING:
    import redis

    from uaharvest.runs.engine import Engine, Hints
    from uaharvest.zoom.quota import Quota


def account(settings: Settings) -> str:
    """Return the digest that identifies the account in Redis, where calls are counted per account."""
    name = settings.zoom_account_id or settings.zoom_key or ""
    return hashlib.sha256(f"{settings.zoom_api_url} {name}".encode()).hexdigest()[:12]


def quota(settings: Settings, client: "redis.Redis") -> "Quota":
    """Return the quota that keeps calls within Zoom's limits."""
    from uaharvest.zoom.quota import Quota  # noqa: PLC0415 - a spec imports no client

    return Quota(client, account(settings), settings.zoom_plan, share=settings.zoom_quota_share)


def _build(settings: Settings, hints: "Hints") -> "Engine":
    from uaharvest.streams.engines.zoom import zoom_engine  # noqa: PLC0415 - see streams/spec.py

    return zoom_engine(settings, hints)


SPEC = StreamSpec(
    name="zoom",
    watermark_key=lambda settings: settings.zoom_watermark_key,
    source=lambda settings: f"Zoom account {account(settings)} at {settings.zoom_api_url}",
    destination=documents_at,
    build=_build,
    policy=lambda settings: Policy.by_day(settings.batch_size),
    enabled=lambda settings: settings.zoom_enabled,
    daily_at=lambda settings: settings.zoom_at,
    slices_are_intervals=False,
    advance_queue="zoom",  # list calls are rate-limited, and ticks of other streams must not wait for them
    fetch="fetch_meeting",
    # Work that waits for a quota's next second or minute must not wait for the next tick. A delayed message stays in
    # one worker's memory, so waiting for the next day's quota is left to the ticks.
    wakes_within=120.0,
)
