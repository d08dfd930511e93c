"""`manage.py` as a person and a cron use it: a process with arguments, two streams and an exit code."""

import json
import re
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from devservers import stack
from uaharvest.intervals import whole_second

ROWS = 300
SECRETS = ("opencast-password", "redis-password")


@pytest.fixture(scope="module")
def simulator(aws):
    """An Opencast with 300 useractions in ten minutes, which end half an hour ago."""
    end = whole_second(datetime.now(UTC) - timedelta(minutes=30))
    data = ("--rows", str(ROWS), "--span-seconds", "600", "--until", end.isoformat())
    with stack.opencast_simulator(*data, "--password", SECRETS[0], "--episodes", "10") as simulator:
        simulator.rows_end = end
        yield simulator


@pytest.fixture
def site(start_site, simulator):
    """A site without workers, whose queue and bucket do not exist yet."""
    settings = {"MATTERHORN_REST_PASS": SECRETS[0], "DEFAULT_INTERVAL": "60", "SQS_EVENTS_PER_MESSAGE": "1"}
    return start_site(workers=0, simulator=simulator, settings=settings)


def iso(instant):
    return f"{instant:%FT%TZ}"


def local(instant, site):
    """The instant as the old tool had it: local time of the server."""
    return f"{instant.astimezone(site.watermarks._zone):%Y%m%d%H%M%S}"


def around(site):
    """A window that has all rows of the simulator."""
    return site.end - timedelta(minutes=10), site.end


def records(done):
    """What a command printed, of which every line must be a JSON object."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids(done):
    return sorted(record["action_id"] for record in records(done))


def assert_one_line_says(done, exit_code, *words):
    """The command failed with one line that has these words."""
    assert done.returncode == exit_code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


# run


def test_run_makes_queue_and_bucket_harvests_to_now_and_moves_the_watermark(site):
    done = site.manage("run", "useractions")
    assert (done.returncode, done.stdout) == (0, "")
    mark = site.mark()
    assert mark.at > site.end
    delivered = site.delivered()
    assert set(delivered) == site.truth(mark.floor, mark.at)
    assert f"done. {len(delivered)} sent" in done.stderr
    again = site.manage("run", "useractions", "--follow")
    assert "done. 0 sent" in again.stderr
    assert site.delivered() == delivered


def test_rows_without_who_watched_are_counted_and_the_switches_are_named(start_site):
    site = start_site("--omitted", rows=20, workers=0)
    done = site.manage("run", "useractions", "--follow")
    assert done.returncode == 0, done.stderr
    assert "address of 20, session of 20, user of 20 useractions" in done.stderr
    assert "org.opencastproject.usertracking.log.user" in done.stderr
    assert {(record["huid"], record["session_id"], record.get("ip")) for record in site.bodies()} == {(None,) * 3}
    assert "usertracking.impl.UserTrackingServiceImpl.cfg" in site.manage("status").stdout
    last = json.loads(site.manage("status", "--json").stdout)["streams"]["useractions"]["last_runs"][-1]
    assert last["counts"] == {"without_address": 20, "without_session": 20, "without_user": 20}


def test_output_dash_prints_nothing_but_json_lines_and_leaves_the_watermark_alone(site):
    start, end = around(site)
    done = site.manage("run", "useractions", "-s", local(start, site), "-e", local(end, site), "-o", "-")
    assert done.returncode == 0
    assert ids(done) == sorted(site.truth(start, end))
    assert "watermark stays" in done.stderr
    assert site.mark() is None


@pytest.mark.parametrize("have_watermark", [False, True])
def test_interval_with_output_dash_is_exactly_the_last_minutes_and_needs_no_queue(site, have_watermark):
    if have_watermark:
        assert site.manage("watermark", "set", iso(site.end)).returncode == 0
    at = datetime.now(UTC).timestamp()
    created = [{"created": at - seconds} for seconds in (2, 15, 30, 58, 62, 70, 130)]
    site.simulate("rows", {"rows": created})
    done = site.manage(
        "run", "useractions", "--batch-size", "100", "--interval", "1", "--output", "-", SQS_QUEUE_NAME=""
    )
    assert done.returncode == 0, done.stderr
    start, end = (
        datetime.fromisoformat(f"{text}+00:00")
        for text in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", done.stderr)[:2]
    )
    assert end - start == timedelta(minutes=1)
    assert timedelta() <= end.replace(tzinfo=UTC) - datetime.fromtimestamp(int(at), UTC) < timedelta(seconds=30)
    assert ids(done) == sorted(site.truth(start, end))
    assert len(ids(done)) >= 2


def test_short_letters_of_the_old_tool_work_without_any_setting(site):
    start, end = around(site)
    connection = ("-H", site.simulator.url.removeprefix("http://"), "-u", "admin", "-p", SECRETS[0])
    options = ("-o", "-", "-q", "-", "-b", "100", "-i", "5", "-w", "0")
    unset = dict.fromkeys(
        ("MATTERHORN_ENGAGE_HOST", "MATTERHORN_REST_USER", "MATTERHORN_REST_PASS", "SQS_QUEUE_NAME"), ""
    )
    asked = ("-s", iso(start), "-e", iso(end))
    done = site.manage("run", "useractions", *connection, *options, *asked, **unset, S3_HARVEST_TS_BUCKET="")
    assert done.returncode == 0, done.stderr
    assert len(ids(done)) == ROWS


@pytest.mark.parametrize("dash", ["_", "-"])
def test_both_spellings_of_long_options_work(site, dash):
    start, end = around(site)
    flags = (
        "--engage-host",
        "--queue-name",
        "--batch-size",
        "--no-update-last-ts",
        "--disable-start-end-span-check",
    )
    host, queue, size, *rest = (f"--{flag.removeprefix('--').replace('-', dash)}" for flag in flags)
    options = (host, site.simulator.url, queue, "-", size, "100", *rest)
    asked = ("--start", iso(start), "--end", iso(end), "--user", "admin", "--password", SECRETS[0])
    done = site.manage("run", "useractions", *options, *asked, MATTERHORN_ENGAGE_HOST="http://nowhere.invalid")
    assert (done.returncode, len(ids(done))) == (0, ROWS)


def test_the_night_on_which_clocks_go_back_has_25_hours(start_site):
    end = datetime(2025, 11, 3, 5, tzinfo=UTC)
    zone = "America/New_York"
    data = ("--rows", "500", "--span-seconds", "90000", "--until", end.isoformat(), "--zone", zone)
    with stack.opencast_simulator(*data) as simulator:
        simulator.rows_end = end
        site = start_site(workers=0, simulator=simulator, settings={"OPENCAST_TIMEZONE": zone})
        done = site.manage("run", "useractions", "-s", "20251102000000", "-e", "20251103000000", "-o", "-")
        assert done.returncode == 0, done.stderr
        assert "2025-11-02 04:00:00 to 2025-11-03 05:00:00 UTC" in done.stderr
        assert "25 windows" in done.stderr
        assert ids(done) == sorted(site.truth(end - timedelta(hours=25), end))
        assert len(ids(done)) > 450


def test_a_window_across_the_watermark_moves_it_and_every_other_says_that_it_stays(site):
    start, end = around(site)
    middle = start + timedelta(minutes=5)
    assert site.manage("watermark", "set", iso(middle)).returncode == 0
    before = site.manage("run", "useractions", "--start", iso(start), "--end", iso(middle))
    assert "The watermark stays" in before.stderr
    asked = ("--start", iso(middle - timedelta(minutes=1)), "--end", iso(end))
    left = site.manage("run", "useractions", *asked, "--no-update-last-ts")
    assert "The watermark stays" in left.stderr
    assert site.mark().at == middle
    moved = site.manage("run", "useractions", *asked)
    assert "the watermark moved to its end" in moved.stderr
    assert site.mark().at == end
    # Who asks again wants it again.
    later = site.truth(middle, end)
    assert {site.delivered()[row_id] for row_id in later} == {2}


# Exit codes


def test_too_long_a_span_is_refused_with_3_and_two_ways_out(site):
    assert site.manage("watermark", "set", iso(site.end - timedelta(minutes=10))).returncode == 0
    limit = {"MAX_START_END_SPAN": "600"}
    done = site.manage("run", "useractions", **limit)
    assert done.returncode == 3
    assert "MAX_START_END_SPAN is 10 min" in done.stderr
    assert "HARVEST_CATCH_UP=true" in done.stderr
    assert site.manage("status", **limit).returncode == 3
    assert site.manage("run", "useractions", "--disable-start-end-span-check", **limit).returncode == 0
    assert set(site.delivered()) == site.truth(site.end - timedelta(minutes=10), site.mark().at)
    assert site.manage("status", **limit).returncode == 0
    assert site.manage("watermark", "set", iso(site.end - timedelta(minutes=10))).returncode == 0
    assert site.manage("run", "useractions", **limit, HARVEST_CATCH_UP="true").returncode == 0
    assert set(site.delivered().values()) == {2}  # after a reset all is sent again


def test_a_refused_password_is_4_and_is_never_shown(site):
    wrong = "wrong-password"
    done = site.manage("run", "useractions", "--password", wrong)
    assert_one_line_says(done, 4, "refused user 'admin' (401)", "MATTERHORN_REST_PASS")
    debug = site.manage("--debug", "run", "useractions", "--password", wrong)
    assert "Traceback" in debug.stderr
    for secret in (wrong, *SECRETS):
        assert secret not in done.stderr + debug.stderr + debug.stdout


def test_a_redis_that_is_down_is_one_line_without_its_password(site):
    url = f"redis://:{SECRETS[1]}@127.0.0.1:{stack.free_port()}/0"
    done = site.manage("run", "useractions", REDIS_URL=url)
    assert_one_line_says(done, 1, "Redis at 127.0.0.1:", "REDIS_URL")
    assert SECRETS[1] not in done.stderr


def test_an_opencast_that_is_down_is_one_line(site):
    host = f"127.0.0.1:{stack.free_port()}"
    assert_one_line_says(site.manage("run", "useractions", "-H", host), 1, host)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "run useractions --start 2026-13-01",
            ["--start", "'2026-13-01'", "YYYYMMDDHHmmss", "2026-11-01T05:00:00Z"],
        ),
        ("run useractions --start 20251102000000 --end 20251101000000", ["--end", "--start"]),
        ("run useractions --start 20990101000000", ["2099"]),
        ("run useractions --output file.json", ["--output", "'file.json'", '"-"']),
        ("run useractions --engage-host http://me:s3cret@host", ["--engage-host"]),
        ("run useractions --queue-name actions.fifo", ["--queue-name", "standard queue"]),
        ("run useractions --queue-name a/b", ["--queue-name", "'a/b'"]),
        ("enqueue useractions -H other.example.edu", ["--engage-host", "MATTERHORN_ENGAGE_HOST"]),
        ("enqueue useractions -p s3cret", ["--password", "MATTERHORN_REST_PASS"]),
        ("status --follow abc", ["--follow", "'abc'", "manage.py status"]),
        ("watermark set 20990101000000", ["TIME", "future"]),
        ("watermark set yesterday", ["TIME", "'yesterday'"]),
        ("dead-letters replay", ["--all", "dead-letters list"]),
    ],
)
def test_bad_input_is_2_and_a_line_that_names_it_and_what_was_expected(site, arguments, words):
    done = site.manage(*arguments.split())
    assert_one_line_says(done, 2, *words)
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    "arguments", ["run useractions --interval 0", "run useractions -b none", "run --what", "frobnicate"]
)
def test_what_is_no_option_is_2_with_the_usage(site, arguments):
    done = site.manage(*arguments.split())
    assert done.returncode == 2
    assert "Usage: manage.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_are_wrong_or_missing_are_named_all_at_once(site):
    done = site.manage("run", "useractions", HARVEST_LAG_SECONDS="soon", OPENCAST_TIMEZONE="Mars/Olympus")
    assert done.returncode == 2
    assert "HARVEST_LAG_SECONDS: 'soon'" in done.stderr
    assert "OPENCAST_TIMEZONE: 'Mars/Olympus'" in done.stderr
    missing = site.manage("run", "useractions", MATTERHORN_ENGAGE_HOST="", SQS_QUEUE_NAME="")
    assert_one_line_says(missing, 2, "MATTERHORN_ENGAGE_HOST", "SQS_QUEUE_NAME", ".env")


# The watermark


def test_a_watermark_is_shown_set_and_reset(site):
    assert "none at s3://" in site.manage("watermark", "show").stdout
    assert site.manage("watermark", "set", local(site.end, site)).returncode == 0
    assert f"{site.end:%F %T} UTC" in site.manage("watermark", "show").stdout
    assert site.manage("watermark", "reset").returncode == 1  # nobody said yes
    assert site.mark().at == site.end
    assert site.manage("watermark", "reset", "--yes").returncode == 0
    assert site.mark() is None


def test_the_old_tools_watermark_is_read_and_replaced(site):
    bucket = site.environment["S3_HARVEST_TS_BUCKET"]
    middle = site.end - timedelta(minutes=5)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="last-action-timestamp", Body=local(middle, site).encode())
    done = site.manage("run", "useractions")
    assert done.returncode == 0, done.stderr
    assert set(site.delivered()) == site.truth(middle, site.mark().at)
    content = s3.get_object(Bucket=bucket, Key="last-action-timestamp")["Body"].read()
    s3.close()
    assert json.loads(content)["schema"] == 1


# Dead letters


def test_dead_letters_are_listed_shown_replayed_and_dropped(start_site):
    site = start_site("--episodes", "3", rows=20, seconds=60, workers=0)
    at = site.end.timestamp() - 30
    [row_id] = site.simulate("rows", {"rows": [{"created": at, "agent": "x" * 1_100_000}]})["ids"]
    name = f"useractions/record-{row_id}"
    done = site.manage("run", "useractions")
    assert done.returncode == 5
    assert "dead-letters list" in done.stderr
    assert len(site.delivered()) == 20
    assert name in site.manage("dead-letters", "list").stdout
    [listed] = [json.loads(line) for line in site.manage("dead-letters", "list", "--json").stdout.splitlines()]
    assert (listed["name"], listed["kind"]) == (name, "record")
    assert json.loads(site.manage("dead-letters", "show", name).stdout)["payload"]["record"]["action_id"] == row_id
    replayed = site.manage("dead-letters", "replay", name)
    assert (replayed.returncode, replayed.stdout) == (5, "")
    assert f"{name}: not replayed: " in replayed.stderr
    assert site.manage("status").returncode == 5
    assert site.manage("dead-letters", "drop", "--all", "--yes").returncode == 0
    assert site.manage("dead-letters", "list").stdout == "no dead letters\n"
    assert site.manage("status").returncode == 0
    assert site.manage("dead-letters", "show", name).returncode == 2


# What the workers do


def test_enqueue_follow_shows_what_the_workers_did_and_status_how_they_stand(site):
    idle = site.manage("status")
    assert idle.returncode == 0, idle.stderr
    assert "none yet" in idle.stdout
    worker = site.add_worker()
    start, end = around(site)
    done = site.manage("enqueue", "useractions", "--start", iso(start), "--end", iso(end), "--follow")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    run_id = re.match(r"run (\w{8}): ", done.stderr)[1]
    assert f"run {run_id}: done. {ROWS} sent." in done.stderr
    ended = site.manage("status", "--follow", run_id)
    assert (ended.returncode, f"run {run_id}: done. {ROWS} sent." in ended.stdout) == (0, True)
    live = site.manage("enqueue", "useractions", "-f")
    assert live.returncode == 0
    assert f"The watermark is {site.mark().at:%F %T} UTC." in live.stderr
    total = len(site.truth(start, end)) + len(site.truth(site.mark().floor, site.mark().at))
    report = json.loads(site.manage("status", "--json").stdout)
    assert report["streams"]["useractions"]["watermark"] == f"{site.mark().at:%FT%TZ}"
    assert report["streams"]["useractions"]["dead_letters"] == 0
    assert report["sqs"] == {"queue": site.environment["SQS_QUEUE_NAME"], "waiting": total, "in_flight": 0}
    [queues] = report["workers"].values()
    streams = {"useractions", "episodes", "zoom", "viewings", "attendance"}
    assert set(queues) == {*streams, "index", "backfill", "control"}
    shown = site.manage("status").stdout
    assert "workers 1 (1 host)" in shown
    assert f"{total} waiting" in shown
    assert not any(secret in worker.output for secret in SECRETS)


def test_an_explicit_run_that_a_lost_redis_has_taken_must_be_asked_for_again(site):
    start, end = around(site)
    done = site.manage("enqueue", "useractions", "--start", iso(start), "--end", iso(end))
    assert done.returncode == 0
    run_id = re.search(r"--follow (\w{8})", done.stderr)[1]
    site.valkey.kill()
    site.valkey.start()
    lost = site.manage("status", "--follow", run_id)
    assert_one_line_says(lost, 2, run_id, "ask for the run again")
