"""The same questions to every Opencast: each profile of the simulator, over real HTTP."""

import contextlib
import io
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import requests

from devservers import stack
from simulators.opencast.profiles import PROFILES
from uaharvest.documents.episode_part import episode_part
from uaharvest.errors import BlockedError
from uaharvest.intervals import Interval
from uaharvest.opencast.actions import read_action
from uaharvest.opencast.client import Opencast
from uaharvest.runs.local import LocalHints, drive
from uaharvest.runs.watch import RunWatch
from uaharvest.settings import Settings
from uaharvest.streams.engines.useractions import useractions_engine

NEW_YORK = ZoneInfo("America/New_York")

UNTIL = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
DAY = datetime(2026, 11, 20).date()
DATA = ("--rows", "300", "--until", UNTIL.isoformat(), "--episodes", "40")
# What asking for all of a day leaves out, at any second of a minute, lies at midnight; the rows do not.
ENOUGH = 1000


@contextlib.contextmanager
def asked(server, user="admin", password="opencast", **options):
    client = Opencast(server.url, user, password, attempts=1, **options)
    try:
        yield client
    finally:
        client._upstream.session.close()


def truth(server, path):
    answer = requests.get(f"{server.url}/_sim/{path}", timeout=60)
    return answer.json()


def counted(server):
    return truth(server, "requests")["actions"]


@pytest.fixture(scope="module", params=sorted(PROFILES))
def profile(request):
    return PROFILES[request.param]


@pytest.fixture(scope="module")
def open_server(profile):
    """Usertracking and search answer anybody, as Opencast has it unless a site tightens it."""
    with stack.opencast_simulator("--profile", profile.name, "--auth", "open", *DATA) as server:
        yield server


@pytest.fixture(scope="module")
def locked(profile):
    """Digest only, for a single account; usertracking is not for its role."""
    arguments = ("--profile", profile.name, "--usertracking", "forbidden", *DATA)
    with stack.opencast_simulator(*arguments) as server:
        yield server


@pytest.fixture(scope="module")
def without_usertracking(profile):
    arguments = ("--profile", profile.name, "--usertracking", "off", "--auth", "both", "--rows", "0")
    with stack.opencast_simulator(*arguments) as server:
        yield server


def test_all_rows_of_a_day_are_read(open_server):
    with asked(open_server) as client:
        page = client.actions_of_day(DAY, ENOUGH)
    actions = page.actions
    ids = truth(open_server, f"truth?start={UNTIL.timestamp() - 7200}&end={UNTIL.timestamp() + 1}")["ids"]
    assert page.total == len(actions) == 300
    assert sorted(action.id for action in actions) == sorted(ids)
    assert all(isinstance(action.mpid, str) for action in actions)
    assert {type(action.user) for action in actions} <= {str, type(None)}
    assert all(action.created <= UNTIL for action in actions)


def test_one_row_by_its_id_and_none(open_server):
    with asked(open_server) as client:
        row = client.any_actions().actions[0]
        assert read_action(client.action(row.id)) == row
        assert client.action(10**9) is None


@pytest.fixture(scope="module")
def expected_parts():
    """What the episodes are, as an Opencast 9 says."""
    with stack.opencast_simulator("--profile", "oc9", "--auth", "open", *DATA) as server, asked(server) as client:
        ids = [
            episode["id"] for episode in truth(server, "episodes")["episodes"] if episode["state"] == "published"
        ]
        return {mpid: episode_part(client.episode(mpid)) for mpid in ids}


def test_an_episode_is_the_same_in_the_answer_of_every_version(open_server, expected_parts):
    with asked(open_server) as client:
        parts = {mpid: episode_part(client.episode(mpid)) for mpid in expected_parts}
    assert parts == expected_parts


def harvested(server, redis_url, **settings):
    """Harvest all rows of a server in this process; return the messages by id."""
    chosen = Settings(
        engage_url=server.url,
        opencast_user="admin",
        opencast_password="opencast",
        opencast_zone=NEW_YORK,
        queue="-",
        redis_url=redis_url,
        **settings,
    )
    printed, hints = io.StringIO(), LocalHints()
    with contextlib.redirect_stdout(printed):
        engine = useractions_engine(chosen, hints)
        options = engine.usual_options
        asked_for = Interval(UNTIL - timedelta(hours=2), UNTIL + timedelta(seconds=1))
        run = engine.ask(asked_for, options, may_move=False, private=True)
        watch = RunWatch(engine.ledger, engine.state, run, chosen.max_window)
        drive(engine, hints, watch, run=run, options=options, show=lambda _: None)
    engine.ledger._redis.close()
    # In this process logs are printed too.
    messages = [json.loads(line) for line in printed.getvalue().splitlines() if line.startswith("{")]
    assert len({message["action_id"] for message in messages}) == len(messages)
    return {message["action_id"]: message for message in messages}


def without_harvards_own(message):
    """A message but for what Harvard's fork says more: of retracted episodes, and whether it was live."""
    return {name: value for name, value in message.items() if name != "episode" and "is_live" not in name}


@pytest.fixture(scope="module")
def expected_messages(aws, valkey_url):
    with stack.opencast_simulator("--profile", "oc9", "--auth", "open", *DATA) as server:
        return harvested(server, valkey_url)


@pytest.mark.parametrize("auth", ["digest", "basic"])
def test_a_harvest_gives_the_same_messages_of_every_version(
    open_server, profile, expected_messages, valkey_url, auth
):
    messages = harvested(open_server, valkey_url, opencast_auth=auth)
    assert len(messages) == 300
    if profile.harvard:
        assert {row_id: without_harvards_own(message) for row_id, message in messages.items()} == {
            row_id: without_harvards_own(message) for row_id, message in expected_messages.items()
        }
    else:
        assert messages == expected_messages
    assert all(("is_live_inferred" in message) is not profile.harvard for message in messages.values())


@pytest.mark.parametrize("basic", [False, True], ids=["digest", "basic"])
def test_a_user_is_not_taken_for_anybody_on_an_open_server(open_server, basic):
    hidden = next(
        episode["id"]
        for episode in truth(open_server, "episodes")["episodes"]
        if episode["state"] == "published" and not episode["public"]
    )
    with asked(open_server, None, None) as anybody:
        assert anybody.episode(hidden) is None
    with asked(open_server, basic=basic) as client:
        assert client.episode(hidden) is not None


@pytest.mark.parametrize(
    ("basic", "advice"),
    [
        (False, "for others set OPENCAST_AUTH=basic"),
        (True, "Check MATTERHORN_REST_USER and MATTERHORN_REST_PASS."),
    ],
    ids=["digest", "basic"],
)
def test_a_wrong_password_is_said_even_where_anybody_may_read(open_server, basic, advice):
    with asked(open_server, password="guess", basic=basic) as client, pytest.raises(BlockedError) as refused:
        client.any_actions()
    assert "refused user 'admin' (401)" in str(refused.value)
    assert advice in str(refused.value)
    assert "guess" not in str(refused.value)


def test_basic_asks_once_and_digest_twice_and_then_once(open_server):
    for basic, requests_made in ((True, 3), (False, 4)):
        before = counted(open_server)
        with asked(open_server, basic=basic) as client:
            for _ in range(3):
                client.any_actions()
        assert counted(open_server) - before == requests_made


def test_who_must_log_in_is_told_which_settings_to_set(locked, profile):
    with asked(locked, None, None) as client, pytest.raises(BlockedError) as refused:
        client.any_actions()
    said = (
        "refused an anonymous request (403)"
        if profile.forbids
        else f"requires a log-in (redirect to {profile.login_path})"
    )
    assert said in str(refused.value)
    assert str(refused.value).endswith("Set MATTERHORN_REST_USER and MATTERHORN_REST_PASS.")


def test_a_server_that_takes_no_basic_says_so_unless_it_asks_for_it(locked, profile):
    with asked(locked, basic=True) as client, pytest.raises(BlockedError) as refused:
        client.any_actions()
    asks_for_it = profile.challenges_basic
    assert ("OPENCAST_AUTH=digest" in str(refused.value)) is not asks_for_it
    assert ("Check MATTERHORN_REST_USER and MATTERHORN_REST_PASS." in str(refused.value)) is asks_for_it


def test_a_role_that_is_too_small_is_told_from_a_wrong_password(locked):
    with asked(locked) as client, pytest.raises(BlockedError, match=re.escape("(403)")) as refused:
        client.any_actions()
    assert "etc/security/mh_default_org.xml" in str(refused.value)


def test_a_server_without_usertracking_is_told_from_a_wrong_address(without_usertracking):
    with asked(without_usertracking) as client, pytest.raises(BlockedError) as refused:
        client.any_actions()
    assert "opencast-plugin-usertracking" in str(refused.value)
    assert "OPENCAST_DATABASE_URL" in str(refused.value)


def test_a_stale_nonce_costs_one_more_request():
    with stack.opencast_simulator("--rows", "1", "--nonce-seconds", "10") as server, asked(server) as client:
        client.any_actions()
        requests.post(f"{server.url}/_sim/clock", json={"offset_seconds": 11}, timeout=60).raise_for_status()
        before = counted(server)
        for _ in range(3):
            client.any_actions()
        assert counted(server) - before == 4


def test_a_server_that_takes_us_for_a_browser_whose_session_has_ended():
    with (
        stack.opencast_simulator("--rows", "1", "--profile", "oc9") as server,
        asked(server, None, None) as client,
    ):
        client._upstream.session.headers["X-Requested-With"] = "XMLHttpRequest"
        with pytest.raises(
            BlockedError, match=r"refused an anonymous request \(419\): Session expired. Set MATTERHORN_REST_USER"
        ):
            client.any_actions()
