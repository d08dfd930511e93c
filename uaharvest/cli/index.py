"""`run index`, `enqueue index`: move useractions from the queue to the document store."""

import time

import click

from uaharvest import assembly
from uaharvest.cli.context import Context
from uaharvest.cli.options import follow_option
from uaharvest.cli.outcome import report_dead_letters
from uaharvest.indexer import Tally

LINE_EVERY = 5.0  # seconds between progress lines


@click.command("index")
@follow_option
@click.pass_obj
def run_index(context: Context, *, follow: bool) -> None:
    """Index the messages in the SQS queue, in this process, until it is empty; workers may help."""
    settings = context.settings
    indexer = assembly.indexer(settings)
    began = last = time.monotonic()

    def rate(tally: Tally) -> str:
        return f"{tally.indexed / max(time.monotonic() - began, 0.1):,.0f}/s"

    def show(tally: Tally) -> None:
        nonlocal last
        if follow and time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            waiting, _ = assembly.sqs_sink(settings).depth()
            click.echo(f"indexed {tally.indexed:,}, {rate(tally)}, about {waiting:,} messages waiting", err=True)

    tally = indexer.drain(show=show)
    click.echo(
        f"index: done. {tally.indexed:,} indexed, {rate(tally)}. SQS queue {settings.queue} is empty.", err=True
    )
    report_dead_letters(tally.dead)


@click.command("index")
@click.option(
    "-n",
    "--indexers",
    type=click.IntRange(1, 100),
    default=1,
    help="Number of workers that index at the same time.",
)
@click.pass_obj
def enqueue_index(context: Context, *, indexers: int) -> None:
    """Let the workers index the messages in the SQS queue, until it is empty or for ten minutes."""
    assembly.indexer(context.settings)  # reports errors here: the workers have the same settings
    context.workers().drain_index(indexers)
    click.echo("the workers have it. Watch: manage.py status", err=True)
