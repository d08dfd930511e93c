"""`make chaos`: breaks a whole site at random while it harvests, and proves that nothing was lost."""

import argparse
import sys

from chaos.run import Outcome, run
from chaos.schedule import Scale, schedule
from chaos.site import LEASE
from chaos.verdict import CAUSES
from devservers import cluster
from devservers import site as servers
from uaharvest.errors import HarvestError

FIGURES = (
    *("seed", "kills", "losses", "faults", "rows", "lost", "ahead", "watermarks"),
    *("dead letters", "idle ticks", "recovery", "time"),
)


def main() -> None:
    """Run seeds; exit with 1 if one of them finds something wrong."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after another")
    parser.add_argument("--kills", type=int, default=20, help="processes killed per seed (default: %(default)s)")
    parser.add_argument("--losses", type=int, default=5, help="how often Redis loses data (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=90, help="how long faults happen (default: %(default)s)")
    parser.add_argument("--others", type=int, default=4, help="faults of each other kind (default: %(default)s)")
    parser.add_argument(
        "--documents",
        default="auto",
        help="elasticsearch-VERSION, opensearch-VERSION or sqlite (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="only print the faults of the seed")
    given = parser.parse_args()
    documents = _documents() if given.documents == "auto" else given.documents
    scale = Scale(given.seconds, given.kills, given.losses, given.others, LEASE, documents != servers.SQLITE)
    if given.list:
        print("\n".join(map(str, schedule(given.seed, scale))))
        return
    outcomes = []
    try:
        for seed in range(given.seed, given.seed + given.seeds):
            print(f"seed {seed}, documents in {documents}", flush=True)
            outcomes.append(run(seed, scale, documents, lambda line: print(line, flush=True)))
            print(f"{_failures(outcomes[-1:])}\n{_table(outcomes)}\n", flush=True)
    except HarvestError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nended before it was done; nothing of it is left running")
    if any(outcome.verdict.wrong for outcome in outcomes):
        sys.exit(f"{_failures(outcomes)}")


def _documents() -> str:
    """Return the store that can be started: Elasticsearch, or SQLite."""
    product, version = cluster.parse(servers.DOCUMENTS)
    try:
        cluster.fetch(product, version)
    except cluster.CannotFetchError as error:
        print(f"{error} Documents go into SQLite.")
        return servers.SQLITE
    return servers.DOCUMENTS


def _failures(outcomes: list[Outcome]) -> str:
    return "\n".join(f"seed {outcome.seed}: {line}" for outcome in outcomes for line in outcome.verdict.wrong)


def _table(outcomes: list[Outcome]) -> str:
    """Return the figures of all seeds."""
    lines = [[*FIGURES, *CAUSES]]
    for one in outcomes:
        record, verdict = one.record, one.verdict
        numbers = [one.seed, one.kills, one.losses, len(record.faults), len(record.source), verdict.lost]
        numbers += [len(record.ahead), record.marks, record.dead_letters]
        ticks = "never" if record.ticks is None else str(record.ticks)
        repeats = [f"{verdict.repeats[cause]:,}" for cause in CAUSES]
        figures = [
            *(f"{number:,}" for number in numbers),
            ticks,
            f"{record.recovery:.1f} s",
            f"{one.seconds:.0f} s",
        ]
        lines.append([*figures, *repeats])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


if __name__ == "__main__":
    main()
