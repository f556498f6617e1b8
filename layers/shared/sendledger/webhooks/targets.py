"""Which addresses of the internet an event may be posted to: the public ones, and nothing inside of a network."""

from __future__ import annotations

import ipaddress

_INTERNET = ipaddress.IPv6Network("2000::/3")
"""All that is given out: https://www.iana.org/assignments/ipv6-address-space/ipv6-address-space.xhtml

Outside of it are forms that carry an IPv4 address: NAT64, ::127.0.0.1, ::ffff:0:127.0.0.1."""
_NOT_WHAT_THEY_SEEM = (ipaddress.IPv6Network("2001::/32"), ipaddress.IPv6Network("2002::/16"))
"""Within it, what carries an IPv4 address to which a gateway translates: Teredo and 6to4."""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether everybody can reach it: no private, local, shared, reserved or multicast address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address not in _INTERNET or any(address in network for network in _NOT_WHAT_THEY_SEEM):
            return False
    return address.is_global and not address.is_multicast
