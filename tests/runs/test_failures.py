import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.runs.failures import JITTER, LONGEST_BACK_OFF, GiveUp, Halve, PutOff, after_deaths, after_failure

MOST = 5


def failed(*, attempts=1, waits=0, own_fault=False, alone=False, divisible=True, jitter=1.0, tick=3600):
    return after_failure(
        attempts=attempts,
        waits=waits,
        most=MOST,
        own_fault=own_fault,
        alone=alone,
        divisible=divisible,
        jitter=jitter,
        tick=tick,
    )


@given(rounds=st.integers(1, 200), divisible=st.booleans())
def test_an_outage_uses_up_no_attempts_however_long_it_lasts(rounds, divisible):
    attempts = waits = 0
    for _ in range(rounds):
        decision = failed(attempts=attempts + 1, waits=waits, divisible=divisible)
        assert isinstance(decision, PutOff)
        attempts, waits = decision.attempts, decision.waits
    assert attempts == 0


def test_each_wait_is_twice_as_long_up_to_five_minutes():
    delays = [failed(waits=waits).delay for waits in range(10)]
    assert delays == [2, 4, 8, 16, 32, 64, 128, 200, 200, 200]
    assert failed(waits=9, jitter=JITTER[1]).delay == LONGEST_BACK_OFF


@given(waits=st.integers(0, 20), jitter=st.floats(*JITTER), tick=st.integers(1, 300))
def test_a_wait_is_never_longer_than_a_tick_so_that_the_second_tick_after_an_outage_finds_the_slice_due(
    waits, jitter, tick
):
    assert failed(waits=waits, jitter=jitter, tick=tick).delay <= tick * (1 + 1e-9)


def test_an_outage_of_weeks_overflows_nothing():
    assert failed(waits=2000, jitter=JITTER[1]).delay == LONGEST_BACK_OFF


def test_what_failed_together_does_not_come_back_together():
    assert (failed(jitter=0.5).delay, failed(jitter=1.5).delay) == (1, 3)


def test_a_slice_that_fails_while_others_succeed_uses_up_an_attempt():
    assert failed(attempts=2, waits=1, own_fault=True) == PutOff(4, 2, 2)


def test_the_last_attempt_is_followed_by_halves_that_have_one_each():
    decision = failed(attempts=MOST, waits=4, own_fault=True)
    assert decision == Halve(attempts=MOST - 1)
    assert failed(attempts=decision.attempts + 1, own_fault=True) == Halve(attempts=MOST - 1)


def test_what_has_no_halves_is_given_up_at_the_last_attempt_and_not_before():
    assert isinstance(failed(attempts=MOST - 1, own_fault=True, divisible=False), PutOff)
    assert failed(attempts=MOST, own_fault=True, divisible=False) == GiveUp()


def test_alone_in_its_run_a_slice_is_halved_at_the_second_failure_so_that_its_halves_show_whose_fault_it_is():
    assert isinstance(failed(alone=True), PutOff)
    assert failed(alone=True, waits=1) == Halve(attempts=0)


def test_a_single_second_alone_in_an_outage_waits():
    assert isinstance(failed(alone=True, waits=9, divisible=False), PutOff)


@given(attempts=st.integers(1, MOST), waits=st.integers(0, 9), alone=st.booleans())
def test_nothing_is_given_up_that_can_be_halved(attempts, waits, alone):
    assert failed(attempts=attempts, waits=waits, own_fault=True, alone=alone) != GiveUp()


@pytest.mark.parametrize(("divisible", "then"), [(True, Halve(attempts=4)), (False, GiveUp())])
def test_a_slice_that_kills_each_worker_is_halved_and_in_the_end_given_up(divisible, then):
    assert after_deaths(divisible=divisible, most=MOST) == then
