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
    """A parameter that the server answers with an error status."""

    def __init__(self, status: int, text: str = "") -> None:
        """Refuse with this status and plain text."""
        super().__init__(text)
        self.response = Response(status, text.encode(), TEXT_TYPE)


@dataclass(frozen=True, slots=True)
class Query:
    """A request for actions as the server understood it."""

    where: Filter
    offset: int
    limit: int


def parse_query(site: Site, request: Request) -> Query:
    """Read the parameters; unknown ones are ignored. Raises `RefusedError`."""
    if not re.search(r"application/(json|\*)|\*/\*|^$", request.header("accept")):
        raise RefusedError(406)
    limit, offset = integer(request, "limit"), integer(request, "offset")
    if limit < 0 or offset < 0:
        raise RefusedError(400, "limit and offset must not be negative")
    kind = request.parameter("type")
    # `id` counts only together with `type`, and then `day` does not.
    mediapackage = request.parameter("id") if kind else ""
    first_ms, last_ms = _bounds(site, request, with_day=not mediapackage)
    where = Filter(first_ms, last_ms, kind or None, mediapackage or None)
    return Query(where, offset, limit or _DEFAULT_LIMIT)


def answer(site: Site, query: Query) -> Response:
    """Give a page of actions: `action` absent when there is none, an object when one, else an array."""
    total, bodies = site.read_page(query.where, query.offset, query.limit)
    echoes = {"total": total, "offset": query.offset, "limit": query.limit}
    typed = site.profile.encode({name: site.profile.attribute(str(value)) for name, value in echoes.items()})
    head = f'{{"actions":{typed[:-1]}'.encode()
    if not bodies:
        return Response(200, head + b"}}")
    rows = bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"
    return Response(200, head + b',"action":' + rows + b"}}")


def integer(request: Request, name: str) -> int:
    """Read an int parameter as JAX-RS does: absent or empty is 0, anything but an int is a 404."""
    text = request.parameter(name)
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) not in _INT:
        raise RefusedError(404)
    return int(text)


def _bounds(site: Site, request: Request, *, with_day: bool) -> tuple[int | None, int | None]:
    """Give the instants, inclusive, that `start`/`end` or `day` select."""
    if site.profile.harvard:
        start, end = request.parameter("start"), request.parameter("end")
        if start or end:
            return _local_instant(site, start), _local_instant(site, end)
    day = request.parameter("day")
    if not day or not with_day:
        return None, None
    midnight = datetime.combine(_lenient_day(day), time())
    # The day bug: the server sets hour and minute only, seconds and milliseconds stay those of its clock.
    within_minute = timedelta(milliseconds=int(site.now() * 1000) % 60_000)
    return (
        site.zone.instant_ms(midnight + within_minute),
        site.zone.instant_ms(midnight + timedelta(hours=23, minutes=59) + within_minute),
    )


def _local_instant(site: Site, text: str) -> int | None:
    """Read YYYYMMDDHHmmss as local wall time, to the second; nonsense is an unhandled error there."""
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
    """Read YYYYMMDD by its digits alone: what follows is ignored, and 20149999 is a day far away."""
    if not re.match(r"[0-9]{8}", text):
        raise RefusedError(500, f"For input string: {text}")
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    try:
        first = date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
        return first + timedelta(days=day - 1)
    except (ValueError, OverflowError) as error:
        raise RefusedError(500, f"No such day here: {text}") from error
