"""A real server of Opencast's interface (the simulator), of which one thing is wrong."""

import contextlib

import pytest
import requests

from devservers import stack


@pytest.fixture
def server():
    """Start an Opencast of another kind; return its settings."""
    with contextlib.ExitStack() as servers:

        def start(*options):
            url = servers.enter_context(
                stack.opencast_simulator("--rows", "40", "--span-seconds", "60", *options)
            ).url
            return {"MATTERHORN_ENGAGE_HOST": url, "MATTERHORN_ADMIN_HOST": url}

        yield start


def test_a_host_that_is_down_is_told_with_its_setting(told, settings_of):
    host = f"http://127.0.0.1:{stack.free_port()}"
    [(status, found, remedy)] = told(settings_of(MATTERHORN_ENGAGE_HOST=host), "opencast.engage")
    assert (status, host in found) == ("fail", True)
    assert "MATTERHORN_ENGAGE_HOST" in remedy
    [(status, found, remedy)] = told(settings_of(MATTERHORN_ADMIN_HOST=host), "opencast.admin")
    assert (status, host in found) == ("fail", True)
    assert "MATTERHORN_ADMIN_HOST" in remedy


def test_a_wrong_password_is_told_with_its_setting(told, settings_of):
    [(status, found, remedy)] = told(settings_of(MATTERHORN_REST_PASS="wrong-secret"), "opencast.engage")
    assert (status, "refused user 'admin' (401)" in found) == ("fail", True)
    assert "MATTERHORN_REST_PASS" in remedy
    assert "wrong-secret" not in found + remedy


def test_a_wrong_zone_is_told_with_the_right_one(told, settings_of):
    [(status, found, remedy)] = told(settings_of(OPENCAST_TIMEZONE="UTC"), "opencast.newest")
    assert (status, "OPENCAST_TIMEZONE is 'UTC'" in found) == ("fail", True)
    assert "America/" in remedy


@pytest.mark.parametrize("usertracking", ["off", "forbidden"])
def test_usertracking_that_is_off_is_told_with_opencasts_own_switch(told, settings_of, server, usertracking):
    settings = settings_of(**server("--usertracking", usertracking))
    [(status, found, remedy)] = told(settings, "opencast.usertracking")
    assert (status, "usertracking/actions.json" in found) == ("fail", True)
    assert "opencast-plugin-usertracking" in remedy or "role" in remedy


def test_a_profile_that_the_server_does_not_have_is_told_with_the_setting(look, told, settings_of, server):
    stock = server("--profile", "stock")
    [(status, found, remedy)] = told(settings_of(OPENCAST_PROFILE="dce", **stock), "opencast.profile")
    assert (status, "ignores start and end" in found) == ("fail", True)
    assert "OPENCAST_PROFILE=stock" in remedy
    findings = look(settings_of(**stock), "opencast.newest")
    assert findings["opencast.profile"][0].found == "profile stock (as it answered)"
    assert "today" in findings["opencast.newest"][0].found


def test_what_opencast_leaves_out_is_told_with_its_switches(told, settings_of, server):
    [(status, found, remedy)] = told(settings_of(**server("--profile", "stock", "--omitted")), "opencast.newest")
    assert (status, "-omitted-" in found) == ("warn", True)
    assert "org.opencastproject.usertracking.log.session" in remedy


def test_an_opencast_where_nobody_watched_for_a_day_is_a_warning(told, settings_of, server):
    [(status, found, remedy)] = told(settings_of(**server("--until", "2020-01-01T00:00:00Z")), "opencast.newest")
    assert (status, found) == ("warn", "0 useractions in the last hour, and none in the day before")
    assert "Play a lecture" in remedy


def test_a_clock_that_is_wrong_is_named_and_one_that_stops_the_harvest_fails(told, settings_of, server):
    options = server("--rows", "0")
    settings = settings_of(**options)
    for offset, status in ((-60, "warn"), (60, "warn"), (7200, "fail")):
        clock = f"{options['MATTERHORN_ENGAGE_HOST']}/_sim/clock"
        requests.post(clock, json={"offset_seconds": offset}, timeout=30).raise_for_status()
        findings = told(settings, "clocks", also=("opencast.engage", "redis.answers"))
        [(found_status, found, remedy)] = findings
        assert found_status == status
        assert "the clock of the source of useractions is" in found
        assert "NTP" in remedy


def test_the_whole_table_is_never_counted(look, settings_of, server):
    """With 10^8 rows that takes a server 15 s."""
    options = server("--profile", "stock")
    settings = settings_of(**options, OPENCAST_PROFILE="stock")
    look(settings, "opencast.newest")
    counts = requests.get(f"{options['MATTERHORN_ENGAGE_HOST']}/_sim/requests", timeout=30).json()
    assert counts["actions_log"]
    assert all(asked["query"]["day"] for asked in counts["actions_log"])
