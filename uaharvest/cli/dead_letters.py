"""`dead-letters`: inspect, replay or drop what could not be delivered."""

import json

import click

from uaharvest import assembly, plain
from uaharvest import replay as replay_
from uaharvest.cli.context import Context
from uaharvest.errors import Exit, HarvestError


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay or drop what could not be delivered."""


@dead_letters.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_context
def list_(click_context: click.Context, *, as_json: bool) -> None:
    """List the dead letters: name, time and reason. Exits with 5 if one cannot be read."""
    context: Context = click_context.obj
    dead_letters = assembly.dead_letters(context.settings)
    empty, unreadable = True, False
    for name, letter in replay_.read(dead_letters, dead_letters.names()):
        empty = False
        if isinstance(letter, HarvestError):
            unreadable = True
            line = {"name": name, "kind": None, "at": None, "reason": f"unreadable: {letter}"}
        else:
            line = {"name": name, "kind": letter.kind, "at": f"{letter.at:%FT%TZ}", "reason": letter.reason}
        if as_json:
            click.echo(json.dumps(line))
        else:
            at = "" if isinstance(letter, HarvestError) else f"{letter.at:%F %T}  "
            click.echo(plain.one_line(f"{name}  {at}{line['reason']}"))
    if empty and not as_json:
        click.echo("no dead letters")
    if unreadable:
        click.echo(
            "uaharvest did not write what cannot be read: `manage.py dead-letters drop NAME` deletes it.", err=True
        )
        click_context.exit(Exit.DEAD_LETTERS)


@dead_letters.command()
@click.argument("name")
@click.pass_obj
def show(context: Context, *, name: str) -> None:
    """Show a whole dead letter as JSON. It may contain personal data."""
    letter = assembly.dead_letters(context.settings).get(name)
    context.note_access("dead-letters show", name=name)
    whole = {"name": letter.name, "kind": letter.kind, "at": f"{letter.at:%FT%TZ}", "reason": letter.reason}
    click.echo(json.dumps({**whole, "payload": letter.payload}, indent=2))


@dead_letters.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Replay all.")
@click.pass_context
def replay(click_context: click.Context, *, names: tuple[str, ...], everything: bool) -> None:
    """Try to deliver dead letters again, and drop those that are delivered.

    A slice is harvested again as an explicit window. What the indexer could not read or store is indexed. Those that
    fail stay; the exit code is then 5.
    """
    context: Context = click_context.obj
    dead_letters = assembly.dead_letters(context.settings)
    chosen = replay_.chosen(dead_letters, names, everything=everything)
    failed = 0
    for name, sent in replay_.replay(context.settings, dead_letters, chosen):
        if isinstance(sent, HarvestError):
            failed += 1
            click.echo(plain.one_line(f"{name}: not replayed: {sent}"), err=True)
        else:
            click.echo(plain.one_line(f"{name}: {sent:,} sent"))
    if not chosen:
        click.echo("no dead letters")
    if failed:
        click_context.exit(Exit.DEAD_LETTERS)


@dead_letters.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Drop all that can be read. Others must be named.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_context
def drop(click_context: click.Context, *, names: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Delete dead letters for good."""
    context: Context = click_context.obj
    dead_letters = assembly.dead_letters(context.settings)
    chosen = replay_.chosen(dead_letters, names, everything=everything)
    stays: list[HarvestError] = []
    if everything:
        chosen, stays = replay_.droppable(dead_letters, chosen)
    if chosen and not yes:
        click.confirm(f"{len(chosen)} dead letters will be deleted for good. Continue?", abort=True)
    for name in chosen:
        dead_letters.drop(name)
        click.echo(plain.one_line(f"{name}: dropped"))
    for error in stays:
        click.echo(plain.one_line(f"not dropped, because it must be named: {error}"), err=True)
    if not chosen and not stays:
        click.echo("no dead letters")
    if stays:
        click_context.exit(Exit.DEAD_LETTERS)
