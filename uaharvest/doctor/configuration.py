"""Checks of the settings themselves: names that nothing reads, values that clash, files that are missing."""

import dataclasses
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from uaharvest import dotenv
from uaharvest import settings as settings_
from uaharvest.doctor.findings import Finding, fail, failed, ok, warn
from uaharvest.doctor.site import Site
from uaharvest.errors import BadInputError
from uaharvest.geolite import GeoLite
from uaharvest.privacy.site import choice
from uaharvest.settings import STDOUT, Settings

OURS = frozenset(field.metadata["variable"] for field in dataclasses.fields(Settings))


def values(_: Site) -> Iterator[Finding]:
    """Count the settings, and name variables that nothing reads."""
    path = settings_.env_file(os.environ)
    file, duplicates = dotenv.read(path)
    here = {name for name in OURS if os.environ.get(name, "").strip()}
    there = {name for name in OURS & file.keys() if file[name].value.strip()} - here
    source = f", {len(there)} from {path}" if file else ""
    yield ok(f"{len(here | there)} read{source}")
    for name, meant, _sure in settings_.misspelt({*os.environ, *file}):
        yield warn(f"nothing reads {name}", f"Is {meant} meant? Correct the name, or take it out.")
    for name, lines in duplicates.items():
        numbers = ", ".join(map(str, lines))
        yield warn(f"{path} sets {name} in lines {numbers}; the last one counts", "Take the others out.")
    if file and path.stat().st_mode & stat.S_IROTH:
        yield warn(f"{path} can be read by every user of this machine", f"chmod 600 {path}")


def clashes(site: Site) -> Iterator[Finding]:
    """Look for settings that contradict each other, or lack another."""
    found = [*_contradictions(site.settings), *_without_effect(site.settings), *_files(site.settings)]
    yield from found
    if not found:
        yield ok("no two settings clash")


def privacy(site: Site) -> Iterator[Finding]:
    """Say what is stored of people, and whether a command that shows it leaves a line."""
    chosen = choice(site.settings)
    yield ok(str(chosen))
    if chosen.types and not chosen.keys:
        yield warn("PRIVACY_TYPES has no effect without PRIVACY_PSEUDONYMS", "Set it, or take PRIVACY_TYPES out.")
    path = site.settings.access_log
    if path is None:
        yield ok("no ACCESS_LOG_FILE: nothing records who looks at documents")
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        yield fail(
            f"ACCESS_LOG_FILE: {path} cannot be written: commands that show personal data refuse to",
            "Let this user append to it.",
        )
    else:
        yield ok(f"who looks at documents is recorded in {path}")


def _contradictions(settings: Settings) -> Iterator[Finding]:
    if settings.bucket is None:
        yield fail(
            "S3_HARVEST_TS_BUCKET is not set", "Name the bucket of the watermarks (example.env has all settings)."
        )
    if settings.engage_url is None:
        yield fail("MATTERHORN_ENGAGE_HOST is not set", "Name the engage host of Opencast.")
    if settings.queue is None:
        yield fail("SQS_QUEUE_NAME is not set", "Name the queue of the useractions.")
    pairs = (
        ("MATTERHORN_REST_USER", settings.opencast_user, "MATTERHORN_REST_PASS", settings.opencast_password),
        ("ES_USER", settings.es_user, "ES_PASSWORD", settings.es_password),
        ("ZOOM_KEY", settings.zoom_key, "ZOOM_SECRET", settings.zoom_secret),
        ("LRS_USER", settings.lrs_user, "LRS_PASSWORD", settings.lrs_password),
    )
    for first, one, second, other in pairs:
        if bool(one) != bool(other):
            lacking, there = (second, first) if one else (first, second)
            yield fail(f"{there} is set without {lacking}", "They go together: set both, or neither.")
    if settings.es_api_key and settings.es_user:
        yield fail("ES_API_KEY and ES_USER are both set", "Keep one of them.")
    header = settings.zoom_header
    if header and header[0].lower() == "authorization" and settings.zoom_key:
        yield fail("ZOOM_HEADER is Authorization, and so is what ZOOM_KEY logs in with", "Keep one of them.")
    if settings.indexer and settings.queue == STDOUT:
        yield fail('INDEXER is true, but SQS_QUEUE_NAME is "-": there is no queue to index from', "Name a queue.")
    if settings.indexer and not (settings.documents_url or settings.es_url):
        yield fail("INDEXER is true, but there is no document store", "Set ES_HOST, or DOCUMENTS_URL.")


def _without_effect(settings: Settings) -> Iterator[Finding]:
    store = settings.documents_url or settings.es_url
    if settings.documents_url and settings.es_url:
        yield warn("DOCUMENTS_URL and ES_HOST are both set; ES_HOST has no effect", "Take one of them out.")
    if settings.database_url and settings.opencast_profile != "auto":
        yield warn("OPENCAST_PROFILE has no effect, because OPENCAST_DATABASE_URL is set", "Take one of them out.")
    if settings.admin_url and not store:
        yield warn(
            "MATTERHORN_ADMIN_HOST is set, but no episodes are indexed without a document store",
            "Set ES_HOST, or DOCUMENTS_URL.",
        )
    if settings.zoom_key and not store:
        yield warn(
            "ZOOM_KEY is set, but no meetings are indexed without a document store",
            "Set ES_HOST, or DOCUMENTS_URL.",
        )
    if settings.lrs_user and not settings.lrs_url:
        yield warn("LRS_USER is set, but no statement is sent without LRS_URL", "Set it, or take LRS_USER out.")
    if settings.max_span and settings.catch_up:
        yield warn("MAX_START_END_SPAN has no effect, because HARVEST_CATCH_UP is true", "Take one of them out.")


def _files(settings: Settings) -> Iterator[Finding]:
    if settings.es_ca_file and not Path(settings.es_ca_file).is_file():
        yield fail(f"ES_CA_FILE: there is no file '{settings.es_ca_file}'", "Name a file with certificates (PEM).")
    if settings.alert_command and shutil.which(settings.alert_command[0]) is None:
        yield fail(
            f"ALERT_COMMAND: there is no program '{settings.alert_command[0]}' that this user may run",
            "Correct it. It is run without a shell, so a shell's own commands need sh -c '...'.",
        )
    if settings.geolite:
        try:
            GeoLite(settings.geolite)
        except BadInputError as error:
            yield failed(error)
