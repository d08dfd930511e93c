"""What a process counts reaches Redis with the next script, once."""

import os
import time

import pytest

from devservers import stack
from uaharvest import assembly, aws, counters, keys, transport
from uaharvest.errors import BlockedError, SourceError, SpanRefusedError
from uaharvest.runs.state import KINDS, StreamState, kind_of
from uaharvest.settings import Settings


@pytest.fixture(autouse=True)
def nothing_counted():
    with counters.taken():
        pass


def counted():
    with counters.taken() as counts:
        return dict(counts)


@pytest.fixture
def state(client):
    return StreamState(client, "useractions")


def test_a_request_is_counted_in_its_bucket_with_its_time_and_its_fault():
    counters.request("zoom", 0.05)
    counters.request("zoom", 0.051, "busy")
    counters.request("zoom", 31.0, "timeout")
    assert counted() == {
        "requests:zoom:0.05": 1,
        "requests:zoom:0.25": 1,
        "requests:zoom:+Inf": 1,
        "microseconds:zoom": 31_101_000,
        "faults:zoom:busy": 1,
        "faults:zoom:timeout": 1,
    }


def test_counts_that_could_not_be_written_are_kept_with_those_that_came_since():
    counters.request("s3", 0.01)

    def fail():
        with counters.taken():
            counters.request("s3", 0.01)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert counted()["requests:s3:0.05"] == 2
    assert counted() == {}


def test_a_forked_process_starts_from_zero():
    counters.request("s3", 0.01)
    read, write = os.pipe()
    if not (child := os.fork()):
        os.write(write, b"some" if counted() else b"none")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 4) == b"none"
    os.close(read)
    os.close(write)


def test_a_failure_of_a_stream_is_counted_by_kind_and_takes_the_counts_along(state):
    counters.request("opencast", 2.0, "refused")
    state.failed("opening", BlockedError("refused"))
    state.failed("opening", BlockedError("refused"))
    assert state.counted() == {
        "failures:blocked": 2,
        "requests:opencast:5.0": 1,
        "microseconds:opencast": 2_000_000,
        "faults:opencast:refused": 1,
    }


def test_a_tick_takes_the_counts_along_even_if_it_comes_too_soon(state):
    assert state.tick(100)
    counters.request("opencast", 0.01)
    assert not state.tick(100)
    assert state.counted()["requests:opencast:0.05"] == 1


def test_a_redis_that_takes_no_writes_costs_no_counts(client):
    counters.request("opencast", 0.01)
    with stack.valkey() as other:
        state = StreamState(assembly.redis_client(Settings(redis_url=other.url), patient=False), "useractions")
        other.kill()
        state.failed("opening", BlockedError("refused"))
    assert counted()["requests:opencast:0.05"] == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SpanRefusedError("x"), "span"),
        (SourceError("x"), "source"),
        (BlockedError("x"), "blocked"),
        (KeyError("x"), "unexpected"),
    ],
)
def test_a_failure_has_the_kind_of_its_error(error, kind):
    assert kind_of(error) == kind
    assert kind in KINDS


@pytest.mark.parametrize(
    ("status", "fault"),
    [(200, None), (204, None), (302, "refused"), (401, "refused"), (404, "refused"), (429, "busy"), (503, "busy")],
)
def test_a_status_stands_for_a_fault(status, fault):
    assert transport.fault_of(status) == fault


def test_requests_over_http_are_counted_by_what_became_of_them():
    upstream = transport.Upstream("Opencast", host="HOST", login="LOGIN", timeout=(5, 5))
    with stack.opencast_simulator("--rows", "1") as opencast:
        assert upstream.fetch(f"{opencast.url}/usertracking/actions.json").status_code == 302
        began = time.monotonic()
    with pytest.raises(SourceError):
        upstream.fetch(f"{opencast.url}/")
    counts = counted()
    assert counts["faults:opencast:refused"] == 1
    assert counts["faults:opencast:unreachable"] == 1
    assert sum(amount for name, amount in counts.items() if name.startswith("requests:opencast:")) == 2
    assert counts["microseconds:opencast"] < (time.monotonic() - began + 60) * 1e6


def test_calls_to_aws_are_counted_and_a_missing_object_is_no_fault(bucket, queue_name):
    s3 = aws.s3_client()
    s3.put_object(Bucket=bucket, Key="one", Body=b"")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="other")
    sqs = aws.sqs_client(4)
    sqs.get_queue_url(QueueName=queue_name)
    with pytest.raises(aws.ERRORS):
        sqs.get_queue_url(QueueName="no-such-queue")
    counts = counted()
    assert not [name for name in counts if name.startswith("faults:s3")]
    assert counts["faults:sqs:refused"] == 1
    assert sum(amount for name, amount in counts.items() if name.startswith("requests:s3:")) == 2


def test_the_wait_for_messages_is_no_latency(queue_name):
    sqs = aws.sqs_client(4)
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    counted()
    sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0)
    assert counted() == {}


def test_the_counts_of_a_stream_have_one_key(state, client):
    state.tick(1)
    counters.request("s3", 1.0)
    state.failed("working", BlockedError("x"))
    assert client.exists(keys.COUNTERS("useractions"))
