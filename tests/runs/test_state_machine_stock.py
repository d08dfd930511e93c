"""The same machine as test_state_machine, over a stock Opencast, at midnight: the window of hidden minutes."""

from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, invariant

from tests.fakes import at
from tests.runs.test_state_machine import LAG, LONGEST, OVERLAP, CalmHarvest, Harvest, check, quiet
from tests.stock import StockWorld

__all__ = ["quiet"]  # a fixture

# Midnight is the noon at which the machine begins.
ZONE = ZoneInfo("Pacific/Fiji")


class StockHarvest(Harvest):
    """Workers at a stock Opencast."""

    harvest_takes = 4  # each request takes its time

    def make_world(self):
        """Return a world of days."""
        return StockWorld(
            self.client,
            opencast_zone=ZONE,
            overlap=OVERLAP,
            max_window=LONGEST,
            lag=LAG,
            batch_size=40,
            default_interval=1,
            lease=7200,
        )

    @initialize(ages=st.lists(st.integers(-60, 90), max_size=12))
    def begin(self, ages):
        self.world.sink.chunk = 2
        self.world.start_at(at(-30))
        self.world.clock.forward(95)
        self.world.opencast.add(*(at(age) for age in ages))
        self.world.engine.advance()

    @invariant()
    def a_valid_live_run_starts_at_the_watermark(self):
        stored, run = self.stored(), self.world.live
        if stored is not None and run is not None and run.etag == stored.etag:
            assert run.window.start == stored.mark.at

    @invariant()
    def what_is_known_has_arrived(self):
        """Say nothing: of a stock Opencast more is known than was sent, what was there before the harvest began."""

    def run_to_quiescence(self):
        # Until the hidden minutes are out of the overlap's reach, rows of them may still be looked for.
        for _ in range(3):
            self.world.clock.forward(OVERLAP)
            super().run_to_quiescence()


class CalmStockHarvest(StockHarvest, CalmHarvest):
    """The same without anything that would excuse a repeat."""


MACHINES = pytest.mark.parametrize("machine", [StockHarvest, CalmStockHarvest], ids=["stormy", "calm"])


@MACHINES
def test_no_row_of_a_stock_opencast_is_lost_or_needlessly_sent_twice(redis, valkey_url, machine):
    check(machine, valkey_url, 25, 30)


@pytest.mark.fault
@pytest.mark.long
@MACHINES
def test_no_row_of_a_stock_opencast_is_lost_or_needlessly_sent_twice_in_many_more_ways(redis, valkey_url, machine):
    check(machine, valkey_url, 150, 50)
