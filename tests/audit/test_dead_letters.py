import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes import FakeS3
from uaharvest.audit.dead_letters import ActionDeadLetters
from uaharvest.dead_letters import DeadLetter, DeadLetters

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


def letters(**payload):
    """Return the dead letters of a site: one of a slice with this payload, one that can be read."""
    found = DeadLetters(FakeS3(), "bucket", "dead/")
    hour = {"start": "2026-03-03T12:00:00Z", "end": "2026-03-03T13:00:00Z"}
    found.put(DeadLetter.of_slice("useractions", "a", "refused", payload))
    found.put(DeadLetter.of_slice("useractions", "b", "refused", hour))
    return found


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("yesterday", "today"),
        ("2026-03-03T13:00:00Z", "2026-03-03T12:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-02T00:00:00+14:00"),
    ],
)
def test_a_letter_that_stands_for_no_interval_keeps_no_other_from_being_read(start, end):
    read = ActionDeadLetters(letters(start=start, end=end), "useractions")
    assert [str(one) for one in read.intervals] == [f"{NOON.timestamp():.0f}-{NOON.timestamp() + 3600:.0f}"]
    assert read.covers(NOON + timedelta(minutes=1))


def test_an_object_that_is_no_letter_keeps_no_other_from_being_read():
    found = letters()
    key = "dead/useractions/slice-a.json"
    found._s3.objects[key] = json.dumps({**json.loads(found._s3.objects[key]), "schema": 7}).encode()
    assert len(ActionDeadLetters(found, "useractions").intervals) == 1
