"""Whole runs from a real MariaDB and PostgreSQL: they give what REST gives, and nothing is lost when they die."""

import json
from datetime import timedelta

import pytest
import requests
from requests.auth import HTTPDigestAuth

from devservers import databases

# By REST it could not be harvested: usertracking may be off there, and the profile is never asked for.
FORCED = {"X-Requested-Auth": "Digest", "X-Opencast-Matterhorn-Authorization": "true"}


@pytest.fixture
def start_site_of(start_site, database, tables):
    """Start a site whose rows are in the database, as many as asked for; `site.rows` are those that REST tells."""

    def start(*arguments, settings, **options):
        environment = {"OPENCAST_DATABASE_URL": database.url, **settings}
        site = start_site("--order", "created", *arguments, settings=environment, **options)
        answer = requests.get(
            f"{site.simulator.url}/usertracking/actions.json",
            params={"limit": 10**6},
            auth=HTTPDigestAuth("admin", "opencast"),
            headers=FORCED,
            timeout=60,
        )
        site.rows = answer.json()["actions"]["action"]
        databases.insert(tables, site.rows)
        site.simulate("reset-requests", {})
        return site

    return start


def without_is_live(record):
    """A record but for what a boolean in the database does not say, and Harvard's numbers do."""
    return json.dumps({name: value for name, value in record.items() if "is_live" not in name}, sort_keys=True)


def test_workers_deliver_what_is_in_the_database_as_rest_tells_it(start_site_of, start_site, tables):
    site = start_site_of(rows=3_000, seconds=1_800, workers=0, settings={"HARVEST_BATCH_SIZE": "500"})
    site.add_workers(2)
    site.harvest(site.end)
    mark = site.settle()
    assert set(site.delivered().values()) == {1}
    assert set(site.delivered()) == site.truth(mark.floor, mark.at)
    late = [
        site.rows[0] | {"id": 10**9 + number, "created": site.rows[-1 - number]["created"]} for number in range(3)
    ]
    databases.insert(tables, late)
    site.settle()
    assert {row["id"] for row in late} <= set(site.delivered())
    assert len(site.rows) == 3_000
    assert set(site.delivered().values()) == {1}
    asked = site.simulate("requests")["actions_log"]
    assert not [one for one in asked if "start" in one["query"] or "day" in one["query"]]

    by_rest = start_site(rows=3_000, seconds=1_800, workers=0, simulator=site.simulator)
    done = by_rest.manage("run", "useractions")
    assert done.returncode == 0, done.stderr
    ids = {row["id"] for row in late}
    assert sorted(without_is_live(record) for record in site.bodies() if record["action_id"] not in ids) == sorted(
        map(without_is_live, by_rest.bodies())
    )


def test_a_window_of_history_is_cut_and_slices_that_hold_too_much_are_divided(start_site_of, tables):
    site = start_site_of(rows=600, seconds=1_800, workers=0, settings={"HARVEST_BATCH_SIZE": "10"})
    crowd = [site.rows[0] | {"id": 10**9 + number, "created": site.rows[300]["created"]} for number in range(200)]
    databases.insert(tables, crowd)
    start, end = f"{site.end - timedelta(hours=1):%FT%TZ}", f"{site.end:%FT%TZ}"
    done = site.manage("run", "useractions", "--start", start, "--end", end)
    assert done.returncode == 0, done.stderr
    assert "done. 800 sent" in done.stderr
    assert set(site.delivered()) == {row["id"] for row in [*site.rows, *crowd]}
    assert set(site.delivered().values()) == {1}


def test_a_run_against_another_opencast_does_not_read_this_ones_database(start_site_of, start_site):
    site = start_site_of(rows=20, workers=0, settings={})
    other = start_site(rows=7, seconds=60, workers=0)
    options = ("--engage-host", other.simulator.url, "--output", "-", "--interval", "60")
    done = site.manage("run", "useractions", *options)
    assert len(done.stdout.splitlines()) == 7, done.stderr


def test_a_password_that_is_wrong_blocks_and_status_says_so_without_it(start_site_of, database):
    site = start_site_of(rows=5, workers=0, settings={})
    wrong = {"OPENCAST_DATABASE_URL": database.url.replace("harvester:", "harvester:hidden-")}
    done = site.manage("run", "useractions", **wrong)
    assert done.returncode == 4
    assert "Check OPENCAST_DATABASE_URL" in done.stderr
    worker = site.add_worker(**wrong)
    site.until(site.state.blocked)
    status = site.manage("status", **wrong)
    assert status.returncode == 4
    assert "useractions is blocked" in status.stdout
    assert "profile database, set by OPENCAST_DATABASE_URL" in status.stdout
    for shown in (done.stdout, done.stderr, status.stdout, worker.output):
        assert "hidden" not in shown
        assert databases.PASSWORD not in shown


@pytest.mark.fault
def test_a_database_that_is_killed_in_mid_run_costs_time_and_no_row(start_site_of, database, tables):
    site = start_site_of(rows=8_000, seconds=1_800, workers=0, settings={"HARVEST_BATCH_SIZE": "200"})
    site.add_workers(2)
    tables.dispose()
    with site.caught(site.in_first_half):
        database.kill()
    site.until(lambda: (run := site.ledger.live()) and site.ledger.slices(run.id).put_off > 1)
    database.start()
    site.harvest(site.end)
    mark = site.settle()
    assert set(site.delivered()) == site.truth(mark.floor, mark.at)
    assert set(site.delivered().values()) == {1}
    assert site.dead_letters.count("useractions") == 0


@pytest.mark.fault
@pytest.mark.long
def test_an_engage_host_that_is_down_is_an_outage_and_no_slice_becomes_a_dead_letter(start_site_of):
    settings = {"HARVEST_ATTEMPTS": "1", "HARVEST_BATCH_SIZE": "50"}
    site = start_site_of(rows=200, seconds=300, workers=0, settings=settings)
    site.simulate("faults", {"path": "any", "kind": "status", "status": 503})
    site.add_workers(2)
    site.until(site.something_put_off_twice)
    assert site.dead_letters.count("useractions") == 0
    assert not site.delivered()
    site.simulate("faults", method="DELETE")
    site.harvest(site.end)
    assert set(site.delivered()) == {row["id"] for row in site.rows}
    assert set(site.delivered().values()) == {1}
    assert site.dead_letters.count("useractions") == 0


def test_a_footprint_that_grew_is_sent_again_by_workers_when_its_session_goes_on(start_site_of, tables):
    site = start_site_of(rows=20, seconds=300, workers=0, settings={})
    footprint = site.rows[10] | {"id": 10**9, "type": "FOOTPRINT", "inpoint": 0, "outpoint": 5, "length": 5}
    footprint |= {"sessionId": {"sessionId": "s1", "userId": "u"}}
    open_ = footprint | {"id": 10**9 + 1, "sessionId": {"sessionId": "s2", "userId": "u"}}
    databases.insert(tables, [footprint, open_])
    site.add_worker()
    site.harvest(site.end)
    with tables.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE oc_user_action SET outpoint = 65, length = 65 WHERE id IN ({10**9}, {10**9 + 1})"
        )
    following = footprint | {"id": 10**9 + 2, "inpoint": 500, "outpoint": 505, "created": site.rows[-1]["created"]}
    databases.insert(tables, [following])
    site.until(lambda: site.delivered()[10**9] > 1)
    site.settle()
    lengths = [record["action"]["length"] for record in site.bodies() if record["action_id"] == 10**9]
    assert lengths == [5, 65]
    others = {row_id: times for row_id, times in site.delivered().items() if times > 1}
    assert others == {10**9: 2}  # the other may still grow
