"""`audit --stream zoom` against a simulated account: meetings and sessions without documents, by the lists alone."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import boto3
import pytest
import requests

from devservers import stack
from tests.audit.site import Site
from uaharvest import settings
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import Exit

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)  # Zoom keeps six months
YESTERDAY = f"{NOW - timedelta(days=1):%F}"
SUFFIX = YESTERDAY.replace("-", ".")
MEETINGS, SESSIONS = f"meetings-{SUFFIX}", f"sessions-{SUFFIX}"


@pytest.fixture(scope="module")
def zoom():
    options = ["--days", "1", "--date", YESTERDAY, "--meetings", "12", "--now", f"{NOW:%FT%TZ}"]
    with stack.zoom_simulator(*options, "--limit", "heavy+resource-intensive=10000/s") as server:
        yield server


@pytest.fixture
def empty_redis(redis, valkey_url):
    return valkey_url


@pytest.fixture
def site(zoom, bucket, empty_redis, tmp_path, monkeypatch):
    """A site that has harvested yesterday and looks back no further."""
    environment = {
        "ZOOM_ACCOUNT_ID": "account",
        "ZOOM_KEY": "key",
        "ZOOM_SECRET": "secret",
        "ZOOM_API_URL": f"{zoom.url}/v2/",
        "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
        "ZOOM_PLAN": "business",
        "ZOOM_LOOKBACK_DAYS": "0",
        "REDIS_URL": empty_redis,
        "S3_HARVEST_TS_BUCKET": bucket,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "OPENCAST_TIMEZONE": "UTC",
        "HARVEST_MAX_SKEW_SECONDS": "86400",
    }
    made = Site(environment, monkeypatch, zoom)
    done = made.manage("run", "zoom")
    assert done.exit_code == Exit.DONE, done.stderr
    made.sim("reset-requests", {})
    yield made
    settings.current.cache_clear()


def audit(site, *arguments):
    done = site.manage("audit", "--stream", "zoom", "--json", *arguments)
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def sessions_of(site, uuid):
    with sqlite3.connect(site.settings.documents_url.removeprefix("sqlite:///")) as connection:
        query = "SELECT id FROM documents WHERE in_index = ? AND json_extract(body, '$.meeting') = ?"
        found = [id_ for (id_,) in connection.execute(query, (SESSIONS, uuid))]
    connection.close()
    return found


def calls(site):
    return requests.get(f"{site.simulator.url}/_sim/requests", timeout=60).json()


def test_a_harvested_day_has_no_gaps_and_costs_lists_only(site):
    code, [day], said = audit(site)
    assert (code, said, day["day"]) == (Exit.DONE, "", YESTERDAY)
    assert day["found"]["meetings"]["source"] == day["found"]["meetings"]["indexed"] == 12
    assert day["found"]["sessions"]["source"] == day["found"]["sessions"]["indexed"] > 12
    assert calls(site)["endpoints"].keys() == {"meetings"}


def test_missing_meetings_and_sessions_are_found_and_only_their_meetings_are_harvested(site):
    uuids = sorted(site.documents(MEETINGS))
    whole = {uuid: len(sessions_of(site, uuid)) for uuid in uuids}
    first, second, third, given_up = sorted(uuids, key=whole.__getitem__)[-4:]
    site.forget([first], MEETINGS)
    site.forget(sessions_of(site, second), SESSIONS)
    site.forget(sessions_of(site, third)[:1], SESSIONS)
    site.forget(sessions_of(site, given_up)[:2], SESSIONS)
    site.dead_letters.put(DeadLetter.of_slice("zoom", "one", "refused", {"uuid": given_up, "kind": "past"}))
    foreign = {"Bucket": site.settings.bucket, "Key": "dead-letters/zoom/slice-none.json", "Body": b"no letter"}
    boto3.client("s3").put_object(**foreign)  # keeps no other from being read
    code, [day], _ = audit(site)
    assert code == Exit.GAPS
    assert day["found"]["meetings"]["missing"] == 1
    assert day["found"]["sessions"]["missing"] == whole[second] + 1
    assert day["found"]["sessions"]["dead_letters"] == 2
    site.sim("reset-requests", {})
    code, [once, again], said = audit(site, "--repair")
    assert code == Exit.DONE, said
    assert once["found"]["meetings"]["sent"] == 1
    assert again["found"]["meetings"]["missing"] == again["found"]["sessions"]["missing"] == 0
    assert set(uuids) == site.documents(MEETINGS)
    assert {uuid: len(sessions_of(site, uuid)) for uuid in uuids} == whole | {given_up: whole[given_up] - 2}
    assert calls(site)["endpoints"]["participants"] == 3
