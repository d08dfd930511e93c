"""One viewer by each rule. Makes the table and the picture in docs/viewing.md."""

from pathlib import Path
from random import Random

import pytest

from simulators.opencast.rows import Session
from simulators.opencast.viewers import Piece, Viewer, Visit, both, events, footprints, heartbeats, report
from tests.viewing.cases import actions_of
from uaharvest.intervals import union
from uaharvest.viewing.actions import Action
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import measures
from uaharvest.viewing.published import aspects, old_tools, ubc

ME = "tests/viewing/test_comparison.py"
DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE = DOCS / "viewing.svg"
DURATION = 3600.0
# Watches 10 minutes, jumps over a quarter of an hour, pauses, jumps back, watches on; comes again to the last part.
VISITS = (
    Visit(
        Session("monday", "v", None, None),
        1_700_000_000,
        (
            Piece(0, 4, 0, 0),
            Piece(4, 604, 0, 1),
            Piece(604, 904, 1500, 1),
            Piece(904, 1204, 1800, 0),
            Piece(1204, 1654, 1650, 1),
            Piece(1654, 1700, 2100, 0),
        ),
    ),
    Visit(
        Session("tuesday", "v", None, None),
        1_700_090_000,
        (Piece(0, 4, 0, 0), Piece(4, 14, 0, 1), Piece(14, 219, 2990, 2), Piece(219, 240, 3400, 0)),
    ),
)
VIEWER = Viewer("v", "r", DURATION, VISITS)


def rows(player):
    return report([VIEWER], player, Random(1))


def of_tools(player):
    return [
        Action(
            row.id,
            row.created_ms / 1000,
            "r",
            "v",
            row.session.id,
            row.type,
            row.inpoint,
            row.outpoint,
            row.playing > 0,
        )
        for row in rows(player)
    ]


def ours(player):
    found = viewings(actions_of(rows(player)), {"r": DURATION})
    [one] = measures(found, {"r": DURATION})
    return union(zip(found.start.tolist(), found.end.tolist(), strict=True)), 100 * one.coverage


def by_aspects():
    verbs = {"PLAY": "played", "PAUSE": "paused", "SEEK": "seeked"}
    found = aspects.segments(
        aspects.Event(("v",), row.created_ms, verbs[row.type], row.outpoint) for row in rows(events)
    )
    # Second n is what played from n - 1 to n.
    seen = union((second - 1, second) for _, second in found)
    return seen, 100 * len(found) / DURATION


def by_ubc():
    parts = [(start, end) for visit in VISITS for start, end in visit.played()]
    chunks = ubc.chunks({"v": parts}, DURATION)
    return union((chunk.start, chunk.end) for chunk in chunks if chunk.most), 5 * sum(
        chunk.most for chunk in chunks
    )


def by_bins(seconds, percent):
    bins = {int(row.inpoint // seconds) for row in rows(heartbeats) if row.playing}
    return union((seconds * one, min(DURATION, seconds * (one + 1))) for one in bins), percent["v"]


def by_boxes():
    boxes = union((max(0.0, start), end) for start, end in old_tools.detailed(of_tools(heartbeats))["v"])
    percents, _ = old_tools.summary_table(of_tools(heartbeats), DURATION)
    return boxes, percents["v"]


def everything():
    """Return each rule's name, what it takes as seen, and its percentage."""
    beats = of_tools(heartbeats)
    return [
        ("truth", VIEWER.seen(), 100 * VIEWER.seen_s / DURATION),
        ("uaharvest, HEARTBEAT", *ours(heartbeats)),
        ("uaharvest, PLAY/PAUSE/SEEK", *ours(events)),
        ("uaharvest, both", *ours(both(events, heartbeats))),
        ("uaharvest, FOOTPRINT", *ours(footprints)),
        ("Open edX Aspects, segments", *by_aspects()),
        ("UBC, chunks seen by 75 %", *by_ubc()),
        ("le-dash, attendance (metric 2)", *by_bins(180, old_tools.lecture_attendance(beats, DURATION))),
        ("export attendance (metric 7)", *by_bins(300, old_tools.export_attendance(beats, DURATION))),
        ("le-dash, summary and detailed (4, 5)", *by_boxes()),
    ]


@pytest.fixture(scope="module")
def rules():
    return everything()


def percents(rules):
    return {name: percent for name, _, percent in rules}


def test_ours_are_near_the_truth_from_any_evidence(rules):
    found = percents(rules)
    for name, percent in found.items():
        if name.startswith("uaharvest"):
            assert percent == pytest.approx(found["truth"], abs=1)


def test_the_others_count_what_was_skipped_or_whole_bins(rules):
    found = percents(rules)
    for name in ("Open edX Aspects, segments", "le-dash, attendance (metric 2)", "export attendance (metric 7)"):
        assert found[name] > found["truth"] + 4


def test_the_table_of_rules_is_what_the_docs_show(rules, check_generated):
    lines = ["| rule | seen |", "|---|--:|", *(f"| {name} | {percent:.1f} % |" for name, _, percent in rules)]
    check_generated(DOCS / "viewing.md", ME, "\n".join(lines) + "\n")


def test_the_picture_of_rules_is_what_the_docs_show(rules, pytestconfig):
    if pytestconfig.getoption("--renew-docs"):
        PICTURE.write_text(drawn(rules))
    assert PICTURE.read_text() == drawn(rules), f"renew it with: pytest {ME} --renew-docs"


def drawn(rules):
    """Return the picture: a line for each rule, the recording from left to right."""
    left, width, high = 270, 600, 26
    height = high * len(rules) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 80} {height}">',
        '<g font-family="sans-serif" font-size="13">',
        f'<rect width="{left + width + 80}" height="{height}" fill="#fff"/>',
    ]
    for number, (name, parts, percent) in enumerate(rules):
        y = 10 + high * number
        colour = "#333" if name == "truth" else "#1b7837" if name.startswith("uaharvest") else "#b35806"
        lines += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end" fill="#000">{name}</text>',
            f'<rect x="{left}" y="{y}" width="{width}" height="18" fill="#eee"/>',
            *(
                f'<rect x="{left + width * start / DURATION:.1f}" y="{y}"'
                f' width="{width * (end - start) / DURATION:.1f}" height="18" fill="{colour}"/>'
                for start, end in parts
            ),
            f'<text x="{left + width + 8}" y="{y + 14}" fill="#000">{percent:.1f} %</text>',
        ]
    lines += [
        f'<text x="{left + width * minute / 60}" y="{height - 10}" text-anchor="middle" fill="#555">{minute} min</text>'
        for minute in range(0, 61, 10)
    ]
    return "\n".join([*lines, "</g></svg>"]) + "\n"
