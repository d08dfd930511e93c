"""Logging in: challenges, digest and basic, the login page, and what is open to anybody."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import requests
from requests.auth import HTTPDigestAuth

PATH = "/usertracking/actions.json"
DIGEST = {"X-Requested-Auth": "Digest"}


def get(simulator, path=PATH, headers=None, auth=None, **options):
    return requests.get(
        simulator.url + path, headers=headers, auth=auth, timeout=60, allow_redirects=False, **options
    )


def nonce_of(answer):
    return re.search(r'nonce="([^"]+)"', answer.headers["WWW-Authenticate"])[1]


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def digest_header(nonce, *, uri=PATH, password="opencast", user="admin", qop=True, nc="00000001"):
    secret, asked = md5(f"{user}:Opencast:{password}"), md5(f"GET:{uri}")
    response = md5(f"{secret}:{nonce}:{nc}:abc:auth:{asked}") if qop else md5(f"{secret}:{nonce}:{asked}")
    header = f'Digest username="{user}", realm="Opencast", nonce="{nonce}", uri="{uri}", response="{response}"'
    return {"Authorization": header + (f', qop=auth, nc={nc}, cnonce="abc"' if qop else "")}


@pytest.fixture
def locked(shared):
    return shared("--rows", 10)


def test_who_asks_for_digest_is_challenged_as_by_spring(locked):
    answer = get(locked, headers=DIGEST)
    assert answer.status_code == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert re.fullmatch(r'Digest realm="Opencast", qop="auth", nonce="[A-Za-z0-9+/=]+"', challenge)


def test_digest_of_the_account_is_let_in_and_its_nonce_may_be_used_again(locked):
    nonce = nonce_of(get(locked, headers=DIGEST))
    assert get(locked, headers=digest_header(nonce)).status_code == 200
    assert get(locked, headers=digest_header(nonce, nc="00000002")).status_code == 200
    assert get(locked, headers=digest_header(nonce, qop=False)).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "guess"},
        {"user": "guess"},
        {"uri": "/other"},
        {"nonce": "bm9uc2Vuc2U="},
        {"nonce": base64.b64encode(f"{10**14}:{'0' * 32}".encode()).decode()},
    ],
)
def test_a_wrong_digest_is_challenged_again_and_not_called_stale(locked, wrong):
    nonce = nonce_of(get(locked, headers=DIGEST))
    answer = get(locked, headers=digest_header(**{"nonce": nonce, **wrong}))
    assert answer.status_code == 401
    assert "stale" not in answer.headers["WWW-Authenticate"]


def test_a_digest_without_cnonce_is_refused(locked):
    header = digest_header(nonce_of(get(locked, headers=DIGEST)))
    header["Authorization"] = header["Authorization"].replace(', cnonce="abc"', "")
    assert get(locked, headers=header).status_code == 401


def test_an_expired_nonce_is_stale_only_to_who_knows_the_password(start):
    simulator = start("--rows", 10, "--nonce-seconds", 20)
    nonce = nonce_of(get(simulator, headers=DIGEST))
    assert get(simulator, headers=digest_header(nonce)).status_code == 200
    simulator.control("POST", "clock", {"offset_seconds": 30})
    stale = get(simulator, headers=digest_header(nonce))
    assert stale.status_code == 401
    assert stale.headers["WWW-Authenticate"].endswith(', stale="true"')
    assert "stale" not in get(simulator, headers=digest_header(nonce, password="x")).headers["WWW-Authenticate"]
    assert get(simulator, headers=digest_header(nonce_of(stale))).status_code == 200


@pytest.mark.parametrize(("profile", "login"), [("dce", "/admin-ng/login.html"), ("stock", "/login.html")])
def test_without_a_forcing_header_the_way_leads_to_a_login_page_that_is_200(shared, profile, login):
    simulator = shared("--rows", 10, "--profile", profile)
    answer = get(simulator)
    assert (answer.status_code, answer.headers["Location"]) == (302, simulator.url + login)
    page = requests.get(simulator.url + PATH, timeout=60)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html;charset=utf-8")
    assert get(simulator, headers={"X-Requested-Auth": "digest"}).status_code == 302
    assert get(simulator, headers={"X-Requested-With": "XMLHttpRequest"}).status_code == 419


def test_digest_mode_does_not_look_at_basic(locked):
    assert get(locked, auth=("admin", "opencast")).status_code == 302


def test_basic_mode_takes_basic_unasked_and_no_digest(shared):
    simulator = shared("--rows", 10, "--auth", "basic", "--user", "ben", "--password", "p:ä")
    right = (b"ben", "p:ä".encode())
    assert get(simulator, auth=right).status_code == 200
    wrong = get(simulator, auth=("ben", "guess"))
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (401, 'Basic realm="Opencast"')
    assert get(simulator, headers={"Authorization": "Basic !"}).status_code == 401
    assert get(simulator, headers=DIGEST, auth=HTTPDigestAuth("ben", "p:ä")).status_code == 401


def test_a_basic_challenge_is_given_from_opencast_13_on(shared):
    asked = {"X-Requested-Auth": "Basic"}
    stock = shared("--rows", 10, "--auth", "both", "--profile", "stock")
    assert get(stock, headers=asked).headers["WWW-Authenticate"] == 'Basic realm="Opencast"'
    assert get(stock, auth=("admin", "opencast")).status_code == 200
    assert get(stock, headers=DIGEST, auth=HTTPDigestAuth("admin", "opencast")).status_code == 200
    assert get(shared("--rows", 10), headers=asked).status_code == 302


@pytest.mark.parametrize(
    ("profile", "forcing", "ignored"),
    [
        ("dce", "X-Opencast-Matterhorn-Authorization", "X-Requested-Auth"),
        ("stock", "X-Requested-Auth", "X-Opencast-Matterhorn-Authorization"),
    ],
)
def test_an_open_server_answers_anybody_unless_the_header_of_its_release_forces_a_login(
    shared, profile, forcing, ignored
):
    simulator = shared("--until", "2026-11-20T16:00:00Z", "--rows", 10, "--auth", "open", "--profile", profile)
    assert get(simulator).status_code == 200
    assert get(simulator, headers={ignored: "Digest"}).status_code == 200
    assert get(simulator, headers={forcing: "Digest", "X-Requested-Auth": "Digest"}).status_code == 401
    assert get(simulator, "/workflow/instances.json").status_code == 302
    assert get(simulator, auth=("admin", "guess")).status_code == 401


def test_the_date_is_the_simulated_clock_on_every_answer(start):
    simulator = start("--rows", 10)
    simulator.control("POST", "clock", {"offset_seconds": -(10**9)})
    answers = [get(simulator, headers=DIGEST), get(simulator), get(simulator, "/login.html")]
    answers += [simulator.get(PATH), simulator.get("/nothing")]
    assert [answer.status_code for answer in answers] == [401, 302, 200, 200, 404]
    assert all(answer.headers["Date"].endswith(" GMT") for answer in answers)
    then = datetime.now(UTC) - timedelta(seconds=10**9)
    for answer in answers:
        assert abs(parsedate_to_datetime(answer.headers["Date"]) - then) < timedelta(hours=1)


def test_pyhorn_reads_actions_with_digest(locked):
    from pyhorn import MHClient  # noqa: PLC0415

    client = MHClient(locked.url, "admin", "opencast")
    page = client.get("/usertracking/actions.json", {"limit": 5})
    assert len(page["actions"]["action"]) == 5
    assert len(client.user_actions(limit=7)) == 7
    episode = locked.episodes(state="published")[0]
    assert client.search_episode(episode["id"]).mediapackage.id == episode["id"]
    assert len(client.workflows(mp=episode["id"])) >= 1


def test_from_opencast_20_on_who_is_not_logged_in_gets_403_and_no_login_page(shared):
    simulator = shared("--rows", 10, "--profile", "oc20")
    assert get(simulator).status_code == 403
    assert get(simulator, headers=DIGEST).status_code == 401
    assert get(shared("--rows", 10, "--profile", "oc18")).status_code == 302


def test_usertracking_may_be_switched_off_or_not_for_the_accounts_role(shared):
    off = shared("--rows", 10, "--usertracking", "off")
    assert off.get(PATH).status_code == 404
    assert off.get("/usertracking/action/1.json").status_code == 404
    assert off.get("/search/episode.json").status_code == 200
    assert shared("--rows", 10, "--usertracking", "forbidden").get(PATH).status_code == 403
