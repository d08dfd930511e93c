"""scripts/dates: what it names is there."""

import importlib.machinery
import importlib.util

import pytest

from devservers.stack import ROOT


@pytest.fixture(scope="module")
def dates():
    loader = importlib.machinery.SourceFileLoader("dates", str(ROOT / "scripts/dates"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("dates", loader))
    loader.exec_module(module)
    return module


def test_the_tests_that_it_runs_are_there(dates):
    for name in {*dates.CLOCKED, *dates.CLOCKED_SHORT}:
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"def {test}(" in (ROOT / path).read_text(), name


def test_there_are_enough_dates_and_ci_takes_some_of_them(dates):
    assert len(dates.DATES) >= 40
    assert set(dates.SHORT) < dates.DATES.keys()
