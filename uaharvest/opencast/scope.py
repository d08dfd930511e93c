"""Decides whether a failure concerns single items or the whole server."""

from collections.abc import Callable, Mapping

from uaharvest.errors import BlockedError, SourceError

# If more than this many items fail and none is found, assume that the server fails for all.
MANY = 3


def own_refusals(
    errors: Mapping[str, SourceError | BlockedError], *, answered: bool, neutral: Callable[[], bool | None]
) -> None:
    """Return if the failures concern only these items; raise if the server fails for others too.

    Anyone can store useractions with any id. One id may be refused (by a firewall in front of Opencast) or break a
    response. That says nothing about other ids or about our access.

    Args:
        errors: The error for each item.
        answered: Whether another item of the same kind was found just now.
        neutral: Requests an item known to exist, and returns whether it was found. Returns None if no such item is
            known; then a successful answer for an item that cannot exist has to do.

    Raises:
        SourceError: The server fails for other items too.
        BlockedError: The server refuses other items too; a person must fix this.
    """
    found = answered or neutral()
    if found or (found is None and len(errors) <= MANY):
        return
    # Prefer an error that a person must fix.
    raise min(errors.values(), key=lambda error: not isinstance(error, BlockedError))
