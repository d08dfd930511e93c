"""Checks of Celery's broker."""

from collections.abc import Iterator
from contextlib import closing

import redis

from uaharvest import keys
from uaharvest.broker import SQS
from uaharvest.doctor.findings import Finding, Status, fail, failed, ok, warn
from uaharvest.doctor.redis import judge_eviction
from uaharvest.doctor.site import Site
from uaharvest.redis_url import RedisUrl

_SETTING = "CELERY_BROKER_URL"


def place(site: Site) -> Iterator[Finding]:
    """Say which broker is used, and try one that is not the ledger's Redis."""
    settings = site.settings
    if settings.broker_url.startswith(SQS):
        yield ok("SQS; `celery inspect`, Flower and the checks of the workers do not work with it")
        return
    broker, ledger = RedisUrl.parse(settings.broker_url), RedisUrl.parse(settings.redis_url)
    prefix = f"keys begin with {keys.CELERY('')}"
    if broker == ledger:
        yield ok(f"the ledger's Redis; {prefix}")
        return
    try:
        with closing(broker.client(decode_responses=True, socket_timeout=3, socket_connect_timeout=3)) as client:
            policy = str(client.info("memory").get("maxmemory_policy", ""))
    except redis.exceptions.NoPermissionError:
        policy = ""
    except redis.RedisError as error:
        yield failed(broker.failure(error).replace("REDIS_URL", _SETTING))
        return
    yield ok(f"database {broker.db} of Redis at {broker.place}, not the ledger's; {prefix}")
    judged = judge_eviction(policy) if policy else ok("")
    if judged.status is Status.FAIL:
        yield warn(
            f"its {judged.found.partition(':')[0]}: messages may vanish, each of which costs a tick", judged.remedy
        )


def queues(site: Site) -> Iterator[Finding]:
    """Count the messages that wait, the way workers and beat reach the broker."""
    try:
        waiting = site.workers.queues()
    except Exception as error:  # noqa: BLE001 - kombu's and the transports' errors have no common base
        said = str(error).partition(" : ")[0].rstrip(".")
        shown = said if type(error).__module__.partition(".")[0] == "kombu" else type(error).__name__
        yield fail(f"Celery cannot reach the broker: {shown}", f"Check {_SETTING}, or REDIS_URL without it.")
        return
    yield ok(" · ".join(f"{name} {depth}" for name, depth in waiting.items()))
