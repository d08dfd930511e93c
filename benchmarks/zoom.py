"""`python -m benchmarks.zoom`: harvests a day of meetings; compares it with the fewest calls and the least time.

The account has Zoom's real quotas, answers at once and never fails. Workers, Redis and the document store (SQLite)
are real. The least time follows from the quota: the calls for participants, at the plan's rate per second.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from devservers import stack
from uaharvest import assembly, settings
from uaharvest.errors import HarvestError

GOAL = 1.02  # calls made, relative to the fewest possible
PLAN = "business"
PROCESSES = 4
DAY = (datetime.now(UTC) - timedelta(days=3)).date()  # all its meetings have ended
MEETINGS, FEW_MEETINGS = 1_000, 40


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """The harvest of a day.

    Attributes:
        seconds: From the command's start to its end.
        truth: What the account holds, and the fewest calls needed to read it.
        calls: The calls that the account received.
    """

    seconds: float
    truth: dict[str, Any]
    calls: dict[str, Any]


def harvest(meetings: int) -> Measurement:
    """Harvest a day with `meetings` meetings, and check that nothing is missing.

    Raises:
        HarvestError: Something does not start, or something is missing.
    """
    account = ("--meetings", str(meetings), "--date", f"{DAY}", "--plan", PLAN)
    with (
        tempfile.TemporaryDirectory() as folder,
        stack.valkey() as valkey,
        stack.ministack() as aws,
        stack.zoom_simulator(
            *account, "--account-id", "bench", "--client-id", "key", "--client-secret", "secret"
        ) as zoom,
    ):
        environment = {
            **stack.aws_variables(aws),
            "REDIS_URL": valkey.url,
            "S3_HARVEST_TS_BUCKET": "bench",
            "DOCUMENTS_URL": f"sqlite:///{folder}/documents.db",
            "ZOOM_ACCOUNT_ID": "bench",
            "ZOOM_KEY": "key",
            "ZOOM_SECRET": "secret",
            "ZOOM_PLAN": PLAN,
            "ZOOM_API_URL": f"{zoom.url}/v2/",
            "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
        }
        with stack.celery("worker", "-c", str(PROCESSES), "-Q", "zoom", environment=environment):
            began = time.monotonic()
            command = [sys.executable, "manage.py", "enqueue", "zoom", "--date", f"{DAY}", "--follow"]
            done = subprocess.run(
                command, cwd=stack.ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
            )
            seconds = time.monotonic() - began
        if done.returncode:
            raise HarvestError(f"`{' '.join(command[1:])}` failed:\n{done.stderr}")
        truth = requests.get(f"{zoom.url}/_sim/truth", timeout=60).json()
        found = assembly.document_store(settings.load(environment)).indices()
        there = [
            sum(n for name, n in found.items() if name.startswith(f"{family}-"))
            for family in ("meetings", "sessions")
        ]
        if there != [truth["count"], truth["distinct"]]:
            raise HarvestError(f"{there} of {truth['count']} meetings and {truth['distinct']} sessions are there")
        return Measurement(seconds, truth, requests.get(f"{zoom.url}/_sim/requests", timeout=60).json())


def report(measured: Measurement) -> str:
    """Return the report as text."""
    truth, labels = measured.truth, measured.calls["labels"]
    heavy = labels["Heavy"]
    refused = sum(one["refused"] for one in labels.values())
    made = sum(one["calls"] for one in labels.values()) + refused
    least = sum(truth["least_calls"].values())
    floor = truth["least_calls"]["participants"] / heavy["limit"] * heavy["seconds"]
    verdict = "met" if made / least <= GOAL else "MISSED"
    return (
        f"\nZoom, a day of {truth['count']:,} meetings with {truth['distinct']:,} sessions, plan {PLAN}, "
        f"{PROCESSES} processes:\n"
        f"calls {made:,}, at least {least:,}: {made / least:.3f}, goal {GOAL}: {verdict}\n"
        f"refused {refused}, most Heavy calls in any second {heavy['peak']} of {heavy['limit']}\n"
        f"{measured.seconds:.1f} s, the quota's floor {floor:.1f} s"
    )


def main() -> None:
    """Measure and print; exit with 1 if something does not start or not everything has arrived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoom", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few meetings, to see that it works")
    try:
        print(report(harvest(FEW_MEETINGS if parser.parse_args().quick else MEETINGS)))
    except HarvestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
