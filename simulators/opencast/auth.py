"""Authentication: Opencast's filters and entry point, with Spring Security's digest and basic challenges."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5

from simulators.opencast.profiles import Profile
from simulators.wire import Request, Response, html

REALM = "Opencast"
MODES = ("digest", "basic", "both", "open")
_KEY = "opencast"
_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller: the one account, which is an administrator, or an anonymous user."""

    admin: bool


class Gate:
    """Decides whether a request is admitted.

    `mode` is what the server accepts: `digest` (basic filter off, as before 5.0), `basic` (an account whose
    password is stored hashed: digest is still offered but never succeeds), `both`, or `open`: both, and
    usertracking and search are public, as in Opencast unless a site restricts them.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        mode: str,
        user: str,
        password: str,
        nonce_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """Use one account; nonces expire after `nonce_seconds` by `clock` (epoch seconds)."""
        self._profile = profile
        self._mode = mode
        self._user = user
        self._password = password
        self._nonce_seconds = nonce_seconds
        self._clock = clock

    def admit(self, request: Request, *, public: bool) -> Caller | Response:
        """Return the caller if admitted, or the response that rejects the request; a `public` path may be open."""
        scheme, _, credentials = request.header("authorization").partition(" ")
        if scheme.lower() == "digest":
            return self._check_digest(request, credentials)
        if scheme.lower() == "basic" and self._mode != "digest":
            given = _decode_basic(credentials)
            right = hmac.compare_digest(given, f"{self._user}:{self._password}".encode())
            return Caller(admin=True) if right else self._challenge_basic()
        forced = bool(request.header(self._profile.forcing_header))
        if public and self._mode == "open" and not forced:
            return Caller(admin=False)
        return self._entry_point(request)

    def _entry_point(self, request: Request) -> Response:
        """Answer a caller who must log in: with a challenge only if requested, otherwise with the login page."""
        wanted = request.header("x-requested-auth")
        if wanted == "Digest":
            return self._challenge_digest(stale=False)
        if wanted == "Basic" and self._profile.challenges_basic:
            return self._challenge_basic()
        if request.header("x-requested-with") == "XMLHttpRequest":
            return html(419, "Session expired")
        if self._profile.forbids:
            return html(403, "403 Forbidden")
        host = request.header("host") or "127.0.0.1"
        return Response(302, headers={"Location": f"http://{host}{self._profile.login_path}"})

    def _check_digest(self, request: Request, credentials: str) -> Caller | Response:
        given = {name: quoted or bare for name, quoted, bare in _FIELD.findall(credentials)}
        right = (
            self._mode != "basic"
            and given.get("username") == self._user
            and given.get("realm") == REALM
            and given.get("uri") == request.target
            and hmac.compare_digest(given.get("response", ""), self._expected(request.method, given))
        )
        expiry_ms = _nonce_expiry_ms(given.get("nonce", ""))
        if not right or expiry_ms is None:
            return self._challenge_digest(stale=False)
        # Spring reports a stale nonce only to callers with the right password.
        if expiry_ms < self._clock() * 1000:
            return self._challenge_digest(stale=True)
        return Caller(admin=True)

    def _expected(self, method: str, given: dict[str, str]) -> str:
        """Return the digest response of RFC 2617, or of RFC 2069 if the client sent no qop."""
        secret = _md5(f"{self._user}:{REALM}:{self._password}")
        asked = _md5(f"{method}:{given.get('uri')}")
        if "qop" not in given:
            return _md5(f"{secret}:{given.get('nonce')}:{asked}")
        if given["qop"] != "auth" or not given.get("nc") or not given.get("cnonce"):
            return ""
        return _md5(f"{secret}:{given.get('nonce')}:{given['nc']}:{given['cnonce']}:auth:{asked}")

    def _challenge_digest(self, *, stale: bool) -> Response:
        nonce = _make_nonce(int((self._clock() + self._nonce_seconds) * 1000))
        challenge = f'Digest realm="{REALM}", qop="auth", nonce="{nonce}"' + ', stale="true"' * stale
        return _unauthorized(challenge)

    def _challenge_basic(self) -> Response:
        return _unauthorized(f'Basic realm="{REALM}"')


def _unauthorized(challenge: str) -> Response:
    page = html(401, "401 Unauthorized")
    return Response(401, page.body, page.content_type, {"WWW-Authenticate": challenge})


def _make_nonce(expiry_ms: int) -> str:
    """Create a nonce like Spring's: stateless, it contains its expiry and a signature."""
    return base64.b64encode(f"{expiry_ms}:{_md5(f'{expiry_ms}:{_KEY}')}".encode()).decode()


def _nonce_expiry_ms(nonce: str) -> int | None:
    """Return a nonce's expiry (epoch ms); None if this server did not create it."""
    try:
        expiry_ms = int(base64.b64decode(nonce, validate=True).partition(b":")[0])
    except ValueError:
        return None
    return expiry_ms if nonce == _make_nonce(expiry_ms) else None


def _decode_basic(credentials: str) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True)
    except binascii.Error:
        return b""


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
