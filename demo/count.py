"""Counts in three places: at Opencast and Zoom, in the ledger's record of deliveries, and among the documents."""

import dataclasses

import requests

from uaharvest import assembly
from uaharvest.settings import Settings

ACTIONS, EPISODES, MEETINGS, SESSIONS = "useractions-*", "episodes", "meetings-*", "sessions-*"


@dataclasses.dataclass(frozen=True, slots=True)
class Documents:
    """The contents of the document store.

    Attributes:
        ids: Ids of the useractions.
        named: Episodes that useractions name.
        unpublished: Those of them that Opencast no longer shows.
        episodes: Episodes that have a document.
        meetings: UUIDs of Zoom meetings.
        sessions: Number of their sessions.
    """

    ids: frozenset[int]
    named: frozenset[str]
    unpublished: frozenset[str]
    episodes: frozenset[str]
    meetings: frozenset[str]
    sessions: int


def documents(settings: Settings) -> Documents:
    """Read the document store, as `manage.py documents export` does."""
    store = assembly.document_store(settings)
    actions = list(store.select(ACTIONS))
    return Documents(
        ids=frozenset(action["action_id"] for action in actions),
        named=frozenset(action["mpid"] for action in actions),
        unpublished=frozenset(action["mpid"] for action in actions if not action["episode"]),
        episodes=frozenset(episode["mpid"] for episode in store.select(EPISODES)),
        meetings=frozenset(meeting["uuid"] for meeting in store.select(MEETINGS)),
        sessions=sum(1 for _ in store.select(SESSIONS)),
    )


def at_opencast(opencast: str, settings: Settings) -> frozenset[int]:
    """Return the ids of all rows in the simulator between the first and the current watermark."""
    stored = assembly.watermarks(settings).read()
    if stored is None:
        return frozenset()
    bounds = {"start": int(stored.mark.floor.timestamp()), "end": int(stored.mark.at.timestamp())}
    answer = requests.get(f"{opencast}/_sim/truth", params=bounds, timeout=60)
    return frozenset(answer.json()["ids"])


def at_zoom(zoom: str) -> tuple[frozenset[str], int]:
    """Return the UUIDs of all meetings in the simulator, and the number of their sessions."""
    truth = requests.get(f"{zoom}/_sim/truth", timeout=60).json()
    return frozenset(meeting["uuid"] for meeting in truth["meetings"]), truth["distinct"]


def delivered(settings: Settings) -> int:
    """Return how many rows were delivered according to the ledger."""
    return sum(run.delivered for run in assembly.state(settings).history())
