"""What is in a frame, and what is wrong with it, in words? For explanations, alerts and counter-examples.

Nothing is decided here: `policy` says whether a frame passes and for what reason not.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.flowkey import flow_key
from poolnet.lock.flows import Field
from poolnet.lock.owned import link_local, owned
from poolnet.lock.policy import Verdict
from poolnet.lock.reasons import DropReason

Key = Mapping[Field, int]
_PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    6: "TCP",
    17: "UDP",
    41: "IPv6",
    47: "GRE",
    50: "ESP",
    58: "ICMPv6",
    132: "SCTP",
}
_ICMPV6 = {
    128: "echo request",
    129: "echo reply",
    130: "MLD query",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
    138: "router renumbering",
    143: "MLDv2 report",
    151: "multicast router advertisement",
    152: "multicast router solicitation",
    153: "multicast router termination",
}
_NAMES = {
    DropReason.VLAN: "a VLAN tag",
    DropReason.MAC: "a foreign source MAC address",
    DropReason.ETHERTYPE: "a protocol other than ARP, IPv4 and IPv6",
    DropReason.ARP: "ARP with a foreign sender",
    DropReason.IPV4_SOURCE: "IPv4 from a foreign source",
    DropReason.DHCP_SERVER: "an answer of a DHCP server",
    DropReason.IPV6_SOURCE: "IPv6 from a foreign source",
    DropReason.NEIGHBOR_DISCOVERY: "neighbour discovery that would mislead",
    DropReason.ROUTER_ADVERTISEMENT: "a router advertisement",
    DropReason.REDIRECT: "a redirect",
    DropReason.ROUTER: "a message that only routers send",
    DropReason.FRAGMENT: "an IPv6 fragment that hides what it carries",
    DropReason.HEADER_CHAIN: "IPv6 headers that cannot be read",
    DropReason.DISABLED: "anything at all",
}


def name_of(reason: DropReason) -> str:
    """What a frame is that is stopped for this reason: `ARP with a foreign sender`."""
    return _NAMES[reason]


def describe(frame: bytes) -> str:
    """What a frame is, in one line."""
    key = flow_key(frame, 0)
    text = _content(key)
    tag = key.get(Field.VLAN)
    if tag is not None:
        text += f", with VLAN tag {tag & 0xFFF}"
    return f"{text}, from MAC {_mac(key.get(Field.ETH_SRC, 0))} to {_mac(key.get(Field.ETH_DST, 0))}"


def offence(reason: DropReason, frame: bytes | None) -> str:
    """What a guest did that sent a frame which was stopped for this reason: `sent ARP for 10.0.0.2`.

    Without a frame it names no address.
    """
    if frame is None:
        return f"sent {_NAMES[reason]}"
    key = flow_key(frame, 0)
    match reason:
        case DropReason.VLAN:
            tag = key.get(Field.VLAN)
            return "sent frames without a VLAN tag" if tag is None else f"sent VLAN tag {tag & 0xFFF}"
        case DropReason.MAC:
            return f"sent frames from MAC {_mac(key.get(Field.ETH_SRC, 0))}"
        case DropReason.ETHERTYPE:
            return f"sent EtherType {key.get(Field.ETHERTYPE, 0):#06x}"
        case DropReason.ARP:
            return f"sent ARP for {_arp_claim(key)}"
        case DropReason.IPV4_SOURCE:
            return f"sent IPv4 from {_ipv4(key, Field.IPV4_SOURCE)}"
        case DropReason.IPV6_SOURCE:
            return f"sent IPv6 from {_ipv6(key, Field.IPV6_SOURCE)}"
        case DropReason.NEIGHBOR_DISCOVERY:
            return f"sent a {_icmpv6(key)} for {_ipv6(key, Field.ND_TARGET)}"
        case _:
            return f"sent {_NAMES[reason]}, from {_source(key)}"


def is_ordinary(lock: PortLock, frame: bytes | None, reason: DropReason) -> bool:
    """Is this what every guest sends whose lock has no IPv6 addresses? It is stopped, and nobody has to be told.

    Hosts speak IPv6 on their link-local address, and before they have one, whether they were given another or not.
    Without a frame any IPv6 may be that.
    """
    if reason is not DropReason.IPV6_SOURCE or lock.ipv6_allowed:
        return False
    if frame is None:
        return True
    source = flow_key(frame, 0).get(Field.IPV6_SOURCE, 0)
    return source in (0, int(link_local(owned(lock).mac)))


def why(lock: PortLock, frame: bytes, verdict: Verdict) -> str:
    """Why a lock says what it says of a frame."""
    if lock.mode is LockMode.UNLOCKED and verdict.reason is None:
        return "the VIF is unlocked: it may send anything" + (" in its VLANs" if lock.trunks else "")
    if verdict.reason is None:
        return _why_it_passes(flow_key(frame, 0))
    text = _why_not(lock, flow_key(frame, 0), verdict.reason)
    return f"{text}; in shadow mode it is only counted" if verdict.passes else text


def _why_it_passes(key: Key) -> str:
    match key.get(Field.ETHERTYPE):
        case 0x0806 if not key.get(Field.ARP_SENDER):
            return f"it asks whether anybody uses the VIF's own address {_ipv4(key, Field.ARP_TARGET)}"
        case 0x0806:
            return f"its sender {_ipv4(key, Field.ARP_SENDER)} is an address of the VIF, with the VIF's MAC address"
        case 0x0800 if not key.get(Field.IPV4_SOURCE):
            return "it is a DHCP request of a client"
        case 0x0800:
            return f"its source {_ipv4(key, Field.IPV4_SOURCE)} is an address of the VIF"
        case 0x86DD if not key.get(Field.IPV6_SOURCE):
            return "it is what a host sends before it has an address"
        case _:
            return f"its source {_ipv6(key, Field.IPV6_SOURCE)} is an address of the VIF"


def _why_not(lock: PortLock, key: Key, reason: DropReason) -> str:
    match reason:
        case DropReason.DISABLED:
            return "the VIF is disabled: it is on no bridge"
        case DropReason.VLAN:
            allowed = ", ".join(str(tag) if tag else "none" for tag in lock.trunks) or "none"
            return f"{_tag(key)}, and the tags that the VIF may send are: {allowed}"
        case DropReason.MAC:
            return f"its source MAC address {_mac(key.get(Field.ETH_SRC, 0))} is not the VIF's, {lock.mac}"
        case DropReason.ETHERTYPE:
            return f"its EtherType {key.get(Field.ETHERTYPE, 0):#06x} is neither ARP nor IPv4 nor IPv6"
        case DropReason.ARP:
            return f"it says that {_arp_claim(key)} is at {_mac(key.get(Field.ARP_SENDER_MAC, 0))}; {_own(lock, 4)}"
        case DropReason.IPV4_SOURCE:
            return f"its source {_ipv4(key, Field.IPV4_SOURCE)} is not the VIF's; {_own(lock, 4)}"
        case DropReason.IPV6_SOURCE:
            return f"its source {_ipv6(key, Field.IPV6_SOURCE)} is not the VIF's; {_own(lock, 6)}"
        case DropReason.NEIGHBOR_DISCOVERY:
            target = _ipv6(key, Field.ND_TARGET)
            return f"a {_icmpv6(key)} for {target} with these link addresses would mislead; {_own(lock, 6)}"
        case _:
            return f"it is {_NAMES[reason]}, which no locked VIF may send"


def _own(lock: PortLock, version: int) -> str:
    mine = owned(lock)
    prefixes = mine.ipv4 if version == 4 else mine.ipv6
    listed = ", ".join(str(prefix).removesuffix("/32").removesuffix("/128") for prefix in prefixes)
    return f"it may use {listed}" if listed else f"it may use no IPv{version} at all"


def _content(key: Key) -> str:
    ethertype = key.get(Field.ETHERTYPE, 0)
    if ethertype == 0x0806:
        kind = {1: "ARP request", 2: "ARP reply"}.get(key.get(Field.ARP_OPERATION, 0), "ARP")
        return (
            f"{kind} of {_ipv4(key, Field.ARP_SENDER)} at {_mac(key.get(Field.ARP_SENDER_MAC, 0))}"
            f" for {_ipv4(key, Field.ARP_TARGET)}"
        )
    if ethertype == 0x0800:
        return (
            f"IPv4 {_upper(key)} from {_ipv4(key, Field.IPV4_SOURCE)} to {_ipv4(key, Field.IPV4_DESTINATION)}"
        )
    if ethertype == 0x86DD:
        return (
            f"IPv6 {_upper(key)} from {_ipv6(key, Field.IPV6_SOURCE)} to {_ipv6(key, Field.IPV6_DESTINATION)}"
        )
    return f"EtherType {ethertype:#06x}"


def _upper(key: Key) -> str:
    protocol = key.get(Field.PROTOCOL, 0)
    fragment = "fragment of " if key.get(Field.FRAGMENT) else ""
    if protocol == 58:
        target = f" for {_ipv6(key, Field.ND_TARGET)}" if key.get(Field.ND_TARGET) else ""
        return f"{fragment}{_icmpv6(key)}{target}"
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    if protocol == 17:
        name += f" port {key.get(Field.SOURCE_PORT, 0)} to {key.get(Field.DESTINATION_PORT, 0)}"
    return fragment + name


def _icmpv6(key: Key) -> str:
    kind = key.get(Field.ICMP_TYPE, 0)
    return _ICMPV6.get(kind, f"ICMPv6 type {kind}")


def _arp_claim(key: Key) -> str:
    """Whose address an ARP packet is about: the sender's, or the target's where the sender has none yet."""
    return _ipv4(key, Field.ARP_SENDER if key.get(Field.ARP_SENDER) else Field.ARP_TARGET)


def _source(key: Key) -> str:
    if key.get(Field.ETHERTYPE) == 0x0800:
        return _ipv4(key, Field.IPV4_SOURCE)
    return _ipv6(key, Field.IPV6_SOURCE)


def _tag(key: Key) -> str:
    tag = key.get(Field.VLAN)
    return "it has no VLAN tag" if tag is None else f"it has VLAN tag {tag & 0xFFF}"


def _ipv4(key: Key, field: Field) -> str:
    return str(IPv4Address(key.get(field, 0)))


def _ipv6(key: Key, field: Field) -> str:
    return str(IPv6Address(key.get(field, 0)))


def _mac(value: int) -> str:
    return value.to_bytes(6).hex(":")
