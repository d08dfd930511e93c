"""The data: decided by the seed, and with everything in it that a harvester has to bear."""

import pytest

ARGUMENTS = ("--until", "2026-11-20T16:00:00Z", "--rows", 3000, "--order", "created")


@pytest.fixture
def actions(shared):
    return shared(*ARGUMENTS).actions()


def sessions(actions):
    return [action["sessionId"] for action in actions]


def test_equal_arguments_serve_equal_bytes(shared, start):
    path, everything = "/usertracking/actions.json", {"limit": 100_000}
    one, other = shared(*ARGUMENTS), start(*ARGUMENTS)
    assert one.get(path, **everything).content == other.get(path, **everything).content
    assert one.get("/search/episode.json").content == other.get("/search/episode.json").content


def test_another_seed_serves_other_rows_and_episodes(shared, start):
    one, other = shared(*ARGUMENTS), start(*ARGUMENTS, "--seed", 2)
    assert sessions(one.actions())[0] != sessions(other.actions())[0]
    assert one.episodes()[0]["id"] != other.episodes()[0]["id"]


def test_rows_spread_over_the_span_before_until(actions):
    assert len(actions) == 3000
    assert actions[0]["created"].startswith("2026-11-20T10:00:0")
    assert actions[-1]["created"].startswith("2026-11-20T10:59:5")


def test_ids_are_distinct_have_gaps_and_do_not_follow_created(actions):
    ids = [action["id"] for action in actions]
    assert len(set(ids)) == len(ids)
    assert max(ids) > len(ids)
    assert ids != sorted(ids)


def test_most_actions_are_heartbeats_and_the_other_types_occur(actions):
    types = [action["type"] for action in actions]
    assert types.count("HEARTBEAT") > len(types) / 2
    assert {"PLAY", "PAUSE", "SEEK", "FOOTPRINT"} <= set(types)
    assert any(kind.startswith("paella:button:action;") for kind in types)


def test_users_are_numbers_strings_with_a_leading_zero_anonymous_or_missing(actions):
    users = [session.get("userId") for session in sessions(actions)]
    assert any(isinstance(user, int) for user in users)
    assert any(isinstance(user, str) and user.startswith("0") and user.isdigit() for user in users)
    assert "anonymous" in users
    assert None in users


def test_addresses_are_lists_of_proxies_or_single_or_missing_and_agents_may_be_missing(actions):
    addresses = [session.get("userIp") for session in sessions(actions)]
    assert any(address and ", " in address for address in addresses)
    assert any(address and ", " not in address for address in addresses)
    assert None in addresses
    assert any("userAgent" not in session for session in sessions(actions))


def test_lengths_may_be_negative_and_live_players_say_two(actions, shared):
    assert any(action["length"] < 0 for action in actions)
    live = {episode["id"] for episode in shared(*ARGUMENTS).episodes(live=True)}
    assert {action["isPlaying"] for action in actions} == {0, 1, 2}
    assert all((action["isPlaying"] == 2) == (action["mediapackageId"] in live) for action in actions)


def test_omitted_leaves_one_session_for_everybody(shared):
    found = sessions(shared(*ARGUMENTS, "--omitted").actions())
    assert {session["userId"] for session in found} == {"-omitted-"}
    assert len({tuple(session.items()) for session in found}) == 1


def test_fractions_of_a_second_are_kept_only_on_demand(shared, actions):
    assert not any("." in action["created"] for action in actions)
    assert any("." in action["created"] for action in shared(*ARGUMENTS, "--millis", "on").actions())
