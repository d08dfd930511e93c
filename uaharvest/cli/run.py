"""`run`: harvest in this process; `enqueue`: let the workers do it. Each stream is a subcommand of both."""

from collections.abc import Mapping

import click

from uaharvest.cli import episodes, index, streams, useractions, zoom
from uaharvest.streams import registry

# Streams whose `run` and `enqueue` have their own options.
OWN: Mapping[str, tuple[click.Command, click.Command]] = {
    "useractions": (useractions.run_useractions, useractions.enqueue_useractions),
    "episodes": (episodes.run_episodes, episodes.enqueue_episodes),
    "zoom": (zoom.run_zoom, zoom.enqueue_zoom),
}


@click.group()
def run() -> None:
    """Harvest in this process; workers may help."""


@click.group()
def enqueue() -> None:
    """Let the workers harvest."""


for spec in registry.specs():
    run_it, enqueue_it = OWN.get(spec.name) or (streams.run_command(spec), streams.enqueue_command(spec))
    for name in (spec.name, *spec.aliases):
        run.add_command(run_it, name)
        enqueue.add_command(enqueue_it, name)
run.add_command(index.run_index)
enqueue.add_command(index.enqueue_index)
