"""Finds out whether a failure concerns one meeting or all of them, by requesting others."""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus

import redis
import structlog

from uaharvest import keys
from uaharvest.errors import BlockedError, PoisonError, SourceError
from uaharvest.zoom.api import Api
from uaharvest.zoom.endpoints import KINDS, PARTICIPANTS, Endpoint, ListKind
from uaharvest.zoom.failures import (
    MeetingUnavailableError,
    ThrottledAloneError,
    TokenRefusedError,
    TooManyCallsError,
    UserUnavailableError,
)
from uaharvest.zoom.paging import rows_of, total_of

RESULT_KEPT = 30  # seconds to remember whether Zoom answers for others
EXAMPLES = 4  # meetings remembered from the last list
# Zoom may answer 429 for a meeting or host, right after it answered for another, this many times before it is refused.
MOST_THROTTLED = 10
THROTTLED_KEPT = 86_400  # seconds to remember how often it did
MEETINGS_KEPT = 86_400  # seconds to remember these and the meeting that Zoom answered for last
# Belongs to no meeting. Zoom answers code 3001 if the caller has access to meetings at all.
NO_MEETING = "AAAAAAAAAAAAAAAAAAAAAA=="

log = structlog.get_logger()


class Probe:
    """Requests other meetings or users. All workers share the results in Redis."""

    def __init__(self, api: Api, client: "redis.Redis", account: str) -> None:
        self._api = api
        self._redis = client
        self._account = account

    def note_listed(self, uuids: Sequence[str], kind: ListKind) -> None:
        """Remember the first meetings of a list, for later probes.

        Meetings of one person do not replace others, because reports list no participants for them.
        """
        if uuids:
            examples = json.dumps([[uuid, kind] for uuid in uuids[:EXAMPLES]])
            self._redis.set(keys.EXAMPLES(self._account), examples, ex=MEETINGS_KEPT, nx=kind != KINDS[0])

    def note_answered(self, endpoint: Endpoint, uuid: str, kind: ListKind) -> None:
        """Remember the meeting that Zoom answered for last."""
        self._redis.set(keys.ANSWERED(self._account, endpoint.path), json.dumps([uuid, kind]), ex=MEETINGS_KEPT)

    @contextlib.contextmanager
    def judge_429(self, name: str, answers_another: Callable[[], bool]) -> Iterator[None]:
        """Find out whether a 429 within the context concerns only the meeting or host called `name`.

        Rate limits apply to the account. A gateway, however, may answer 429 for a single meeting, and that must not
        hold up the others forever. After a 429 for `name`, another one is therefore requested first each time.

        Args:
            name: The uuid of a meeting, or the id of a host.
            answers_another: Requests another one and returns whether Zoom answers.

        Raises:
            ThrottledAloneError: Zoom has answered 429 for `name` MOST_THROTTLED times, each right after it answered for
                another.
        """
        key = keys.THROTTLED(self._account, hashlib.sha256(name.encode()).hexdigest()[:24])
        known = bool(self._redis.exists(key))
        others = known and answers_another()
        try:
            yield
        except TooManyCallsError as error:
            times = self._redis.incrby(key, int(others))
            self._redis.expire(key, THROTTLED_KEPT)
            if times < MOST_THROTTLED:
                raise
            line = (
                f"Zoom answered 429 for it {times} times in a row, each time right after it answered for another."
            )
            raise ThrottledAloneError(line) from error
        if known:
            self._redis.delete(key)

    def answers_others(self, endpoint: Endpoint, uuid: str, *, most: int) -> bool:
        """Return whether Zoom answers for any of at most `most` meetings other than `uuid`."""
        key = keys.NEUTRAL(self._account, endpoint.path)
        kept = self._redis.get(key)
        if kept is None:
            kept = "yes" if self.answers_another(endpoint, uuid, most=most) else "no"
            self._redis.set(key, kept, ex=RESULT_KEPT)
        return kept == "yes"

    def answers_another(self, endpoint: Endpoint, uuid: str, *, most: int) -> bool:
        """Request up to `most` meetings other than `uuid` now, and return whether Zoom answers for any of them."""
        stored = [
            self._redis.get(keys.ANSWERED(self._account, endpoint.path)),
            self._redis.get(keys.EXAMPLES(self._account)),
        ]
        last, examples = ([] if one is None else json.loads(one) for one in stored)
        others = {other: kind for other, kind in [*([last] if last else []), *examples] if other != uuid}
        for other, kind in itertools.islice((others or {NO_MEETING: KINDS[0]}).items(), most):
            params = {"type": kind} if endpoint is PARTICIPANTS else {}
            if self.answers(endpoint, other, params):
                return True
        return False

    def answers(self, endpoint: Endpoint, name: str, params: Mapping[str, str]) -> bool:
        """Request one row. It counts as an answer if Zoom returns a row or says that there are none."""
        params = {**params, "page_size": "1"}
        try:
            try:
                body = self._api.ask(endpoint, params, name, attempts=1)
            except TokenRefusedError:  # any call may be the first after a token expired
                body = self._api.ask(endpoint, params, name, attempts=1)
            rows = rows_of(body, endpoint.rows, f"Zoom's {endpoint.path}")
        except MeetingUnavailableError as error:
            return error.code != HTTPStatus.NOT_FOUND
        except UserUnavailableError:
            return True
        except (SourceError, BlockedError, PoisonError) as error:
            log.info("a neutral request failed too", reason=str(error))
            return False
        return bool(rows) or not total_of(body)
