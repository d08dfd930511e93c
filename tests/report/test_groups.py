import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.report.groups import OTHER, Hidden, count, part, partition

LEAST = 5


@pytest.mark.parametrize(("number", "shown"), [(0, 0), (1, "<5"), (4, "<5"), (5, 5), (90, 90)])
def test_a_number_of_few_people_is_not_shown(number, shown):
    assert str(count(number, LEAST)) == str(shown)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (1, "<5"), (4, "<5"), (5, "5"), (25, "25"), (26, ">25"), (29, ">25"), (30, "30"), (31, ">25")],
)
def test_a_part_is_not_shown_if_it_or_the_rest_are_few(number, shown):
    assert str(part(number, 30, LEAST)) == shown


def test_no_part_of_few_people_is_shown():
    assert {str(part(number, 4, LEAST)) for number in range(5)} == {"hidden"}


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 10))
def test_from_a_part_that_is_shown_no_small_group_follows(number, public, least):
    shown = part(number, public, least)
    if isinstance(shown, Hidden):
        assert 0 <= shown.bound <= public
    else:
        assert shown == number
        assert {shown, public - shown} & {*range(1, least)} == set()


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"a": 20, "b": 7}, {"a": 20, "b": 7}),
        ({"a": 20, "b": 3}, {OTHER: 23}),  # otherwise 3 is what is left of all
        ({"a": 20, "b": 9, "c": 3}, {"a": 20, OTHER: 12}),
        ({"a": 20, "b": 3, "c": 2}, {"a": 20, OTHER: 5}),
        ({"a": 3, "b": 1}, {}),
        ({"a": 3, "b": 0, OTHER: 9}, {OTHER: 12}),
        ({"a": 8, OTHER: 2}, {OTHER: 10}),
        ({}, {}),
    ],
)
def test_small_groups_are_put_together_and_never_alone(counts, shown):
    assert partition(counts, LEAST) == shown


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30)), st.integers(1, 12))
def test_a_partition_has_everybody_or_nobody_and_the_largest_first(counts, least):
    shown = partition(counts, least)
    assert sum(shown.values()) in ({0} if sum(counts.values()) < least else {sum(counts.values())})
    named = [number for label, number in shown.items() if label != OTHER]
    assert named == sorted(named, reverse=True)


def test_whatever_is_filtered_and_subtracted_no_small_group_appears():
    """An attacker filters at random, and subtracts any answer from any other that includes it."""
    dice = random.Random(3)
    for _ in range(300):
        least = dice.randint(2, 9)
        counts = {f"g{n}": dice.choice([0, 1, 2, 3, 5, 8, 13, 40]) for n in range(dice.randint(1, 9))}
        shown = partition(counts, least)
        answers = {frozenset(shown): sum(shown.values()), frozenset(): 0}
        for _ in range(30):
            chosen = frozenset(label for label in shown if dice.random() < 0.5)
            answers[chosen] = sum(shown[label] for label in chosen)
        for some, many in answers.items():
            for fewer, few in answers.items():
                if fewer < some:
                    assert many - few >= least
