"""The Zoom client: past meetings, their hosts and participants."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import redis

from uaharvest.zoom.api import Api
from uaharvest.zoom.auth import Login
from uaharvest.zoom.dashboard import Dashboard
from uaharvest.zoom.lists import MeetingReader
from uaharvest.zoom.paging import Pager
from uaharvest.zoom.participants import ParticipantReader
from uaharvest.zoom.probe import Probe
from uaharvest.zoom.quota import Quota


class Zoom:
    """Calls Zoom within its rate limits, with the token that all workers share. Thread-safe.

    Every method that calls Zoom raises:
        PutOffError: No calls are left. `due` says when the next one is available (in a second, a minute or a day).
        BlockedError: A person must change something. The message names the setting, scope or plan.
        SourceError: Zoom cannot be reached, is busy, fails, or sends an unexpected response.

    Attributes:
        now: See `Api.now`.
        source, forget_source: See `Dashboard.source` and `Dashboard.forget`.
        meetings, meetings_of, host_ids: See `MeetingReader`.
        participants: See `ParticipantReader.participants`.
    """

    def __init__(
        self,
        client: "redis.Redis",
        base_url: str,
        login: Login,
        quota: Quota,
        *,
        account: str,
        header: tuple[str, str] | None = None,
        pool_size: int = 4,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pseudonym: Callable[[str], str] | None = None,
    ) -> None:
        """Create the API client and the readers for lists and participants.

        Args:
            client: Redis; decodes responses.
            base_url: URL of the API, with its version.
            login: Issues tokens.
            quota: Issues permits.
            account: Name of the account in Redis's keys; not a secret.
            header: An additional header (name, value), for a gateway.
            pool_size: Number of connections kept open, one per concurrent thread.
            pause: Sleeps for the given number of seconds between two attempts.
            clock: Returns the current time; aware.
            pseudonym: Replaces the ids of hosts in tokens and refusals, which are stored; None: they stay.
        """
        dashboard = Dashboard(client, account, login)
        self._api = api = Api(base_url, login, quota, dashboard, header=header, pool_size=pool_size, pause=pause)
        pager, probe = Pager(api, client, account), Probe(api, client, account)
        lists = MeetingReader(pager, probe, dashboard, clock, pseudonym)
        self.now = api.now
        self.source = dashboard.source
        self.forget_source = dashboard.forget
        self.meetings = lists.meetings
        self.meetings_of = lists.meetings_of
        self.host_ids = lists.host_ids
        self.participants = ParticipantReader(api, pager, probe, dashboard, clock).participants

    def __repr__(self) -> str:
        return f"Zoom({self._api.base_url!r})"
