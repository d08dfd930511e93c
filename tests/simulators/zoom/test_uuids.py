"""How meetings are named in paths: matched as they were sent, undecoded."""

import http.client
from urllib.parse import quote, urlsplit

import pytest

AWKWARD = ("slash", "double-slash")
EASY = ("plus", "regular", "long")


def once(uuid):
    return quote(uuid, safe="")


def twice(uuid):
    return once(once(uuid))


@pytest.fixture
def ask(zoom):
    """A function that sends a path to the letter: clients such as requests may rewrite it."""
    connection = http.client.HTTPConnection(urlsplit(zoom.url).netloc, timeout=60)

    def send(name, type_="past"):
        path = f"/v2/metrics/meetings/{name}/participants?type={type_}"
        connection.request("GET", path, headers=dict(zoom.session.headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    yield send
    connection.close()


@pytest.mark.parametrize("kind", [*AWKWARD, *EASY])
def test_encoded_twice_every_uuid_arrives(zoom, ask, kind):
    uuid = zoom.of_kind(kind)[0]["uuid"]
    assert ask(twice(uuid))[0] == 200


@pytest.mark.parametrize("kind", AWKWARD)
def test_encoded_once_a_leading_or_doubled_slash_is_not_found(zoom, ask, kind):
    uuid = zoom.of_kind(kind)[0]["uuid"]
    status, body = ask(once(uuid))
    assert status == 404
    assert body == f'{{"code":3001,"message":"Meeting does not exist: {uuid.removeprefix("/")}."}}'


@pytest.mark.parametrize("kind", EASY)
def test_encoded_once_other_uuids_arrive(zoom, ask, kind):
    uuid = zoom.of_kind(kind)[0]["uuid"]
    assert ask(once(uuid))[0] == 200


def test_a_single_slash_within_arrives_encoded_once_and_a_bare_one_is_another_path(start):
    zoom = start("--meetings", 0)
    uuid = "abcd/efghijklmnopqrstu=="
    zoom.control("POST", "meetings", {"start": "2026-11-20T11:00:00Z", "uuid": uuid})
    assert zoom.get(f"/metrics/meetings/{once(uuid)}/participants", type="past").status_code == 200
    bare = zoom.get(f"/metrics/meetings/{uuid}/participants", type="past")
    assert (bare.status_code, bare.json()["code"]) == (404, 2300)


def test_plus_and_equals_mean_themselves(zoom, ask):
    uuid = zoom.of_kind("plus")[0]["uuid"]
    assert "+" in uuid
    assert ask(uuid.replace("/", "%2F"))[0] == 200


def test_the_rule_holds_for_one_person_and_for_reports(zoom, ask):
    uuid = zoom.of_kind("slash-alone")[0]["uuid"]
    assert ask(twice(uuid), "pastOne")[0] == 200
    assert ask(once(uuid), "pastOne")[0] == 404
    uuid = zoom.of_kind("slash")[0]["uuid"]
    for path in ("/report/meetings/{}", "/report/meetings/{}/participants", "/past_meetings/{}"):
        assert zoom.get(path.format(twice(uuid))).status_code == 200
        assert zoom.get(path.format(once(uuid))).status_code == 404


def test_an_unknown_uuid_is_404_and_3001(zoom, ask):
    status, body = ask("nosuchuuid%3D%3D")
    assert (status, body) == (404, '{"code":3001,"message":"Meeting does not exist: nosuchuuid==."}')


def test_a_number_is_its_newest_instance(zoom):
    first, second = zoom.of_kind("recurring")
    assert first["id"] == second["id"]
    newest = max((first, second), key=lambda meeting: meeting["start_ms"])
    for path in (f"/past_meetings/{first['id']}", f"/report/meetings/{first['id']}"):
        assert zoom.ok(path)["uuid"] == newest["uuid"]
    by_number = zoom.ok(f"/metrics/meetings/{first['id']}/participants", type="past", page_size=300)
    assert by_number["participants"] == zoom.rows(newest["uuid"])


def test_calls_are_counted_by_meeting_however_it_is_named(zoom):
    meeting = zoom.of_kind("long")[0]
    zoom.participants(meeting["uuid"])
    zoom.get(f"/metrics/meetings/{once(meeting['uuid'])}/participants", type="past")
    zoom.get(f"/past_meetings/{meeting['id']}")
    assert zoom.requests()["meetings"] == {meeting["uuid"]: 3}
