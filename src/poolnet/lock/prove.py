"""Do these rules really enforce this lock?

One verdict per class of packets, with a packet that shows the contrary. Which packets follows from the lock (`probes`):
the whole corpus from its first address, and from every end of every other prefix the packets that tell whether that
prefix is in the rules as it should be. What becomes of them may come from an evaluator of rules, or from the switch's own
trace; `judged` compares it with the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

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
# The packets that only an address decides: from further addresses, the others would tell nothing new.
_OF_ADDRESSES = frozenset(
    (
        *("L01", "L02", "L03", "L06", "A02", "A04", "A05", "A09", "A10"),
        *("L11", "L12", "L15", "L17", "A19", "A22", "A26", "A30"),
    )
)
# What makes a bridge that snoops multicast believe that a router is behind the port, if it passes.
ROUTER_QUERIES = frozenset(("A43", "A44"))


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
    return verdicts(lock, lambda frame: bridge_sent(lock, model, device, frame))


def bridge_sent(lock: PortLock, model: BridgeModel, device: str, frame: bytes) -> Sent:
    """What becomes of a frame by the rules of a Linux bridge; what they do not read to its end they may stop."""
    outcome = model.sends(device, frame)
    if lock.mode is LockMode.LOCKED and unread(frame):
        meant = allows(lock, frame)
        return outcome.passes or (meant.passes and not lock.shadow), meant.reason
    return outcome.passes, outcome.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A frame of a class, as the guest would send it, and what the lock says of it."""

    case: Case
    frame: bytes
    meant: Verdict


def probes(lock: PortLock) -> tuple[Probe, ...]:
    """The frames that show whether rules enforce a lock; none twice.

    Raises ValueError when the lock has a bad MAC or address (see `owned`).
    """
    found: dict[tuple[str, bytes], Probe] = {}
    for number, addresses in enumerate(standpoints(lock)):
        for case in CORPUS:
            if number and case.name not in _OF_ADDRESSES:
                continue
            frame = as_sent(lock, case.build(addresses))
            if (case.name, frame) not in found:
                found[case.name, frame] = Probe(case=case, frame=frame, meant=allows(lock, frame))
    return tuple(found.values())


def judged(tried: Sequence[Probe], sent: Iterable[Sent]) -> tuple[ClassVerdict, ...]:
    """One verdict per class, by what became of each frame and what was counted against it."""
    by_class: dict[str, list[tuple[Probe, Sent]]] = {}
    for probe, outcome in zip(tried, sent, strict=True):
        by_class.setdefault(probe.case.name, []).append((probe, outcome))
    return tuple(_class_verdict(found) for found in by_class.values())


def verdicts(lock: PortLock, send: Callable[[bytes], Sent]) -> tuple[ClassVerdict, ...]:
    """One verdict per class of packets, by what `send` says becomes of each frame."""
    tried = probes(lock)
    return judged(tried, (send(probe.frame) for probe in tried))


def standpoints(lock: PortLock) -> Iterator[Addresses]:
    """For whom to build packets: each end of each prefix of the lock, and next to it an address it does not own.

    That neighbour is in the prefix that is one bit shorter: a rule for any shorter one takes it in.
    Raises ValueError when the lock's MAC is no unicast address.
    """
    mine = owned(lock) if lock.mode is LockMode.LOCKED else owned(PortLock(mode=lock.mode, mac=lock.mac))
    local = link_local(mine.mac)
    # The link-local address comes last: with it alone, half of the corpus would be from one address.
    prefixes6 = sorted(mine.ipv6, key=lambda prefix: local in prefix and prefix.num_addresses == 1)
    own4 = [pair for prefix4 in mine.ipv4 for pair in _with_neighbours4(prefix4, mine.ipv4)]
    own6 = [pair for prefix6 in prefixes6 for pair in _with_neighbours6(prefix6, mine.ipv6)]
    own4 = own4 or [(NO_IPV4, IPv4Address(int(NO_IPV4) ^ 3))]
    own6 = own6 or [(NO_IPV6, IPv6Address(int(NO_IPV6) ^ 3))]
    pairs = ((own4[index % len(own4)], own6[index % len(own6)]) for index in range(max(len(own4), len(own6))))
    for (ipv4, victim4), (ipv6, victim6) in dict.fromkeys(pairs):
        yield Addresses(
            mac=mine.mac,
            ipv4=ipv4,
            ipv6=ipv6,
            victim_mac=mine.mac[:5] + bytes((mine.mac[5] ^ 3,)),
            victim_ipv4=victim4,
            victim_ipv6=victim6,
        )


def _with_neighbours4(
    prefix: IPv4Network, all_of_them: tuple[IPv4Network, ...]
) -> Iterator[tuple[IPv4Address, IPv4Address]]:
    """Each end of a prefix with an address beyond it, one that no prefix has if there is any."""
    beyond = 1 << (32 - prefix.prefixlen) if prefix.prefixlen else 0
    for end in (prefix[0], prefix[-1]):
        near = (*(IPv4Address(int(other) ^ beyond) for other in (end, prefix[0], prefix[-1])), *STRANGERS4)
        yield end, next((a for a in near if not any(a in one for one in all_of_them)), near[0])


def _with_neighbours6(
    prefix: IPv6Network, all_of_them: tuple[IPv6Network, ...]
) -> Iterator[tuple[IPv6Address, IPv6Address]]:
    """See `_with_neighbours4`."""
    beyond = 1 << (128 - prefix.prefixlen) if prefix.prefixlen else 0
    for end in (prefix[0], prefix[-1]):
        near = (*(IPv6Address(int(other) ^ beyond) for other in (end, prefix[0], prefix[-1])), *STRANGERS6)
        yield end, next((a for a in near if not any(a in one for one in all_of_them)), near[0])


def as_sent(lock: PortLock, frame: bytes) -> bytes:
    """`frame` with the tag that a guest on this trunk port would give it; unchanged on an access port."""
    if not lock.trunks or 0 in lock.trunks or frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
        return frame
    return vlan_tag(frame, lock.trunks[0])


def _class_verdict(found: Sequence[tuple[Probe, Sent]]) -> ClassVerdict:
    wrong = (probe for probe, (passes, reason) in found if not _agrees(passes, reason, probe.meant))
    counterexample = next(wrong, None)
    case = found[0][0].case
    return ClassVerdict(
        name=case.name,
        title=case.title,
        expect=case.expect,
        passes=all(passes for _, (passes, _) in found),
        counterexample=None if counterexample is None else counterexample.frame,
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
