"""What is stored about one person, as an archive for that person: JSON, CSV, and what each field means."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uaharvest import __version__, unfinished
from uaharvest.errors import BadInputError
from uaharvest.person.documents import HOST, Found
from uaharvest.person.letters import STORE as LETTERS
from uaharvest.person.letters import Mention
from uaharvest.privacy.rules import TABLES

README = """This archive holds what uaharvest has stored about one person.

Each store has two files with the same contents: NAME.json, one JSON object per line, and NAME.csv. Times are UTC.
fields.csv says what each field holds, and what it is needed for. about.json has the numbers.
"""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets would run these
_DERIVED = {
    "mpid": "id of the recording",
    "viewer": "the viewer: login or session",
    "huid": "the viewer's login",
    "evidence": "kinds of useractions that show it",
    "seen_s": "seconds of the recording that were seen",
    "coverage": "share of the recording that was seen",
    "watched_s": "seconds spent watching",
    "again_s": "seconds that were watched again",
    "furthest_s": "furthest second of the recording that was seen",
    "sittings": "how many times it was watched without a longer break",
    "first": "when it was watched first",
    "last": "when it was watched last",
    "live_s": "seconds watched live",
    "intervals": "which seconds of the recording were seen",
    "played": "each viewing: seconds of the recording, and when",
    "stays": "each stay: when it began and ended",
    "person": "id of the participant",
    "joined": "when the participant joined first",
    "left": "when the participant left last",
    "minutes": "minutes in the meeting",
    "share": "share of the meeting's time",
    "late_minutes": "minutes that the participant came after the meeting began",
    "early_minutes": "minutes that the participant left before it ended",
    "sessions": "how many stays",
    "user_id": "the participant's id at Zoom",
    "registrant_id": "the participant's id as a registrant",
    "user_email": "the participant's e-mail address",
    "user_name": "the participant's name",
    "uuid": "uuid of the meeting",
    "meeting_id": "number of the meeting",
    "topic": "topic of the meeting",
    "host_id": "the host's id at Zoom",
    "start": "when the meeting began",
    "end": "when the meeting ended",
    "@timestamp": "when it was watched, or joined",
    "series": "series of the recording",
    "title": "title of the recording",
    "duration_s": "length of the recording, seconds",
}


def write(path: Path, found: Iterable[Found], mentions: Iterable[Mention]) -> dict[str, int]:
    """Write the archive, a ZIP file that only this user can read; return how much there is of each store.

    Nothing is written in part: the file appears when it is whole.

    Raises:
        BadInputError: The file exists.
    """
    if path.exists():
        raise BadInputError(f"--output: {path} exists. Expected the name of a new file.")
    counts: dict[str, int] = {}
    with unfinished.folder(path.parent) as folder:
        part = folder / "new"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            by_store: dict[str, list[Mapping[str, Any]]] = {}
            for one in found:
                by_store.setdefault(one.store, []).append(one.fields)
            letters: list[Mapping[str, Any]] = [
                {
                    "name": one.letter.name,
                    "at": f"{one.letter.at:%FT%TZ}",
                    "reason": one.letter.reason,
                    "own": one.own,
                }
                for one in mentions
                if one.own is not None
            ]
            if letters:
                by_store[LETTERS] = letters
            meanings: list[tuple[str, str, str, str]] = []
            for store, rows in sorted(by_store.items()):
                counts[store] = len(rows)
                name = store.replace(" ", "-")
                archive.writestr(
                    f"{name}.json", "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
                )
                flat = [dict(_flat(row)) for row in rows]
                columns = list(dict.fromkeys(column for row in flat for column in row))
                archive.writestr(
                    f"{name}.csv", _csv(columns, ([row.get(one, "") for one in columns] for row in flat))
                )
                meanings += [(store, column, *_meaning(store, column)) for column in columns]
            archive.writestr("fields.csv", _csv(("store", "field", "holds", "needed for"), meanings))
            about = {"uaharvest": __version__, "at": f"{datetime.now(UTC):%FT%TZ}", "stores": counts}
            archive.writestr("about.json", json.dumps(about, indent=2))
            archive.writestr("README.txt", README)
        os.link(part, path)
    return counts


def _csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row]
        )
    return text.getvalue()


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _meaning(store: str, column: str) -> tuple[str, str]:
    """Return what a field holds and what it is needed for; "" if that is not known."""
    if store == LETTERS:
        return "what could not be delivered, and why", "delivering it later"
    family = store.removeprefix(HOST)
    rules = next((rules for table, rules in TABLES.items() if table == family), ())
    for rule in rules:
        for name in rule.names:
            if _covers(name, column):
                return rule.holds, rule.why
    return _DERIVED.get(column, ""), ""


def _covers(name: str, column: str) -> bool:
    """Tell whether the rule of a field is about a column, which may be a member of it or a list of objects."""
    if name == "proxy<n>":
        return column.startswith("proxy")
    return column == name or column.startswith(f"{name}.") or name.startswith(f"{column}.")
