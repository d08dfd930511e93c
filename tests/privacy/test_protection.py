import json
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy import planted
from uaharvest.documents import indexed
from uaharvest.documents.useraction import record as built
from uaharvest.opencast.actions import raw_action, read_action
from uaharvest.privacy import agents
from uaharvest.privacy.protection import OFF, Choice, Protection
from uaharvest.privacy.pseudonyms import PseudonymKey
from uaharvest.privacy.rules import TABLES
from uaharvest.privacy.site import choice, locate_stored
from uaharvest.settings import Settings

KEYS = (PseudonymKey("k1", "a secret of sixteen or more"),)
PLACE = {"ip": planted.ADDRESS, "city_name": "Boston"}
CHOICES = [
    Choice(keys=keys, address=address, agent=agent)
    for keys in ((), KEYS)
    for address in ("full", "truncated", "none")
    for agent in ("full", "family", "none")
]


def protect(chosen):
    return Protection(chosen, lambda address: PLACE if address == planted.ADDRESS else None)


def record_of(row, protection):
    """The record as the stream builds it."""
    return json.loads(built(read_action(row), "{}", protection.writers))


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_a_useraction_and_its_record_are_protected_in_the_same_way(chosen):
    protection = protect(chosen)
    plain = record_of(planted.action(1), OFF)
    assert protection.record(plain) == record_of(planted.action(1), protection)


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_protecting_twice_changes_nothing(chosen):
    protection = protect(chosen)
    record = protection.record(record_of(planted.action(1), OFF))
    assert protection.record(record) == record
    raw = protection.raw_action(planted.action(1))
    assert protection.raw_action(raw) == raw
    for table, fields in (("sessions", planted.participant()), ("meeting row", planted.meeting())):
        once = protection.fields(table, fields)
        assert protection.fields(table, once) == once


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_a_dead_letter_of_a_row_is_replayed_as_the_row_was(chosen):
    protection = protect(chosen)
    raw = raw_action(read_action(planted.action(1)))
    kept = json.loads(json.dumps(protection.raw_action(raw)))
    again = record_of(kept, protection)
    assert {**again, **protection.more_of(raw)} == record_of(planted.action(1), protection)


def test_off_changes_nothing():
    action = read_action(planted.action(1))
    assert built(action, "{}", OFF.writers) == built(action, "{}")
    record = {"any": "thing"}
    assert OFF.record(record) is record
    assert OFF.session("s") == "s"
    assert OFF.unreadable("text") == {"body": "text"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=5), of, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("table", list(TABLES))
@settings(max_examples=15)
@given(data=st.data())
def test_malformed_values_raise_nothing(table, data):
    names = sorted({name.partition(".")[0] for rule in TABLES[table] for name in rule.names})
    fields = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=5))
    protection = protect(Choice(keys=KEYS, address="truncated", agent="family"))
    json.dumps(protection.fields(table, fields))
    json.dumps(protection.record(fields))
    json.dumps(
        protection.raw_action(data.draw(st.dictionaries(st.sampled_from(["sessionId", "userIp", "type"]), JSON)))
    )


def test_numbers_that_opencast_made_of_logins_have_the_pseudonym_of_the_login():
    protection = protect(Choice(keys=KEYS))
    row = planted.action(1, sessionId={"userId": 12345678})
    login = record_of(row, protection)["huid"]
    assert protection.raw_action(row)["sessionId"]["userId"] == login == protection.id("12345678")
    assert protection.record({"huid": 12345678})["huid"] == login


def test_old_rows_have_the_session_in_the_row_itself():
    protection = protect(Choice(keys=KEYS, address="none", agent="none"))
    row = planted.action(1, sessionId=planted.SESSION, userId=planted.LOGIN, userIp=planted.ADDRESS, userAgent="x")
    assert planted.found(json.dumps(protection.raw_action(row)), planted.EVERYTHING) == []


def test_an_address_is_located_before_it_is_cut_and_then_not_again():
    protection = protect(Choice(address="none"))
    (record,) = indexed.records(json.dumps(record_of(planted.action(1), protection)))
    assert record["geoip"] == {"city_name": "Boston"}
    site = Settings(opencast_zone=ZoneInfo("UTC"), privacy_address="truncated")
    assert locate_stored(site)(planted.ADDRESS) is None
    assert protection.record(record)["geoip"] == {"city_name": "Boston"}


def test_the_places_and_browsers_of_an_imported_document_are_protected():
    protection = protect(Choice(address="truncated", agent="family"))
    document = {
        "ip": planted.ADDRESS,
        "hostname": "zq.example.edu",
        "geoip": {**PLACE, "latitude": 1},
        "ua": {"name": "Chrome", "major": "126", "os": "Windows 10", "os_name": "Windows", "device": "Other"},
        "message": "the whole line",
    }
    assert protection.record(document) == {
        "ip": "203.0.113.0",
        "geoip": {"ip": "203.0.113.0", "city_name": "Boston", "latitude": 1},
        "ua": {"name": "Chrome", "os": "Windows", "os_name": "Windows"},
    }


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        ("win 10+ 17763", "win"),
        ("Web Browser Chrome 130", "Web Browser Chrome"),
        ("Windows + Phone", "Windows + Phone"),
        ("iOS", "iOS"),
        ("130", None),
    ],
)
def test_a_device_of_zoom_loses_its_version(device, kept):
    assert agents.without_versions(device) == kept


def test_what_a_site_has_chosen_is_said_in_a_line_without_secrets():
    off = choice(Settings(opencast_zone=ZoneInfo("UTC")))
    assert str(off).startswith("off: ")
    keys = (("k2", "a secret of sixteen or more"), ("k1", "an older secret of sixteen"))
    on = choice(Settings(opencast_zone=ZoneInfo("UTC"), privacy_pseudonyms=keys, privacy_agent="none"))
    assert str(on) == "pseudonyms by key k2 (older: k1) · addresses full · browsers none"
    assert "secret" not in f"{on!r} {on.report()}"
