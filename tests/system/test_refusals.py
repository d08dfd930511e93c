"""One item's refusal, with real workers: the others go on, what is refused is kept, and it is replayed once mended."""

from datetime import timedelta

import pytest

INJECTION = "' OR 1=1 --"


OTHER_ANSWERS = (pytest.mark.fault, pytest.mark.long)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "status", "status": 403}, id="403"),
        pytest.param({"kind": "status", "status": 500}, id="500", marks=OTHER_ANSWERS),
        pytest.param({"kind": "html"}, id="html", marks=OTHER_ANSWERS),
    ],
)
def test_one_episode_that_is_refused_costs_only_the_rows_that_name_it(start_site, fault):
    site = start_site(rows=0, workers=0, settings={"HARVEST_BATCH_SIZE": "50", "HARVEST_ATTEMPTS": "2"})
    lectures = [episode["id"] for episode in site.simulate("episodes")["episodes"][:10]]
    start = site.end - timedelta(seconds=300)
    rows = [
        {
            "created": start.timestamp() + number,
            "mediapackage": INJECTION if number % 20 == 7 else lectures[number % 10],
            "type": "PLAY",
        }
        for number in range(200)
    ]
    ids = site.simulate("rows", {"rows": rows})["ids"]
    refused = {row_id for row_id, row in zip(ids, rows, strict=True) if row["mediapackage"] == INJECTION}
    site.simulate("faults", {"path": "search", "id": INJECTION, **fault})
    site.add_workers(2)
    mark = site.harvest(site.end)
    assert set(site.delivered()) == set(ids) - refused
    assert set(site.delivered().values()) == {1}
    assert sorted(site.dead_letters.names("useractions")) == sorted(
        f"useractions/record-{row_id}" for row_id in refused
    )
    done = [entry for entry in site.state.history() if entry.dead_letters]
    assert sum(entry.dead_letters for entry in done) == len(refused) == 10
    assert mark.at >= site.end
    status = site.manage("status")
    assert "MATTERHORN_REST_USER" not in status.stdout
    assert status.returncode in (4, 5), status.stdout  # 4: no beat is heard here
    assert site.manage("dead-letters", "replay", "--all").returncode == 5  # still refused
    assert set(site.delivered()) == set(ids) - refused
    site.simulate("faults", method="DELETE")
    assert site.manage("dead-letters", "replay", "--all").returncode == 0
    records = {record["action_id"]: record for record in site.bodies()}
    assert set(records) == set(ids)
    assert list(site.dead_letters.names("useractions")) == []
