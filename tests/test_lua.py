import re
from pathlib import Path

import pytest

from uaharvest import lua

FOLDER = Path(lua.__file__).parent
FILES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.lua"))}
SCRIPTS = [name for name, text in FILES.items() if not text.startswith("-- Included")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_compiles(client, name):
    assert client.script_load(lua.source(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_explains_its_keys_and_arguments(name):
    head = re.match(r"(--.*\n)+", FILES[name])[0]
    for line in FILES[name].splitlines():
        if found := re.match(r"local ([\w, ]+) = .*(KEYS|ARGV)\b", line):
            for local in found[1].split(", "):
                assert re.search(rf"\b{local}\b", head), local


def test_a_script_is_read_with_what_it_includes():
    assert "local now = " in lua.source("slice_claim")
    assert "-- include" not in lua.source("quota_acquire")


def test_every_script_is_used():
    modules = "".join(path.read_text() for path in FOLDER.parent.rglob("*.py"))
    assert [name for name in SCRIPTS if f'"{name}"' not in modules] == []
