"""The record of processing lists every field and key that there is."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.privacy import record as record_of_processing
from tests.privacy import roles
from uaharvest import keys
from uaharvest.documents import indexed
from uaharvest.documents.indices import FAMILIES
from uaharvest.documents.useraction import record
from uaharvest.opencast.actions import read_action
from uaharvest.privacy.rules import TABLES, nested
from uaharvest.rows.zoom import MeetingRow, ParticipantRow

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_made_from_the_rules(check_generated):
    page = ROOT / "docs" / "privacy-record.md"
    check_generated(page, "tests/privacy/test_record.py", record_of_processing.markdown())


def paths(properties, owner=""):
    """The fields of a mapping, an object's as `object.field`."""
    for name, of in properties.items():
        if "properties" in of and name != "geoip":
            yield from paths(of["properties"], f"{owner}{name}.")
        else:
            yield f"{owner}{name}"


def listed(table):
    return {name for rule in TABLES[table] for name in rule.names}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_of_a_template_is_listed(family):
    template = json.loads((ROOT / "index_templates" / f"{family}.json").read_text())
    fields = {
        "ua" if path.startswith("ua.") else path for path in paths(template["template"]["mappings"]["properties"])
    }
    assert len(fields) > 10
    assert fields - listed(family) == set()


def test_every_member_of_a_message_is_listed():
    raw = {
        "id": 1,
        "created": "2026-11-17T10:00:00Z",
        "sessionId": {"sessionId": "s", "userId": "u", "userIp": "192.0.2.1, 192.0.2.2", "userAgent": "a"},
    }
    message = json.loads(record(read_action(raw), "{}"))
    names = {name.replace("proxy1", "proxy<n>") for name in message} - {"action", "episode"}
    names |= {f"action.{name}" for name in message["action"]}
    assert names - listed("useractions") == set()
    (body,) = indexed.records(json.dumps(message))
    document = indexed.document(body, lambda _: {"city_name": "x"}, None).body
    assert set(nested(TABLES["useractions"])) >= {name.replace("proxy1", "proxy<n>") for name in document}


@pytest.mark.parametrize(("row", "table"), [(MeetingRow, "meeting row"), (ParticipantRow, "participant row")])
def test_every_field_of_a_row_of_zoom_is_listed(row, table):
    fields = {field.name for field in dataclasses.fields(row)} - {"raw", "state"}
    assert fields - set(nested(TABLES[table])) == set()


def test_every_key_in_redis_is_listed_once():
    named = [*record_of_processing.PERSONAL, *record_of_processing.IMPERSONAL]
    assert sorted(key.pattern for key in named) == sorted(key.pattern for key in keys.ALL)
    assert len(set(named)) == len(named)


# Roles


@pytest.mark.parametrize("product", ["elasticsearch", "opensearch"])
def test_the_roles_are_made_from_the_rules(product, pytestconfig):
    path = ROOT / "index_templates" / "roles" / f"{product}.json"
    made = json.dumps(getattr(roles, product)(), indent=2) + "\n"
    if pytestconfig.getoption("--renew-docs"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(made)
    assert path.read_text() == made


def test_an_analyst_sees_no_person_and_an_officer_everything():
    analyst, officer = (
        roles.elasticsearch()[f"uaharvest_{name}"]["indices"][0] for name in ("analyst", "officer")
    )
    unseen = set(analyst["field_security"]["except"])
    assert unseen >= {"huid", "session_id", "ip", "hostname", "proxy*", "geoip.ip", "user_name", "email", "id"}
    assert unseen >= {"host.name", "host.email", "host.host_id", "ip_address", "customer_key"}
    assert unseen.isdisjoint({"mpid", "action.type", "geoip", "uuid", "meeting", "join_time"})
    assert "field_security" not in officer
