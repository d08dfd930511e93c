"""Whole runs: real Valkey, SQS, S3 and worker processes, against the simulator."""

import json
from datetime import timedelta

import pytest

ROWS = 50_000


@pytest.fixture(scope="module")
def big_site(start_shared_site):
    """A site that has harvested 50,000 shuffled useractions, while at each request more were written."""
    settings = {
        "HARVEST_BATCH_SIZE": "1000",
        "SQS_EVENTS_PER_MESSAGE": "50",
        # Rows are written up to two minutes before the end of whatever is asked for, so also at the edge of the
        # overlap, where they come too late to be promised; with an overlap beyond all rows there is no such edge.
        "HARVEST_OVERLAP_SECONDS": "86400",
    }
    site = start_shared_site(rows=ROWS, seconds=5_400, workers=2, settings=settings)
    site.simulate("insert-while-reading", {"rows_per_request": 3, "back_seconds": 120})
    site.harvest(site.end)
    site.simulate("insert-while-reading", {"rows_per_request": 0})
    site.settle()
    return site


def test_every_row_before_the_watermark_is_in_the_queue_once_and_no_other(big_site):
    mark = big_site.mark()
    delivered = big_site.delivered()
    assert set(delivered) == big_site.truth(mark.floor, mark.at)
    assert set(delivered.values()) == {1}
    assert len(delivered) > ROWS
    assert mark.at >= big_site.end


def test_the_next_tick_sends_nothing_again(big_site):
    before, mark = big_site.delivered(), big_site.mark()
    big_site.until(lambda: big_site.mark().at > mark.at and big_site.ledger.live() is None)
    assert big_site.delivered() == before


def test_rows_that_appear_late_are_found_and_sent_once(big_site):
    before = big_site.delivered()
    at = big_site.mark().at.timestamp()
    late = [{"created": at - seconds} for seconds in (1, 2, 300, 301, 2_000, 5_000)]
    ids = set(big_site.simulate("rows", {"rows": late})["ids"])
    big_site.settle()
    assert big_site.delivered() - before == dict.fromkeys(ids, 1)


def test_four_workers_give_what_one_gives(start_site):
    one = start_site(workers=1)
    one.harvest(one.end)
    four = start_site(workers=4, simulator=one.simulator)
    four.harvest(four.end)
    # In the first run, and not only when later ones looked for what is late.
    assert [site.state.history()[-1].delivered for site in (one, four)] == [2_000, 2_000]
    contents = [sorted(json.dumps(record, sort_keys=True) for record in site.bodies()) for site in (one, four)]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2_000
    start, end = one.end - timedelta(hours=1), one.end
    assert {json.loads(content)["action_id"] for content in contents[0]} == one.truth(start, end)
