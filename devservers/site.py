"""The servers of a site to try uaharvest on, and its settings: for the demo and for `manage.py dev`.

With an engine, Redis, SQS and S3, and the document store are containers; otherwise they are children of this process,
as both simulators always are.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from devservers import cluster, compose, elasticsearch, stack
from devservers.stack import Child
from uaharvest.intervals import duration

ROWS = 42_000
SPAN = 3 * 3600  # seconds
ROWS_PER_SECOND = 8
EVENTS_PER_MESSAGE = 50
ZONE = "America/Bogota"  # its clocks never change, so that no day is special
TICK = 5  # seconds between two harvests; 120 in production
USER, PASSWORD = "harvester", "demo-only"
ACCOUNT, PLAN = "demo", "business"
MEETINGS = 120
BUCKET, QUEUE = "demo-harvest", "demo-user-actions"
FLOWER_LOGIN = "demo:demo"
SQLITE = "sqlite"
DOCUMENTS = f"elasticsearch-{elasticsearch.PRODUCT.versions[-1]}"  # the default store


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the site.

    Attributes:
        name: Its name for people, with what is in it.
        url: Its URL.
        child: Its process; None if it is a container.
    """

    name: str
    url: str
    child: Child | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """The running servers.

    Attributes:
        redis, aws, opencast, zoom: Those that every site has.
        documents: The document store and its dashboards; none for SQLite.
        folder: A temporary folder.
        environment: The settings of uaharvest, as in `.env`.
    """

    redis: Server
    aws: Server
    opencast: Server
    zoom: Server
    documents: tuple[Server, ...]
    folder: Path
    environment: Mapping[str, str]

    @property
    def servers(self) -> tuple[Server, ...]:
        """Return all servers."""
        return (self.redis, self.aws, *self.documents, self.opencast, self.zoom)


def check(documents: str) -> None:
    """Raise BadInputError if `documents` names no store that can be started."""
    if documents != SQLITE:
        cluster.parse(documents)


def meetings_day() -> str:
    """Return the day of Zoom's meetings, as `--date` takes it; all have ended by now, even one of 26 hours."""
    return f"{(datetime.now(UTC) - timedelta(days=3)).date()}"


@contextlib.contextmanager
def started(
    documents: str,
    engine: compose.Engine | None,
    say: Callable[[str], None],
    *,
    opencast_options: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Site]:
    """Start all servers; they end with the block, and their data is removed.

    Args:
        documents: `elasticsearch-VERSION`, `opensearch-VERSION` or `sqlite`.
        engine: Runs the containers; None for processes.
        say: Called with a line for what begins and may take long.
        opencast_options: Options of the Opencast simulator, in place of the demo's.

    Raises:
        HarvestError: A server does not start.
    """
    with contextlib.ExitStack() as children:
        if engine:
            say(f"Starting containers with Docker: Redis, SQS and S3, {documents}")
            redis, aws, *stores = children.enter_context(engine.started(documents))
            servers = [Server(*redis), Server(*aws)], [Server(*store) for store in stores]
        else:
            servers = _local(documents, children, say)
        (redis_server, aws_server), store_servers = servers
        say("Starting the simulators of Opencast and Zoom")
        opencast = children.enter_context(stack.opencast_simulator(*_opencast(opencast_options)))
        zoom = children.enter_context(stack.zoom_simulator(*_zoom()))
        yield Site(
            redis_server,
            aws_server,
            Server(
                f"Opencast simulator, {ROWS:,} useractions of the last {duration(SPAN)}", opencast.url, opencast
            ),
            Server(f"Zoom simulator, {MEETINGS} meetings of {meetings_day()}", zoom.url, zoom),
            tuple(store_servers),
            opencast.directory,
            _environment(redis_server.url, aws_server.url, store_servers, opencast, zoom),
        )


def _local(
    documents: str, children: contextlib.ExitStack, say: Callable[[str], None]
) -> tuple[list[Server], list[Server]]:
    say("Starting Valkey and a stand-in for SQS and S3")
    valkey = children.enter_context(stack.valkey(appendonly=True))
    aws = children.enter_context(stack.ministack())
    stores = []
    if documents != SQLITE:
        product, version = cluster.parse(documents)
        say(f"Starting {product.title} {version}; the first time Maven fetches it, about a minute")
        store = children.enter_context(cluster.serve(product, version))
        stores.append(Server(store.name, store.url, store))
    return [Server("Valkey", valkey.url, valkey), Server("SQS and S3 stand-in", aws.url, aws)], stores


def _environment(redis: str, aws: str, stores: list[Server], opencast: Child, zoom: Child) -> dict[str, str]:
    return {
        **stack.aws_variables_at(aws),
        "MATTERHORN_ENGAGE_HOST": opencast.url,
        "MATTERHORN_ADMIN_HOST": opencast.url,
        "MATTERHORN_REST_USER": USER,
        "MATTERHORN_REST_PASS": PASSWORD,
        "OPENCAST_TIMEZONE": ZONE,
        "REDIS_URL": redis,
        "S3_HARVEST_TS_BUCKET": BUCKET,
        "SQS_QUEUE_NAME": QUEUE,
        "SQS_EVENTS_PER_MESSAGE": str(EVENTS_PER_MESSAGE),
        "DEFAULT_INTERVAL": str(SPAN // 60),
        "HARVEST_EVERY_SECONDS": str(TICK),
        "HARVEST_LAG_SECONDS": "3",
        "ZOOM_ACCOUNT_ID": ACCOUNT,
        "ZOOM_KEY": USER,
        "ZOOM_SECRET": PASSWORD,
        "ZOOM_PLAN": PLAN,
        "ZOOM_API_URL": f"{zoom.url}/v2/",
        "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
        "INDEXER": "true",
        "FLOWER_BASIC_AUTH": FLOWER_LOGIN,
        **(
            {"ES_HOST": stores[0].url}
            if stores
            else {"DOCUMENTS_URL": f"sqlite:///{opencast.directory / 'documents.db'}"}
        ),
    }


def _opencast(changed: Mapping[str, object]) -> list[str]:
    options = {
        "rows": ROWS,
        "span-seconds": SPAN,
        "live-rate": ROWS_PER_SECOND,
        "user": USER,
        "password": PASSWORD,
        "zone": ZONE,
    }
    return _arguments({**options, **changed})


def _zoom() -> list[str]:
    return _arguments(
        {
            "meetings": MEETINGS,
            "date": meetings_day(),
            "plan": PLAN,
            "account-id": ACCOUNT,
            "client-id": USER,
            "client-secret": PASSWORD,
        }
    )


def _arguments(options: Mapping[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def write_settings(environment: Mapping[str, str], path: Path) -> None:
    """Write an environment as a file like `.env`, which a shell reads too; only the owner can read it."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
