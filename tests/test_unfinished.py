"""What a killed command has written in part is removed by the next one that writes there."""

import signal
import subprocess
import sys

import pytest

from devservers.stack import ROOT
from tests.privacy import planted
from uaharvest import unfinished
from uaharvest.exporting import files

# Each writes a name, and dies when all is written but nothing is in its place.
KILLED = """
import os, signal, sys
from pathlib import Path
from uaharvest import unfinished
from uaharvest.exporting import files
from uaharvest.person import archive
from uaharvest.person.documents import Found

target, name = Path(sys.argv[2]), sys.argv[3]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

def csv():
    unfinished.put = die
    with files.output(target) as opened:
        opened.write(name)

def person():
    os.link = die
    archive.write(target, [Found("sessions", ("sessions", "1"), {"user_name": name})], [])

def report():
    from uaharvest.report.pages import folder
    folder.pages = lambda _: {"index.html": name}
    Path.rename = die
    folder.write(None, target, {})

locals()[sys.argv[1]]()
"""


def left(path):
    return [one for one in path.glob("**/*") if one.is_file() and planted.NAME.encode() in one.read_bytes()]


@pytest.mark.parametrize("writer", ["csv", "person", "report"])
def test_what_a_killed_command_has_left_is_removed_by_the_next_one(tmp_path, writer):
    folder = tmp_path / "viewings"
    folder.mkdir()
    target = folder / "target"
    died = subprocess.run(
        [sys.executable, "-c", KILLED, writer, target, planted.NAME], cwd=ROOT, check=False, capture_output=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    [hidden] = folder.iterdir()
    assert hidden.name.startswith(unfinished.PREFIX)
    assert hidden.stat().st_mode & 0o077 == 0
    if writer == "csv":
        assert left(folder)
    with files.output(folder / "another") as opened:
        opened.write("x")
    assert [one.name for one in folder.iterdir()] == ["another"]


def test_what_another_process_is_writing_stays(tmp_path):
    with files.output(tmp_path / "one") as one:
        one.write(planted.NAME)
        with files.output(tmp_path / "two") as two:
            two.write("2")
    assert (tmp_path / "one").read_text() == planted.NAME
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one", "two"]


def test_only_folders_of_ours_are_removed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "kept").mkdir(parents=True)
    folder = tmp_path / "folder"
    (folder / ".hidden").mkdir(parents=True)
    (folder / f"{unfinished.PREFIX}link").symlink_to(elsewhere)
    (folder / f"{unfinished.PREFIX}file").touch()
    with unfinished.folder(folder):
        pass
    assert len(list(folder.iterdir())) == 3
    assert (elsewhere / "kept").is_dir()


def test_a_failed_command_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), files.output(tmp_path / "one"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
