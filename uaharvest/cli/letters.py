"""`dead-letters`: look at what could not be delivered, send it after all, or let it go."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from datetime import datetime

import click

from uaharvest import assembly
from uaharvest.cli.context import Context
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.errors import BadInputError, Exit, HarvestError
from uaharvest.indexer import STREAM, Indexer
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.local import LocalHints, drive
from uaharvest.runs.watch import RunWatch
from uaharvest.runs.windows import Interval
from uaharvest.settings import Settings
from uaharvest.streams.useractions import Useractions


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be delivered, send it after all, or let it go."""


@dead_letters.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_obj
def list_(context: Context, *, as_json: bool) -> None:
    """List the dead letters: name, since when, why."""
    letters = assembly.dead_letters(context.settings)
    empty = True
    for name in letters.names():
        empty = False
        letter = letters.get(name)
        if as_json:
            line = {"name": letter.name, "kind": letter.kind, "at": f"{letter.at:%FT%TZ}", "reason": letter.reason}
            click.echo(json.dumps(line))
        else:
            click.echo(f"{letter.name}  {letter.at:%F %T}  {letter.reason}")
    if empty and not as_json:
        click.echo("no dead letters")


@dead_letters.command()
@click.argument("name")
@click.pass_obj
def show(context: Context, *, name: str) -> None:
    """Show one dead letter whole, as JSON. It may hold data about a person."""
    letter = assembly.dead_letters(context.settings).get(name)
    whole = {"name": letter.name, "kind": letter.kind, "at": f"{letter.at:%FT%TZ}", "reason": letter.reason}
    click.echo(json.dumps({**whole, "payload": letter.payload}, indent=2))


@dead_letters.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.pass_context
def replay(click_context: click.Context, *, names: tuple[str, ...], everything: bool) -> None:
    """Send dead letters after all; those that go are dropped from the list.

    A slice is harvested anew as an explicit window; what the indexer could not read or store is indexed. One that
    fails stays, with exit code 5.
    """
    context: Context = click_context.obj
    letters = assembly.dead_letters(context.settings)
    replayer = _Replayer(context.settings)
    failed = 0
    chosen = _chosen(letters, names, everything=everything)
    for letter in chosen:
        try:
            sent = replayer.replay(letter)
        except HarvestError as error:
            failed += 1
            click.echo(f"{letter.name}: stays: {error}", err=True)
        else:
            letters.drop(letter.name)
            click.echo(f"{letter.name}: {sent:,} sent")
    if not chosen:
        click.echo("no dead letters")
    if failed:
        click_context.exit(Exit.DEAD_LETTERS)


@dead_letters.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop(context: Context, *, names: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Let dead letters go for good."""
    letters = assembly.dead_letters(context.settings)
    chosen = _chosen(letters, names, everything=everything)
    if not chosen:
        click.echo("no dead letters")
        return
    if not yes:
        click.confirm(f"{len(chosen)} dead letters will be gone for good. Go on?", abort=True)
    for letter in chosen:
        letters.drop(letter.name)
        click.echo(f"{letter.name}: dropped")


def _chosen(letters: DeadLetters, names: Iterable[str], *, everything: bool) -> list[DeadLetter]:
    names = list(names)
    if bool(names) == everything:
        raise BadInputError(
            "Expected the names of dead letters, or --all. `manage.py dead-letters list` has them."
        )
    return [letters.get(name) for name in (letters.names() if everything else names)]


class _Replayer:
    """Sends what letters hold; makes only the streams that they are of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hints = LocalHints()
        self._engines: dict[str, Engine] = {}

    def _engine(self, stream: str) -> Engine:
        if stream not in self._engines:
            self._engines[stream] = assembly.engine(stream, self._settings, self._hints)
        return self._engines[stream]

    @functools.cached_property
    def _indexer(self) -> Indexer:
        return assembly.indexer(self._settings)

    def replay(self, letter: DeadLetter) -> int:
        """Send what the letter holds; return how many records."""
        if letter.stream == STREAM:
            return self._indexer.redeliver(letter)
        engine = self._engine(letter.stream)
        if letter.kind == "record" or letter.stream != Useractions.name:  # the others' slices name what is in them
            return engine.stream.redeliver(dict(letter.payload))
        start, end = (datetime.fromisoformat(letter.payload[bound]) for bound in ("start", "end"))
        # The span was let pass when it was harvested, and replay has no option for it.
        options = dataclasses.replace(Options.of(engine.settings), check_span=False)
        run = engine.ask(Interval(start, end), options, may_move=False)
        watch = RunWatch(engine.ledger, run, engine.stream.longest_window)
        snapshot = drive(engine, self._hints, watch, run=run, options=options, show=lambda _: None)
        if snapshot.dead:
            raise HarvestError("it failed again")
        engine.ledger.drop_gap(Interval(start, end))  # late rows are looked for there again
        return snapshot.records
