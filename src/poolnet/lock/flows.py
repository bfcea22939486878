"""What is an OpenFlow rule?

The compiler makes them, the switch model evaluates them, `ovs-ofctl` is given them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from poolnet.lock.reasons import DropReason

LOCAL_PORT = 0xFFFFFFFE  # OFPP_LOCAL


class Field(StrEnum):
    """What a rule can look at, under the names that `ovs-ofctl` has for them."""

    IN_PORT = "in_port"
    VLAN = "vlan_tci"  # 0 untagged, else 0x1000 | tag
    ETH_DST = "dl_dst"
    ETH_SRC = "dl_src"
    ETHERTYPE = "dl_type"
    ARP_OPERATION = "arp_op"
    ARP_SENDER_MAC = "arp_sha"
    ARP_SENDER = "arp_spa"
    ARP_TARGET = "arp_tpa"
    IPV4_SOURCE = "nw_src"
    IPV4_DESTINATION = "nw_dst"
    IPV6_SOURCE = "ipv6_src"
    IPV6_DESTINATION = "ipv6_dst"
    PROTOCOL = "nw_proto"
    HOP_LIMIT = "nw_ttl"
    FRAGMENT = "nw_frag"  # 1 in every fragment
    SOURCE_PORT = "tp_src"
    DESTINATION_PORT = "tp_dst"
    ICMP_TYPE = "icmp_type"
    ICMP_CODE = "icmp_code"
    ND_TARGET = "nd_target"
    ND_SOURCE_LINK = "nd_sll"
    ND_TARGET_LINK = "nd_tll"


BITS = {
    Field.IN_PORT: 32,
    Field.VLAN: 13,
    Field.ETH_DST: 48,
    Field.ETH_SRC: 48,
    Field.ETHERTYPE: 16,
    Field.ARP_OPERATION: 16,
    Field.ARP_SENDER_MAC: 48,
    Field.ARP_SENDER: 32,
    Field.ARP_TARGET: 32,
    Field.IPV4_SOURCE: 32,
    Field.IPV4_DESTINATION: 32,
    Field.IPV6_SOURCE: 128,
    Field.IPV6_DESTINATION: 128,
    Field.PROTOCOL: 8,
    Field.HOP_LIMIT: 8,
    Field.FRAGMENT: 1,
    Field.SOURCE_PORT: 16,
    Field.DESTINATION_PORT: 16,
    Field.ICMP_TYPE: 8,
    Field.ICMP_CODE: 8,
    Field.ND_TARGET: 128,
    Field.ND_SOURCE_LINK: 48,
    Field.ND_TARGET_LINK: 48,
}


class Term(NamedTuple):
    """One condition of a match: `field & mask == value`. Masks of addresses are those of prefixes."""

    field: Field
    value: int
    mask: int

    def text(self) -> str:
        """As `ovs-ofctl` reads it."""
        exact = self.mask == (1 << BITS[self.field]) - 1
        match self.field:
            case Field.IN_PORT:
                return "in_port=LOCAL" if self.value == LOCAL_PORT else f"in_port={self.value}"
            case Field.VLAN:
                return f"vlan_tci={self.value:#06x}/{self.mask:#06x}"
            case Field.FRAGMENT:
                return "nw_frag=yes" if self.value else "nw_frag=no"
            case Field.ETHERTYPE:
                return f"dl_type={self.value:#06x}"
        if BITS[self.field] not in (32, 48, 128):
            return f"{self.field}={self.value}"
        text = f"{self.field}={_address(self.field, self.value)}"
        return text if exact else f"{text}/{self.mask.bit_count()}"


def _address(field: Field, value: int) -> str:
    match BITS[field]:
        case 48:
            return value.to_bytes(6).hex(":")
        case 32:
            return str(IPv4Address(value))
        case _:
            return str(IPv6Address(value))


def exactly(field: Field, value: int) -> Term:
    """The condition that a field has this value."""
    return Term(field, value, (1 << BITS[field]) - 1)


class Final(Enum):
    """An action that ends a frame's way through the tables."""

    DROP = "drop"
    NORMAL = "normal"  # leave it to the learning switch


Action: TypeAlias = Final | int  # an int is the table that goes on

# Copies that nobody reads: of what a rule copies, the switch's cache of decisions keeps every bit apart.
_OF_ANY_IP = ("move:NXM_NX_IP_TTL[]->NXM_NX_REG9[0..7]", "move:NXM_OF_ETH_DST[]->OXM_OF_PKT_REG5[0..47]")
_KEPT_APART = {
    0x0800: ("move:NXM_OF_IP_SRC[]->NXM_NX_REG0[]", "move:NXM_OF_IP_DST[]->NXM_NX_REG1[]", *_OF_ANY_IP),
    0x86DD: (
        "move:NXM_NX_IPV6_SRC[]->NXM_NX_XXREG0[]",
        "move:NXM_NX_IPV6_DST[]->NXM_NX_XXREG1[]",
        "move:NXM_NX_IPV6_LABEL[]->NXM_NX_REG8[0..19]",
        *_OF_ANY_IP,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A rule. Table, priority and match identify it; `reason` is what its packet counter counts.

    `apart`, of a rule for IP: what is decided for one frame is cached for others with the same addresses, hop limit and
    flow label only.
    """

    table: int
    priority: int
    match: tuple[Term, ...]
    action: Action
    cookie: int
    reason: DropReason | None = None
    apart: bool = False

    def text(self) -> str:
        """The rule for `ovs-ofctl -O OpenFlow14 add-flows`."""
        action = self.action.value if isinstance(self.action, Final) else f"resubmit(,{self.action})"
        if self.apart:
            ethertype = next(term.value for term in self.match if term.field is Field.ETHERTYPE)
            action = ",".join((*_KEPT_APART[ethertype], action))
        parts = [f"cookie={self.cookie:#x}", f"table={self.table}", f"priority={self.priority}"]
        parts += [term.text() for term in self.match]
        return ",".join([*parts, f"actions={action}"])
