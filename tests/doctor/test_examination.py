"""How checks are run: in parallel, in the order of what they need, and never for longer than they may."""

import threading
import time

import pytest
from redis import ConnectionError as RedisDown

from uaharvest.doctor.examination import Check, examine, unreadable
from uaharvest.doctor.findings import fail, failed, ok, warn
from uaharvest.doctor.site import Site
from uaharvest.errors import BadInputError, BlockedError
from uaharvest.settings import Settings


@pytest.fixture
def site():
    return Site(Settings(), lambda: pytest.fail("no check here asks Celery"))


def check(name, look, **options):
    return Check(name=name, title=name.upper(), look=look, **options)


def finds(*findings):
    return lambda site: iter(findings)


def statuses(entries):
    return [(entry.check.name, str(entry.finding.status)) for entry in entries]


def test_findings_come_in_the_order_of_the_table_and_not_of_time(site):
    gate = threading.Event()

    def slow(site):
        gate.wait(30)
        yield ok("late")

    def fast(site):
        gate.set()
        yield ok("early")

    entries = examine(site, [check("a", slow), check("b", fast)])
    assert [entry.finding.found for entry in entries] == ["late", "early"]


def test_what_needs_a_failed_check_is_skipped_and_names_the_first_cause(site):
    checks = [
        check("a", finds(fail("down", "start it"))),
        check("b", finds(ok("never")), needs=("a",)),
        check("c", finds(ok("never")), needs=("b",)),
    ]
    entries = examine(site, checks)
    assert statuses(entries) == [("a", "fail"), ("b", "skipped"), ("c", "skipped")]
    assert {entry.finding.found for entry in entries[1:]} == {"not looked at, because a failed"}


def test_a_warning_does_not_hold_up_others_unless_it_says_so(site):
    for blocks, status, found in ((False, "ok", "b"), (True, "skipped", "not looked at because of a")):
        checks = [
            check("a", finds(warn("small", "grow", blocks=blocks))),
            check("b", finds(ok("b")), needs=("a",)),
        ]
        entries = examine(site, checks)
        assert statuses(entries) == [("a", "warn"), ("b", status)]
        assert entries[1].finding.found == found


def test_what_comes_after_a_failed_check_is_made(site):
    checks = [check("a", finds(fail("down", ""))), check("b", finds(ok("b")), after=("a",))]
    assert statuses(examine(site, checks)) == [("a", "fail"), ("b", "ok")]


def test_what_would_repeat_a_failure_is_left_out_if_there_is_one(site):
    for first, expected in ((warn("small", "grow"), ("last", "ok")), (fail("down", ""), ("last", "skipped"))):
        checks = [
            check("a", finds(first)),
            check("b", finds(ok("never")), unused=lambda settings: "not set"),
            check("last", finds(ok("moves")), after=("a", "b"), alone=True),
        ]
        assert statuses(examine(site, checks))[-1] == expected


def test_an_unused_service_is_not_asked_and_no_failure(site):
    entries = examine(site, [check("a", finds(fail("down", "")), unused=lambda settings: "not set")])
    assert [(entry.finding.found, entry.finding.unused) for entry in entries] == [("not set", True)]


def test_an_error_does_not_lose_what_was_found_before(site):
    def look(site):
        yield ok("first")
        raise BlockedError("Opencast at x refused. Check MATTERHORN_REST_PASS.")

    [first, second] = examine(site, [check("a", look)])
    assert first.finding.found == "first"
    assert (second.finding.found, second.finding.remedy) == (
        "Opencast at x refused",
        "Check MATTERHORN_REST_PASS.",
    )


def test_an_error_of_redis_is_explained_and_an_unexpected_one_shows_no_text(site):
    def lost(site):
        raise RedisDown("Connection refused")

    def broken(site):
        raise KeyError("top-secret")

    [down, bug] = examine(site, [check("a", lost), check("b", broken)])
    assert "localhost:6379" in down.finding.found
    assert "REDIS_URL" in down.finding.remedy
    assert "unexpected KeyError" in bug.finding.found
    assert "top-secret" not in str(bug.finding)


def test_a_check_that_hangs_fails_and_the_others_are_made(site):
    end = threading.Event()

    def hangs(site):
        end.wait(30)
        yield ok("too late")

    checks = [
        check("a", hangs, setting="A_URL"),
        check("b", finds(ok("b")), needs=("a",)),
        check("c", finds(ok("c"))),
    ]
    entries = examine(site, checks, limit=0.2)
    end.set()
    assert statuses(entries) == [("a", "fail"), ("b", "skipped"), ("c", "ok")]
    assert "has not answered within" in entries[0].finding.found
    assert "A_URL" in entries[0].finding.remedy


def test_no_chain_of_slow_checks_takes_longer_than_the_whole_may(site):
    end = threading.Event()

    def slow(site):
        end.wait(0.4)
        yield ok("slow")

    checks = [check("0", slow)] + [check(str(n), slow, needs=(str(n - 1),)) for n in range(1, 200)]
    began = time.monotonic()
    entries = examine(site, checks, limit=30, total=1)
    end.set()
    assert time.monotonic() - began < 30  # all of them take 80 s
    assert len(entries) == 200
    assert str(entries[-1].finding.status) == "skipped"


def test_settings_that_cannot_be_read_are_the_only_failure():
    checks = [check("settings.values", finds()), check("redis", finds(ok("never")))]
    error = BadInputError("A: 'x' cannot be used. Expected a number.\nB: (set) cannot be used. Expected a URL.")
    entries = unreadable(error, checks)
    assert statuses(entries) == [("settings.values", "fail"), ("settings.values", "fail"), ("redis", "skipped")]
    assert entries[0].finding.remedy == "Expected a number."


def test_an_errors_text_is_cut_behind_its_first_sentence():
    for text, found, remedy in (
        (
            "s3://b/k: AccessDenied. The role needs s3:GetObject.",
            "s3://b/k: AccessDenied",
            "The role needs s3:GetObject.",
        ),
        ("no advice", "no advice", ""),
        ("at 10.0.0.1 v1.2 fails. Why? Ask.", "at 10.0.0.1 v1.2 fails", "Why? Ask."),
    ):
        finding = failed(text)
        assert (finding.found, finding.remedy) == (found, remedy)
