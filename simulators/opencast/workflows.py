"""The workflows behind the episodes: when a lecture was captured live, and when its recording was published."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulators.opencast.episodes import HOUR_MS, Episode, media_package
from simulators.opencast.profiles import Json, Profile, guess, one_or_many, present
from simulators.opencast.zones import Zone

STATES = ("INSTANTIATED", "RUNNING", "STOPPED", "PAUSED", "SUCCEEDED", "FAILED", "FAILING")


@dataclass(frozen=True, slots=True)
class Operation:
    """A step of a workflow; times are epoch ms, None until they are reached."""

    name: str
    state: str
    started_ms: int | None = None
    completed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow instance of an episode."""

    id: int
    definition: str
    state: str
    episode: Episode
    created_ms: int
    operations: tuple[Operation, ...]


def make_workflows(episodes: Sequence[Episode]) -> list[Workflow]:
    """Return an archive workflow for each episode and a later republication for every sixth one; newest first."""
    workflows = [_archive(episode) for episode in episodes]
    workflows += [_republish(episode) for episode in episodes if episode.number % 6 == 0]
    return sorted(workflows, key=lambda workflow: workflow.created_ms, reverse=True)


def wanted_states(given: Sequence[str]) -> frozenset[str]:
    """Read repeated `state` parameters as Opencast does: `-X` excludes, and an unknown state drops the rest."""
    wanted: set[str] = set()
    excluded: set[str] = set()
    for state in given:
        name = state.removeprefix("-")
        if name not in STATES:
            break
        (excluded if state.startswith("-") else wanted).add(name)
    return frozenset(wanted or STATES) - excluded


def old_workflow(workflow: Workflow, profile: Profile) -> Json:
    """Return an instance as in Opencast 11 and older: an operation's `id` is its name."""
    episode = workflow.episode
    return present(
        {
            "id": profile.attribute(str(workflow.id)),
            "state": workflow.state,
            "template": workflow.definition,
            "title": workflow.definition,
            "creator": {"userName": "opencast_system_account"},
            "organization": {"id": "mh_default_org"},
            "mediapackage": media_package(episode, profile),
            "operations": one_or_many(
                "operation",
                [
                    present(
                        {
                            "id": operation.name,
                            "job": profile.attribute(str(workflow.id * 100 + number)),
                            "state": operation.state,
                            "description": f"Run {operation.name}",
                            "started": operation.started_ms,
                            "completed": operation.completed_ms,
                        }
                    )
                    for number, operation in enumerate(workflow.operations)
                ],
            ),
            "configurations": "",
        }
    )


def new_workflow(workflow: Workflow, profile: Profile, zone: Zone) -> Json:
    """Return an instance as in Opencast 12 and newer: an operation's `id` is a number, `template` its name."""
    episode = workflow.episode
    done = workflow.operations[-1].completed_ms
    return present(
        {
            "id": workflow.id,
            "state": workflow.state,
            "template": workflow.definition,
            "title": workflow.definition,
            "dateCreated": zone.text(workflow.created_ms),
            "dateCompleted": None if done is None else zone.text(done),
            "mediaPackageId": guess(episode.id),
            "seriesId": None if episode.series is None else guess(episode.series),
            "mediapackage": media_package(episode, profile),
            "operations": one_or_many(
                "operation",
                [
                    present(
                        {
                            "id": workflow.id * 100 + number,
                            "template": operation.name,
                            "state": operation.state,
                            "description": f"Run {operation.name}",
                            "started": operation.started_ms,
                            "completed": operation.completed_ms,
                        }
                    )
                    for number, operation in enumerate(workflow.operations)
                ],
            ),
            "configurations": "",
        }
    )


def _archive(episode: Episode) -> Workflow:
    """Create the workflow that archives and publishes; for every third episode it began as a live capture."""
    begin = episode.created_ms
    if episode.live:
        operations = (
            Operation("capture", "RUNNING", begin),
            Operation("publish-engage", "INSTANTIATED"),
            Operation("retract-element", "INSTANTIATED"),
        )
        return _workflow(episode, 0, "DCE-archive-publish-external", "RUNNING", operations)
    published = Operation("publish-engage", "SUCCEEDED", begin + HOUR_MS, begin + 2 * HOUR_MS)
    if episode.number % 3:
        return _workflow(episode, 0, "DCE-archive-publish-external", "SUCCEEDED", (published,))
    operations = (
        Operation("capture", "SUCCEEDED", begin, begin + HOUR_MS),
        published,
        Operation("retract-element", "SUCCEEDED", begin + 2 * HOUR_MS, begin + 2 * HOUR_MS + 100_000),
    )
    return _workflow(episode, 0, "DCE-archive-publish-external", "SUCCEEDED", operations)


def _republish(episode: Episode) -> Workflow:
    begin = episode.created_ms + 24 * HOUR_MS
    operations = (
        # Skipped operations may have started without completing.
        Operation("trim", "SKIPPED", begin),
        Operation("publish-engage", "SUCCEEDED", begin, begin + 60_000),
    )
    return _workflow(episode, 1, "republish", "SUCCEEDED", operations)


def _workflow(
    episode: Episode, number: int, definition: str, state: str, operations: tuple[Operation, ...]
) -> Workflow:
    created_ms = operations[0].started_ms or episode.created_ms
    return Workflow(1000 + 2 * episode.number + number, definition, state, episode, created_ms, operations)
