"""Checks of Opencast: its two hosts, the login, and what usertracking answers."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from uaharvest import assembly
from uaharvest.doctor.findings import Finding, fail, failed, ok, warn
from uaharvest.doctor.site import CONNECTIONS, Site
from uaharvest.opencast import profile as profile_
from uaharvest.opencast.actions import report_omitted
from uaharvest.opencast.client import ADMIN_HOST, NOTHING
from uaharvest.opencast.source import FURTHEST, wrong_zone
from uaharvest.opencast.times import wall_range
from uaharvest.rows.useractions import OMITTED, UserAction
from uaharvest.runs.state import source_clock
from uaharvest.settings import Settings
from uaharvest.streams.specs import useractions

CLOCK = source_clock(useractions.SPEC.name)
# Rows to read, enough to see the zone and what is left out.
_ROWS = 50
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def engage(site: Site) -> Iterator[Finding]:
    """Search for an episode that does not exist: it shows whether the host answers, and the login."""
    with site.timed(CLOCK) as note:
        note(site.opencast.now())
    who = f"user '{site.opencast.user}'" if site.opencast.user else "without a login"
    yield ok(f"{site.opencast.base_url} answers {who} ({site.settings.opencast_auth})")


def admin(site: Site) -> Iterator[Finding]:
    """Ask the admin host for the workflows of a mediapackage that does not exist."""
    client = assembly.opencast_client(site.settings, site.settings.admin_url, CONNECTIONS, ADMIN_HOST)
    client.workflows(NOTHING, site.settings.episodes_workflow)
    yield ok(f"{client.base_url} lists workflows")


def usertracking(site: Site) -> Iterator[Finding]:
    """Ask for a day without useractions, which costs the server nothing and shows whether usertracking is on."""
    site.opencast.actions_of_day(profile_.NEVER.date(), 1)
    yield ok("usertracking is on")


def profile(site: Site) -> Iterator[Finding]:
    """Compare the profile that is used with what `actions.json` knows."""
    used = _profile(site)
    where = "OPENCAST_PROFILE" if site.settings.opencast_profile != "auto" else "as it answered"
    # A stock Opencast ignores start and end, and returns all of its table. `stock` works with every Opencast.
    if used == "dce" and site.opencast.actions(profile_.NEVER, profile_.NEVER, 1).total:
        yield fail(
            f"{site.opencast.base_url} ignores start and end of actions.json; its profile is not dce ({where})",
            "Set OPENCAST_PROFILE=stock and restart the workers.",
        )
        return
    yield ok(f"profile {used} ({where})")


def newest(site: Site) -> Iterator[Finding]:
    """Look at the newest rows: how many there are, their zone, and what Opencast leaves out."""
    now, zone = site.opencast.now(), site.settings.opencast_zone
    if _profile(site) == "stock":
        today = now.astimezone(zone).date()
        page = site.opencast.actions_of_day(today, _ROWS)
        recent, since = page.total, "today"
        page = page if page.total else site.opencast.actions_of_day(today - DAY, _ROWS)
    else:
        hour = wall_range(now - HOUR, now, zone)
        page = site.opencast.actions(hour.first, hour.last, _ROWS)
        recent, since = page.total, "in the last hour"
        # If the zone is wrong, the rows of the last day are elsewhere.
        day = wall_range(now - DAY - FURTHEST, now + FURTHEST, zone)
        page = page if page.total else site.opencast.actions(day.first, day.last, _ROWS)
    yield judge_number(recent, since, any_before=bool(page.total))
    yield from judge_actions(page.actions, site.settings, site.opencast.base_url)


def _profile(site: Site) -> str:
    if site.settings.opencast_profile != "auto":
        return site.settings.opencast_profile
    return profile_.kept_profile(site.redis, site.opencast.base_url) or profile_.ask(site.opencast)


def judge_number(recent: int, since: str, *, any_before: bool) -> Finding:
    """Return the finding for the number of recent useractions."""
    found = f"{recent:,} useraction{'s' * (recent != 1)} {since}"
    if recent or any_before:
        return ok(found)
    return warn(
        f"{found}, and none in the day before",
        "Did nobody watch? Play a lecture and look whether the player reports.",
    )


def judge_actions(actions: Sequence[UserAction], settings: Settings, where: str) -> Iterator[Finding]:
    """Yield findings about the zone and the omitted values of some rows."""
    zone = settings.opencast_zone
    strange = next(
        (one for one in actions if one.created.utcoffset() != one.created.astimezone(zone).utcoffset()), None
    )
    if strange is not None:
        yield failed(wrong_zone(strange.created, zone, where))
    elif actions:
        yield ok(f"times are those of {zone.key}")
    omitted = Counter(itertools.chain.from_iterable(one.omitted for one in actions))
    if said := report_omitted(omitted):
        found, _, remedy = said.partition(". ")
        yield warn(f"of the newest {len(actions)}, {found}", remedy)
    elif actions:
        yield ok(f"no '{OMITTED}' in place of people, addresses and sessions")
