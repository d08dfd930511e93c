"""`make demo`: a backlog, live ticks, late rows, documents and reports on two courses, compared with the truth."""

import argparse
import contextlib
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from types import FrameType

import requests

from demo import count, courses
from demo.courses import Course
from demo.site import beat, site
from devservers.keeper import SETTINGS
from devservers.site import EVENTS_PER_MESSAGE, FLOWER_LOGIN, TICK, Site, meetings_day, write_settings
from devservers.stack import ROOT, Child
from uaharvest import assembly, settings
from uaharvest.errors import HarvestError
from uaharvest.settings import Settings

LATE_ROWS = 25
TICKS = 3
REPORTS = ROOT / ".cache" / "demo" / "report"  # stays when the demo has ended
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Courses of the demo</title>
<link rel="stylesheet" href="{series}/assets/report.css">
<main>
<h1>Courses of the demo</h1>
<ul>
{links}
</ul>
</main>
"""
PATIENCE = 90  # seconds until the demo gives up waiting for something


def main() -> None:
    """Run the demo; exit with 1 if something does not start or the counts do not agree."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="stay up at the end, as on a terminal")
    keep = parser.parse_args().keep or (sys.stdin.isatty() and sys.stdout.isatty())
    signal.signal(signal.SIGTERM, _end)
    try:
        with site() as (running, flower):
            os.environ.update(running.environment)
            _show(running, flower, settings.load())
            if keep:
                _stay_up(running, flower)
    except HarvestError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nended before it was done; nothing of it is left running")


def _end(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(running: Site, flower: Child, harvest: Settings) -> None:
    print(f"Python {platform.python_version()}, and on this machine only:")
    for server in running.servers:
        print(f"  {server.name}: {server.url}")
    print(
        f"  2 workers, and Flower ({' / '.join(FLOWER_LOGIN.split(':'))}): {flower.url}\n\n"
        "A backlog, as an operator harvests it:\n  python manage.py enqueue useractions --follow",
        flush=True,
    )
    began = time.monotonic()
    _manage("enqueue", "useractions", "--follow")
    rate = count.delivered(harvest) / (time.monotonic() - began)

    print("\nFrom the queue into documents:\n  python manage.py run index", flush=True)
    _manage("run", "index")

    late = _write_late_rows(running)
    _live_ticks(running, harvest)
    _until(lambda: _all_there(running, harvest), "the last rows")
    pattern = f"--source-index-pattern '{count.ACTIONS}'"
    print(f"The episodes that they name:\n  python manage.py run episodes {pattern}", flush=True)
    _manage("run", "episodes", "--source-index-pattern", count.ACTIONS)
    day = meetings_day()
    print(f"\nZoom's meetings of a day:\n  python manage.py enqueue zoom --date {day} --follow", flush=True)
    _manage("enqueue", "zoom", "--date", day, "--follow")
    _report(running, harvest, late, rate)
    _who_watched(running)


def _who_watched(running: Site) -> None:
    """Harvest what the students of two courses did, write a report on each, and compare these with the truth."""
    first, end = courses.days()
    held = courses.held(running, first)
    class_day = held[1].lectures[0].start.date()
    print("\nWho watched what? The days on which two courses watched their recordings:", flush=True)
    _typed("backfill", "useractions", "--start", f"{first}", "--end", f"{end}")
    _typed("run", "index")
    print("\nA class of the second course, which was in Zoom too:", flush=True)
    _typed("enqueue", "zoom", "--date", f"{class_day}", "--follow")
    print("\nWhat each viewer watched, and who was in the class:", flush=True)
    _typed("run", "viewings", *_span(first, end))
    _typed("run", "attendance", *_span(class_day, class_day + timedelta(days=1)))
    print("\nA report on each course, for its roster:", flush=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    for one in held:
        roster = running.folder / f"{one.series}.csv"
        one.write_roster(roster)
        zoom = ("--zoom", one.meeting) if one.meeting else ()
        output = os.path.relpath(REPORTS / one.series, ROOT)
        title = ("--title", one.title)
        _typed("report", "course", one.series, "--roster", f"{roster}", *zoom, *title, "--output", output)
    links = "\n".join(f'<li><a href="{one.series}/index.html">{one.title}</a></li>' for one in held)
    page = PAGE.format(series=held[0].series, links=links)
    (REPORTS / "index.html").write_text(page, encoding="utf-8")
    _compare(held)


def _compare(held: list[Course]) -> None:
    """Print the reports' numbers beside the simulators' truth."""
    lines = []
    agree = True
    for one in held:
        lines.append(f"  {one.title}, {len(one.students)} students, {len(one.lectures)} lectures")
        for line in courses.compared(one, REPORTS / one.series):
            agree &= line.agree
            said = "agrees" if line.agree else "THEY DO NOT AGREE"
            lines.append(f"    {line.what:<20} {line.reported:>10} {line.truth:>10}   {said}")
    print(
        f"\n{'':<24} {'reported':>10} {'in truth':>10}\n"
        + "\n".join(lines)
        + "\n\nNext: docs/getting-started.md · docs/report.md · python manage.py --help"
        f"\nOpen {os.path.relpath(REPORTS / 'index.html')}",
        flush=True,
    )
    if not agree:
        raise HarvestError("the reports do not agree: this is a defect, please report it with the lines above")


def _typed(*arguments: str) -> None:
    """Show a command as a person would type it, and run it."""
    print(f"  python manage.py {shlex.join(arguments)}", flush=True)
    _manage(*arguments)


def _span(first: date, end: date) -> tuple[str, str, str, str]:
    return "--start", f"{first}T00:00:00Z", "--end", f"{end}T00:00:00Z"


def _manage(*arguments: str) -> None:
    """Run manage.py as a person would; its output goes to our stdout and stderr."""
    if subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, check=False).returncode:
        raise HarvestError(f"`manage.py {' '.join(arguments)}` failed; see above.")


def _write_late_rows(running: Site) -> set[int]:
    """Add rows with long past times at Opencast, as a slow node would."""
    now = datetime.now(UTC).timestamp()
    rows = [{"created": now - 120 - 100 * number} for number in range(LATE_ROWS)]
    answer = requests.post(f"{running.opencast.url}/_sim/rows", json={"rows": rows}, timeout=60)
    return set(answer.json()["ids"])


def _live_ticks(running: Site, harvest: Settings) -> None:
    """Run beat, and show the result of each tick."""
    state = assembly.state(harvest)
    before = {run.id for run in state.history()}
    print(
        f"\nBeat takes over, every {TICK} s (2 minutes in production); {LATE_ROWS} rows of the past hour appear late."
        "\n  delivered per tick:",
        end="",
        flush=True,
    )
    with beat(running.environment):
        for _ in range(TICKS):
            _until(lambda: any(run.id not in before for run in state.history()), "a tick")
            for run in state.history():
                if run.id not in before:
                    before.add(run.id)
                    print(f"  +{run.delivered}", end="", flush=True)
    print("\n", flush=True)


def _all_there(running: Site, harvest: Settings) -> bool:
    """Harvest and index once more; tell whether the documents then match Opencast's rows up to the watermark."""
    for what in ("useractions", "index"):
        subprocess.run([sys.executable, "manage.py", "run", what], cwd=ROOT, check=True, capture_output=True)
    return count.at_opencast(running.opencast.url, harvest) == count.documents(harvest).ids


def _until(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise HarvestError(
                f"{what} did not come within {PATIENCE} s. `python manage.py status` would tell more."
            )
        time.sleep(0.2)


def _report(running: Site, harvest: Settings, late: set[int], rate: float) -> None:
    stored = assembly.watermarks(harvest).read()
    if stored is None:
        raise HarvestError("there is no watermark")
    mark = stored.mark
    truth, sent, found = (
        count.at_opencast(running.opencast.url, harvest),
        count.delivered(harvest),
        count.documents(harvest),
    )
    agree = truth == found.ids and sent == len(truth) and late <= found.ids
    agree &= found.episodes == found.named - found.unpublished
    meetings, sessions = count.at_zoom(running.zoom.url)
    agree &= (found.meetings, found.sessions) == (meetings, sessions)
    print(
        f"\nFrom {mark.floor:%H:%M:%S} to {mark.at:%H:%M:%S} UTC:\n\n"
        "                 at the source    delivered        indexed\n"
        f"  useractions     {len(truth):>12,} {sent:>12,} {len(found.ids):>14,}   "
        f"{'all there, none twice' if agree else 'THEY DO NOT AGREE'}\n"
        f"  of them late    {len(late):>12,} {'':>12} {len(late & found.ids):>14,}   found by comparing counts\n"
        f"  episodes        {len(found.named):>12,} {'':>12} {len(found.episodes):>14,}   "
        f"{len(found.unpublished)} no longer published\n"
        f"  Zoom meetings   {len(meetings):>12,} {'':>12} {len(found.meetings):>14,}\n"
        f"  their sessions  {sessions:>12,} {'':>12} {found.sessions:>14,}\n\n"
        f"The backlog went at {rate:,.0f} useractions a second, {EVENTS_PER_MESSAGE} to a message.\n"
        f"The watermark is {mark.at:%F %H:%M:%S} UTC, at s3://{harvest.bucket}/{harvest.watermark_key}.",
        flush=True,
    )
    if not agree:
        raise HarvestError("the counts do not agree: this is a defect, please report it with the lines above")


def _stay_up(running: Site, flower: Child) -> None:
    """Keep everything running, beat included, so that a person can look around."""
    environment = running.folder / SETTINGS
    write_settings(running.environment, environment)
    python = sys.executable.removeprefix(f"{ROOT}/")
    print(
        f"\nAll of it stays up until Ctrl-C. Flower: {flower.url}\n"
        "To use it from another terminal, in this folder:\n"
        f"  export {settings.ENV_FILE}={environment}\n"
        f"  {python} manage.py status\n"
        f"  {python} manage.py documents list",
        flush=True,
    )
    with beat(running.environment), contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)
    print("\nended; nothing of it is left running")


if __name__ == "__main__":
    main()
