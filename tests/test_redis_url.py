"""One Redis URL means the same to redis-py and to kombu, or is refused by name."""

import ssl
from urllib.parse import quote

import pytest
from kombu import Connection
from redis import ConnectionError as LostConnectionError
from redis import RedisError

from uaharvest import settings
from uaharvest.errors import BadInputError
from uaharvest.redis_url import RedisUrl

SPECIAL = "p/a#s?s[w]o@r%d:+ ü;,&="


def both(url):
    """Return where redis-py and kombu would connect to, and how, by what each of them has made of it."""
    read = RedisUrl.parse(url)
    ours = read.client(socket_timeout=7).connection_pool
    broker = read.broker({"socket_timeout": 7})
    options = {"global_keyprefix": "x", "socket_timeout": 7, **broker.transport_options}
    connection = Connection(broker.url, ssl=broker.use_ssl, transport_options=options)
    channel = connection.transport.Channel.__new__(connection.transport.Channel)
    channel.connection = connection.transport
    for name in channel.from_transport_options:
        if name in options:
            setattr(channel, name, options[name])
    return ours, channel._connparams()


KEYS = (
    "host",
    "port",
    "path",
    "db",
    "username",
    "password",
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_check_hostname",
)


def told(parameters):
    found = {key: parameters.get(key) for key in KEYS}
    return {key: value or None for key, value in found.items()}


@pytest.fixture
def ca(tmp_path):
    path = tmp_path / "c a.pem"
    path.write_text("")
    return path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", {"host": "localhost", "port": 6379}),
        ("redis://", {"host": "localhost", "port": 6379}),
        ("REDIS://host:1/", {"host": "host", "port": 1}),
        ("redis://host/3", {"host": "host", "port": 6379, "db": 3}),
        ("redis://host?db=3", {"host": "host", "port": 6379, "db": 3}),
        ("redis://host/3?db=3", {"host": "host", "port": 6379, "db": 3}),
        ("redis://[::1]:5/3", {"host": "::1", "port": 5, "db": 3}),
        ("redis://:pass@host", {"host": "host", "port": 6379, "password": "pass"}),
        ("redis://me:pass@host", {"host": "host", "port": 6379, "username": "me", "password": "pass"}),
        (
            f"redis://{quote(SPECIAL, safe='')}:{quote(SPECIAL, safe='')}@host",
            {"host": "host", "port": 6379, "username": SPECIAL, "password": SPECIAL},
        ),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix:///run/a%20b.sock?db=2", {"path": "/run/a b.sock", "db": 2}),
        ("redis+socket:///run/redis.sock?virtual_host=2", {"path": "/run/redis.sock", "db": 2}),
        ("unix://:pa%2Fss@/run/redis.sock", {"path": "/run/redis.sock", "password": "pa/ss"}),
        (
            "rediss://host",
            {"host": "host", "port": 6379, "ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True},
        ),
        *(
            (
                f"rediss://host?ssl_cert_reqs={spelling}",
                {
                    "host": "host",
                    "port": 6379,
                    "ssl_cert_reqs": level,
                    "ssl_check_hostname": level != ssl.CERT_NONE,
                },
            )
            for level, spellings in {
                ssl.CERT_REQUIRED: ("required", "CERT_REQUIRED", "Required", "cert_required"),
                ssl.CERT_OPTIONAL: ("optional", "CERT_OPTIONAL"),
                ssl.CERT_NONE: ("none", "CERT_NONE", "None"),
            }.items()
            for spelling in spellings
        ),
        (
            "rediss://host?ssl_check_hostname=False",
            {"host": "host", "port": 6379, "ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": False},
        ),
    ],
)
def test_both_libraries_connect_to_the_same(url, expected):
    pool, broker = both(url)
    expected = told(expected)
    assert told(pool.connection_kwargs) == expected
    assert told(broker) == expected
    encrypted = url.startswith("rediss")
    assert ("SSL" in pool.connection_class.__name__) is encrypted
    assert ("SSL" in broker["connection_class"].__name__) is encrypted


def test_both_libraries_use_the_same_certificates(ca):
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    pool, broker = both(f"rediss://h?{'&'.join(f'{name}={quote(str(ca))}' for name in names)}")
    for parameters in (pool.connection_kwargs, broker):
        assert {parameters[name] for name in names} == {str(ca)}


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:p%2Fw@a:1,b/4?master_name=m&sentinel_password=s%2Fp&ssl=true",
        "sentinel://:p%2Fw@a:1/4?master_name=m&sentinel_password=s%2Fp;sentinel://:p%2Fw@b/4?ssl_cert_reqs=required",
        "sentinel://:p%2Fw@a:1;sentinel://b:26379/4?master_name=m&ssl=true&sentinel_password=s%2Fp",
    ],
)
def test_both_spellings_of_sentinels_mean_the_same_to_both(url):
    pool, broker = both(url)
    nodes = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(node["host"], node["port"]) for node in nodes] == [("a", 1), ("b", 26379)]
    assert {(node["password"], node["ssl_cert_reqs"], node["socket_timeout"]) for node in nodes} == {
        ("s/p", ssl.CERT_REQUIRED, 3)  # 3 s, whatever the server itself is given
    }
    assert pool.service_name == "m"
    for parameters in (pool.connection_kwargs, broker):
        assert (parameters["db"], parameters["password"]) == (4, "p/w")
        assert parameters["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    made = RedisUrl.parse(url).broker({"socket_timeout": 7})
    assert made.url == "sentinel://:p%2Fw@a:1/4;sentinel://:p%2Fw@b:26379/4"
    assert made.transport_options["sentinel_kwargs"].pop("retry").get_retries() == 0
    assert made.transport_options == {
        "master_name": "m",
        "sentinel_kwargs": {
            "username": None,
            "password": "s/p",
            "socket_timeout": 3,
            "socket_connect_timeout": 3,
            "ssl": True,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
        },
    }


@pytest.mark.parametrize("variable", ["REDIS_URL", "CELERY_BROKER_URL"])
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host/x", "the number of a database"),
        ("redis://host/-1", "the number of a database"),
        ("redis://host/0/1", "the number of a database"),
        ("redis://host/1?db=2", "one database"),
        ("redis://host?db=1&db=2", "each parameter once"),
        ("redis://host?socket_timeout=1", "no parameter 'socket_timeout'"),
        ("redis://host?virtual_host=1", "no parameter 'virtual_host'"),
        ("redis://host?ssl_cert_reqs=none", "rediss:// where"),
        ("redis://host:70000", "starts with redis://"),
        ("redis://host:port", "starts with redis://"),
        ("redis://a b", "starts with redis://"),
        ("redis://a,b", "starts with redis://"),
        ("rediss://host?ssl_cert_reqs=CERT_WHAT", "ssl_cert_reqs=required, optional or none"),
        ("rediss://host?ssl_check_hostname=perhaps", "ssl_check_hostname=true or false"),
        ("rediss://host?ssl_ca_certs=/none.pem", "ssl_ca_certs=/path"),
        ("unix://run/redis.sock", "unix:// and an absolute path"),
        ("unix:///", "unix:// and an absolute path"),
        ("unix:///run/redis.sock?ssl_cert_reqs=none", "no parameter 'ssl_cert_reqs'"),
        ("sentinel://a:1/0", "master_name"),
        ("sentinel://a:1/mymaster/0", "the number of a database"),
        ("sentinel://a:1;redis://b:1/0?master_name=m", "sentinel://"),
        ("sentinel://a:1,/0?master_name=m", "sentinel://"),
        ("sentinel://:x@a:1;sentinel://:y@b:1?master_name=m", "the same user, password"),
        ("sentinel://a:1/1;sentinel://b:1/2?master_name=m", "the same user, password"),
        ("sentinel://a?master_name=m&service=x", "no parameter 'service'"),
        ("amqp://host", "starts with redis://"),
        ("host:6379", "starts with redis://"),
    ],
)
def test_what_only_one_would_take_is_refused_by_name_at_the_start(variable, url, expected):
    with pytest.raises(BadInputError, match=rf"^{variable}: \(set\) cannot be used\. Expected ") as refused:
        settings.load({variable: url})
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://a?master_name=m&sentinel_password=vor&geheim",
        "sentinel://a?sentinel_password=vor&geheim=nach&master_name=m",
        "redis://a?password=vor&geheim",
    ],
)
def test_an_ampersand_in_a_password_shows_no_part_of_it(url):
    with pytest.raises(BadInputError, match=r"^REDIS_URL: \(set\) cannot be used\.") as refused:
        settings.load({"REDIS_URL": url})
    assert not any(part in str(refused.value) for part in ("vor", "geheim", "nach"))


def test_no_repr_shows_a_password():
    read = RedisUrl.parse("sentinel://me:geheim@a?master_name=m&sentinel_password=geheim&sentinel_username=u")
    assert "geheim" not in f"{read!r} {read.place} {read.broker({})!r} {read.client()!r}"
    assert "geheim" not in repr(RedisUrl.parse("redis://me:geheim@a").client())


def test_what_sentinels_say_is_shown_without_how_they_are_reached():
    client = RedisUrl.parse(
        "sentinel://:geheim@127.0.0.1:1,127.0.0.1:2/0?master_name=m&sentinel_password=geheim"
    ).client()
    with pytest.raises(RedisError) as refused:
        client.ping()
    assert str(refused.value) == (
        "No master found for 'm' at 127.0.0.1:1, 127.0.0.1:2"
        " (Error 111 connecting to 127.0.0.1:1. Connection refused)"
    )


def test_a_certificate_that_is_not_trusted_comes_with_what_to_do():
    error = LostConnectionError(
        "Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer."
    )
    assert RedisUrl.parse("rediss://:geheim@h:1").failure(error) == (
        "Redis at h:1 does not answer: Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local"
        " issuer. The certificate's authority goes into ssl_ca_certs of REDIS_URL."
    )


def test_a_connection_sends_nothing_about_the_library_that_made_it(redis, valkey_url):
    """It costs two requests, and redis-py 8.1 looks its version up for each connection."""
    with RedisUrl.parse(valkey_url).client() as client:
        before = client.info("commandstats").get("cmdstat_client|setinfo", {"calls": 0})["calls"]
        with RedisUrl.parse(valkey_url).client() as another:
            another.ping()
        assert client.info("commandstats").get("cmdstat_client|setinfo", {"calls": 0})["calls"] == before
