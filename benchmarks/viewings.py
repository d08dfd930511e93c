"""`python -m benchmarks.viewings`: compares the engine of viewings with the query of Open edX Aspects in ClickHouse.

Both get the same useractions, one recording at a time, each in its own process: the engine as Python lists, ClickHouse
(chdb) in its own table. Aspects lists each second that was watched, the engine gives intervals and measures.

Aspects' query is ours by its rule (`SEGMENTS`), which is faster than its own. `--model` names its own:
models/video/fact_video_segments.sql of https://github.com/openedx/aspects-dbt (Apache-2.0).
"""

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from benchmarks.usage import own_peak_memory
from devservers import stack
from uaharvest.errors import HarvestError
from uaharvest.viewing.actions import Actions
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import measures
from uaharvest.viewing.published.aspects import Event, segments

MEMORY_GOAL = 500  # MB
GROWTH_GOAL = 1.1  # of the memory after a tenth of the recordings
DURATION = 3600  # seconds
EACH = 100  # useractions of each viewer of each recording
VERBS = {"PLAY": "played", "SEEK": "seeked", "PAUSE": "paused"}
XAPI = "https://w3id.org/xapi/video/verbs/"

COLUMNS = (
    "event_id UInt64, org String, course_key String, actor_id String, object_id String, verb_id String,"
    " emission_time_long DateTime64(6), video_position Int64, video_duration Int64"
)
EVENTS = f"""
CREATE TABLE events ({COLUMNS}) ENGINE = MergeTree
ORDER BY (object_id, actor_id, emission_time_long)
"""
# The rule of Aspects as `uaharvest.viewing.published.aspects` has it, in one pass without joins.
SEGMENTS = """
WITH
    said AS (
        SELECT org, course_key, actor_id, object_id, video_duration, video_position, emission_time_long AS at,
            verb_id = 'https://w3id.org/xapi/video/verbs/played' AS starts,
            sum(starts) OVER (PARTITION BY org, course_key, actor_id, object_id ORDER BY at, starts) AS play
        FROM {{ ref("video_playback_events") }}
        WHERE verb_id != 'http://adlnet.gov/expapi/verbs/initialized'
    ),
    plays AS (
        SELECT org, course_key, actor_id, object_id, video_duration,
            anyIf(video_position, starts) AS first, argMaxIf(video_position, at, NOT starts) AS last
        FROM said GROUP BY org, course_key, actor_id, object_id, video_duration, play
        HAVING countIf(starts) AND last > first
    )
SELECT org, course_key, actor_id, object_id, video_duration,
    arrayJoin(range(greatest(first, 1), last + 1)) AS watched_segment, count() AS watch_count
FROM plays GROUP BY org, course_key, actor_id, object_id, video_duration, watched_segment
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        recordings: How many the engine gets.
        viewers: Viewers of each.
        by_aspects: How many of the recordings Aspects' query gets: it takes longer.
    """

    recordings: int
    viewers: int
    by_aspects: int


FULL = Scale(recordings=200, viewers=500, by_aspects=10)
QUICK = Scale(recordings=2, viewers=20, by_aspects=1)


class Rows:
    """The useractions of one recording, as lists: each viewer plays, jumps and pauses, again and again."""

    def __init__(self, number: int, viewers: int) -> None:
        rng = np.random.default_rng(number)
        steps = rng.integers(1, 60, (viewers, EACH)).cumsum(1)
        kinds = np.arange(EACH) % 3  # PLAY, SEEK, PAUSE
        jumped = rng.integers(0, DURATION - 120, (viewers, EACH))
        # Where it plays from, for three useractions each; a PLAY is there, a SEEK comes later and jumps, a PAUSE ends.
        begins = np.repeat(jumped[:, ::3], 3, 1)[:, :EACH]
        moved = np.diff(steps, axis=1, prepend=0)
        inpoint = np.where(kinds == 0, begins, np.where(kinds == 1, begins + moved, 0))
        after = np.where(kinds == 1, jumped, 0)
        inpoint[:, 2::3] = after[:, 1::3][:, : inpoint[:, 2::3].shape[1]] + moved[:, 2::3]
        outpoint = np.where(kinds == 1, jumped, inpoint)
        count = viewers * EACH
        self.recording = f"recording-{number:04}"
        self.id = list(range(number * count, (number + 1) * count))
        self.at = (1.7e9 + steps).ravel().tolist()
        self.viewer = [f"{viewer:08}" for viewer in range(viewers) for _ in range(EACH)]
        self.kind = [("PLAY", "SEEK", "PAUSE")[kind] for kind in kinds] * viewers
        self.inpoint = inpoint.ravel().tolist()
        self.outpoint = outpoint.ravel().tolist()

    def actions(self) -> Actions:
        """Return them as the engine takes them."""
        count = len(self.id)
        playing = [kind != "PAUSE" for kind in self.kind]
        of_all: list[Any] = [self.recording] * count
        session = [f"node{viewer}" for viewer in self.viewer]
        return Actions.of_columns(
            *(self.id, self.at, of_all, self.viewer, session, self.kind),
            *(self.inpoint, self.outpoint, playing, [False] * count),
        )

    def lines(self) -> Iterator[str]:
        """Yield them as rows of Aspects' table `video_playback_events`."""
        columns = (self.id, self.viewer, self.kind, self.at, self.inpoint)
        for id_, viewer, kind, at, position in zip(*columns, strict=True):
            verb = f"{XAPI}{VERBS[kind]}"
            yield f"{id_}\torg\tcourse\t{viewer}\t{self.recording}\t{verb}\t{at:.6f}\t{position}\t{DURATION}\n"

    def watched(self) -> int:
        """Return how many seconds were watched by Aspects' rule, each as often as it was."""
        columns = (self.viewer, self.at, self.kind, self.inpoint)
        return segments(
            Event((who,), at, VERBS[kind], x) for who, at, kind, x in zip(*columns, strict=True)
        ).total()


class Stopwatch:
    """Measures the time and CPU time of a process, all threads together."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began
        self.cpu += time.process_time() - self._used


def by_engine(scale: Scale, _: str) -> dict[str, Any]:
    """Work out the viewings of all recordings; return what it took."""
    watch, peaks, found = Stopwatch(), [], 0
    for number in range(scale.recordings):
        rows = Rows(number, scale.viewers)
        durations = {rows.recording: float(DURATION)}
        with watch:
            found += len(measures(viewings(rows.actions(), durations), durations))
        peaks.append(own_peak_memory())
    if found != scale.recordings * scale.viewers:
        raise HarvestError(f"{found:,} viewers of {scale.recordings * scale.viewers:,}")
    return {"seconds": watch.seconds, "cpu": watch.cpu, "early": peaks[len(peaks) // 10], "peak": peaks[-1]}


def by_aspects(scale: Scale, query: str) -> dict[str, Any]:
    """Apply Aspects' rule to the first recordings, one after the other; return what it took."""
    from chdb.session import Session  # noqa: PLC0415 - requirements-bench.txt, and takes seconds to import

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        session = Session(f"{folder}/clickhouse")
        session.query("CREATE DATABASE bench ENGINE = Atomic")
        session.query("USE bench")
        session.query(EVENTS)
        path = Path(folder) / "events.tsv"
        for number in range(scale.by_aspects):
            rows = Rows(number, scale.viewers)
            with path.open("w", encoding="utf-8") as file:
                file.writelines(rows.lines())
            session.query(f"INSERT INTO events SELECT * FROM file('{path}', TSV, '{COLUMNS}')")  # noqa: S608
            of_recording = f"(SELECT * FROM events WHERE object_id = '{rows.recording}')"  # noqa: S608
            sql = _rendered(query, of_recording)
            with watch:
                answer = session.query(f"SELECT sum(watch_count), count() FROM ({sql})", "JSONCompact")  # noqa: S608
            if number == 0:
                [[total, _]] = json.loads(str(answer))["data"]
                if int(total) != rows.watched():
                    raise HarvestError(f"Aspects' query counts {total} seconds, not {rows.watched()}")
        session.close()
    return {"seconds": watch.seconds, "cpu": watch.cpu, "peak": own_peak_memory()}


def _rendered(query: str, events: str) -> str:
    """Return a model of dbt as SQL that reads `events`, whatever it refers to."""
    macros: dict[str, Any] = {"config": lambda **_: "", "get_engine": lambda _: "", "ref": lambda _: events}
    return jinja2.Environment(autoescape=False).from_string(query).render(macros)  # noqa: S701 - no HTML


WAYS = {"engine": by_engine, "aspects": by_aspects}


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one way in its own process and return what it took."""
    command = [sys.executable, "-m", "benchmarks.viewings", "--work", way]
    command += ["--quick"] if options.quick else []
    command += ["--model", options.model.resolve()] if options.model else []
    done = subprocess.run(command, cwd=stack.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarvestError(f"{way} failed: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(scale: Scale, engine: dict[str, float], aspects: dict[str, float] | None) -> str:
    """Return the report as text."""
    lines = [
        f"\n{scale.recordings} recordings of {scale.viewers} viewers with {EACH} useractions each:\n",
        "| way | useractions | s | CPU s | CPU µs each | MB |",
        "|---|--:|--:|--:|--:|--:|",
        _row("engine", scale.recordings * scale.viewers * EACH, engine),
    ]
    growth = engine["peak"] / engine["early"]
    verdicts = [
        _verdict(f"memory under {MEMORY_GOAL} MB", engine["peak"] < MEMORY_GOAL),
        _verdict(f"no more than {growth:.2f} of that after a tenth of the recordings", growth < GROWTH_GOAL),
    ]
    if aspects is None:
        verdicts.append("Aspects was not measured: pip install -r requirements-bench.txt -c constraints.txt")
    else:
        lines.append(_row("Aspects", scale.by_aspects * scale.viewers * EACH, aspects))
        ratios = [
            aspects[what] / scale.by_aspects / (engine[what] / scale.recordings) for what in ("seconds", "cpu")
        ]
        text = "{:.1f} times as fast as Aspects, {:.1f} times by CPU time".format(*ratios)
        verdicts.append(_verdict(text, min(ratios) >= 1))
    return "\n".join([*lines, "", *verdicts])


def _row(way: str, count: int, took: dict[str, float]) -> str:
    each = 1e6 * took["cpu"] / count
    return f"| {way} | {count:,} | {took['seconds']:.1f} | {took['cpu']:.1f} | {each:.2f} | {took['peak']:.0f} |"


def _verdict(what: str, met: bool) -> str:  # noqa: FBT001
    return f"{what}: {'met' if met else 'MISSED'}"


def main() -> None:
    """Measure and print; exit with 1 if a way fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewings", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few useractions, to see that it works")
    parser.add_argument("--model", type=Path, help="Aspects' own query, a file")
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    try:
        if options.work:
            print(json.dumps(WAYS[options.work](scale, options.model.read_text() if options.model else SEGMENTS)))
            return
        engine = measure("engine", options)
        has_chdb = importlib.util.find_spec("chdb") is not None
        print(report(scale, engine, measure("aspects", options) if has_chdb else None))
    except HarvestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
