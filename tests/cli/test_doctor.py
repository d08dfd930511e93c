"""`doctor` on the command line: text, JSON, exit codes, and an end whatever hangs."""

import contextlib
import json
import os
import socket
import time

import pytest

from devservers import stack
from tests import commands

SECRET = "top-secret"


@pytest.fixture
def doctor(tmp_path, aws):
    """Run `manage.py doctor` in an empty folder."""

    def doctor(*arguments, **environment):
        return commands.manage("doctor", *arguments, environment=environment, cwd=tmp_path)

    return doctor


@pytest.fixture
def down(valkey_url):
    """Settings of a site whose Redis is the only thing that answers."""
    port = stack.free_port()
    return {
        "REDIS_URL": valkey_url,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_MAX_ATTEMPTS": "1",
        "S3_HARVEST_TS_BUCKET": "bucket",
        "SQS_QUEUE_NAME": "queue",
        "MATTERHORN_ENGAGE_HOST": f"http://127.0.0.1:{port}",
        "MATTERHORN_REST_USER": "admin",
        "MATTERHORN_REST_PASS": SECRET,
    }


def test_text_json_and_exit_code_say_the_same_and_no_secret(doctor, redis, down):
    text, found = doctor(**down), doctor("--json", **down)
    assert (text.returncode, found.returncode) == (1, 1)
    report = json.loads(found.stdout)
    by_check = {}
    for finding in report["checks"]:
        assert set(finding) == {"check", "status", "found", "remedy"}
        by_check.setdefault(finding["check"], []).append(finding)
    assert by_check["redis.answers"][0]["status"] == "ok"
    assert by_check["opencast.engage"][0]["status"] == "fail"
    assert "MATTERHORN_ENGAGE_HOST" in by_check["opencast.engage"][0]["remedy"]
    assert by_check["opencast.usertracking"][0]["found"] == "not looked at, because opencast.engage failed"
    lines = text.stdout.splitlines()
    assert any(line.startswith("FAIL   Opencast") and "MATTERHORN_ENGAGE_HOST" in line for line in lines)
    assert lines[-1] == f"{report['warnings']} warnings, {report['failures']} failures"
    assert SECRET not in text.stdout + text.stderr + found.stdout + found.stderr


def test_settings_that_cannot_be_read_are_a_report_too(doctor, tmp_path):
    (tmp_path / ".env").write_text(f"HARVEST_LAG_SECONDS=soon\nMATTERHORN_REST_PAS={SECRET}\nZOOM_AT=25:00\n")
    done = doctor("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["failures"]) == (1, 3)
    failures = [finding for finding in report["checks"] if finding["status"] == "fail"]
    assert {finding["check"] for finding in failures} == {"settings.values"}
    assert "MATTERHORN_REST_PASS" in next(
        one["remedy"] for one in failures if "MATTERHORN_REST_PAS" in one["found"]
    )
    assert {finding["status"] for finding in report["checks"]} == {"fail", "skipped"}
    text = doctor()
    assert text.returncode == 1
    assert ".env, line 1" in text.stdout
    assert SECRET not in text.stdout + text.stderr + done.stdout


def test_junk_in_the_file_is_named_with_its_line(doctor, tmp_path):
    (tmp_path / ".env").write_text("ZOOM_AT=05:00\nthis is no setting\n")
    done = doctor()
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL   settings")
    assert "line 2" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@contextlib.contextmanager
def silent():
    """Accept connections and never answer; give the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        yield listener.getsockname()[1]


EARLY = {
    *("redis.answers", "broker.place", "s3.bucket", "sqs.queue", "opencast.engage", "opencast.admin"),
    *("documents.version", "lrs.statements"),
}
LATER = {"database.tables", "zoom.reachable", "zoom.token"}  # only if Redis answers
SLOW = {"database.tables", "lrs.statements"}  # not with --quick


@pytest.mark.fault
@pytest.mark.parametrize("options", [(), ("--quick",)])
@pytest.mark.parametrize("redis_answers", [False, True])
def test_it_ends_in_time_though_everything_hangs(doctor, redis, valkey_url, options, redis_answers):
    with silent() as port:
        host = f"127.0.0.1:{port}"
        began = time.monotonic()
        done = doctor(
            "--json",
            *options,
            REDIS_URL=valkey_url if redis_answers else f"redis://:{SECRET}@{host}/0",
            CELERY_BROKER_URL=f"redis://:{SECRET}@{host}/1",
            AWS_ENDPOINT_URL=f"http://{host}",
            S3_HARVEST_TS_BUCKET="bucket",
            SQS_QUEUE_NAME="queue",
            INDEXER="true",
            MATTERHORN_ENGAGE_HOST=f"http://{host}",
            MATTERHORN_ADMIN_HOST=f"http://{host}",
            OPENCAST_DATABASE_URL=f"mariadb://a:{SECRET}@{host}/opencast",
            ES_HOST=f"http://{host}",
            ZOOM_ACCOUNT_ID="account",
            ZOOM_KEY="key",
            ZOOM_SECRET=SECRET,
            ZOOM_API_URL=f"http://{host}/v2/",
            ZOOM_TOKEN_URL=f"http://{host}/oauth/token",
            LRS_URL=f"http://{host}/xAPI",
        )
        took = time.monotonic() - began
    assert done.returncode == 1
    failed = {one["check"] for one in json.loads(done.stdout)["checks"] if one["status"] == "fail"}
    expected = EARLY - {"redis.answers"} | LATER if redis_answers else EARLY
    assert failed >= (expected - SLOW if options else expected)
    assert SECRET not in done.stdout + done.stderr
    # On a machine that has nothing else to do it takes 9 s.
    assert took < 20 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
