"""Local time as seen by a Java server with a `DATETIME` column: its zone, DST, and the hour that it loses."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

# Zones change their offsets only at quarter hours, so an offset is constant within one.
QUARTER_MS = 900_000


class _Quarter(NamedTuple):
    hour: str  # "2026-11-01T01:"
    minute: int
    offset: str
    shift_ms: int  # how much later a wall-time column reports these instants


class Zone:
    """The server's default time zone.

    With `wall_time`, the column holds local wall time, as with Opencast on MySQL and MariaDB: the first pass
    through a repeated hour is read back as the second, an hour late.
    """

    def __init__(self, name: str, *, wall_time: bool) -> None:
        """Load the zone `name`; raise `ZoneInfoNotFoundError` if it is unknown."""
        self._info = ZoneInfo(name)
        self._wall_time = wall_time
        self._quarters: dict[int, _Quarter] = {}

    def reported_ms(self, true_ms: int) -> int:
        """Return the instant (epoch ms) that the server reports for a row written at `true_ms`."""
        return true_ms + self._quarter(true_ms // QUARTER_MS).shift_ms

    def text(self, ms: int) -> str:
        """Format an instant as `xs:dateTime` with the zone's offset, and a fraction only if it is not zero."""
        number, rest = divmod(ms, QUARTER_MS)
        quarter = self._quarter(number)
        seconds, millis = divmod(rest, 1000)
        minutes, seconds = divmod(seconds, 60)
        fraction = f".{millis:03d}" if millis else ""
        return f"{quarter.hour}{quarter.minute + minutes:02d}:{seconds:02d}{fraction}{quarter.offset}"

    def wall(self, ms: int) -> datetime:
        """Return the naive local wall time of an instant."""
        return datetime.fromtimestamp(ms / 1000, self._info).replace(tzinfo=None)

    def instant_ms(self, wall: datetime) -> int:
        """Return Java's interpretation of a naive wall time.

        A repeated wall time means the second pass (standard time), and a skipped one is moved forward; both are
        the later of Python's two interpretations.
        """
        readings = (wall.replace(tzinfo=self._info, fold=fold).astimezone(UTC) for fold in (0, 1))
        return round(max(reading.timestamp() for reading in readings) * 1000)

    def _quarter(self, number: int) -> _Quarter:
        if number not in self._quarters:
            ms = number * QUARTER_MS
            local = datetime.fromtimestamp(ms / 1000, self._info)
            shift_ms = self.instant_ms(local.replace(tzinfo=None, fold=0)) - ms if self._wall_time else 0
            offset = local.utcoffset() or timedelta()
            sign, minutes = ("-", -offset) if offset < timedelta() else ("+", offset)
            hours, minute = divmod(minutes // timedelta(minutes=1), 60)
            self._quarters[number] = _Quarter(
                local.strftime("%Y-%m-%dT%H:"),
                local.minute,
                f"{sign}{hours:02d}:{minute:02d}" if offset else "Z",
                shift_ms,
            )
        return self._quarters[number]


def utc_text(ms: int) -> str:
    """Format an instant like Opencast's `DateTimeSupport.toUTC`: UTC with `Z`, without a fraction."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
