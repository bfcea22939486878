"""The frames of an attacker in a guest, and those of an honest guest, made with scapy: a second opinion on our own builder.

What must become of each is written here by hand, from dataplane.md §B and from what the documentation promises, and not
computed by the policy. No two frames are the same, so that one capture tells about all of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Advertise,
    DHCP6_RelayReply,
    DHCP6_Reply,
    DHCP6_Request,
    DHCP6_Solicit,
    DHCP6OptClientId,
    DHCP6OptIA_NA,
    DHCP6OptServerId,
)
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    ICMPv6MRD_Advertisement,
    ICMPv6MRD_Solicitation,
    ICMPv6MRD_Termination,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

BROADCAST = "ff:ff:ff:ff:ff:ff"
FOREIGN_MAC = "aa:bb:cc:00:00:99"  # nobody's
ALL_NODES, ALL_ROUTERS, MLDV2 = "ff02::1", "ff02::2", "ff02::16"
NOBODY = "0.0.0.0"
_SHORTEST = 60  # bytes without FCS: a NIC pads


@dataclass(frozen=True, slots=True)
class Party:
    """A machine in the network: what is its own."""

    mac: str
    ip: str
    ip6: str

    @property
    def local(self) -> str:
        """The link-local address that is made of the MAC."""
        first, *rest = bytes.fromhex(self.mac.replace(":", ""))
        interface = bytes((first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]))
        return str(IPv6Address(b"\xfe\x80" + bytes(6) + interface))


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame, and what must become of it when its sender is locked."""

    name: str
    frame: bytes
    passes: bool


def everything(me: Party, victim: Party) -> tuple[Sent, ...]:
    """All frames, of `me` in both roles: honest, and pretending to be the victim or somebody else."""
    good = [Sent(name, _wire(packet), True) for name, packet in honest(me, victim)]
    bad = [Sent(name, _wire(packet), False) for name, packet in attacks(me, victim)]
    stolen = bytes.fromhex(
        victim.mac.replace(":", "")
    )  # what would turn the victim's frames away from it comes last
    found = [*good, *bad]
    random.Random(0).shuffle(found)  # so that good ones tell how far the switch has come
    found.sort(key=lambda sent: sent.frame[6:12] == stolen)
    assert len({sent.frame for sent in found}) == len({sent.name for sent in found}) == len(found)
    return tuple(found)


def attacks_of(me: Party, victim: Party) -> Iterator[Sent]:
    """The frames that must reach nobody."""
    return (sent for sent in everything(me, victim) if not sent.passes)


def never_forwarded(sent: Sent) -> bool:
    """Whether no bridge forwards it, whatever its rules: to link-local groups (IEEE 802.1D), from a group or from nobody."""
    return (
        sent.frame[:5] == bytes.fromhex("0180c20000") or bool(sent.frame[6] & 1) or not any(sent.frame[6:12])
    )


def _wire(packet: Packet | bytes) -> bytes:
    return bytes(packet).ljust(_SHORTEST, b"\0")


def _solicited(address: str) -> str:
    return str(IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + IPv6Address(address).packed[13:]))


def _group_mac(address: str) -> str:
    return "33:33:" + IPv6Address(address).packed[12:].hex(":")


def _to(me: Party, victim: Party, destination: str = "") -> Packet:
    """The Ethernet header to an address: a group's, or the victim's."""
    group = ":" in destination and IPv6Address(destination).is_multicast
    return Ether(src=me.mac, dst=_group_mac(destination) if group else victim.mac)


def honest(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    """What a locked guest must be able to send."""
    yield from _honest_arp(me, victim)
    yield from _honest_ipv4(me, victim)
    yield from _honest_ipv6(me, victim)
    yield from _honest_icmpv6(me, victim)


def attacks(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    """What must reach nobody."""
    yield from _attacks_ethernet(me, victim)
    yield from _attacks_arp(me, victim)
    yield from _attacks_ipv4(me, victim)
    yield from _attacks_dhcp(me, victim)
    yield from _attacks_ipv6(me, victim)
    yield from _attacks_neighbor(me, victim)
    yield from _attacks_router(me, victim)
    yield from _attacks_hidden(me, victim)


def _honest_arp(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    everybody, it = Ether(src=me.mac, dst=BROADCAST), Ether(src=me.mac, dst=victim.mac)
    own = {"hwsrc": me.mac, "psrc": me.ip}
    yield "ARP request", everybody / ARP(op=1, **own, pdst=victim.ip)
    yield "ARP request, unicast", it / ARP(op=1, **own, pdst=victim.ip, hwdst=victim.mac)
    yield "ARP reply", it / ARP(op=2, **own, hwdst=victim.mac, pdst=victim.ip)
    yield "ARP announcement", everybody / ARP(op=1, **own, pdst=me.ip)
    yield "gratuitous ARP reply", everybody / ARP(op=2, **own, hwdst=BROADCAST, pdst=me.ip)
    yield "ARP probe", everybody / ARP(op=1, hwsrc=me.mac, psrc=NOBODY, pdst=me.ip)


def _honest_ipv4(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    head = Ether(src=me.mac, dst=victim.mac)
    everybody = Ether(src=me.mac, dst=BROADCAST)
    own = {"src": me.ip, "dst": victim.ip}
    yield "TCP", head / IP(**own) / TCP(sport=40000, dport=80)
    yield "UDP", head / IP(**own) / UDP(sport=40000, dport=53) / DNS(qd=DNSQR(qname="example.com"))
    yield "ping", head / IP(**own) / ICMP() / Raw(bytes(56))
    yield "SCTP", head / IP(**own) / SCTP(sport=1, dport=2) / SCTPChunkInit()
    yield "GRE", head / IP(**own) / GRE() / IP(src="172.16.0.1", dst="172.16.0.2") / ICMP()
    yield "IPsec ESP", head / IP(**own) / ESP(spi=7, seq=1, data=bytes(32))
    yield "IPsec AH", head / IP(**own, proto=51) / AH(spi=7, seq=1, icv=bytes(12), nh=6) / TCP()
    yield "IP in IP", head / IP(**own) / IP(src="172.16.0.1", dst="172.16.0.2") / ICMP()
    yield "IPv6 in IPv4", head / IP(**own) / IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP()
    for protocol in (2, 46, 88, 103, 115, 136, 253, 255):
        yield f"IP protocol {protocol}", head / IP(**own, proto=protocol) / Raw(bytes(32))
    for protocol, group in ((89, "224.0.0.5"), (112, "224.0.0.18"), (2, "224.0.0.22")):
        multicast = Ether(src=me.mac, dst="01:00:5e:00:00:" + f"{int(group.split('.')[3]):02x}")
        yield (
            f"{group}, protocol {protocol}",
            multicast / IP(src=me.ip, dst=group, proto=protocol) / Raw(bytes(20)),
        )
    yield "broadcast", everybody / IP(src=me.ip, dst="255.255.255.255") / UDP(sport=40000, dport=9)
    yield "router alert", head / IP(**own, options=[IPOption_Router_Alert()]) / ICMP()
    yield (
        "record route",
        head / IP(**own, options=[IPOption_RR(routers=[NOBODY] * 4)]) / UDP(sport=67 << 8, dport=9),
    )
    yield (
        "first fragment",
        head / IP(**own, flags="MF", id=1) / UDP(sport=40000, dport=53, len=1208) / Raw(bytes(592)),
    )
    yield "middle fragment", head / IP(**own, flags="MF", frag=75, id=1, proto=17) / Raw(bytes(600))
    yield "last fragment", head / IP(**own, frag=150, id=1, proto=17) / Raw(bytes(8))
    yield (
        "fragment that looks like a DHCP server's",
        head / IP(**own, frag=9, proto=17) / UDP(sport=67, dport=68),
    )
    client = UDP(sport=68, dport=67)
    hardware = bytes.fromhex(me.mac.replace(":", ""))
    for kind in ("discover", "request", "decline"):
        ask = BOOTP(chaddr=hardware) / DHCP(options=[("message-type", kind), "end"])
        yield f"DHCP {kind}", everybody / IP(src=NOBODY, dst="255.255.255.255") / client / ask
    bound = BOOTP(chaddr=hardware, ciaddr=me.ip)
    for kind in ("request", "release"):
        ask = bound / DHCP(options=[("message-type", kind), "end"])
        yield f"DHCP {kind}, unicast", head / IP(**own) / client / ask
    inform = bound / DHCP(options=[("message-type", "inform"), "end"])
    yield "DHCP inform", everybody / IP(src=me.ip, dst="255.255.255.255") / client / inform


def _honest_ipv6(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    head = Ether(src=me.mac, dst=victim.mac)
    own = {"src": me.ip6, "dst": victim.ip6}
    yield "TCP 6", head / IPv6(**own) / TCP(sport=40000, dport=80)
    yield "UDP 6", head / IPv6(**own) / UDP(sport=40000, dport=53)
    yield "TCP 6 from link-local", head / IPv6(src=me.local, dst=victim.local) / TCP(sport=40000, dport=80)
    yield "SCTP 6", head / IPv6(**own) / SCTP(sport=1, dport=2) / SCTPChunkInit()
    yield "GRE 6", head / IPv6(**own) / GRE() / IP(src="172.16.0.1", dst="172.16.0.2") / ICMP()
    yield "IPsec ESP 6", head / IPv6(**own) / ESP(spi=7, seq=1, data=bytes(32))
    yield "IPsec AH 6", head / IPv6(**own, nh=51) / AH(spi=7, seq=1, icv=bytes(12), nh=6) / TCP()
    yield "no next header", head / IPv6(**own, nh=59)
    for protocol in (4, 41, 89, 103, 112, 136, 253):
        yield f"IPv6 protocol {protocol}", head / IPv6(**own, nh=protocol) / Raw(bytes(32))
    yield (
        "hop-by-hop options",
        head / IPv6(**own) / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(2))]) / UDP(),
    )
    yield "destination options", head / IPv6(**own) / IPv6ExtHdrDestOpt() / TCP()
    yield "atomic fragment", head / IPv6(**own) / IPv6ExtHdrFragment() / TCP(sport=1)
    ask = UDP(sport=40000, dport=53, len=1208, chksum=7)
    yield "first fragment 6", head / IPv6(**own) / IPv6ExtHdrFragment(m=1, id=5) / ask / Raw(bytes(592))
    yield "last fragment 6", head / IPv6(**own) / IPv6ExtHdrFragment(offset=75, id=5, nh=17) / Raw(bytes(608))
    for kind in (DHCP6_Solicit, DHCP6_Request):
        message = kind(trid=3) / DHCP6OptClientId(duid=DUID_LL(lladdr=me.mac)) / DHCP6OptIA_NA(iaid=1)
        server = "ff02::1:2"
        packet = IPv6(src=me.local, dst=server) / UDP(sport=546, dport=547) / message
        yield f"DHCPv6 {kind.__name__}", _to(me, victim, server) / packet
    mdns = IPv6(src=me.local, dst="ff02::fb") / UDP(sport=5353, dport=5353) / DNS(qd=DNSQR(qname="a.local"))
    yield "mDNS from link-local", _to(me, victim, "ff02::fb") / mdns


def _honest_icmpv6(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    def to(destination: str, message: Packet, source: str = me.ip6, **fields: int) -> Packet:
        return _to(me, victim, destination) / IPv6(src=source, dst=destination, **fields) / message

    own_link, own_target = ICMPv6NDOptSrcLLAddr(lladdr=me.mac), ICMPv6NDOptDstLLAddr(lladdr=me.mac)
    node = _solicited(victim.ip6)
    yield "ping 6", to(victim.ip6, ICMPv6EchoRequest(data=bytes(56)))
    yield "pong 6", to(victim.ip6, ICMPv6EchoReply(data=bytes(56)))
    big = to(victim.ip6, IPv6ExtHdrFragment(m=1, id=6) / ICMPv6EchoRequest(data=bytes(592), cksum=1))
    yield "big ping 6, first", big
    yield "big ping 6, last", to(victim.ip6, IPv6ExtHdrFragment(offset=75, id=6, nh=58) / Raw(bytes(608)))
    for error in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=1400), ICMPv6TimeExceeded()):
        quoted = IPv6(src=victim.ip6, dst=me.ip6) / UDP()
        yield f"error {type(error).__name__}", to(victim.ip6, error / quoted)
    yield "NS", to(node, ICMPv6ND_NS(tgt=victim.ip6) / own_link, hlim=255)
    yield "NS from link-local", to(node, ICMPv6ND_NS(tgt=victim.ip6) / own_link, me.local, hlim=255)
    yield "NS, unicast", to(victim.ip6, ICMPv6ND_NS(tgt=victim.ip6), hlim=255)
    yield (
        "NS for a link-local address",
        to(_solicited(victim.local), ICMPv6ND_NS(tgt=victim.local) / own_link, hlim=255),
    )
    yield "NA", to(victim.ip6, ICMPv6ND_NA(tgt=me.ip6, R=0, S=1) / own_target, hlim=255)
    yield "NA without link address", to(victim.ip6, ICMPv6ND_NA(tgt=me.ip6, R=0, S=1), hlim=255)
    yield "NA, unsolicited", to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0, O=1) / own_target, hlim=255)
    yield "NA from link-local", to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0) / own_target, me.local, hlim=255)
    yield "NA of link-local", to(ALL_NODES, ICMPv6ND_NA(tgt=me.local, R=0) / own_target, me.local, hlim=255)
    for target in (me.ip6, me.local):
        yield f"DAD {target}", to(_solicited(target), ICMPv6ND_NS(tgt=target), "::", hlim=255)
    nonce = ICMPv6ND_NS(tgt=me.ip6) / Raw(b"\x0e\x01\x01\x02\x03\x04\x05\x06")
    yield "DAD with a nonce (RFC 7527)", to(_solicited(me.ip6), nonce, "::", hlim=255)
    yield "RS", to(ALL_ROUTERS, ICMPv6ND_RS() / own_link, me.local, hlim=255)
    yield "RS from ::", to(ALL_ROUTERS, ICMPv6ND_RS(), "::", hlim=255)
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"")])
    for source in (me.local, "::"):
        record = ICMPv6MLDMultAddrRec(rtype=4, dst=_solicited(me.ip6))
        yield (
            f"MLDv2 report from {source}",
            to(MLDV2, alert / ICMPv6MLReport2(records=[record]), source, hlim=1),
        )
    yield "MLDv1 report", to(node, alert / ICMPv6MLReport(mladdr=node), me.local, hlim=1)
    yield "MLDv1 done", to(ALL_ROUTERS, alert / ICMPv6MLDone(mladdr=node), me.local, hlim=1)


def _attacks_ethernet(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    ip = IP(src=me.ip, dst=victim.ip) / TCP(sport=40000, dport=81)
    own, everybody = Ether(src=me.mac, dst=victim.mac), Ether(src=me.mac, dst=BROADCAST)
    yield "foreign source MAC", Ether(src=FOREIGN_MAC, dst=victim.mac) / ip
    yield "victim's source MAC", Ether(src=victim.mac, dst=BROADCAST) / ip
    yield (
        "victim's source MAC, ARP",
        Ether(src=victim.mac, dst=BROADCAST) / ARP(hwsrc=victim.mac, psrc=victim.ip, pdst=me.ip),
    )
    yield "multicast source MAC", Ether(src="01" + me.mac[2:], dst=victim.mac) / ip
    yield "broadcast source MAC", Ether(src=BROADCAST, dst=victim.mac) / ip
    yield "no source MAC", Ether(src="00:00:00:00:00:00", dst=victim.mac) / ip
    yield (
        "foreign source MAC, IPv6",
        Ether(src=FOREIGN_MAC, dst=victim.mac) / IPv6(src=me.ip6, dst=victim.ip6) / TCP(),
    )
    for tag in (1, 10, 20, 4094):
        yield f"802.1Q tag {tag}", own / Dot1Q(vlan=tag) / ip
    yield "priority tag", own / Dot1Q(vlan=0, prio=5) / ip
    yield "802.1ad tag", own / Dot1AD(vlan=10) / ip
    yield "two 802.1Q tags", own / Dot1Q(vlan=10) / Dot1Q(vlan=20) / ip
    yield "802.1ad and 802.1Q tags", own / Dot1AD(vlan=10) / Dot1Q(vlan=20) / ip
    yield "tag 0 and tag 20", own / Dot1Q(vlan=0) / Dot1Q(vlan=20) / ip
    yield "old QinQ tag 0x9100", Ether(src=me.mac, dst=victim.mac, type=0x9100) / Raw(b"\0\x0a\x08\0") / ip
    yield "tagged ARP", everybody / Dot1Q(vlan=10) / ARP(op=2, hwsrc=me.mac, psrc=victim.ip, pdst=me.ip)
    for ethertype in (0x0842, 0x22F0, 0x8137, 0x8809, 0x8847, 0x8848, 0x8863, 0x8864, 0x888E, 0x88B5, 0x88CC, 0x88E5,
                      0x88F7, 0x8906, 0x9000, 0xFFFF):  # fmt: skip
        yield (
            f"EtherType {ethertype:#06x}",
            Ether(src=me.mac, dst=victim.mac, type=ethertype) / Raw(bytes(46)),
        )
    label = bytes.fromhex("000101ff")  # with the bottom of the stack: switches read it
    for ethertype in (0x8847, 0x8848):
        mpls = Ether(src=me.mac, dst=victim.mac, type=ethertype) / Raw(label) / ip
        yield f"MPLS, EtherType {ethertype:#06x}", mpls
    yield "spanning tree", Dot3(src=me.mac, dst="01:80:c2:00:00:00") / LLC() / STP()
    yield "LLDP", Ether(src=me.mac, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(46))
    yield "LACP", Ether(src=me.mac, dst="01:80:c2:00:00:02", type=0x8809) / Raw(b"\x01" + bytes(109))
    yield (
        "pause frame",
        Ether(src=me.mac, dst="01:80:c2:00:00:01", type=0x8808) / Raw(b"\0\x01\xff\xff" + bytes(42)),
    )
    yield (
        "CDP",
        Dot3(src=me.mac, dst="01:00:0c:cc:cc:cc") / LLC() / SNAP(OUI=0xC, code=0x2000) / Raw(bytes(30)),
    )
    yield "PVST+", Dot3(src=me.mac, dst="01:00:0c:cc:cc:cd") / LLC() / SNAP(OUI=0xC, code=0x10B) / STP()
    yield (
        "NetBEUI (LLC)",
        Dot3(src=me.mac, dst=victim.mac) / LLC(dsap=0xF0, ssap=0xF0, ctrl=3) / Raw(bytes(40)),
    )
    spoofed = IP(src=victim.ip, dst=me.ip) / UDP(sport=1, dport=2)
    yield (
        "spoofed IPv4 in SNAP",
        Dot3(src=me.mac, dst=victim.mac) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x800) / spoofed,
    )
    forged = ARP(op=2, hwsrc=me.mac, psrc=victim.ip, pdst=me.ip)
    yield (
        "spoofed ARP in SNAP",
        Dot3(src=me.mac, dst=BROADCAST) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x806) / forged,
    )


def _attacks_arp(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    everybody, it = Ether(src=me.mac, dst=BROADCAST), Ether(src=me.mac, dst=victim.mac)
    yield "ARP request as the victim", everybody / ARP(op=1, hwsrc=me.mac, psrc=victim.ip, pdst=me.ip)
    yield (
        "ARP reply as the victim",
        it / ARP(op=2, hwsrc=me.mac, psrc=victim.ip, hwdst=victim.mac, pdst=me.ip),
    )
    yield (
        "gratuitous ARP request as the victim",
        everybody / ARP(op=1, hwsrc=me.mac, psrc=victim.ip, pdst=victim.ip),
    )
    yield (
        "gratuitous ARP reply as the victim",
        everybody / ARP(op=2, hwsrc=me.mac, psrc=victim.ip, pdst=victim.ip),
    )
    yield (
        "ARP reply as the victim, with its MAC",
        everybody / ARP(op=2, hwsrc=victim.mac, psrc=victim.ip, pdst=me.ip),
    )
    for op, kind in ((1, "request"), (2, "reply")):
        for hardware, whose in (
            (FOREIGN_MAC, "foreign"),
            (victim.mac, "the victim's"),
            (BROADCAST, "broadcast"),
        ):
            packet = ARP(op=op, hwsrc=hardware, psrc=me.ip, hwdst=victim.mac, pdst=victim.ip)
            yield f"ARP {kind}, {whose} hardware address", everybody / packet
    yield "ARP reply from 0.0.0.0", everybody / ARP(op=2, hwsrc=me.mac, psrc=NOBODY, pdst=me.ip)
    yield (
        "ARP probe for the victim's address",
        everybody / ARP(op=1, hwsrc=me.mac, psrc=NOBODY, pdst=victim.ip),
    )
    yield (
        "ARP probe, foreign hardware address",
        everybody / ARP(op=1, hwsrc=FOREIGN_MAC, psrc=NOBODY, pdst=me.ip),
    )
    yield (
        "ARP request from 255.255.255.255",
        everybody / ARP(op=1, hwsrc=me.mac, psrc="255.255.255.255", pdst=me.ip),
    )
    for op in (3, 4):
        for ethertype in (0x8035, 0x0806):
            rarp = ARP(op=op, hwsrc=me.mac, psrc=me.ip, hwdst=me.mac, pdst=me.ip)
            yield (
                f"RARP operation {op}, EtherType {ethertype:#06x}",
                Ether(src=me.mac, dst=BROADCAST, type=ethertype) / rarp,
            )
    foreign = ARP(op=3, hwsrc=FOREIGN_MAC, psrc=victim.ip, hwdst=FOREIGN_MAC, pdst=victim.ip)
    yield "RARP, foreign", Ether(src=me.mac, dst=BROADCAST, type=0x8035) / foreign
    for op in (0, 8, 9, 23, 258, 0xFFFF):
        yield f"ARP operation {op}", everybody / ARP(op=op, hwsrc=me.mac, psrc=me.ip, pdst=victim.ip)
    yield (
        "ARP of another hardware type",
        everybody / ARP(hwtype=6, op=2, hwsrc=me.mac, psrc=me.ip, pdst=victim.ip),
    )
    yield (
        "ARP of another protocol",
        everybody / ARP(ptype=0x86DD, op=2, hwsrc=me.mac, psrc=me.ip, pdst=victim.ip, plen=4),
    )
    yield "ARP, cut off", Ether(bytes(everybody / ARP(op=2, hwsrc=me.mac, psrc=me.ip, pdst=victim.ip))[:30])


def _attacks_ipv4(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    head = Ether(src=me.mac, dst=victim.mac)
    for source in (victim.ip, "8.8.8.8", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", NOBODY):
        yield f"TCP from {source}", head / IP(src=source, dst=victim.ip) / TCP(sport=40000, dport=82)
        yield f"UDP from {source}", head / IP(src=source, dst=victim.ip) / UDP(sport=40000, dport=82)
        yield f"ping from {source}", head / IP(src=source, dst=victim.ip) / ICMP()
    yield (
        "redirect as the victim",
        head / IP(src=victim.ip, dst=me.ip) / ICMP(type=5, gw=me.ip) / IP() / UDP(),
    )
    yield (
        "IGMP query as the victim",
        head / IP(src=victim.ip, dst="224.0.0.1", proto=2) / Raw(b"\x11\x64\xee\x9b" + bytes(4)),
    )
    yield "first fragment, spoofed", head / IP(src=victim.ip, dst=me.ip, flags="MF") / UDP() / Raw(bytes(64))
    yield "later fragment, spoofed", head / IP(src=victim.ip, dst=me.ip, frag=9, proto=17) / Raw(bytes(64))
    yield (
        "options, spoofed",
        head / IP(src=victim.ip, dst=me.ip, options=[IPOption_RR(routers=[me.ip])]) / ICMP(),
    )
    yield "header too short", head / IP(src=me.ip, dst=victim.ip, ihl=4) / ICMP(type=8, code=7)
    yield "longer than it is", head / IP(src=me.ip, dst=victim.ip, len=900, ttl=63) / ICMP(type=8, code=8)
    yield "longer than it is, spoofed", head / IP(src=victim.ip, dst=me.ip, len=900, ttl=63) / ICMP()
    yield (
        "IPv6 behind EtherType 0x0800",
        Ether(src=me.mac, dst=victim.mac, type=0x800) / IPv6(src=me.ip6, dst=victim.ip6) / TCP(),
    )
    yield (
        "IPv4 behind EtherType 0x86dd",
        Ether(src=me.mac, dst=victim.mac, type=0x86DD) / IP(src=me.ip, dst=victim.ip) / TCP(),
    )


def _attacks_dhcp(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    head, everybody = Ether(src=me.mac, dst=victim.mac), Ether(src=me.mac, dst=BROADCAST)
    hardware = bytes.fromhex(victim.mac.replace(":", ""))
    offer = BOOTP(op=2, yiaddr=victim.ip, siaddr=me.ip, chaddr=hardware) / DHCP(
        options=[("message-type", "offer"), ("router", me.ip), "end"]
    )
    for source in (me.ip, victim.ip, NOBODY):
        for ether, target in ((head, victim.ip), (everybody, "255.255.255.255")):
            yield (
                f"DHCP offer {source} to {target}",
                ether / IP(src=source, dst=target) / UDP(sport=67, dport=68) / offer,
            )
    # Many clients look at the destination port only.
    yield (
        "DHCP offer from another port",
        head / IP(src=me.ip, dst=victim.ip) / UDP(sport=1067, dport=68) / offer,
    )
    yield (
        "DHCP offer from another port, broadcast",
        everybody / IP(src=me.ip, dst="255.255.255.255") / UDP(sport=1067, dport=68) / offer,
    )
    yield (
        "DHCP offer from the client's port",
        head / IP(src=me.ip, dst=victim.ip) / UDP(sport=68, dport=68) / offer,
    )
    yield "DHCP relay", head / IP(src=me.ip, dst=victim.ip) / UDP(sport=67, dport=67) / offer
    yield (
        "DHCP offer behind options",
        head
        / IP(src=me.ip, dst=victim.ip, options=[IPOption_Router_Alert()])
        / UDP(sport=67, dport=68)
        / offer,
    )
    yield (
        "DHCP offer, first fragment",
        head
        / IP(src=me.ip, dst=victim.ip, flags="MF", proto=17)
        / Raw(bytes(UDP(sport=67, dport=68, len=400) / offer)[:64]),
    )
    yield (
        "DHCP offer, first fragment, another port",
        head
        / IP(src=me.ip, dst=victim.ip, flags="MF", proto=17)
        / Raw(bytes(UDP(sport=1067, dport=68, len=400) / offer)[:64]),
    )
    ask = BOOTP(chaddr=hardware) / DHCP(options=[("message-type", "request"), "end"])
    for source, target in (
        (victim.ip, "255.255.255.255"),
        (victim.ip, me.ip),
        (NOBODY, victim.ip),
        ("8.8.8.8", victim.ip),
    ):
        yield (
            f"DHCP request {source} to {target}",
            everybody / IP(src=source, dst=target) / UDP(sport=68, dport=67) / ask,
        )
    for sport, dport in ((67, 67), (68, 69), (40000, 67), (68, 53)):
        packet = IP(src=NOBODY, dst="255.255.255.255") / UDP(sport=sport, dport=dport) / ask
        yield f"0.0.0.0:{sport} to port {dport}", everybody / packet
    yield (
        "0.0.0.0:68 to port 67, TCP",
        everybody / IP(src=NOBODY, dst="255.255.255.255") / TCP(sport=68, dport=67),
    )
    server = DHCP6OptServerId(duid=DUID_LL(lladdr=me.mac))
    for kind in (DHCP6_Advertise, DHCP6_Reply):
        for source in (me.local, me.ip6, victim.local):
            for port in (547, 546, 40000):
                packet = (
                    IPv6(src=source, dst=victim.local) / UDP(sport=port, dport=546) / kind(trid=3) / server
                )
                yield f"{kind.__name__} from {source}, port {port}", head / packet
    relay = DHCP6_RelayReply(linkaddr=me.ip6, peeraddr=victim.local)
    yield "DHCPv6 relay", head / IPv6(src=me.local, dst=victim.local) / UDP(sport=547, dport=547) / relay
    for sport in (547, 40001):
        reply = UDP(sport=sport, dport=546) / DHCP6_Reply(trid=4) / server
        for header in (IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop(), IPv6ExtHdrFragment()):
            packet = IPv6(src=me.local, dst=victim.local) / header / reply
            yield f"DHCPv6 reply from {sport} behind {type(header).__name__}", head / packet
        cut = IPv6ExtHdrFragment(m=1, nh=17) / Raw(bytes(IPv6(src=me.local, dst=victim.local) / reply)[40:56])
        yield f"DHCPv6 reply from {sport}, first fragment", head / IPv6(src=me.local, dst=victim.local) / cut


def _attacks_ipv6(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    head = Ether(src=me.mac, dst=victim.mac)
    for source in (
        victim.ip6,
        victim.local,
        "2001:db8:9::9",
        "::1",
        "::",
        "ff02::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ):
        yield f"TCP 6 from {source}", head / IPv6(src=source, dst=victim.ip6) / TCP(sport=40000, dport=83)
        yield f"UDP 6 from {source}", head / IPv6(src=source, dst=victim.ip6) / UDP(sport=40000, dport=83)
        yield f"ping 6 from {source}", head / IPv6(src=source, dst=victim.ip6) / ICMPv6EchoRequest()
        yield f"protocol 253 from {source}", head / IPv6(src=source, dst=victim.ip6, nh=253) / Raw(bytes(16))
    for header in (IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop(), IPv6ExtHdrFragment(), IPv6ExtHdrFragment(m=1)):
        packet = IPv6(src=victim.ip6, dst=me.ip6) / header / TCP()
        yield f"spoofed behind {type(header).__name__} {header.fields.get('m', 0)}", head / packet
    yield (
        "spoofed later fragment",
        head / IPv6(src=victim.ip6, dst=me.ip6) / IPv6ExtHdrFragment(offset=9, nh=6) / Raw(bytes(32)),
    )
    yield (
        "spoofed behind a routing header",
        head / IPv6(src=victim.ip6, dst=me.ip6) / IPv6ExtHdrRouting(type=4) / TCP(),
    )
    # With a flow label of their own: Open vSwitch in the kernel stops what else looks the same to it (docs/user/locks.md).
    broken = {"src": me.ip6, "dst": victim.ip6, "fl": 0xBAD}
    yield "headers cut off", head / IPv6(**broken, nh=0) / Raw(b"\x3a\x08" + bytes(14))
    yield "headers cut off in the middle", head / IPv6(**broken, nh=60) / Raw(b"\x06\x00\x01")
    yield "longer than it is 6", head / IPv6(**broken, plen=900) / UDP(sport=1, dport=2)
    spoofed = {"src": victim.ip6, "dst": me.ip6, "fl": 0xBAD}
    yield "longer than it is 6, spoofed", head / IPv6(**spoofed, plen=900) / UDP(sport=1, dport=2)
    yield "ICMPv6 cut off", head / IPv6(src=me.ip6, dst=victim.ip6, nh=58) / Raw(b"\x86\0")
    yield "ICMPv6 without a message", head / IPv6(src=me.ip6, dst=victim.ip6, nh=58)
    yield (
        "MLDv2 report from ::, elsewhere",
        Ether(src=me.mac, dst=_group_mac(ALL_NODES))
        / IPv6(src="::", dst=ALL_NODES, hlim=1)
        / ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(dst=ALL_NODES)]),
    )
    yield "RS from ::, elsewhere", head / IPv6(src="::", dst=victim.ip6, hlim=255) / ICMPv6ND_RS()
    yield "RS from the victim", head / IPv6(src=victim.local, dst=ALL_ROUTERS, hlim=255) / ICMPv6ND_RS()
    own_link = ICMPv6NDOptSrcLLAddr(lladdr=me.mac)
    yield (
        "RS from the victim, with a link address",
        head / IPv6(src=victim.local, dst=ALL_ROUTERS) / ICMPv6ND_RS() / own_link,
    )


def _attacks_neighbor(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    def to(destination: str, message: Packet, source: str = me.ip6, hops: int = 255) -> Packet:
        return _to(me, victim, destination) / IPv6(src=source, dst=destination, hlim=hops) / message

    def source_link(mac: str) -> Packet:
        return ICMPv6NDOptSrcLLAddr(lladdr=mac)

    def target_link(mac: str) -> Packet:
        return ICMPv6NDOptDstLLAddr(lladdr=mac)

    for target in (victim.ip6, victim.local, "2001:db8:9::9", "::"):
        for destination, solicited in ((ALL_NODES, 0), (victim.ip6, 1)):
            message = ICMPv6ND_NA(tgt=target, R=0, S=solicited, O=1) / target_link(me.mac)
            yield f"NA of {target} to {destination}", to(destination, message)
        yield (
            f"NA of {target} from link-local",
            to(ALL_NODES, ICMPv6ND_NA(tgt=target) / target_link(me.mac), me.local),
        )
        yield f"NA of {target} without link address", to(ALL_NODES, ICMPv6ND_NA(tgt=target, R=0))
    yield (
        "NA as the victim",
        to(ALL_NODES, ICMPv6ND_NA(tgt=victim.ip6, R=0) / target_link(me.mac), victim.ip6),
    )
    yield (
        "NA of my own, as the victim",
        to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0) / target_link(me.mac), victim.ip6),
    )
    yield "NA from ::", to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0) / target_link(me.mac), "::")
    for mac in (FOREIGN_MAC, victim.mac):
        for own in (me.ip6, me.local):
            yield f"NA of {own} with {mac}", to(ALL_NODES, ICMPv6ND_NA(tgt=own, R=0) / target_link(mac))
            node = _solicited(victim.ip6)
            yield f"NS from {own} with {mac}", to(node, ICMPv6ND_NS(tgt=victim.ip6) / source_link(mac), own)
        twice = ICMPv6ND_NA(tgt=me.ip6, R=0) / target_link(me.mac) / target_link(mac)
        yield f"NA, link address twice, own and {mac}", to(ALL_NODES, twice)
        swapped = ICMPv6ND_NA(tgt=me.ip6, R=0) / target_link(mac) / target_link(me.mac)
        yield f"NA, link address twice, {mac} and own", to(ALL_NODES, swapped)
        yield (
            f"NA, own source link, target {mac}",
            to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0) / source_link(me.mac) / target_link(mac)),
        )
        nonce = Raw(b"\x0e\x01\x01\x02\x03\x04\x05\x06")
        yield (
            f"NS, {mac} behind another option",
            to(_solicited(victim.ip6), ICMPv6ND_NS(tgt=victim.ip6) / nonce / source_link(mac)),
        )
    for source in (victim.ip6, victim.local, "2001:db8:9::9"):
        yield (
            f"NS from {source}",
            to(_solicited(me.ip6), ICMPv6ND_NS(tgt=me.ip6) / source_link(me.mac), source),
        )
        yield f"NS from {source} without link address", to(victim.ip6, ICMPv6ND_NS(tgt=victim.ip6), source)
    for target in (victim.ip6, victim.local, "2001:db8:9::9"):
        yield f"DAD for {target}", to(_solicited(target), ICMPv6ND_NS(tgt=target), "::")
    yield (
        "DAD with a link address",
        to(_solicited(me.ip6), ICMPv6ND_NS(tgt=me.ip6) / source_link(me.mac), "::"),
    )
    yield "DAD to one machine", to(victim.ip6, ICMPv6ND_NS(tgt=me.ip6), "::")
    yield (
        "NS of code 1",
        to(_solicited(victim.ip6), ICMPv6ND_NS(tgt=victim.ip6, code=1) / source_link(me.mac)),
    )
    yield "NA of code 1", to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0, code=1) / target_link(me.mac))
    yield (
        "NS from afar",
        to(_solicited(victim.ip6), ICMPv6ND_NS(tgt=victim.ip6) / source_link(me.mac), hops=64),
    )
    yield "NA from afar", to(ALL_NODES, ICMPv6ND_NA(tgt=me.ip6, R=0) / target_link(me.mac), hops=254)
    cut = IPv6(src=me.ip6, dst=ALL_NODES, nh=58, hlim=255) / Raw(b"\x88\0\0\0\x20\0\0\0" + bytes(8))
    yield "NA cut off", _to(me, victim, ALL_NODES) / cut


def _attacks_router(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    def to(destination: str, message: Packet, source: str, hops: int = 255) -> Packet:
        return _to(me, victim, destination) / IPv6(src=source, dst=destination, hlim=hops) / message

    prefix = ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
    for source in (me.local, me.ip6, victim.local):
        yield f"RA from {source}", to(ALL_NODES, ICMPv6ND_RA() / prefix, source)
        yield f"RA from {source}, unicast", to(victim.ip6, ICMPv6ND_RA() / prefix, source)
        yield f"RA from {source}, ending a router", to(ALL_NODES, ICMPv6ND_RA(routerlifetime=0), source)
        redirect = ICMPv6ND_Redirect(tgt=me.local, dst=victim.ip6) / ICMPv6NDOptDstLLAddr(lladdr=me.mac)
        yield f"redirect from {source}", to(victim.ip6, redirect, source)
        yield f"MLD query from {source}", to(ALL_NODES, ICMPv6MLQuery(), source, 1)
        yield f"MLDv2 query from {source}", to(ALL_NODES, ICMPv6MLQuery2(), source, 1)
        for kind in (ICMPv6MRD_Advertisement, ICMPv6MRD_Solicitation, ICMPv6MRD_Termination):
            yield f"{kind.__name__} from {source}", to("ff02::6a", kind(), source, 1)
        yield (
            f"renumbering from {source}",
            to(ALL_NODES, ICMPv6Unknown(type=138, code=0, msgbody=bytes(12)), source),
        )
    yield "RA from afar", to(victim.ip6, ICMPv6ND_RA() / prefix, me.local, 64)


def _attacks_hidden(me: Party, victim: Party) -> Iterator[tuple[str, Packet]]:
    """Behind extension headers, and in fragments. Of a message in several fragments it is the first that must not pass."""
    messages: Iterable[tuple[str, str, Packet]] = (
        ("RA", me.local, ICMPv6ND_RA()),
        ("redirect", me.local, ICMPv6ND_Redirect(tgt=me.local, dst=victim.ip6)),
        ("NA of the victim", me.ip6, ICMPv6ND_NA(tgt=victim.ip6, O=1) / ICMPv6NDOptDstLLAddr(lladdr=me.mac)),
        ("NS as the victim", victim.ip6, ICMPv6ND_NS(tgt=me.ip6) / ICMPv6NDOptSrcLLAddr(lladdr=me.mac)),
        ("MLD query", me.local, ICMPv6MLQuery()),
    )
    for number, (name, source, message) in enumerate(messages):
        head = _to(me, victim, ALL_NODES) / IPv6(src=source, dst=ALL_NODES, hlim=255)
        hidden: tuple[tuple[str, Packet], ...] = (
            ("destination options", IPv6ExtHdrDestOpt()),
            ("hop-by-hop options", IPv6ExtHdrHopByHop()),
            ("a routing header", IPv6ExtHdrRouting(type=4)),
            ("two headers", IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()),
            ("two destination options", IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt()),
            ("long options", IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(68))])),
            ("an atomic fragment", IPv6ExtHdrFragment()),
            ("a first fragment", IPv6ExtHdrFragment(m=1)),
            ("options and an atomic fragment", IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment()),
            ("an atomic fragment and options", IPv6ExtHdrFragment() / IPv6ExtHdrDestOpt()),
            ("a first fragment and options", IPv6ExtHdrFragment(m=1) / IPv6ExtHdrDestOpt()),
            ("two fragment headers", IPv6ExtHdrFragment() / IPv6ExtHdrFragment(m=1)),
        )
        for where, headers in hidden:
            yield f"{name} behind {where}", head / headers / message
        yield f"{name} behind AH", head / AH(nh=58, spi=7, seq=1, icv=bytes(12)) / message
        tiny = IPv6ExtHdrFragment(m=1, nh=60, id=number) / Raw(b"\x3a\0\x01\x04" + bytes(4))
        yield f"tiny first fragment before {name}", head / tiny
        yield (
            f"{name}, fragment of its first 8 bytes",
            head
            / IPv6ExtHdrFragment(m=1, nh=58)
            / Raw(bytes(IPv6(src=source, dst=ALL_NODES) / message)[40:48]),
        )
