"""Hides groups that are too small, also from those who subtract. docs/report.md says from whom."""

import dataclasses
from collections.abc import Mapping

OTHER = "other"


@dataclasses.dataclass(frozen=True, slots=True)
class Hidden:
    """What is shown in place of a number, such as "<5"."""

    text: str

    def __str__(self) -> str:
        return self.text


ShownCount = int | Hidden


def count(number: int, least: int) -> ShownCount:
    """Return a number of people, rounded down to a multiple of `least`; hidden if that is 0 and they are not.

    Rounding protects from those who subtract, also from one report what another one says with another roster: the
    difference of two numbers that are shown is never that of a smaller group.
    """
    return number - number % least if number == 0 or number >= least else Hidden(f"<{least}")


def partition(counts: Mapping[str, int], least: int) -> dict[str, int]:
    """Return how many people are in each group, as `count` does, the largest first, small ones together as `other`.

    Nothing is returned if all together are fewer than `least`.
    """
    shown = {label: number for label, number in counts.items() if number >= least and label != OTHER}
    rest = sum(counts.values()) - sum(shown.values())
    if rest >= least:
        shown[OTHER] = rest
    groups = sorted(shown.items(), key=lambda group: (group[0] == OTHER, -group[1], group[0]))
    return {label: number - number % least for label, number in groups}
