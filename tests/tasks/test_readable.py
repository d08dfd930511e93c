"""Tasks in words, from the texts that Celery's events have of them."""

import pytest

from tasks import readable

RUN = "7f3a52c09b1e4d5f8a6b7c8d9e0f1a2b"


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        ("()", "{'tick': True}", "tick"),
        ("()", "{'run_id': None}", ""),
        ("()", f"{{'run_id': '{RUN}'}}", "run 7f3a52c0"),
        (None, None, ""),
        ("()", "{'seconds': 600.0}", "for 600 s at most"),
        (f"('{RUN}', '1772539200-1772539260')", "{}", "run 7f3a52c0, 2026-03-03 12:00:00 to 12:01:00"),
        (
            f"('{RUN}', '1772539200-1772625600 [\"lecture\"]')",
            "{}",
            'run 7f3a52c0, 2026-03-03 12:00:00 to 2026-03-04 12:00:00 ["lecture"]',
        ),
        (
            f"""('{RUN}', '["past","nP7bdHQ7==",1772539200,"5e",3,"dashboard"]')""",
            "{}",
            'run 7f3a52c0, ["past","nP7bdHQ7==",2026-03-03 12:00:00,"5e",3,"dashboard"]',
        ),
        (f"('{RUN}', '20260303-20260303:window*')", "{}", "run 7f3a52c0, 20260303-20260303:window*"),
        ("('1772539200-1772539260', '...", "{}", "('2026-03-03 12:00:00 to 12:01:00', '... {}"),
    ],
)
def test_arguments_are_words_and_times(args, kwargs, shown):
    assert readable.arguments(args, kwargs) == shown


def test_long_arguments_are_cut():
    shown = readable.arguments(f"('{RUN}', '{'x' * 500}')", "{}")
    assert len(shown) == readable.LONGEST
    assert shown.endswith("…")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'595 found, 590 sent'", "595 found, 590 sent"),
        (None, ""),
        ("'blocked: Opencast ...", "blocked: Opencast ..."),
    ],
)
def test_a_result_has_no_quotes(text, shown):
    assert readable.result(text) == shown
