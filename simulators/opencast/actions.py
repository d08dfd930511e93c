"""GET /usertracking/actions.json: Opencast's parameters, and the `start`/`end` of Harvard's fork."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from simulators.opencast.site import Site
from simulators.opencast.table import Filter
from simulators.wire import TEXT_TYPE, Request, Response

_DEFAULT_LIMIT = 10
_INT = range(-(2**31), 2**31)


class RefusedError(Exception):
    """A parameter for which the server returns an error status."""

    def __init__(self, status: int, text: str = "") -> None:
        """Refuse with this status and plain text."""
        super().__init__(text)
        self.response = Response(status, text.encode(), TEXT_TYPE)


@dataclass(frozen=True, slots=True)
class Query:
    """A request for actions as the server interprets it."""

    where: Filter
    offset: int
    limit: int


def parse_query(site: Site, request: Request) -> Query:
    """Read the parameters and ignore unknown ones. Raises `RefusedError`."""
    if not re.search(r"application/(json|\*)|\*/\*|^$", request.header("accept")):
        raise RefusedError(406)
    limit, offset = integer(request, "limit"), integer(request, "offset")
    if limit < 0 or offset < 0:
        raise RefusedError(400, "limit and offset must not be negative")
    kind = request.parameter("type")
    # `id` is used only together with `type`, and `day` is then ignored.
    mediapackage = request.parameter("id") if kind else ""
    first_ms, last_ms = _bounds(site, request, with_day=not mediapackage)
    where = Filter(first_ms, last_ms, kind or None, mediapackage or None)
    return Query(where, offset, limit or _DEFAULT_LIMIT)


def answer(site: Site, query: Query) -> Response:
    """Return a page of actions: `action` is absent for none, an object for one, otherwise an array."""
    page = site.read_page(query.where, query.offset, query.limit)
    site.log.note_read(page.read)
    bodies = page.bodies
    echoes = {"total": page.total, "offset": query.offset, "limit": query.limit}
    typed = site.profile.encode({name: site.profile.attribute(str(value)) for name, value in echoes.items()})
    head = f'{{"actions":{typed[:-1]}'.encode()
    if not bodies:
        return Response(200, head + b"}}")
    rows = bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"
    return Response(200, head + b',"action":' + rows + b"}}")


def integer(request: Request, name: str) -> int:
    """Read an int parameter as JAX-RS does: 0 if absent or empty, 404 if it is not an int."""
    text = request.parameter(name)
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) not in _INT:
        raise RefusedError(404)
    return int(text)


def _bounds(site: Site, request: Request, *, with_day: bool) -> tuple[int | None, int | None]:
    """Return the inclusive bounds that `start`/`end` or `day` select."""
    if site.profile.harvard:
        start, end = request.parameter("start"), request.parameter("end")
        if start or end:
            return _local_instant(site, start), _local_instant(site, end)
    day = request.parameter("day")
    if not day or not with_day:
        return None, None
    midnight = datetime.combine(_lenient_day(day), time())
    # The day bug: the server sets only hour and minute, and keeps seconds and milliseconds from its clock.
    within_minute = timedelta(milliseconds=int(site.now() * 1000) % 60_000)
    return (
        site.zone.instant_ms(midnight + within_minute),
        site.zone.instant_ms(midnight + timedelta(hours=23, minutes=59) + within_minute),
    )


def _local_instant(site: Site, text: str) -> int | None:
    """Read YYYYMMDDHHmmss as local wall time; an invalid value is an unhandled error in the server."""
    if not text:
        return None
    refused = RefusedError(500, f"Unparseable date: {text}")
    if not re.fullmatch(r"[0-9]{14}", text):
        raise refused
    try:
        return site.zone.instant_ms(datetime.strptime(text, "%Y%m%d%H%M%S"))  # noqa: DTZ007 - local on purpose
    except ValueError as error:
        raise refused from error


def _lenient_day(text: str) -> date:
    """Read YYYYMMDD leniently: trailing text is ignored, and 20149999 overflows to a much later day."""
    if not re.match(r"[0-9]{8}", text):
        raise RefusedError(500, f"For input string: {text}")
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    try:
        first = date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
        return first + timedelta(days=day - 1)
    except (ValueError, OverflowError) as error:
        raise RefusedError(500, f"No such day here: {text}") from error
