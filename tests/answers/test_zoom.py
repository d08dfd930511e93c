"""Every call of the harvest of Zoom's meetings, with every answer."""

import urllib.parse
from datetime import timedelta

import pytest
import requests

from devservers import stack
from devservers.answers import ANSWERS, Answer, fewer
from devservers.proxy import Proxy, Reply, edited
from tests.answers.policy import (
    CLOCK,
    EVERYTHING,
    ZOOM_ITEM,
    ZOOM_LIST,
    ZOOM_PARTICIPANTS,
    Attack,
    cases,
)
from tests.answers.site import NEVER_LATE, Site, verdict, zoom_environment
from uaharvest.errors import Exit
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.zoom.endpoints import KINDS

DAY = timedelta(days=1)
MEETINGS = 4
TICKS = 5  # enough for a dead letter, where there must be one or must be none
MEETING, HOST = [""], [""]  # those that are attacked
HOSTED = []  # that host's meetings


def zooms(status, code, message="said by Zoom"):
    return Reply(status, f'{{"code": {code}, "message": "{message}"}}'.encode())


def ends(path):
    return lambda call: call.path.endswith(path)


def of_meeting(call):
    uuid = urllib.parse.unquote(urllib.parse.unquote(call.path.rpartition("/participants")[0].rpartition("/")[2]))
    return call.path.endswith("/participants") and uuid == MEETING[0]


def host_lists(call):
    return "/report/users/" in call.path


def null(rows):
    return Answer("200 with null for the list", "garbled", Reply(200, edited(lambda body: body | {rows: None})))


# A 401 may be an old token's, so that a refusal of one call leads to a new token first.
REFUSALS = (
    Answer("400 with Zoom's code 300", "refused", zooms(400, 300)),
    Answer("400 with Zoom's code 4711", "refused", zooms(400, 4711)),
)
ITEMS = (
    Answer("400 with Zoom's code 200", "refused", zooms(400, 200)),
    Answer("403 with Zoom's code 3", "refused", zooms(403, 3)),
)
TOKEN = Attack("Zoom: token", ends("/oauth/token"), EVERYTHING, "Zoom", "zoom")
NOW = Attack("Zoom: clock", ends("/v2/"), CLOCK, "Zoom", "zoom")
LIST = Attack("Zoom: list of meetings", ends("/metrics/meetings"), ZOOM_LIST, "Zoom", "zoom")
ALL = Attack("Zoom: participants", ends("/participants"), ZOOM_PARTICIPANTS, "Zoom", "zoom")
ONE = Attack("Zoom: participants, one meeting", of_meeting, ZOOM_ITEM, "", "zoom")
HOSTS = Attack("Zoom: hosts of the meetings", ends("/report/users"), ZOOM_LIST, "Zoom", "zoom")
R_HOSTS = Attack("Zoom's reports: list of hosts", ends("/report/users"), ZOOM_LIST, "Zoom", "reports")
R_LISTS = Attack("Zoom's reports: meetings", host_lists, ZOOM_LIST, "Zoom", "reports")
R_HOST = Attack(
    "Zoom's reports: meetings, one host",
    lambda call: host_lists(call) and f"/{HOST[0]}/" in call.path,
    ZOOM_ITEM | {"short": {"dead letter"}},
    "",
    "reports",
)
R_ALL = Attack("Zoom's reports: participants", ends("/participants"), ZOOM_PARTICIPANTS, "Zoom", "reports")
R_ONE = Attack("Zoom's reports: participants, one meeting", of_meeting, ZOOM_ITEM, "", "reports")
VERDICTS = cases(
    (TOKEN, ANSWERS),
    (NOW, ANSWERS),
    (LIST, (*ANSWERS, *REFUSALS, null("meetings"), fewer("meetings"))),
    (ALL, (*ANSWERS, *REFUSALS)),
    (ONE, (*ANSWERS, *REFUSALS[:1], *ITEMS)),
    (HOSTS, (*ANSWERS, *REFUSALS, null("users"), fewer("users"))),
    (R_HOSTS, (*ANSWERS, *REFUSALS, null("users"), fewer("users"))),
    (R_LISTS, (*ANSWERS, *REFUSALS, null("meetings"), fewer("meetings"))),
    (R_HOST, (*ANSWERS, *REFUSALS[:1], *ITEMS, null("meetings"), fewer("meetings"))),
    (R_ALL, (*ANSWERS, *REFUSALS)),
    (R_ONE, (*ANSWERS, *REFUSALS[:1], *ITEMS)),
)
READ_AGAIN = [
    pytest.param(attack, fewer("participants"), id=f"{attack.name} - fewer rows than its total")
    for attack in (ALL, R_ALL)
]
CASES = VERDICTS + READ_AGAIN


@pytest.fixture(scope="module")
def proxies(yesterday):
    """An account with a Dashboard, and one without, which has reports only."""
    options = [
        "--meetings",
        str(MEETINGS),
        "--date",
        f"{yesterday:%F}",
        "--days",
        "2",
        "--seed",
        "11",
        "--people",
        "10",
    ]
    options += ["--limit", "heavy+resource-intensive=100000/s"]
    with (
        stack.zoom_simulator(*options) as business,
        stack.zoom_simulator(*options, "--plan", "pro") as pro,
        Proxy(business.url) as zoom,
        Proxy(pro.url) as reports,
    ):
        yield {"zoom": zoom, "reports": reports}


@pytest.fixture(scope="module")
def truth(proxies, yesterday):
    """The number of sessions by the meeting's uuid, of each of the two days, by the account."""
    found = {"zoom": [], "reports": []}
    for day in (yesterday - DAY, yesterday):
        url = f"http://{proxies['zoom'].upstream.netloc}/_sim/truth"
        asked = {"from": f"{day:%F}", "to": f"{day:%F}", "sessions": 1}
        meetings = requests.get(url, params=asked, timeout=10).json()["meetings"]
        sessions = {one["uuid"]: len(one["sessions"]) for one in meetings}
        found["zoom"].append(sessions)
        # The reports list a meeting of one person, and have no participants of it.
        alone = {one["uuid"]: 0 for one in meetings if one["type"] == "pastOne"}
        found["reports"].append(sessions | alone)
    MEETING[0] = max(sessions, key=sessions.get)
    hosted = _hosted(f"http://{proxies['reports'].upstream.netloc}", yesterday)
    HOST[0], HOSTED[:] = next((host, uuids) for host, uuids in hosted.items() if MEETING[0] in uuids)
    assert set(HOSTED) < set(sessions), "the others need a host too"
    return found


def _hosted(url, day):
    """Return the uuids of the meetings of a day by the host's id."""
    form = {"grant_type": "account_credentials", "account_id": "account"}
    token = requests.post(f"{url}/oauth/token", data=form, auth=("key", "secret"), timeout=10).json()[
        "access_token"
    ]

    def ask(path, rows, **params):
        asked = {"from": f"{day:%F}", "to": f"{day:%F}", "page_size": 300, **params}
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{url}/v2/{path}", asked, headers=headers, timeout=10).json()[rows]

    hosts = [user["id"] for user in ask("report/users", "users", type="active")]
    return {
        host: [
            one["uuid"] for kind in KINDS for one in ask(f"report/users/{host}/meetings", "meetings", type=kind)
        ]
        for host in hosts
    }


@pytest.fixture
def make(*, proxies, aws, client, valkey_url, bucket, tmp_path, monkeypatch):
    """Return a function that makes a site behind one of the proxies."""

    def make(proxy):
        environment = zoom_environment(proxies[proxy].url, tmp_path) | {
            "REDIS_URL": valkey_url,
            "S3_HARVEST_TS_BUCKET": bucket,
            "HARVEST_ATTEMPTS": "2",
            "HARVEST_MAX_LAG_SECONDS": NEVER_LATE,
            "DIRECT_AWS": aws,
        }
        return Site("zoom", environment, client, monkeypatch)

    return make


@pytest.mark.parametrize(("attack", "answer"), VERDICTS)
def test_an_answer_gets_the_verdict_of_the_policy_and_nothing_is_lost(
    *, make, truth, proxies, yesterday, attack, answer, tmp_path
):
    site, item = make(attack.proxy), attack in (ONE, R_ONE, R_HOST)
    site.begin(yesterday)
    with proxies[attack.proxy].answering(attack.concerns, answer.reply) as proxy:
        for _ in range(TICKS):
            site.tick()
        assert proxy.answered, "the attack never met a call"
    report, code = site.report()
    dead_letters = site.dead_letters()
    found = verdict(report, dead_letters)
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert found in attack.policy[answer.kind], (found, lines)
    store, sessions = SqliteStore(tmp_path / "documents.db"), truth[attack.proxy][1]
    if item and answer.kind != "throttled":
        refused = set(HOSTED) if attack is R_HOST else {MEETING[0]}
        found_sessions = {one["meeting"] for one in store.select("sessions*")}
        assert {uuid for uuid, count in sessions.items() if count} - refused <= found_sessions
        assert len(dead_letters) == 1
        assert code == 5
        return
    assert dead_letters == []
    if found != "fine":
        assert code == Exit.BLOCKED
        assert any(attack.culprit in line for line in lines), lines
    assert site.heals(yesterday + DAY)
    assert {one["uuid"] for one in store.select("meetings*")} == set(sessions)
    assert len(list(store.select("sessions*"))) == sum(sessions.values())
    assert site.report()[1] == 0


@pytest.mark.parametrize(("attack", "answer"), READ_AGAIN)
def test_fewer_participants_than_their_total_count_as_incomplete_and_are_read_again(
    *, make, truth, proxies, yesterday, attack, answer, tmp_path
):
    site, store, days = make(attack.proxy), SqliteStore(tmp_path / "documents.db"), truth[attack.proxy]
    site.begin(yesterday - DAY)
    with proxies[attack.proxy].answering(attack.concerns, answer.reply):
        site.tick()
    assert len(list(store.select("sessions*"))) < sum(days[0].values())
    assert site.heals(yesterday + DAY)
    first = site.report()[0]["streams"]["zoom"]["last_runs"][-1]
    assert first["counts"]["incomplete"] == sum(count > 1 for count in days[0].values())
    assert len(list(store.select("sessions*"))) == sum(map(sum, (day.values() for day in days)))
    assert site.report()[1] == 0
