"""What stands in the way of a worker's engine, and what its hints send."""

from contextlib import closing

import pytest

from tasks import episodes, useractions, zoom
from uaharvest import assembly, settings
from uaharvest.errors import BadInputError, BlockedError, SourceError

MODULES = {"useractions": useractions, "episodes": episodes, "zoom": zoom}
WORK = {"useractions": useractions.fetch, "episodes": episodes.fetch, "zoom": zoom.fetch_meeting}


@pytest.fixture
def failing(redis, valkey_url, monkeypatch):
    """Lets no engine be made because of `error`; gives the ledger of the stream."""
    monkeypatch.setenv("REDIS_URL", valkey_url)
    settings.current.cache_clear()
    with closing(assembly.redis_client(settings.current())) as client:

        def failing(stream, error):
            def fail(*_):
                raise error

            monkeypatch.setattr(assembly, "engine", fail)
            return assembly.ledger(settings.current(), client, stream=stream)

        yield failing
    settings.current.cache_clear()


@pytest.mark.parametrize("stream", MODULES)
@pytest.mark.parametrize("error", [BadInputError("not set: THAT"), BlockedError("refused user 'harvester'")])
def test_what_a_person_must_change_stands_on_the_stream(failing, stream, error):
    ledger = failing(stream, error)
    with pytest.raises(type(error)):
        MODULES[stream].engine()
    blocked = ledger.blocked()
    assert (blocked["reason"], blocked["exit_code"]) == (str(error), error.exit_code)


@pytest.mark.parametrize("stream", MODULES)
def test_what_passes_by_itself_does_not(failing, stream):
    ledger = failing(stream, SourceError("no answer"))
    with pytest.raises(SourceError):
        MODULES[stream].engine()
    assert ledger.blocked() is None


@pytest.mark.parametrize("stream", MODULES)
def test_hints_are_messages_for_the_tasks_of_their_stream(monkeypatch, stream):
    module, sent = MODULES[stream], []
    monkeypatch.setattr(module.advance, "delay", lambda **arguments: sent.append(arguments))
    monkeypatch.setattr(WORK[stream], "delay", lambda *arguments: sent.append(arguments))
    module.hints.advance(None)
    module.hints.advance("run")
    module.hints.work("run", "slice")
    assert sent == [{"run_id": None}, {"run_id": "run"}, ("run", "slice")]
