"""Tells single bad items from so many that something else is wrong."""

SHARE = 0.05
FEW = 3  # this many may be bad, however small the total


def too_many(bad: int, total: int) -> bool:
    """Tell whether too many of `total` items are bad to blame the items: a source, queue or index has changed."""
    return bad > max(FEW, SHARE * total)
