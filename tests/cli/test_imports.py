"""What short commands import: it is most of the time that they take."""

import os
import re
import subprocess
import sys

import pytest

from devservers import stack

# What only harvests and other long commands need: Celery, the sources' clients, the engine, and what shows progress.
LONG = {
    "celery",
    "elastic_transport",
    "jwt",
    "kombu",
    "numpy",
    "pyhorn",
    "requests",
    "rich.console",
    "sqlalchemy",
    "uaharvest.alerts",
    "uaharvest.runs.coordinator",
    "uaharvest.streams.engines.zoom",
    "uaharvest.zoom.client",
}
# What asks a service.
SERVICES = {"botocore", "redis", "uaharvest.settings", "uaharvest.status"}


def imported(*arguments, **environment):
    """Return the modules that `manage.py` imports for a command."""
    command = [sys.executable, "-X", "importtime", "manage.py", *arguments]
    # Its exit code and what it prints are for other tests.
    done = subprocess.run(
        command, cwd=stack.ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return {*re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.MULTILINE)}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_nothing_that_asks_a_service(option):
    modules = imported(option)
    assert "click" in modules
    assert not modules & (LONG | SERVICES)


def test_status_imports_neither_the_engine_nor_the_clients_of_the_sources(redis, valkey_url, bucket, queue_name):
    zoom = {
        "ZOOM_ACCOUNT_ID": "account",
        "ZOOM_KEY": "key",
        "ZOOM_SECRET": "secret",
        "ES_HOST": "http://127.0.0.1:1",
    }
    modules = imported(
        "status", "--json", REDIS_URL=valkey_url, S3_HARVEST_TS_BUCKET=bucket, SQS_QUEUE_NAME=queue_name, **zoom
    )
    assert "uaharvest.status" in modules
    assert "uaharvest.zoom.quota" in modules
    assert not modules & LONG
