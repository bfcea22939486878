"""What should this host's network be, according to the pool database?

The pool asks after every transaction that may touch a host. The answer depends on the database alone, is the same for
the same database, and exists for every database: what cannot be (a NIC wanted twice, an address that is none) is left
out, never guessed, so that the rest of the host's network stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Final, NamedTuple

from poolnet.db.txn import View
from poolnet.hostnet.derived_before import (
    Changed,
    Guests,
    Lower,
    Mark,
    Parts,
    Shared,
    VlanPart,
    changed,
    mark,
)
from poolnet.hostnet.links import link_settings, of_network
from poolnet.hostnet.sriov import function_of, sriov_nics
from poolnet.hostnet.state import (
    NO_IP,
    BondMode,
    BondOptions,
    Bridge,
    DriftPolicy,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    LockMode,
    PortLock,
    Uplink,
    VirtualFunction,
)
from poolnet.hostnet.tunnels import tunnel_uplink
from poolnet.hostnet.written import (
    ipv4_with_prefix,
    ipv6_with_prefixes,
    is_number,
    listed,
    plain_address,
    plain_addresses,
    plain_prefixes,
    reachable,
    static_routes,
)
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import (
    IpConfigurationMode,
    Ipv6ConfigurationMode,
    NetworkDefaultLockingMode,
    PrimaryAddressType,
    VifLockingMode,
    VmPowerState,
)
from poolnet.model.types import Ref, is_null

MTU_BYTES_DEFAULT: Final = 1500
MTU_BYTES_MIN: Final = 68  # RFC 791: every IPv4 link carries that much
MTU_BYTES_MAX: Final = 65521  # what tap devices take: the bridges of a switch in user space are such
VLAN_TAG_MAX: Final = 4094
QOS_TIMESLICE_US: Final = 50000  # spec §15.10
QOS_BYTES_MAX: Final = 2**32 - 2
SHADOW_KEY: Final = "lock-shadow"  # of a VIF: its lock counts what it would stop, and stops nothing
DRIFT_KEY: Final = "network-drift"  # of the pool
HIMN_KEY: Final = "is_host_internal_management_network"

_IPV4_MODES: Final[Mapping[IpConfigurationMode, Ipv4Mode]] = {
    IpConfigurationMode.NONE: Ipv4Mode.NONE,
    IpConfigurationMode.DHCP: Ipv4Mode.DHCP,
    IpConfigurationMode.STATIC: Ipv4Mode.STATIC,
}
_IPV6_MODES: Final[Mapping[Ipv6ConfigurationMode, Ipv6Mode]] = {
    Ipv6ConfigurationMode.NONE: Ipv6Mode.NONE,
    Ipv6ConfigurationMode.DHCP: Ipv6Mode.DHCP,
    Ipv6ConfigurationMode.STATIC: Ipv6Mode.STATIC,
    Ipv6ConfigurationMode.AUTOCONF: Ipv6Mode.AUTOCONF,
}
_BOND_TIMES: Final = {
    "miimon": "miimon_ms",
    "updelay": "updelay_ms",
    "downdelay": "downdelay_ms",
    "rebalance-interval": "rebalance_interval_ms",
}


def derive(view: View, host: Ref[Host]) -> HostNetwork:
    """The desired state of one host.

    Bridges are those of the host's attached PIFs, with the bridge under each VLAN; those of networks without a PIF
    here that an attached VIF of a VM here uses, or that are to persist. Ports are the attached VIFs of the VMs that
    run or are paused here, but those whose traffic is disabled.
    """
    return _Derivation(_Read(view), host, Parts(), None).result()


class Deriver:
    """Derives again and again, and looks only at those hosts, bridges and ports whose rows have changed.

    What it gives is what `derive` gives, and parts that are as before are the same objects.
    """

    def __init__(self) -> None:
        self._parts: dict[Ref[Host], Parts] = {}
        self._mark: Mark | None = None
        self._upto: set[Ref[Host]] = set()  # the hosts whose parts are those of the mark

    def derive(self, view: View, hosts: Iterable[Ref[Host]]) -> dict[Ref[Host], HostNetwork]:
        """The desired states of these hosts; `view` must not change meanwhile. See `derive`."""
        read, found = _Read(view), {}
        since = changed(view, self._mark, read.shared) if self._mark is not None else None
        known, self._upto = self._upto, set()
        self._mark = mark(view, read.shared)
        for host in hosts:
            parts = self._parts.get(host) or Parts()
            if since is None or host not in known:
                found[host] = self._anew(read, host, parts, None)
            elif read.has_sriov or since.touches(host, parts) or not _is_closed_as(view, host, parts):
                found[host] = self._anew(read, host, parts, since)
            else:
                assert parts.state is not None  # noqa: S101 - for the type checker: hosts in `known` have one
                found[host] = parts.state
            self._upto.add(host)
        return found

    def _anew(self, read: _Read, host: Ref[Host], before: Parts, since: Changed | None) -> HostNetwork:
        derivation = _Derivation(read, host, before, since)
        try:
            state = derivation.result()
        except _InTheWayError:
            derivation = _Derivation(read, host, before, None)
            state = derivation.result()
        derivation.parts.state = state
        self._parts[host] = derivation.parts
        return state

    def forget(self, host: Ref[Host]) -> None:
        """Remembers nothing of a host that has left."""
        self._parts.pop(host, None)
        self._upto.discard(host)


def _is_closed_as(view: View, host: Ref[Host], parts: Parts) -> bool:
    """Is the port for HTTP to be as it was? That is all that a host's own row says here."""
    row = view.stored(Host, host)
    return parts.state is not None and parts.state.http_closed == (row is not None and row.https_only)


def drift_policy(pool: Pool | None) -> DriftPolicy:
    """What the pool wants to become of changes by somebody else; what it says and nobody understands counts for nothing."""
    said = pool.other_config.get(DRIFT_KEY, "") if pool is not None else ""
    return next((policy for policy in DriftPolicy if policy.value == said), DriftPolicy.REPAIR)


def himn(network: Network) -> bool:
    """Is this the host internal management network (spec §7.9)?"""
    return network.other_config.get(HIMN_KEY) == "true"


def pif_mtu(pif: PIF, network: Network | None) -> int:
    """The MTU in bytes of a PIF's bridge: its own key `mtu`, else its network's (spec §9.1), kept to what can be."""
    return _mtu(pif.other_config, network)


def vif_mtu(vif: VIF, network: Network | None) -> int:
    """The MTU in bytes of a VIF: its own key `mtu`, else its network's (spec §15.1), kept to what can be."""
    return _mtu(vif.other_config, network)


def effective_mode(vif: VIF, network: Network | None) -> LockMode:
    """What a VIF may do: its own mode, or its network's default (spec §15.8)."""
    if vif.locking_mode is not VifLockingMode.NETWORK_DEFAULT:
        return LockMode(vif.locking_mode.value)
    if network is not None and network.default_locking_mode is NetworkDefaultLockingMode.DISABLED:
        return LockMode.DISABLED
    return LockMode.UNLOCKED


def vif_device(domid: int, device: str) -> str:
    """The name of a VIF's host end; `device` is the VIF's device number as text."""
    return f"vif{domid}.{int(device)}"


class _Read:
    """What all hosts have in common, read once. It holds as long as the view does not change."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.pool = next(iter(view.all(Pool)), None)
        # Without their computed sets, which say nothing here and change with each VIF and PIF.
        stored = ((ref, view.stored(Network, ref)) for ref in view.refs(Network))
        self.networks = {ref: row for ref, row in stored if row is not None}
        self.persistent = tuple(ref for ref, row in self.networks.items() if "persist" in row.other_config)
        """The networks that every host is to have a bridge for."""

    @property
    def shared(self) -> Shared:
        """What another derivation is to compare with."""
        return Shared(self.pool, self.networks, self.persistent)

    @cached_property
    def with_purpose(self) -> frozenset[Ref[Network]]:
        """The networks with a purpose of NBD."""
        return frozenset(ref for ref, row in self.networks.items() if row.purpose)

    @cached_property
    def link_values(self) -> Mapping[Ref[Network], Mapping[str, str]]:
        """The settings of bridges' own interfaces, of the few networks that have any."""
        return {ref: values for ref, row in self.networks.items() if (values := of_network(row))}

    @cached_property
    def has_sriov(self) -> bool:
        """Does any NIC of any host have virtual functions?"""
        return bool(self.view.count(NetworkSriov))


class _LowerRows(NamedTuple):
    """The PIF that VLANs are on, and its network."""

    lower: Lower
    pif: PIF
    network: Network


_BY_DEVICE: Final = attrgetter("device", "uuid")


class _InTheWayError(Exception):
    """A VLAN cannot be beside those that were there before: which of them comes first is to be found out anew."""


class _Derivation:
    """The host's rows, read once, and the bridges found so far by name.

    `since` says what has changed since `before` was made; None if nobody knows.
    """

    def __init__(self, read: _Read, host: Ref[Host], before: Parts, since: Changed | None) -> None:
        view = read.view
        self._read = read
        self._before = before
        self._since = since
        self._view = view
        self._host = host
        self._row = view.stored(Host, host)
        self._pool = read.pool
        self._pifs = self._all_pifs()
        self._attached = [pif for pif in self._pifs.values() if pif.currently_attached and pif.managed]
        candidates = _with_addresses(self._attached)
        self._gateway = _chosen(candidates, "defaultroute")
        self._dns = _chosen(candidates, "peerdns")
        self._guests = self._all_guests()
        self.parts = Parts(pifs=self._pifs, guests=self._guests)
        if since is not None:
            self.parts.bridges = dict(before.bridges)
            for ref in since.pifs:
                self.parts.bridges.pop(Ref(ref), None)
        self._lowers: dict[Ref[PIF], _LowerRows | None] = {}
        self._bridges: dict[str, Bridge] = {}
        self._values: dict[str, Mapping[str, str]] = {}  # of the bridges' own interfaces
        self._nics: set[str] = set()
        self._tags: set[tuple[str, int]] = set()

    def _all_pifs(self) -> Mapping[Ref[PIF], PIF]:
        since, before = self._since, self._before.pifs
        if since is None:
            rows: Iterable[PIF] = self._view.where(PIF, host=self._host)
        else:
            stale = [ref for ref in since.pifs if ref in before]
            new = since.pifs_of.get(self._host, ())
            if not stale and not new:
                return before
            kept = dict(before)
            for ref in stale:
                del kept[Ref(ref)]
            rows = (*kept.values(), *new)
        return {pif.ref: pif for pif in sorted(rows, key=_BY_DEVICE)}

    def _all_guests(self) -> Guests:
        view, before = self._view, self._before.guests
        if self._since is not None and before is not None and not self._since.is_guest_of(self._host, before):
            return before
        vms = [
            vm
            for vm in view.where(VM, resident_on=self._host)
            if vm.power_state in (VmPowerState.RUNNING, VmPowerState.PAUSED) and vm.domid > 0
        ]
        pairs = [(vm, vif) for vm in vms for vif in view.where(VIF, VM=vm.ref) if vif.currently_attached]
        return Guests(
            pairs=pairs,
            vms=frozenset(vm.ref for vm in vms),
            vifs=frozenset(vif.ref for _, vif in pairs),
            networks=frozenset(vif.network for _, vif in pairs),
        )

    def result(self) -> HostNetwork:
        """Puts the state together."""
        self._add_pifs()
        here = {pif.network for pif in self._pifs.values()}
        self.parts.networks = frozenset((*here, *self._guests.networks, *self._read.persistent))
        self._add_internal(here)
        management = next((pif for pif in self._attached if pif.management), None)
        network = self._network(management.network) if management else None
        pifs = self._pifs.values()
        return HostNetwork(
            bridges=tuple(self._bridges[name] for name in sorted(self._bridges)),
            ports=self._all_ports(),
            links=link_settings(self._bridges.values(), pifs, self._values),
            management_bridge=network.bridge if network and network.bridge in self._bridges else "",
            sriov=sriov_nics(self._view, pifs, self._functions()) if self._read.has_sriov else (),
            nbd_bridges=tuple(sorted(self._nbd_bridges())),
            http_closed=self._row is not None and self._row.https_only,
            drift=drift_policy(self._pool),
        )

    def _nbd_bridges(self) -> Iterable[str]:
        """The bridges of the networks with a purpose of NBD that have a PIF here."""
        if not self._read.with_purpose:
            return ()
        networks = self._read.with_purpose & {pif.network for pif in self._attached}
        bridges = {self._read.networks[ref].bridge for ref in networks}
        return bridges & self._bridges.keys()

    def _network(self, ref: Ref[Network]) -> Network | None:
        return self._read.networks.get(ref)

    # --- bridges of PIFs ---------------------------------------------------------------------------------------

    def _add_pifs(self) -> None:
        """Bonds first, then NICs and tunnels, then the VLANs on all of them."""
        vlans: list[PIF] = []
        others: list[PIF] = []
        for pif in self._attached:
            (others if is_null(pif.VLAN_master_of) else vlans).append(pif)
        self.parts.has_tunnels = any(pif.tunnel_access_PIF_of for pif in others)
        for pif in sorted(others, key=lambda pif: not pif.bond_master_of):
            self._add_pif(pif)
        if not self._add_known_vlans(vlans):
            for pif in vlans:
                self._add_pif(pif)
            self.parts.vlans.is_whole = len(self.parts.vlans.parts) == len(vlans)
        self.parts.vlans.gives = self._gives
        self.parts.vlans.lowers = {ref: rows.lower for ref, rows in self._lowers.items() if rows is not None}

    @property
    def _gives(self) -> tuple[Ref[PIF] | None, Ref[PIF] | None]:
        """The PIFs that give the host its default route and its name servers."""
        gateway, dns = self._gateway, self._dns
        return gateway.ref if gateway is not None else None, dns.ref if dns is not None else None

    def _add_known_vlans(self, vlans: Sequence[PIF]) -> bool:
        """Adds the bridges of VLANs that are known, all at once, then those that are not; says whether it could.

        Raises _InTheWayError.
        """
        before, since = self._before.vlans, self._since
        if since is None or not before.is_whole or before.gives != self._gives:
            return False
        for ref, lower in before.lowers.items():
            rows = self._lower(ref)
            if rows is None or rows.lower != lower or lower.bridge not in self._bridges:
                return False
            if self._bridges[lower.bridge].parent:
                return False
        again = before.touched(since)
        known = before.without(again)
        if not self._bridges.keys().isdisjoint(known.bridges):
            return False
        self.parts.vlans = known
        self._bridges.update(known.bridges)
        self._tags |= known.tags
        for network in self._read.link_values.keys() & known.of_networks.keys():
            name = known.parts[known.of_networks[network]].name
            self._values[name] = self._read.link_values[network]
        for pif in vlans:
            if pif.ref not in known.parts:
                self._add_pif(pif)
                if pif.ref not in known.parts:
                    raise _InTheWayError
        return True

    def _add_pif(self, pif: PIF) -> None:
        network = self._network(pif.network)
        if network is None or not network.bridge or network.bridge in self._bridges:
            return
        if not is_null(pif.VLAN_master_of):
            self._add_vlan(pif, network)
        elif pif.tunnel_access_PIF_of:
            uplink = tunnel_uplink(self._view, pif, network)
            self._add(self._bridge(pif, network, mac=pif.MAC, uplink=uplink), network.ref)
        elif not pif.sriov_logical_PIF_of:
            self._add_uplink(pif, network)

    def _add_uplink(self, pif: PIF, network: Network, ip: IpConfig | None = None) -> bool:
        """Adds the bridge of a physical PIF or a bond; says whether it could."""
        uplink = self._uplink(pif)
        if uplink is None or self._nics & set(uplink.members):
            return False
        self._nics |= set(uplink.members)
        self._add(self._bridge(pif, network, mac=pif.MAC, ip=ip, uplink=uplink), network.ref)
        return True

    def _add_vlan(self, pif: PIF, network: Network) -> None:
        vlan = self._view.find(VLAN, pif.VLAN_master_of)
        rows = self._lower(vlan.tagged_PIF) if vlan is not None else None
        if vlan is None or rows is None or not 0 <= vlan.tag <= VLAN_TAG_MAX:
            return
        lower = rows.lower
        if lower.bridge not in self._bridges and not self._add_uplink(rows.pif, rows.network, NO_IP):
            return
        if not self._takes_tag(lower.bridge, vlan.tag):
            return
        bridge = self._bridge(
            pif,
            network,
            mac=lower.mac,
            parent=lower.bridge,
            vlan_tag=vlan.tag,
            uuids=(network.uuid, lower.network_uuid),
        )
        self._add(bridge, network.ref)
        part = VlanPart(network.ref, vlan.ref, lower.bridge, vlan.tag, bridge.name)
        self.parts.vlans.add(pif.ref, part, bridge)

    def _takes_tag(self, bridge: str, tag: int) -> bool:
        """Whether a bridge can have a VLAN with this tag; it is taken then."""
        if self._bridges[bridge].parent or (bridge, tag) in self._tags:
            return False
        self._tags.add((bridge, tag))
        return True

    def _lower(self, ref: Ref[PIF]) -> _LowerRows | None:
        """What VLANs on that PIF take over from it; None where there can be none."""
        if ref not in self._lowers:
            self._lowers[ref] = self._find_lower(ref)
        return self._lowers[ref]

    def _find_lower(self, ref: Ref[PIF]) -> _LowerRows | None:
        pif = self._pifs.get(ref)
        network = self._network(pif.network) if pif is not None else None
        if pif is None or network is None or not network.bridge:
            return None
        if pif.VLAN != -1 or pif.tunnel_access_PIF_of or pif.sriov_logical_PIF_of:
            return None
        return _LowerRows(Lower(network.bridge, network.uuid, pif.MAC), pif, network)

    def _bridge(
        self,
        pif: PIF,
        network: Network,
        *,
        mac: str,
        ip: IpConfig | None = None,
        uplink: Uplink | None = None,
        parent: str = "",
        vlan_tag: int = -1,
        uuids: tuple[str, ...] = (),
    ) -> Bridge:
        """A PIF's bridge; with the PIF's own addresses, unless `ip` says others."""
        chosen = (pif is self._gateway, pif is self._dns)
        made_from = (pif, network, self._pool, mac, ip, uplink, parent, vlan_tag, uuids, chosen)
        before = self._before.bridges.get(pif.ref)
        if before is not None and before[0] == made_from:
            self.parts.bridges[pif.ref] = before
            return before[1]
        merged = {**self._merged(network), **pif.other_config}
        bridge = Bridge(
            name=network.bridge,
            uplink=uplink,
            parent=parent,
            vlan_tag=vlan_tag,
            mac=mac.lower() if mac.count(":") == 5 else "",
            mtu_bytes=_bridge_mtu(pif, network),
            network_uuids=uuids or (network.uuid,),
            ip=self._ip(pif, network) if ip is None else ip,
            igmp_snooping=bool(self._pool and self._pool.igmp_snooping_enabled and not parent),
            fail_mode_secure=merged.get("vswitch-controller-fail-mode") == "secure",
        )
        self.parts.bridges[pif.ref] = (made_from, bridge)
        return bridge

    def _merged(self, network: Network) -> Mapping[str, str]:
        """The keys of pool and network; the network's win (spec §24.5)."""
        return {**(self._pool.other_config if self._pool else {}), **network.other_config}

    def _add(self, bridge: Bridge, network: Ref[Network]) -> None:
        self._bridges[bridge.name] = bridge
        if network in self._read.link_values:
            self._values[bridge.name] = self._read.link_values[network]

    def _uplink(self, pif: PIF) -> Uplink | None:
        if not pif.bond_master_of:
            return Uplink(device=pif.device, members=(pif.device,)) if pif.physical and pif.device else None
        bond = self._view.find(Bond, pif.bond_master_of[0])
        if bond is None:
            return None
        members = tuple(sorted(p.device for p in self._view.where(PIF, bond_slave_of=bond.ref)))
        if not members:
            return None
        if len(members) == 1:  # spec §11.3: a bond of one member is a bridge with a plain port
            return Uplink(device=members[0], members=members)
        return Uplink(device=pif.device, members=members, bond=_bond_options(bond, pif.other_config))

    # --- addresses of the host ---------------------------------------------------------------------------------

    def _ip(self, pif: PIF, network: Network) -> IpConfig:
        """The host's addresses on a PIF's bridge; gateway and DNS only where they are chosen (spec §24.4)."""
        is_gateway, is_dns = pif is self._gateway, pif is self._dns
        mode4, address4 = _IPV4_MODES[pif.ip_configuration_mode], ""
        if mode4 is Ipv4Mode.STATIC:
            address4 = ipv4_with_prefix(pif.IP, pif.netmask)
            mode4 = mode4 if address4 else Ipv4Mode.NONE
        mode6 = _IPV6_MODES[pif.ipv6_configuration_mode]
        addresses6: tuple[str, ...] = ()
        if mode6 is Ipv6Mode.STATIC:
            addresses6 = ipv6_with_prefixes(pif.IPv6)
            mode6 = mode6 if addresses6 else Ipv6Mode.NONE
        is_ipv6 = pif.primary_address_type is PrimaryAddressType.IPV6
        static = mode6 in (Ipv6Mode.STATIC, Ipv6Mode.AUTOCONF) if is_ipv6 else mode4 is Ipv4Mode.STATIC
        dhcp = Ipv4Mode.DHCP is mode4 or Ipv6Mode.DHCP is mode6
        found = IpConfig(
            ipv4_mode=mode4,
            ipv4_address=address4,
            ipv4_gateway=plain_address(pif.gateway, 4) if is_gateway and mode4 is Ipv4Mode.STATIC else "",
            ipv6_mode=mode6,
            ipv6_addresses=addresses6,
            ipv6_gateway=plain_address(pif.ipv6_gateway, 6)
            if is_gateway and mode6 is Ipv6Mode.STATIC
            else "",
            dns_servers=plain_addresses(pif.DNS.split(",")) if is_dns and static else (),
            dns_search=listed(pif.other_config.get("domain", "")) if is_dns and static else (),
            routes=reachable(static_routes(network.other_config.get("static-routes", "")), mode4, address4),
            dhcp_routes=is_gateway and (dhcp or mode6 is Ipv6Mode.AUTOCONF),
            dhcp_dns=is_dns and dhcp,
        )
        return NO_IP if found == NO_IP else found  # most bridges have this one, which is known at a glance

    # --- internal networks and guests --------------------------------------------------------------------------

    def _add_internal(self, here: set[Ref[Network]]) -> None:
        for ref in sorted({*self._guests.networks, *self._read.persistent} - here):
            network = self._network(ref)
            if (
                network is None
                or not network.managed
                or not network.bridge
                or network.bridge in self._bridges
            ):
                continue
            self._add(
                Bridge(
                    name=network.bridge,
                    mtu_bytes=_mtu({}, network),
                    network_uuids=(network.uuid,),
                    ip=_himn_ip(network) if himn(network) else NO_IP,
                    fail_mode_secure=self._merged(network).get("vswitch-controller-fail-mode") == "secure",
                ),
                ref,
            )

    def _all_ports(self) -> tuple[GuestPort, ...]:
        """The ports of guests, sorted; those that are known, if nothing may be other than it was."""
        before, since, networks = self._before, self._since, self._guests.networks
        names = {row.bridge for ref in networks if (row := self._network(ref)) is not None}
        self.parts.bridges_of_guests = frozenset(names & self._bridges.keys())
        if (
            since is not None
            and before.state is not None
            and self._guests is before.guests
            and since.networks.isdisjoint(networks)
            and self.parts.bridges_of_guests == before.bridges_of_guests
        ):
            self.parts.ports = before.ports
            return before.state.ports
        return tuple(sorted(self._ports(), key=lambda port: port.device))

    def _ports(self) -> Iterator[GuestPort]:
        taken: set[str] = set()
        for vm, vif in self._guests.pairs:
            network = self._network(vif.network)
            mode = effective_mode(vif, network)
            if network is None or network.bridge not in self._bridges or mode is LockMode.DISABLED:
                continue
            device = vif_device(vm.domid, vif.device)
            if device in taken:
                continue
            taken.add(device)
            yield self._port(vm, vif, network, mode, device)

    def _port(self, vm: VM, vif: VIF, network: Network, mode: LockMode, device: str) -> GuestPort:
        made_from = (vif, network.bridge, network.uuid, vif_mtu(vif, network), mode, device, vm.uuid)
        before = self._before.ports.get(vif.ref)
        if before is None or before[0] != made_from:
            port = GuestPort(
                device=device,
                bridge=network.bridge,
                lock=_lock(vif, mode),
                mtu_bytes=_kept(vif.MTU) if vif.MTU > 0 else vif_mtu(vif, network),
                rate_kbytes_per_s=_rate(vif),
                vif_uuid=vif.uuid,
                vm_uuid=vm.uuid,
                network_uuid=network.uuid,
            )
            before = made_from, port
        self.parts.ports[vif.ref] = before
        return before[1]

    def _functions(self) -> Iterable[tuple[VIF, VirtualFunction]]:
        """The virtual functions that VIFs here have. What a lock would say of addresses no NIC can hold."""
        here = {pif.network: pif for pif in self._pifs.values()}
        for _, vif in self._guests.pairs:
            if is_null(vif.reserved_pci) or vif.network not in here:
                continue
            mode = effective_mode(vif, self._network(vif.network))
            function = function_of(
                self._view,
                vif,
                here[vif.network],
                connected=mode is LockMode.UNLOCKED,
                rate_kbytes_per_s=_rate(vif),
            )
            if function is not None:
                yield vif, function


def _with_addresses(attached: Iterable[PIF]) -> Sequence[PIF]:
    """The PIFs that have an address mode in the family of their own primary address type."""
    return [
        pif
        for pif in attached
        if (
            pif.ipv6_configuration_mode is not Ipv6ConfigurationMode.NONE
            if pif.primary_address_type is PrimaryAddressType.IPV6
            else pif.ip_configuration_mode is not IpConfigurationMode.NONE
        )
    ]


def _chosen(candidates: Sequence[PIF], key: str) -> PIF | None:
    """The PIF that gives the host its gateway or DNS (spec §24.4): one that asks for it by `key`, else the management PIF."""
    asking = [pif for pif in candidates if pif.other_config.get(key) == "true"]
    management = [pif for pif in candidates if pif.management]
    return next(iter(asking or management or candidates), None)


def _bond_options(bond: Bond, other_config: Mapping[str, str]) -> BondOptions:
    """How the members share traffic: the bond's mode and properties, overridden by the master's keys (spec §9.6)."""
    overrides = {k.removeprefix("bond-"): v for k, v in other_config.items() if k.startswith("bond-")}
    modes = {mode.value: mode for mode in BondMode}
    times = {
        field: int(overrides.pop(key))
        for key, field in _BOND_TIMES.items()
        if is_number(overrides.get(key, ""))
    }
    use_carrier = overrides.pop("use_carrier", "1")
    mode = modes.get(overrides.pop("mode", ""), modes[bond.mode.value])
    properties = {**bond.properties, **overrides}
    return BondOptions(
        mode=mode,
        use_carrier=not is_number(use_carrier) or int(use_carrier) > 0,
        properties=tuple(sorted(properties.items())),
        **times,
    )


def _himn_ip(network: Network) -> IpConfig:
    config = network.other_config
    address = ipv4_with_prefix(config.get("ip_begin", ""), config.get("netmask", ""))
    return IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=address) if address else NO_IP


def _lock(vif: VIF, mode: LockMode) -> PortLock:
    locked = mode is LockMode.LOCKED
    return PortLock(
        mode=mode,
        mac=vif.MAC.lower(),
        ipv4_allowed=plain_prefixes(vif.ipv4_allowed) if locked else (),
        ipv6_allowed=plain_prefixes(vif.ipv6_allowed) if locked else (),
        trunks=tuple(sorted({tag for tag in vif.trunks if 0 <= tag <= VLAN_TAG_MAX})),
        shadow=locked and vif.other_config.get(SHADOW_KEY) == "true",
    )


def _rate(vif: VIF) -> int:
    """The rate in kilobytes per second; 0 for none, another algorithm, or parameters out of range (spec §15.10)."""
    params = vif.qos_algorithm_params
    if vif.qos_algorithm_type != "ratelimit" or not is_number(params.get("kbps", "")):
        return 0
    timeslice = params.get("timeslice_us", str(QOS_TIMESLICE_US))
    if not is_number(timeslice):
        return 0
    kbytes = int(params["kbps"])
    return kbytes if 1 <= kbytes * 1024 * int(timeslice) // 1000000 <= QOS_BYTES_MAX else 0


def _bridge_mtu(pif: PIF, network: Network) -> int:
    """The MTU that an attached PIF was brought up with: later changes of its network wait for the next time (§7.8)."""
    return _kept(pif.MTU) if pif.currently_attached and pif.MTU > 0 else pif_mtu(pif, network)


def _mtu(other_config: Mapping[str, str], network: Network | None) -> int:
    text = other_config.get("mtu", "")
    return _kept(int(text) if is_number(text) else (network.MTU if network else MTU_BYTES_DEFAULT))


def _kept(mtu_bytes: int) -> int:
    return min(max(mtu_bytes, MTU_BYTES_MIN), MTU_BYTES_MAX)
