"""Network addresses, cut to the part that shows roughly where somebody is."""

import ipaddress
import re

IPV4_BITS, IPV6_BITS = 24, 48
# The address of an IPv4 host follows the first two bytes, so that 48 bits would hold all of it (RFC 3056).
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_SIX_TO_FOUR_BITS = 16 + IPV4_BITS
_IPV4_PORT = re.compile(r"([\d.]+):\d+")
_IPV6_PORT = re.compile(r"\[(.*)\](?::\d+)?")


def truncated(address: str) -> str | None:
    """Return the first address of the network: /24 of IPv4, /48 of IPv6. None if it is not an address.

    Ports and zones, which some proxies add, are left out. An address that is truncated already stays the same.
    """
    address = address.strip()
    port = _IPV4_PORT.fullmatch(address) or _IPV6_PORT.fullmatch(address)
    try:
        parsed = ipaddress.ip_address((port[1] if port else address).partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return _cut(parsed.ipv4_mapped, IPV4_BITS)
        return _cut(parsed, _SIX_TO_FOUR_BITS if parsed in _SIX_TO_FOUR else IPV6_BITS)
    return _cut(parsed, IPV4_BITS)


def _cut(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> str:
    return str(ipaddress.ip_network((address, bits), strict=False).network_address)
