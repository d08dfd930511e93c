"""An episode, with what its workflow tells of the live lecture, as the document that readers depend on."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from uaharvest.documents.indexed import without_surrogates
from uaharvest.opencast.episodes import episode_part
from uaharvest.opencast.foreign import many, members, text, whole

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """What the site calls its workflows.

    Attributes:
        definition: Id of the workflow definition that publishes.
        capture: Its operation that lasts as long as the live lecture.
        retract: Its operation that takes the live stream away: from its end on the recording can be watched.
    """

    definition: str
    capture: str
    retract: str


def fields(
    mpid: str, result: Mapping[str, Any], workflows: Iterable[Mapping[str, Any]], names: Names
) -> dict[str, Any]:
    """Return the fields of an episode's document; what is not known is not among them.

    Args:
        mpid: The mediapackage's id, and the document's.
        result: What the search of Opencast tells of it, in the shape of any version.
        workflows: Those of the mediapackage, in the shape of any version.
        names: Which of them counts, and which of its operations.
    """
    known = episode_part(dict(result))
    if "cdn" in known:
        known["crn"] = known.pop("cdn")
    if "start" in known:
        # As the old tool wrote it here; in the queue's messages it ends with Z.
        known["start"] = re.sub(r"(?<=\d:\d\d)Z$", "+00:00", known["start"])
    found = {"mpid": mpid, **known, **_pictures(result), **_live(workflows, names)}
    cleaned: dict[str, Any] = without_surrogates(found)
    return cleaned


def _pictures(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stills and slides; nothing where no attachment is listed."""
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
    """Return when the lecture was live and when its recording came; nothing where no workflow tells.

    Of several workflows the last counts, by id: the list of old versions is in no order that can be relied upon.
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
    """Return an operation by its name, which is `template` from Opencast 12 on (`id` is a number there)."""
    named = (one for one in operations if name in {text(one.get("template")), text(one.get("id"))})
    # One that was skipped may have started all the same.
    return next((one for one in named if one.get("state") != "SKIPPED"), None)


def _instant(milliseconds: int | None) -> str | None:
    """Return an instant in UTC as the old tool wrote it; None for what no calendar has."""
    try:
        return None if milliseconds is None else (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
    except OverflowError:
        return None
