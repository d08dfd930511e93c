"""Builds the episode documents that readers depend on, including live stream data from the workflow."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from uaharvest.coerce import many, members, text, whole
from uaharvest.documents.episode_part import episode_part
from uaharvest.documents.indexed import without_surrogates

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """The site's names for its workflow and operations.

    Attributes:
        definition: Id of the workflow definition that publishes recordings.
        capture: The operation that runs as long as the live lecture.
        retract: The operation that removes the live stream. When it ends, the recording is available.
    """

    definition: str
    capture: str
    retract: str


def fields(
    mpid: str, result: Mapping[str, Any], workflows: Iterable[Mapping[str, Any]], names: Names
) -> dict[str, Any]:
    """Return the fields of an episode's document. Unknown fields are left out.

    Args:
        mpid: Id of the mediapackage and of the document.
        result: Opencast's search result for it, in any version's format.
        workflows: The mediapackage's workflows, in any version's format.
        names: The workflow and the operations to evaluate.
    """
    known = episode_part(dict(result))
    if "cdn" in known:
        known["crn"] = known.pop("cdn")
    if "start" in known:
        # The old tool's format for documents. In queue messages the time ends with Z.
        known["start"] = re.sub(r"(?<=\d:\d\d)Z$", "+00:00", known["start"])
    found = {"mpid": mpid, **known, **_pictures(result), **_live(workflows, names)}
    cleaned: dict[str, Any] = without_surrogates(found)
    return cleaned


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stills and slides; {} if there are no attachments."""
    listed = members(members(result.get("mediapackage")).get("attachments"))
    attachments = [members(one) for one in many(listed.get("attachment"))]
    pictures: dict[str, Any] = {}
    for kind in ("presenter", "presentation"):
        urls = [text(one.get("url")) for one in attachments if one.get("type") == f"{kind}/player+preview"]
        if urls and urls[0]:
            pictures[f"{kind}_still"] = urls[0]
    if attachments:
        pictures["slides"] = [slide for one in attachments if (slide := _slide(one))]
    return pictures


def _slide(attachment: Mapping[str, Any]) -> dict[str, str] | None:
    time = re.search(r"time=([^;]+)", text(attachment.get("ref")) or "")
    image = text(attachment.get("url"))
    if attachment.get("type") != "presentation/segment+preview" or not time or not image:
        return None
    return {"img": image, "time": time[1]}


def _live(workflows: Iterable[Mapping[str, Any]], names: Names) -> dict[str, Any]:
    """Return when the lecture was live and when its recording became available; {} if no workflow shows it.

    If there are several workflows, the one with the highest id counts, because older Opencast versions list them in no
    reliable order.
    """
    finished = [
        workflow
        for workflow in workflows
        if text(workflow.get("template")) == names.definition and workflow.get("state") == "SUCCEEDED"
    ]
    if not finished:
        return {}
    last = max(finished, key=lambda workflow: whole(workflow.get("id")) or 0)
    operations = [members(one) for one in many(members(last.get("operations")).get("operation"))]
    capture, retract = _operation(operations, names.capture), _operation(operations, names.retract)
    live: dict[str, Any] = {"live_stream": 0}
    if capture is not None:
        start, end = whole(capture.get("started")), whole(capture.get("completed"))
        live = {"live_stream": 1, "live_start": _instant(start), "live_end": _instant(end)}
        if start is not None and end is not None:
            live["live_duration"] = end - start
    if retract is not None:
        live["available"] = _instant(whole(retract.get("completed")))
    return {name: value for name, value in live.items() if value is not None}


def _operation(operations: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """Return an operation by name. The name is in `template` from Opencast 12 on, where `id` is a number."""
    named = (one for one in operations if name in {text(one.get("template")), text(one.get("id"))})
    # A skipped operation may have a start time too.
    return next((one for one in named if one.get("state") != "SKIPPED"), None)


def _instant(milliseconds: int | None) -> str | None:
    """Return a UTC time in the old tool's format; None if it is out of range."""
    try:
        return None if milliseconds is None else (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
    except OverflowError:
        return None
