"""Can this host be reached by its management interface, now that it has changed?

`rollout` asks after a switch that somebody wants confirmed. What must hold: the bridge is there and takes in packets of
the usual sizes, a cable of its uplink leads somewhere, the address is there and nobody else has it, and somebody
answers: the gateway, or where there is none (or it was silent before as well) any neighbour. The way that was there
before does not count: a host may be moved to another network on purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Final

import structlog

from poolnet.hostd import solicit
from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.netlink import NO_ADDRESSES, Addresses, LinkError, Netlink, index_of
from poolnet.hostd.nics import has_carrier
from poolnet.hostd.proc_net import arp_neighbours, tcp_peers, unusable_ipv6_addresses
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import Bridge, HostNetwork, IpConfig, Ipv4Mode, Ipv6Mode

LOG = structlog.stdlib.get_logger("poolnet.hostd.reach")
AGAIN_S: Final = 0.1
ANSWER_S: Final = 0.4  # of a neighbour that is there; one that is asleep is asked again
CLAIM_S: Final = 0.3  # for somebody else to say that the address is his
BEFORE_TRIES: Final = 3
IPV4_MTU_MIN: Final = 576  # RFC 1122 §3.3.2: what everybody may send
IPV6_MTU_MIN: Final = 1280  # RFC 8200 §5
SUBNET_MAX: Final = 1024  # addresses; every one of a larger network is not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """How this host was reached before a change.

    `silent` are the gateways that did not answer, `known` the neighbours and clients it had, `own` its addresses.
    """

    silent: frozenset[str] = frozenset()
    known: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()


class _Refuted(Exception):
    """It can never be reached so, and there is no use in waiting."""


class Reach:
    """Looks whether the management interface can be reached."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    async def look(self, network: HostNetwork) -> Before:
        """How the host is reached now. At most about a second, when a gateway is silent. Raises ApplyFailed."""
        try:
            there = await self._netlink.addresses()
        except LinkError as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error
        own = frozenset(a.partition("/")[0] for one in there.values() for a in (*one.ipv4, *one.ipv6))
        bridge = network.bridge(network.management_bridge)
        if bridge is None:
            return Before(own=own)
        known = dict.fromkeys((*tcp_peers(own), *arp_neighbours(bridge.name)))
        silent = []
        for gateway in _gateways(bridge.ip, there.get(bridge.name, NO_ADDRESSES)):
            for _ in range(BEFORE_TRIES):
                if await _answers(bridge.name, gateway):
                    break
            else:
                silent.append(gateway)
        return Before(silent=frozenset(silent), known=tuple(known), own=own)

    async def require(self, network: HostNetwork, before: Before, within_s: float) -> None:
        """Waits until the host can be reached by the management interface of `network`, if it has one.

        Raises:
            ApplyFailed: UNREACHABLE, with what is missing; at once when waiting cannot help.
        """
        bridge = network.bridge(network.management_bridge)
        if bridge is None:
            return
        reason = f"nobody answers on {bridge.name}"
        try:
            async with asyncio.timeout(within_s):
                while problem := await self._problem(network, bridge, before):
                    reason = problem
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError as error:
            raise ApplyFailed(Fault.UNREACHABLE, reason, bridge.name) from error
        except _Refuted as error:
            raise ApplyFailed(Fault.UNREACHABLE, str(error), bridge.name) from error
        LOG.info("management can be reached", bridge=bridge.name)

    async def _problem(self, network: HostNetwork, bridge: Bridge, before: Before) -> str:
        """Why the host cannot be reached; "" when it can. Raises _Refuted."""
        _require_mtu(bridge)
        if index_of(bridge.name) is None:
            return f"{bridge.name} has no interface"
        nics = _nics(network, bridge)
        if nics and not any(has_carrier(nic) for nic in nics):
            return f"{bridge.name} has no link: nothing is connected to {', '.join(nics)}"
        try:
            there = (await self._netlink.addresses()).get(bridge.name, NO_ADDRESSES)
        except LinkError as error:
            return str(error)
        missing = _missing(bridge, there)
        if missing:
            return missing
        await _require_unclaimed(bridge, before)
        witness = ""
        for gateway in _gateways(bridge.ip, there):
            if await _answers(bridge.name, gateway, there):
                witness = gateway
            elif gateway not in before.silent:
                return f"the gateway {gateway} does not answer on {bridge.name}"
        witness = witness or await _anybody(network, bridge, there, before)
        if not witness:
            return f"nobody answers on {bridge.name}"
        return await self._way_back(bridge, witness)

    async def _way_back(self, bridge: Bridge, witness: str) -> str:
        """Why a neighbour that answers does not get what the host sends: another interface is in the same subnet.

        It is asked there without a sender: with the management address it would send what is for that to this interface,
        until it asks anew.
        """
        by = await self._netlink.leaves_by(witness) if witness != solicit.ALL_NODES else bridge.name
        if by in ("", bridge.name) or await _answers(by, witness):
            return ""
        return f"what is sent to {witness} leaves by {by}, where it does not answer"


def _nics(network: HostNetwork, bridge: Bridge) -> tuple[str, ...]:
    lower = network.bridge(bridge.parent) if bridge.parent else bridge
    return lower.uplink.members if lower is not None and lower.uplink is not None else ()


def _missing(bridge: Bridge, there: Addresses) -> str:
    """What the bridge still has to get; of two families that come by themselves, IPv4 is enough."""
    ip = bridge.ip
    has = {ip_interface(text) for text in (*there.ipv4, *there.ipv6)}
    wanted = [ip.ipv4_address] if ip.ipv4_mode is Ipv4Mode.STATIC else []
    wanted += ip.ipv6_addresses if ip.ipv6_mode is Ipv6Mode.STATIC else ()
    for text in wanted:
        if ip_interface(text) not in has:
            return f"{bridge.name} has no address {text}"
    if ip.ipv4_mode is Ipv4Mode.DHCP and not there.ipv4:
        return f"no DHCP server has given {bridge.name} an address"
    unusable = unusable_ipv6_addresses(bridge.name)
    if ip.ipv6_mode is Ipv6Mode.STATIC and unusable:
        return f"{bridge.name} cannot use {', '.join(unusable)}: somebody else may have it"
    if ip.ipv4_mode is Ipv4Mode.NONE and not {a.partition("/")[0] for a in there.ipv6} - set(unusable):
        return f"{bridge.name} has no address"
    return ""


def _require_mtu(bridge: Bridge) -> None:
    """Raises _Refuted when a NIC would not take in what others may send to it: ARP still passes, and little else."""
    for family, mode, least in (
        ("IPv4", bridge.ip.ipv4_mode is not Ipv4Mode.NONE, IPV4_MTU_MIN),
        ("IPv6", bridge.ip.ipv6_mode is not Ipv6Mode.NONE, IPV6_MTU_MIN),
    ):
        if mode and bridge.mtu_bytes < least:
            raise _Refuted(f"{bridge.name} has an MTU of {bridge.mtu_bytes} bytes; {family} needs {least}")


def _gateways(ip: IpConfig, there: Addresses) -> tuple[str, ...]:
    """The gateways on a bridge: as configured, or as they came."""
    found = (ip.ipv4_gateway or there.gateway, ip.ipv6_gateway or there.gateway6)
    return tuple(gateway for gateway in found if gateway)


async def _require_unclaimed(bridge: Bridge, before: Before) -> None:
    """Raises _Refuted when somebody else has the address that this host has just got."""
    address = bridge.ip.ipv4_address.partition("/")[0] if bridge.ip.ipv4_mode is Ipv4Mode.STATIC else ""
    if address and address not in before.own:
        try:
            claimed = await solicit.who_has(bridge.name, "", (address,), CLAIM_S)
        except OSError:
            return  # asked again, when it can be
        if claimed:
            raise _Refuted(f"another machine on {bridge.name} has the address {address}")


async def _answers(device: str, address: str, there: Addresses = NO_ADDRESSES) -> bool:
    try:
        if ip_address(address.partition("%")[0]).version == 6:
            return await solicit.is_neighbour(device, address, ANSWER_S)
        return bool(await solicit.who_has(device, _source(there), (address,), ANSWER_S))
    except OSError:
        return False


async def _anybody(network: HostNetwork, bridge: Bridge, there: Addresses, before: Before) -> str:
    """The address of anybody who answers and is no guest of this host: those known first, then everybody near."""
    guests = frozenset(bytes.fromhex(p.lock.mac.replace(":", "")) for p in network.ports)
    try:
        for text in there.ipv4:
            targets = _near(IPv4Interface(text), before.known)
            if targets:
                answer_s = 2 * ANSWER_S
                found = await solicit.who_has(bridge.name, _source(there), targets, answer_s, but=guests)
                if found:
                    return found
        for text in there.ipv6:
            subnet = IPv6Interface(text).network
            for known in before.known:
                if ip_address(known) in subnet and await _answers(bridge.name, known, there):
                    return known
        if there.ipv6 and await solicit.anybody_on_link(bridge.name, ANSWER_S):
            return solicit.ALL_NODES
    except OSError as error:
        LOG.info("nobody can be asked", bridge=bridge.name, error=str(error))
    return ""


def _near(own: IPv4Interface, known: Iterable[str]) -> tuple[str, ...]:
    """The addresses of a subnet that may be somebody else's, the known ones first."""
    first = [text for text in known if ip_address(text) in own.network]
    all_of = own.network.hosts() if own.network.num_addresses <= SUBNET_MAX else ()
    return tuple(text for text in dict.fromkeys((*first, *map(str, all_of))) if text != str(own.ip))


def _source(there: Addresses) -> str:
    return there.ipv4[0].partition("/")[0] if there.ipv4 else ""
