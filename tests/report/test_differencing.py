"""An attacker has many reports on a course, and subtracts whatever they show. No group of few people appears."""

import csv
import io
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import course as simulated
from tests.report.conftest import ZONE
from uaharvest.coerce import instant
from uaharvest.exporting import products
from uaharvest.report import lectures as lectures_
from uaharvest.report.course import Attending, Question, course
from uaharvest.report.groups import Hidden
from uaharvest.report.pages import model
from uaharvest.report.roster import Student
from uaharvest.report.source import CourseDocuments

TRUTH = simulated.course(lectures=3, students=40)
ROSTER = [
    Student(huid, (email.lower(),), first, last, registrant or None)
    for huid, email, first, last, registrant in TRUTH.roster
]
DAYS = sorted({instant(one["start"]).astimezone(ZONE).date() for one in TRUTH.recordings})


def documents(watchers):
    """The documents if only some of those who watched had done so; the recordings' follow from the viewings'."""
    kept = [one for one in TRUTH.viewings if (one["mpid"], one["viewer"]) in watchers]
    recordings = []
    for one in TRUTH.recordings:
        own = [viewing for viewing in kept if viewing["mpid"] == one["mpid"]]
        recordings.append(
            simulated._recording(
                {name: one[name] for name in ("mpid", "title", "series", "duration_s") if name in one},
                own,
                instant(one["start"]),
            )
        )
    return CourseDocuments(kept, recordings, TRUTH.attendance, TRUTH.whereabouts)


@st.composite
def attacks(draw):
    """Who watched; and reports, each with a roster and days."""
    everybody = sorted((one["mpid"], one["viewer"]) for one in TRUTH.viewings)
    watchers = set(draw(st.lists(st.sampled_from(everybody), unique=True, min_size=1)))
    if draw(st.booleans()):
        watchers = set(everybody) - watchers
    reports = st.tuples(
        st.lists(st.sampled_from(range(len(ROSTER))), unique=True, min_size=1),
        st.booleans(),
        st.tuples(st.none() | st.sampled_from(DAYS), st.none() | st.sampled_from(DAYS)),
    )
    return watchers, draw(st.lists(reports, min_size=1, max_size=3)), draw(st.integers(2, 12))


def made(known, chosen, days, least):
    links = lectures_.propose(known.recordings, lectures_.meetings(known.attendance))
    found = lectures_.lectures(known, links, ZONE, days)
    roster = [ROSTER[number] for number in chosen]
    whole = course(Question("s", "S", 0.5, Attending.EITHER), roster, found, known)
    return whole, model.site(whole, known, model.Appearance(ZONE, least, pseudonyms=True))


def of_all_viewers(page):
    """What a page shows of all viewers: each number with what it is about."""
    for figure in page.figures:
        if figure.term == "others":
            yield "all", figure.value
            yield "visitors", figure.note.partition(" ")[0] or "0"
        if figure.term == "matching":
            yield "zoom", figure.note.partition(" ")[0]
    tables = [*(chart.table for chart in page.charts if chart.kind != "seen"), *page.tables]
    for table in tables:
        counts = [place for place, column in enumerate(table.columns) if column.kind == "count"]
        for row in table.rows:
            for place in counts:
                yield (
                    (table.name.partition("-")[2].partition("-")[2], str(row[0]), table.columns[place].key),
                    row[place],
                )


def number(shown):
    """What an attacker knows of a number: the least and the most it may be."""
    return None if isinstance(shown, Hidden) or not str(shown).isdigit() else int(shown)


@settings(max_examples=25)
@given(attacks())
def test_no_small_group_follows_from_any_reports(attack):
    watchers, reports, least = attack
    known = documents(watchers)
    seen = {}
    for chosen, everybody, days in reports:
        first, last = days
        roster = range(len(ROSTER)) if everybody else chosen
        whole, site = made(known, roster, (first, last), least)
        for place, page in enumerate(site.lectures):
            key = whole.lectures[place].key
            shown = dict(of_all_viewers(page))
            # Neither the roster nor the days make a difference, so there is nothing to subtract from another report.
            assert seen.setdefault(key, shown) == shown
            # All differences of multiples are multiples.
            assert {n % least for n in map(number, shown.values()) if n is not None} <= {0}
            total = number(shown.get("all", "<"))
            if total is not None:
                students = sum(bool(cell.live_s or cell.watched_s) for cell in whole.column(place))
                others = len(whole.viewers[place]) - students
                possible = range(max(0, total - students), total + least - students)
                assert others in possible
                assert len(possible) > 1 or others == 0
        # Who is on no roster is in no list, and no sum.
        assert site.unmatched.rows == []
        assert not [row for row in site.tallies.rows if "not matched" in row[1] or row[1] == "all"]
        for table in (one for page in site.lectures for one in page.all_tables):
            rows = list(csv.reader(io.StringIO(table.csv())))[1:]
            for row, cells in zip(rows, table.shown, strict=True):
                for cell, on_page, column in zip(row, cells, table.columns, strict=True):
                    assert column.kind != "count" or on_page.text.replace(",", "") == cell


@settings(max_examples=50)
@given(st.lists(st.integers(0, 60)), st.integers(1, 12))
def test_the_metrics_of_episodes_show_no_small_group(viewers, least):
    recordings = [
        {"mpid": f"{n}", "viewers": count, "mean_coverage": 0.5 if count else None}
        for n, count in enumerate(viewers)
    ]
    episodes = {f"{n}": {} for n in range(len(viewers))}
    rows = list(products.episode_metrics(episodes, recordings, least))
    for count, row in zip(viewers, rows, strict=True):
        few = 0 < count < least
        assert row["unique.viewers"] == (None if few else count // least * least)
        assert (row["mean.watched.pct"] is None) == (few or not count)


@settings(max_examples=50)
@given(st.integers(0, 60), st.integers(1, 12))
def test_nor_do_the_metrics_of_episodes_by_the_old_formula(viewers, least):
    of_viewers = products._of_viewers(50.0 if viewers else None, viewers, least)
    few = 0 < viewers < least
    assert of_viewers["unique.viewers"] == (None if few else viewers // least * least)
    assert (of_viewers["mean.watched.pct"] is None) == (few or not viewers)


def test_groups_of_devices_are_those_of_all_viewers_whoever_is_on_the_roster():
    known = documents({(one["mpid"], one["viewer"]) for one in TRUTH.viewings})
    [(_, full), (_, part)] = [made(known, range(size), (None, None), 5) for size in (40, 3)]
    for one, other in zip(full.lectures, part.lectures, strict=True):
        assert Counter(map(str, (table.rows for table in one.tables))) == Counter(
            map(str, (table.rows for table in other.tables))
        )
        assert one.tables
