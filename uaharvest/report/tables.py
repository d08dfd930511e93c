"""Tables as pages and CSV files show them: the same cells in both."""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

from uaharvest.errors import BadInputError
from uaharvest.plain import cell
from uaharvest.report.groups import Hidden

UNKNOWN = "\u2013"
_STYLES = {"count": "n", "share": "n", "minutes": "n", "position": "n", "instant": "time", "day": "time"}


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        key: Its name in the CSV file.
        label: Its name on the page.
        kind: How its values are shown: text, state, count, share, minutes, position, instant
            or day.
        term: The definition of what it shows, an anchor on the page of definitions.
    """

    key: str
    label: str
    kind: str = "text"
    term: str = ""

    @property
    def style(self) -> str:
        """Return how values are aligned: `n` like numbers, `time` on one line."""
        return _STYLES.get(self.kind, "")


class ShownCell(NamedTuple):
    """A cell on a page: its text, what to sort it by, how it is aligned, and where it links to."""

    text: str
    value: str
    style: str
    link: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        name: The name of its CSV file, without the suffix; also its id on a page.
        caption: What it shows.
        links: For each row the page to which its first text links; empty: none.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    links: Sequence[str] = ()

    @property
    def shown(self) -> Iterable[list[ShownCell]]:
        """Yield the cells of each row as a page shows them."""
        linked = next((n for n, column in enumerate(self.columns) if column.kind == "text"), None)
        for number, row in enumerate(self.rows):
            cells = [_shown(value, column) for value, column in zip(row, self.columns, strict=True)]
            if self.links and linked is not None:
                cells[linked] = cells[linked]._replace(link=self.links[number])
            yield cells

    def csv(self) -> str:
        """Return the table as CSV, safe to open in a spreadsheet."""
        return written([[column.key for column in self.columns], *self.rows])


def csv_text(option: str, path: Path) -> tuple[io.StringIO, str]:
    """Return the text of a CSV file in UTF-8, and what separates its columns: a comma, or else a semicolon.

    Raises:
        BadInputError: The file cannot be read. The text names the option.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInputError(f"{option}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{option}: {path} is not UTF-8. Save it as `CSV UTF-8`.") from None
    return io.StringIO(text, newline=""), "," if "," in text.partition("\n")[0] else ";"


def written(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([_written(value) for value in row] for row in rows)
    return out.getvalue()


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Hidden) or value is None:
        return value and value.text
    return cell(value)


def _shown(value: Any, column: Column) -> ShownCell:
    style = column.style
    if value is None:
        return ShownCell(UNKNOWN, "", style)
    if isinstance(value, Hidden):
        return ShownCell(value.text, "0", style)
    if isinstance(value, date) and not isinstance(value, datetime):
        return ShownCell(f"{value:%a %-d %b %Y}", str(wall(datetime.combine(value, time()))), style)
    if isinstance(value, datetime):
        return ShownCell(f"{value:%a %-d %b %Y, %H:%M}", str(wall(value)), style)
    return ShownCell(_FORMS.get(column.kind, str)(value), str(value), style)


def _whole_minutes(value: float) -> str:
    return f"{value:.0f}" if value >= 1 or value == 0 else "<1"


def wall(at: datetime) -> int:
    """Return what a clock in the instant's zone shows, as seconds since 1970."""
    return int(at.replace(tzinfo=UTC).timestamp())


def percent(share: float) -> str:
    """Return a share as per cent; neither 0 nor 100 if it is not exactly that."""
    rounded = round(share * 100)
    if rounded == 0 and share > 0:
        return "<1 %"
    if rounded == 100 and share < 1:  # noqa: PLR2004 - all
        return "99 %"
    return f"{rounded} %"


def clock(seconds: float) -> str:
    """Return a position in a recording."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_FORMS: Mapping[str, Callable[[Any], str]] = {
    "share": percent,
    "minutes": _whole_minutes,
    "position": clock,
    "count": "{:,}".format,
}
