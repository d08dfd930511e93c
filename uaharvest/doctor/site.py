"""What the checks look at: the settings, and one client for each service."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import redis

from uaharvest import assembly, aws
from uaharvest.broker import ReportingWorkers
from uaharvest.opencast.client import ENGAGE_HOST, Opencast
from uaharvest.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

# Any size will do; assembly and the indexer share clients by it.
CONNECTIONS = assembly.SENDERS


class Site:
    """The settings and the services of a site.

    Attributes:
        settings: The site's settings.
        clocks: How far each service's clock is ahead of this host's, in seconds, by the service's name.
    """

    def __init__(self, settings: Settings, load_workers: Callable[[], ReportingWorkers]) -> None:
        """Take the settings, and a function that loads the Celery functions."""
        self.settings = settings
        self.clocks: dict[str, float] = {}
        self._load_workers = load_workers
        self._loading = threading.Lock()

    @functools.cached_property
    def redis(self) -> "redis.Redis":
        """A client of the ledger's Redis that gives up early."""
        return assembly.redis_client(self.settings, patient=False)

    @property
    def s3(self) -> "S3Client":
        """The client of S3."""
        return aws.s3_client()

    @property
    def sqs(self) -> "SQSClient":
        """The client of SQS."""
        return aws.sqs_client(CONNECTIONS)

    @functools.cached_property
    def opencast(self) -> Opencast:
        """A client of the engage host."""
        return assembly.opencast_client(self.settings, self.settings.engage_url, CONNECTIONS, ENGAGE_HOST)

    @property
    def workers(self) -> ReportingWorkers:
        """The Celery functions, loaded at first use; loading takes a moment, and threads must not do it at once."""
        with self._loading:
            return self._load_workers()

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[Callable[[datetime], None]]:
        """Give a function that notes a service's clock, read while the block runs."""
        began = datetime.now(UTC)

        def note(clock: datetime) -> None:
            now = datetime.now(UTC)
            self.clocks[name] = (clock - (began + (now - began) / 2)).total_seconds()

        yield note

    def note_date(self, name: str, answer: Mapping[str, Any]) -> None:
        """Note the clock in the `Date` header of an answer of AWS, if there is one."""
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        with contextlib.suppress(ValueError, TypeError), self.timed(name) as note:
            note(parsedate_to_datetime(date))
