"""docs/failure-policy.md has the table that the other tests of this folder check."""

from pathlib import Path

import pytest

from devservers.answers import ANSWERS
from tests.answers import (
    test_aws,
    test_database,
    test_elasticsearch,
    test_episodes,
    test_redis,
    test_stock,
    test_useractions,
    test_zoom,
)

MODULES = (test_useractions, test_stock, test_episodes, test_zoom, test_aws, test_elasticsearch)
KINDS = {
    "refused": "refuses (4xx)",
    "moved": "redirects",
    "throttled": "throttles (429)",
    "failed": "fails (5xx)",
    "garbled": "200, but no or half an answer",
    "short": "fewer rows than its total",
    "broken": "breaks off, drips, too large",
}
PAGE = Path(__file__).parents[2] / "docs/failure-policy.md"


def render():
    attacks = {}
    for module in MODULES:
        attacks |= {case.values[0].name: case.values[0] for case in module.CASES}
    lines = [f"| call | {' | '.join(KINDS.values())} |", f"|---{'|---' * len(KINDS)}|"]
    for attack in attacks.values():
        verdicts = (" or ".join(sorted(attack.policy.get(kind, "-"))) for kind in KINDS)
        lines.append(f"| {attack.name} | {' | '.join(verdicts)} |")
    lines += ["", "The answers that each call is tried with:", ""]
    for kind, title in KINDS.items():
        if names := ", ".join(answer.name for answer in ANSWERS if answer.kind == kind):
            lines.append(f"- {title}: {names}")
    return "\n".join(lines) + "\n"


def test_the_table_of_the_failure_policy_is_the_tested_one(check_generated):
    check_generated(PAGE, "tests/answers", render())


@pytest.mark.parametrize("module", MODULES)
def test_each_call_and_each_kind_of_answer_is_tried_each_time(module):
    """And each call with each kind in the end."""
    every, always = {}, {}
    for case in module.CASES:
        attack, answer = case.values
        every.setdefault(attack, set()).add(answer.kind)
        if not case.marks:
            always.setdefault(attack, set()).add(answer.kind)
    assert set(always) == set(every)
    assert set().union(*always.values()) >= set(KINDS) - {"short"}  # not every answer has a total
    for attack, kinds in every.items():
        assert kinds == set(attack.policy), attack.name
        assert kinds >= set(KINDS) - {"short"}, attack.name
        assert 2 * len(always[attack]) >= len(kinds) - 1, attack.name


def render_faults():
    """Return the tables of Redis and of the database, which have faults in place of answers."""
    lines = []
    for title, module in (("Redis", test_redis), ("Opencast's database", test_database)):
        faults = {case.values[1].name: case.values[1] for case in module.CASES}
        lines += [f"| {title} | tried as | verdict | `status` says |", "|---|---|---|---|"]
        for name, kind in module.KINDS.items():
            tried = "; ".join(fault.name for fault in faults.values() if fault.kind == name)
            lines.append(f"| {kind.title} | {tried} | {kind.verdict} | {kind.shown} |")
        moments = ", ".join(map(str, module.MOMENTS))
        lines += ["", f"Each begins {moments}.", ""]
    return "\n".join(lines[:-1]) + "\n"


def test_the_tables_of_faults_are_the_tested_ones(check_generated):
    check_generated(PAGE, "tests/answers, faults", render_faults())


@pytest.mark.parametrize("module", [test_redis, test_database])
def test_every_kind_of_fault_and_every_moment_is_tried_each_time(module):
    always = [case.values for case in module.CASES if not case.marks]
    assert {fault.kind for _, fault in always} == set(module.KINDS)
    assert len({str(moment) for moment, _ in always}) == len(module.MOMENTS)
