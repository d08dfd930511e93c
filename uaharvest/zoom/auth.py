"""Logging in at Zoom: a token that all workers share, a JWT, or nothing but a gateway's header."""

import dataclasses
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol

import jwt
import redis
import requests
from requests.auth import HTTPBasicAuth

from uaharvest.errors import BlockedError, PutOffError, SourceError
from uaharvest.opencast.foreign import members, text, whole
from uaharvest.runs.ledger import PREFIX
from uaharvest.transport import failure

CREDENTIALS = "ZOOM_ACCOUNT_ID, ZOOM_KEY and ZOOM_SECRET"
TIMEOUT = (5, 15)  # seconds: to connect, and between two pieces of the answer
# Longer than a request for a token takes: then its worker has died.
LEASE = 30_000  # ms
PATIENCE = 3.0  # seconds that a worker waits for another's new token
EARLIER = 300  # seconds before its end at which a token is renewed; a call that has begun by then still ends well
JWT_LIFE = 120  # seconds
# Codes of the token endpoint's older errors.
BAD_CLIENT = frozenset({4702, 4704})
GRANT_UNSUPPORTED = 4705
# Tokens that were refused one after another, without one call that went well.
REFUSALS_KEPT = 3_600_000  # ms

# KEYS: token, lock. ARGV: token (JSON), how long to keep it (ms), who holds the lock.
_STORE = """
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
return 1
"""

# KEYS: lock. ARGV: who holds it.
_UNLOCK = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

# KEYS: token, refusals. ARGV: the token that was refused (JSON), how long to count (ms). Returns which refusal in a row
# this was; 0: another token is there.
_REFUSE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
local refusals = redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return refusals
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """What proves who asks.

    Attributes:
        value: The bearer token.
        scopes: What it may ask for; none: it does not say.
        stored: How it stands in Redis.
    """

    value: str = dataclasses.field(repr=False)
    scopes: frozenset[str] = frozenset()
    stored: str = dataclasses.field(default="", repr=False)


class Login(Protocol):
    """Where tokens come from."""

    def token(self) -> Token | None:
        """Return the token to ask with; None: none is wanted."""
        ...

    def accepted(self, token: Token | None) -> None:
        """Learn that Zoom took the token."""
        ...

    def refused(self, token: Token | None) -> None:
        """Learn that Zoom refused the token; `token` then gives another.

        Raises:
            BlockedError: Another would be refused too.
        """
        ...


class ServerToServer:
    """Server-to-Server OAuth: one token for all workers, in Redis.

    There is one only, for on some accounts a new one ends the one before. Whoever finds none asks for it, under a lock
    with a lease; others wait shortly. It leaves Redis some minutes before it ends, or when Zoom refuses it: then only
    if it is still the one that was refused. Two refusals in a row, with no call between that went well, are a person's
    to mend.

    The token in Redis lets whoever reads it ask Zoom as this app for up to an hour: Redis needs a password and TLS, or
    a network of its own, as it does for the broker anyway. Key and secret are never there.
    """

    def __init__(
        self,
        client: "redis.Redis",
        url: str,
        *,
        account_id: str,
        key: str,
        secret: str,
        place: str,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Put the parts together.

        Args:
            client: One that decodes.
            url: Of the token endpoint.
            account_id: The app's account.
            key: Its client id.
            secret: Its client secret.
            place: Names the account in Redis's keys; no secret.
            pause: Sleeps for some seconds.
        """
        self._redis = client
        self._url = url
        self._form = {"grant_type": "account_credentials", "account_id": account_id}
        self._credentials = HTTPBasicAuth(key.encode(), secret.encode())
        self._keys = [f"{PREFIX}zoom:{place}:{name}" for name in ("token", "token lock", "token refusals")]
        self._pause = pause
        self._proved = ""  # the last token that Zoom is known to have taken
        self._store, self._unlock, self._refuse = map(client.register_script, (_STORE, _UNLOCK, _REFUSE))

    def __repr__(self) -> str:
        return f"ServerToServer({self._url!r})"

    def token(self) -> Token:
        """Return the shared token; if there is none, a new one.

        Raises:
            PutOffError: Another worker is asking for it, and takes long.
            BlockedError: Zoom refuses the app.
            SourceError: Zoom gives no token now.
        """
        kept, lock, _ = self._keys
        holder, deadline = uuid.uuid4().hex, time.monotonic() + PATIENCE
        while True:
            stored = self._redis.get(kept)
            if stored is not None:
                return _token(str(stored))
            if self._redis.set(lock, holder, nx=True, px=LEASE):
                try:
                    self._renew(holder)
                finally:
                    self._unlock(keys=[lock], args=[holder])
            elif time.monotonic() > deadline:
                due = datetime.now(UTC) + timedelta(seconds=PATIENCE)
                raise PutOffError("Another worker is asking Zoom for a new token.", due)
            else:
                self._pause(0.05)

    def accepted(self, token: Token | None) -> None:
        """Forget the refusals of tokens before this one."""
        if token is not None and token.stored != self._proved:
            self._redis.delete(self._keys[2])
            self._proved = token.stored

    def refused(self, token: Token | None) -> None:
        """Take the token away, if it is still the one that is shared.

        Raises:
            BlockedError: It is the second in a row.
        """
        kept, _, refusals = self._keys
        stored = token.stored if token is not None else ""
        if int(self._refuse(keys=[kept, refusals], args=[stored, REFUSALS_KEPT])) > 1:
            raise BlockedError(
                f"Zoom refuses a token that it has only just issued at {self._url}. Check ZOOM_API_URL, and that no"
                " other program uses the same app: on some accounts each new token ends the one before."
            )

    def _renew(self, holder: str) -> None:
        """Ask for a token and share it, if the lock is held still."""
        kept, lock, _ = self._keys
        if self._redis.exists(kept):  # another was first
            return
        answer = self._asked()
        value, life = text(answer.get("access_token")), whole(answer.get("expires_in"))
        if value is None or life is None:
            raise SourceError(f"Zoom at {self._url} answered without a token.")
        keep = max(life - EARLIER, life // 2, 1)
        # The number makes it another than one before, should Zoom give the same again.
        stored = json.dumps({"token": value, "scope": text(answer.get("scope")) or "", "number": uuid.uuid4().hex})
        self._store(keys=[kept, lock], args=[stored, keep * 1000, holder])

    def _asked(self) -> dict[str, Any]:
        try:
            # Nothing from ~/.netrc, no redirect: neither has to do with these credentials.
            response = requests.post(
                self._url, data=self._form, auth=self._credentials, timeout=TIMEOUT, allow_redirects=False
            )
        except (requests.RequestException, ValueError) as error:
            raise failure(
                "Zoom", self._url, error, host="ZOOM_TOKEN_URL", login=CREDENTIALS, timeout=TIMEOUT
            ) from error
        try:
            answer = members(json.loads(response.content))
        except (ValueError, RecursionError):
            answer = {}
        status = response.status_code
        if status < HTTPStatus.MULTIPLE_CHOICES and answer and "error" not in answer and "errorCode" not in answer:
            return answer
        passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in passing:
            raise SourceError(f"Zoom at {self._url} answered {status} instead of a token.")
        if not answer:
            if status < HTTPStatus.MULTIPLE_CHOICES:
                raise SourceError(f"Zoom at {self._url} answered with something that is not a JSON object.")
            raise BlockedError(f"Zoom at {self._url} answered {status} instead of a token. Check ZOOM_TOKEN_URL.")
        raise BlockedError(_refusal(self._url, status, answer))


class SignedJwt:
    """A JWT for each request, as accounts had it until 2023 and some gateways still take it."""

    def __init__(self, key: str, secret: str) -> None:
        """Sign with API key and secret."""
        self._key = key
        self._secret = secret

    def __repr__(self) -> str:
        return "SignedJwt()"

    def token(self) -> Token:
        """Return a token for the next minutes."""
        return Token(jwt.encode({"iss": self._key, "exp": int(time.time()) + JWT_LIFE}, self._secret, "HS256"))

    def accepted(self, token: Token | None) -> None:
        """Do nothing: each token is new."""

    def refused(self, token: Token | None) -> None:  # noqa: ARG002 - any other would be refused too
        """Raise BlockedError."""
        raise BlockedError(
            "Zoom refuses the JWT of ZOOM_KEY and ZOOM_SECRET. Zoom itself takes none since September 2023: make a"
            " Server-to-Server OAuth app and set ZOOM_ACCOUNT_ID too. For a gateway, check them and its clock."
        )


class Gateway:
    """No token: what a gateway wants stands in ZOOM_HEADER."""

    def token(self) -> None:
        """Return that none is wanted."""

    def accepted(self, token: Token | None) -> None:
        """Do nothing."""

    def refused(self, token: Token | None) -> None:  # noqa: ARG002 - any other would be refused too
        """Raise BlockedError."""
        raise BlockedError("Zoom's gateway at ZOOM_API_URL refuses the request (401). Check ZOOM_HEADER.")


def _token(stored: str) -> Token:
    kept = json.loads(stored)
    return Token(kept["token"], frozenset(kept["scope"].split()), stored)


def _refusal(url: str, status: int, answer: dict[str, Any]) -> str:
    """Say what the token endpoint refuses; its own words are not passed on, for they hold what it was sent."""
    code, kind = whole(answer.get("errorCode")), answer.get("error")
    if code in BAD_CLIENT or kind == "invalid_client":
        return f"Zoom at {url} refuses the app ({code or kind}). Check ZOOM_KEY and ZOOM_SECRET."
    if code == GRANT_UNSUPPORTED or kind == "unsupported_grant_type":
        return (
            f"Zoom at {url} gives this app no account credentials ({code or kind}). ZOOM_KEY must be that of a"
            " Server-to-Server OAuth app."
        )
    if kind in {"invalid_grant", "invalid_request"}:
        return (
            f"Zoom at {url} does not know the account ({kind}). Check ZOOM_ACCOUNT_ID, and that the app is active."
        )
    return f"Zoom at {url} gives no token ({code or status}). Check {CREDENTIALS}, and that the app is active."
