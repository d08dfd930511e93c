"""The CSV products: the columns of the old tool, our definitions, and the old ones on request."""

import csv
import io

import pytest

from tests.exporting import site
from uaharvest import plain
from uaharvest.exporting import files, products
from uaharvest.exporting.useractions import Grouped, with_viewers

T0 = site.MONDAY.timestamp()
EPISODES = {"lecture": site.episode().body}


def bodies(*documents):
    return list(with_viewers((dict(document.body) for document in documents), site.ANONYMOUS))


def written(columns, rows):
    out = io.StringIO()
    assert files.write_csv(out, columns, rows) == out.getvalue().count("\n") - 1
    return out.getvalue()


def as_before(*documents):
    grouped = Grouped("huid")
    grouped.add(bodies(*documents))
    return grouped


def test_attendance_has_the_share_of_the_union_for_each_student():
    viewings = bodies(
        site.viewing(coverage=0.509),
        site.viewing(viewer="87654321", coverage=1.0),
        site.viewing(viewer="session:node02"),
        site.viewing("unknown", coverage=None),
        site.viewing(viewer="only-live", seen_s=0.0, coverage=0.0),
    )
    assert written(products.ATTENDANCE, products.attendance(viewings)) == (
        "mpid,huid,vod_attendance\nlecture,12345678,50\nlecture,87654321,100\nunknown,12345678,\n"
    )


def stay(first, last):
    return [f"2026-11-23T{first}:00+00:00", f"2026-11-23T{last}:00+00:00"]


def test_live_attendance_is_the_presence_while_the_lecture_was_live():
    episode = site.episode(live_start="2026-11-23T09:00:00+00:00", live_end="2026-11-23T10:00:00+00:00").body
    viewings = bodies(
        site.viewing(stays=[stay("08:30", "09:15"), stay("09:10", "09:30")]),  # on two devices
        site.viewing(viewer="87654321", stays=[stay("07:00", "08:00")]),  # before it
        site.viewing(viewer="not-there", stays=[]),
        site.viewing("unknown", stays=[stay("09:00", "09:30")]),
    )
    rows = products.live_attendance(viewings, {"lecture": episode})
    assert written(products.LIVE_ATTENDANCE, rows) == (
        "mpid,huid,live_attendance\nlecture,12345678,50\nunknown,12345678,\n"
    )


def test_a_lecture_whose_live_times_are_unknown_lasted_from_its_start_for_its_duration():
    viewings = bodies(site.viewing(stays=[stay("09:00", "09:25")]))  # of 50 minutes
    [row] = products.live_attendance(viewings, EPISODES)
    assert row["live_attendance"] == 50


def said(number, kind, **changes):
    return site.useraction(number, T0 + number, kind, 5, **changes)


OPTIONS = [
    said(1, "paella:caption:enabled;English"),
    said(2, "paella:caption:enabled", huid="anonymous"),
    said(3, "paella:button:action;es.upv.paella.playbackRatePlugin"),
    said(4, "paella:setplaybackrate;1.5"),
    said(5, "paella:button:action;edu.harvard.dce.paella.viewModeTogglePlugin"),
    said(6, "paella:button:action;es.upv.paella.multipleStreamProfilePlugin", huid="87654321"),
    said(7, "HEARTBEAT", huid="nothing-used"),
    said(8, "PLAY", huid="87654321", action=None),
]


def test_viewing_options_count_the_names_of_several_players():
    assert written(products.VIEWING_OPTIONS, products.viewing_options(bodies(*OPTIONS))) == (
        "mpid,huid,captions,playback_speed,view_mode\nlecture,12345678,1,2,1\nlecture,87654321,0,0,1\n"
    )


def test_viewing_options_as_before_know_only_harvards_names():
    with as_before(*OPTIONS) as grouped:
        assert written(products.VIEWING_OPTIONS, products.viewing_options_as_before(grouped)) == (
            "mpid,huid,captions,playback_speed,view_mode\nlecture,12345678,1,1,1\n"
        )


BEATS = [
    site.useraction(1, T0, "HEARTBEAT", 30),
    site.useraction(2, T0 + 600, "HEARTBEAT", 630),
    site.useraction(3, T0, "HEARTBEAT", 30, huid="anonymous"),
    site.useraction(4, T0, "HEARTBEAT", 30, huid="public_user"),
]


def test_attendance_as_before_gives_a_whole_chunk_for_a_heartbeat_and_takes_public_user_for_a_student():
    with as_before(*BEATS) as grouped:
        assert list(products.attendance_as_before(grouped, EPISODES, 300)) == [
            {"mpid": "lecture", "huid": "12345678", "vod_attendance": 20},
            {"mpid": "lecture", "huid": "public_user", "vod_attendance": 10},
        ]
        [first, _] = products.attendance_as_before(grouped, {}, 1000)  # the useractions know the duration too
        assert first["vod_attendance"] == 33


def test_episode_metrics_have_the_mean_of_all_viewers_and_their_number():
    episodes = {**EPISODES, "unwatched": site.episode("unwatched", title="=cmd()").body}
    rows = products.episode_metrics(episodes, bodies(site.recording(mean_coverage=0.4567)), 1)
    assert written(products.EPISODE_METRICS, rows) == (
        "mpid,title,duration,available,type,course,series,mean.watched.pct,unique.viewers\n"
        "lecture,Lecture 1,3000000,2026-11-23T12:00:00+00:00,L01,Course 2,20260310002,45.7,3\n"
        "unwatched,'=cmd(),3000000,2026-11-23T12:00:00+00:00,L01,Course 2,20260310002,,0\n"
    )


def test_episode_metrics_leave_out_what_few_saw_and_round_the_number_of_viewers():
    [few] = products.episode_metrics(EPISODES, bodies(site.recording(mean_coverage=0.4567)), 5)
    assert (few["mean.watched.pct"], few["unique.viewers"]) == (None, None)
    [many] = products.episode_metrics(EPISODES, bodies(site.recording(mean_coverage=0.4567, viewers=13)), 5)
    assert (many["mean.watched.pct"], many["unique.viewers"]) == (45.7, 10)


def test_episode_metrics_as_before_take_the_anonymous_for_one_student():
    with as_before(*BEATS) as grouped:
        [row] = products.episode_metrics_as_before(grouped, EPISODES, 1)
    assert row["unique.viewers"] == 3
    assert row["mean.watched.pct"] == pytest.approx(40 / 3)


def test_episode_metrics_as_before_leave_out_what_few_saw():
    with as_before(*BEATS) as grouped:
        [row] = products.episode_metrics_as_before(grouped, EPISODES, 5)
    assert (row["mean.watched.pct"], row["unique.viewers"]) == (None, None)


# Cells


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-cmd", "@sum", " =x", "\t=x", "\r=x", "-1-1", "+1x", "\n@x"])
def test_a_cell_that_would_be_a_formula_gets_an_apostrophe(cell):
    assert plain.cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1", "+1.5", "1-1", "a=b", "", None, 5, -5, -0.5, "Lecture - 1"])
def test_numbers_and_other_cells_stay_as_they_are(cell):
    assert plain.cell(cell) == cell


def test_commas_quotes_and_line_breaks_survive():
    row = {"a": 'x,"y"\nz', "b": "ü"}
    out = io.StringIO()
    files.write_csv(out, ("a", "b"), [row])
    assert list(csv.DictReader(io.StringIO(out.getvalue()))) == [row]


# Files


def test_a_file_appears_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.csv"
    with files.output(path) as opened:
        opened.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"

    def half():
        with files.output(path) as opened:
            opened.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "whole"
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]
