"""Counts the same useractions at three places: at Opencast, as the ledger says it delivered, and as documents."""

import dataclasses

import requests

from uaharvest import assembly
from uaharvest.settings import Settings

ACTIONS, EPISODES = "useractions-*", "episodes"


@dataclasses.dataclass(frozen=True, slots=True)
class Documents:
    """What the document store holds.

    Attributes:
        ids: The useractions.
        named: Episodes that useractions name.
        unpublished: Those of them that Opencast no longer shows.
        episodes: Episodes that have a document.
    """

    ids: frozenset[int]
    named: frozenset[str]
    unpublished: frozenset[str]
    episodes: frozenset[str]


def documents(settings: Settings) -> Documents:
    """Read the document store, as `manage.py documents export` does."""
    store = assembly.document_store(settings)
    actions = list(store.export(ACTIONS))
    return Documents(
        ids=frozenset(action["action_id"] for action in actions),
        named=frozenset(action["mpid"] for action in actions),
        unpublished=frozenset(action["mpid"] for action in actions if not action["episode"]),
        episodes=frozenset(episode["mpid"] for episode in store.export(EPISODES)),
    )


def at_opencast(opencast: str, settings: Settings) -> frozenset[int]:
    """Return the ids of all rows that the simulator shows between the first watermark and the present one."""
    stored = assembly.watermarks(settings).read()
    if stored is None:
        return frozenset()
    bounds = {"start": int(stored.mark.floor.timestamp()), "end": int(stored.mark.at.timestamp())}
    answer = requests.get(f"{opencast}/_sim/truth", params=bounds, timeout=60)
    return frozenset(answer.json()["ids"])


def delivered(settings: Settings) -> int:
    """Return how many rows the ledger says were delivered."""
    return sum(run["delivered"] for run in assembly.ledger(settings).history())
