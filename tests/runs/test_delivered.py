import pytest

from tests.fakes import at
from uaharvest.runs.delivered import IdsByTime, former_epoch, known_key


@pytest.fixture
def known(client):
    known = IdsByTime(client, "known")
    client.zadd("known", {str(n): at(n).timestamp() for n in range(4)} | {"half": at(1.5).timestamp()})
    return known


def test_what_is_left_out_of_a_slice_is_half_open_as_the_slice(known):
    assert known.within(at(1), at(3)) == {"1", "half", "2"}
    assert known.within(at(0), at(1)) == {"0"}


def test_what_is_compared_with_opencasts_count_is_closed_as_its_range(known):
    assert known.count(at(1), at(3)) == 4
    assert known.count(at(0), at(1)) == 2  # not what has a fraction after the last second
    assert known.count(at(2), at(2)) == 1


def test_ids_are_forgotten_by_event_time(known):
    known.trim(at(1.5))
    assert known.within(at(0), at(9)) == {"half", "2", "3"}


def test_an_empty_set_counts_nothing(client):
    assert IdsByTime(client, "none").count(at(0), at(9)) == 0


def test_epochs_streams_and_destinations_share_no_ids():
    keys = {
        known_key(stream, epoch, destination)
        for stream in ("useractions", "zoom")
        for epoch in ("1", "2")
        for destination in ("http://a/ q", "http://b/ q")
    }
    assert len(keys) == 8


def test_no_host_or_queue_is_spelled_out_in_a_key():
    assert "secret" not in known_key("useractions", "1", "http://secret/ q")


def test_only_the_former_epoch_of_the_same_destination_is_forgotten(client):
    for epoch in ("1", "2"):
        for destination in ("here", "there"):
            client.zadd(known_key("useractions", epoch, destination), {"x": 1})
    for destination in ("here", "there"):
        assert former_epoch(client, "useractions", "1", destination) is None
    assert former_epoch(client, "useractions", "1", "here") is None
    IdsByTime(client, known_key("useractions", former_epoch(client, "useractions", "2", "here"), "here")).forget()
    left = {
        (epoch, destination)
        for epoch in ("1", "2")
        for destination in ("here", "there")
        if client.exists(known_key("useractions", epoch, destination))
    }
    assert left == {("2", "here"), ("1", "there"), ("2", "there")}
