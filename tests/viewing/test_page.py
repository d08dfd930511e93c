"""What docs/viewing.md says is true of the code."""

import re
from pathlib import Path

from tests.viewing.cases import measured, said
from uaharvest.viewing.actions import Actions
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import Measures, watch_counts

PAGE = (Path(__file__).resolve().parents[2] / "docs/viewing.md").read_text()


def test_the_example_in_python_runs_and_gives_what_it_says():
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(example, names)
    found = names["found"]
    assert list(zip(found.start, found.end, strict=True)) == [(0, 10), (500, 520)]
    assert names["one"].coverage == 30 / 3600


def test_each_measure_has_the_value_of_its_example():
    rows = [said("FOOTPRINT", 5, 0, 60), said("FOOTPRINT", 100, 30, 90)]
    one = measured(rows, {"r": 360})
    section = PAGE.partition("## What counts")[2].partition("## ")[0]
    table = re.findall(r"^\| (`[a-z_`, ]+`) \| .* \| (.*?) ?\|$", section, re.MULTILINE)
    told = {name.strip("`"): value for names, value in table for name in names.split(", ")}
    assert told.keys() == {*Measures._fields, "watch_counts"} - {"recording", "viewer"}
    for name, value in told.items():
        if re.fullmatch(r"[0-9.]+", value):
            assert getattr(one, name) == float(value), name
    counts = watch_counts(viewings(Actions.of(rows), {}), 360).tolist()
    assert told["watch_counts"] == "1 up to 29, 2 from 30 to 59, 1 from 60 to 89"
    assert counts == [1] * 30 + [2] * 30 + [1] * 30 + [0] * 270
