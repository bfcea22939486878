"""Do these rules really enforce this lock?

One verdict per class of packets, with a packet that shows the contrary.
Called after a lock is compiled, and on rules read back from a live switch; the same frames can be sent
through the switch's own trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import vlan_tag
from poolnet.lock.flows import Field, Flow
from poolnet.lock.nft_limits import unread
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.openflow import SHARED_COOKIE
from poolnet.lock.owned import link_local, owned
from poolnet.lock.packets import CORPUS, Addresses, Case, Expect
from poolnet.lock.policy import Verdict, allows
from poolnet.lock.reasons import DropReason
from poolnet.lock.switchmodel import SwitchModel

Sent = tuple[bool, DropReason | None]
NO_IPV4, NO_IPV6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")  # documentation addresses: nobody's
STRANGERS4 = tuple(IPv4Address(text) for text in ("198.51.100.2", "203.0.113.2"))
STRANGERS6 = tuple(IPv6Address(text) for text in ("2001:db8:1::2", "fd00:1:2::3"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassVerdict:
    """What the rules do with a class of packets; `counterexample` is a frame they treat wrongly."""

    name: str
    title: str
    expect: Expect
    passes: bool
    counterexample: bytes | None = None

    @property
    def proved(self) -> bool:
        """No packet of the class is treated wrongly."""
        return self.counterexample is None


def prove(lock: PortLock, flows: Iterable[Flow], *, ofport: int | None = None) -> tuple[ClassVerdict, ...]:
    """Run the corpus, built for each of the lock's prefixes, through the shared rules and the port's `flows`.

    `ofport` may be left out when the rules are of one port only. A class is proved when the rules agree with
    `policy.allows` on every packet of it: whether it passes, and for what reason it is counted. For a locked
    port with addresses the corpus' own verdict was checked against the policy beforehand (a test does).

    Raises ValueError when the port cannot be told, `AmbiguousRulesError` when rules overlap.
    """
    rules = tuple(flows)
    port = ofport if ofport is not None or lock.mode is LockMode.DISABLED else _only_port(rules)
    switch = SwitchModel(rules)

    def send(frame: bytes) -> Sent:
        outcome = switch.run(frame, port or 0)
        return outcome.passes, outcome.reason

    return verdicts(lock, send)


def prove_bridge(lock: PortLock, model: BridgeModel, device: str) -> tuple[ClassVerdict, ...]:
    """`prove` for a port of a Linux bridge, by the rules that are installed there.

    What nftables does not read to its end (`nft_limits`) it may stop. Raises ValueError as `prove`.
    """

    def send(frame: bytes) -> Sent:
        outcome = model.sends(device, frame)
        if lock.mode is LockMode.LOCKED and unread(frame):
            meant = allows(lock, frame)
            return outcome.passes or (meant.passes and not lock.shadow), meant.reason
        return outcome.passes, outcome.reason

    return verdicts(lock, send)


def verdicts(lock: PortLock, send: Callable[[bytes], Sent]) -> tuple[ClassVerdict, ...]:
    """One verdict per class of the corpus, by what `send` says becomes of each frame and what is counted against it."""
    everybody = tuple(standpoints(lock))
    return tuple(_class_verdict(lock, send, case, everybody) for case in CORPUS)


def standpoints(lock: PortLock) -> Iterator[Addresses]:
    """For whom to build packets: each end of each prefix of the lock, and neighbours that it does not own.

    Raises ValueError when the lock's MAC is no unicast address.
    """
    mine = owned(lock) if lock.mode is LockMode.LOCKED else owned(PortLock(mode=lock.mode, mac=lock.mac))
    local = link_local(mine.mac)
    own4 = [end for net4 in mine.ipv4 for end in (net4[0], net4[-1])] or [NO_IPV4]
    own6 = [end for net6 in mine.ipv6 for end in (net6[0], net6[-1]) if end != local] or [NO_IPV6]
    near4 = (IPv4Address(int(own4[0]) ^ 3), *STRANGERS4)
    near6 = (IPv6Address(int(own6[0]) ^ 3), *STRANGERS6)
    victim4 = next((near for near in near4 if not any(near in prefix for prefix in mine.ipv4)), near4[0])
    victim6 = next((near for near in near6 if not any(near in prefix for prefix in mine.ipv6)), near6[0])
    pairs = ((own4[index % len(own4)], own6[index % len(own6)]) for index in range(max(len(own4), len(own6))))
    for ipv4, ipv6 in dict.fromkeys(pairs):
        yield Addresses(
            mac=mine.mac,
            ipv4=ipv4,
            ipv6=ipv6,
            victim_mac=mine.mac[:5] + bytes((mine.mac[5] ^ 3,)),
            victim_ipv4=victim4,
            victim_ipv6=victim6,
        )


def as_sent(lock: PortLock, frame: bytes) -> bytes:
    """`frame` with the tag that a guest on this trunk port would give it; unchanged on an access port."""
    if not lock.trunks or 0 in lock.trunks or frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
        return frame
    return vlan_tag(frame, lock.trunks[0])


def _class_verdict(
    lock: PortLock, send: Callable[[bytes], Sent], case: Case, everybody: tuple[Addresses, ...]
) -> ClassVerdict:
    passes = True
    wrong: bytes | None = None
    for addresses in everybody:
        frame = as_sent(lock, case.build(addresses))
        does_pass, reason = send(frame)
        passes = passes and does_pass
        meant = allows(lock, frame)
        if wrong is None and not _agrees(does_pass, reason, meant):
            wrong = frame
    return ClassVerdict(
        name=case.name, title=case.title, expect=case.expect, passes=passes, counterexample=wrong
    )


def _agrees(passes: bool, reason: object, meant: Verdict) -> bool:
    counted = (
        reason == meant.reason or not meant.passes
    )  # a drop may be counted elsewhere, a pass must be counted
    return passes == meant.passes and counted


def _only_port(rules: tuple[Flow, ...]) -> int:
    ports = {
        term.value
        for flow in rules
        if flow.cookie != SHARED_COOKIE
        for term in flow.match
        if term.field is Field.IN_PORT
    }
    if len(ports) != 1:
        raise ValueError(f"the rules are of {len(ports)} ports: say which one to prove")
    return ports.pop()
