"""What the registry holds of every stream, and what it costs to import it."""

import json
import subprocess
import sys

import pytest

from devservers import stack
from uaharvest.runs.days import DAY
from uaharvest.settings import Settings
from uaharvest.streams import registry
from uaharvest.streams.episodes import Episodes
from uaharvest.streams.specs import episodes, useractions, zoom
from uaharvest.streams.useractions import Useractions
from uaharvest.streams.zoom import Meetings

# What an engine, its sources and its sinks need.
HEAVY = {
    "boto3",
    "botocore",
    "requests",
    "pyhorn",
    "elasticsearch",
    "sqlalchemy",
    "maxminddb",
    "structlog",
    "click",
}


def test_what_every_process_imports_is_cheap():
    code = "import json, sys; from uaharvest.streams import registry; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=stack.ROOT, timeout=60
    )
    assert not HEAVY & set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("spec", "stream"), [(useractions.SPEC, Useractions), (episodes.SPEC, Episodes), (zoom.SPEC, Meetings)]
)
def test_a_stream_has_the_name_of_its_spec(spec, stream):
    assert stream.name == spec.name
    assert registry.spec_of(spec.name) is spec


@pytest.mark.parametrize("name", ["zoom", "index", "control", "backfill"])
def test_a_name_that_is_taken_is_refused(name):
    spec = useractions.StreamSpec(
        name=name,
        watermark_key=lambda _: name,
        source=lambda _: name,
        destination=lambda _: name,
        build=useractions.SPEC.build,
    )
    with pytest.raises(ValueError, match=f"the name {name} is taken"):
        registry.register(spec)
    assert registry.names() == ["useractions", "episodes", "zoom", "viewings", "attendance"]


@pytest.mark.parametrize(("spec", "batch_size"), [(episodes.SPEC, episodes.CHUNK), (zoom.SPEC, 7)])
def test_a_day_is_a_window_of_its_own_that_no_span_guard_refuses(spec, batch_size):
    policy = spec.policy(Settings(max_window=60, max_span=60, batch_size=7))
    assert (policy.longest_window, policy.max_span) == (DAY.total_seconds(), None)
    assert policy.batch_size == batch_size


def test_useractions_have_the_limits_of_the_settings():
    policy = useractions.SPEC.policy(Settings(max_window=60, max_span=120, batch_size=7))
    assert (policy.longest_window, policy.max_span, policy.batch_size) == (60, 120, 7)
