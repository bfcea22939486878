"""Why a lock stops a frame: the vocabulary of verdicts, of drop counters and of proofs."""

from __future__ import annotations

from enum import StrEnum


class DropReason(StrEnum):
    """What is wrong with a frame. The order is that of the counters' tables in the switch: append only."""

    VLAN = "vlan"  # a tag where none is allowed, or one that the trunk list lacks
    MAC = "mac"  # a foreign source address
    ETHERTYPE = "ethertype"  # neither ARP nor IPv4 nor IPv6
    ARP = "arp"  # a foreign sender in ARP, or no ARP at all for lack of IPv4 addresses
    IPV4_SOURCE = "ipv4-source"
    DHCP_SERVER = "dhcp-server"  # an answer of a DHCP or DHCPv6 server
    IPV6_SOURCE = "ipv6-source"
    NEIGHBOR_DISCOVERY = (
        "neighbor-discovery"  # a solicitation or advertisement that would mislead a neighbour
    )
    ROUTER_ADVERTISEMENT = "router-advertisement"
    REDIRECT = "redirect"
    ROUTER = "router"  # what else only routers send: MLD queries, renumbering, multicast router discovery
    FRAGMENT = "fragment"  # an IPv6 fragment that hides what it carries (RFC 6980, RFC 7112)
    HEADER_CHAIN = "header-chain"  # IPv6 whose headers cannot be read to their end
    DISABLED = "disabled"  # the port is on no bridge
