"""A simulator as its users have it: the real process on a free port, ended after the test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from requests.auth import HTTPDigestAuth

ROOT = Path(__file__).parents[3]
UNTIL = "2026-11-20T16:00:00Z"
UNTIL_EPOCH = 1_795_190_400  # the same instant


class Simulator:
    """A running simulator and a session that is logged in with digest, as pyhorn is."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simulators.opencast", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.line = self.process.stdout.readline()
        self.url = self.line.removeprefix("listening on ").strip()
        self.session = requests.Session()
        self.session.auth = HTTPDigestAuth("admin", "opencast")
        self.session.headers.update({"X-Requested-Auth": "Digest", "X-Opencast-Matterhorn-Authorization": "true"})

    def get(self, path, **parameters):
        return self.session.get(self.url + path, params=parameters, timeout=60)

    def page(self, **parameters):
        """The `actions` object of a page."""
        answer = self.get("/usertracking/actions.json", **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["actions"]

    def actions(self, **parameters):
        """The actions of a page, always a list."""
        found = self.page(limit=1_000_000, **parameters).get("action", [])
        return found if isinstance(found, list) else [found]

    def ids(self, **parameters):
        return sorted(action["id"] for action in self.actions(**parameters))

    def control(self, method, path, body=None, **parameters):
        answer = requests.request(method, f"{self.url}/_sim/{path}", json=body, params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def add(self, *rows):
        return self.control("POST", "rows", {"rows": list(rows)})["ids"]

    def truth(self, start, end, **parameters):
        return sorted(self.control("GET", "truth", start=start, end=end, **parameters)["ids"])

    def episodes(self, **wanted):
        found = self.control("GET", "episodes")["episodes"]
        return [episode for episode in found if wanted.items() <= episode.items()]


def stop(simulators):
    """End them the fast way; that they end cleanly when they are asked to is a test of its own."""
    for simulator in simulators:
        simulator.session.close()
        simulator.process.kill()
        simulator.process.wait(timeout=60)
        simulator.process.stdout.close()


@pytest.fixture(scope="session")
def shared():
    """A function that starts simulators which tests with equal arguments share, and leave as they were."""
    running = {}

    def start(*arguments):
        key = json.dumps([str(argument) for argument in arguments])
        if key not in running:
            running[key] = Simulator(*arguments)
        return running[key]

    yield start
    stop(running.values())


@pytest.fixture
def start():
    """A function that starts simulators which live as long as the test."""
    running = []

    def start_one(*arguments):
        running.append(Simulator(*arguments))
        return running[-1]

    yield start_one
    stop(running)
