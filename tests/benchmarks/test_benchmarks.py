import importlib.util
import re
import subprocess
import sys

import boto3
import pytest

from benchmarks import stand_ins
from benchmarks.report import Case, Duration, Measurement, Memory, Result, commands, memory, shares, speeds
from benchmarks.site import Site
from devservers.stack import ROOT
from uaharvest.errors import HarvestError

COMMAND = [sys.executable, "-m", "benchmarks", "--quick"]


def measured(seconds, cpu):
    return Measurement(1000, seconds, cpu, {"Valkey": cpu})


def result(goal=0.8, *, cpu=1.0):
    # Medians: 100 events a second for the floor, 75 for the whole way.
    floor = [measured(seconds, cpu) for seconds in (10, 5, 20)]
    whole = [measured(1000 / rate, cpu) for rate in (75, 10, 200)]
    return Result(Case(2, 50, 4, {"boto3": goal}), {"boto3": floor}, whole)


@pytest.mark.fault
@pytest.mark.long
def test_the_quick_benchmark_prints_its_table_once_all_has_arrived():
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ +2 +1 +3,000 +boto3 +[\d,]+ +[\d,]+ +\d\.\d\d +1\.20 ", done.stdout, re.MULTILINE)
    assert re.search(r"^Memory of a worker process at batch size 10,000: ", done.stdout, re.MULTILINE)
    assert re.search(
        r"^`manage.py status --json` takes \d+\.\d\d s, \d+\.\d\d s of the CPU, goal under 1 s: ",
        done.stdout,
        re.MULTILINE,
    )
    assert "all useractions were in the queue at the end, each once" in done.stdout


@pytest.mark.fault
@pytest.mark.long
def test_the_indexers_quick_benchmark_prints_its_table_once_all_has_arrived(es, elasticsearch_url):
    command = [sys.executable, "-m", "benchmarks.index", "--quick", "--elasticsearch", elasticsearch_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\| 50 \|( [\d,]+/s \|){3} \d\.\d\d \|", done.stdout, re.MULTILINE)


@pytest.mark.fault
@pytest.mark.long
def test_the_quick_benchmark_of_bulks_prints_a_row_once_all_has_arrived(es, elasticsearch_url):
    command = [sys.executable, "-m", "benchmarks.bulk", "--quick", "--url", elasticsearch_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\| http://\S+ \|( [\d,]+/s \|){2} \d\.\d\d \|", done.stdout, re.MULTILINE)


@pytest.mark.fault
@pytest.mark.long
def test_zooms_quick_benchmark_counts_calls_once_all_has_arrived():
    command = [sys.executable, "-m", "benchmarks.zoom", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a day of 40 meetings" in done.stdout
    assert re.search(r"^calls \d+, at least \d+: 1\.\d{3}, goal 1\.02: ", done.stdout, re.MULTILINE)
    assert "refused 0," in done.stdout


@pytest.mark.parametrize(("goal", "verdict"), [(0.74, "met"), (0.76, "MISSED")])
def test_medians_are_compared_with_the_goal(goal, verdict):
    line = speeds([result(goal)]).splitlines()[-1]
    assert line.split() == [
        "2",
        "50",
        "1,000",
        "boto3",
        "100",
        "75",
        "0.75",
        f"{goal:.2f}",
        "1.0000",
        "1.0000",
        verdict,
    ]


def test_what_the_system_does_not_report_is_a_dash():
    assert speeds([result(cpu=None)]).splitlines()[-1].split()[-3:-1] == ["-", "-"]
    assert shares([result(cpu=None)]).splitlines()[-1].split()[-2:] == ["-", "-"]
    assert memory(Memory(10_000, None)).endswith("- (this system does not report it)")


def test_shares_are_of_one_core():
    assert shares([result()]).splitlines()[-2].split() == ["2", "50", "floor,", "boto3", "10%", "10%"]


@pytest.mark.parametrize(("peak", "verdict"), [(119, "met"), (120, "MISSED")])
def test_memory_has_a_goal_too(peak, verdict):
    assert memory(Memory(10_000, peak)).endswith(f"{peak} MB at its peak, goal under 120 MB: {verdict}")


@pytest.mark.parametrize(("fastest", "verdict"), [(0.99, "met"), (1.0, "MISSED")])
def test_status_has_a_goal_for_its_time(fastest, verdict):
    line = commands({"status": [Duration(2.0, 0.1), Duration(fastest, 0.5)]})
    assert line == f"`manage.py status` takes {fastest:.2f} s, 0.50 s of the CPU, goal under 1 s: {verdict}"


@pytest.fixture
def site(monkeypatch):
    """A site in whose queue 1, 2 and 3 arrived, the last two in one message."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with stand_ins.counting_queue() as queue:
        client = boto3.client("sqs", endpoint_url=queue.url, region_name="us-east-1")
        bodies = ('{"action_id":1}', '[{"action_id":2},{"action_id":3}]')
        client.send_message_batch(
            QueueUrl=client.get_queue_url(QueueName="any")["QueueUrl"],
            Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)],
        )
        yield Site(None, None, queue, None)


def test_what_arrived_is_counted_once(site):
    site.require_ids([3, 1, 2], "a test")
    site.require_ids([], "a test that comes after")


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [1, 2], [1, 2, 3, 3]])
def test_a_row_too_many_or_too_few_is_an_error(site, ids):
    with pytest.raises(HarvestError, match="a test: "):
        site.require_ids(ids, "a test")


def test_the_floor_is_counted_by_its_events(site):
    site.require_events(3, "a test")
    with pytest.raises(HarvestError, match="a test: of 1 events 0 arrived"):
        site.require_events(1, "a test")


def test_the_quick_benchmark_of_viewings_prints_what_the_engine_took():
    command = [sys.executable, "-m", "benchmarks.viewings", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\| engine \| 4,000 \|( [\d.]+ \|){4}$", done.stdout, re.MULTILINE)
    if importlib.util.find_spec("chdb"):
        assert re.search(r"^\| Aspects \| 2,000 \|( [\d.]+ \|){4}$", done.stdout, re.MULTILINE)
    else:
        assert "Aspects was not measured: pip install -r requirements-bench.txt" in done.stdout


def test_the_quick_benchmark_of_a_course_prints_its_time():
    command = [sys.executable, "-m", "benchmarks.course", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^A course of 4 lectures and 30 students, .* goal under 5 s: (met|MISSED)$", done.stdout, re.MULTILINE
    )


@pytest.mark.fault
@pytest.mark.long
def test_the_quick_benchmark_of_a_scan_prints_a_row_once_all_is_found(es, elasticsearch_url):
    command = [sys.executable, "-m", "benchmarks.scan", "--quick", "--url", elasticsearch_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\| [\d,]+/s \| [\d,]+/s \| \d\.\d\d \|", done.stdout, re.MULTILINE)


@pytest.mark.fault
@pytest.mark.long
def test_the_quick_benchmark_of_protection_prints_a_row_for_each_way_once_all_has_arrived():
    command = [sys.executable, "-m", "benchmarks.privacy", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\| as they are \| [\d.]+ \| 1\.00 \|  \|$", done.stdout, re.MULTILINE)
    assert (
        len(
            re.findall(
                r"^\| (?:pseudonyms|all protection) \| [\d.]+ \| \d\.\d\d \| 0\.9 ", done.stdout, re.MULTILINE
            )
        )
        == 2
    )


@pytest.mark.fault
@pytest.mark.long
def test_the_benchmark_of_erasures_says_what_it_took():
    command = [sys.executable, "-m", "benchmarks.erasure", "--rows", "200000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^sqlite: 100,000 of 200,000 erased in [\d.]+ s, .*; 1\.00 x the least", done.stdout)
