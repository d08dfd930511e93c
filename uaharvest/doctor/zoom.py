"""Checks of Zoom: the token, its scopes, the plan, and the calls left. They take two calls at most."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from uaharvest.doctor.findings import Finding, fail, ok, skipped, warn
from uaharvest.doctor.site import Site
from uaharvest.errors import PutOffError
from uaharvest.runs.state import source_clock
from uaharvest.streams.engines.zoom import zoom_api, zoom_login
from uaharvest.streams.specs import zoom
from uaharvest.zoom.endpoints import KINDS, MEETINGS, PARTICIPANTS, REPORTED_PARTICIPANTS, USER_MEETINGS, USERS
from uaharvest.zoom.failures import NoDashboardError

CLOCK = source_clock(zoom.SPEC.name)
# The calls that a harvest makes.
_DASHBOARD = (MEETINGS, PARTICIPANTS, USERS)
_REPORTS = (USERS, USER_MEETINGS, REPORTED_PARTICIPANTS)
# Share of a day's calls that may be used before somebody should look.
_FEW = 0.9


def reachable(site: Site) -> Iterator[Finding]:
    """Read the API's clock, which takes no token and no call."""
    api = zoom_api(site.settings, site.redis)
    with site.timed(CLOCK) as note:
        note(api.now())
    yield ok(f"{api.base_url} answers")


def token(site: Site) -> Iterator[Finding]:
    """Get the token that all workers share, and look at its scopes."""
    found = zoom_login(site.settings, site.redis).token()
    if found is None:
        yield ok("no token, ZOOM_HEADER alone")
        return
    if not found.scopes:
        yield ok("a token, which does not say what it permits")
        return
    yield judge_scopes(found.scopes)


def judge_scopes(scopes: frozenset[str]) -> Finding:
    """Return the finding for a token's scopes, which say which source is read (see `Dashboard.source`)."""
    reports = not scopes.intersection(MEETINGS.scopes) and scopes.intersection(REPORTED_PARTICIPANTS.scopes)
    name, needed = ("reports", _REPORTS) if reports else ("the Dashboard", _DASHBOARD)
    missing = [endpoint.scopes[0] for endpoint in needed if not scopes.intersection(endpoint.scopes)]
    if not missing:
        return ok(f"the token's scopes permit {name}")
    return fail(
        f"the token's scopes do not permit all that is read from {name}: {', '.join(missing)}",
        f"Give the app the scope{'s' * (len(missing) > 1)} {', '.join(missing)} (docs/zoom.md names all).",
    )


def plan(site: Site) -> Iterator[Finding]:
    """List one meeting of yesterday; without a Dashboard, one user of the reports."""
    api = zoom_api(site.settings, site.redis)
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%F}"
    days = {"from": yesterday, "to": yesterday, "page_size": "1"}
    try:
        try:
            api.ask(MEETINGS, {**days, "type": KINDS[0]}, attempts=1)
            yield ok("meetings are read from the Dashboard")
        except NoDashboardError as error:
            api.ask(USERS, days, attempts=1)
            yield ok(f"meetings are read from the reports, without addresses and devices: {error.item}")
    except PutOffError as error:
        yield skipped(f"no call can be made now: {error}")


def quota(site: Site) -> Iterator[Finding]:
    """Say how many of the day's calls are used."""
    usage = zoom.quota(site.settings, site.redis).usage()
    caps = {used.per_day: used for used in usage.values() if used.per_day}
    for per_day, used in caps.items():
        share = per_day * site.settings.zoom_quota_share // 100
        counted = max(used.counted, used.calls)
        found = f"{counted:,} of {per_day:,} calls of today are used (ZOOM_PLAN {site.settings.zoom_plan})"
        if used.exhausted_until is not None:
            yield warn(
                f"the calls of today are used up until {used.exhausted_until:%F %T} UTC",
                "Nothing is lost. Are ZOOM_PLAN and ZOOM_QUOTA_SHARE right? Other apps share the account's calls.",
            )
        elif counted > _FEW * share:
            yield warn(found, "Other apps share the account's calls; see ZOOM_PLAN and ZOOM_QUOTA_SHARE.")
        else:
            yield ok(found)
