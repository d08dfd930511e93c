import contextlib

import pytest

from devservers import stack
from uaharvest.errors import SourceError
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.profile import ask, found_profile, kept_profile


@pytest.fixture
def start():
    """Start a simulator and return a client of it."""
    with contextlib.ExitStack() as running:

        def start_one(*arguments):
            simulator = running.enter_context(stack.opencast_simulator(*arguments))
            return Opencast(simulator.url, "admin", "opencast", attempts=1)

        yield start_one


@pytest.mark.parametrize("profile", ["dce", "stock"])
def test_a_server_tells_what_it_is_by_a_range_in_which_nothing_can_be(start, profile):
    assert ask(start("--profile", profile, "--rows", "50")) == profile


@pytest.mark.parametrize("profile", ["dce", "stock"])
def test_an_empty_table_tells_nothing_and_is_taken_for_what_every_server_understands(start, profile):
    assert ask(start("--profile", profile, "--rows", "0")) == "stock"


def test_a_server_is_asked_once(start, client):
    opencast = start("--profile", "dce", "--rows", "50")
    assert kept_profile(client, opencast.base_url) is None
    assert found_profile(client, opencast) == "dce"
    opencast.actions = None  # would fail if it were asked again
    assert found_profile(client, opencast) == kept_profile(client, opencast.base_url) == "dce"


def test_a_server_that_does_not_answer_is_not_guessed_at(client):
    opencast = Opencast("http://127.0.0.1:9", attempts=1)
    with pytest.raises(SourceError):
        found_profile(client, opencast)
    assert kept_profile(client, opencast.base_url) is None
