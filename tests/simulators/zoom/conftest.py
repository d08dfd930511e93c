"""A simulator as its users have it: the real process, and a client that holds a token."""

import json
import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import requests

from devservers import stack

DAY = "2026-11-20"
NOW = "2026-11-22T12:00:00Z"  # what the clock of simulators says at their start
UNLIMITED = ("--limit", "resource-intensive=1000/s", "--limit", "heavy=1000/s", "--limit", "medium+light=1000/s")


class Simulator:
    """A running simulator and a session with its token."""

    def __init__(self, *arguments):
        self.process = stack.zoom_simulator(*map(str, arguments))
        self.url = self.process.url
        self.session = requests.Session()
        self.log_in()

    def token(self, auth=("key", "secret"), params=None, **form):
        form = form or {"grant_type": "account_credentials", "account_id": "account"}
        return requests.post(f"{self.url}/oauth/token", auth=auth, params=params, data=form, timeout=60)

    def log_in(self):
        answer = self.token()
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path, **parameters):
        """The answer to a call; a parameter `from_` is `from`, and the day stands where none is given."""
        if "from_" in parameters:
            parameters["from"] = parameters.pop("from_")
        return self.session.get(f"{self.url}/v2{path}", params=parameters, timeout=60)

    def ok(self, path, **parameters):
        answer = self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def meetings(self, type_="past", **parameters):
        """One page of the main list."""
        window = {"from_": DAY, "to": DAY, "page_size": 300}
        return self.ok("/metrics/meetings", type=type_, **{**window, **parameters})

    def uuids(self, type_="past", **parameters):
        return {meeting["uuid"] for meeting in self.meetings(type_, **parameters)["meetings"]}

    def participants(self, uuid, type_="past", **parameters):
        name = quote(quote(uuid, safe=""), safe="")
        return self.get(f"/metrics/meetings/{name}/participants", type=type_, page_size=300, **parameters)

    def rows(self, uuid, type_="past", **parameters):
        """All participants of a meeting, page after page."""
        found, token = [], None
        while token != "":
            answer = self.participants(uuid, type_, **parameters, **({"next_page_token": token} if token else {}))
            assert answer.status_code == 200, answer.text
            found += answer.json()["participants"]
            token = answer.json()["next_page_token"]
        return found

    def control(self, method, path, body=None, **parameters):
        answer = requests.request(method, f"{self.url}/_sim/{path}", json=body, params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def truth(self, **parameters):
        return self.control("GET", "truth", **parameters)

    def of_kind(self, kind):
        """The meetings that the generator made to show something."""
        return [meeting for meeting in self.truth()["meetings"] if meeting["kind"] == kind]

    def requests(self):
        return self.control("GET", "requests")

    def heavy(self):
        return self.requests()["labels"]["Heavy"]

    def order(self, **fault):
        return self.control("POST", "faults", fault)

    def set(self, **options):
        return self.control("POST", "options", options)

    def advance(self, seconds):
        """Let the clock go forward, from what it says now."""
        now = datetime.strptime(self.get("/users").headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")
        offset = now.replace(tzinfo=UTC).timestamp() - time.time()
        self.control("POST", "clock", {"offset_seconds": offset + seconds})


@pytest.fixture(scope="session")
def shared():
    """A function that starts simulators which tests with equal arguments share, and leave as they were."""
    running = {}

    def start(*arguments):
        key = json.dumps([str(argument) for argument in arguments])
        if key not in running:
            running[key] = Simulator("--date", DAY, "--now", NOW, *arguments)
        return running[key]

    yield start
    stop(running.values())


@pytest.fixture
def start():
    """A function that starts simulators which live as long as the test."""
    running = []

    def start_one(*arguments):
        running.append(Simulator("--date", DAY, "--now", NOW, *arguments))
        return running[-1]

    yield start_one
    stop(running)


@pytest.fixture
def zoom(shared):
    """A simulator with one meeting of each kind, whose quotas nobody reaches; its switches are put back."""
    simulator = shared("--meetings", 30, "--live", 2, *UNLIMITED)
    yield simulator
    simulator.control("DELETE", "faults")
    simulator.control("POST", "reset-requests")


def stop(simulators):
    for simulator in simulators:
        simulator.session.close()
        simulator.process.kill()
        simulator.process.close()
