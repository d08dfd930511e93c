"""`python -m benchmarks.privacy`: CPU time of a harvest with personal data protected, compared with one without.

A worker harvests the same useractions as they are, with pseudonyms, and with all protection, in turn.
"""

import argparse
import statistics
import sys

from benchmarks import whole
from benchmarks.site import Site, last, site
from uaharvest.errors import HarvestError

GOAL = 0.9  # of the speed without
ROUNDS, WINDOW = 3, 3600  # seconds of the backlog
PACKED = 50  # useractions in a message: with few, sending hides what protection costs
PSEUDONYMS = {"PRIVACY_PSEUDONYMS": "k2:a-secret-of-sixteen-or-more,k1:an-older-secret-of-sixteen"}
WAYS = {
    "as they are": {},
    "pseudonyms": PSEUDONYMS,
    "all protection": {**PSEUDONYMS, "PRIVACY_ADDRESS": "truncated", "PRIVACY_AGENT": "family"},
}


def main() -> None:
    """Measure and print; exit with 1 if something does not start or not everything has arrived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it works; too little to judge by")
    quick = parser.parse_args().quick
    window, rounds = (120, 1) if quick else (WINDOW, ROUNDS)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        with site(window) as running:
            for _ in range(rounds):
                for way, measured in found.items():
                    measured.append(_cpu(running, way, window))
    except HarvestError as error:
        sys.exit(str(error))
    print("\n| useractions | CPU µs each | of the speed as they are | goal |\n|---|---|---|---|")
    for way, measured in found.items():
        pairs = [one / other for one, other in zip(found["as they are"], measured, strict=True)]
        share = statistics.median(pairs)
        verdict = "" if way == "as they are" else f"{GOAL} {'met' if share >= GOAL else 'MISSED'}"
        print(f"| {way} | {', '.join(f'{one:.1f}' for one in measured)} | {share:.2f} | {verdict} |")


def _cpu(running: Site, way: str, window: int) -> float:
    """Return the CPU time of the worker, microseconds a useraction."""
    environment = running.environment(HARVEST_MAX_WINDOW=window, SQS_EVENTS_PER_MESSAGE=PACKED, **WAYS[way])
    stretch = last(window)
    with whole.workers(1, environment) as crew:
        harvest = whole.Harvest(running, crew, environment)
        harvest.measure(last(window // 4))  # warms up
        running.empty_queue()
        measured = harvest.measure(stretch)
        running.require_ids(running.ids(stretch), way)
    if measured.cpu is None:
        raise HarvestError("this system does not report CPU time")
    return measured.cpu / measured.events * 1e6


if __name__ == "__main__":
    main()
