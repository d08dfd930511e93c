"""The record of processing: what is stored where, for how long and why, as Markdown made from the rules."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from uaharvest import keys
from uaharvest.keys import Key
from uaharvest.privacy.rules import TABLES, RuleTable


class Store(NamedTuple):
    """A place where data are stored.

    Attributes:
        name: The place, with the setting that names it.
        holds: What it holds.
        why: What that is for.
        lives: For how long.
    """

    name: str
    holds: str
    why: str
    lives: str


_NOTHING = "no personal data"

STORES = (
    Store(
        "SQS queue (`SQS_QUEUE_NAME`)",
        "useractions, below",
        "from the harvest to the indexer or Logstash",
        "until indexed; at most the queue's retention (14 days if the harvest has created it)",
    ),
    Store(
        "Elasticsearch, OpenSearch or SQLite (`ES_HOST`, `DOCUMENTS_URL`)",
        "useractions, episodes, meetings, sessions and what is derived from them, below",
        "reports, dashboards, exports",
        "`RETENTION_…_DAYS`, or `manage.py setup index-templates --retention DAYS`; without, forever",
    ),
    Store(
        "dead letters in S3 (`S3_DEAD_LETTER_PREFIX`)",
        "what could not be delivered: the fields below, and no others",
        "nothing is lost",
        "until replayed or dropped; at most `RETENTION_DEAD_LETTERS_DAYS`, or `setup dead-letters --days DAYS`",
    ),
    Store(
        "watermarks and backfills in S3 (`S3_HARVEST_TS_BUCKET`)",
        _NOTHING,
        "how far everything is harvested",
        "forever",
    ),
    Store(
        "tombstones in S3 (`erasures/`)",
        "keyed digests of the ids of people who were erased",
        "they do not come back",
        "forever",
    ),
    Store("positions of imports in S3 (`imports/`)", "paths of files", "imports can be continued", "forever"),
    Store("positions of exports in S3 (`exports/`)", _NOTHING, "exports to an LRS can be continued", "until sent"),
    Store(
        "LRS (`LRS_URL`), and files that `export`, `report` and `person export` write",
        "what somebody has asked for: viewers by login or pseudonym, with names in reports",
        "handing it on",
        "outside of uaharvest: nothing deletes it, and `person erase` does not reach it",
    ),
    Store("Redis (`REDIS_URL`)", "the keys below", "the state of the harvest", "see below"),
    Store("memory of workers", "rows in work; caches of pseudonyms", "the harvest", "until the worker ends"),
    Store("logs, Loggly, alerts, metrics", _NOTHING, "operation", "as they are configured"),
    Store("Flower (`--persistent`)", "runs and slices; see Redis", "operation", "as it is configured"),
    Store(
        "access log (`ACCESS_LOG_FILE`)",
        "operators: name, host, time, command",
        "who looked at personal data",
        "as it is rotated",
    ),
)

_HOST = "with Zoom's reports, hosts whose lists Zoom refuses: id, or its pseudonym"
_SESSION = "sessions: 12 digits of a SHA-256 of the session, or of its pseudonym"

# What each key in Redis says of people.
PERSONAL: dict[Key, str] = {
    keys.RUN_DUE: _HOST,
    keys.RUN_HINTED: _HOST,
    keys.RUN_SLICES: _HOST,
    keys.GAPS: _HOST,
    keys.CELERY: _HOST,
    keys.LISTS: "with Zoom's reports, the host whose meetings come next: id, or its pseudonym",
    keys.LISTS_FOUND: _HOST,
    keys.REACH: _SESSION,
    keys.SESSIONS: _SESSION,
}
IMPERSONAL = (
    *(
        keys.SLOT,
        keys.EXPLICIT,
        keys.RUN,
        keys.RUN_SENT,
        keys.RUN_SENT_DAYS,
        keys.PROGRESS,
        keys.PACE,
        keys.HISTORY,
    ),
    *(keys.FAILED, keys.COUNTERS, keys.TICKED, keys.CLOCKS, keys.DELIVERED, keys.QUEUE, keys.LOST, keys.INDEXER),
    *(keys.HELD, keys.ALERTS, keys.ALERTS_WAITING, keys.ALERTS_LOCK, keys.AUDITS, keys.AUDIT_LOCK, keys.PROBE),
    *(keys.RETENTION, keys.RETENTION_LOCK),
    *(keys.EPOCH, keys.KNOWN, keys.SINCE, keys.KNOWN_GAPS, keys.PLANNING, keys.WATCHED, keys.DUE, keys.CLOSED),
    *(keys.REREAD, keys.DAY, keys.DAY_CHUNK, keys.DAY_EDGES, keys.DAY_GONE, keys.DAY_TAIL, keys.PROFILE),
    *(keys.THROTTLE, keys.EPISODE, keys.EPISODE_FOUND, keys.EPISODE_LOCK, keys.EPISODE_TRIES),
    *(keys.EPISODE_FAILING, keys.TOKEN, keys.TOKEN_LOCK, keys.TOKEN_REFUSALS, keys.PLACES, keys.QUEUED),
    *(keys.HOLD, keys.SPENT, keys.USED),
    *(keys.QUOTA_PROBE, keys.CALLS, keys.SOURCE, keys.EXAMPLES, keys.ANSWERED, keys.NEUTRAL, keys.PAGE),
    keys.THROTTLED,
    *(keys.LISTS_HELD, keys.MEETING_SESSIONS, keys.LISTED_DEAD, keys.WAKE, keys.WORKERS),
)

_TITLES: dict[RuleTable, str] = {
    "useractions": "Useractions: messages of the queue, and documents",
    "episodes": "Episodes",
    "meetings": "Meetings",
    "sessions": "Sessions: stays of participants in meetings, and their rows in dead letters",
    "viewings": "Viewings, derived from useractions",
    "recordings": "Recordings, derived from useractions",
    "attendance": "Attendance, derived from meetings and sessions",
    "meeting row": "Rows of meetings in dead letters",
}


def markdown() -> str:
    """Return the record as Markdown."""
    return "\n".join([*_stores(), *_fields(), *_keys(), ""])


def _stores() -> Iterator[str]:
    yield "## Stores\n"
    yield from _table(("where", "what", "why", "how long"), STORES)


def _fields() -> Iterator[str]:
    for table, title in _TITLES.items():
        yield f"\n## {title}\n"
        rows = [
            (", ".join(f"`{name}`" for name in rule.names), rule.holds, rule.why, str(rule.kind))
            for rule in TABLES[table]
        ]
        yield from _table(("fields", "what", "why", "what is stored"), rows)


def _keys() -> Iterator[str]:
    yield "\n## Keys in Redis\n"
    yield from _table(
        ("key", "what it says of people", "how long"),
        [(f"`{key.pattern}`", says, key.lives) for key, says in PERSONAL.items()],
    )
    yield f"\nThe other {len(IMPERSONAL)} kinds of keys hold {_NOTHING}; [design.md](design.md#redis) lists them."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"
