"""Checks of the workers and of beat."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from uaharvest import __version__, assembly
from uaharvest.doctor.clocks import places
from uaharvest.doctor.findings import Finding, fail, ok, skipped, warn
from uaharvest.doctor.fingerprint import SECRETS, differing, fingerprint
from uaharvest.doctor.site import Site
from uaharvest.indexer import STREAM
from uaharvest.intervals import duration
from uaharvest.runs.state import Clock, compared_clocks, redis_now
from uaharvest.settings import Settings
from uaharvest.status import LONG, MISSED, SECOND_LOOK
from uaharvest.streams import registry

START = "Start one: celery -A tasks worker"


def workers(site: Site) -> Iterator[Finding]:
    """Ask every worker for its version, its settings and its queues."""
    about = site.workers.about()
    if about is None:
        yield skipped("workers cannot be queried over SQS")
        return
    waiting = site.workers.queues()
    if _unheard(site.settings, waiting, about):  # perhaps a busy worker did not answer in time
        about = site.workers.about(SECOND_LOOK) or about
    if not about:
        yield fail("no worker answers", f"{START}. If some run: do they use the same CELERY_BROKER_URL?")
        return
    hosts = {name.partition("@")[2] for name in about}
    yield ok(f"{len(about)} on {len(hosts)} host{'s' * (len(hosts) != 1)}")
    yield from judge_versions(about)
    yield from judge_settings(about, fingerprint(site.settings))
    yield from judge_queues(site.settings, waiting, about)


def judge_versions(about: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield a finding for the workers' versions."""
    others = sorted(name for name, facts in about.items() if facts.get("version") != __version__)
    if not others:
        yield ok(f"all have version {__version__}")
        return
    shown = ", ".join(f"{name} ({about[name].get('version') or 'an older version'})" for name in others)
    yield warn(f"not of this version, {__version__}: {shown}", "Install the same version there, and restart them.")


def judge_settings(about: Mapping[str, Mapping[str, Any]], mine: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each worker whose settings differ from ours."""
    fine = True
    for name, facts in sorted(about.items()):
        if "settings" not in facts or facts.get("version") != __version__:
            continue  # an older version has other settings
        if different := differing(mine, facts["settings"]):
            fine = False
            shown = ", ".join("a secret (password, key or URL)" if one == SECRETS else one for one in different)
            yield fail(
                f"{name} has other settings than this command: {shown}",
                "Give all hosts the same, and restart beat and workers.",
            )
    if fine:
        yield ok("all have the same settings")


def judge_queues(
    settings: Settings, waiting: Mapping[str, int], about: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    """Yield a finding for each queue that no worker consumes."""
    unheard = _unheard(settings, waiting, about)
    for name in unheard:
        tasks = f"has {waiting.get(name, 0):,} task{'s' * (waiting.get(name, 0) != 1)} and no worker"
        yield fail(f"queue '{name}' {tasks}", f"{START} -Q {name}")
    consumed = _consumed(about)
    if consumed is not None and assembly.BACKFILL not in {*consumed, *unheard}:
        yield warn(
            f"queue '{assembly.BACKFILL}' has no worker, so no backfill would begin",
            f"{START} -Q {assembly.BACKFILL}",
        )
    elif not unheard:
        yield ok("every queue has a worker")


def _unheard(settings: Settings, waiting: Mapping[str, int], about: Mapping[str, Mapping[str, Any]]) -> list[str]:
    heard = _consumed(about)
    if heard is None:
        return []
    needed = {"control"} | {
        queue for spec in registry.enabled(settings) for queue in (spec.queue, spec.advance_queue)
    }
    needed |= {"index"} if settings.indexer else set()
    needed |= {name for name, number in waiting.items() if number}
    return sorted(needed - heard)


def _consumed(about: Mapping[str, Mapping[str, Any]]) -> set[str] | None:
    """Return the queues that have a worker; None if that is not known: an older worker does not say its queues."""
    if any("queues" not in facts for facts in about.values()):
        return None
    return {queue for facts in about.values() for queue in facts["queues"]}


def beat(site: Site) -> Iterator[Finding]:
    """Look when each stream was ticked last, and by how many beats."""
    settings, now = site.settings, redis_now(site.redis)
    names = [*assembly.streams(settings), *([STREAM] if settings.indexer else [])]
    ticked = {name: assembly.state(settings, site.redis, stream=name).ticked_at() for name in names}
    yield from judge_ticks(ticked, now, settings)
    yield from judge_beats(compared_clocks(site.redis, places(site)), now, settings)


def judge_ticks(ticked: Mapping[str, datetime | None], now: datetime, settings: Settings) -> Iterator[Finding]:
    """Yield findings for the streams' last ticks."""
    limit = LONG + MISSED * settings.every
    ages = {name: None if at is None else (now - at).total_seconds() for name, at in ticked.items()}
    heard = [age for age in ages.values() if age is not None]
    if not heard or min(heard) > limit:
        since = f"for {duration(min(heard))}" if heard else "yet"
        yield fail(
            f"beat has not been heard {since}",
            "Start it: celery -A tasks beat. If it runs: is there a worker on queue control, and do both use the same"
            " CELERY_BROKER_URL?",
        )
        return
    yield ok(f"ticked {duration(min(heard))} ago")
    for name, age in ages.items():
        if age is None:
            yield warn(f"has not triggered {name} yet", f"Start beat again if {name} was set up after its start.")
        elif age > limit:
            yield warn(
                f"no tick of {name} for {duration(age)}", "Is it at work, or is there no worker on its queue?"
            )


def judge_beats(clocks: list[Clock], now: datetime, settings: Settings) -> Iterator[Finding]:
    """Yield a finding if more than one beat has sent ticks lately."""
    recent = 2 * settings.every
    beats = sorted(
        clock.name.removeprefix("beat on ")
        for clock in clocks
        if clock.name.startswith("beat on ") and (now - clock.at).total_seconds() < recent
    )
    if len(beats) > 1:
        yield warn(
            f"{len(beats)} have sent ticks in the last {duration(recent)}: {'; '.join(beats)}",
            "Stop all but one, unless it was just started again. Doubled ticks do no harm: they are dropped.",
        )
    elif beats:
        yield ok(f"one, on {beats[0]}")
