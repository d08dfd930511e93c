import pytest

from uaharvest.tolerance import too_many


@pytest.mark.parametrize(("bad", "total"), [(0, 0), (3, 3), (3, 10), (5, 100), (50, 1000)])
def test_a_few_or_a_small_share_are_their_own_fault(bad, total):
    assert not too_many(bad, total)


@pytest.mark.parametrize(("bad", "total"), [(4, 4), (4, 79), (6, 100), (51, 1000)])
def test_more_are_the_fault_of_something_else(bad, total):
    assert too_many(bad, total)
