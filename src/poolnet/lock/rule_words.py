"""Which rule was it, in words? For `vif-lock-explain`: the tables of Open vSwitch and the chains of nftables."""

from __future__ import annotations

import re
from typing import Final

from poolnet.lock.nft_chains import counter_set
from poolnet.lock.openflow import Table, ofport_of, reason_at
from poolnet.lock.reasons import DropReason
from poolnet.lock.words import name_of

_TABLES: Final = {
    Table.START: "port and VLAN tag",
    Table.ETHERNET: "source MAC address and protocol",
    Table.ARP: "ARP",
    Table.IPV4: "IPv4",
    Table.IPV6: "IPv6",
    Table.NEIGHBOR: "neighbour discovery",
    Table.DUPLICATE: "duplicate address detection",
    Table.SOURCE: "source address",
    Table.ADMITTED: "admitted by the lock",
    Table.OUTPUT: "on to the learning switch",
}
_PROTOCOLS: Final = (
    "arp",
    "rarp",
    "ip",
    "ipv6",
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "icmp",
    "icmp6",
    "sctp",
    "sctp6",
)
_FIELDS: Final = {
    "dl_src": "source MAC",
    "dl_dst": "destination MAC",
    "arp_spa": "ARP sender",
    "arp_sha": "ARP sender MAC",
    "arp_tpa": "ARP target",
    "arp_op": "ARP operation",
    "nw_src": "source",
    "nw_dst": "destination",
    "ipv6_src": "source",
    "ipv6_dst": "destination",
    "nw_proto": "protocol",
    "nw_ttl": "hop limit",
    "tp_src": "source port",
    "tp_dst": "destination port",
    "icmp_type": "ICMPv6 type",
    "icmp_code": "code",
    "nd_target": "target",
    "nd_sll": "source link address",
    "nd_tll": "target link address",
}
_RULE: Final = re.compile(
    r"(?:(?P<match>.*?), )?priority (?P<priority>\d+)(?:, cookie (?P<cookie>0x[0-9a-f]+))?"
)
_STOPS: Final = {counter_set(reason).replace("dropped_", "stop_"): reason for reason in DropReason}
_CHAINS: Final = {
    "from_port": "the port that the frame comes from",
    "to_host": "a frame for the host itself",
    "ethernet": "source MAC address and protocol",
    "locked": "a locked port: TCP from its own addresses, and no VLAN tag",
    "locked_trunk": "a locked trunk port: its VLAN tags",
    "unlocked": "an unlocked port: anything passes",
    "unlocked_trunk": "an unlocked trunk port: its VLAN tags",
    "disabled": "a disabled port",
    "arp_packet": "ARP: a request or a reply for Ethernet and IPv4",
    "arp_sender": "ARP: the sender's MAC and IPv4 address",
    "arp_probe": "ARP: a probe for an own address",
    "ipv4": "IPv4: whether the port has addresses",
    "ipv4_whole": "IPv4: a whole packet",
    "ipv4_source": "IPv4: the source address",
    "ipv6": "IPv6: whether the port has addresses",
    "ipv6_source": "IPv6: the source address",
    "ipv6_later": "IPv6: a fragment behind the first",
    "neighbor": "neighbour discovery: hop limit, code, length, target",
    "solicitation": "neighbour solicitation: the link addresses",
    "advertisement": "neighbour advertisement: target and link addresses",
    "duplicate": "duplicate address detection: the target",
    "router_solicitation": "router solicitation",
    "listener_report": "MLD report",
}


def switch_rule(table: int, text: str) -> str:
    """A rule that a trace of Open vSwitch met: `ofproto/trace` writes its match and priority."""
    reason = reason_at(table)
    title = f"counted: {name_of(reason)}" if reason else _title(table)
    found = _RULE.match(text)
    if found is None:
        return f"table {table} ({title}): no rule for this frame"
    cookie = int(found["cookie"], 16) if found["cookie"] else 0
    whose = "a rule of this port" if ofport_of(cookie) is not None else "a rule for all ports"
    words = [word for part in (found["match"] or "").split(",") if (word := _condition(part.strip()))]
    return f"table {table} ({title}): {whose}, priority {found['priority']}: {', '.join(words) or 'anything else'}"


def bridge_chain(name: str) -> str:
    """A chain of the table `bridge poolnet` that a frame went through."""
    reason = _STOPS.get(name)
    if reason is not None:
        return f"chain {name}: counted: {name_of(reason)}"
    if name in _CHAINS:
        return f"chain {name}: {_CHAINS[name]}"
    for prefix, title in (("ipv4_udp", "IPv4: UDP ports"), ("ipv6_udp", "IPv6: UDP ports"), ("icmpv6", "ICMPv6: its type"), ("ipv6_", "IPv6: an extension header")):  # fmt: skip
        if name.startswith(prefix):
            return f"chain {name}: {title}"
    return f"chain {name}"


def _title(table: int) -> str:
    return _TABLES[Table(table)] if table in Table.__members__.values() else "none of poolnet's"


def _condition(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return name if name in _PROTOCOLS else ""
    if name == "in_port":
        return ""
    if name == "vlan_tci":
        return (
            "no VLAN tag"
            if value.startswith("0x0000")
            else f"VLAN tag {int(value.partition('/')[0], 16) & 0xFFF}"
        )
    if name == "nw_frag":
        return "a fragment" if value != "no" else "no fragment"
    return f"{_FIELDS.get(name, name)} {value}"
