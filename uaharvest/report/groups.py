"""Hides groups that are too small, also from those who subtract. docs/report.md says from whom."""

import dataclasses
from collections.abc import Mapping

OTHER = "other"


@dataclasses.dataclass(frozen=True, slots=True)
class Hidden:
    """A number that is not shown, but a bound of it.

    Attributes:
        text: What is shown in its place, such as "<5".
        bound: Where a chart draws it.
    """

    text: str
    bound: int

    def __str__(self) -> str:
        return self.text


ShownCount = int | Hidden


def count(number: int, least: int) -> ShownCount:
    """Return a number of people, if it is 0 or not too small."""
    return number if number == 0 or number >= least else Hidden(f"<{least}", 0)


def part(number: int, public: int, least: int) -> ShownCount:
    """Return a number of people out of `public`, if neither they nor the rest are too few.

    Args:
        number: How many. It may exceed `public`, if a few people are left out of that.
        public: A number that is known, or shown elsewhere.
        least: The fewest people to show.
    """
    if public < least:
        return Hidden("hidden", 0)
    if 0 < number < least:
        return Hidden(f"<{least}", 0)
    if number > public or 0 < public - number < least:
        return Hidden(f">{public - least}", public - least)
    return number


def partition(counts: Mapping[str, int], least: int) -> dict[str, int]:
    """Return how many people are in each group, the largest first, small ones together as `other`.

    Every group that is returned has at least `least` people, so whatever is added and subtracted, no smaller one
    appears. Nothing is returned if all together are fewer.
    """
    groups = sorted((count, label) for label, count in counts.items() if count > 0 and label != OTHER)
    rest = counts.get(OTHER, 0)
    while groups and (groups[0][0] < least or 0 < rest < least):
        rest += groups.pop(0)[0]
    shown = {label: count for count, label in reversed(groups)}
    if rest >= least:
        shown[OTHER] = rest
    return shown
