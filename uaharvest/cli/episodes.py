"""`run episodes`, `enqueue episodes`: the episodes that useractions name, into the document store."""

import dataclasses
from datetime import timedelta

import click

from uaharvest import assembly
from uaharvest import settings as settings_
from uaharvest.cli.context import Context, combined
from uaharvest.cli.harvest import (
    Connections,
    Opened,
    goes_elsewhere,
    hand_over,
    refusing,
    say_window,
    with_options,
    work_to_the_end,
)
from uaharvest.errors import BadInputError
from uaharvest.runs.days import DAY, midnight
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.local import LocalHints
from uaharvest.runs.windows import Interval, whole_second
from uaharvest.streams.episodes import Chosen, Episodes

shared_options = combined(
    click.option(
        "-s",
        "--source-index-pattern",
        help="The episodes of the useractions in these indices, such as 'useractions*-2017.10.*'; default: those of "
        "the days from the watermark up to yesterday (UTC).",
    ),
    click.option("--mpid", help="This episode only."),
    click.option(
        "-w",
        "--wait",
        type=click.IntRange(min=0),
        help="Least seconds between two episodes, of all workers together; default: HARVEST_WAIT_SECONDS.",
    ),
    click.option("-f", "--follow", is_flag=True, help="Show the progress."),
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
@click.option("-u", "--user", help="Its REST user; default: MATTERHORN_REST_USER.")
@click.option("-p", "--password", help="That user's password; default, and safer: MATTERHORN_REST_PASS.")
@click.option("-e", "--es-host", help="Elasticsearch host:port; default: DOCUMENTS_URL, else ES_HOST.")
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

    The days from the watermark up to yesterday, each once HARVEST_OVERLAP_SECONDS have passed since its end. With
    --source-index-pattern or --mpid, or with other hosts or another index than the configured ones, the watermark
    stays. What is not known this time of an episode is left as it was.
    """
    configured = context.settings
    given = {
        "admin_url": ("--admin-host", admin_host, settings_.base_url),
        "engage_url": ("--engage-host", engage_host, settings_.base_url),
        "opencast_user": ("--user", user, settings_.text),
        "opencast_password": ("--password", password, settings_.text),
        "es_url": ("--es-host", es_host, settings_.elasticsearch_url),
    }
    settings = with_options(configured, given)
    if es_host is not None:
        settings = dataclasses.replace(settings, documents_url=None)
    private = target_index is not None or goes_elsewhere(
        configured, settings, "admin_url", "engage_url", "es_url", "documents_url"
    )
    hints = LocalHints()
    chosen = _chosen(source_index_pattern, mpid)
    # So long a day's rows may still come. Whether they are indexed by then, a person can see; beat waits longer.
    ready_after = timedelta(seconds=settings.overlap)
    engine = assembly.episodes(settings, hints, index=target_index, ready_after=ready_after, chosen=chosen)
    options = _options(engine, wait)
    opened = _open(engine, options, chosen=chosen is not None, private=private, ready_after=ready_after)
    work_to_the_end(engine, hints, opened, options, follow=follow)


@click.command("episodes")
@refusing(CONNECTIONS, Episodes.name)
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

    Yesterday is theirs from EPISODES_AT on; before, `run episodes` takes it. Connections, credentials and the index
    are the workers' own; `run episodes` takes them as options.
    """
    settings = context.settings
    chosen = _chosen(source_index_pattern, mpid)
    hints = context.workers().hints(Episodes.name)
    # Of several days the workers open all but the first, and not before EPISODES_AT.
    engine = assembly.episodes(settings, hints, chosen=chosen)
    options = _options(engine, wait)
    ready_after = settings.episodes_at
    opened = _open(engine, options, chosen=chosen is not None, private=False, ready_after=ready_after)
    hand_over(engine, opened, options, follow=follow)


def _chosen(source_index_pattern: str | None, mpid: str | None) -> Chosen | None:
    if source_index_pattern is not None and mpid is not None:
        raise BadInputError("--source-index-pattern and --mpid are given. Expected one of them.")
    if "" in (source_index_pattern, mpid):
        raise BadInputError("--source-index-pattern or --mpid is empty. Expected names of indices, or an id.")
    if source_index_pattern is None and mpid is None:
        return None
    return Chosen(source_index_pattern=source_index_pattern, mpid=mpid)


def _options(engine: Engine, wait: int | None) -> Options:
    usual = Options.of(engine.settings)
    return usual if wait is None else dataclasses.replace(usual, wait=wait)


def _open(engine: Engine, options: Options, *, chosen: bool, private: bool, ready_after: timedelta) -> Opened:
    """Open an explicit run if episodes are chosen, or go elsewhere, else look at the way from the watermark on."""
    now = whole_second(engine.stream.now())
    if not chosen and not private:
        stored = engine.store().read()
        since = midnight(stored.mark.at if stored else engine.stream.begin(now, options.interval))
        until = midnight(now - ready_after)
        expected = engine.stream.count(Interval(since, until), wait=options.wait) if since < until else 0
        opened = Opened.live(engine, since, until, expected)
        say_window(engine, None, since, until, expected)
        return opened
    # A run has a window, also one whose episodes are not of a day.
    end = now if chosen else midnight(now)
    run = engine.ask(Interval(end - DAY, end), options, may_move=False, private=private)
    if chosen:
        click.echo(f"run {run.id[:8]}: {run.expected:,} episodes", err=True)
    else:
        say_window(engine, run, run.asked.start, run.asked.end, run.expected)
    return Opened.explicit(engine, run)
