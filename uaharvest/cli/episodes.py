"""`run episodes`, `enqueue episodes`: index the episodes that useractions name into the document store."""

import dataclasses
from datetime import timedelta

import click

from uaharvest import readers
from uaharvest import settings as settings_
from uaharvest.cli.context import Context
from uaharvest.cli.options import (
    Connections,
    Given,
    combined,
    follow_option,
    goes_elsewhere,
    refusing,
    with_options,
)
from uaharvest.cli.outcome import leave_to_workers, name_of, say_window, work_to_the_end
from uaharvest.errors import BadInputError
from uaharvest.runs.engine import Engine
from uaharvest.runs.local import LocalHints
from uaharvest.runs.opened import Opened
from uaharvest.streams.engines.episodes import episodes_engine
from uaharvest.streams.episodes import Chosen
from uaharvest.streams.opening import DayRange, Selection, open_run
from uaharvest.streams.specs import episodes

shared_options = combined(
    click.option(
        "-s",
        "--source-index-pattern",
        help="Index the episodes that these indices name, such as 'useractions*-2017.10.*'; default: those of "
        "the days from the watermark to yesterday (UTC).",
    ),
    click.option("--mpid", help="Index only this episode."),
    click.option(
        "-w",
        "--wait",
        type=click.IntRange(0, settings_.MAX_WAIT),
        help="Minimum seconds between two episodes, across all workers; default: HARVEST_WAIT_SECONDS.",
    ),
    follow_option,
)

CONNECTIONS: Connections = {
    ("-A", "--admin-host"): "MATTERHORN_ADMIN_HOST",
    ("-E", "--engage-host"): "MATTERHORN_ENGAGE_HOST",
    ("-u", "--user"): "MATTERHORN_REST_USER",
    ("-p", "--password"): "MATTERHORN_REST_PASS",
    ("-e", "--es-host"): "DOCUMENTS_URL, ES_HOST",
    ("-t", "--target-index"): "INDEX_INFIX",
}


@click.command("episodes")
@click.option("-A", "--admin-host", help="Opencast's admin host; default: MATTERHORN_ADMIN_HOST.")
@click.option("-E", "--engage-host", help="Opencast's engage host; default: MATTERHORN_ENGAGE_HOST.")
@click.option("-u", "--user", help="REST user; default: MATTERHORN_REST_USER.")
@click.option("-p", "--password", help="Password of that user; default, and safer: MATTERHORN_REST_PASS.")
@click.option(
    "-e", "--es-host", help="Elasticsearch or OpenSearch, host:port; default: DOCUMENTS_URL, else ES_HOST."
)
@click.option("-t", "--target-index", help="Index of the episodes; default: episodes, with INDEX_INFIX.")
@shared_options
@click.pass_obj
def run_episodes(
    context: Context,
    /,
    *,
    admin_host: str | None,
    engage_host: str | None,
    user: str | None,
    password: str | None,
    es_host: str | None,
    target_index: str | None,
    source_index_pattern: str | None,
    mpid: str | None,
    wait: int | None,
    follow: bool,
) -> None:
    """Index the episodes that useractions name, with live times and availability; by default day by day (UTC).

    By default, takes the days from the watermark to yesterday, each once HARVEST_OVERLAP_SECONDS have passed since its
    end. The watermark does not move with --source-index-pattern or --mpid, nor with hosts or an index other than the
    configured ones. Fields of an episode that are unknown this time keep their values.
    """
    configured = context.settings
    given = {
        "admin_url": Given("--admin-host", admin_host, readers.base_url),
        "engage_url": Given("--engage-host", engage_host, readers.base_url),
        "opencast_user": Given("--user", user),
        "opencast_password": Given("--password", password, secret=True),
        "es_url": Given("--es-host", es_host, readers.cluster_url),
    }
    settings = with_options(configured, given)
    private = target_index is not None or goes_elsewhere(
        configured, settings, "admin_url", "engage_url", "es_url", "documents_url"
    )
    hints = LocalHints()
    chosen = _chosen(source_index_pattern, mpid)
    # A day's rows may still arrive for this long. A person can see whether they have been indexed; beat waits
    # longer.
    ready_after = timedelta(seconds=settings.overlap)
    engine = episodes_engine(
        settings, hints, index=target_index, ready_after=ready_after, chosen=chosen, site=configured
    )
    opened = _open(engine, wait, chosen=chosen is not None, private=private, ready_after=ready_after)
    work_to_the_end(opened, hints, progress=follow)


@click.command("episodes")
@refusing(CONNECTIONS, episodes.SPEC.name)
@shared_options
@click.pass_obj
def enqueue_episodes(
    context: Context,
    /,
    *,
    source_index_pattern: str | None,
    mpid: str | None,
    wait: int | None,
    follow: bool,
) -> None:
    """Let the workers index the episodes that useractions name, by default day by day (UTC) up to yesterday.

    Workers take yesterday from EPISODES_AT on; `run episodes` takes it earlier. Workers use their own connections,
    credentials and index; `run episodes` accepts them as options.
    """
    chosen = _chosen(source_index_pattern, mpid)
    hints = context.workers().hints(episodes.SPEC.name)
    # The first day is opened here; workers open the following ones, and not before EPISODES_AT.
    engine = episodes_engine(context.settings, hints, chosen=chosen)
    leave_to_workers(_open(engine, wait, chosen=chosen is not None), progress=follow)


def _chosen(source_index_pattern: str | None, mpid: str | None) -> Chosen | None:
    if source_index_pattern is not None and mpid is not None:
        raise BadInputError("--source-index-pattern and --mpid are both given. Expected one of them.")
    if "" in (source_index_pattern, mpid):
        raise BadInputError("--source-index-pattern or --mpid is empty. Expected names of indices, or an id.")
    if source_index_pattern is None and mpid is None:
        return None
    return Chosen(source_index_pattern=source_index_pattern, mpid=mpid)


def _open(
    engine: Engine, wait: int | None, *, chosen: bool, private: bool = False, ready_after: timedelta | None = None
) -> Opened:
    """Open a run for the chosen episodes or for those of a day, and print what it will do."""
    options = engine.usual_options
    if wait is not None:
        options = dataclasses.replace(options, wait=wait)
    request = Selection() if chosen else DayRange()
    opened = open_run(engine, request, options, private=private, ready_after=ready_after)
    if chosen:
        click.echo(f"{name_of(opened)}: {opened.expected:,} episodes", err=True)
    else:
        say_window(opened)
    return opened
