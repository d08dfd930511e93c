"""Which alerts a report of `status` makes of what was reported before, and how they reach their receiver."""

import copy
import http.server
import itertools
import json
import threading

import pytest
import structlog

from uaharvest import alerts, keys
from uaharvest.alerts import CALM, MOST_AT_ONCE, MOST_WAITING, Alerts, decide, to_command, to_webhook
from uaharvest.errors import BusyError, RetryableError

WELL = {"blocked": None, "failure": None, "overdue_seconds": 0, "lag_seconds": 20, "dead_letters": 0}
BLOCKED = {"blocked": {"reason": "Opencast refused user 'harvester' (401).", "since": None, "exit_code": 4}}
LATE = {"overdue_seconds": 60, "lag_seconds": 4000}
PLACE = "alerts:here"


def report(*, redis_error=None, index=None, **zoom):
    return {"streams": {"zoom": {**WELL, **zoom}}, "index": index, "redis": {"error": redis_error}}


def told(*reports):
    """Return the texts of the alerts that come of reports, one after the other."""
    standing, texts = {}, []
    for number, one in enumerate(reports):
        before = copy.deepcopy(standing)
        after, made = decide(standing, one, f"2026-11-24T12:{number:02}:00Z")
        assert standing == before  # it is a function
        standing = after
        texts.append([alert.text for alert in made])
    return texts


def test_a_blocked_stream_is_told_once_and_once_that_it_is_well():
    blocked, well = report(**BLOCKED), report()
    assert told(well, blocked, blocked, blocked, well, well) == [
        [],
        ["zoom is blocked: Opencast refused user 'harvester' (401)."],
        [],
        [],
        ["zoom is no longer blocked (since 2026-11-24T12:01:00Z)"],
        [],
    ]


def test_a_lag_is_told_with_its_reason_and_has_ended_only_after_a_while():
    late = report(**LATE, failure={"reason": "Opencast does not answer."})
    up_and_down = [late, report(), late, *[report()] * CALM]
    first, *between, last = told(*up_and_down)
    assert first == ["zoom lags 1 h 6 min behind, 1 min more than it may. Opencast does not answer."]
    assert between == [[]] * len(between)
    assert last == ["zoom has caught up (it lagged since 2026-11-24T12:00:00Z)"]


def test_a_stream_that_lags_because_it_is_blocked_is_told_as_blocked_alone():
    texts = told(report(**BLOCKED, **LATE), report(**BLOCKED, **LATE), report(**LATE))
    assert [[text.partition(" behind")[0].partition(":")[0] for text in made] for made in texts] == [
        ["zoom is blocked"],
        [],
        ["zoom is no longer blocked (since 2026-11-24T12", "zoom lags 1 h 6 min"],
    ]


def test_only_new_dead_letters_are_told():
    texts = told(*[report(dead_letters=count) for count in (0, 1, 1, 3, 2, 3, 0)])
    assert texts == [
        [],
        ["zoom has 1 new dead letter: manage.py dead-letters list"],
        [],
        ["zoom has 2 new dead letters, 3 wait: manage.py dead-letters list"],
        [],
        ["zoom has 1 new dead letter, 3 wait: manage.py dead-letters list"],
        ["zoom has no dead letters any more"],
    ]


def test_what_nobody_knows_has_neither_begun_nor_ended():
    bad = report(**BLOCKED, dead_letters=2)
    unknown = report(redis_error="Redis does not answer", overdue_seconds=None, dead_letters=None)
    assert told(bad, unknown, bad)[1:] == [[], []]
    assert told(report(redis_error="Redis does not answer", **LATE)) == [[]]
    assert told(report(**LATE), unknown, unknown, unknown, report(**LATE))[1:] == [[]] * 4


def test_the_indexer_is_told_like_a_stream():
    index = {name: WELL[name] for name in ("failure", "dead_letters")} | BLOCKED
    assert told(report(index=index), report(index=None)) == [
        [f"index is blocked: {BLOCKED['blocked']['reason']}"],
        [],
    ]


class Receiver:
    def __init__(self):
        self.lines = []
        self.down = False

    def __call__(self, line):
        if self.down:
            raise RetryableError("it does not answer.")
        self.lines.append(json.loads(line))

    @property
    def texts(self):
        return [f"{line['state']} {line['alert']}" for line in self.lines]


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def check(client, receiver):
    numbers = itertools.count()
    return lambda one: Alerts(client, PLACE, {"receiver": receiver}).check(one, f"at {next(numbers)}")


def test_an_alert_is_one_json_object_with_the_whole_in_words(check, receiver):
    assert check(report(**BLOCKED)) == "1 sent"
    [line] = receiver.lines
    assert line.pop("host")
    assert line == {
        "text": "zoom is blocked: Opencast refused user 'harvester' (401).",
        "alert": "blocked",
        "state": "raised",
        "stream": "zoom",
        "at": "at 0",
        "since": "at 0",
    }
    assert check(report(**BLOCKED)) == "nothing new"


def test_while_a_receiver_is_down_alerts_wait_in_their_order(check, receiver):
    receiver.down = True
    for one, waiting in ((report(**BLOCKED), 1), (report(), 2), (report(), 2)):
        with pytest.raises(RetryableError, match=rf"it does not answer\. .* wait for it: {waiting}\.$"):
            check(one)
    receiver.down = False
    assert check(report()) == "2 sent"
    assert receiver.texts == ["raised blocked", "healed blocked"]


def test_one_receiver_that_is_down_keeps_nothing_from_the_other(client, receiver):
    other = Receiver()
    other.down = True
    both = Alerts(client, PLACE, {"other": other, "receiver": receiver})
    for _ in range(2):
        with pytest.raises(RetryableError):
            both.check(report(**BLOCKED), "now")
    other.down = False
    both.check(report(**BLOCKED), "now")
    assert receiver.texts == other.texts == ["raised blocked"]


def test_too_many_that_wait_are_cut_and_it_is_said(check, client, receiver, monkeypatch):
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr(alerts, "log", logger)
    key = keys.ALERTS_WAITING(PLACE, "receiver")
    client.rpush(key, *[json.dumps({"state": number, "alert": ""}) for number in range(MOST_WAITING + 3)])
    check(report())
    assert [(call.method_name, call.kwargs["dropped"]) for call in logger.calls] == [("error", 3)]
    assert receiver.texts == [f"{number} " for number in range(3, 3 + MOST_AT_ONCE)]


def test_two_workers_do_not_send_the_same(check, client, receiver):
    def another(line):
        with pytest.raises(BusyError):
            check(report(**BLOCKED))
        receiver(line)

    Alerts(client, PLACE, {"receiver": another}).check(report(**BLOCKED), "now")
    check(report(**BLOCKED))
    assert receiver.texts == ["raised blocked"]


# Receivers


def test_a_command_gets_one_line(tmp_path):
    to_command(["sh", "-c", f"cat > {tmp_path / 'got'}"])('{"text": "x"}')
    assert (tmp_path / "got").read_text() == '{"text": "x"}\n'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/does/not/exist", "secret"], r"ALERT_COMMAND cannot be run: No such file or directory\."),
        (["sh", "-c", "exit 3"], r"ALERT_COMMAND ended with 3\."),
        (["sh", "-c", "sleep 1000 & sleep 1000"], r"ALERT_COMMAND did not end within 0\.2 s\."),
        (["true"], None),  # it does not read
    ],
)
def test_a_command_that_fails_or_hangs_is_named_and_ended(monkeypatch, words, said):
    monkeypatch.setattr(alerts, "TIMEOUT", 0.2 if said and "within" in said else 30)
    if said is None:
        to_command(words)("{}")
        return
    with pytest.raises(RetryableError, match=f"^{said}$"):
        to_command(words)("{}")


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.status == "hang":
            self.server.over.wait()
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.got, server.status, server.over = [], 204, threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/services/secret-token?key=secret-key"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def test_a_webhook_gets_the_json(hook):
    to_webhook(hook.url)('{"text": "x"}')
    assert hook.got == [("/services/secret-token?key=secret-key", b'{"text": "x"}')]


@pytest.mark.parametrize("status", [302, 403, 500, "hang", "gone"])
def test_a_webhook_that_fails_or_hangs_is_named_without_its_url(monkeypatch, hook, status):
    monkeypatch.setattr(alerts, "TIMEOUT", 0.2 if status == "hang" else 30)
    hook.status = status
    if status == "gone":
        hook.shutdown()
        hook.server_close()
    with pytest.raises(RetryableError, match=r"^ALERT_WEBHOOK_URL (answered|did not answer)") as caught:
        to_webhook(hook.url)("{}")
    assert "secret" not in str(caught.value)
    assert str(hook.server_port) not in str(caught.value)


def test_a_loss_is_told_with_its_command_until_somebody_confirms_it():
    lost = report(
        lost=[{"reason": "the queue was created again: manage.py watermark confirm", "since": "2026-11-24"}]
    )
    assert told(lost, lost, report(lost=[])) == [
        ["zoom has lost something: the queue was created again: manage.py watermark confirm"],
        [],
        ["zoom has no loss any more, it is confirmed"],
    ]
