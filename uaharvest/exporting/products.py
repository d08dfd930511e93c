"""The CSV products of the old tool, with its columns: attendance, viewing options, episode metrics.

What they count is what docs/viewing.md defines, without the defects of the old formulas. `as_before` has the old ones.
"""

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from uaharvest.coerce import instant, text, whole
from uaharvest.exporting.useractions import ANONYMOUS, Grouped, facts
from uaharvest.intervals import union
from uaharvest.viewing.actions import Action
from uaharvest.viewing.published import old_tools

Fields = Mapping[str, Any]
EpisodesById = Mapping[str, Fields]
CsvRow = dict[str, Any]

ATTENDANCE = ("mpid", "huid", "vod_attendance")
LIVE_ATTENDANCE = ("mpid", "huid", "live_attendance")
VIEWING_OPTIONS = ("mpid", "huid", "captions", "playback_speed", "view_mode")
EPISODE_METRICS = (
    *("mpid", "title", "duration", "available", "type", "course", "series"),
    *("mean.watched.pct", "unique.viewers"),
)

# What players report when somebody turns on captions, changes the speed or the layout. Add the names of new players.
_USES = {
    "captions": re.compile(r"paella:caption:enabled", re.IGNORECASE),
    "playback_speed": re.compile(
        r"paella:(button:action;.*playbackrate|setplaybackrate)|BUTTON.*playbackrate", re.IGNORECASE
    ),
    "view_mode": re.compile(
        r"paella:(button:action;.*(viewmode|multiplestreamprofile)|setprofile)|BUTTON.*layout", re.IGNORECASE
    ),
}


def attendance(viewings: Iterable[Fields]) -> Iterator[CsvRow]:
    """Yield how much of each recording each student saw, in percent, rounded down; None if the duration is unknown.

    Args:
        viewings: The documents of the recordings.
    """
    for viewing in viewings:
        if (huid := text(viewing.get("huid"))) and viewing.get("seen_s"):
            share = viewing.get("coverage")
            yield {"mpid": viewing.get("mpid"), "huid": huid, "vod_attendance": _percent(share)}


def live_attendance(viewings: Iterable[Fields], episodes: EpisodesById) -> Iterator[CsvRow]:
    """Yield how much of each live lecture each student was present at, in percent, rounded down.

    The lecture lasted from `live_start` to `live_end` of the episode, otherwise from `start` for its duration. If it
    has neither, the percentage is None.

    Args:
        viewings: The documents of the recordings.
        episodes: Their episodes, by recording.
    """
    for viewing in viewings:
        huid, stays = text(viewing.get("huid")), viewing.get("stays")
        if not huid or not stays:
            continue
        share = None
        if lecture := _on_the_air(episodes.get(str(viewing.get("mpid")), {})):
            share = _presence(stays, *lecture)
            if not share:  # only before or after it
                continue
        yield {"mpid": viewing.get("mpid"), "huid": huid, "live_attendance": _percent(share)}


def viewing_options(useractions: Iterable[Fields]) -> Iterator[CsvRow]:
    """Yield how often each student turned on captions, changed the speed and changed the layout of a recording."""
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for document in useractions:
        action, mpid = document.get("action"), text(document.get("mpid"))
        kind = text(action.get("type")) if isinstance(action, dict) else None
        viewer = text(document.get("viewer"))
        if kind is None or mpid is None or viewer is None or viewer.startswith(ANONYMOUS):
            continue
        for option, pattern in _USES.items():
            if pattern.match(kind):
                counts[mpid, viewer][option] += 1
    for (mpid, huid), own in sorted(counts.items()):
        yield {"mpid": mpid, "huid": huid, **{option: own[option] for option in _USES}}


def episode_metrics(episodes: EpisodesById, recordings: Iterable[Fields], least: int) -> Iterator[CsvRow]:
    """Yield each episode with the mean percentage seen, over all viewers, and their number.

    Args:
        episodes: By recording.
        recordings: Their documents.
        least: The number of viewers is rounded down to a multiple of it. Of fewer, number and mean are None.
    """
    watched = {str(recording.get("mpid")): recording for recording in recordings}
    for mpid, episode in episodes.items():
        recording = watched.get(mpid, {})
        mean, viewers = recording.get("mean_coverage"), whole(recording.get("viewers")) or 0
        percent = None if mean is None else round(100 * mean, 1)
        yield _of_episode(mpid, episode) | _of_viewers(percent, viewers, least)


def attendance_as_before(grouped: Grouped, episodes: EpisodesById, chunk: int) -> Iterator[CsvRow]:
    """Yield metric 7 of the old tools: a heartbeat counts for its whole chunk of so many seconds."""
    for mpid, actions, duration in _with_duration(grouped, episodes):
        percents = old_tools.export_attendance(actions, duration, chunk)
        for huid, percent in sorted(percents.items()):
            yield {"mpid": mpid, "huid": huid, "vod_attendance": percent}


def viewing_options_as_before(grouped: Grouped) -> Iterator[CsvRow]:
    """Yield metric 8 of the old tools: only the names of Harvard's Paella 6."""
    for mpid, actions in grouped.recordings():
        for huid, options in sorted(old_tools.viewing_options(actions).items()):
            yield {"mpid": mpid, "huid": huid, **options._asdict()}


def episode_metrics_as_before(grouped: Grouped, episodes: EpisodesById, least: int) -> Iterator[CsvRow]:
    """Yield metric 13 of the old tools: the mean over students of the chunks of 300 s that have a heartbeat.

    Small groups are left out as in `episode_metrics`.
    """
    found = {
        mpid: old_tools.episode_stats(actions, duration)
        for mpid, actions, duration in _with_duration(grouped, episodes)
    }
    for mpid, episode in episodes.items():
        stats = found.get(mpid)
        percent, viewers = (stats.mean_watched_percent, stats.unique_viewers) if stats else (None, 0)
        yield _of_episode(mpid, episode) | _of_viewers(percent, viewers, least)


def _of_viewers(percent: float | None, viewers: int, least: int) -> CsvRow:
    """Return the columns about so many viewers: none about few, otherwise their number rounded down."""
    few = 0 < viewers < least
    return {
        "mean.watched.pct": None if few else percent,
        "unique.viewers": None if few else viewers - viewers % least,
    }


def _with_duration(grouped: Grouped, episodes: EpisodesById) -> Iterator[tuple[str, list[Action], float]]:
    for mpid, actions in grouped.recordings():
        known = facts(episodes.get(mpid, {}))
        duration = known.duration or grouped.facts[mpid].duration
        if duration:
            yield mpid, actions, duration


def _of_episode(mpid: str, episode: Fields) -> CsvRow:
    known = {column: episode.get(column) for column in EPISODE_METRICS[:7]}
    return {**known, "mpid": mpid, "duration": whole(episode.get("duration"))}


def _percent(share: Any) -> int | None:
    return int(100 * share) if isinstance(share, int | float) else None


def _on_the_air(episode: Fields) -> tuple[float, float] | None:
    """Return when a lecture was live, epoch seconds; None if that is unknown."""
    start, end = instant(episode.get("live_start")), instant(episode.get("live_end"))
    if start is None or end is None:
        start, duration = instant(episode.get("start")), facts(episode).duration
        if start is None or duration is None:
            return None
        end = start + dt.timedelta(seconds=duration)
    return (start.timestamp(), end.timestamp()) if start < end else None


def _presence(stays: Iterable[Any], start: float, end: float) -> float:
    """Return the share of [start, end) that the union of the stays covers."""
    inside = []
    for stay in stays:
        began, ended = map(instant, stay if isinstance(stay, list) and len(stay) == 2 else (None, None))  # noqa: PLR2004
        if began and ended and began.timestamp() < end and ended.timestamp() > start:
            inside.append((max(began.timestamp(), start), min(ended.timestamp(), end)))
    return sum(last - first for first, last in union(inside)) / (end - start)
