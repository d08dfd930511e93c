"""Reads the roster of a course from a CSV file."""

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from uaharvest.errors import BadInputError
from uaharvest.report.tables import csv_text

REQUIRED = ("huid", "email", "first_name", "last_name")
OPTIONAL = ("registrant", "preferred_name")
MOST_ERRORS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Student:
    """One line of the roster.

    Attributes:
        huid: The id by which Opencast knows the student.
        emails: Addresses in lower case; Zoom may know the student by any of them.
        registrant: The id of the student's registration with Zoom; None if unknown.
        preferred_name: A first name to use instead of the official one; None if there is none.
    """

    huid: str
    emails: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    first_name: str = dataclasses.field(default="", repr=False)
    last_name: str = dataclasses.field(default="", repr=False)
    registrant: str | None = dataclasses.field(default=None, repr=False)
    preferred_name: str | None = dataclasses.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return the name as a list of students shows it; the id if there is no name."""
        return ", ".join(filter(None, (self.last_name, self.preferred_name or self.first_name))) or self.huid


def read(path: Path) -> list[Student]:
    """Read a roster: UTF-8, a header, columns separated by commas or semicolons.

    The columns are huid, email, first_name and last_name, and optionally registrant and preferred_name; others are
    ignored. Several addresses are separated by spaces. Only the huid must not be empty.

    Raises:
        BadInputError: The file cannot be read as a roster. The text names the lines, and no personal data.
    """
    text, delimiter = csv_text("--roster", path)
    try:
        students, errors = _parse(text, delimiter)
    except (csv.Error, ValueError) as error:
        raise BadInputError(f"--roster: {path}: {error}") from None
    if errors:
        more = f"; and {len(errors) - MOST_ERRORS} more errors" if len(errors) > MOST_ERRORS else ""
        raise BadInputError(f"--roster: {path}: {'; '.join(errors[:MOST_ERRORS])}{more}")
    return students


def _parse(text: io.StringIO, delimiter: str) -> tuple[list[Student], list[str]]:
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    columns = [name.strip().lower() for name in next(rows, [])]
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ValueError(f"line 1: no column {', '.join(missing)}. Expected {','.join(REQUIRED)}")
    repeated = {name for name in (*REQUIRED, *OPTIONAL) if columns.count(name) > 1}
    if repeated:
        raise ValueError(f"line 1: more than one column {', '.join(sorted(repeated))}")
    students: list[Student] = []
    errors: list[str] = []
    lines: dict[tuple[str, str], int] = {}
    for row in rows:
        line = rows.line_num
        if not any(map(str.strip, row)):
            continue
        if len(row) != len(columns):
            errors.append(f"line {line}: {len(row)} columns. Expected {len(columns)}, as in line 1")
            continue
        student = _student(dict(zip(columns, map(str.strip, row), strict=True)))
        errors += _errors(student, line, lines)
        students.append(student)
    if not students and not errors:
        raise ValueError("no students. Expected a line for each after the header")
    return students, errors


def _student(row: dict[str, str]) -> Student:
    return Student(
        huid=row["huid"],
        emails=tuple(dict.fromkeys(row["email"].lower().replace(";", " ").split())),
        first_name=row["first_name"],
        last_name=row["last_name"],
        registrant=row.get("registrant") or None,
        preferred_name=row.get("preferred_name") or None,
    )


def _errors(student: Student, line: int, lines: dict[tuple[str, str], int]) -> Iterator[str]:
    if not student.huid:
        yield f"line {line}: the huid is empty"
    if not all("@" in address for address in student.emails):
        yield f"line {line}: the email is not an address"
    identities: Sequence[tuple[str, str | None]] = (
        ("huid", student.huid),
        *(("email", address) for address in student.emails),
        ("registrant", student.registrant),
    )
    for kind, value in identities:
        if value and (first := lines.setdefault((kind, value), line)) != line:
            yield f"line {line}: the same {kind} as in line {first}"
