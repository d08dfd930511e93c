"""What becomes of statements at a learning record store, whatever it answers."""

import base64
import json

import pytest
import responses

from tests.fakes import FakeS3, unavailable
from uaharvest.errors import BadInputError, BlockedError, HarvestError, RetryableError
from uaharvest.exporting.xapi import lrs
from uaharvest.exporting.xapi.export import Unit
from uaharvest.exporting.xapi.lrs import Lrs, StatementCounts, deliver
from uaharvest.exporting.xapi.positions import ExportPosition
from uaharvest.settings import Settings

URL = "https://lrs.example.edu/xAPI"


def statement(number):
    return {"id": f"{number:08d}-0000-5000-8000-000000000000", "verb": {"id": "played"}}


def statements(count):
    return [statement(number) for number in range(count)]


class Store:
    """An LRS as Ralph and the specification have it."""

    def __init__(self):
        self.kept = {}
        self.bad = set()
        self.answers = []  # given before it answers by itself
        self.requests = []
        self.largest = None

    def __call__(self, request):
        self.requests.append(request)
        if self.answers:
            return self.answers.pop(0)
        sent = json.loads(request.body)
        if self.largest and len(request.body) > self.largest:
            return 413, {}, ""
        if any(one["id"] in self.bad for one in sent):
            return 400, {}, '{"detail": "secret name"}'
        if any(self.kept.get(one["id"], one) != one for one in sent):
            return 409, {}, ""
        new = [one["id"] for one in sent if one["id"] not in self.kept]
        self.kept.update({one["id"]: one for one in sent})
        return (200, {}, json.dumps(new)) if new else (204, {}, "")


@pytest.fixture
def store():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        store = Store()
        mock.add_callback(responses.POST, f"{URL}/statements", store)
        yield store


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def client(pauses):
    return Lrs(Settings(lrs_url=URL, lrs_user="key", lrs_password="söcret"), pause=pauses.append)


def test_statements_are_posted_with_version_and_login(store, client):
    assert client.send(statements(3)) == StatementCounts(taken=3)
    [request] = store.requests
    assert request.headers["X-Experience-API-Version"] == "1.0.3"
    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode() == "key:söcret"
    assert len(store.kept) == 3


def test_a_repeat_adds_nothing(store, client):
    client.send(statements(3))
    assert client.send(statements(4)) == StatementCounts(taken=4)
    assert client.send(statements(4)) == StatementCounts(taken=4)
    assert len(store.kept) == 4


def test_without_a_login_none_is_sent(store):
    Lrs(Settings(lrs_url=URL)).send(statements(1))
    assert "Authorization" not in store.requests[0].headers


def test_an_id_that_stands_for_another_statement_does_not_stop_the_others(store, client):
    store.kept[statement(5)["id"]] = {"other": 1}
    assert client.send(statements(20)) == StatementCounts(taken=19, different=1)
    assert store.kept[statement(5)["id"]] == {"other": 1}


def test_a_refused_statement_does_not_stop_the_others(store, client):
    store.bad = {statement(7)["id"]}
    assert client.send(statements(200)) == StatementCounts(taken=199, refused=((statement(7)["id"], 400),))
    assert len(store.kept) == 199


def test_a_batch_that_is_too_large_is_halved(store, client):
    store.largest = 300
    assert client.send(statements(20)) == StatementCounts(taken=20)


def test_many_refused_statements_stop_the_export(store, client):
    store.bad = {one["id"] for one in statements(30)}
    with pytest.raises(BlockedError, match=r"refuses 30 of 100 statements, such as 00000000.* \(400\)") as error:
        client.send(statements(100))
    assert "secret" not in str(error.value)


def test_a_busy_lrs_is_asked_again_and_its_retry_after_is_heeded(store, client, pauses):
    store.answers = [(429, {"Retry-After": "7"}, ""), (503, {}, ""), (502, {"Retry-After": "99999"}, "")]
    assert client.send(statements(2)) == StatementCounts(taken=2)
    assert (pauses[0], pauses[2]) == (7.0, 60.0)
    store.answers = [(503, {}, "")] * 6
    with pytest.raises(RetryableError, match="is busy \\(503\\)"):
        client.send(statements(2))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((401, {}, ""), "denied access \\(401\\). Check LRS_USER and LRS_PASSWORD."),
        ((403, {}, ""), "denied access \\(403\\)"),
        ((404, {}, ""), "answered 404. Check LRS_URL"),
        ((302, {"Location": "https://elsewhere.example.edu"}, ""), "answered 302. Check LRS_URL"),
        ((200, {}, "<html>"), "did not answer as an LRS does. Check LRS_URL."),
        ((200, {}, '["11111111-1111-5111-8111-111111111111"]'), "did not answer as an LRS does"),
        ((200, {}, '{"error": 1}'), "did not answer as an LRS does"),
        ((200, {}, "[{}]"), "did not answer as an LRS does"),
    ],
)
def test_what_a_person_must_change_is_named(store, client, answer, text):
    store.answers = [answer]
    with pytest.raises(BlockedError, match=text) as error:
        client.send(statements(2))
    assert "söcret" not in str(error.value)


def test_ralph_that_takes_a_part_of_a_batch_is_understood(store, client):
    one = json.dumps({"inserted": 1, "rejected": 1, "ids": [statement(0)["id"]], "errors": [{"index": 1}]})
    whole = json.dumps({"inserted": 1, "rejected": 0, "ids": [statement(0)["id"]], "errors": []})
    store.answers = [(200, {}, one), (200, {}, whole), (400, {}, "")]
    assert client.send(statements(2)) == StatementCounts(taken=1, refused=((statement(1)["id"], 400),))


def test_settings_that_are_missing_are_named():
    with pytest.raises(BadInputError, match="not set: LRS_URL"):
        Lrs(Settings())
    with pytest.raises(BadInputError, match="LRS_USER and LRS_PASSWORD go together"):
        Lrs(Settings(lrs_url=URL, lrs_user="key"))


# Going on


def units(*counts):
    made, first = [], 0
    for number, count in enumerate(counts):
        made.append(Unit(f"recording {number}", [statement(first + one) for one in range(count)]))
        first += count
    return made


def position(s3):
    return ExportPosition(s3, "bucket", "all to lrs")


def test_small_units_share_a_batch_and_large_ones_are_cut(store, client):
    sent = list(deliver(units(50, 50, 50, 450), client, None))
    assert [one.total for one in sent] == [200, 200, 200]
    assert len(store.kept) == 600


def test_an_export_that_stopped_goes_on_after_the_last_unit_that_was_sent(store, client):
    s3 = FakeS3()
    store.answers = []
    generator = deliver(units(lrs.BATCH, lrs.BATCH, 10), client, position(s3))
    next(generator)
    store.answers = [(401, {}, "")]
    with pytest.raises(BlockedError):
        list(generator)
    again = position(s3)
    assert again.read() == "recording 0"
    again.save("recording 1")
    again.finish()
    assert s3.objects == {}


def test_nothing_is_remembered_of_an_export_that_stopped_at_once(store, client):
    s3 = FakeS3()
    store.answers = [(401, {}, "")]
    with pytest.raises(BlockedError):
        list(deliver(units(lrs.BATCH), client, position(s3)))
    assert position(s3).read() is None
    position(s3).finish()


def test_two_processes_do_not_do_the_same_export():
    s3 = FakeS3()
    first, second = position(s3), position(s3)
    first.read()
    second.read()
    first.save("recording 0")
    with pytest.raises(HarvestError, match="Another process does the same export"):
        second.save("recording 1")


def test_a_foreign_object_in_place_of_the_position_blocks():
    s3 = FakeS3()
    position(s3).save("recording 0")
    [key] = s3.objects
    s3.objects[key] = b"{}"
    with pytest.raises(BlockedError, match="is not what `export` writes there"):
        position(s3).read()


def test_s3_that_fails_can_be_tried_again():
    s3 = FakeS3()
    s3.fails = lambda operation, key: unavailable(operation)
    with pytest.raises(RetryableError):
        position(s3).read()
