"""uaharvest.keys has every key, nobody else builds one, and docs/design.md has its table."""

import ast
import re
from pathlib import Path

import pytest

import uaharvest
from tests.conftest import unlisted_keys
from uaharvest import keys

ROOT = Path(uaharvest.__file__).parents[1]
MODULES = [
    str(path.relative_to(ROOT))
    for path in (ROOT / "celeryconfig.py", *ROOT.glob("uaharvest/**/*.py"), *ROOT.glob("tasks/**/*.py"))
    if path != Path(keys.__file__)
]


def render():
    rows = (f"| `{key.pattern}` | {key.type} | {key.holds} | {key.lives} |" for key in keys.ALL)
    return "\n".join(["| key | type | holds | lives |", "|---|---|---|---|", *rows, ""])


def test_the_table_of_keys_is_that_of_the_code(check_generated):
    check_generated(ROOT / "docs/design.md", "tests/test_keys.py", render())


def test_a_key_is_made_of_its_parts():
    assert keys.RUN_DUE("one") == "uaharvest:run:one:due"
    assert keys.SINCE(keys.KNOWN("zoom", "d", 7)) == "uaharvest:since:known:zoom:d:7"
    assert keys.KNOWN_GAPS(keys.RUN_SENT("one")) == "uaharvest:run:one:sent:gaps"


@pytest.mark.parametrize("parts", [(), ("one", "two")])
def test_a_key_takes_as_many_parts_as_it_has(parts):
    with pytest.raises(TypeError):
        keys.RUN(*parts)


def test_keys_differ():
    patterns = [re.sub(r"<[\w ]+>", "<>", key.pattern) for key in keys.ALL]
    assert len(set(patterns)) == len(patterns)


@pytest.mark.parametrize("module", MODULES)
def test_no_other_module_builds_a_key(module):
    source = (ROOT / module).read_text()
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    assert [text for text in texts if isinstance(text, str) and text.startswith(keys.PREFIX)] == []
    assert not re.search(r"keys\.PREFIX|keys import.*PREFIX", source)


def test_keys_that_are_not_in_the_list_are_found(client):
    client.set(keys.SLOT("zoom"), "a string, as it should be")
    client.set(keys.EXPLICIT("zoom"), "a string, and no set")
    client.set(f"{keys.PREFIX}else", "where")
    client.sadd(keys.DAY("known", 20260101), 1)
    assert sorted(unlisted_keys(client)) == ["uaharvest:else (string)", "uaharvest:explicit:zoom (string)"]
    client.flushall()
