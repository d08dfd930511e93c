"""All keys in Redis: their names, their contents and their lifetimes. No other module builds a key.

Placeholders in the patterns:

    <place>        a stream and its deployment, so that two deployments in one Redis do not collide
    <id>           id of a run
    <known>        a key of known ids: `known:...`, or `run:<id>:sent` for a single run
    <destination>  digest of source and destination
    <account>      digest of Zoom's API and account: all deployments share its token and quotas

Times in scores and values are milliseconds of Redis's own clock; event times are seconds UTC.
"""

import dataclasses
import re

PREFIX = "uaharvest:"
EVERY = f"{PREFIX}*"  # the pattern of all of them, for an ACL
_PART = re.compile(r"<[\w ]+>")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A kind of key. Call it with the values of the placeholders to get a key.

    Attributes:
        pattern: Its name, without PREFIX.
        type: Its Redis type.
        holds: What its value contains.
        lives: Its lifetime after the last write.
    """

    pattern: str
    type: str
    holds: str
    lives: str

    def __call__(self, *parts: object) -> str:
        """Return the key with `parts` in place of the placeholders; a part may be another key."""
        return PREFIX + _PART.sub("%s", self.pattern) % tuple(str(part).removeprefix(PREFIX) for part in parts)


def place(stream: str, deployment: str) -> str:
    """Return the <place> of a stream; `deployment` is a digest, or "" if it is not known."""
    return f"{stream}:{deployment}" if deployment else stream


KEPT = "forever"
UNTIL_THEN = "until then"
WITH_RUN = "as long as the run"
WITH_KNOWN = "as long as the known ids"
OUT_OF_OVERLAP = "until three hours after the footprint has left the overlap"

# The ledger.
SLOT = Key("slot:<place>", "string", "id of the open live run, if there is one", "until the run is closed")
EXPLICIT = Key(
    "explicit:<place>", "set", "ids of the open explicit runs that workers share", "until the runs are closed"
)
RUN = Key(
    "run:<id>", "hash", "the run and its counts", "until it is closed; a day, if it is private to one process"
)
RUN_DUE = Key(
    "run:<id>:due",
    "sorted set",
    "outstanding slices by when they may be claimed: the end of a lease or a back-off",
    WITH_RUN,
)
RUN_HINTED = Key("run:<id>:hinted", "sorted set", "outstanding slices by the time of their last hint", WITH_RUN)
RUN_SLICES = Key("run:<id>:slices", "hash", "by slice: token of its claim, attempts, waits", WITH_RUN)
RUN_SENT = Key("run:<id>:sent", "sorted set", "ids that an explicit run has sent, by event time", WITH_RUN)
RUN_SENT_DAYS = Key("run:<id>:sent:days", "set", "in the profile `stock`: the days of those ids", "a week")
PROGRESS = Key(
    "progress:<place>", "string", "number of completed slices: shows whether all slices fail or only some", KEPT
)

PACE = Key(
    "pace:<place>",
    "hash",
    "for backfills: when the next slice may be read (ms), and rows per slice lately",
    "10 minutes after that time",
)

# The state of a stream.
HISTORY = Key("history:<place>", "list", "the last 50 ended runs, newest first", KEPT)
GAPS = Key(
    "gaps:<place>", "sorted set", "slices that became dead letters, by their end", "until they leave the overlap"
)
FAILED = Key("failed:<place>", "hash", "the newest failure at each place", "until something succeeds there")
COUNTERS = Key("counters:<place>", "hash", "what workers have counted, for `manage.py metrics`", KEPT)
TICKED = Key("ticked:<place>", "string", "time of the last tick from beat", KEPT)
CLOCKS = Key("clocks:<place>", "hash", "how far the clocks of hosts and sources are ahead of Redis's", KEPT)
DELIVERED = Key("delivered:<place>", "string", "the newest watermark seen, seconds UTC", KEPT)
QUEUE = Key("queue:<place>", "string", "JSON: name, time of creation and retention of the queue", KEPT)
LOST = Key("lost:<place>", "hash", "what a person has yet to confirm", "until it is confirmed")
INDEXER = Key("indexer:<place>", "hash", "counts of the indexers, and the last drain", KEPT)
HELD = Key(
    "indexer:held:<place>", "hash", "blocked indices, with the reason and the time", "until they accept documents"
)
ALERTS = Key("alerts:<place>", "hash", "JSON of what a person was alerted to, by stream and kind", KEPT)
ALERTS_WAITING = Key(
    "alerts:<place>:waiting:<receiver>",
    "list",
    "alerts that the receiver has not taken yet, oldest first",
    "a week",
)
ALERTS_LOCK = Key("alerts:<place>:lock", "string", "lock of the worker that sends alerts", "2 minutes")
AUDITS = Key("audits:<place>", "hash", "JSON of the newest audit of each day, for 60 days", KEPT)
AUDIT_LOCK = Key("audits:<place>:lock", "string", "lock of the worker that audits the stream", "15 minutes")
RETENTION = Key("retention:<place>", "string", "JSON of what was deleted last because it was old", KEPT)
RETENTION_LOCK = Key("retention:<place>:lock", "string", "lock of the process that deletes it", "15 minutes")
PROBE = Key("probe", "string", "nothing: `status` checks whether Redis accepts writes", "a second")

# Known ids.
EPOCH = Key("known:<stream>:<destination>", "string", "the current epoch", KEPT)
KNOWN = Key(
    "known:<stream>:<destination>:<epoch>",
    "sorted set or set",
    "confirmed ids, by event time (about 100 bytes each); in the profile `stock`, the days that have any",
    "until they leave the overlap: trimmed at each live commit",
)
SINCE = Key("since:<known>", "string", "start of the time for which ids are known, seconds UTC", WITH_KNOWN)
KNOWN_GAPS = Key(
    "<known>:gaps", "hash", "by slice that became a dead letter: its rows that are not known", WITH_KNOWN
)
PLANNING = Key(
    "<known>:planning", "string", "lock of the worker that plans a window", "a lease after its last renewal"
)
WATCHED = Key("<known>:watched", "sorted set", "footprints that may still grow, by event time", OUT_OF_OVERLAP)
REACH = Key(
    "<known>:reach",
    "hash",
    "by footprint: its end when it was sent, how often it was read again, its session's digest",
    OUT_OF_OVERLAP,
)
SESSIONS = Key(
    "<known>:sessions",
    "hash",
    "by session's digest: its newest footprint, with the event time and the run that read it",
    OUT_OF_OVERLAP,
)
DUE = Key("<known>:due", "sorted set", "footprints to read again, by event time", OUT_OF_OVERLAP)
CLOSED = Key(
    "<known>:closed", "sorted set", "those to read again for the last time, by event time", OUT_OF_OVERLAP
)
REREAD = Key("<known>:reread", "string", "when footprints were last read again, seconds UTC", WITH_KNOWN)

# Known ids of the profile `stock`, by local day.
A_MINUTE_LATER = "until a minute after the day has left the overlap"
DAY = Key("<known>:<day>", "set", 'the day\'s chunks, and "whole", "settled" or "closed"', A_MINUTE_LATER)
DAY_CHUNK = Key("<known>:<day>:<chunk>", "string", "bitmap of ids: 0.2 bytes per id on a busy day", A_MINUTE_LATER)
DAY_EDGES = Key(
    "<known>:<day>:edges", "sorted set", "ids of its first and last minute by event time", A_MINUTE_LATER
)
DAY_GONE = Key("<known>:<day>:gone", "set", "known ids that the source no longer shows", A_MINUTE_LATER)
DAY_TAIL = Key("<known>:<day>:tail", "string", "number of known rows that were recent at the last look", "2 weeks")

# Opencast.
PROFILE = Key("profile:<url>", "string", "the detected profile of the server", "until it is deleted")
THROTTLE = Key("throttle:<url>", "string", "when the next request may be made", UNTIL_THEN)
EPISODE = Key(
    "episode:<source>:part:<mpid>",
    "string",
    "JSON of an episode",
    "`EPISODE_CACHE_EXPIRE`; 60 s if there is no such episode",
)
EPISODE_FOUND = Key("episode:<source>:found", "string", "JSON: episodes found before", "a week")
EPISODE_LOCK = Key("episode:<source>:lock:<mpid>", "string", "lock of the worker that looks it up", "30 s")
EPISODE_TRIES = Key("episode:<source>:tries:<mpid>", "string", "number of failed searches for it", "an hour")
EPISODE_FAILING = Key(
    "episode:<source>:failing:<mpid>", "string", "JSON: why it fails", "5 s, growing to 5 minutes"
)

# Zoom, by account.
TOKEN = Key(
    "zoom:<account>:token",
    "string",
    "JSON; a secret: it gives access to Zoom",
    "until 5 minutes before it expires",
)
TOKEN_LOCK = Key("zoom:<account>:token lock", "string", "lock of the worker that requests a token", "30 s")
TOKEN_REFUSALS = Key("zoom:<account>:token refusals", "string", "number of refused tokens in a row", "an hour")
PLACES = Key("zoom:<account>:places:<label>", "sorted set", "permits, by when they expire", "a window")
QUEUED = Key(
    "zoom:<account>:queue:<label>",
    "sorted set",
    "requested permits, by time of request (microseconds)",
    "10 s",
)
HOLD = Key(
    "zoom:<account>:hold:<label>",
    "string",
    "until when no calls with this label are made, because of a 429",
    UNTIL_THEN,
)
SPENT = Key(
    "zoom:<account>:spent:<cap>", "string", "until when the day's calls are used up, according to Zoom", UNTIL_THEN
)
USED = Key(
    "zoom:<account>:used:<day>",
    "hash",
    "calls that count towards each day cap; `account <cap>`: those of all apps, according to Zoom",
    "3 days",
)
QUOTA_PROBE = Key(
    "zoom:<account>:probe:<cap>", "string", "a call was tried although none seems to be left", "a minute"
)
CALLS = Key("zoom:<account>:calls:<day>", "hash", "number of calls, by label", "35 days")
SOURCE = Key("zoom:<account>:source", "string", "that the account has no Dashboard", "a day")
EXAMPLES = Key("zoom:<account>:examples", "string", "JSON: meetings to try if one is refused", "a day")
ANSWERED = Key(
    "zoom:<account>:answered:<path>", "string", "JSON: the last meeting for which Zoom returned data", "a day"
)
NEUTRAL = Key("zoom:<account>:neutral:<path>", "string", "whether Zoom returns data for other meetings", "30 s")
THROTTLED = Key(
    "zoom:<account>:throttled:<name>",
    "string",
    "how often Zoom answered 429 for a meeting or host right after it answered for another",
    "a day",
)
PAGE = Key("zoom:<account>:page:<page>", "string", "JSON: number of list entries before a page", "1,000 s")

# Zoom, by deployment.
LISTS = Key(
    "zoom:lists:<place>:<run>:<first>:<last>",
    "hash",
    "how far the lists of these days have been read",
    "15 minutes",
)
LISTS_FOUND = Key(
    "zoom:lists:<place>:<run>:<first>:<last>:found", "list", "meetings found in these lists so far", "15 minutes"
)
LISTS_HELD = Key(
    "zoom:lists:<place>:<run>:<first>:<last>:held", "string", "lock of the worker that reads them", "2 minutes"
)
MEETING_SESSIONS = Key(
    "zoom:sessions:<place>:<meeting>",
    "string",
    "how many sessions a meeting had",
    "`ZOOM_LOOKBACK_DAYS` plus a week",
)
LISTED_DEAD = Key(
    "zoom:dead:<place>:<letter>",
    "string",
    "a row of Zoom's lists is a dead letter, or was one until it was dropped",
    "`ZOOM_LOOKBACK_DAYS` plus a week",
)
WAKE = Key("wake:<place>:<run>:<second>", "string", "`advance` has been scheduled for that time", UNTIL_THEN)

# Celery.
WORKERS = Key("workers", "sorted set", "at the broker: workers with their queues, by their last heartbeat", "15 s")
CELERY = Key("celery:<name>", "several", "queues and other data of the broker", "as kombu decides")

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Key))
