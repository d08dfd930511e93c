"""Sends requests to ES_HOST, after asking it once which product it is."""

import gc
import time
import types
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from elastic_transport import (
    JsonSerializer,
    NodeConfig,
    Transport,
    TransportApiResponse,
    TransportError,
    Urllib3HttpNode,
)
from elastic_transport.client_utils import basic_auth_to_header, url_to_node_config
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as LateError

from uaharvest import answers, counters
from uaharvest.errors import BadInputError, HarvestError, RetryableError
from uaharvest.retries import Retries
from uaharvest.settings import Settings
from uaharvest.sinks.cluster.products import Product, recognise
from uaharvest.sinks.cluster.refusals import Server, passes, refusal, translate
from uaharvest.sinks.cluster.signing import Sign, signer

# Consecutive attempts without progress: after about 10 s the slice is returned. Requests are not repeated once a
# minute has passed: six hanging responses would take half an hour.
RETRIES = Retries(attempts=6, first=1.0, longest=4.0, within=60.0)
REQUEST_SECONDS = 60
LARGEST_ANSWER = 200_000_000  # bytes, uncompressed: a page of an export has 1,000 documents
CONNECTIONS = 4

_HEADERS = {"accept": "application/json"}
_WITH_BODY = {**_HEADERS, "content-type": "application/json"}


class Response(NamedTuple):
    """A response: its status and its JSON, an object if the request succeeded."""

    status: int
    body: Any


class _KnownServer(NamedTuple):
    server: Server
    product: Product


class Cluster:
    """A connection to Elasticsearch or OpenSearch; threads may share it.

    Args:
        transport_: With one node, which it asks once.
        signed: Whether the node signs requests for AWS.
        pause: Sleeps for the given number of seconds.
    """

    def __init__(
        self, transport_: Transport, *, signed: bool = False, pause: Callable[[float], None] = time.sleep
    ) -> None:
        node = next(iter(transport_.node_pool.all()))
        self.pause = pause
        self._transport = transport_
        self._unknown = Server(node.base_url, signed=signed)
        self._known: _KnownServer | None = None

    @property
    def server(self) -> Server:
        """The server for error messages, with its product and version once they are known."""
        return self._known.server if self._known else self._unknown

    def product(self) -> Product:
        """Return which product the server is; the first call asks it.

        Raises:
            BlockedError: It is neither, or too old, or refuses us.
            RetryableError: It cannot be reached.
        """
        if self._known is None:
            self._known = self._recognise()
        return self._known.product

    def _recognise(self) -> _KnownServer:
        unknown = self._unknown
        meta, body = self._send("GET", "/", None, unknown)
        if meta.status == HTTPStatus.UNAUTHORIZED or passes(meta.status):
            raise refusal(meta.status, body, unknown)
        found = recognise(meta.status, meta.headers, body, unknown.url)
        if found is None:
            raise refusal(meta.status, body, unknown)
        return _KnownServer(Server(unknown.url, *found, signed=unknown.signed), found[0])

    def ask(
        self, method: str, path: str, body: object = None, *, accept: Collection[int] = (), **parameters: str | int
    ) -> Response:
        """Send a request and return the response; retry temporary failures with back-off.

        Args:
            method: The HTTP method.
            path: The path, with names quoted by `quoted`.
            body: What to send as JSON; bytes are sent as they are.
            accept: Statuses of failure that the caller handles.
            parameters: The query.

        Raises:
            RetryableError: It still fails after about 10 s, or after a minute and a half without any response.
            BlockedError: A person must change something.
        """
        return RETRIES.call(lambda: self.once(method, path, body, accept=accept, **parameters), pause=self.pause)

    def once(
        self, method: str, path: str, body: object = None, *, accept: Collection[int] = (), **parameters: str | int
    ) -> Response:
        """Send a request as `ask` does, but do not repeat it."""
        product, server = self.product(), self.server
        query = urlencode({name: _text(value) for name, value in parameters.items()}, quote_via=quote)
        meta, content = self._send(method, f"{path}?{query}" if query else path, body, server)
        if meta.status in accept:
            return Response(meta.status, content)
        if meta.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(meta.status, content, server)
        # A proxy may send a web page or its own JSON.
        if not isinstance(content, dict) or not _is_of(product, meta.headers):
            raise RetryableError(f"{server} did not answer in JSON as {product.name} does")
        return Response(meta.status, content)

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()

    def _send(self, method: str, target: str, body: object, server: Server) -> TransportApiResponse:
        try:
            return self._transport.perform_request(
                method, target, body=body, headers=_HEADERS if body is None else _WITH_BODY
            )
        except TransportError as error:
            if isinstance(error.__cause__, HarvestError):  # from signing
                raise error.__cause__ from None
            raise translate(error, server) from None


def quoted(names: str) -> str:
    """Return index names, a pattern, or a document's id, as they may stand in a path."""
    return quote(names, safe=",*")


def connect(settings: Settings, *, pause: Callable[[float], None] = time.sleep) -> Cluster:
    """Return a connection to ES_HOST, which neither retries by itself nor uses any other node; it asks nothing yet.

    Raises:
        BadInputError: A setting is missing, or two conflict.
    """
    settings.require("es_url")
    parts = urlsplit(settings.es_url or "")
    host = parts.hostname or ""
    options: dict[str, Any] = {}
    if authorization := _authorization(settings):
        options["headers"] = {"authorization": authorization}
    if settings.es_ca_file:
        if not Path(settings.es_ca_file).is_file():
            raise BadInputError(
                f"ES_CA_FILE: there is no file '{settings.es_ca_file}'. Expected certificates (PEM)."
            )
        options["ca_certs"] = settings.es_ca_file
    config = url_to_node_config(settings.es_url or "", use_default_ports_for_scheme=True).replace(
        # Compression costs 20 ms of CPU time per megabyte and gains nothing on the loopback interface.
        http_compress=host not in {"127.0.0.1", "localhost", "::1"},
        request_timeout=REQUEST_SECONDS,
        connections_per_node=CONNECTIONS,
        **options,
    )
    signed = settings.es_auth == "aws"
    node = type("_SignedNode", (_BoundedNode,), {"sign": staticmethod(signer(host))}) if signed else _BoundedNode
    return Cluster(
        Transport(
            [config],
            node_class=node,
            serializers={FastJson.mimetype: FastJson()},
            max_retries=0,
            meta_header=False,
        ),
        signed=signed,
        pause=pause,
    )


def _authorization(settings: Settings) -> str:
    logins = {
        "ES_AUTH=aws": settings.es_auth == "aws",
        "ES_API_KEY": settings.es_api_key,
        "ES_USER": settings.es_user or settings.es_password,
    }
    given = [name for name, value in logins.items() if value]
    if len(given) > 1:
        raise BadInputError(f"{' and '.join(given)} are set. Expected one of them.")
    if bool(settings.es_user) != bool(settings.es_password):
        raise BadInputError("ES_USER and ES_PASSWORD go together; one of them is not set.")
    if settings.es_api_key:
        return f"ApiKey {settings.es_api_key}"
    if settings.es_user and settings.es_password:
        return basic_auth_to_header((settings.es_user, settings.es_password))
    return ""


class FastJson(JsonSerializer):
    """Decodes JSON with msgspec, in half the time. What that refuses (NaN, lone surrogates) `json` may still take.

    A page of hits is tens of thousands of new objects, none of them garbage. Looking for garbage among them again and
    again would take longer than decoding them, so the collector waits meanwhile.
    """

    def json_loads(self, data: bytes) -> Any:
        """Decode an answer."""
        gc.disable()
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return super().json_loads(data)
        finally:
            gc.enable()


class _BoundedNode(Urllib3HttpNode):
    """A node that limits the size and duration of responses, which urllib3 does not, and may sign requests."""

    sign: Sign | None = None

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        answers.bound(self.pool)
        self.pool: Any = _BoundedPool(self.pool, f"{config.scheme}://{_authority(config)}", self.sign)


class _BoundedPool:
    def __init__(self, pool: Any, url: str, sign: Sign | None) -> None:
        self._pool = pool
        self._url = url
        self._sign = sign

    def urlopen(self, method: str, target: str, *, headers: Any, body: bytes | None = None, **options: Any) -> Any:
        """Return the complete, uncompressed response."""
        if self._sign:
            headers = {**headers, **self._sign(method, f"{self._url}{target}", body or b"")}
        began = time.monotonic()
        try:
            answer = self._answer(method, target, headers=headers, body=body, **options)
        except (HTTPError, OSError) as error:
            late = isinstance(error, TimeoutError | LateError)
            counters.request("elasticsearch", time.monotonic() - began, "timeout" if late else "unreachable")
            raise
        counters.request("elasticsearch", time.monotonic() - began, answers.fault_of(answer.status))
        return answer

    def _answer(self, *args: Any, **options: Any) -> types.SimpleNamespace:
        response = self._pool.urlopen(*args, **options, preload_content=False)
        content = bytearray()
        try:
            for piece in response.stream(65536, decode_content=True):
                content += piece
                if len(content) > LARGEST_ANSWER:
                    response.close()
                    raise HTTPError(f"an answer of more than {LARGEST_ANSWER:,} bytes")
        finally:
            response.release_conn()  # also a closed one: the pool is small and blocks until one is free
        return types.SimpleNamespace(status=response.status, headers=response.headers, data=bytes(content))

    def close(self) -> None:
        self._pool.close()


def _authority(config: NodeConfig) -> str:
    """Return the host as urllib3 writes it into the header `Host`, which is signed."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return host if config.port == {"http": 80, "https": 443}[config.scheme] else f"{host}:{config.port}"


def _is_of(product: Product, headers: Mapping[str, str]) -> bool:
    return product.header is None or headers.get(product.header[0]) == product.header[1]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
