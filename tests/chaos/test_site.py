"""A command that hangs is ended, and says where."""

import signal
from types import SimpleNamespace

import pytest

from chaos import site
from chaos.site import Site
from devservers import stack


@pytest.mark.fault
def test_a_command_that_hangs_is_ended_and_its_output_shows_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "manage.py").write_text("import time\n\ndef waits():\n    time.sleep(600)\n\nwaits()\n")
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    monkeypatch.setattr(site, "COMMAND_SECONDS", 5)
    done = Site.manage(SimpleNamespace(environment={}, valkey=SimpleNamespace(directory=tmp_path)), "audit")
    assert done.code == -signal.SIGABRT
    assert 'manage.py", line 4 in waits' in done.output
