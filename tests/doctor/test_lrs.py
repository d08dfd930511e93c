"""The LRS that `export xapi --to lrs` sends to."""

import pytest
import responses

URL = "https://lrs.example.edu/xAPI"
SETTINGS = {"LRS_URL": URL, "LRS_USER": "a", "LRS_PASSWORD": "top-secret"}


# A batch without statements is an error to some and a success to others.
@pytest.mark.parametrize(("status", "body"), [(200, "[]"), (204, ""), (400, "no statements"), (422, "{}")])
@responses.activate
def test_an_lrs_that_lets_us_in_needs_no_change(look, settings_of, status, body):
    sent = responses.post(f"{URL}/statements", status=status, body=body)
    [found] = look(settings_of(**SETTINGS), "lrs.statements")["lrs.statements"]
    assert (found.status, found.found) == ("ok", f"{URL}/statements does not deny access")
    assert sent.calls[0].request.body == b"[]"


@pytest.mark.parametrize(
    ("status", "named"), [(401, "LRS_USER and LRS_PASSWORD"), (404, "Check LRS_URL"), (503, "is busy")]
)
@responses.activate
def test_an_lrs_that_does_not_take_statements_is_named_with_the_setting(told, settings_of, status, named):
    responses.post(f"{URL}/statements", status=status)
    [(found_status, found, remedy)] = told(settings_of(**SETTINGS), "lrs.statements")
    assert found_status == "fail"
    assert named in f"{found} {remedy}"
    assert "top-secret" not in found + remedy


def test_a_site_without_one_is_not_asked_to_have_one(look, settings_of):
    [found] = look(settings_of(), "lrs.statements")["lrs.statements"]
    assert (found.status, found.found) == ("skipped", "LRS_URL is not set")
