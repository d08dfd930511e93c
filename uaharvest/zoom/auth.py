"""Authentication at Zoom: a token shared by all workers, a JWT, or only a gateway's header."""

import dataclasses
import json
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
import redis
from requests.auth import HTTPBasicAuth

from uaharvest import keys
from uaharvest.answers import is_busy
from uaharvest.coerce import members, text, whole
from uaharvest.errors import BlockedError, PutOffError, SourceError
from uaharvest.lua import script
from uaharvest.transport import MEGABYTE, Upstream
from uaharvest.zoom import answers

CREDENTIALS = "ZOOM_ACCOUNT_ID, ZOOM_KEY and ZOOM_SECRET"
TIMEOUT = (5, 15)  # seconds: to connect, and between two chunks of the response
LONGEST_ANSWER = 20.0  # seconds for the whole response
# Longer than any token request takes. If it expires, the worker has died.
LEASE = 30_000  # ms
TOKEN_WAIT = 3.0  # seconds that a worker waits for another's new token
EARLIER = 300  # renew a token this many seconds before it expires, so that calls in progress still succeed
JWT_LIFE = 120  # seconds
LONGEST_LIFE = 86_400  # maximum lifetime in seconds to accept; Zoom's tokens live an hour
RENEWALS = 3  # maximum in a row by one caller; if more are needed, each new token disappears at once
# Characters allowed in a header.
_TOKEN = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
# Error codes in the token endpoint's older format.
BAD_CLIENT = frozenset({4702, 4704})
GRANT_UNSUPPORTED = 4705
# How long to remember the number of tokens refused in a row, without a successful call.
REFUSALS_KEPT = 3_600_000  # ms


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """An access token.

    Attributes:
        value: The bearer token.
        scopes: The scopes it grants; empty if it does not say.
        stored: Its representation in Redis.
    """

    value: str = dataclasses.field(repr=False)
    scopes: frozenset[str] = frozenset()
    stored: str = dataclasses.field(default="", repr=False)


class Login(Protocol):
    """A source of tokens."""

    def token(self) -> Token | None:
        """Return the token to use, or None if none is needed."""

    def accepted(self, token: Token | None) -> None:
        """Note that Zoom accepted the token."""

    def refused(self, token: Token | None) -> None:
        """Note that Zoom refused the token. `token` then returns another.

        Raises:
            BlockedError: Another token would be refused too.
        """


class ServerToServer:
    """Server-to-Server OAuth: one token in Redis for all workers.

    There is only one token, because on some accounts a new token invalidates the previous one. A worker that finds none
    requests it under a lock with a lease; others wait briefly. Redis drops the token some minutes before it expires. It
    is also removed if Zoom refuses it, provided that it is still the stored one. Two refusals in a row, without a
    successful call in between, raise BlockedError, because a person must find the cause.

    Anyone who can read the token in Redis can call Zoom as this app for up to an hour. Redis therefore needs a password
    and TLS, or a private network, as it does for the broker anyway. Key and secret are never stored in Redis.
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
        """Request tokens at `url` with the app's id and secret, and keep them in `client` under the name `place`."""
        self._redis = client
        self._url = url
        self._form = {"grant_type": "account_credentials", "account_id": account_id}
        self._credentials = HTTPBasicAuth(key.encode(), secret.encode())
        self._own = (account_id, key, secret)
        self._upstream = Upstream("Zoom", host="ZOOM_TOKEN_URL", login=CREDENTIALS, timeout=TIMEOUT, pool_size=1)
        self._keys = [key(place) for key in (keys.TOKEN, keys.TOKEN_LOCK, keys.TOKEN_REFUSALS)]
        self._pause = pause
        self._proved = ""  # the last token that Zoom accepted
        self._store = script(client, "token_store")
        self._unlock = script(client, "token_unlock")
        self._refuse = script(client, "token_refuse")

    def __repr__(self) -> str:
        return f"ServerToServer({self._url!r})"

    def token(self) -> Token:
        """Return the shared token, requesting a new one if there is none.

        Raises:
            PutOffError: Another worker is requesting it, and takes long.
            BlockedError: Zoom refuses the app.
            SourceError: Zoom temporarily issues no usable token.
        """
        kept, lock, _ = self._keys
        holder, deadline, renewals = uuid.uuid4().hex, time.monotonic() + TOKEN_WAIT, 0
        while renewals <= RENEWALS:
            stored = self._redis.get(kept)
            if stored is not None:
                return _token(str(stored))
            if self._redis.set(lock, holder, nx=True, px=LEASE):
                renewals += 1
                try:
                    self._renew(holder)
                finally:
                    self._unlock(keys=[lock], args=[holder])
            elif time.monotonic() > deadline:
                due = datetime.now(UTC) + timedelta(seconds=TOKEN_WAIT)
                raise PutOffError("Another worker is asking Zoom for a new token.", due)
            else:
                self._pause(0.05)
        raise SourceError(f"Zoom at {self._url} issues tokens that end at once.")

    def accepted(self, token: Token | None) -> None:
        """Reset the number of refusals in a row."""
        if token is not None and token.stored != self._proved:
            self._redis.delete(self._keys[2])
            self._proved = token.stored

    def refused(self, token: Token | None) -> None:
        """Remove the token from Redis, if it is still the stored one.

        Raises:
            BlockedError: This is the second refusal in a row.
        """
        kept, _, refusals = self._keys
        stored = token.stored if token is not None else ""
        if int(self._refuse(keys=[kept, refusals], args=[stored, REFUSALS_KEPT])) > 1:
            raise BlockedError(
                f"Zoom refuses a token that it has only just issued at {self._url}. Check ZOOM_API_URL, and that no"
                " other program uses the same app: on some accounts each new token ends the one before."
            )

    def _renew(self, holder: str) -> None:
        """Request a token, and store it if the lock is still held."""
        kept, lock, _ = self._keys
        if self._redis.exists(kept):  # another worker was first
            return
        answer = self._asked()
        value, life = answer.get("access_token"), whole(answer.get("expires_in"))
        if not _is_token(value) or life is None or life <= 0:
            raise SourceError(f"Zoom at {self._url} answered without a usable token.")
        life = min(life, LONGEST_LIFE)
        keep = max(life - EARLIER, life // 2, 1)
        # The number makes it distinct from earlier ones, even if Zoom issues the same token again.
        stored = json.dumps({"token": value, "scope": text(answer.get("scope")) or "", "number": uuid.uuid4().hex})
        self._store(keys=[kept, lock], args=[stored, keep * 1000, holder])

    def _asked(self) -> dict[str, Any]:
        response = self._upstream.fetch(
            self._url,
            method="POST",
            data=self._form,
            auth=self._credentials,
            longest=LONGEST_ANSWER,
            largest=MEGABYTE,
        )
        try:
            answer = members(json.loads(response.content))
        except (ValueError, RecursionError):
            answer = {}
        status = response.status_code
        if status < HTTPStatus.MULTIPLE_CHOICES and _is_token(answer.get("access_token")):
            return answer
        if is_busy(status):
            raise SourceError(f"Zoom at {self._url} answered {status} instead of a token.")
        if "error" in answer or "errorCode" in answer:
            raise BlockedError(_refusal(self._url, status, answer, self._own))
        if status < HTTPStatus.MULTIPLE_CHOICES:
            what = "without a token" if answer else "with something that is not a JSON object"
            raise SourceError(f"Zoom at {self._url} answered {what}.")
        target = redirected(response.headers.get("Location", "")) if status < HTTPStatus.BAD_REQUEST else ""
        # This response is not from Zoom itself, so it says nothing about the credentials.
        raise BlockedError(
            f"Zoom at {self._url} answered {status} instead of a token. Check ZOOM_TOKEN_URL{target}."
        )


class SignedJwt:
    """Signs a JWT for each request. Zoom accepted these until 2023, and some gateways still do."""

    def __init__(self, key: str, secret: str) -> None:
        """Take the API key and secret."""
        self._key = key
        self._secret = secret

    def __repr__(self) -> str:
        return "SignedJwt()"

    def token(self) -> Token:
        """Return a token that is valid for two minutes."""
        return Token(jwt.encode({"iss": self._key, "exp": int(time.time()) + JWT_LIFE}, self._secret, "HS256"))

    def accepted(self, token: Token | None) -> None:
        """Do nothing, because each token is new."""

    def refused(self, token: Token | None) -> None:  # noqa: ARG002 - any other would be refused too
        """Raise BlockedError."""
        raise BlockedError(
            "Zoom refuses the JWT of ZOOM_KEY and ZOOM_SECRET. Zoom itself takes none since September 2023: make a"
            " Server-to-Server OAuth app and set ZOOM_ACCOUNT_ID too. For a gateway, check them and its clock."
        )


class Gateway:
    """Uses no token. A gateway gets its credentials from ZOOM_HEADER."""

    def token(self) -> None:
        """Return None, because no token is needed."""

    def accepted(self, token: Token | None) -> None:
        """Do nothing."""

    def refused(self, token: Token | None) -> None:  # noqa: ARG002 - any other would be refused too
        """Raise BlockedError."""
        raise BlockedError("Zoom's gateway at ZOOM_API_URL refuses the request (401). Check ZOOM_HEADER.")


def _token(stored: str) -> Token:
    kept = json.loads(stored)
    return Token(kept["token"], frozenset(kept["scope"].split()), stored)


def redirected(target: str) -> str:
    """Return the target of a redirect for an error message: only its scheme and host."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(parts.netloc):
        return ""
    return f": it redirects to {parts.scheme}://{parts.netloc}, perhaps the host of a region"


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and bool(_TOKEN.fullmatch(value))


def _refusal(url: str, status: int, answer: dict[str, Any], own: tuple[str, ...]) -> str:
    """Return the message for a refusal by the token endpoint, without words of it that may repeat what was sent."""
    code, kind = whole(answer.get("errorCode")), text(answer.get("error"))
    said = text(answer.get("reason")) or text(answer.get("errorMessage")) or ""
    # Words that are part of the credentials are not shown either.
    words = answers.plain_words(" ".join(word for word in said.split() if not any(word in one for one in own)))
    zoom = f'Zoom at {url} says "{words}": it' if words else f"Zoom at {url}"
    if code in BAD_CLIENT or kind == "invalid_client":
        return f"{zoom} refuses the app ({code or kind}). Check ZOOM_KEY and ZOOM_SECRET."
    if code == GRANT_UNSUPPORTED or kind == "unsupported_grant_type":
        return (
            f"{zoom} gives this app no account credentials ({code or kind}). ZOOM_KEY must be that of a"
            " Server-to-Server OAuth app."
        )
    if kind in {"invalid_grant", "invalid_request"}:
        return f"{zoom} does not know the account ({kind}). Check ZOOM_ACCOUNT_ID, and that the app is active."
    return f"{zoom} gives no token ({code or status}). Check {CREDENTIALS}, and that the app is active."
