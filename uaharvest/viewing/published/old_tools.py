"""Metrics 1 to 13 of the tools that read dce-user-analytics: le-dash, its exports, the Shiny apps, the R notebooks.

They count heartbeats of playing viewers: not live, and whatever the identity. They are given with the repairs without
which they have no answer: le-dash's limit of ten viewers per segment and ten lectures per series is lifted, empty bins
are not counted, and only series or lectures that have a duration count. All else is theirs: a heartbeat counts
for its whole bin, more than 100 % is possible, and anonymous visitors are one student.
"""

import datetime as dt
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from uaharvest.viewing.actions import Action

ANONYMOUS = "anonymous"
_REWATCH_S = 300
_LE_DASH_S = 180
_EXPORT_S = 300
_LONGEST_GAP_S = 60
_VIEWED_PERCENT = 50


class Summary(NamedTuple):
    """Mean, median and standard deviation (of the population) of a figure over viewers or lectures."""

    mean: float
    median: float
    sd: float


class OptionUses(NamedTuple):
    """How often a student used the captions, the speed and the layout."""

    captions: int
    playback_speed: int
    view_mode: int


class Viewers(NamedTuple):
    """How many watched a lecture, and the percentage of the roster, rounded."""

    total: int
    vod: int
    live: int
    both: int
    enrolled: int
    percent: int


class EpisodeStats(NamedTuple):
    """The R notebooks' figures of one lecture; `events` is by day, UTC."""

    mean_watched_percent: float
    unique_viewers: int
    events: dict[dt.date, int]


def rewatch_heatmap(actions: Iterable[Action]) -> dict[int, int]:
    """Metric 1, le-dash /lecture: per 300 s of the recording (key: its first second), views.

    A viewer's views of a segment are the five-minute periods of the clock with a heartbeat in it.
    """
    views = {
        (int(action.inpoint // _REWATCH_S), action.viewer, int(action.at // _REWATCH_S))
        for action in _watched(actions)
        if action.inpoint is not None and action.inpoint >= 0
    }
    counts = Counter(segment * _REWATCH_S for segment, _, _ in views)
    return dict(sorted(counts.items()))


def lecture_attendance(actions: Iterable[Action], duration: float) -> dict[str, int]:
    """Metric 2, le-dash /attendance/lecture: percent viewed per student, by 180 s of the recording."""
    return _percents(actions, duration, _LE_DASH_S)


def series_attendance(lectures: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[int, int]]:
    """Metric 3, le-dash /attendance/series: per student the lectures viewed by at least half, and all lectures.

    Args:
        lectures: Metric 2 of each lecture of the series.
    """
    viewed = Counter(
        student
        for percents in lectures.values()
        for student, percent in percents.items()
        if percent >= _VIEWED_PERCENT
    )
    students = {student for percents in lectures.values() for student in percents}
    return {student: (viewed[student], len(lectures)) for student in students}


def summary_table(actions: Iterable[Action], duration: float) -> tuple[dict[str, float], Summary]:
    """Metric 4, le-dash summary: percent watched per viewer, and over all viewers.

    The watched time is the sum of the gaps between a viewer's heartbeats in the order of their positions, from 0 on. A
    gap of more than 60 s counts as 60.
    """
    percents = {}
    for viewer, positions in _positions(actions).items():
        gaps = (after - before for before, after in zip([0, *positions], positions, strict=False))
        percents[viewer] = 100 * sum(min(gap, _LONGEST_GAP_S) for gap in gaps) / duration
    return percents, _summary(percents.values())


def detailed(actions: Iterable[Action]) -> dict[str, list[tuple[float, float]]]:
    """Metric 5, le-dash detailed: per viewer, 60 s of the recording drawn around each heartbeat's position."""
    half = _LONGEST_GAP_S / 2
    return {
        viewer: [(position - half, position + half) for position in positions]
        for viewer, positions in _positions(actions).items()
    }


def series_viewing(actions: Iterable[Action]) -> tuple[dict[str, int], Summary]:
    """Metric 6, le-dash series_viewing: viewers per lecture, and over all lectures. Give it one type at a time."""
    viewers = defaultdict(set)
    for action in _watched(actions):
        viewers[action.recording].add(action.viewer)
    counts = {recording: len(those) for recording, those in viewers.items()}
    return counts, _summary(counts.values())


def export_attendance(actions: Iterable[Action], duration: float, chunk: int = _EXPORT_S) -> dict[str, int]:
    """Metric 7, `export attendance`: per cent of the chunks of `chunk` seconds that each student who logged in saw."""
    percents = _percents(actions, duration, chunk)
    return {student: percent for student, percent in percents.items() if student != ANONYMOUS}


def viewing_options(actions: Iterable[Action]) -> dict[str, OptionUses]:
    """Metric 8, `export viewing_options`: how often each student pressed which button."""
    button = "paella:button:action;"
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for action in actions:
        if action.type.startswith("paella:caption:enabled"):
            counts[action.viewer]["captions"] += 1
        elif action.type == f"{button}es.upv.paella.playbackRatePlugin":
            counts[action.viewer]["speed"] += 1
        elif action.type == f"{button}edu.harvard.dce.paella.viewModeTogglePlugin":
            counts[action.viewer]["mode"] += 1
    return {
        viewer: OptionUses(own["captions"], own["speed"], own["mode"])
        for viewer, own in counts.items()
        if viewer != ANONYMOUS
    }


def attended_of_enrolled(attendance: Collection[str], roster: Collection[str]) -> tuple[int, int]:
    """Metric 9, Shiny, lectures: how many of the roster are in the lecture's export at all, even with 0 %."""
    return len(set(attendance) & set(roster)), len(set(roster))


def attended_of_lectures(attendance: Mapping[str, Collection[str]], student: str) -> tuple[int, int]:
    """Metric 10, Shiny, students: in how many of the lectures' exports a student is.

    Args:
        attendance: The students in the export of each lecture that is available and whose type has an L.
        student: The student.
    """
    return sum(student in students for students in attendance.values()), len(attendance)


def attendance_over_time(
    available: Mapping[str, dt.date], attendance: Mapping[str, Collection[str]], roster: Collection[str]
) -> list[tuple[dt.date, str, int]]:
    """Metric 11, Shiny: metric 9 of each lecture, by the date on which it became available."""
    return [
        (date, lecture, attended_of_enrolled(attendance.get(lecture, ()), roster)[0])
        for date, lecture in sorted((date, lecture) for lecture, date in available.items())
    ]


def course_summary(actions: Iterable[Action], roster: Collection[str]) -> Viewers:
    """Metric 12, R course_summary: who watched, live or not, and the percentage of the roster."""
    vod: set[str] = set()
    live: set[str] = set()
    for action in actions:
        if action.type == "HEARTBEAT" and action.playing:
            (live if action.live else vod).add(action.viewer)
    enrolled = (vod | live) & set(roster)
    percent = round(100 * len(enrolled) / len(set(roster))) if roster else 0
    return Viewers(len(vod | live), len(vod), len(live), len(vod & live), len(enrolled), percent)


def episode_stats(actions: Iterable[Action], duration: float) -> EpisodeStats:
    """Metric 13, R episode_stats: mean percentage over viewers by 300 s of the recording, viewers, events a day."""
    watched = list(_watched(actions))
    bins = _bins(watched, _EXPORT_S)
    percents = [100 * len(own) / math.ceil(duration / _EXPORT_S) for own in bins.values()]
    days = Counter(dt.datetime.fromtimestamp(action.at, dt.UTC).date() for action in watched)
    return EpisodeStats(statistics.fmean(percents) if percents else 0.0, len(bins), dict(sorted(days.items())))


METRICS = {
    1: rewatch_heatmap,
    2: lecture_attendance,
    3: series_attendance,
    4: summary_table,
    5: detailed,
    6: series_viewing,
    7: export_attendance,
    8: viewing_options,
    9: attended_of_enrolled,
    10: attended_of_lectures,
    11: attendance_over_time,
    12: course_summary,
    13: episode_stats,
}
"""The metrics by their number in the list of questions that users asked."""


def _watched(actions: Iterable[Action]) -> Iterable[Action]:
    """Return the base of nearly all metrics: heartbeats of viewers that played, not live."""
    return (action for action in actions if action.type == "HEARTBEAT" and action.playing and not action.live)


def _positions(actions: Iterable[Action]) -> dict[str, list[float]]:
    """Return the distinct positions of each viewer, sorted."""
    positions = defaultdict(set)
    for action in _watched(actions):
        if action.inpoint is not None:
            positions[action.viewer].add(action.inpoint)
    return {viewer: sorted(own) for viewer, own in positions.items()}


def _bins(actions: Iterable[Action], seconds: int) -> dict[str, set[int]]:
    """Return the bins of the recording in which each viewer has a position."""
    return {
        viewer: {int(position // seconds) for position in positions}
        for viewer, positions in _positions(actions).items()
    }


def _percents(actions: Iterable[Action], duration: float, seconds: int) -> dict[str, int]:
    bins = math.ceil(duration / seconds)
    return {viewer: int(100 * len(own) / bins) for viewer, own in _bins(actions, seconds).items()}


def _summary(figures: Collection[float]) -> Summary:
    if not figures:
        return Summary(0.0, 0.0, 0.0)
    return Summary(statistics.fmean(figures), statistics.median(figures), statistics.pstdev(figures))
