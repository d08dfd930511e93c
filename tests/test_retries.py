import dataclasses

import pytest

from uaharvest.errors import BlockedError, RetryableError
from uaharvest.retries import Retries

STEADY = Retries(attempts=4, first=1.0, longest=3.0, jitter=(1.0, 1.0))


class Failing:
    """Raises the errors that it is given, one a call, then returns how often it was called."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def test_pauses_double_up_to_the_longest():
    assert [STEADY.seconds(attempt) for attempt in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, 3.0]


def test_pauses_are_never_the_same():
    retries = dataclasses.replace(STEADY, jitter=(0.5, 1.5))
    seconds = {retries.seconds(1) for _ in range(100)}
    assert len(seconds) > 1
    assert all(0.5 <= pause <= 1.5 for pause in seconds)


def test_what_passes_is_tried_again_until_it_is_answered():
    pauses = []
    assert STEADY.call(Failing(RetryableError("one"), RetryableError("two")), pause=pauses.append) == 3
    assert pauses == [1.0, 2.0]


def test_the_last_failure_is_raised_without_a_pause_after_it():
    pauses, ask = [], Failing(*(RetryableError(str(number)) for number in range(9)))
    with pytest.raises(RetryableError, match="3"):
        STEADY.call(ask, pause=pauses.append)
    assert (ask.calls, len(pauses)) == (4, 3)


@pytest.mark.parametrize("error", [BlockedError("no"), ValueError("a mistake")])
def test_what_does_not_pass_is_raised_at_once(error):
    ask = Failing(error)
    with pytest.raises(type(error)):
        STEADY.call(ask, pause=lambda _: pytest.fail("it must not be tried again"))
    assert ask.calls == 1


def test_who_asks_decides_what_passes_and_for_how_long():
    pauses = []
    ask = Failing(ValueError("5"), ValueError("0"))
    again, wait = lambda error: isinstance(error, ValueError), lambda error, planned: planned * int(str(error))
    assert STEADY.call(ask, pause=pauses.append, again=again, wait=wait) == 3
    assert pauses == [5.0]  # and none of 0 seconds


def test_after_its_time_nothing_is_tried_again():
    ask = Failing(RetryableError("slow"))
    with pytest.raises(RetryableError):
        dataclasses.replace(STEADY, within=-1.0).call(ask, pause=lambda _: pytest.fail("it is too late"))
    assert ask.calls == 1


def test_rounds_go_on_while_something_waits():
    pauses, waiting, rounds = [], [1, 2, 3], []
    for number in STEADY.rounds(waiting, pause=pauses.append):
        rounds.append(number)
        waiting.pop()
        if number == 2:
            waiting.clear()
    assert (rounds, pauses) == ([1, 2], [1.0])


def test_rounds_end_with_the_attempts():
    pauses = []
    assert list(STEADY.rounds([1], pause=pauses.append)) == [1, 2, 3, 4]
    assert pauses == [1.0, 2.0, 3.0]


def test_where_nothing_waits_there_is_no_round():
    assert list(STEADY.rounds([], pause=lambda _: pytest.fail("for nothing"))) == []
