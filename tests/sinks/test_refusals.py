import time

import pytest

from uaharvest.sinks.cluster.refusals import Server, refusal


@pytest.mark.parametrize("name", ["error", "message", "Message"])
def test_what_a_server_says_is_read_in_linear_time(name):
    began = time.process_time()
    said = f"no rights.{' ' * 300_000} The canonical string for this request should have been GET"
    assert "refuses the credentials (401): no rights. Check" in str(
        refusal(401, {name: said}, Server("https://es"))
    )
    assert time.process_time() - began < 2  # over 20 s with a pattern that took quadratic time
