"""A real Valkey, in which one thing is wrong."""

import pytest

from uaharvest.doctor import redis as redis_checks
from uaharvest.redis_url import RedisUrl


@pytest.fixture
def user(durable):
    """Make an account with these rights; return its URL."""

    def user(*rights, password="top-secret"):
        durable.execute_command("ACL", "SETUSER", "harvester", "reset", "on", f">{password}", *rights)
        host, port = (
            durable.connection_pool.connection_kwargs["host"],
            durable.connection_pool.connection_kwargs["port"],
        )
        return f"redis://harvester:{password}@{host}:{port}/0"

    yield user
    durable.execute_command("ACL", "DELUSER", "harvester")


def one(told, settings, name):
    [line] = told(settings, name)
    assert "top-secret" not in str(line)
    return line


def test_an_eviction_policy_that_deletes_the_ledger_fails(told, settings_of, durable):
    durable.config_set("maxmemory-policy", "allkeys-lru")
    status, found, remedy = one(told, settings_of(), "redis.eviction")
    assert (status, "allkeys-lru" in found) == ("fail", True)
    assert "CONFIG SET maxmemory-policy noeviction" in remedy


def test_no_append_only_file_is_a_warning(told, settings_of, durable):
    durable.config_set("appendonly", "no")
    status, found, remedy = one(told, settings_of(), "redis.persistence")
    assert (status, "appendonly is off" in found) == ("warn", True)
    assert "appendonly yes" in remedy


def test_a_redis_without_a_limit_or_that_is_nearly_full_is_a_warning(told, settings_of, durable):
    durable.config_set("maxmemory", "0")
    assert one(told, settings_of(), "redis.memory")[0] == "warn"
    used = durable.info("memory")["used_memory"]
    durable.config_set("maxmemory", int(used * 1.1))
    status, found, remedy = one(told, settings_of(), "redis.memory")
    assert (status, "a full Redis stops the harvest" in found) == ("warn", True)
    assert "maxmemory" in remedy


def test_a_redis_that_is_full_fails_where_it_is_written_to(told, settings_of, durable):
    durable.config_set("maxmemory", "1")
    status, found, remedy = one(told, settings_of(), "redis.writable")
    assert (status, "full" in found) == ("fail", True)
    assert "maxmemory" in remedy
    assert one(told, settings_of(), "redis.memory")[0] == "fail"


@pytest.mark.parametrize("command", ["zrangebyscore", "eval", "publish", "multi", "brpop"])
def test_each_command_that_an_account_lacks_is_named(told, settings_of, user, command):
    url = user("+@all", "~*", "&*", f"-{command}")
    status, found, remedy = one(told, settings_of(REDIS_URL=url), "redis.permissions")
    assert (status, found) == ("fail", f"the user in REDIS_URL may not call {command.upper()}")
    assert f"+{command}" in remedy


def test_an_account_with_the_rights_that_the_remedy_names_is_fine(told, settings_of, user):
    lacking = user("~uaharvest:*", "&*", "+ping", "+time", "+client", "+select")
    _, _, remedy = one(told, settings_of(REDIS_URL=lacking), "redis.permissions")
    rights = [right for right in remedy.split() if right[0] in "+~&"]
    granted = user("+client", "+select", "+ping", "+time", *rights)
    assert told(settings_of(REDIS_URL=granted), "redis.permissions") == []


def test_an_account_that_may_not_ask_for_info_hides_what_the_checks_need(look, told, settings_of, user):
    settings = settings_of(REDIS_URL=user("+@all", "~*", "&*", "-info"))
    assert one(told, settings, "redis.version")[0] == "warn"
    [finding] = look(settings, "redis.eviction")["redis.eviction"]
    assert finding.status == "skipped"


def test_a_wrong_password_names_the_setting(told, settings_of, user):
    url = user("+@all", "~*").replace("top-secret", "wrong-secret")
    status, found, remedy = one(told, settings_of(REDIS_URL=url), "redis.answers")
    assert (status, "refuses the login" in found) == ("fail", True)
    assert "REDIS_URL" in remedy
    assert "wrong-secret" not in found + remedy


def test_a_replica_takes_no_writes(told, settings_of, durable):
    durable.replicaof("127.0.0.1", 1)
    try:
        status, found, remedy = one(told, settings_of(), "redis.writable")
    finally:
        durable.replicaof("NO", "ONE")
    assert (status, "replica" in found) == ("fail", True)
    assert "primary" in remedy


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("redis://localhost/0", "ok"),
        ("unix:///run/redis.sock", "ok"),
        ("redis://:password@10.0.4.7/0", "ok"),
        ("rediss://:password@10.0.4.7/0", "ok"),
        ("redis://10.0.4.7/0", "warn"),
        ("rediss://:password@10.0.4.7/0?ssl_cert_reqs=none", "warn"),
    ],
)
def test_a_redis_that_others_reach_needs_a_password_and_a_checked_certificate(url, status):
    finding = redis_checks.judge_access(RedisUrl.parse(url))
    assert finding.status == status
    assert "password@" not in finding.found
