"""Which addresses of the internet an event may be posted to: the public ones, and nothing inside of a network."""

from __future__ import annotations

import ipaddress

_NOT_WHAT_THEY_SEEM = tuple(
    ipaddress.ip_network(network) for network in ("2001::/32", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48")
)
"""IPv6 addresses that carry an IPv4 address to which a gateway translates: Teredo, 6to4, NAT64."""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether everybody can reach it: no private, local, shared, reserved or multicast address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in _NOT_WHAT_THEY_SEEM):
            return False
    return address.is_global and not address.is_multicast
