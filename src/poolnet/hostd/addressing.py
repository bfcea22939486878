"""How do bridges get their addresses, and NICs lose theirs? Addresses, gateways, routes, DNS, link state.

Called by `apply` after the backend has done its part. A NIC that becomes an uplink gives its addresses up; they are
kept on disk and given back when no bridge uses the NIC any more, so that going back to the state before the first
bridge leaves the host as reachable as it was. A bridge that asks for a DHCP lease gets it whenever it comes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import TypedDict

import msgspec
import structlog

from poolnet.hostd import neighbours
from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.checkpoint import read_state, write_durably
from poolnet.hostd.claims import Before, Claim, claims, involved, require_unclaimed
from poolnet.hostd.dhcp import DhcpClients, is_installed
from poolnet.hostd.dhcp_lease import as_leased
from poolnet.hostd.netlink import (
    NO_ADDRESSES,
    Addresses,
    LinkError,
    Netlink,
    index_of,
    link_is_up,
)
from poolnet.hostd.resolver import Resolver
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import NO_IP, Bridge, HostNetwork, IpConfig, Ipv4Mode, Ipv6Mode, Uplink
from poolnet.hostnet.steps import (
    CreateBridge,
    DestroyBridge,
    ReplaceBridge,
    ReplaceUplink,
    SetAddresses,
    Step,
)

LOG = structlog.stdlib.get_logger("poolnet.hostd.addressing")


def unsupported(network: HostNetwork) -> Iterable[tuple[str, str]]:
    """The bridges whose address configuration cannot be carried out, and why."""
    for bridge in network.bridges:
        if _asks(bridge.ip) and not is_installed():
            yield bridge.name, f"{bridge.name} cannot get its address by DHCP: dhcpcd is not installed"
        for address in (bridge.ip.ipv4_address, *bridge.ip.ipv6_addresses):
            if address and not _is_interface(address):
                yield bridge.name, f"{bridge.name} cannot have the address {address!r}"


class _Heard(TypedDict):
    prefixes: bool
    addresses: bool
    default_route: bool


class Addressing:
    """Changes addresses of this host."""

    def __init__(self, netlink: Netlink, state_dir: Path, resolv_conf: Path, clients: DhcpClients) -> None:
        """`state_dir` keeps what NICs gave up; `resolv_conf` is written by the bridge that has DNS servers."""
        self._netlink = netlink
        self._clients = clients
        self._leasing: dict[str, IpConfig] = {}  # the bridges that ask for a lease
        self._turn = asyncio.Lock()  # a lease comes at any time
        self._settling: set[asyncio.Task[None]] = set()
        self._changed: Callable[[], None] = lambda: None
        self._resolver = Resolver(resolv_conf)
        self._path = state_dir / "nics.json"
        self._given_up = _load(self._path)

    def open(self, changed: Callable[[], None]) -> None:
        """Takes leases from now on; `changed` is called after each. Raises OSError."""
        self._changed = changed
        self._clients.open(self._on_lease)

    def rename_nics(self, names: Mapping[str, str]) -> None:
        """Follows the new names of NICs. Raises OSError."""
        if names.keys() & self._given_up.keys():
            self._given_up = {names.get(nic, nic): had for nic, had in self._given_up.items()}
            self._store()

    async def close(self) -> None:
        """Takes no more leases; addresses and DHCP clients stay."""
        self._clients.close()
        for task in tuple(self._settling):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def before(self, steps: Sequence[Step], confirmed: HostNetwork) -> Before:
        """What is the host's before it carries these steps out, as far as they need to know.

        Its addresses are those that it has on any interface, and those of its confirmed network. Raises ApplyFailed.
        """
        if not claims(steps, Before()):
            return Before()
        try:
            there = await self._netlink.addresses()
            states = await self._netlink.states(involved(steps))
        except LinkError as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error
        found = [text for one in there.values() for text in one.ipv4]
        found += [bridge.ip.ipv4_address for bridge in confirmed.bridges]
        own = frozenset(text.partition("/")[0] for text in found)
        return Before(addresses=own, states=states)

    async def apply(
        self, steps: Sequence[Step], *, strict: bool = True, before: Before | None = None
    ) -> None:
        """Carries out what the steps say about addresses; bridges and uplinks are there already.

        A bridge without addresses works while its own interface is down: `raise_idle_links` sets it up when there is time,
        for each takes the kernel as long as the switch needs to make it.

        The addresses that the host had `before` it may move about. Any other static IPv4 address is set only if nobody else
        has it. None sets all: on the way back, and at a boot, a host without its address would be lost.

        Raises ApplyFailed; without `strict` what concerns a device that does not exist is left out.
        """
        async with self._turn:
            await self._apply(steps, strict, before)

    async def _require_unclaimed(self, wanted: Sequence[Claim]) -> None:
        """Raises ApplyFailed; the bridges' interfaces are set up, silent until they have their addresses."""
        for name in (claim.device for claim in wanted):
            index = index_of(name)
            if index is not None and not link_is_up(name):
                neighbours.speak_for_bridge(name, ipv6=False)
                await self._netlink.set_link(index, up=True)
        await require_unclaimed(wanted)

    async def _apply(self, steps: Sequence[Step], strict: bool, known: Before | None) -> None:
        was_uplink: set[str] = set()
        is_uplink: set[str] = set()
        before: dict[str, IpConfig] = {}
        had: dict[
            str, IpConfig
        ] = {}  # by the bridges that are destroyed: their interfaces go with their addresses
        try:
            for step in steps:
                match step:
                    case CreateBridge(bridge=bridge):
                        is_uplink |= _members(bridge.uplink)
                    case SetAddresses(name=name, old=old_ip):
                        before.setdefault(name, old_ip)
                    case DestroyBridge(bridge=bridge):
                        had[bridge.name] = before.get(bridge.name, bridge.ip)
                        was_uplink |= _members(bridge.uplink)
                        await self._stop_client(bridge.name)
                        self._resolver.use(bridge.name, had[bridge.name], NO_IP)
                    case ReplaceUplink(old=old, new=new):
                        was_uplink |= _members(old)
                        is_uplink |= _members(new)
            _say_given_back(await self._release(was_uplink - is_uplink, strict))
            await self._take(is_uplink, strict)
            await self._require_unclaimed(claims(steps, known) if known is not None else ())
            for step in steps:
                match step:
                    case CreateBridge(bridge=bridge) if bridge.ip != NO_IP:
                        await self._raise_bridge(bridge, strict)
                        await self._configure(bridge.name, had.get(bridge.name, NO_IP), bridge.ip)
                    case CreateBridge(bridge=bridge) if had.get(bridge.name, NO_IP) != NO_IP:
                        # The switch may have kept the interface for the bridge of the same name, with its addresses.
                        await self._configure(bridge.name, had[bridge.name], NO_IP)
                    case ReplaceBridge(new=bridge) if bridge.ip != NO_IP and bridge.name not in before:
                        # A switch in user space takes an interface down to change its MAC: its routes are gone.
                        await self._raise_bridge(bridge, strict)
                        await self._configure(bridge.name, bridge.ip, bridge.ip)
                    case SetAddresses(name=name, old=old_ip, new=new_ip) if name not in had:
                        await self._configure(name, old_ip, new_ip)
            self._write_name_servers(strict)
        except LinkError as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error

    async def raise_links(self, network: HostNetwork) -> None:
        """Sets uplinks up, and the interfaces of bridges that have addresses: a boot or a new switch leaves them down.

        The bridges that ask for a lease have a DHCP client then, and no others.
        """
        failed: LinkError | None = None  # one that cannot be set up does not keep the others down
        async with self._turn:
            for bridge in network.bridges:
                try:
                    await self._raise_with_uplink(bridge)
                except LinkError as error:
                    failed = failed or error
                self._resolver.use(bridge.name, NO_IP, bridge.ip)
                await asyncio.sleep(0)
            try:
                await self._keep_clients(network)
                # Also those of which no step tells: a daemon died after the NIC had left its bridge, and before this.
                uplinks = {nic for bridge in network.bridges for nic in _members(bridge.uplink)}
                _say_given_back(await self._release(self._given_up.keys() - uplinks, strict=False))
            except LinkError as error:
                failed = failed or error
            self._write_name_servers(strict=False)
        if failed is not None:
            raise ApplyFailed(Fault.SWITCH_FAILED, str(failed)) from failed

    async def _raise_with_uplink(self, bridge: Bridge) -> None:
        if bridge.ip != NO_IP:
            await self._raise_if_down(bridge)
        for nic in sorted(_members(bridge.uplink)):
            index = index_of(nic)
            if index is not None:
                neighbours.silence_uplink(nic)
                await self._netlink.set_link(index, up=True)

    async def raise_idle_links(self, network: HostNetwork, hurried: Callable[[], bool]) -> bool:
        """Sets the interfaces of all other bridges up, one by one, until somebody is hurried; whether all are up.

        Nothing waits for them: without addresses they carry nothing. Raises ApplyFailed.
        """
        for bridge in network.bridges:
            if bridge.ip != NO_IP:
                continue
            async with self._turn:
                try:
                    await self._raise_if_down(bridge)
                except LinkError as error:
                    raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error
            await asyncio.sleep(0)
            if hurried():
                return False
        return True

    async def _raise_if_down(self, bridge: Bridge) -> None:
        if link_is_up(bridge.name) is False:
            await self._raise_bridge(bridge, strict=False)
        neighbours.speak_for_bridge(bridge.name, ipv6=bridge.ip.ipv6_mode is not Ipv6Mode.NONE)

    def _write_name_servers(self, strict: bool) -> None:
        """Writes resolv.conf; where it cannot be, that is a failure of who asks for a change, and of nobody else."""
        try:
            self._resolver.write()
        except OSError as error:
            if strict:
                raise ApplyFailed(
                    Fault.SWITCH_FAILED, f"the name servers cannot be written: {error}"
                ) from error
            LOG.warning("the name servers cannot be written", error=str(error))

    def with_name_servers(self, network: HostNetwork) -> HostNetwork:
        """An observed network, with the name servers that somebody else has written, if so."""
        foreign = self._resolver.foreign()
        return network if foreign is None else foreign.shown(network)

    async def _keep_clients(self, network: HostNetwork) -> None:
        leasing = {bridge.name: bridge.ip for bridge in network.bridges if _asks(bridge.ip)}
        for name in sorted((self._clients.known() | self._leasing.keys()) - leasing.keys()):
            await self._stop_client(name)
        for name, ip in leasing.items():
            if index_of(name) is not None:
                self._leasing[name] = ip
                await self._clients.start(name, socket.gethostname(), _families(ip))
                await self._settle(name, ip)

    async def _stop_client(self, name: str) -> None:
        self._leasing.pop(name, None)
        await self._clients.stop(name)

    def _on_lease(self, name: str) -> None:
        """A lease has come, changed or gone."""
        task = asyncio.create_task(self._take_lease(name), name=f"lease-{name}")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _take_lease(self, name: str) -> None:
        async with self._turn:
            ip = self._leasing.get(name)
            if ip is None:
                return
            try:
                await self._settle(name, ip)
                self._resolver.write()
            except (LinkError, ApplyFailed, OSError) as error:
                LOG.warning("a lease cannot be taken", bridge=name, error=str(error))
        self._changed()

    async def _settle(self, name: str, ip: IpConfig) -> None:
        """Leaves a bridge with what it is leased, if it has anything else. Raises LinkError."""
        index = index_of(name)
        if index is None:
            return
        wanted = as_leased(ip, self._clients.lease(name), self._clients.lease6(name))
        seen = await self._seen(name, index)
        same = (wanted.ipv4_address, wanted.ipv4_gateway) == (seen.ipv4_address, seen.ipv4_gateway)
        same6 = ip.ipv6_mode is not Ipv6Mode.DHCP or set(wanted.ipv6_addresses) == set(seen.ipv6_addresses)
        if not (same and same6) or set(wanted.routes) != set(seen.routes):
            await self._change(name, seen, wanted)
        self._resolver.use(name, ip, wanted)

    async def _seen(self, name: str, index: int) -> IpConfig:
        """What the kernel has on a bridge, written as a configuration; without the gateway of IPv6."""
        there = (await self._netlink.addresses()).get(name, NO_ADDRESSES)
        return IpConfig(
            ipv4_address=" ".join(there.ipv4),
            ipv4_gateway=there.gateway,
            ipv6_addresses=there.ipv6,
            routes=tuple(sorted(await self._netlink.routes(index))),
        )

    async def _configure(self, name: str, old: IpConfig, new: IpConfig) -> None:
        """Gives a bridge a new configuration, and a DHCP client if that asks for a lease."""
        index = index_of(name)
        if _asks(old) and index is not None:
            seen = await self._seen(name, index)
            old = replace(old, ipv4_gateway=seen.ipv4_gateway, routes=seen.routes)
        if not _asks(new):
            await self._stop_client(name)
            await self._change(name, old, new)
            return
        self._leasing[name] = new
        neighbours.hear_routers(name, **_heard(new))
        neighbours.speak_for_bridge(
            name, ipv6=new.ipv6_mode is not Ipv6Mode.NONE
        )  # before the client needs it
        await self._clients.start(name, socket.gethostname(), _families(new))
        leases = self._clients.lease(name), self._clients.lease6(name)
        await self._change(name, old, as_leased(new, *leases))

    async def _take(self, nics: Iterable[str], strict: bool) -> None:
        """Sets NICs up and takes their addresses away."""
        for nic in sorted(nics):
            index = index_of(nic)
            if index is None:
                continue  # the backend says whether that is a failure
            await self._netlink.set_link(index, up=True)
            there = (await self._netlink.addresses()).get(nic, NO_ADDRESSES)
            if there != NO_ADDRESSES:
                self._given_up[nic] = there
                self._store(strict)
                LOG.info(
                    "a NIC becomes an uplink and gives its addresses up",
                    nic=nic,
                    addresses=there.ipv4 + there.ipv6,
                )
            neighbours.silence_uplink(nic)
            for address in there.ipv4 + there.ipv6:
                await self._netlink.remove_address(index, address)

    async def _release(self, nics: Iterable[str], strict: bool) -> list[str]:
        """Gives NICs back what they had before they were uplinks."""
        for nic in nics:
            neighbours.speak_as_others(nic)
        released = []
        for nic in sorted(nics):
            index, had = index_of(nic), self._given_up.get(nic)
            if index is None or had is None:
                continue  # one that is gone may come back
            for address in had.ipv4 + had.ipv6:
                await self._netlink.add_address(index, address)
            for gateway in (had.gateway, had.gateway6):
                if gateway:
                    await self._netlink.replace_route(index, "default", gateway)
            del self._given_up[nic]
            released.append(nic)
        if released:
            self._store(strict)
        return released

    async def _raise_bridge(self, bridge: Bridge, strict: bool) -> None:
        """Sets the bridge's own interface up, deaf to router advertisements unless it is asked to listen."""
        index = index_of(bridge.name)
        if index is None:
            if strict:
                raise ApplyFailed(Fault.SWITCH_FAILED, f"{bridge.name} has no interface", bridge.name)
            return
        neighbours.hear_routers(bridge.name, **_heard(bridge.ip))
        neighbours.speak_for_bridge(bridge.name, ipv6=bridge.ip.ipv6_mode is not Ipv6Mode.NONE)
        await self._netlink.set_link(index, up=True)

    async def _change(self, name: str, old: IpConfig, new: IpConfig) -> None:
        """Leaves the bridge with the addresses and routes of `new`; those that stay are not touched."""
        index = index_of(name)
        if index is None:
            raise ApplyFailed(Fault.SWITCH_FAILED, f"{name} has no interface", name)
        neighbours.hear_routers(name, **_heard(new))
        neighbours.speak_for_bridge(name, ipv6=new.ipv6_mode is not Ipv6Mode.NONE)
        there = (await self._netlink.addresses()).get(name, NO_ADDRESSES)
        wanted4 = [new.ipv4_address] if new.ipv4_mode is Ipv4Mode.STATIC and new.ipv4_address else []
        wanted6 = list(new.ipv6_addresses) if new.ipv6_mode in (Ipv6Mode.STATIC, Ipv6Mode.DHCP) else []
        if wanted4 or wanted6:
            await self._netlink.set_link(index, up=True)  # no route leads to an interface that is down
        await self._replace(index, there.ipv4, wanted4)
        if new.ipv6_mode is not Ipv6Mode.AUTOCONF:
            await self._replace(index, there.ipv6, wanted6)
        await self._change_routes(index, old, new)
        if there.gateway6 and not _heard(new)["default_route"] and there.gateway6 != new.ipv6_gateway:
            await self._netlink.remove_route(index, "default", there.gateway6)
        self._resolver.use(name, old, new)

    async def _replace(self, index: int, there: Sequence[str], wanted: Sequence[str]) -> None:
        """First what goes: a new address in the same subnet would be a secondary one, and go with the old one."""
        keep = {ip_interface(address) for address in wanted}
        for address in there:
            if ip_interface(address) not in keep:
                await self._netlink.remove_address(index, address)
        for address in wanted:
            await self._netlink.add_address(index, address)

    async def _change_routes(self, index: int, old: IpConfig, new: IpConfig) -> None:
        for before, after in ((old.ipv4_gateway, new.ipv4_gateway), (old.ipv6_gateway, new.ipv6_gateway)):
            if after:
                await self._netlink.replace_route(index, "default", after)
            elif before:
                await self._netlink.remove_route(index, "default", before)
        wanted = dict(_route(text) for text in new.routes)
        for destination, gateway in wanted.items():
            await self._netlink.replace_route(index, destination, gateway)
        for text in old.routes:
            destination, gateway = _route(text)
            if destination not in wanted:
                await self._netlink.remove_route(index, destination, gateway)

    def _store(self, strict: bool = True) -> None:
        """Writes down what NICs gave up. Raises OSError with `strict`: nothing is taken that could not be given back."""
        try:
            write_durably(
                self._path, msgspec.json.encode({nic: _Kept.of(had) for nic, had in self._given_up.items()})
            )
        except OSError as error:
            if strict:
                raise
            LOG.warning("what NICs gave up cannot be written down", error=str(error))


class _Kept(msgspec.Struct):
    """What a NIC gave up, as it is on disk."""

    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    gateway: str
    gateway6: str

    @classmethod
    def of(cls, had: Addresses) -> _Kept:
        """The same for the disk."""
        return cls(had.ipv4, had.ipv6, had.gateway, had.gateway6)


def _load(path: Path) -> dict[str, Addresses]:
    return {
        nic: Addresses(ipv4=had.ipv4, ipv6=had.ipv6, gateway=had.gateway, gateway6=had.gateway6)
        for nic, had in read_state(path, dict[str, _Kept], {}).items()
    }


def _say_given_back(nics: Iterable[str]) -> None:
    for nic in nics:
        LOG.info("a NIC has its addresses back", nic=nic)


def _asks(ip: IpConfig) -> bool:
    return bool(_families(ip))


def _families(ip: IpConfig) -> tuple[int, ...]:
    """The IP versions that a bridge has DHCP for."""
    asked = ((4, ip.ipv4_mode is Ipv4Mode.DHCP), (6, ip.ipv6_mode is Ipv6Mode.DHCP))
    return tuple(family for family, wanted in asked if wanted)


def _heard(ip: IpConfig) -> _Heard:
    """What a bridge takes from router advertisements: DHCPv6 has no routes of its own."""
    return _Heard(
        prefixes=ip.ipv6_mode in (Ipv6Mode.AUTOCONF, Ipv6Mode.DHCP),
        addresses=ip.ipv6_mode is Ipv6Mode.AUTOCONF,
        default_route=ip.ipv6_mode in (Ipv6Mode.AUTOCONF, Ipv6Mode.DHCP) and ip.dhcp_routes,
    )


def _members(uplink: Uplink | None) -> frozenset[str]:
    return frozenset(uplink.members) if uplink is not None else frozenset()


def _route(text: str) -> tuple[str, str]:
    """Destination and gateway of `SUBNET/LEN via GATEWAY`. Raises ApplyFailed."""
    destination, via, gateway = text.partition(" via ")
    if not via:
        raise ApplyFailed(Fault.SWITCH_FAILED, f"{text!r} is no route")
    return destination, gateway


def _is_interface(text: str) -> bool:
    try:
        ip_interface(text)
    except ValueError:
        return False
    return True
