"""The world: equal arguments make equal worlds, quickly, and each kind of meeting is there."""

import ipaddress
import time
from collections import Counter
from datetime import UTC, date, datetime

import pytest

from simulators.zoom.generator import Generator, make_people

DAY = date(2026, 11, 20)
DOCUMENTATION = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]
GEOLITE = ["128.103.0.0/16"]  # of tests/test_geolite.py


def make(count, seed=1, day=DAY):
    return Generator(seed, make_people(seed, 60), day).make(count)


@pytest.fixture(scope="module")
def world():
    begun = time.process_time()
    meetings = make(2000)
    assert time.process_time() - begun < 5
    return meetings


def test_equal_arguments_make_equal_worlds():
    assert make(60) == make(60)
    assert make(60) != make(60, seed=2)
    assert make(60) == make(90)[:60]
    assert {meeting.uuid for meeting in make(60)}.isdisjoint(
        meeting.uuid for meeting in make(60, day=date(2026, 11, 21))
    )


def test_two_dozen_meetings_have_every_kind(world):
    kinds = Counter(meeting.kind for meeting in world)
    assert {meeting.kind for meeting in make(26)} == kinds.keys()
    assert kinds["large"] == kinds["long"] == 1
    assert kinds["slash"] > 1 < kinds["double-slash"]
    assert 0.1 < sum(meeting.alone for meeting in world) / len(world) < 0.25


def test_all_start_on_the_day_and_uuids_are_unique(world):
    assert {datetime.fromtimestamp(meeting.start_ms / 1000, UTC).date() for meeting in world} == {DAY}
    assert len({meeting.uuid for meeting in world}) == len(world)


def test_uuids_have_what_their_kind_says(world):
    uuids = {kind: [meeting.uuid for meeting in world if meeting.kind == kind] for kind in
             ("slash", "double-slash", "plus", "slash-alone")}  # fmt: skip
    assert all(uuid.startswith("/") for uuid in uuids["slash"] + uuids["slash-alone"])
    assert all("//" in uuid for uuid in uuids["double-slash"])
    assert all("+" in uuid for uuid in uuids["plus"])
    assert {(len(meeting.uuid), meeting.uuid[-2:]) for meeting in world} == {(24, "==")}


def test_nobody_leaves_before_joining_and_only_duplicates_are_alike(world):
    for meeting in world:
        assert all(one.leave_ms is None or one.join_ms <= one.leave_ms for one in meeting.sessions)
        keys = [one.key for one in meeting.sessions]
        assert (len(set(keys)) < len(keys)) == (meeting.kind == "duplicates")
        assert (meeting.kind == "defective") == any(one.leave_ms is None for one in meeting.sessions)


def test_addresses_and_mail_are_invented(world):
    networks = [ipaddress.ip_network(text) for text in DOCUMENTATION + GEOLITE]
    sessions = [one for meeting in world for one in meeting.sessions]
    addresses = {ipaddress.ip_address(one.ip_address) for one in sessions if one.ip_address}
    assert all(any(address in network for network in networks) for address in addresses)
    assert any(address in ipaddress.ip_network("128.103.0.0/16") for address in addresses)
    domains = {one.email.partition("@")[2] for one in sessions if one.email}
    assert domains == {"example.com", "students.example"}


def test_a_long_meeting_lasts_26_hours_and_one_stays_all_the_time(world):
    (meeting,) = [meeting for meeting in world if meeting.kind == "long"]
    hours = max(one.leave_ms - one.join_ms for one in meeting.sessions) / 3_600_000
    assert 26 < hours < 26.1
