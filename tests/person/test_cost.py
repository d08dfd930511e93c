"""What it costs to erase a person with 10⁵ events: time, and deletions."""

import pytest

from benchmarks import erasure
from uaharvest import settings

ROWS, OF_THE_PERSON = 1_000_000, 100_000
SECONDS = 20  # of CPU time; `python -m benchmarks.erasure` measures with ten times as many rows


@pytest.mark.fault
@pytest.mark.long
def test_a_person_with_many_events_is_erased_in_a_minute_with_no_deletion_too_many(
    bucket, tmp_path, valkey_url, record_property
):
    path = tmp_path / "documents.db"
    erasure.fill(path, ROWS, OF_THE_PERSON)
    environment = {
        "S3_HARVEST_TS_BUCKET": bucket,
        "DOCUMENTS_URL": f"sqlite:///{path}",
        "REDIS_URL": valkey_url,
        "OPENCAST_TIMEZONE": "UTC",
        "PRIVACY_TOMBSTONE_KEY": "a-secret-of-sixteen-or-more",
    }
    found = erasure.erase(settings.load(environment))
    record_property("seconds", found.cpu)
    assert found.removed == OF_THE_PERSON
    assert found.deletions <= erasure.DELETIONS * OF_THE_PERSON
    assert found.left == ROWS - OF_THE_PERSON
    assert found.cpu < SECONDS
