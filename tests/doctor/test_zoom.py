"""A real server of Zoom's interface (the simulator), of which one thing is wrong."""

import contextlib

import pytest
import requests

from devservers import stack
from uaharvest.zoom.endpoints import MEETINGS, PARTICIPANTS, USERS


@pytest.fixture
def server():
    """Start a Zoom of another kind; return its settings."""
    with contextlib.ExitStack() as servers:

        def start(*options):
            url = servers.enter_context(stack.zoom_simulator("--meetings", "3", *options)).url
            return {"ZOOM_API_URL": f"{url}/v2/", "ZOOM_TOKEN_URL": f"{url}/oauth/token"}

        yield start


def test_a_wrong_secret_is_told_with_the_settings(told, settings_of):
    [(status, found, remedy)] = told(settings_of(ZOOM_SECRET="wrong-secret"), "zoom.token")
    assert status == "fail"
    assert "ZOOM_SECRET" in found + remedy
    assert "wrong-secret" not in found + remedy


def test_a_scope_that_the_app_lacks_is_named(told, settings_of, server):
    settings = settings_of(**server("--scope", MEETINGS.scopes[0], "--scope", USERS.scopes[0]))
    [(status, found, remedy)] = told(settings, "zoom.token")
    assert (status, PARTICIPANTS.scopes[0] in found) == ("fail", True)
    assert f"Give the app the scope {PARTICIPANTS.scopes[0]}" in remedy


def test_an_app_without_any_scope_of_ours_lacks_those_of_the_dashboard(told, settings_of, server):
    [(status, _, remedy)] = told(settings_of(**server("--scope", "user:read:admin")), "zoom.token")
    assert status == "fail"
    assert MEETINGS.scopes[0] in remedy


def test_an_account_without_dashboard_is_read_from_its_reports(look, settings_of, server):
    [finding] = look(settings_of(**server("--plan", "pro")), "zoom.plan")["zoom.plan"]
    assert (finding.status, "reports" in finding.found) == ("ok", True)


def test_a_plan_that_allows_neither_fails(told, settings_of, server):
    [(status, _, remedy)] = told(settings_of(**server("--plan", "free")), "zoom.plan")
    assert (status, "plan" in remedy) == ("fail", True)


def test_it_spends_two_calls_at_most(look, settings_of, server):
    options = server("--plan", "pro")
    look(settings_of(**options), "zoom.reachable", "zoom.token", "zoom.plan", "zoom.quota")
    control = options["ZOOM_API_URL"].removesuffix("/v2/") + "/_sim/requests"
    labels = requests.get(control, timeout=30).json()["labels"]
    assert sum(label["calls"] + label["refused"] for label in labels.values()) <= 2


def test_calls_that_are_used_up_are_told_and_nothing_more_is_asked(look, settings_of, server):
    options = server("--limit", "resource-intensive=0/day")
    findings = look(settings_of(**options, ZOOM_PLAN="business"), "zoom.plan")
    assert findings["zoom.plan"][0].status == "skipped"
    [finding] = look(settings_of(**options, ZOOM_PLAN="business"), "zoom.quota")["zoom.quota"]
    assert (finding.status, "used up until" in finding.found) == ("warn", True)
    assert "ZOOM_PLAN" in finding.remedy


def test_a_zoom_that_is_down_is_told_with_its_setting(told, settings_of):
    url = f"http://127.0.0.1:{stack.free_port()}"
    [(status, found, remedy)] = told(settings_of(ZOOM_API_URL=f"{url}/v2/"), "zoom.reachable")
    assert (status, url in found) == ("fail", True)
    assert "ZOOM_API_URL" in remedy
