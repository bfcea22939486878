"""Does another machine have an IPv4 address that this host is about to set?

Asked before the address is set (RFC 5227): the kernel asks nobody, and as soon as it has an address it answers for it, so
that the neighbours send to this host what is for the other machine, be it only until the change is taken back. The probes
are fewer and closer than the RFC's, which would hold every change up for seconds. IPv6 needs none of this: the kernel asks
by itself, and does not use an address that somebody has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.solicit import holder_of
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import Bridge, Ipv4Mode, Uplink
from poolnet.hostnet.steps import CreateBridge, SetAddresses, Step

LOG = structlog.stdlib.get_logger("poolnet.hostd.claims")
PROBES: Final = 3
PROBES_WHEN_NEW: Final = 10  # a link that has just been set up loses what it should send for up to a second
PROBE_S: Final = 0.12  # between two probes, and after the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a host had before a change: its addresses, and the operational states of `involved` interfaces."""

    addresses: frozenset[str] = frozenset()
    states: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The interface that is to get an address; `is_new` if it, or what carries it, was set up just now."""

    device: str
    address: str
    is_new: bool


def involved(steps: Iterable[Step]) -> frozenset[str]:
    """The interfaces that have to work for bridges which these steps give static IPv4 addresses."""
    return frozenset(name for step in steps for name in _carriers(step) if _address(step))


def claims(steps: Iterable[Step], before: Before) -> tuple[Claim, ...]:
    """The static IPv4 addresses that these steps give to bridges, but for those that the host had before."""
    found = []
    for step in steps:
        if (address := _address(step)) and address not in before.addresses:
            # The kernel notices within a second that a NIC which was set up has a cable. A tun device always has one.
            works = ("UP",) if isinstance(step, CreateBridge) else ("UP", "UNKNOWN")
            is_new = any(before.states.get(name) not in works for name in _carriers(step))
            found.append(Claim(device=_device(step), address=address, is_new=is_new))
    return tuple(found)


def _address(step: Step) -> str:
    """The static IPv4 address that a step gives to a bridge."""
    match step:
        case CreateBridge(bridge=Bridge(ip=ip)) | SetAddresses(new=ip) if ip.ipv4_mode is Ipv4Mode.STATIC:
            return ip.ipv4_address.partition("/")[0]
        case _:
            return ""


def _device(step: Step) -> str:
    match step:
        case CreateBridge(bridge=Bridge(name=name)) | SetAddresses(name=name):
            return name
        case _:
            return ""


def _carriers(step: Step) -> frozenset[str]:
    """The interfaces that have to work for the bridge of a step to work at once; a bond has to form first."""
    match step:
        case SetAddresses(name=name):
            return frozenset({name})
        case CreateBridge(bridge=Bridge(uplink=None, parent=parent)):
            return frozenset({parent} if parent else ())
        case CreateBridge(bridge=Bridge(uplink=Uplink() as uplink)):
            return frozenset(uplink.members if uplink.bond is None else {uplink.device})
        case _:
            return frozenset()


async def require_unclaimed(claims: Sequence[Claim]) -> None:
    """Returns if nobody else says to have one of these addresses.

    Raises:
        ApplyFailed: ADDRESS_TAKEN; the text says which address, and by the MAC address of whom.
    """
    holders = await asyncio.gather(*(_holder(claim) for claim in claims))
    for claim, mac in zip(claims, holders, strict=True):
        if mac is not None:
            message = f"cannot have the address {claim.address}: another machine has it ({mac.hex(':')})"
            raise ApplyFailed(Fault.ADDRESS_TAKEN, message, claim.device)


async def _holder(claim: Claim) -> bytes | None:
    """The MAC address of who has an address."""
    for _ in range(PROBES_WHEN_NEW if claim.is_new else PROBES):
        try:
            found = await holder_of(claim.device, "", (claim.address,), PROBE_S)
        except OSError as error:  # it is down: nobody can be asked, and nobody hears of the address either
            LOG.info("nobody can be asked for an address", device=claim.device, error=str(error))
            return None
        if found is not None:
            return found[1]
    return None
