"""What is stored about one person, as an archive for that person: JSON, CSV, and what each field means."""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uaharvest import __version__, unfinished
from uaharvest.errors import BadInputError
from uaharvest.person.dead_letters import STORE as DEAD_LETTERS
from uaharvest.person.dead_letters import Mention
from uaharvest.person.documents import HOST, Found
from uaharvest.privacy.rules import TABLES
from uaharvest.report.tables import written

README = """This archive holds what uaharvest has stored about one person.

Each store has two files with the same contents: NAME.json, one JSON object per line, and NAME.csv. Times are UTC.
fields.csv says what each field holds, and what it is needed for. about.json has the numbers.
"""


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
            dead_letters: list[Mapping[str, Any]] = [
                {
                    "name": one.letter.name,
                    "at": f"{one.letter.at:%FT%TZ}",
                    "reason": one.letter.reason,
                    "own": one.own,
                }
                for one in mentions
                if one.own is not None
            ]
            if dead_letters:
                by_store[DEAD_LETTERS] = dead_letters
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
                    f"{name}.csv", written([columns, *([row.get(one, "") for one in columns] for row in flat)])
                )
                meanings += [(store, column, *_meaning(store, column)) for column in columns]
            archive.writestr("fields.csv", written([("store", "field", "holds", "needed for"), *meanings]))
            about = {"uaharvest": __version__, "at": f"{datetime.now(UTC):%FT%TZ}", "stores": counts}
            archive.writestr("about.json", json.dumps(about, indent=2))
            archive.writestr("README.txt", README)
        os.link(part, path)
    return counts


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _meaning(store: str, column: str) -> tuple[str, str]:
    """Return what a field holds and what it is needed for; "" if that is not known."""
    if store == DEAD_LETTERS:
        return "what could not be delivered, and why", "delivering it later"
    family = store.removeprefix(HOST)
    rules = next((rules for table, rules in TABLES.items() if table == family), ())
    covering = (rule for rule in rules if any(_covers(name, column) for name in rule.names))
    return next(((rule.holds, rule.why) for rule in covering), ("", ""))


def _covers(name: str, column: str) -> bool:
    """Tell whether the rule of a field is about a column, which may be a member of it or a list of objects."""
    if name == "proxy<n>":
        return column.startswith("proxy")
    return column == name or column.startswith(f"{name}.") or name.startswith(f"{column}.")
