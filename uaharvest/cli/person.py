"""`person`: find, export or erase what is stored about one person."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from uaharvest import plain
from uaharvest.cli.context import Context
from uaharvest.errors import BadInputError, HarvestError
from uaharvest.exporting.files import replaced
from uaharvest.person import archive
from uaharvest.person.eraser import Person, PersonData

SHOWN = 30  # linked ids of each look
IDS = click.argument("ids", nargs=-1, metavar="ID...")


@click.group()
def person() -> None:
    """Find, export or erase what is stored about one person.

    ID is a login, a session, an e-mail address, an id at Zoom, a pseudonym, or `name:NAME`. Several are taken as ids of
    the same person. `-` reads them from stdin, one a line, which keeps them out of the shell's history.
    """


@person.command()
@IDS
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the same content.")
@click.pass_obj
def find(context: Context, *, ids: tuple[str, ...], as_json: bool) -> None:
    """Show in which stores there is something about the person, and which other ids occur there.

    These may be the person's, too, or somebody else's; nothing is done with them unless you give them as ID.
    """
    somebody = _somebody(context, ids, "person find")
    look = somebody.look()
    if as_json:
        linked = [
            {"field": field, "id": id_, "documents": count}
            for (field, id_), count in somebody.documents.linked(look.found).most_common()
        ]
        click.echo(
            json.dumps({"stores": look.counts, "linked": linked, "queue": somebody.queue(), "left": look.left})
        )
        return
    for line in _lines(somebody, look):
        click.echo(line)


@person.command()
@IDS
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The ZIP file to write."
)
@click.pass_obj
def export(context: Context, *, ids: tuple[str, ...], output: Path) -> None:
    """Write an archive for the person: JSON and CSV of each store, and what each field means."""
    somebody = _somebody(context, ids, "person export")
    look = somebody.look()
    counts = archive.write(output, somebody.documents.found(whole=True), look.mentions)
    for store, count in counts.items():
        click.echo(f"{store}: {count:,}", err=True)
    for line in look.left:
        click.echo(plain.one_line(f"not in the archive: {line}"), err=True)
    click.echo(f"{output}: written", err=True)


@person.command()
@IDS
@click.option("--dry-run", is_flag=True, help="Only show what there is.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--receipt", type=click.Path(dir_okay=False, path_type=Path), help="Write the receipt here, not to stdout."
)
@click.pass_obj
def erase(context: Context, *, ids: tuple[str, ...], dry_run: bool, yes: bool, receipt: Path | None) -> None:
    """Erase the person in all stores, and keep them from coming back.

    The receipt has the numbers of each store. The exit code is 1 if anything is left; it says what, and the same
    command continues.
    """
    somebody = _somebody(context, ids, "person erase")
    somebody.tombstone()  # refuses early if there is no key
    look = somebody.look()
    for line in _lines(somebody, look):
        click.echo(line, err=True)
    click.echo(
        "To be done: delete these documents and letters; remove the person where they are the host; make again what"
        " was derived; keep a digest of the ids, so that no harvest, backfill, replay or import brings them back.",
        err=True,
    )
    if dry_run:
        return
    if not yes:
        click.confirm("This cannot be undone. Continue?", abort=True, err=True)
    with contextlib.ExitStack() as stack:
        # Created first: an erasure without its receipt could not be proved.
        new = stack.enter_context(replaced(receipt)) if receipt else None
        done = somebody.erase(look, lambda line: click.echo(line, err=True))
        text = json.dumps(done, indent=2)
        if new is None:
            click.echo(text)
        else:
            new.chmod(0o600)
            new.write_text(f"{text}\n")
    if done["left"]:
        raise HarvestError(f"not all is erased: {'; '.join(done['left'])}.")


def _somebody(context: Context, ids: Sequence[str], command: str) -> Person:
    given = list(ids)
    if given == ["-"]:
        given = [line for line in sys.stdin.read().splitlines() if line.strip()]
    elif "-" in given:
        raise BadInputError("ID: expected either - or ids.")
    somebody = Person(context.settings, given)
    context.note_access(command, person=somebody.label)
    return somebody


def _lines(somebody: Person, look: PersonData) -> list[str]:
    lines = [f"{store}: {count:,}" for store, count in look.counts.items()] or ["nothing is stored"]
    linked = somebody.documents.linked(look.found).most_common(SHOWN)
    if linked:
        lines.append("other ids there, perhaps of the same person; give those that are as further ids:")
        lines += [plain.one_line(f"  {field}: {id_} ({count:,})") for (field, id_), count in linked]
    depth = somebody.queue()
    if depth and sum(depth):
        lines.append(
            f"queue: {sum(depth):,} messages of all people wait. They cannot be searched. The indexer leaves out what"
            " is of people who were erased."
        )
    return lines + [plain.one_line(f"look at it: {line}") for line in look.left]
