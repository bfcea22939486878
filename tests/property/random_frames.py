"""Any lock, and frames aimed at it: from its own addresses, from just beside them, and from anywhere; whole and broken."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import strategies as st

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import (
    arp,
    destination_options,
    ethernet,
    fragment_header,
    icmpv6,
    ipv4,
    ipv6,
    neighbor,
    tcp,
    udp,
    vlan_tag,
)
from poolnet.lock.owned import link_local, owned
from poolnet.lock.packets import CORPUS
from poolnet.lock.prove import standpoints

SPECIAL4 = tuple(map(IPv4Address, ("0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "10.0.0.1")))
SPECIAL6 = tuple(
    map(IPv6Address, ("::", "::1", "ff02::1", "ff02::2", "ff02::16", "ff02::1:2", "fe80::1", "fd00::1"))
)
BROADCAST = b"\xff" * 6
TAGS = (0, 1, 10, 20, 4094)
_TELLING_BYTES = (0, 1, 2, 4, 6, 17, 43, 44, 51, 58, 60, 67, 68, 133, 134, 135, 136, 137, 143, 255)


def locks() -> st.SearchStrategy[PortLock]:
    """Any lock: most of them locked, with some addresses and prefixes of all lengths."""
    bits = st.integers(0, 2**128 - 1)
    prefix4 = st.builds(
        lambda value, length: str(IPv4Network((value % 2**32, length), strict=False)),
        bits | st.sampled_from([int(address) for address in SPECIAL4]),
        st.sampled_from([32, 32, 32, 31, 30, 24, 16, 8, 1, 0]) | st.integers(0, 32),
    )
    prefix6 = st.builds(
        lambda value, length: str(IPv6Network((value, length), strict=False)),
        bits | st.sampled_from([int(address) for address in SPECIAL6]),
        st.sampled_from([128, 128, 128, 127, 64, 64, 48, 10, 1, 0]) | st.integers(0, 128),
    )
    mac = st.builds(lambda value: ((value & ~(1 << 40)) or 2).to_bytes(6).hex(":"), st.integers(0, 2**48 - 1))
    modes = [LockMode.LOCKED] * 8 + [LockMode.UNLOCKED, LockMode.DISABLED]
    return st.builds(
        lambda mode, mac, some4, some6, trunks, shadow: PortLock(
            mode=mode,
            mac=mac,
            ipv4_allowed=tuple(some4),
            ipv6_allowed=tuple(some6),
            trunks=tuple(trunks),
            shadow=shadow,
        ),
        st.sampled_from(modes),
        mac,
        st.lists(prefix4, max_size=4),
        st.lists(prefix6, max_size=4),
        st.just([]) | st.lists(st.sampled_from(TAGS), max_size=3, unique=True),
        st.sampled_from([False, False, False, True]),
    )


class Sender:
    """Whoever sits behind a lock, and sends what comes to its mind."""

    def __init__(self, lock: PortLock, chance: random.Random) -> None:
        """Raises ValueError when the lock has a bad MAC or address."""
        self._chance = chance
        self._lock = lock
        mine = owned(lock)
        self._mac = mine.mac
        self._addresses = tuple(standpoints(lock))
        self._near4 = tuple(map(IPv4Address, _around(mine.ipv4))) or SPECIAL4
        self._near6 = (*map(IPv6Address, _around(mine.ipv6)), link_local(mine.mac))
        self._macs = (
            mine.mac,
            mine.mac,
            mine.mac,
            bytes(6),
            BROADCAST,
            mine.mac[:5] + bytes((mine.mac[5] ^ 1,)),
        )

    def frames(self, count: int) -> Iterator[bytes]:
        """That many frames."""
        kinds = (
            self._of_the_corpus,
            self._of_the_corpus,
            self._arp,
            self._ipv4,
            self._ipv4,
            self._ipv6,
            self._ipv6,
            self._ipv6,
        )
        for _ in range(count):
            frame = self._chance.choice(kinds)() if self._chance.random() > 0.04 else self._noise()
            yield self._dressed(frame)

    def _dressed(self, frame: bytes) -> bytes:
        """With a tag, in SNAP, altered or cut off, now and then; as its trunk wants it, mostly."""
        chance = self._chance
        luck = chance.random()
        if luck < 0.15:
            frame = self._altered(frame)
        elif luck < 0.18:
            frame = frame[:12] + len(frame).to_bytes(2) + bytes.fromhex("aaaa03000000") + frame[12:]
        elif luck < 0.21:
            frame = frame[: chance.randrange(len(frame) + 1)]
        if self._lock.trunks and chance.random() < 0.8:
            tag = chance.choice(self._lock.trunks)
            return vlan_tag(frame, tag) if tag else frame
        if chance.random() < 0.05:
            frame = vlan_tag(
                frame, chance.choice(TAGS) | chance.choice((0, 0x6000)), chance.choice((0x8100, 0x88A8))
            )
        return frame

    def _altered(self, frame: bytes) -> bytes:
        chance, changed = self._chance, bytearray(frame)
        for _ in range(chance.randint(1, 3)):
            index = chance.randrange(max(1, min(len(changed), 110)))
            match chance.randrange(4):
                case 0:
                    changed[index : index + 1] = bytes((chance.choice(_TELLING_BYTES),))
                case 1:
                    changed[index : index + 1] = bytes((chance.randrange(256),))
                case 2:
                    changed[index:index] = chance.randbytes(chance.choice((1, 4, 8)))
                case _:
                    del changed[index : index + chance.choice((1, 2, 8))]
        return bytes(changed)

    def _noise(self) -> bytes:
        chance = self._chance
        head = b"" if chance.random() < 0.3 else chance.randbytes(6) + self._mac
        kind = chance.choice((b"\x08\0", b"\x08\x06", b"\x86\xdd", b"\x81\0", b"\0\x2e", b""))
        return head + kind + chance.randbytes(chance.randrange(120))

    def _of_the_corpus(self) -> bytes:
        return self._chance.choice(CORPUS).build(self._chance.choice(self._addresses))

    def _eth(self, ethertype: int, packet: bytes) -> bytes:
        source = self._mac if self._chance.random() < 0.97 else self._chance.choice(self._macs)
        to = self._chance.choice((BROADCAST, b"\x33\x33\0\0\0\1", self._mac[:5] + b"\x77"))
        return ethernet(to, source, ethertype, packet)

    def _ip4(self) -> IPv4Address:
        luck = self._chance.random()
        if luck < 0.7:
            return self._chance.choice(self._near4)
        return self._chance.choice(SPECIAL4) if luck < 0.9 else IPv4Address(self._chance.getrandbits(32))

    def _ip6(self) -> IPv6Address:
        luck = self._chance.random()
        if luck < 0.7:
            return self._chance.choice(self._near6)
        return self._chance.choice(SPECIAL6) if luck < 0.95 else IPv6Address(self._chance.getrandbits(128))

    def _arp(self) -> bytes:
        chance = self._chance
        operation = chance.choice((1, 1, 2, 2, 3, 4, chance.randrange(0x300)))
        sizes = (6, 4) if chance.random() < 0.95 else (chance.randrange(9), chance.randrange(17))
        sender = (self._mac if chance.random() < 0.8 else chance.choice(self._macs), self._ip4())
        return self._eth(
            0x0806, arp(operation, sender, (chance.choice(self._macs), self._ip4()), sizes=sizes)
        )

    def _port(self) -> int:
        return self._chance.choice((67, 68, 546, 547, 53, 0, self._chance.randrange(0x10000)))

    def _ipv4(self) -> bytes:
        chance = self._chance
        source, to = self._ip4(), chance.choice((SPECIAL4[1], self._ip4()))
        protocol = chance.choice((17, 17, 17, 6, 1, 2, 58, chance.randrange(256)))
        payload = udp(self._port(), self._port()) if protocol == 17 else tcp(1, 2)
        payload = payload[: chance.choice((64, 64, 64, 8, 4, 0))]
        offset, more = chance.choice((0, 0, 0, 0, 8)), chance.random() < 0.15
        packet = ipv4(source, to, protocol, payload, offset_bytes=offset, more=more)
        if chance.random() < 0.15:  # options, with the lengths put right
            words = chance.randint(1, 10)
            size = (len(packet) + 4 * words).to_bytes(2)
            packet = (
                bytes((0x45 + words, packet[1])) + size + packet[4:20] + b"\x01" * 4 * words + packet[20:]
            )
        return self._eth(0x0800, packet)

    def _ipv6(self) -> bytes:
        chance = self._chance
        source, to = self._ip6(), self._ip6()
        protocol = chance.choice((58, 58, 58, 58, 17, 17, 6, 59, 132, chance.randrange(256)))
        if protocol == 58:
            kind = chance.choice(
                (128, 129, 130, 133, 134, 135, 135, 135, 136, 136, 136, 137, 143, 0, chance.randrange(256))
            )
            links = [
                (chance.choice((1, 2, 14)), chance.choice(self._macs))
                for _ in range(chance.choice((0, 1, 1, 2, 3)))
            ]
            code = 0 if chance.random() < 0.9 else 1
            payload = icmpv6(source, to, kind, neighbor(self._ip6(), *links), code=code)
        elif protocol == 17:
            payload = udp(self._port(), self._port())
        else:
            payload = bytes(20)
        payload = payload[: chance.choice((200, 200, 200, 200, 24, 8, 4, 0))]
        headers = 0 if chance.random() < 0.6 else chance.randint(1, 4)
        for _ in range(headers):
            protocol, payload = self._extended(protocol, payload)
        hops = 255 if chance.random() < 0.9 else 64
        return self._eth(0x86DD, ipv6(source, to, protocol, payload, hop_limit=hops))

    def _extended(self, protocol: int, payload: bytes) -> tuple[int, bytes]:
        chance = self._chance
        header = chance.choice((0, 43, 44, 44, 51, 60))
        if header == 44:
            offset = 8 if chance.random() < 0.2 else 0
            return 44, fragment_header(protocol, offset_bytes=offset, more=chance.random() < 0.4) + payload
        if header == 51:  # in units of 4 bytes, less two
            size = chance.choice((2, 4, 6))
            return 51, bytes((protocol, size)) + bytes(size * 4 + 6) + payload
        return header, destination_options(protocol, chance.choice((1, 1, 2, 5))) + payload


def _around(prefixes: Sequence[IPv4Network] | Sequence[IPv6Network]) -> Iterator[int]:
    """The ends of each prefix twice, its middle, and what is just outside of it."""
    for prefix in prefixes:
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        yield from (first, last, first, (first + last) // 2)
        if first:
            yield first - 1
        if last + 1 < 1 << prefix.max_prefixlen:
            yield last + 1
