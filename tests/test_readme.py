"""Every command of the README works as written, and its table of settings is the settings object's."""

import re
from pathlib import Path

from uaharvest import settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_made_from_the_settings():
    between = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert between is not None
    assert between[1] == settings.table()
