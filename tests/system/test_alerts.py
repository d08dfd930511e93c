"""Alerts of a real site, with beat and a worker, to a webhook and a command."""

import http.server
import json
import threading

import pytest

from uaharvest import assembly
from uaharvest.dead_letters import DeadLetter

PATIENCE = 300  # seconds that a busy machine may take
SECRET = "T0-secret-of-the-webhook"
PERSON = "ann@example.edu"


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.hangs:
            self.server.over.wait()
            return
        self.server.alerts.append(json.loads(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.alerts, server.hangs, server.over = [], False, threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.mark.fault
@pytest.mark.long
def test_a_person_hears_once_of_each_trouble_and_once_of_its_end_whatever_becomes_of_the_receiver(
    start_site, hook, tmp_path
):
    got = tmp_path / "got"
    settings = {
        "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.server_port}/services/{SECRET}",
        "ALERT_COMMAND": f"sh -c 'cat >> {got}'",
        "OPENCAST_PROFILE": "dce",
        "HARVEST_EVERY_SECONDS": "1",
    }
    site = start_site(rows=50, seconds=60, settings=settings)
    site.add_beat(1)

    def by_command():
        lines = [json.loads(line) for line in got.read_text().splitlines()] if got.exists() else []
        return [f"{line['stream']} {line['alert']} {line['state']}" for line in lines]

    def by_webhook():
        return [f"{alert['stream']} {alert['alert']} {alert['state']}" for alert in hook.alerts]

    def until(condition):
        return site.until(condition, ticking=False, patience=PATIENCE)

    def checks():
        return assembly.state(site.settings, site.redis, stream=assembly.ALERTS).ticked_at()

    def some_checks_pass():
        for _ in range(3):
            last = checks()
            until(lambda last=last: checks() != last)

    until(lambda: site.mark() and site.mark().at >= site.end)
    site.simulate("faults", {"path": "any", "kind": "status", "status": 401})
    blocked = ["useractions blocked raised"]
    until(lambda: by_webhook() == by_command() == blocked)
    some_checks_pass()
    site.simulate("faults", method="DELETE")
    until(lambda: len(by_webhook()) > 1 and len(by_command()) > 1)
    some_checks_pass()
    healed = [*blocked, "useractions blocked healed"]
    assert by_webhook() == by_command() == healed

    hook.hangs = True
    before = site.mark().at
    site.dead_letters.put(DeadLetter.of_record("useractions", 1, f"about {PERSON}", {"raw": PERSON}))
    dead = [*healed, "useractions dead letters raised"]
    until(lambda: by_command() == dead)
    until(lambda: site.state.failure() is None and site.mark().at > before)  # it harvests meanwhile
    until(lambda: assembly.state(site.settings, site.redis, stream=assembly.ALERTS).failure())
    assert by_webhook() == healed
    hook.hangs = False
    until(lambda: by_webhook() == dead)
    assert by_command() == dead

    said = json.dumps(hook.alerts) + got.read_text()
    for secret in (SECRET, PERSON):
        assert secret not in said
        assert secret not in site.workers[0].output
