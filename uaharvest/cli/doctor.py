"""`doctor`: look at every setting and every service, and say what to change."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence

import click

from uaharvest import plain
from uaharvest.cli import output
from uaharvest.cli.context import Context
from uaharvest.doctor.checks import CHECKS
from uaharvest.doctor.examination import CheckResult, examine, unreadable
from uaharvest.doctor.findings import Status
from uaharvest.doctor.site import Site
from uaharvest.errors import BadInputError, Exit
from uaharvest.settings import current

WORDS: Mapping[Status, output.Line] = {
    Status.OK: ("ok", None),
    Status.WARN: ("warn", "yellow"),
    Status.FAIL: ("FAIL", "red"),
    Status.SKIPPED: ("skip", "bright_black"),
}
TITLES = max(len(check.title) for check in CHECKS)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the same content.")
@click.option("--quick", is_flag=True, help="Leave out what takes long, writes to S3 or spends calls of Zoom.")
@click.pass_obj
def doctor(context: Context, *, as_json: bool, quick: bool) -> None:
    """Check every setting and service, and say what to change.

    Exits with 1 if anything fails, with 0 if there are only warnings: fit for a monitor. Ends within 20 s.
    """
    try:
        settings = current()
    except BadInputError as error:
        entries = unreadable(error, CHECKS)
    else:
        entries = examine(Site(settings, context.workers), CHECKS, quick=quick)
    output.show([(_json(entries), None)] if as_json else _lines(entries))
    sys.exit(Exit.ERROR if any(entry.finding.status is Status.FAIL for entry in entries) else Exit.DONE)


def _lines(entries: Sequence[CheckResult]) -> Iterator[output.Line]:
    """Yield a line for each finding; checks of a service that are skipped for one reason share one."""
    said = set()
    used = {entry.check.title for entry in entries if not entry.finding.unused}
    for entry in entries:
        finding = entry.finding
        repeated = finding.status is Status.SKIPPED and (entry.check.title, finding.found) in said
        if repeated or (finding.unused and entry.check.title in used):
            continue
        said.add((entry.check.title, finding.found))
        word, colour = WORDS[finding.status]
        text = f"{finding.found}. {finding.remedy}" if finding.remedy else finding.found
        yield f"{word:4}   {entry.check.title:{TITLES}}   {plain.one_line(text)}", colour
    yield _summary(entries)


def _summary(entries: Sequence[CheckResult]) -> output.Line:
    warnings, failures = _count(entries, Status.WARN), _count(entries, Status.FAIL)
    if not warnings and not failures:
        return "nothing to change", "green"
    parts = [(warnings, "warning"), (failures, "failure")]
    said = ", ".join(f"{number} {what}{'s' * (number != 1)}" for number, what in parts if number)
    return said, "red" if failures else "yellow"


def _count(entries: Sequence[CheckResult], status: Status) -> int:
    return sum(entry.finding.status is status for entry in entries)


def _json(entries: Sequence[CheckResult]) -> str:
    findings = [
        {
            "check": entry.check.name,
            "status": entry.finding.status,
            "found": entry.finding.found,
            "remedy": entry.finding.remedy,
        }
        for entry in entries
    ]
    counts = {"warnings": _count(entries, Status.WARN), "failures": _count(entries, Status.FAIL)}
    return json.dumps({"checks": findings, **counts}, indent=2)
