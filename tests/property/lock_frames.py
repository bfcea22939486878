"""Frames and locks to try the policy and its compilers with: packets of the corpus altered, and header chains."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from hypothesis import strategies as st

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import destination_options, fragment_header, icmpv6, ipv6, neighbor, udp, vlan_tag
from poolnet.lock.packets import ANY6, CORPUS, FOREIGN_MAC
from tests.unit.lock.lock_cases import LOCKED, US

PREFIXES4 = ("10.0.0.1", "10.0.0.2", "10.0.0.0/24", "0.0.0.0/0", "0.0.0.0/8", "192.0.2.0/31")
PREFIXES6 = ("fd00::1", "fd00::2", "fd00::/64", "::/0", "fe80::/10", "::/64")


def locks() -> st.SearchStrategy[PortLock]:
    return st.builds(
        lambda mode, ipv4_allowed, ipv6_allowed, trunks, shadow: replace(
            LOCKED,
            mode=mode,
            ipv4_allowed=tuple(ipv4_allowed),
            ipv6_allowed=tuple(ipv6_allowed),
            trunks=tuple(trunks),
            shadow=shadow,
        ),
        st.sampled_from(
            [LockMode.LOCKED, LockMode.LOCKED, LockMode.LOCKED, LockMode.UNLOCKED, LockMode.DISABLED]
        ),
        st.lists(st.sampled_from(PREFIXES4), max_size=3),
        st.lists(st.sampled_from(PREFIXES6), max_size=3),
        st.lists(st.sampled_from([0, 1, 20, 4094]), max_size=2),
        st.booleans(),
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(st.sampled_from(CORPUS)).build(US))
    for _ in range(draw(st.integers(0, 4))):
        index = draw(st.integers(0, min(len(frame) - 1, 110)))
        kind = draw(st.sampled_from(["byte", "bit", "cut", "insert"]))
        if kind == "byte":
            frame[index] = draw(st.integers(0, 255))
        elif kind == "bit":
            frame[index] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del frame[index : index + draw(st.integers(1, 16))]
        else:
            frame[index:index] = draw(st.binary(min_size=1, max_size=8))
        if not frame:
            break
    whole = bytes(frame)
    if draw(st.integers(0, 5)) == 0:
        whole = vlan_tag(
            whole, draw(st.sampled_from([0, 1, 20, 0x2014])), draw(st.sampled_from([0x8100, 0x88A8]))
        )
    return whole[: draw(st.integers(0, len(whole)))] if draw(st.integers(0, 9)) == 0 else whole


ADDRESSES6 = st.sampled_from(
    [US.ipv6, US.victim_ipv6, US.local, ANY6, IPv6Address("ff02::1"), IPv6Address("ff02::16")]
)
OPTIONS = st.tuples(st.sampled_from([1, 2, 14]), st.sampled_from([US.mac, FOREIGN_MAC, bytes(6)]))


@st.composite
def ipv6_packets(draw: st.DrawFn) -> bytes:
    source, destination = draw(ADDRESSES6), draw(ADDRESSES6)
    protocol = draw(st.sampled_from([58, 58, 58, 17, 6]))
    if protocol == 58:
        kind = draw(st.sampled_from([128, 129, 130, 133, 134, 135, 135, 136, 136, 137, 143, 0]))
        body = neighbor(draw(ADDRESSES6), *draw(st.lists(OPTIONS, max_size=3)))
        payload = icmpv6(source, destination, kind, body, code=draw(st.sampled_from([0, 0, 0, 1])))
    elif protocol == 17:
        payload = udp(draw(st.sampled_from([0, 546, 547, 53])), draw(st.sampled_from([546, 547])))
    else:
        payload = bytes(20)
    payload = payload[: draw(st.sampled_from([0, 4, 8, 24, 200, 200, 200]))]
    for header in draw(
        st.lists(st.sampled_from(["options", "routing", "fragment", "atomic", "later"]), max_size=3)
    ):
        if header in ("options", "routing"):
            payload, protocol = destination_options(protocol) + payload, 60 if header == "options" else 43
        else:
            later = 8 if header == "later" else 0
            payload = fragment_header(protocol, offset_bytes=later, more=header == "fragment") + payload
            protocol = 44
    packet = ipv6(
        source, destination, protocol, payload, hop_limit=draw(st.sampled_from([255, 255, 255, 64]))
    )
    return US.eth(0x86DD, packet)
