"""The port that the corpus of the appendix is about, and its neighbour."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.owned import parse_mac
from poolnet.lock.packets import Addresses

MAC = "aa:00:00:00:00:01"
OFPORT = 33001
US = Addresses(
    mac=parse_mac(MAC),
    ipv4=IPv4Address("10.0.0.1"),
    ipv6=IPv6Address("fd00::1"),
    victim_mac=parse_mac("aa:00:00:00:00:02"),
    victim_ipv4=IPv4Address("10.0.0.2"),
    victim_ipv6=IPv6Address("fd00::2"),
)
LOCKED = PortLock(mode=LockMode.LOCKED, mac=MAC, ipv4_allowed=("10.0.0.1",), ipv6_allowed=("fd00::1",))
UNLOCKED = PortLock(mode=LockMode.UNLOCKED, mac=MAC)
