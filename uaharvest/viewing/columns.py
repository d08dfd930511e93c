"""NumPy columns, and the arithmetic of intervals on them."""

from collections.abc import Hashable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

_K = TypeVar("_K", bound=Hashable)
_MS = 1000
# Milliseconds. Groups are laid one after the other on one line, this far apart; instants until the year 2286 fit.
_APART = 10**13


def codes(values: Sequence[_K]) -> tuple[list[_K], Ints]:
    """Number the distinct values in the order of their first appearance; return them, and each value's number."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return list(numbers), np.fromiter(map(numbers.__getitem__, values), np.int64, len(values))


def starts_of_runs(keys: Ints) -> Bools:
    """Tell for each row of sorted keys whether its key differs from that of the row before."""
    return np.concatenate((np.ones(min(1, len(keys)), np.bool_), keys[1:] != keys[:-1]))


def union(groups: Ints, start: Floats, end: Floats, gap: float = 0) -> tuple[Ints, Floats, Floats]:
    """Return the union of the half-open intervals [start, end) of each group, as groups, starts and ends.

    Bounds are rounded to milliseconds. Empty intervals are left out. Intervals of a group no more than `gap` apart are
    joined with the time between them: `[0, 10)` and `[15, 20)` with a gap of 5 are `[0, 20)`.

    Args:
        groups: Numbers from 0.
        start: Seconds, between 0 and 10^10.
        end: Seconds, between 0 and 10^10.
        gap: Seconds.
    """
    first = np.rint(start * _MS).astype(np.int64) + groups * _APART
    last = np.rint(end * _MS).astype(np.int64) + groups * _APART
    first, last = first[last > first], last[last > first]
    order = np.argsort(first, kind="stable")
    first, last = first[order], last[order]
    reach = np.maximum.accumulate(last)
    fresh = np.ones(len(first), np.bool_)
    fresh[1:] = (first[1:] - reach[:-1] > round(gap * _MS)) | (first[1:] // _APART != first[:-1] // _APART)
    begins = np.flatnonzero(fresh)
    ends = np.append(begins[1:], len(first))[: len(begins)] - 1
    owner = first[begins] // _APART
    return owner, (first[begins] - owner * _APART) / _MS, (reach[ends] - owner * _APART) / _MS


def total(groups: Ints, seconds: Floats, count: int) -> Floats:
    """Add up `seconds` per group, for groups 0 to `count` - 1, rounded to milliseconds."""
    return np.round(np.bincount(groups, seconds, count), 3)
