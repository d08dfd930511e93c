"""The table of all checks, in the order in which they are shown: first what others depend on."""

from collections.abc import Callable, Iterable

from uaharvest.doctor import (
    broker,
    clocks,
    configuration,
    database,
    dead_letters,
    documents,
    harvest,
    lrs,
    opencast,
    redis,
    s3,
    sqs,
    workers,
    zoom,
)
from uaharvest.doctor.examination import Check
from uaharvest.doctor.findings import Finding
from uaharvest.doctor.site import Site
from uaharvest.settings import STDOUT, Settings

Look = Callable[[Site], Iterable[Finding]]


def _unless(used: Callable[[Settings], object], reason: str) -> Callable[[Settings], str]:
    return lambda settings: "" if used(settings) else reason


_bucket = _unless(lambda settings: settings.bucket, "S3_HARVEST_TS_BUCKET is not set")
_queue = _unless(lambda settings: settings.queue not in {None, STDOUT}, "SQS_QUEUE_NAME names no queue")
_indexer = _unless(
    lambda settings: settings.indexer and settings.queue not in {None, STDOUT}, "INDEXER is not true"
)
_opencast = _unless(lambda settings: settings.engage_url, "MATTERHORN_ENGAGE_HOST is not set")
_rest = _unless(
    lambda settings: settings.engage_url and not settings.database_url, "OPENCAST_DATABASE_URL is read instead"
)
_episodes = _unless(lambda settings: settings.episodes_enabled, "no episodes are harvested")
_database = _unless(lambda settings: settings.database_url, "OPENCAST_DATABASE_URL is not set")
_sqlite = _unless(lambda settings: settings.documents_url, "DOCUMENTS_URL is not set")
_elasticsearch = _unless(
    lambda settings: settings.es_url and not settings.documents_url, "ES_HOST is not set, or not used"
)
_lrs = _unless(lambda settings: settings.lrs_url, "LRS_URL is not set")
_zoom = _unless(lambda settings: settings.zoom_enabled, "no meetings are harvested (ZOOM_KEY, ZOOM_SECRET)")


def _settings(name: str, look: Look, *needs: str) -> Check:
    return Check(name=f"settings.{name}", title="settings", look=look, needs=needs)


def _redis(name: str, look: Look, *needs: str) -> Check:
    return Check(name=f"redis.{name}", title="Redis", look=look, needs=needs, setting="REDIS_URL")


def _s3(name: str, look: Look, *needs: str, quick: bool = True) -> Check:
    place = "AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
    return Check(name=f"s3.{name}", title="S3", look=look, needs=needs, unused=_bucket, setting=place, quick=quick)


def _sqs(
    name: str, look: Look, *needs: str, unused: Callable[[Settings], str] = _queue, quick: bool = True
) -> Check:
    place = "AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
    return Check(
        name=f"sqs.{name}", title="SQS", look=look, needs=needs, unused=unused, setting=place, quick=quick
    )


def _of_opencast(
    name: str,
    look: Look,
    *needs: str,
    unused: Callable[[Settings], str] = _rest,
    setting: str = "MATTERHORN_ENGAGE_HOST",
    quick: bool = True,
) -> Check:
    return Check(
        name=f"opencast.{name}",
        title="Opencast",
        look=look,
        needs=needs,
        unused=unused,
        setting=setting,
        quick=quick,
    )


def _of_database(name: str, look: Look, *needs: str) -> Check:
    return Check(
        name=f"database.{name}",
        title="database",
        look=look,
        needs=needs,
        unused=_database,
        setting="OPENCAST_DATABASE_URL",
        quick=False,
    )


def _documents(name: str, look: Look, *needs: str, unused: Callable[[Settings], str] = _elasticsearch) -> Check:
    return Check(
        name=f"documents.{name}", title="documents", look=look, needs=needs, unused=unused, setting="ES_HOST"
    )


def _of_zoom(name: str, look: Look, *needs: str, quick: bool = True) -> Check:
    places = "ZOOM_API_URL and ZOOM_TOKEN_URL"
    return Check(
        name=f"zoom.{name}", title="Zoom", look=look, needs=needs, unused=_zoom, setting=places, quick=quick
    )


_SERVICES: tuple[Check, ...] = (
    _settings("values", configuration.values),
    _settings("clashes", configuration.clashes, "settings.values"),
    _settings("privacy", configuration.privacy, "settings.values"),
    Check(
        name="clocks",
        title="clocks",
        look=clocks.compared,
        after=(
            *("redis.answers", "s3.bucket", "sqs.queue", "opencast.engage"),
            *("database.tables", "zoom.reachable"),
        ),
    ),
    _redis("answers", redis.answers),
    _redis("version", redis.version, "redis.answers"),
    _redis("permissions", redis.permissions, "redis.answers"),
    _redis("writable", redis.writable, "redis.permissions"),
    _redis("access", redis.access),
    _redis("persistence", redis.persistence, "redis.version"),
    _redis("eviction", redis.eviction, "redis.version"),
    _redis("memory", redis.memory, "redis.version"),
    Check(name="broker.place", title="broker", look=broker.place, setting="CELERY_BROKER_URL"),
    Check(
        name="broker.queues",
        title="broker",
        look=broker.queues,
        needs=("broker.place",),
        after=("redis.answers",),
        setting="CELERY_BROKER_URL",
    ),
    _s3("bucket", s3.bucket),
    _s3("objects", s3.objects, "s3.bucket", quick=False),
    _s3("versioning", s3.versioning, "s3.bucket", quick=False),
    _s3("encryption", s3.encryption, "s3.bucket", quick=False),
    _s3("expiry", s3.expiry, "s3.bucket", quick=False),
    _sqs("queue", sqs.queue),
    _sqs("attributes", sqs.attributes, "sqs.queue"),
    _sqs("send", sqs.send, "sqs.queue"),
    _sqs("receive", sqs.receive, "sqs.queue", unused=_indexer),
    _sqs("oldest", sqs.oldest, "sqs.attributes", quick=False),
    _of_opencast("engage", opencast.engage, unused=_opencast),
    _of_opencast("admin", opencast.admin, unused=_episodes, setting="MATTERHORN_ADMIN_HOST"),
    _of_opencast("usertracking", opencast.usertracking, "opencast.engage"),
    _of_opencast("profile", opencast.profile, "opencast.usertracking", "redis.answers", quick=False),
    _of_opencast("newest", opencast.newest, "opencast.profile", quick=False),
    _of_database("tables", database.tables, "redis.answers"),
    _of_database("index", database.index, "database.tables"),
    _of_database("replica", database.replica, "database.tables"),
    _documents("sqlite", documents.sqlite, unused=_sqlite),
    _documents("version", documents.version),
    _documents("privileges", documents.privileges, "documents.version"),
    _documents("templates", documents.templates, "documents.privileges"),
    _documents("indices", documents.indices, "documents.privileges"),
    _documents("disk", documents.disk, "documents.version"),
    _of_zoom("reachable", zoom.reachable, "redis.answers"),
    _of_zoom("token", zoom.token, "redis.permissions"),
    _of_zoom("plan", zoom.plan, "zoom.token", "zoom.reachable", quick=False),
    _of_zoom("quota", zoom.quota, "redis.permissions"),
    Check(name="lrs.statements", title="LRS", look=lrs.statements, unused=_lrs, setting="LRS_URL", quick=False),
    Check(
        name="workers",
        title="workers",
        look=workers.workers,
        needs=("broker.queues",),
        setting="CELERY_BROKER_URL",
    ),
    Check(name="beat", title="beat", look=workers.beat, needs=("redis.answers",), setting="REDIS_URL"),
    Check(
        name="dead letters",
        title="dead letters",
        look=dead_letters.waiting,
        needs=("s3.bucket",),
        unused=_bucket,
        quick=False,
    ),
)
CHECKS: tuple[Check, ...] = (
    *_SERVICES,
    Check(
        name="harvest",
        title="harvest",
        look=harvest.moves,
        after=tuple(check.name for check in _SERVICES),
        alone=True,
        unused=_bucket,
        quick=False,
    ),
)
