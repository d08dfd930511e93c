"""The ledger: what Redis remembers of the runs on their way.

Celery messages are only hints; what is left to do, who holds it and what is done stands here. Each change is one
script, so that a worker that dies, is late or does a thing twice leaves a ledger that adds up. Nothing here is
the truth about progress: a Redis that lost its data costs the window and its overlap once more, never an event.

Keys, all below `uaharvest:`:

    slot:<stream>          id of the open live run; there is one at most
    asked:<stream>         ids of the open explicit runs that the workers share
    run:<id>               hash: the run and its counts
    run:<id>:due           sorted set: outstanding slices by the time at which they may be claimed. A claimed slice
                           is due again when its lease ends, a parked one when its back-off does.
    run:<id>:hinted        sorted set: outstanding slices by the time of their last hint (message)
    run:<id>:slices        hash: what is known of a slice: token of its claim, attempts, waits
    blocked:<stream>       hash: why the stream stands still, and since when; opening and working apart
    history:<stream>       the last runs that ended, newest first
    ticked:<stream>        when `advance` was last called by beat
    gaps:<stream>          sorted set: slices that became dead letters, by their end
    progress:<stream>      slices completed so far: tells an outage from a slice that alone fails

Times in scores are milliseconds of Redis's own clock, so that no two hosts disagree about a lease.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import redis

from uaharvest.runs.windows import Interval

PREFIX = "uaharvest:"
HISTORY_LENGTH = 50
# A run that only this process works at (other sink or source) leaves nothing behind if the process dies.
PRIVATE_TTL = 86_400

_COMMON = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local run = KEYS[1]
local due, hinted, slices = run .. ':due', run .. ':hinted', run .. ':slices'
local function slice_state(slice)
  local text = redis.call('HGET', slices, slice)
  return text and cjson.decode(text) or {attempts = 0, waits = 0}
end
-- A private run has a time limit, and a key that is made anew gets it too.
local function end_with_run()
  local rest = redis.call('PTTL', run)
  if rest < 0 then return end
  for _, key in ipairs({due, hinted, slices, run .. ':sent'}) do redis.call('PEXPIRE', key, rest) end
end
local function add(slice, attempts)
  if redis.call('ZADD', due, 'NX', 0, slice) == 0 then return 0 end
  redis.call('HSET', slices, slice, cjson.encode({attempts = attempts, waits = 0}))
  return 1
end
local function remove(slice)
  redis.call('ZREM', hinted, slice)
  redis.call('HDEL', slices, slice)
  return redis.call('ZREM', due, slice) == 1
end
"""

# KEYS: run, slot or asked. ARGV: id, kind, fields (JSON), slices (JSON), prefix of runs.
_OPEN = """
if ARGV[2] == 'live' then
  local holder = redis.call('GET', KEYS[2])
  if holder and redis.call('EXISTS', ARGV[5] .. holder) == 1 then return 0 end
  redis.call('SET', KEYS[2], ARGV[1])
elseif ARGV[2] == 'explicit' then
  redis.call('SADD', KEYS[2], ARGV[1])
end
for field, value in pairs(cjson.decode(ARGV[3])) do redis.call('HSET', run, field, value) end
local planned = 0
for _, slice in ipairs(cjson.decode(ARGV[4])) do planned = planned + add(slice, 0) end
redis.call('HSET', run, 'planned', planned, 'done', 0)
return 1
"""

# ARGV: id or '' for the one in the slot. Returns {id, fields, outstanding}.
_LOOK = """
local id = ARGV[1]
if id == '' then
  id = redis.call('GET', KEYS[2])
  if not id then return {} end
  run = run .. id
end
return {id, redis.call('HGETALL', run), redis.call('ZCARD', run .. ':due')}
"""

# ARGV: most, hold (ms). A hint that is younger than `hold` is trusted to be on its way.
_TAKE = """
local most, hold, instant, taken = tonumber(ARGV[1]), tonumber(ARGV[2]), now(), {}
for _, slice in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', instant)) do
  if #taken >= most then break end
  local hint = redis.call('ZSCORE', hinted, slice)
  if not hint or tonumber(hint) + hold <= instant then
    redis.call('ZADD', hinted, instant, slice)
    taken[#taken + 1] = slice
  end
end
end_with_run()
return taken
"""

# ARGV: slice, token, lease (ms). Returns {attempts, waits, progress seen or -1}, or nothing.
_CLAIM = """
local score = redis.call('ZSCORE', due, ARGV[1])
if not score or tonumber(score) > now() then return {} end
local state = slice_state(ARGV[1])
state.token, state.attempts = ARGV[2], state.attempts + 1
redis.call('HSET', slices, ARGV[1], cjson.encode(state))
redis.call('ZADD', due, now() + tonumber(ARGV[3]), ARGV[1])
return {state.attempts, state.waits, state.progress or -1}
"""

# ARGV: slice, token, lease (ms).
_RENEW = """
if not redis.call('ZSCORE', due, ARGV[1]) or slice_state(ARGV[1]).token ~= ARGV[2] then return 0 end
redis.call('ZADD', due, now() + tonumber(ARGV[3]), ARGV[1])
return 1
"""

# Returns the first of the outstanding slices if each of them was put off before.
_FOREMOST = """
local first = false
for _, slice in ipairs(redis.call('ZRANGE', due, 0, -1)) do
  if slice_state(slice).waits == 0 then return false end
  if not first or slice < first then first = slice end
end
return first
"""

# KEYS: run, progress. ARGV: slice, found, dead. A slice that was given up is no success of the source.
_COMPLETE = """
if not remove(ARGV[1]) then return 0 end
-- ARGV[4]: what else the stream counts (JSON).
for name, count in pairs(cjson.decode(ARGV[4])) do redis.call('HINCRBY', run, 'count:' .. name, count) end
redis.call('HINCRBY', run, 'done', 1)
redis.call('HINCRBY', run, 'found', ARGV[2])
redis.call('HINCRBY', run, 'dead', ARGV[3])
if tonumber(ARGV[2]) > 0 or tonumber(ARGV[3]) == 0 then redis.call('INCR', KEYS[2]) end
return 1
"""

# ARGV: slice, parts (JSON), attempts that each part has behind it.
_SPLIT = """
if not remove(ARGV[1]) then return 0 end
local added = 0
for _, part in ipairs(cjson.decode(ARGV[2])) do added = added + add(part, tonumber(ARGV[3])) end
redis.call('HINCRBY', run, 'planned', added - 1)
end_with_run()
return 1
"""

# KEYS: run, progress. ARGV: slice, token, delay (ms), attempts, waits, reason.
_RELEASE = """
if not redis.call('ZSCORE', due, ARGV[1]) or slice_state(ARGV[1]).token ~= ARGV[2] then return 0 end
redis.call('HSET', slices, ARGV[1], cjson.encode({
  attempts = tonumber(ARGV[4]), waits = tonumber(ARGV[5]), progress = tonumber(redis.call('GET', KEYS[2]) or 0)}))
redis.call('ZADD', due, now() + tonumber(ARGV[3]), ARGV[1])
redis.call('ZREM', hinted, ARGV[1])
redis.call('HSET', run, 'trouble', ARGV[6])
return 1
"""

# KEYS: run, sets of known ids (any number). ARGV: how many were delivered, then score, id, score, id ...
# A run that is gone is not brought back by a late count; the ids are known all the same: they were confirmed.
_MARK = """
local members = {}
for n = 2, #ARGV do members[#members + 1] = ARGV[n] end
for n = 2, #KEYS do redis.call('ZADD', KEYS[n], unpack(members)) end
if redis.call('EXISTS', run) == 1 then redis.call('HINCRBY', run, 'delivered', ARGV[1])
else redis.call('UNLINK', run .. ':sent') end
end_with_run()
return 1
"""

# ARGV: name, count, name, count ... A run that is gone is not brought back.
_COUNT = """
if redis.call('EXISTS', run) == 0 then return 0 end
for n = 1, #ARGV, 2 do redis.call('HINCRBY', run, 'count:' .. ARGV[n], ARGV[n + 1]) end
return 1
"""

# ARGV: the window that is done, the next one, slices (JSON).
_NEXT_WINDOW = """
if redis.call('HGET', run, 'window') ~= ARGV[1] or redis.call('ZCARD', due) > 0 then return 0 end
redis.call('HSET', run, 'window', ARGV[2])
local planned = 0
for _, slice in ipairs(cjson.decode(ARGV[3])) do planned = planned + add(slice, 0) end
redis.call('HINCRBY', run, 'planned', planned)
end_with_run()
return 1
"""

# KEYS: run, slot, asked, history. ARGV: id, history entry (JSON).
_CLOSE = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
redis.call('SREM', KEYS[3], ARGV[1])
if redis.call('UNLINK', run) == 0 then return 0 end
redis.call('UNLINK', due, hinted, slices, run .. ':sent')
redis.call('LPUSH', KEYS[4], ARGV[2])
redis.call('LTRIM', KEYS[4], 0, tonumber(ARGV[3]) - 1)
return 1
"""

Kind = Literal["live", "explicit", "private"]
Outcome = Literal["done", "void"]
# Where a stream stands still: opening a run, or working at its slices; what succeeds at one says nothing of the
# other.
Place = Literal["opening", "working"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the ledger has it.

    Attributes:
        id: Random, so that nothing that survives a lost Redis can complete another run's slice.
        stream: Name of its stream.
        kind: `live` follows the watermark; `explicit` was asked for and is shared with the workers; `private` was
            asked for and is worked at by one process only, because its source or sink is not the configured one.
        asked: All that it harvests; for a live run its window.
        window: The part on its way now; an explicit run goes on window by window.
        etag: The watermark's ETag when it was opened, if it may move the watermark.
        epoch: Known ids are kept per epoch.
        known_from: Rows from here on are marked as known when delivered; None: none are.
        batch_size: Most rows per request.
        wait: Least seconds between two requests to the source, shared by all workers.
        opened_at: By the clock of the host that opened it.
        destination: Digest of source and queue: who has others neither works at it nor commits it. Runs of earlier
            versions have none.
        planned, done, outstanding: Slices.
        counts: What else its stream counts, by name.
        expected: Rows that the source said there are in `asked`.
        trouble: Why a slice was put off last.
        found, delivered, dead: Rows in the slices that are done; confirmed by the sink; made dead letters.
    """

    id: str
    stream: str
    kind: Kind
    asked: Interval
    window: Interval
    etag: str | None
    epoch: str
    known_from: datetime | None
    batch_size: int
    wait: int
    opened_at: datetime
    destination: str = ""
    planned: int = 0
    done: int = 0
    outstanding: int = 0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    expected: int = 0
    found: int = 0
    delivered: int = 0
    dead: int = 0
    trouble: str = ""

    @property
    def finished(self) -> bool:
        """Tell whether this window is delivered: needs positive proof, an empty ledger proves nothing."""
        return self.planned == self.done and not self.outstanding


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One worker's lease of a slice.

    Attributes:
        slice_id: Which.
        token: Random; tells this claim from a later one of the same slice.
        attempts: Attempts used up, this one included.
        waits: Times in a row that the slice was put off; sets the length of the next back-off.
        progress: Slices that the stream had completed when this one failed last; None before.
    """

    slice_id: str
    token: str
    attempts: int
    waits: int
    progress: int | None


class Ledger:
    """The ledger of one stream."""

    def __init__(self, client: "redis.Redis", stream: str, *, lease: float) -> None:
        """Use `client`, which decodes responses; `lease` in seconds."""
        self.redis = client
        self.stream = stream
        self.lease = lease
        self._scripts = {
            name: client.register_script(_COMMON + body)
            for name, body in {
                "open": _OPEN,
                "look": _LOOK,
                "take": _TAKE,
                "claim": _CLAIM,
                "renew": _RENEW,
                "foremost": _FOREMOST,
                "complete": _COMPLETE,
                "split": _SPLIT,
                "release": _RELEASE,
                "mark": _MARK,
                "count": _COUNT,
                "next window": _NEXT_WINDOW,
                "close": _CLOSE,
            }.items()
        }

    def open(self, run: Run, slices: Sequence[str]) -> bool:
        """Write the whole ledger of `run`, and for a live run take the slot; False if the slot was taken."""
        fields = {
            "stream": run.stream,
            "kind": run.kind,
            "asked": str(run.asked),
            "window": str(run.window),
            "etag": run.etag or "",
            "epoch": run.epoch,
            "destination": run.destination,
            "known_from": str(run.known_from.timestamp()) if run.known_from else "",
            "batch_size": str(run.batch_size),
            "wait": str(run.wait),
            "opened_at": str(run.opened_at.timestamp()),
            "expected": str(run.expected),
        }
        where = self._key("slot") if run.kind == "live" else self._key("asked")
        arguments = [run.id, run.kind, json.dumps(fields), json.dumps(slices), PREFIX + "run:"]
        opened = self._call("open", run.id, [where], arguments)
        if run.kind == "private":
            self._expire(run.id)
        return bool(opened)

    def live(self) -> Run | None:
        """Return the open live run."""
        return self._run(self._scripts["look"](keys=[PREFIX + "run:", self._key("slot")], args=[""]))

    def run(self, run_id: str) -> Run | None:
        """Return the open run `run_id`."""
        return self._run(self._call("look", run_id, [], [run_id]))

    def asked(self) -> list[str]:
        """Return the ids of the open explicit runs that the workers share."""
        return sorted(str(run_id) for run_id in self.redis.smembers(self._key("asked")))

    def take(self, run_id: str, most: int) -> list[str]:
        """Return up to `most` slices that are due and not hinted at lately; they count as hinted now."""
        return list(self._call("take", run_id, [], [most, int(self.lease * 1000)]))

    def claim(self, run_id: str, slice_id: str, token: str) -> Claim | None:
        """Lease `slice_id` and count the attempt; None if it is done, not due yet, or another's."""
        answer = self._call("claim", run_id, [], [slice_id, token, int(self.lease * 1000)])
        if not answer:
            return None
        attempts, waits, progress = map(int, answer)
        return Claim(slice_id, token, attempts, waits, None if progress < 0 else progress)

    def renew(self, run_id: str, claim: Claim) -> bool:
        """Begin the lease anew; False if the slice is done or another's by now."""
        return bool(self._call("renew", run_id, [], [claim.slice_id, claim.token, int(self.lease * 1000)]))

    def foremost(self, run_id: str) -> str | None:
        """Return the first outstanding slice if all that are have failed; None while one may yet succeed."""
        answer = self._call("foremost", run_id, [], [])
        return str(answer) if answer else None

    def complete(
        self, run_id: str, slice_id: str, *, found: int, dead: int = 0, counts: Mapping[str, int] | None = None
    ) -> bool:
        """Take the slice out, once; all of it is confirmed."""
        arguments = [slice_id, found, dead, json.dumps(dict(counts or {}))]
        return bool(self._call("complete", run_id, [self._key("progress")], arguments))

    def split(self, run_id: str, slice_id: str, parts: Iterable[str], *, attempts: int = 0) -> bool:
        """Put `parts` in the place of the slice, if it is still outstanding."""
        return bool(self._call("split", run_id, [], [slice_id, json.dumps(list(parts)), attempts]))

    def release(self, run_id: str, claim: Claim, *, delay: float, attempts: int, waits: int, reason: str) -> bool:
        """Give the slice back; it may be claimed again after `delay` seconds."""
        arguments = [claim.slice_id, claim.token, int(delay * 1000), attempts, waits, reason]
        return bool(self._call("release", run_id, [self._key("progress")], arguments))

    def mark(
        self, run_id: str, known: Sequence[str], rows: Sequence[tuple[float, int | str]], *, delivered: int
    ) -> None:
        """Put `rows` (event time, id; 1,000 at most) into the sets `known` and count them, in one step."""
        arguments: list[float | int | str] = [delivered]
        for row in rows:
            arguments += row
        self._call("mark", run_id, known, arguments)

    def count(self, run_id: str, counts: Mapping[str, int]) -> None:
        """Add to what the stream counts, by name."""
        if counts:
            self._call("count", run_id, [], [part for item in counts.items() for part in item])

    def next_window(self, run: Run, window: Interval, slices: Sequence[str]) -> bool:
        """Let an explicit run go on with `window`, once, if all of its present one is done."""
        arguments = [str(run.window), str(window), json.dumps(slices)]
        opened = self._call("next window", run.id, [], arguments)
        if run.kind == "private":
            self._expire(run.id)
        return bool(opened)

    def close(self, run: Run, outcome: Outcome, note: str = "") -> bool:
        """Forget the run, free the slot if it is this run's, and put its outcome into the history, once."""
        entry = {
            "id": run.id,
            "kind": run.kind,
            "start": f"{run.asked.start:%FT%TZ}",
            "end": f"{run.asked.end:%FT%TZ}",
            "outcome": outcome,
            "note": note,
            "slices": run.done,
            "records": run.found,
            "delivered": run.delivered,
            "dead_letters": run.dead,
            "counts": dict(run.counts),
            "seconds": round((datetime.now(UTC) - run.opened_at).total_seconds(), 1),
            "closed_at": f"{datetime.now(UTC):%FT%TZ}",
        }
        keys = [self._key("slot"), self._key("asked"), self._key("history")]
        return bool(self._call("close", run.id, keys, [run.id, json.dumps(entry), HISTORY_LENGTH]))

    def history(self) -> list[dict[str, Any]]:
        """Return the last runs that ended, newest first."""
        # Entries of earlier versions have no counts.
        return [{"counts": {}, **json.loads(entry)} for entry in self.redis.lrange(self._key("history"), 0, -1)]

    def progress(self) -> int:
        """Return how many slices the stream has completed since Redis was empty."""
        return int(self.redis.get(self._key("progress")) or 0)

    def block(self, place: Place, reason: str, exit_code: int) -> None:
        """Let `reason` stand on the stream; since when is kept while the reason stays the same."""
        standing = self.redis.hget(self._key("blocked"), place)
        if not standing or json.loads(standing)["reason"] != reason:
            entry = {"reason": reason, "since": f"{datetime.now(UTC):%FT%TZ}", "exit_code": int(exit_code)}
            self.redis.hset(self._key("blocked"), place, json.dumps(entry))

    def unblock(self, place: Place) -> None:
        """Take the reason away: something succeeded there."""
        self.redis.hdel(self._key("blocked"), place)

    def blocked(self, place: Place | None = None) -> dict[str, Any] | None:
        """Return why the stream stands still (reason, since, exit_code), anywhere or at `place`, or None."""
        reasons = self.redis.hgetall(self._key("blocked"))
        if place:
            reasons = {place: reasons[place]} if place in reasons else {}
        return json.loads(next(iter(reasons.values()))) if reasons else None

    def forget(self, run_id: str) -> None:
        """Drop the id of an explicit run that a lost Redis has taken."""
        self.redis.srem(self._key("asked"), run_id)

    def gaps(self) -> list[Interval]:
        """Return the slices that became dead letters: late rows are not looked for there."""
        return [Interval.parse(str(text)) for text in self.redis.zrange(self._key("gaps"), 0, -1)]

    def add_gap(self, interval: Interval) -> None:
        """Note a slice that became a dead letter."""
        self.redis.zadd(self._key("gaps"), {str(interval): interval.end.timestamp()})

    def drop_gap(self, gap: Interval) -> None:
        """Forget one gap: it was harvested after all."""
        self.redis.zrem(self._key("gaps"), str(gap))

    def drop_gaps(self, after: datetime) -> None:
        """Forget the gaps from `after` on: that time is harvested again."""
        again = [str(gap) for gap in self.gaps() if gap.start >= after]
        if again:
            self.redis.zrem(self._key("gaps"), *again)

    def trim_gaps(self, before: datetime) -> None:
        """Forget the gaps that end before `before`."""
        self.redis.zremrangebyscore(self._key("gaps"), "-inf", before.timestamp())

    def slices(self, run_id: str) -> dict[str, int]:
        """Count the outstanding slices of a run: due, claimed by a worker, put off for later."""
        seconds, microseconds = self.redis.time()
        now = seconds * 1000 + microseconds // 1000
        due: Any = self.redis.zrange(f"{PREFIX}run:{run_id}:due", 0, -1, withscores=True)
        states = self.redis.hgetall(f"{PREFIX}run:{run_id}:slices")
        counts = {"due": 0, "claimed": 0, "put_off": 0}
        for slice_id, score in due:
            if score <= now:
                counts["due"] += 1
            else:
                counts["claimed" if "token" in json.loads(states.get(slice_id, "{}")) else "put_off"] += 1
        return counts

    def next_due(self, run_id: str) -> datetime | None:
        """Return when the first outstanding slice may be claimed, or its lease ends; None if there is none."""
        first: Any = self.redis.zrange(f"{PREFIX}run:{run_id}:due", 0, 0, withscores=True)
        return datetime.fromtimestamp(first[0][1] / 1000, UTC) if first else None

    def tick(self) -> None:
        """Note that beat is alive."""
        self.redis.set(self._key("ticked"), datetime.now(UTC).timestamp())

    def ticked_at(self) -> datetime | None:
        """Return when beat was last seen alive."""
        text = self.redis.get(self._key("ticked"))
        return datetime.fromtimestamp(float(text), UTC) if text else None

    def sent_key(self, run_id: str) -> str:
        """Return the key of the ids that an explicit run has sent; it goes with the run."""
        return f"{PREFIX}run:{run_id}:sent"

    def _key(self, name: str) -> str:
        return f"{PREFIX}{name}:{self.stream}"

    def _call(self, name: str, run_id: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return self._scripts[name](keys=[f"{PREFIX}run:{run_id}", *keys], args=arguments)

    def _expire(self, run_id: str) -> None:
        for suffix in ("", ":due", ":hinted", ":slices", ":sent"):
            self.redis.expire(f"{PREFIX}run:{run_id}{suffix}", PRIVATE_TTL)

    def _run(self, answer: Sequence[Any]) -> Run | None:
        if not answer or not answer[1]:
            return None
        run_id, flat, outstanding = answer
        fields: Mapping[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))
        return Run(
            id=run_id,
            stream=fields["stream"],
            kind=fields["kind"],  # type: ignore[arg-type]
            asked=Interval.parse(fields["asked"]),
            window=Interval.parse(fields["window"]),
            etag=fields["etag"] or None,
            epoch=fields["epoch"],
            destination=fields.get("destination", ""),
            known_from=datetime.fromtimestamp(float(fields["known_from"]), UTC) if fields["known_from"] else None,
            batch_size=int(fields["batch_size"]),
            wait=int(fields["wait"]),
            opened_at=datetime.fromtimestamp(float(fields["opened_at"]), UTC),
            trouble=fields.get("trouble", ""),
            outstanding=outstanding,
            counts={
                name.removeprefix("count:"): int(count)
                for name, count in fields.items()
                if name.startswith("count:")
            },
            **{
                name: int(fields.get(name, 0))
                for name in ("planned", "done", "expected", "found", "delivered", "dead")
            },
        )
