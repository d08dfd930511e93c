"""Moodle's Zoom activity (mod_zoom): a grade for the time in a meeting."""

from collections.abc import Iterable

Presence = tuple[float, float]
"""When somebody joined and left, epoch seconds."""


def grade(
    sessions: Iterable[Presence],
    meeting: Presence,
    scheduled: Presence | None,
    highest: float,
) -> float:
    """Return a participant's grade, 0 to `highest`.

    It is the share of the meeting that the participant was there. The time is the sum of the sessions without the
    overlaps of each with those joined before. Of a scheduled meeting only what was within the schedule counts as its
    length, but all of the participant's time counts.

    Args:
        sessions: The participant's.
        meeting: When it began and ended.
        scheduled: When it was scheduled to begin and end; None for a recurring meeting.
        highest: The highest grade.
    """
    present, reach = 0.0, float("-inf")
    for joined, left in sorted(sessions):
        present += max(0.0, left - max(joined, reach))
        reach = max(reach, left)
    start, end = meeting
    if scheduled:
        start, end = max(start, scheduled[0]), min(end, scheduled[1])
    if end <= start:
        return 0.0
    return min(present * highest / (end - start), highest)
