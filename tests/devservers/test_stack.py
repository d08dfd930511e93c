import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
import pytest
from redis import Redis

from devservers import stack
from uaharvest.errors import HarvestError


def is_gone(pid):
    """Whether process `pid` has ended (a zombie that its new parent has not yet reaped has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def is_group_gone(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def within_seconds(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def sleeper(**options):
    """A child that has a child of its own, and says its id."""
    command = ["/bin/sh", "-c", "sleep 600 & echo grandchild $!; wait"]
    return stack.Child("sleeper", command, lambda child: child.output.endswith("\n"), **options)


def test_a_server_answers_as_soon_as_it_is_started_and_not_after_the_block():
    with stack.valkey() as server, Redis.from_url(server.url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        folder = server.directory
    assert is_gone(server.pid)
    assert not folder.exists()


def test_children_are_gone_after_an_exception():
    with pytest.raises(ZeroDivisionError), stack.valkey() as server:
        raise ZeroDivisionError
    assert is_gone(server.pid)


def test_stopping_a_child_also_ends_what_it_had_started():
    with sleeper().start() as child:
        grandchild = int(child.output.split()[1])
        assert not is_gone(grandchild)
    assert within_seconds(lambda: is_gone(grandchild))


def test_a_child_that_ignores_sigterm_is_killed_after_the_patience():
    command = ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 600; done"]
    with stack.Child("deaf", command, lambda child: "deaf" in child.output).start() as child:
        child.stop(patience=0.1)
        assert is_gone(child.pid)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_children_and_their_folder_are_gone_when_the_parent_is_ended_by(end):
    script = (
        "import signal\n"
        "from devservers import stack\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with stack.valkey() as server:\n"
        "    print(server.pid, server.directory, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=stack.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        pid, folder = parent.stdout.readline().decode().split()
        assert not is_gone(int(pid))
        parent.send_signal(end)
    assert within_seconds(lambda: is_gone(int(pid)))
    assert within_seconds(lambda: not Path(folder).exists())


def test_a_port_in_use_gives_one_line_that_names_server_and_port():
    with socket.socket() as other:
        other.bind((stack.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(stack.PortInUseError) as caught:
            stack.valkey(port=port)
    assert str(caught.value) == (
        f"Valkey cannot start: 127.0.0.1:{port} is in use. Stop what listens there, or choose another port."
    )


def test_a_free_port_that_is_taken_meanwhile_is_replaced_once(monkeypatch):
    with socket.socket() as other:
        other.bind((stack.HOST, 0))
        other.listen()
        ports = iter([other.getsockname()[1], free := stack.free_port()])
        monkeypatch.setattr(stack, "free_port", lambda: next(ports))
        with stack.valkey() as server:
            assert server.port == free


def test_a_server_that_ends_at_once_gives_one_line_with_the_end_of_its_log():
    command = ["/bin/sh", "-c", "echo one; echo no such option >&2; exit 3"]
    child = stack.Child("Server", command, lambda _: False, port=stack.free_port())
    with pytest.raises(HarvestError) as caught:
        child.start()
    assert str(caught.value) == (
        f"Server does not start on 127.0.0.1:{child.port}: it ended with status 3."
        " Its log ends: one | no such option"
    )
    assert not child.directory.exists()


def test_a_server_that_never_answers_is_ended_at_its_deadline():
    child = sleeper(deadline=0.2)
    child._ready = lambda _: False
    with pytest.raises(HarvestError, match=r"^sleeper does not start: it was not ready within 0.2 s\."):
        child.start()
    assert is_gone(child.pid)


@pytest.mark.parametrize(("appendonly", "kept"), [(True, b"kept"), (False, None)])
def test_a_killed_server_comes_back_on_its_port_with_its_data_only_if_it_is_append_only(appendonly, kept):
    with stack.valkey(appendonly=appendonly) as server, Redis.from_url(server.url) as client:
        client.set("key", "kept")
        port, first = server.port, server.pid
        server.kill()
        assert not server.running
        server.start()
        assert (server.port, client.get("key")) == (port, kept)
        assert server.pid != first


def test_a_killed_server_comes_back_empty_when_it_was_told_to_forget():
    with stack.valkey(appendonly=True) as server, Redis.from_url(server.url) as client:
        client.set("key", "lost")
        server.kill()
        server.forget()
        server.start()
        assert client.get("key") is None


def test_a_named_folder_is_kept(tmp_path):
    with stack.valkey(appendonly=True, directory=tmp_path) as server, Redis.from_url(server.url) as client:
        client.set("key", "kept")
    with stack.valkey(appendonly=True, directory=tmp_path) as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"kept"


def test_a_supervised_child_is_started_again_when_it_is_killed_but_not_when_it_is_stopped():
    with sleeper().start() as child:
        with stack.supervised(child):
            first = child.pid
            child.kill()
            assert within_seconds(lambda: child.running and child.pid != first)
            child.stop()
        assert not child.running


def test_the_stand_in_for_aws_honours_conditional_writes(aws, bucket, queue_name):
    assert urllib.request.urlopen(f"{aws}/_localstack/health").status == 200
    s3 = boto3.client("s3")
    s3.put_object(Bucket=bucket, Key="watermark", Body=b"1", IfNoneMatch="*")
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="watermark", Body=b"2", IfNoneMatch="*")
    sqs = boto3.client("sqs")
    assert sqs.get_queue_url(QueueName=queue_name)["QueueUrl"].startswith(aws)


def test_the_simulator_comes_back_on_its_port():
    with stack.opencast_simulator("--rows", "10") as server:
        server.kill()
        server.start()
        assert urllib.request.urlopen(f"{server.url}/_sim/").status == 200


def test_a_killed_worker_leaves_no_process_of_its_pool_behind(valkey_url):
    settings = {"REDIS_URL": valkey_url, "LOG_LEVEL": "info"}
    with stack.celery("worker", "--concurrency=2", environment=settings) as worker:
        assert not is_group_gone(worker.pid)
        worker.kill()
        assert within_seconds(lambda: is_group_gone(worker.pid))


def test_a_worker_whose_settings_cannot_be_used_says_so_in_its_error():
    with pytest.raises(
        HarvestError, match=r"^celery worker does not start: it ended with status \d+\..*LOG_LEVEL"
    ):
        stack.celery("worker", environment={"LOG_LEVEL": "chatty"})
