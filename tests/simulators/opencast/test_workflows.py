"""The workflow endpoints of both ages."""

import pytest
import requests

from simulators.opencast.workflows import STATES, wanted_states

ARGUMENTS = ("--until", "2026-11-20T16:00:00+00:00", "--rows", 2000)
HOUR = 3_600_000


@pytest.fixture
def dce(shared):
    return shared(*ARGUMENTS)


@pytest.fixture
def stock(shared):
    return shared(*ARGUMENTS, "--profile", "stock")


def instances(simulator, **parameters):
    answer = simulator.get("/workflow/instances.json", **parameters)
    assert answer.status_code == 200
    return answer.json()["workflows"]


def numbered(simulator, number):
    return next(episode for episode in simulator.episodes() if episode["number"] == number)


def test_operations_of_an_old_workflow_are_named_by_id_and_timed_in_milliseconds(dce):
    episode = numbered(dce, 3)
    workflow = instances(dce, mp=episode["id"])["workflow"]
    assert workflow["template"] == "DCE-archive-publish-external"
    assert workflow["mediapackage"]["id"] == episode["id"]
    operations = {operation["id"]: operation for operation in workflow["operations"]["operation"]}
    begin = episode["created_ms"]
    capture, retract = operations["capture"], operations["retract-element"]
    assert (capture["started"], capture["completed"]) == (begin, begin + HOUR)
    assert retract["completed"] == begin + 2 * HOUR + 100_000


def test_a_single_operation_is_an_object(dce):
    workflow = instances(dce, mp=numbered(dce, 1)["id"])["workflow"]
    assert workflow["operations"]["operation"]["id"] == "publish-engage"


def test_a_lecture_on_air_has_a_capture_that_is_not_completed(dce):
    workflow = instances(dce, mp=numbered(dce, 5)["id"])["workflow"]
    assert workflow["state"] == "RUNNING"
    capture = workflow["operations"]["operation"][0]
    assert "started" in capture
    assert "completed" not in capture


def test_workflow_is_absent_an_object_or_an_array(dce):
    assert "workflow" not in instances(dce, mp="nothing")
    assert isinstance(instances(dce, mp=numbered(dce, 1)["id"])["workflow"], dict)
    assert isinstance(instances(dce, mp=numbered(dce, 0)["id"])["workflow"], list)


def test_workflows_are_filtered_by_definition_and_state(dce):
    episode = numbered(dce, 0)["id"]
    wanted = {"mp": episode, "workflowdefinition": "republish"}
    assert instances(dce, **wanted)["workflow"]["template"] == "republish"
    running = instances(dce, state="RUNNING", count=500)
    assert {workflow["state"] for workflow in running["workflow"]} == {"RUNNING"}
    others = instances(dce, state="-RUNNING", count=500)
    assert int(running["totalCount"]) + int(others["totalCount"]) == int(instances(dce)["totalCount"])


def test_workflows_are_paged_by_page_newest_first(dce):
    first = instances(dce)
    assert (first["count"], len(first["workflow"])) == ("20", 20)
    everything = [workflow["id"] for workflow in instances(dce, count=1000)["workflow"]]
    second = instances(dce, count=20, startPage=1)
    assert [workflow["id"] for workflow in second["workflow"]] == everything[20:40]
    assert dce.get("/workflow/instances.json", count="x").status_code == 404


def test_an_unknown_state_drops_the_rest():
    assert wanted_states([]) == frozenset(STATES)
    assert wanted_states(["RUNNING", "PAUSED"]) == {"RUNNING", "PAUSED"}
    assert wanted_states(["RUNNING", "nonsense", "PAUSED"]) == {"RUNNING"}
    assert wanted_states(["-RUNNING"]) == frozenset(STATES) - {"RUNNING"}


def test_new_workflows_are_asked_for_by_media_package(stock):
    episode = numbered(stock, 3)
    path = f"/workflow/mediaPackage/{episode['id']}/instances.json"
    workflow = stock.get(path).json()["workflows"]["workflow"]
    assert workflow["mediaPackageId"] == episode["id"]
    assert "T" in workflow["dateCreated"]
    assert "dateCompleted" in workflow
    operations = {operation["template"]: operation for operation in workflow["operations"]["operation"]}
    assert isinstance(operations["capture"]["id"], int)
    assert operations["capture"]["completed"] == episode["created_ms"] + HOUR
    nothing = stock.get("/workflow/mediaPackage/nothing/instances.json")
    assert nothing.json() == {"workflows": ""}


def test_each_age_knows_only_its_own_path(dce, stock):
    assert stock.get("/workflow/instances.json").status_code == 404
    path = f"/workflow/mediaPackage/{numbered(dce, 3)['id']}/instances.json"
    assert dce.get(path).status_code == 404


def test_workflows_are_for_administrators(shared):
    simulator = shared("--until", "2026-11-20T16:00:00Z", "--rows", 10, "--auth", "open", "--profile", "dce")
    answer = requests.get(
        f"{simulator.url}/workflow/instances.json", headers={"X-Requested-Auth": "Digest"}, timeout=60
    )
    assert answer.status_code == 401
