"""Tokens, JWTs, a gateway's header, scopes and plans."""

import time

import jwt
import pytest
import requests

GRANT = {"grant_type": "account_credentials", "account_id": "account"}
MAIN = "/metrics/meetings"


def refusal(answer):
    return answer.status_code, answer.json()["code"], answer.json()["message"]


def main(zoom):
    return zoom.get(MAIN, type="live")


def test_a_token_is_for_an_hour_less_a_second_and_names_its_scopes(zoom):
    answer = zoom.token(**GRANT).json()
    assert answer["token_type"] == "bearer"
    assert answer["expires_in"] == 3599
    assert "dashboard:read:list_meetings:admin" in answer["scope"].split()
    assert answer["api_url"] == zoom.url


def test_the_token_endpoint_takes_the_form_and_the_query(zoom):
    in_query = requests.post(f"{zoom.url}/oauth/token", auth=("key", "secret"), params=GRANT, timeout=60)
    assert in_query.status_code == zoom.token(**GRANT).status_code == 200


@pytest.mark.parametrize(
    ("auth", "form", "error"),
    [
        (("key", "wrong"), GRANT, "invalid_client"),
        (None, GRANT, "invalid_client"),
        (("key", "secret"), {"account_id": "account"}, "invalid_request"),
        (("key", "secret"), {**GRANT, "grant_type": "client_credentials"}, "unsupported_grant_type"),
        (("key", "secret"), {**GRANT, "account_id": "other"}, "invalid_request"),
    ],
)
def test_a_refused_token_says_why(zoom, auth, form, error):
    answer = zoom.token(auth=auth, **form)
    assert answer.status_code == 400
    assert answer.json().keys() == {"reason", "error"}
    assert answer.json()["error"] == error


def test_refusals_of_tokens_have_an_older_shape(start):
    answer = start("--token-errors", "old").token(auth=("key", "wrong"))
    assert answer.status_code == 400
    assert answer.json() == {
        "status": False,
        "errorCode": 4702,
        "errorMessage": "Invalid client_id or client_secret",
        "result": None,
    }


@pytest.mark.parametrize("login", ["", "Bearer garbage", "Basic a2V5OnNlY3JldA=="])
def test_without_a_good_token_it_is_401_and_124(zoom, login):
    answer = requests.get(f"{zoom.url}/v2{MAIN}", headers={"Authorization": login}, timeout=60)
    assert refusal(answer) == (401, 124, "Invalid access token.")


def test_a_token_in_the_query_is_none(zoom):
    token = zoom.session.headers["Authorization"].removeprefix("Bearer ")
    answer = requests.get(f"{zoom.url}/v2{MAIN}", params={"access_token": token}, timeout=60)
    assert refusal(answer) == (401, 124, "Invalid access token.")


def test_a_token_ends(start):
    zoom = start("--token-seconds", 60)
    assert zoom.token().json()["expires_in"] == 60
    assert main(zoom).status_code == 200
    zoom.advance(61)
    assert refusal(main(zoom)) == (401, 124, "Access token is expired.")
    zoom.log_in()
    assert main(zoom).status_code == 200


def test_a_new_token_leaves_the_old_one_alive_or_ends_it(start):
    zoom = start()
    zoom.token()
    assert main(zoom).status_code == 200
    zoom.set(one_token=True)
    zoom.token()
    assert refusal(main(zoom))[:2] == (401, 124)


def test_all_tokens_can_be_revoked_and_issued_ones_are_counted(start):
    zoom = start()
    zoom.control("POST", "revoke")
    assert refusal(main(zoom))[:2] == (401, 124)
    zoom.log_in()
    assert main(zoom).status_code == 200
    assert zoom.requests()["tokens"] == 2


@pytest.mark.parametrize(
    ("claims", "secret", "status", "message"),
    [
        ({}, "secret", 200, None),
        ({"iss": "other"}, "secret", 401, "Invalid access token."),
        ({}, "wrong", 401, "Invalid access token."),
        ({"exp": 1_000_000_000}, "secret", 401, "Access token is expired."),
        ({"exp": None}, "secret", 401, "Invalid access token."),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_a_jwt_is_taken_where_it_is_signed_by_the_key_and_not_over(shared, claims, secret, status, message):
    zoom = shared("--jwt", "on", "--meetings", 1)
    given = {"iss": "key", "exp": 1_900_000_000, **claims}
    token = jwt.encode({name: value for name, value in given.items() if value is not None}, secret, "HS256")
    answer = requests.get(f"{zoom.url}/v2{MAIN}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    assert answer.status_code == status
    assert answer.json().get("message") == message


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_a_jwt_is_not_taken_by_default(zoom):
    token = jwt.encode({"iss": "key", "exp": int(time.time()) + 10_000_000}, "secret", "HS256")
    answer = requests.get(f"{zoom.url}/v2{MAIN}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    assert answer.status_code == 401


def test_a_gateway_asks_for_its_header_and_for_nothing_else(shared):
    zoom = shared("--gateway-header", "X-Api-Key: letmein", "--meetings", 1)
    url = f"{zoom.url}/v2{MAIN}"
    assert requests.get(url, headers={"X-Api-Key": "letmein"}, timeout=60).status_code == 200
    for headers in ({}, {"X-Api-Key": "wrong"}, dict(zoom.session.headers)):
        answer = requests.get(url, headers=headers, timeout=60)
        assert answer.status_code == 401
        assert answer.json()["fault"]["faultstring"] == "Invalid ApiKey"


def test_a_missing_scope_is_named(shared):
    zoom = shared("--scope", "report:read:admin", "--meetings", 1)
    assert refusal(main(zoom)) == (
        400,
        4711,
        "Invalid access token, does not contain scopes:[dashboard:read:list_meetings:admin].",
    )
    # A classic scope is as good as the granular ones.
    assert zoom.get("/report/users", from_="2026-11-20", to="2026-11-20").status_code == 200


def test_without_the_dashboard_its_endpoints_answer_400_and_200(start):
    zoom = start("--plan", "pro")
    expected = (
        400,
        200,
        "This API is only available for Business or higher accounts that have enabled the Dashboard feature.",
    )
    assert refusal(main(zoom)) == expected
    assert refusal(zoom.participants("any")) == expected
    assert zoom.get("/report/users", from_="2026-11-20", to="2026-11-20").status_code == 200
    zoom.set(plan="business")
    assert main(zoom).status_code == 200
    zoom.set(dashboard=False)
    assert refusal(main(zoom)) == expected
    zoom.set(plan="free", limit=["heavy=9/s"])
    answer = zoom.get("/report/users", from_="2026-11-20", to="2026-11-20")
    assert refusal(answer) == (400, 200, "Only available for paid account: account")


def test_every_answer_has_a_tracking_id(zoom):
    answers = [main(zoom), zoom.token(), requests.get(f"{zoom.url}/v2/nothing", timeout=60)]
    ids = [answer.headers["x-zm-trackingid"] for answer in answers]
    assert len(set(ids)) == 3


def test_an_unknown_path_is_404_and_2300(zoom):
    assert refusal(zoom.get("/metrics/nothing"))[:2] == (404, 2300)
    assert refusal(zoom.session.post(f"{zoom.url}/v2/users", timeout=60))[:2] == (404, 2300)
