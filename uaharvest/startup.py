"""What worker and beat report when they start, because it would otherwise show late, or only as lost data."""

from collections.abc import Iterator
from contextlib import closing

import redis

from uaharvest import assembly
from uaharvest.errors import BadInputError, HarvestError
from uaharvest.geolite import GeoLite
from uaharvest.redis_url import RedisUrl
from uaharvest.settings import Settings


def problems(settings: Settings) -> Iterator[str]:
    """Yield a line for each problem. Other services that do not answer are left to the first tick."""
    if settings.geolite:
        try:
            GeoLite(settings.geolite)
        except BadInputError as error:
            yield str(error)
    with closing(assembly.redis_client(settings, patient=False)) as client:
        yield from evicts(settings, client)
        if settings.database_url and settings.engage_url:
            yield from unreachable_database(settings, client)


def unreachable_database(settings: Settings, client: "redis.Redis") -> Iterator[str]:
    """Yield a line if Opencast's database does not answer, or refuses the account."""
    from uaharvest.opencast.client import ENGAGE_HOST  # noqa: PLC0415 - `status` needs none of this
    from uaharvest.opencast.sql import opened  # noqa: PLC0415
    from uaharvest.opencast.throttle import Throttle  # noqa: PLC0415

    opencast = assembly.opencast_client(settings, settings.engage_url, assembly.SENDERS, ENGAGE_HOST)
    throttle = Throttle(client, opencast.base_url)
    try:
        with opened(settings.database_url or "", settings.opencast_zone, throttle, opencast) as (_, source):
            source.now()
    except HarvestError as error:
        yield str(error)
    except redis.RedisError:  # the first tick reports it
        return


def evicts(settings: Settings, client: "redis.Redis") -> Iterator[str]:
    """Yield a line if Redis may delete keys when it is full: the ledger and the known ids would be lost."""
    try:
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except redis.RedisError:  # it is down, or this user may not use INFO
        return
    if policy != "noeviction":
        place = RedisUrl.parse(settings.redis_url).place
        yield (
            f"Redis at {place} deletes keys when its memory is full (maxmemory-policy {policy}), and with them the"
            " record of what is delivered. Set maxmemory-policy to noeviction."
        )
