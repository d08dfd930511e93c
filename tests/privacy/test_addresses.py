import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.privacy.addresses import truncated


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.77", "203.0.113.0"),
        (" 203.0.113.77 ", "203.0.113.0"),
        ("203.0.113.77:51234", "203.0.113.0"),  # Azure's gateways add the port
        ("2001:db8:7777:1234::77", "2001:db8:7777::"),
        ("[2001:db8:7777:1234::77]:443", "2001:db8:7777::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
        ("2002:cb00:714d::1", "2002:cb00:7100::"),  # 6to4: 203.0.113.77 is in its first 48 bits
        ("64:ff9b::cb00:714d", "64:ff9b::"),
        ("::1", "::"),
    ],
)
def test_a_network_is_left(address, kept):
    assert truncated(address) == kept


@pytest.mark.parametrize(
    "address", ["", "unknown", "host.example.edu", "203.0.113", "1.2.3.4, 5.6.7.8", "zq-login"]
)
def test_what_is_no_address_is_left_out(address):
    assert truncated(address) is None


@given(st.ip_addresses())
def test_truncating_twice_changes_nothing_and_hides_the_host(address):
    once = truncated(str(address))
    assert truncated(once) == once
    parsed = ipaddress.ip_address(once)
    assert int(parsed) & (0xFF if parsed.version == 4 else (1 << 80) - 1) == 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255))
def test_hosts_of_one_network_cannot_be_told_apart(network, one, other):
    made = [str(ipaddress.IPv4Address(network & ~0xFF | last)) for last in (one, other)]
    for form in ("{}", "::ffff:{}", "{}:1"):
        assert truncated(form.format(made[0])) == truncated(form.format(made[1]))
