import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.report.groups import OTHER, count, partition

LEAST = 5


@pytest.mark.parametrize(("number", "shown"), [(0, 0), (1, "<5"), (4, "<5"), (5, 5), (9, 5), (90, 90), (94, 90)])
def test_a_number_of_few_people_is_not_shown_and_others_are_rounded_down(number, shown):
    assert str(count(number, LEAST)) == str(shown)


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"a": 20, "b": 7}, {"a": 20, "b": 5}),
        ({"a": 20, "b": 3}, {"a": 20}),
        ({"a": 20, "b": 9, "c": 3}, {"a": 20, "b": 5}),
        ({"a": 20, "b": 3, "c": 2}, {"a": 20, OTHER: 5}),
        ({"a": 3, "b": 1}, {}),
        ({"a": 3, "b": 0, OTHER: 9}, {OTHER: 10}),
        ({"a": 8, OTHER: 2}, {"a": 5}),
        ({}, {}),
    ],
)
def test_small_groups_are_put_together_and_never_alone(counts, shown):
    assert partition(counts, LEAST) == shown


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30)), st.integers(1, 12))
def test_a_partition_has_no_small_group_and_the_largest_first(counts, least):
    shown = partition(counts, least)
    assert not [number for number in shown.values() if number < least or number % least]
    named = [number for label, number in shown.items() if label != OTHER]
    assert named == sorted(named, reverse=True)
    assert sum(counts.values()) - sum(shown.values()) < least * (len(shown) + 1)
