"""Checks of the ledger's Redis."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import redis

from uaharvest import keys
from uaharvest.doctor.findings import Finding, fail, ok, warn
from uaharvest.doctor.site import Site
from uaharvest.redis_url import RedisUrl
from uaharvest.runs.state import redis_now

OLDEST = (6, 2)
KEEPS_ALL = "noeviction"
# Share of maxmemory from which on somebody should look.
FULL = 0.8
_PROBE = keys.PROBE()
_CHANNEL = "uaharvest-doctor"  # nobody listens there
# One call of every command that the ledger, the caches and Celery use. The key holds a string, so that commands for
# other types change nothing.
_COMMANDS: tuple[tuple[str | int, ...], ...] = (
    ("SET", _PROBE, "", "PX", 1000),
    *((name, _PROBE) for name in ("GET", "EXISTS", "PTTL", "TTL", "BITCOUNT")),
    *((name, _PROBE) for name in ("HGETALL", "HVALS", "HLEN", "LLEN", "SCARD", "SMEMBERS", "ZCARD")),
    *((name, _PROBE, "field") for name in ("HGET", "HMGET", "HDEL", "SADD", "SREM", "SISMEMBER")),
    *((name, _PROBE, "member") for name in ("ZREM", "ZSCORE", "ZRANK", "LPUSH", "RPUSH")),
    *((name, _PROBE, 0, 0) for name in ("LRANGE", "LTRIM", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE")),
    *((name, _PROBE, 0, 0) for name in ("ZREVRANGEBYSCORE", "ZREMRANGEBYSCORE", "ZCOUNT")),
    ("PEXPIRE", _PROBE, 1000),
    ("EXPIRE", _PROBE, 1),
    ("HSET", _PROBE, "field", ""),
    ("HINCRBY", _PROBE, "field", 0),
    ("ZADD", _PROBE, 0, "member"),
    ("INCR", _PROBE),
    ("MGET", _PROBE),
    ("GETBIT", _PROBE, 0),
    ("SETBIT", _PROBE, 0, 0),
    ("RPOP", _PROBE),
    ("BRPOP", _PROBE, 1),
    ("EVAL", "return redis.call('TIME')", 0),
    ("SCRIPT", "EXISTS", "0" * 40),
    ("EVALSHA", "0" * 40, 0),
    ("TIME",),
    ("PUBLISH", _CHANNEL, ""),
    ("WATCH", _PROBE),
    ("MULTI",),
    ("EXEC",),
    ("UNLINK", _PROBE),
    ("DEL", _PROBE),
)


def answers(site: Site) -> Iterator[Finding]:
    """Connect, log in and read the clock."""
    with site.timed("Redis") as note:
        note(redis_now(site.redis))
    yield ok(f"answers at {RedisUrl.parse(site.settings.redis_url).place}")


def version(site: Site) -> Iterator[Finding]:
    """Look at the version; what the next checks look at comes from INFO too."""
    try:
        info = site.redis.info("server")
    except redis.exceptions.NoPermissionError:
        yield warn(
            "INFO is not permitted, so version, persistence, eviction and memory cannot be seen",
            "Grant it to the user in REDIS_URL: ACL SETUSER … +info.",
            blocks=True,
        )
        return
    valkey = info.get("valkey_version")
    name, number = ("Valkey", str(valkey)) if valkey else ("Redis", str(info.get("redis_version", "?")))
    if not valkey and _numbers(number) < OLDEST:
        yield fail(f"{name} {number} lacks commands that the ledger needs", "Install 6.2 or later, or Valkey.")
        return
    yield ok(f"{name} {number}")


def writable(site: Site) -> Iterator[Finding]:
    """Try whether it takes writes: it may be full, a replica, or unable to save its data."""
    site.redis.set(_PROBE, "", px=1000)
    yield ok("takes writes")


def permissions(site: Site) -> Iterator[Finding]:
    """Call every command that is needed, so that each one that the ACL denies is named."""
    # One connection, because MULTI and EXEC belong together.
    with site.redis.client() as client:  # type: ignore[no-untyped-call]
        denied = [str(command[0]) for command in _COMMANDS if not _permitted(client, command)]
    if denied:
        grants = " ".join(f"+{name.lower()}" for name in denied)
        yield fail(
            f"the user in REDIS_URL may not call {', '.join(denied)}",
            f"ACL SETUSER … {grants} ~{keys.EVERY} &*",
        )
        return
    yield ok(f"permits all {len(_COMMANDS)} commands that are needed")


def _permitted(client: "redis.Redis", command: tuple[str | int, ...]) -> bool:
    """Tell whether the ACL permits a command, whatever else Redis says of it."""
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis.exceptions.NoPermissionError:
        return False
    except redis.ResponseError:  # the key is of another type, or Redis takes no writes
        return True
    return True


def persistence(site: Site) -> Iterator[Finding]:
    """Look whether a restart keeps the ledger."""
    info = site.redis.info("persistence")
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        yield fail("cannot write its append-only file", "Its log says why. Often its disk is full.")
    elif info.get("aof_enabled"):
        yield ok("append-only file on")
    else:
        yield warn(
            "appendonly is off: after a restart the open window and its overlap are harvested again",
            "Set `appendonly yes` in its configuration, and CONFIG SET appendonly yes now.",
        )


def eviction(site: Site) -> Iterator[Finding]:
    """Look whether it deletes keys when it is full."""
    yield judge_eviction(str(site.redis.info("memory").get("maxmemory_policy", KEEPS_ALL)))


def judge_eviction(policy: str) -> Finding:
    """Return the finding for a maxmemory-policy."""
    if policy == KEEPS_ALL:
        return ok(f"maxmemory-policy {KEEPS_ALL}")
    return fail(
        f"maxmemory-policy is {policy}: when Redis is full it deletes keys, and with them the ledger",
        f"Set `maxmemory-policy {KEEPS_ALL}` in its configuration, and CONFIG SET maxmemory-policy {KEEPS_ALL} now.",
    )


def memory(site: Site) -> Iterator[Finding]:
    """Look how much memory is left."""
    yield judge_memory(site.redis.info("memory"))


def judge_memory(info: dict[str, Any]) -> Finding:
    """Return the finding for the memory section of INFO."""
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return warn(
            f"maxmemory is not set, {_megabytes(used)} are used: a Redis that takes all memory is killed",
            "Set maxmemory; a known id needs about 100 bytes, and the rest is small.",
        )
    found = f"{_megabytes(used)} of {_megabytes(most)} used"
    if used >= most:
        return fail(f"{found}: it takes no more writes", "Give it more memory (maxmemory).")
    if used > FULL * most:
        return warn(f"{found}: a full Redis stops the harvest", "Give it more memory (maxmemory).")
    return ok(found)


def access(site: Site) -> Iterator[Finding]:
    """Look whether strangers may read what it holds: Zoom's token, and the broker's messages."""
    yield judge_access(RedisUrl.parse(site.settings.redis_url))


def judge_access(url: RedisUrl) -> Finding:
    """Return the finding for the way in which a URL logs in."""
    login = f"user {url.user}" if url.user else "with a password" if url.password else "without a password"
    encrypted = "TLS" if url.tls is not None else "no TLS"
    found = f"{login}, {encrypted}"
    if url.socket or all(_is_here(host) for host, _ in url.hosts):
        return ok(f"{found}, on this machine")
    if url.tls is not None and url.tls.get("ssl_check_hostname") is False:
        return warn(f"{found}, but its certificate is not checked", "Take ssl_cert_reqs out of REDIS_URL.")
    if url.password is None:
        return warn(
            f"{found}: whoever reaches it can read Zoom's token and send tasks",
            "Set a password (requirepass, or ACL SETUSER) and put it into REDIS_URL.",
        )
    return ok(found)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
