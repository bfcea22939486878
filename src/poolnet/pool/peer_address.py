"""How is the address of a connection's other end written? As people write it, whichever socket the connection came to."""

from __future__ import annotations

from ipaddress import ip_address


def plain_address(text: str) -> str:
    """An address as people write it: without a zone, and IPv4 not inside IPv6."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)
