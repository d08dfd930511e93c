"""What an answer means, whatever is in it: quickly, and without showing anybody's data."""

import json
import time

import pytest

from uaharvest.zoom import answers

LARGE = 100_000


@pytest.mark.parametrize(
    "message",
    ["a" * LARGE, "a:" * LARGE, ":a" * LARGE, "_" * LARGE, "a " * LARGE, ":" * LARGE, "a:a:" * LARGE + "A"],
    ids=lambda text: text[:4],
)
def test_no_message_takes_longer_than_its_length_allows(message):
    began = time.process_time()
    for content in (json.dumps({"code": 4711, "message": message}), f'{{"code":104,"message":"x ["{message}"]"}}'):
        answer = answers.read(400, content.encode())
        assert len(answer.scopes) < 1_000
        assert len(answer.words) < 1_000
    assert time.process_time() - began < 2  # over 8 s with a pattern that took quadratic time


@pytest.mark.parametrize(
    "content",
    [
        b'"message"' * LARGE,
        b'"message":"' * LARGE,
        b'"message"' + b" " * LARGE,
        b'"code":' + b" " * LARGE,
        b'"code"' * LARGE,
        b'{"message":' * LARGE,
        b"[" * LARGE,
        b'{"code":' + b"9" * LARGE + b"}",
    ],
    ids=lambda content: content[:12],
)
def test_no_content_takes_longer_than_its_length_allows(content):
    began = time.process_time()
    answers.read(400, content)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("code", ["200", True, None, [], {}, "x", 1e400, 200.0])
def test_a_code_of_any_shape_is_read(code):
    assert answers.read(400, json.dumps({"code": code, "message": ["x"]}).encode()).code in {0, 200}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Validation Failed.", "Validation Failed."),
        ("User does not exist: jill@example.edu.", "User does not exist: …"),
        ("Meeting pfVh12==", "Meeting …"),
        ("Only for account q6gBJVO5TzexKYTb", "Only for account …"),
        ("jill@example.edu 12", ""),
        ("A API está fechada.", "A API está fechada."),
        ("", ""),
    ],
)
def test_of_a_message_plain_words_are_shown(message, words):
    assert answers.plain_words(message) == words
