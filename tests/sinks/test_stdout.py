import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uaharvest.documents.document import Document
from uaharvest.errors import HarvestError
from uaharvest.sinks import Outgoing
from uaharvest.sinks.stdout import StdoutSink, StdoutStore

ROOT = Path(__file__).parents[2]


def records(count):
    return [Outgoing(number, 0.0, f'{{"action_id": {number}}}') for number in range(count)]


class Recorder(io.StringIO):
    """Knows how much of it was flushed."""

    flushed = 0

    def flush(self):
        self.flushed = len(self.getvalue().splitlines())


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1200])
def test_every_record_is_one_line_in_order_and_confirmed_once(count):
    stream = io.StringIO()
    confirmed = [
        record for delivery in StdoutSink(stream).deliver(records(count)) for record in delivery.confirmed
    ]
    assert stream.getvalue().splitlines() == [record.body for record in records(count)]
    assert confirmed == records(count)


def test_what_is_confirmed_was_flushed_before():
    stream = Recorder()
    confirmed = 0
    for delivery in StdoutSink(stream).deliver(records(1200)):
        confirmed += len(delivery.confirmed)
        assert confirmed <= stream.flushed


def test_every_document_is_one_line_with_its_index_and_id_and_confirmed_once_it_is_flushed():
    stream = Recorder()
    documents = [
        Document("sessions-2026.11.20", "a", {"user_name": "\u00c4"}),
        Document("meetings", "b", {}, update=True),
    ]
    for written in StdoutStore(stream).write(iter(documents)):
        assert (written.confirmed, written.refused, stream.flushed) == (documents, (), 2)
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"_index": "sessions-2026.11.20", "_id": "a", "user_name": "\u00c4"},
        {"_index": "meetings", "_id": "b"},
    ]


def test_a_reader_that_goes_away_is_one_clear_error_and_no_noise_at_exit():
    program = """
import sys
from uaharvest.errors import HarvestError
from uaharvest.sinks import Outgoing
from uaharvest.sinks.stdout import StdoutSink
sys.stdin.read()  # until the reader of stdout has gone
try:
    list(StdoutSink(sys.stdout).deliver([Outgoing(1, 0.0, "{}")]))
except HarvestError as error:
    sys.stderr.write(str(error))
    sys.exit(1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    process.stdout.close()
    process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert said.startswith("stdout was closed by its reader")
    assert "Exception ignored" not in said


@pytest.mark.parametrize(
    ("redirect", "words"),
    [
        ("> /dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
        ("1< /dev/null", "Bad file descriptor"),
    ],
)
def test_a_stdout_that_takes_nothing_ends_with_one_line(redirect, words):
    program = (
        "import sys; from uaharvest.sinks import Outgoing; from uaharvest.sinks.stdout import StdoutSink\n"
        "from uaharvest.errors import HarvestError\n"
        "try: list(StdoutSink(sys.stdout).deliver([Outgoing(1, 0.0, '{}')]))\n"
        "except HarvestError as error: print(error, file=sys.stderr); sys.exit(1)\n"
    )
    command = f'exec {sys.executable} -c "$PROGRAM" {redirect}'
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PROGRAM": program},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert words in done.stderr


def test_a_stream_that_was_closed_in_this_process_is_named():
    stream = io.StringIO()
    stream.close()
    with pytest.raises(HarvestError, match="it is closed"):
        list(StdoutSink(stream).deliver(records(1)))
