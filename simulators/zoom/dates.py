"""`from` and `to` as Zoom interprets them: UTC, clamped rather than refused, and echoed as used."""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from simulators.wire import Request
from simulators.zoom.answers import invalid

_MONTHS_BACK = 6
_PADDED = re.compile(r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2})?")
_UNPADDED = re.compile(r"\d{4}-\d{1,2}-\d{1,2}( \d{1,2}:\d{1,2}:\d{1,2})?")
_DAY, _TIME = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open range of a list in epoch ms, and the echoed dates. An `empty` window contains nothing."""

    start_ms: int
    end_ms: int
    echo: dict[str, str]
    empty: bool = False

    def holds(self, ms: int) -> bool:
        """Tell whether an instant is in the window."""
        return not self.empty and self.start_ms <= ms < self.end_ms


@dataclass(frozen=True, slots=True)
class _Bound:
    at: datetime
    form: str

    @property
    def text(self) -> str:
        return self.at.strftime(self.form)

    @property
    def end(self) -> datetime:
        """The first instant after the named day or second."""
        return self.at + (timedelta(days=1) if self.form == _DAY else timedelta(seconds=1))


def read_window(request: Request, now: float, *, times: bool, refuse_old: bool) -> Window:
    """Read `from` and `to`; raises `ZoomError`.

    A `to` in the future is set to today; then `from` is moved if the window is longer than a month. A date that is
    not zero-padded filters out everything (moodle-mod_zoom issue 513).

    Args:
        request: The request with the parameters.
        now: The server's time, epoch seconds.
        times: Whether `yyyy-MM-dd HH:mm:ss` is accepted too; reports accept only days.
        refuse_old: Whether a window that begins more than six months ago is refused; otherwise it is empty. It is
            not known which of these Zoom does.
    """
    asked = {name: request.parameter(name) for name in ("from", "to")}
    first, last = (_read(name, text, times=times) for name, text in asked.items())
    if first is None or last is None:
        return Window(0, 0, asked, empty=True)
    if first.at >= last.end:
        raise invalid("from", "The from date must not be after the to date.")
    today = datetime.fromtimestamp(int(now), UTC)
    if last.form == _DAY:
        today = today.replace(hour=0, minute=0, second=0)
    last = _Bound(min(last.at, today), last.form)
    first = _Bound(max(first.at, _months_before(last.at, 1)), first.form)
    oldest = _months_before(datetime.fromtimestamp(now, UTC), _MONTHS_BACK)
    old = first.at.date() < oldest.date()
    if old and refuse_old:
        raise invalid("from", "The date must be within the last six months.")
    echo = {"from": first.text, "to": last.text}
    return Window(_ms(first.at), _ms(last.end), echo, empty=old)


def _read(name: str, text: str, *, times: bool) -> _Bound | None:
    """Read a bound; None if it is not zero-padded."""
    if not text:
        raise invalid(name, "This field is required.")
    form = _TIME if " " in text else _DAY
    if form == _TIME and not times:
        raise invalid(name, "Invalid field. Expected yyyy-MM-dd.")
    if not _PADDED.fullmatch(text) and _UNPADDED.fullmatch(text):
        return None
    try:
        return _Bound(datetime.strptime(text, form).replace(tzinfo=UTC), form)
    except ValueError as error:
        raise invalid(name, "Invalid field.") from error


def _months_before(at: datetime, months: int) -> datetime:
    """Go back by calendar months; the 31st becomes the month's last day."""
    index = at.year * 12 + at.month - 1 - months
    year, month = divmod(index, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000
