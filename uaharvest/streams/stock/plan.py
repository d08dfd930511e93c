"""Plans the days and midnights of a run; pure functions."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from zoneinfo import ZoneInfo

from uaharvest.intervals import Interval
from uaharvest.opencast.days import MINUTE, begin_of, day_of
from uaharvest.runs.ledger import Run
from uaharvest.settings import Settings
from uaharvest.streams.stock.chain import DAY, Step, What, each_day, stretches


def steps(
    run: Run,
    late: Sequence[Interval],
    settings: Settings,
    *,
    flags: Callable[[date], set[str]],
    now: Callable[[], float],
) -> list[Step]:
    """Return the steps of a run: the days of its window and its overlap, then the midnights that are due.

    Args:
        run: The run.
        late: Where to look for late rows: the overlap without dead letters.
        settings: Provide the server's time zone, the lag and the overlap.
        flags: Returns the flags of a day.
        now: Returns Opencast's clock, seconds UTC; called only where it matters.
    """
    zone = settings.opencast_zone
    begin, end = run.window.start.timestamp(), run.window.end.timestamp()
    if run.kind == "live" and run.known_from is not None:
        begin = min(begin, run.known_from.timestamp())
    elif late:
        begin = min(begin, late[0].start.timestamp())
    first, last = day_of(begin, zone), day_of(end - 1, zone)
    early, late_ = [], []
    for day in each_day(first, last + DAY):
        at = begin_of(day, zone)
        if run.kind == "live":
            if begin < at + MINUTE <= end and not _is_settled(run, day, settings, flags(day)):
                early.append(day)
                late_.append(day)
        elif (at < end and at + MINUTE > begin) or (at - MINUTE < end and at > begin):
            if at + MINUTE > end and at + MINUTE + settings.lag > now():
                continue  # its minute has not passed yet
            if at < end and at + MINUTE > begin:
                early.append(day)
            if at - MINUTE < end and at > begin:
                late_.append(day)
    days = list(each_day(min([first, *(day - DAY for day in late_)]), last))
    start = run.window.start.timestamp()
    broken = {day for day in days if run.kind == "live" and _is_gap(day, zone, begin, start, late)}
    # "late" before "early": the late phase ends a minute, so the early phase of the next one comes seconds later.
    work: tuple[tuple[What, Iterable[date]], ...] = (
        ("days", (day for day in days if day not in broken)),
        ("broken", sorted(broken)),
        ("late", (day for day in late_ if day - DAY not in broken)),
        ("early", (day for day in early if day not in broken)),
        ("ids", sorted({*early, *late_})),
    )
    return [Step(what, *bounds) for what, some in work for bounds in stretches(some)]


def is_last_chance(run: Run, day: date, settings: Settings) -> bool:
    """Tell whether the minute at the day's first midnight is outside the overlap once the run is committed."""
    reach = run.window.end.timestamp() - settings.overlap
    return reach >= begin_of(day, settings.opencast_zone) + MINUTE


def _is_settled(run: Run, day: date, settings: Settings, flags: set[str]) -> bool:
    """Tell whether this run can skip a midnight: it was read and will be read once more, or was read twice."""
    return "closed" in flags or ("settled" in flags and not is_last_chance(run, day, settings))


def _is_gap(day: date, zone: ZoneInfo, begin: float, end: float, late: Sequence[Interval]) -> bool:
    """Tell whether the part of a day in [begin, end) is a dead letter: no late rows are looked for in it."""
    begin, end = max(begin, begin_of(day, zone)), min(end, begin_of(day + DAY, zone))
    return begin < end and not any(one.start.timestamp() < end and one.end.timestamp() > begin for one in late)
