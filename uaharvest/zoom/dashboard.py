"""Remembers in Redis, for all workers, whether the account has a Dashboard."""

import redis
import structlog

from uaharvest import keys
from uaharvest.errors import BlockedError, HarvestError
from uaharvest.zoom.auth import Login
from uaharvest.zoom.endpoints import MEETINGS, REPORTED_PARTICIPANTS, Source

MISSING_KEPT = 86_400  # seconds to remember that the account has no Dashboard
# Seconds after which the next list tries the Dashboard again. It costs one call.
RECHECK_AFTER = 3_600

log = structlog.get_logger()


class Dashboard:
    """Remembers that an account has no Dashboard."""

    def __init__(self, client: "redis.Redis", account: str, login: Login) -> None:
        """Remember it in `client` under the name `account`; the tokens of `login` say which endpoints they permit."""
        self._redis = client
        self._key = keys.SOURCE(account)
        self._login = login

    def source(self) -> Source:
        """Return which endpoints to use: the Dashboard's, or the Report ones if the account has no Dashboard.

        The token's scopes say which calls it permits. Whether the plan includes a Dashboard only shows when the list is
        requested. A missing Dashboard is remembered for a day; lists try it again after an hour.
        """
        if self.known_missing():
            return "report"
        token = self._login.token()
        if token is None or not token.scopes or token.scopes.intersection(MEETINGS.scopes):
            return "dashboard"
        if token.scopes.intersection(REPORTED_PARTICIPANTS.scopes):
            return "report"
        raise BlockedError(
            f"Zoom's token may list no meetings. Give the app the scope {MEETINGS.scopes[0]}, or for an account without"
            f" Dashboard {REPORTED_PARTICIPANTS.scopes[0]} (docs/zoom.md names all)."
        )

    def known_missing(self) -> bool:
        """Return whether it is known that the account has no Dashboard."""
        return bool(self._redis.get(self._key))

    def note_missing(self, error: HarvestError) -> None:
        """Remember that the account has no Dashboard."""
        log.warning("no Dashboard, Zoom's reports are read in its place", reason=str(error))
        self._redis.set(self._key, "report", ex=MISSING_KEPT)

    def forget(self) -> bool:
        """Forget that the account has no Dashboard, so that the next list tries it. Return whether it was known."""
        return bool(self._redis.delete(self._key))

    def recheck_due(self) -> bool:
        """Return whether the Dashboard was found missing more than an hour ago."""
        return 0 <= int(self._redis.ttl(self._key)) < MISSING_KEPT - RECHECK_AFTER
