"""Backfills by real workers, which are killed while Redis loses all that it has."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from uaharvest import assembly

SLOW, RATE = "20", "150"  # rows a second
BATCH = 20


def backfills(site):
    return assembly.backfills(site.settings, "useractions").read()


def begin(start_site, rows, workers, rate):
    """Start a site whose live stream begins where its rows end, and a backfill of all of them."""
    site = start_site(rows=rows, seconds=1_800, workers=workers, settings={"HARVEST_BATCH_SIZE": str(BATCH)})
    site.manage("watermark", "set", f"{site.end:%FT%TZ}")
    start = site.end - timedelta(seconds=1_800)
    done = site.manage(
        *("backfill", "useractions", "--start", f"{start:%FT%TZ}", "--end", f"{site.end:%FT%TZ}"),
        *("--rate", rate, "--detach"),
    )
    assert done.returncode == 0, done.stderr
    [one] = backfills(site).values()
    assert one.expected == rows
    return site, one


def lose_all(site):
    """Kill all workers where they stand, and let Redis lose its data; return how many slices may be repeated."""
    for worker in site.workers:
        worker.kill()
    site.redis.flushall()
    at_work = len(site.workers)
    site.workers.clear()
    site.state.tick(0)
    return at_work


def rows_done(site, one):
    return backfills(site)[one.id].rows


def require_once(site, one, cut_off):
    """Require that each row came, and once, but for the slices that were cut off."""
    start = site.end - timedelta(seconds=1_800)
    delivered = site.delivered()
    assert set(delivered) == site.truth(start, site.end)
    assert delivered.total() - len(delivered) <= cut_off * BATCH
    assert site.mark().at == site.end
    assert site.mark().run != one.run_id


def test_a_backfill_goes_on_after_its_worker_was_killed_and_redis_has_lost_its_data(start_site):
    site, one = begin(start_site, rows=300, workers=1, rate=SLOW)
    site.until(lambda: 60 <= rows_done(site, one) < 250, ticking=False)
    stopped = site.manage("backfill", "stop", one.id[:4])
    assert (stopped.returncode, "stopped" in stopped.stdout) == (0, True)
    cut_off = lose_all(site)
    before = rows_done(site, one)
    assert before < 300

    site.add_worker("-Q", "backfill")
    assert site.manage("backfill", "resume", one.id, "--rate", RATE).returncode == 0
    site.until(lambda: backfills(site)[one.id].state == "done", ticking=False)
    require_once(site, one, cut_off)
    assert rows_done(site, one) == 300
    [listed] = map(json.loads, site.manage("backfill", "list", "--json").stdout.splitlines())
    assert (listed["state"], listed["rows"], listed["share"]) == ("done", 300, 1.0)


@pytest.mark.fault
@pytest.mark.long
def test_a_backfill_harvests_each_row_once_whatever_is_killed_while_the_live_stream_goes_on(start_site):
    site, one = begin(start_site, rows=2_000, workers=3, rate=RATE)
    cut_off = 0
    for share in (0.2, 0.5, 0.8):
        site.until(lambda share=share: backfills(site)[one.id].share >= share)
        cut_off += lose_all(site)
        site.add_workers(3)
        assert site.manage("backfill", "resume", one.id).returncode == 0
    site.until(lambda: backfills(site)[one.id].state == "done")
    delivered = site.delivered()
    start = site.end - timedelta(seconds=1_800)
    assert set(delivered) >= site.truth(start, site.end)
    repeats = sum(count - 1 for row, count in delivered.items() if row in site.truth(start, site.end))
    assert repeats <= cut_off * BATCH
    seconds = (datetime.now(UTC) - one.began_at).total_seconds()
    assert 2_000 / seconds <= int(RATE) + BATCH
