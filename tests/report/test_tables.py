import csv
import io
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from uaharvest.report.groups import Hidden
from uaharvest.report.tables import Column, Table, clock, percent, wall

COLUMNS = (
    Column("name", "Name"),
    Column("share", "Share", "share"),
    Column("minutes", "Minutes", "minutes"),
    Column("viewers", "Viewers", "count"),
    Column("at", "At", "instant"),
    Column("day", "Day", "day"),
    Column("from_s", "From", "position"),
)
AT = datetime(2026, 3, 8, 9, 5, tzinfo=ZoneInfo("America/New_York"))
ROWS = [
    ["Ann", 0.1234, 0.4, 1234, AT, date(2026, 3, 8), 3725.0],
    ["=HYPERLINK(1)", None, 12.6, Hidden("<5"), None, None, 65],
]
TABLE = Table("t", "A table", COLUMNS, ROWS, ["a.html", ""])


def test_a_page_shows_values_for_people_and_keeps_what_to_sort_by():
    first, second = TABLE.shown
    assert [cell.text for cell in first] == [
        *("Ann", "12 %", "<1", "1,234"),
        *("Sun 8 Mar 2026, 09:05", "Sun 8 Mar 2026", "1:02:05"),
    ]
    assert [cell.value for cell in first][1:4] == ["0.1234", "0.4", "1234"]
    assert [cell.link for cell in first] == ["a.html", *[""] * 6]
    assert [cell.text for cell in second] == ["=HYPERLINK(1)", "\u2013", "13", "<5", "\u2013", "\u2013", "1:05"]
    assert second[3].value == "0"


def test_a_csv_file_has_the_values_and_no_formula():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [
        ["name", "share", "minutes", "viewers", "at", "day", "from_s"],
        ["Ann", "0.1234", "0.4", "1234", "2026-03-08T09:05:00-04:00", "2026-03-08", "3725.0"],
        ["'=HYPERLINK(1)", "", "12.6", "<5", "", "", "65"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1x", "-1-1", " =1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'/c calc'!A1"])
def test_text_that_a_spreadsheet_would_run_is_written_as_text(text):
    [[cell]] = list(csv.reader(io.StringIO(Table("t", "", COLUMNS[:1], [[text]]).csv(), newline="")))[1:]
    assert cell == f"'{text}"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.0001, "<1 %"), (0.005, "<1 %"), (0.5, "50 %"), (0.9999, "99 %"), (1.0, "100 %")],
)
def test_a_share_is_all_or_nothing_only_if_it_is(share, text):
    assert percent(share) == text


def test_a_position_has_hours_only_if_needed():
    assert [clock(0), clock(59.6), clock(3599), clock(3600)] == ["0:00", "1:00", "59:59", "1:00:00"]


def test_an_instant_is_what_the_clock_on_the_wall_shows():
    assert wall(AT) == 1772960700  # 2026-03-08T09:05:00Z
