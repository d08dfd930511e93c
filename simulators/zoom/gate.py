"""Authentication: the token endpoint, access tokens, signed JWTs, and a gateway's header."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from urllib.parse import parse_qs

import jwt

from simulators.wire import Request, Response
from simulators.zoom.answers import ZoomError, as_json

_EXPIRED = "Access token is expired."


@dataclass(frozen=True, slots=True)
class Account:
    """The credentials and rules that the gate checks.

    Attributes:
        account_id: Account id of the Server-to-Server app.
        client_id: Client id of the app; also the issuer of JWTs.
        client_secret: The app's secret; also the key of JWTs.
        token_seconds: Lifetime of an access token.
        one_token: Whether a new token invalidates the previous one, as in 2022 and 2023.
        old_errors: Whether the token endpoint's errors have their older form.
        jwt: Whether signed JWTs are accepted too, as before September 2023.
        gateway: Name (lower case) and value of a header that every call must have instead of a token.
        scopes: Scopes granted to tokens.
    """

    account_id: str
    client_id: str
    client_secret: str
    token_seconds: float
    one_token: bool
    old_errors: bool
    jwt: bool
    gateway: tuple[str, str] | None
    scopes: tuple[str, ...]


class GatewayError(Exception):
    """The gateway in front of Zoom refuses a call, in its own format."""

    def response(self) -> Response:
        """Return Apigee's response."""
        fault = {"faultstring": "Invalid ApiKey", "detail": {"errorcode": "oauth.v2.InvalidApiKey"}}
        return as_json({"fault": fault}, 401)


class Gate:
    """Issues tokens and checks them. Thread-safe."""

    def __init__(self) -> None:
        """Start without issued tokens."""
        self._lock = Lock()
        self._tokens: dict[str, tuple[float, tuple[str, ...]]] = {}
        self.issued = 0

    def forget_log(self) -> None:
        """Reset the count of issued tokens."""
        self.issued = 0

    def revoke(self) -> None:
        """Revoke all tokens."""
        with self._lock:
            self._tokens.clear()

    def issue(self, request: Request, account: Account, now: float) -> Response:
        """Answer the token endpoint, which accepts its parameters in the form or in the query."""
        form = parse_qs(request.body.decode("latin-1"), keep_blank_values=True)
        given = {name: values[0] for name, values in {**request.query, **form}.items()}
        refusal = _refusal(request.header("authorization"), given, account)
        if refusal is not None:
            reason, error, code = refusal
            if account.old_errors:
                return as_json({"status": False, "errorCode": code, "errorMessage": reason, "result": None}, 400)
            return as_json({"reason": reason, "error": error}, 400)
        token = f"eyJ{secrets.token_urlsafe(60)}"
        with self._lock:
            if account.one_token:
                self._tokens.clear()
            self._tokens[token] = now + account.token_seconds, account.scopes
            self.issued += 1
        answer = {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": int(account.token_seconds),
            "scope": " ".join(account.scopes),
            "api_url": f"http://{request.header('host')}",
        }
        return as_json(answer)

    def admit(self, request: Request, account: Account, now: float) -> tuple[str, ...] | None:
        """Admit a call and return its scopes, None meaning all; raises `ZoomError` or `GatewayError`.

        Tokens in the query have been refused since 2023, so one there is ignored.
        """
        if account.gateway is not None:
            name, value = account.gateway
            if not hmac.compare_digest(request.header(name).encode(), value.encode()):
                raise GatewayError
            return None
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise ZoomError(124)
        with self._lock:
            found = self._tokens.get(token)
        if found is None:
            if not account.jwt:
                raise ZoomError(124)
            _check_jwt(token, account, now)
            return None
        expires, scopes = found
        if expires <= now:
            raise ZoomError(124, _EXPIRED)
        return scopes


def _refusal(login: str, given: Mapping[str, str], account: Account) -> tuple[str, str, int] | None:
    """Return why a token is refused: the text, the error of the newer format, and the code of the older one."""
    scheme, _, credentials = login.partition(" ")
    try:
        decoded = base64.b64decode(credentials, validate=True)
    except binascii.Error:
        decoded = b""
    right = f"{account.client_id}:{account.client_secret}".encode()
    if scheme.lower() != "basic" or not hmac.compare_digest(decoded, right):
        return "Invalid client_id or client_secret", "invalid_client", 4702
    if "grant_type" not in given:
        return "Missing grant type", "invalid_request", 4706
    if given["grant_type"] != "account_credentials":
        return "unsupported grant type", "unsupported_grant_type", 4705
    if given.get("account_id") != account.account_id:
        return "Invalid account_id", "invalid_request", 4706
    return None


def _check_jwt(token: str, account: Account, now: float) -> None:
    """Check a JWT's signature, issuer and expiry, by the simulated clock."""
    try:
        claims = jwt.decode(
            token,
            account.client_secret,
            algorithms=["HS256"],
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["iss", "exp"]},
        )
    except jwt.InvalidTokenError as error:
        raise ZoomError(124) from error
    if claims["iss"] != account.client_id or not isinstance(claims["exp"], int | float):
        raise ZoomError(124)
    if claims["exp"] <= now:
        raise ZoomError(124, _EXPIRED)
