"""The check of the clocks: this host's, those of the services, and those that beat and workers have compared."""

from collections.abc import Iterator, Mapping

import redis

from uaharvest import assembly
from uaharvest.doctor import database, opencast
from uaharvest.doctor.findings import Finding, fail, ok, skipped, warn
from uaharvest.doctor.site import Site
from uaharvest.indexer import STREAM
from uaharvest.intervals import duration
from uaharvest.runs.state import compared_clocks
from uaharvest.settings import Settings
from uaharvest.status import SHOWN_SKEW

REFERENCE = "Redis"


def compared(site: Site) -> Iterator[Finding]:
    """Compare all clocks with Redis's, which leases and ticks use."""
    ahead = {"this host": 0.0, **site.clocks}
    if REFERENCE not in ahead:
        yield skipped("not compared, because Redis did not answer")
        return
    ahead = {name: seconds - ahead[REFERENCE] for name, seconds in ahead.items() if name != REFERENCE}
    try:
        for clock in compared_clocks(site.redis, places(site)):
            ahead.setdefault(clock.name, clock.ahead)
    except (redis.RedisError, ValueError):  # the checks of Redis report it
        pass
    yield from judge(ahead, site.settings)


def places(site: Site) -> list[str]:
    """Return the places in Redis where the streams and the indexer store their state."""
    return [assembly.place(site.settings, name) for name in (*assembly.streams(site.settings), STREAM)]


def judge(ahead: Mapping[str, float], settings: Settings) -> Iterator[Finding]:
    """Yield the findings for clocks that are so many seconds ahead of Redis's."""
    most = settings.max_skew if settings.max_skew is not None else settings.lag + settings.overlap / 2
    wrong = False
    for name, seconds in ahead.items():
        if abs(seconds) <= SHOWN_SKEW:
            continue
        wrong = True
        way = "ahead of" if seconds > 0 else "behind"
        found = f"the clock of {name} is {duration(abs(seconds))} {way} Redis's"
        if name == opencast.CLOCK and seconds > most:
            yield fail(
                f"{found}, so nothing is harvested (HARVEST_MAX_SKEW_SECONDS)", "Synchronize both with NTP."
            )
        else:
            yield warn(found, "Synchronize both with NTP.")
    node, source = ahead.get(opencast.CLOCK), ahead.get(database.CLOCK)
    if node is not None and source is not None and source - node > settings.overlap:
        wrong = True
        yield fail(
            f"Opencast's clock is {duration(source - node)} behind that of its database: its rows come later than"
            f" HARVEST_OVERLAP_SECONDS ({settings.overlap}) and are lost",
            "Synchronize both with NTP, and look for what is missing with manage.py audit.",
        )
    if not wrong:
        yield ok(f"{', '.join(ahead)}: within {duration(SHOWN_SKEW)} of Redis's")
