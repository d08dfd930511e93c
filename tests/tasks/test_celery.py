"""What celery is told: in the file that sets it, and as a worker takes it."""

import ast
import re

import pytest

import celeryconfig
import tasks
from devservers import stack

QUEUES = {"useractions", "episodes", "zoom", "viewings", "attendance", "index", "backfill", "control"}


def test_celery_finds_the_application_as_the_option_a_tasks_expects_it():
    assert tasks.app.main == "uaharvest"
    tasks.app.loader.import_default_modules()
    assert {"useractions.advance", "useractions.fetch"} <= set(tasks.app.tasks)


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("useractions.advance", "control"),
        ("zoom.advance", "zoom"),
        ("useractions.fetch", "useractions"),
        ("backfill.tick", "control"),
        ("backfill.useractions.advance", "backfill"),
        ("backfill.useractions.fetch_to_documents", "backfill"),
        ("backfill.zoom.fetch_to_documents", "backfill"),
    ],
)
def test_each_task_has_its_queue(task, queue):
    assert tasks.app.amqp.router.route({}, task)["queue"].name == queue


def test_a_queue_that_nobody_declared_is_an_error():
    with pytest.raises(Exception, match="useraction"):
        tasks.app.amqp.router.route({"queue": "useraction"}, "useractions.fetch")


def test_messages_and_only_they_are_json():
    conf = tasks.app.conf
    assert (conf.task_serializer, conf.accept_content, conf.result_backend) == ("json", ["json"], None)


def test_a_tick_is_marked_as_one_and_has_no_expiry_that_compares_two_clocks():
    [entry] = celeryconfig.beat_schedule.values()
    assert entry == {"task": "useractions.advance", "schedule": 120.0, "kwargs": {"tick": True}}


def test_a_worker_without_q_hears_every_queue(valkey_url):
    worker = stack.celery("worker", "--concurrency", "1", environment={"REDIS_URL": valkey_url})
    with worker:
        assert set(re.findall(r"\.> (\w+) +exchange", worker.output)) == QUEUES
        worker.kill()


def test_every_setting_has_its_reason_beside_it():
    """A comment on its line or above it; settings under one comment, without a blank line, share it."""
    source = (stack.ROOT / "celeryconfig.py").read_text()
    lines = source.splitlines()
    unexplained = []
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names = [target.id for target in targets if not target.id.startswith("_")]
        above = node.lineno - 2
        while lines[above] and not lines[above].lstrip().startswith("#"):
            above -= 1
        if names and not lines[above] and "#" not in lines[node.lineno - 1]:
            unexplained += names
    assert unexplained == []
