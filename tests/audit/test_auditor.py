"""The nightly audit: once a day, piece by piece, and what `status` says of it."""

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.fakes import beat_is_heard
from uaharvest import assembly, status
from uaharvest.audit.auditor import Auditor
from uaharvest.audit.day import Counts, DayAudit
from uaharvest.audit.results import KEPT, Results
from uaharvest.cli import audit as command
from uaharvest.errors import BusyError, Exit, RetryableError
from uaharvest.runs.watermark import first
from uaharvest.settings import Settings

DAY = date(2026, 11, 20)
AT = timedelta(hours=6)
MORNING = datetime(2026, 11, 21, 6, tzinfo=UTC)
PATIENT = 1e6  # seconds


class Compared:
    """A stream with 24 pieces a day, each of which lacks one row; a day is closed an hour after it ends."""

    stream = "useractions"

    def __init__(self):
        self.asked = []
        self.fails = set()

    def begin(self):
        pass

    def closed_until(self, watermark):
        return watermark - timedelta(hours=1)

    def pieces(self, day):
        return day.cut(24)

    def audit(self, piece, *, repair):
        if piece.start.hour in self.fails:
            raise RetryableError("the source is down")
        self.asked.append(piece.start.hour)
        return {"useractions": Counts(source=10, indexed=9, missing=1, sent=int(repair))}


@pytest.fixture
def settings(redis, valkey_url, bucket, queue_name):
    return Settings(redis_url=valkey_url, bucket=bucket, queue=queue_name, audit_at=AT)


@pytest.fixture
def results(settings, client):
    return Results(client, assembly.place(settings))


@pytest.fixture
def compared():
    return Compared()


@pytest.fixture
def auditor(settings, results, compared):
    assembly.watermarks(settings).create(first(datetime(2026, 11, 21, 3, tzinfo=UTC)))
    return Auditor(compared, assembly.watermarks(settings), results)


def test_the_day_before_is_audited_once_at_its_time(auditor, compared, results):
    assert auditor.nightly(MORNING - timedelta(seconds=1), AT, PATIENT) == "not due"
    assert auditor.nightly(MORNING, AT, PATIENT) == "2026-11-20: 24 missing"
    assert compared.asked == list(range(24))
    assert results.get(DAY).found == {"useractions": Counts(source=240, indexed=216, missing=24)}
    assert auditor.nightly(MORNING + AT, AT, PATIENT) == "not due"
    assert len(compared.asked) == 24


def test_a_task_stops_in_time_and_the_next_one_continues(auditor, compared, results):
    for done in range(1, 24):
        assert auditor.nightly(MORNING, AT, 0) == f"2026-11-20: {done} pieces, to be continued"
        assert results.all() == []  # half a day is no result
    assert auditor.nightly(MORNING, AT, 0) == "2026-11-20: 24 missing"
    assert compared.asked == list(range(24))
    assert [one.missing for one in results.all()] == [24]


def test_what_was_compared_before_a_failure_is_not_compared_again(auditor, compared, results):
    compared.fails = {5}
    with pytest.raises(RetryableError):
        auditor.nightly(MORNING, AT, PATIENT)
    compared.fails = set()
    assert auditor.nightly(MORNING, AT, PATIENT) == "2026-11-20: 24 missing"
    assert compared.asked == list(range(24))


def test_two_workers_do_not_audit_at_once(auditor, results):
    with results.held(), pytest.raises(BusyError):
        auditor.nightly(MORNING, AT, PATIENT)
    assert auditor.nightly(MORNING, AT, PATIENT).endswith("24 missing")


def test_a_day_that_is_not_closed_is_not_audited(settings, results, compared):
    assembly.watermarks(settings).create(first(datetime(2026, 11, 21, 0, 30, tzinfo=UTC)))
    auditor = Auditor(compared, assembly.watermarks(settings), results)
    assert auditor.nightly(MORNING, AT, PATIENT) == "2026-11-19: 24 missing"


def test_old_results_are_forgotten(results):
    days = [DAY + timedelta(days=number) for number in range(KEPT + 5)]
    for day in days:
        results.put(DayAudit("useractions", day, MORNING, {}))
    assert [one.day for one in results.all()] == days[5:]


class Slow(Compared):
    """Shows what was repaired only to the sixth audit."""

    audits = 0

    def audit(self, day, *, repair):
        self.audits += 1
        return DayAudit(self.stream, day, MORNING, {"useractions": Counts(missing=int(self.audits < 6))})


def test_a_repair_waits_until_the_documents_are_shown_however_long_an_audit_takes(monkeypatch):
    pauses = []
    monkeypatch.setattr(command.time, "sleep", pauses.append)
    monkeypatch.setattr(command.time, "monotonic", itertools.count(step=100).__next__)
    assert [one.missing for one in command._again(Slow(), [DAY])] == [0]
    assert len(pauses) == 5


def test_a_repair_does_not_wait_for_ever(monkeypatch):
    pauses = []
    monkeypatch.setattr(command.time, "sleep", pauses.append)
    slow = Slow()
    slow.audits = -100
    assert [one.missing for one in command._again(slow, [DAY])] == [1]
    assert 25 < sum(pauses) < 35


class Workers:
    def queues(self):
        return {}

    def alive(self, wait=None):
        return {}


def troubles(settings, code):
    report = status.status(settings, Workers())
    return report, [one["line"] for one in report["troubles"] if one["exit_code"] == code]


def test_status_shows_gaps_with_the_command_that_repairs_them(auditor, settings):
    beat_is_heard(settings)
    assert troubles(settings, Exit.GAPS)[1] == []
    auditor.nightly(MORNING, AT, PATIENT)
    report, lines = troubles(settings, Exit.GAPS)
    command = "manage.py audit --stream useractions --start 2026-11-20 --end 2026-11-20 --repair"
    assert lines == [f"useractions: 24 missing on 2026-11-20: {command}"]
    assert report["audits"]["newest"]["useractions"]["day"] == "2026-11-20"
    assert 0 <= report["audits"]["newest"]["useractions"]["seconds_ago"] < 60
    only_gaps = {**report, "troubles": [one for one in report["troubles"] if one["exit_code"] == Exit.GAPS]}
    assert status.exit_code(only_gaps) == Exit.GAPS


def test_status_shows_that_the_audit_fails(settings, client):
    beat_is_heard(settings)
    assembly.state(settings, client, stream=assembly.AUDIT).failed("working", RetryableError("S3 is down"))
    [line] = [line for line in troubles(settings, Exit.BLOCKED)[1] if line.startswith("audit fails")]
    assert line.endswith("S3 is down")
