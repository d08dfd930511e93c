"""Make the documents of 2,000 viewers of 3 hours; print by how many bytes the process grew, viewers and rows."""

import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from uaharvest.viewing.documents import documents
from uaharvest.viewing.recording import RecordingActions

VIEWERS, BEATS = 2000, 360


def pages():
    """Yield the rows as a store does: page by page, each parsed from JSON."""
    for viewer in range(VIEWERS):
        rows = [
            {
                "action_id": viewer * BEATS + beat,
                "@timestamp": f"2026-11-20T{10 + beat // 120}:{beat // 2 % 60:02}:{beat % 2 * 30:02}.000Z",
                "huid": f"{viewer:08}",
                "session_id": f"node{viewer}",
                "is_live": int(viewer % 10 == 0),
                "action": {"type": "HEARTBEAT", "inpoint": 30 * beat, "outpoint": 30 * beat, "is_playing": True},
                "episode": {
                    "title": "Lecture",
                    "series": "s",
                    "duration": 10_800_000,
                    "start": "2026-11-01T10:00:00Z",
                },
            }
            for beat in range(BEATS)
        ]
        yield from json.loads(json.dumps(rows))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


before = peak()
found = RecordingActions("m", {"anonymous"})
for row in pages():
    found.add(row)
made = sum(1 for _ in documents(found, None)) - 1
print(peak() - before, made, len(found))  # noqa: T201 - the test reads it
