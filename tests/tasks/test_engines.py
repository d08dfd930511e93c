"""What stands in the way of a worker's engine, and what its hints send."""

from contextlib import closing

import pytest
import structlog

from tasks.streams import TASKS
from uaharvest import assembly, settings
from uaharvest.errors import BadInputError, BlockedError, BusyError, SourceError


@pytest.fixture
def failing(redis, valkey_url, monkeypatch):
    """Lets no engine be made because of `error`; gives what stands on the stream."""
    monkeypatch.setenv("REDIS_URL", valkey_url)
    settings.current.cache_clear()
    with closing(assembly.redis_client(settings.current())) as client:

        def failing(stream, error):
            def fail(*_):
                raise error

            monkeypatch.setattr(assembly, "engine", fail)
            return assembly.state(settings.current(), client, stream=stream)

        yield failing
    settings.current.cache_clear()


ERRORS = [BadInputError("not set: THAT"), BlockedError("refused user 'harvester'"), SourceError("no answer")]


@pytest.mark.parametrize("stream", TASKS)
@pytest.mark.parametrize("error", ERRORS)
def test_why_no_engine_can_be_made_stands_on_the_stream(failing, stream, error):
    state = failing(stream, error)
    TASKS[stream].advance()
    TASKS[stream].fetch("run", "slice")
    failures = {failure.place: failure for failure in state.failures()}
    assert set(failures) == {"opening", "working"}
    for failure in failures.values():
        assert (failure.reason, failure.exit_code) == (str(error), error.exit_code)
        assert failure.blocks is not isinstance(error, SourceError)


@pytest.mark.parametrize("stream", TASKS)
def test_what_is_unexpected_stands_there_by_type_and_place_and_goes_no_further(failing, stream):
    state = failing(stream, ValueError("ann@example.edu"))
    TASKS[stream].advance()
    assert state.failure().reason.startswith("unexpected ValueError at test_engines.py:")


@pytest.mark.parametrize("stream", TASKS)
def test_an_explicit_run_that_cannot_go_on_has_a_place_of_its_own(failing, stream):
    state = failing(stream, SourceError("no answer"))
    TASKS[stream].advance(run_id="run")
    assert state.failure().place == "explicit"


@pytest.mark.parametrize("stream", TASKS)
def test_arguments_that_do_not_fit_are_a_failure_like_any_other(failing, stream):
    state = failing(stream, SourceError("no answer"))
    TASKS[stream].fetch("run", "slice", "ann@example.edu")
    assert state.failure("working").reason.startswith("unexpected TypeError")


@pytest.mark.parametrize("stream", TASKS)
def test_of_the_ticks_that_waited_in_an_outage_one_is_enough(failing, stream):
    state = failing(stream, SourceError("no answer"))
    TASKS[stream].advance(tick=True)
    assert state.ticked_at() is not None
    state.passed("opening")
    TASKS[stream].advance(tick=True)
    assert state.failure() is None


@pytest.mark.parametrize("stream", TASKS)
def test_hints_are_messages_for_the_tasks_of_their_stream(monkeypatch, stream):
    tasks, sent = TASKS[stream], []
    monkeypatch.setattr(
        "tasks.engines.depths", lambda _, *queues: dict.fromkeys(queues, 0)
    )  # nothing waits there yet
    monkeypatch.setattr(tasks.advance, "delay", lambda **arguments: sent.append(arguments))
    monkeypatch.setattr(tasks.fetch, "delay", lambda *arguments: sent.append(arguments))
    tasks.hints.advance(None)
    tasks.hints.advance("run")
    tasks.hints.work("run", "slice")
    assert sent == [{"run_id": None}, {"run_id": "run"}, ("run", "slice")]


@pytest.mark.parametrize("stream", TASKS)
def test_what_came_of_a_task_is_its_result_for_flower(failing, monkeypatch, stream):
    failing(stream, BlockedError("refused user 'harvester'"))
    assert TASKS[stream].advance() == "blocked: refused user 'harvester'"
    failing(stream, SourceError("no answer"))
    assert TASKS[stream].fetch("run", "slice") == "failed: no answer"
    failing(stream, BusyError("another worker plans"))
    assert TASKS[stream].advance() == "put off: another worker plans"


@pytest.mark.parametrize("stream", TASKS)
def test_every_line_that_a_task_logs_names_its_stream_and_its_id_and_no_later_line_does(monkeypatch, stream):
    seen = []
    monkeypatch.setattr(
        TASKS[stream].advance, "run", lambda: seen.append(structlog.contextvars.get_contextvars()) or "done"
    )
    TASKS[stream].advance.push_request(id="a-task")
    try:
        assert TASKS[stream].advance() == "done"
    finally:
        TASKS[stream].advance.pop_request()
    assert seen == [{"stream": stream, "task_id": "a-task"}]
    assert structlog.contextvars.get_contextvars() == {}
