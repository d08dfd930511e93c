"""The command line: options, what it prints, and how it ends."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

import chaos.__main__ as command
from chaos.run import Outcome
from chaos.verdict import judge
from tests.chaos.test_verdict import WELL

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
ARGUMENTS = re.findall(r'^make chaos.* ARGS="([^"]*)"$', PAGE.read_text(), re.MULTILINE)


@pytest.fixture
def main(monkeypatch):
    """Run the command with a line of arguments."""

    def main(line):
        monkeypatch.setattr(sys, "argv", ["chaos", *line.split()])
        command.main()

    return main


def outcome(seed, **changed):
    record = dataclasses.replace(WELL, **changed)
    return Outcome(seed, judge(record, lease=2), record, kills=20, losses=5, seconds=120.4)


def test_the_faults_of_a_seed_can_be_listed_and_nothing_starts(main, capsys):
    main("--seed 7 --documents sqlite --list")
    lines = capsys.readouterr().out.splitlines()
    main("--seed 7 --documents sqlite --list")
    assert capsys.readouterr().out.splitlines() == lines
    assert len(lines) > 25
    assert all(re.match(r" +[0-9.]+ s  \S", line) for line in lines)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_options_of_the_page_are_known(main, capsys, arguments):
    main(f"{arguments} --list")
    assert capsys.readouterr().out


def test_each_seed_runs_and_the_figures_of_all_are_shown(main, monkeypatch, capsys):
    monkeypatch.setattr(command, "run", lambda seed, *_: outcome(seed))
    main("--seed 3 --seeds 2 --documents sqlite")
    table = capsys.readouterr().out.splitlines()[-4:]
    assert table[0].split()[:3] == ["seed", "kills", "losses"]
    assert [line.split()[:3] for line in table[1:3]] == [["3", "20", "5"], ["4", "20", "5"]]


def test_a_seed_that_fails_is_named_with_what_is_wrong_and_the_others_run_on(main, monkeypatch, capsys):
    monkeypatch.setattr(
        command, "run", lambda seed, *_: outcome(seed, **({"stuck": ("run 1f",)} if seed == 3 else {}))
    )
    with pytest.raises(SystemExit) as ended:
        main("--seed 3 --seeds 2 --documents sqlite")
    assert ended.value.code == "seed 3: stuck: run 1f"
    assert "seed 4, documents in sqlite" in capsys.readouterr().out
