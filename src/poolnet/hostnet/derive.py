"""What should this host's network be, according to the pool database?

The pool asks after every transaction that may touch a host. The answer depends on the database alone, is the same for
the same database, and exists for every database: what cannot be (a NIC wanted twice, an address that is none) is left
out, never guessed, so that the rest of the host's network stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from poolnet.db.txn import View
from poolnet.hostnet.derive_bridge import (
    Lower,
    Sources,
    bond_options,
    bridge_of,
    internal_bridge,
    vlan_sources,
)
from poolnet.hostnet.derive_port import effective_mode, port_of, port_sources, rate_of, vif_device
from poolnet.hostnet.derive_read import Read
from poolnet.hostnet.derive_vlans import with_other_vlans
from poolnet.hostnet.derived_before import Changed, Guests, Mark, Parts, VlanPart, changed, mark
from poolnet.hostnet.links import link_settings
from poolnet.hostnet.sriov import function_of, sriov_nics
from poolnet.hostnet.state import (
    NO_IP,
    VLAN_TAG_MAX,
    Bridge,
    DriftPolicy,
    GuestPort,
    HostNetwork,
    IpConfig,
    LockMode,
    Uplink,
    VirtualFunction,
)
from poolnet.hostnet.tunnels import tunnel_uplink
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import (
    IpConfigurationMode,
    Ipv6ConfigurationMode,
    PrimaryAddressType,
    VmPowerState,
)
from poolnet.model.types import Ref, is_null

DRIFT_KEY: Final = "network-drift"  # of the pool


def derive(view: View, host: Ref[Host]) -> HostNetwork:
    """The desired state of one host.

    Bridges are those of the host's attached PIFs, with the bridge under each VLAN; those of networks without a PIF
    here that an attached VIF of a VM here uses, or that are to persist. Ports are the attached VIFs of the VMs that
    run or are paused here, but those whose traffic is disabled.
    """
    return _Derivation(Read(view), host, Parts(), None).result()


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
        read, found = Read(view), {}
        since = changed(view, self._mark, read.shared) if self._mark is not None else None
        known, self._upto = self._upto, set()
        self._mark = mark(view, read.shared)
        for host in hosts:
            parts = self._parts.get(host) or Parts()
            if since is None or host not in known:
                found[host] = self._anew(read, host, parts, None)
            else:
                found[host] = self._again(read, host, parts, since)
            self._upto.add(host)
        return found

    def _again(self, read: Read, host: Ref[Host], parts: Parts, since: Changed) -> HostNetwork:
        guests, state = parts.guests, parts.state
        if state is None or guests is None or not _is_closed_as(read.view, host, state):
            return self._anew(read, host, parts, since)
        if not read.has_sriov and not since.touches(host, parts):
            return state
        if not since.is_guest_of(host, guests):
            state = with_other_vlans(read, host, parts, since)
            if state is not None:
                return state
        return self._anew(read, host, parts, since)

    def _anew(self, read: Read, host: Ref[Host], before: Parts, since: Changed | None) -> HostNetwork:
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


def _is_closed_as(view: View, host: Ref[Host], state: HostNetwork) -> bool:
    """Is the port for HTTP to be as it was? That is all that a host's own row says here."""
    row = view.stored(Host, host)
    return state.http_closed == (row is not None and row.https_only)


def drift_policy(pool: Pool | None) -> DriftPolicy:
    """What the pool wants to become of changes by somebody else; what it says and nobody understands counts for nothing."""
    said = pool.other_config.get(DRIFT_KEY, "") if pool is not None else ""
    return next((policy for policy in DriftPolicy if policy.value == said), DriftPolicy.REPAIR)


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

    def __init__(self, read: Read, host: Ref[Host], before: Parts, since: Changed | None) -> None:
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

    def _all_pifs(self) -> dict[Ref[PIF], PIF]:
        """In the order of their devices."""
        since = self._since
        if since is None:
            rows: Iterable[PIF] = self._view.where(PIF, host=self._host)
        else:
            kept = dict(self._before.pifs)
            for ref in since.pifs_here(self._host, self._before):
                kept.pop(ref, None)
            new = (self._view.find(PIF, ref) for ref in since.pifs_of.get(self._host, ()))
            rows = (*kept.values(), *(pif for pif in new if pif is not None))
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
        self.parts.networks = {*here, *self._guests.networks, *self._read.persistent}
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
        stored = {pif.ref: self._view.stored(PIF, pif.ref) for pif in others}
        self.parts.others = {ref: row for ref, row in stored.items() if row is not None}
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
            self._add(self._bridge(Sources(pif, network, self._pool, pif.MAC, uplink=uplink)), network.ref)
        elif not pif.sriov_logical_PIF_of:
            self._add_uplink(pif, network)

    def _add_uplink(self, pif: PIF, network: Network, ip: IpConfig | None = None) -> bool:
        """Adds the bridge of a physical PIF or a bond; says whether it could."""
        uplink = self._uplink(pif)
        if uplink is None or self._nics & set(uplink.members):
            return False
        self._nics |= set(uplink.members)
        sources = Sources(pif, network, self._pool, pif.MAC, ip=ip, uplink=uplink)
        self._add(self._bridge(sources), network.ref)
        return True

    def _add_vlan(self, pif: PIF, network: Network) -> None:
        vlan = self._view.find(VLAN, pif.VLAN_master_of)
        rows = self._lower(vlan.tagged_PIF) if vlan is not None else None
        if vlan is None or rows is None or not 0 <= vlan.tag <= VLAN_TAG_MAX:
            return
        lower = rows.lower
        if lower.bridge == network.bridge:
            return
        if lower.bridge not in self._bridges and not self._add_uplink(rows.pif, rows.network, NO_IP):
            return
        if not self._takes_tag(lower.bridge, vlan.tag):
            return
        bridge = self._bridge(vlan_sources(pif, network, self._pool, lower, vlan.tag))
        self._add(bridge, network.ref)
        part = VlanPart(network.ref, vlan.ref, vlan.tagged_PIF, lower.bridge, vlan.tag, bridge.name)
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

    def _bridge(self, sources: Sources) -> Bridge:
        """A PIF's bridge; the one that is known, if it is made from the same."""
        pif = sources.pif
        if pif is self._gateway or pif is self._dns:
            sources = sources._replace(is_gateway=pif is self._gateway, is_dns=pif is self._dns)
        before = self._before.bridges.get(pif.ref)
        if before is None or before[0] != sources:
            before = sources, bridge_of(sources)
        self.parts.bridges[pif.ref] = before
        return before[1]

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
        return Uplink(device=pif.device, members=members, bond=bond_options(bond, pif.other_config))

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
            self._add(internal_bridge(network, self._pool), ref)

    def _all_ports(self) -> tuple[GuestPort, ...]:
        """The ports of guests, sorted; those that are known, if nothing may be other than it was."""
        before, since, networks = self._before, self._since, self._guests.networks
        names = self._names_of(networks)
        self.parts.bridges_of_guests = names & self._bridges.keys()
        self.parts.names_of_others = names | self._names_of(self._read.persistent)
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

    def _names_of(self, networks: Iterable[Ref[Network]]) -> frozenset[str]:
        return frozenset(row.bridge for ref in networks if (row := self._network(ref)) is not None)

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
        sources = port_sources(vif, network, mode, device, vm.uuid)
        before = self._before.ports.get(vif.ref)
        if before is None or before[0] != sources:
            before = sources, port_of(sources)
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
                rate_kbytes_per_s=rate_of(vif),
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
