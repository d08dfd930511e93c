"""Useractions for the benchmarks of the indexer and of bulks."""

from typing import Any

DAY = "2026.11.20"
INDEX = f"useractions-{DAY}"
AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/{}.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.6099.71",
)


def record(number: int) -> dict[str, Any]:
    """Return a record like those that the harvester sends, with one of 61 browsers and 5,000 addresses."""
    return {
        "action_id": number,
        "timestamp": f"2026-11-20T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}+00:00",
        "mpid": f"bd6a996d-4a32-440d-a5f4-{number % 200:012}",
        "session_id": f"node0{number % 5000:09}",
        "huid": f"{number % 5000:08}",
        "useragent": AGENTS[number % 3].format(90 + number % 30),
        "action": {"type": "HEARTBEAT", "inpoint": number % 7200, "outpoint": number % 7200, "length": 0}
        | {"is_playing": True},
        "ip": f"200.70.{number % 5000 // 250}.{number % 250}",
        "is_live": 0,
        "episode": {
            "title": f"Lecture {number % 200}",
            "duration": 7200000,
            "start": "2026-11-18T16:00:00Z",
            "course": "Course 38",
            "series": "20260210038",
            "year": "2026",
            "term": "02",
            "cdn": "10038",
            "type": "S02",
            "description": f"About {number % 200}",
        },
    }
