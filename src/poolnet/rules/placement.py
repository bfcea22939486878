"""Which host can run a VM? See spec §17.1.

Starting, migrating, moving VIFs and bonding ask. `explain_placement` says the same in words; both stand on `Reach`, which
knows for one network which hosts can give it to their VMs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import Ref, is_null
from poolnet.rules.context import CallContext
from poolnet.rules.functions import can_be_up_without_reboot, free_on, logical_under, require_capacity
from poolnet.rules.kinds import is_bond_slave, is_sriov_network

ASSUMED_SHARED = "assume_network_is_shared"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which hosts can give a network to their VMs.

    Attributes:
        pifs: Its PIF on each host that has one.
        holders: For a network without PIFs, the hosts whose running VMs use it: they have it to themselves. None: any.
    """

    network: Network
    pifs: Mapping[Ref[Host], PIF]
    holders: frozenset[Ref[Host]] | None

    def has(self, host: Ref[Host]) -> bool:
        """Can this host give it?"""
        return host in self.pifs if self.pifs else self.holders is None or host in self.holders

    def is_bonded(self, view: View, host: Ref[Host]) -> bool:
        """Is the host's PIF a member of a bond, and so none that VMs can use?"""
        pif = self.pifs.get(host)
        return pif is not None and not is_null(pif.bond_slave_of) and view.exists(Bond, pif.bond_slave_of)

    def usable(self, view: View, host: Ref[Host]) -> bool:
        """Can VMs on this host use it?"""
        return self.has(host) and not self.is_bonded(view, host)


class Reaches:
    """What all questions about placement have in common, worked out when it is asked for first.

    It is of one state of the database: whoever changes something makes a new one. Calls that only read share one (`shared`).
    """

    def __init__(self, ctx: CallContext) -> None:
        self._ctx = ctx
        self._view = ctx.txn
        self._known: dict[Ref[Network], Reach] = {}
        self._usable: dict[Ref[Network], frozenset[Ref[Host]]] = {}
        self._together: dict[frozenset[Ref[Network]], tuple[Ref[Host], ...]] = {}
        self._sriov: dict[Ref[Network], bool] = {}
        self._open: tuple[Ref[Host], ...] | None = None

    @classmethod
    def shared(cls, ctx: CallContext) -> Reaches:
        """That of all calls that only read, as long as the database stays as it is; a new one for others."""
        if ctx.worked_out is None:
            return cls(ctx)
        known: Reaches | None = ctx.worked_out.get(cls)
        if known is None:
            known = ctx.worked_out[cls] = cls(ctx)
        return known

    def of(self, network: Ref[Network]) -> Reach:
        """One network's."""
        known = self._known.get(network)
        if known is None:
            known = self._known[network] = reach(self._view, self._view.get(Network, network))
        return known

    def open_hosts(self) -> tuple[Ref[Host], ...]:
        """The hosts on which VMs may start at all: enabled ones that are live."""
        if self._open is None:
            hosts = self._view.all(Host)
            self._open = tuple(
                host.ref for host in hosts if host.enabled and self._ctx.is_live(host.ref, host)
            )
        return self._open

    def hosts_with(self, networks: Iterable[Ref[Network]]) -> tuple[Ref[Host], ...]:
        """Those of the open hosts on which VMs can use all these networks."""
        wanted = frozenset(networks)
        known = self._together.get(wanted)
        if known is None:
            able = frozenset(self.open_hosts()).intersection(*map(self._usable_on, wanted))
            known = self._together[wanted] = tuple(host for host in self.open_hosts() if host in able)
        return known

    def is_sriov(self, network: Ref[Network]) -> bool:
        """Is this an SR-IOV network?"""
        known = self._sriov.get(network)
        if known is None:
            known = self._sriov[network] = is_sriov_network(self._view, network)
        return known

    def _usable_on(self, network: Ref[Network]) -> frozenset[Ref[Host]]:
        known = self._usable.get(network)
        if known is None:
            one = self.of(network)
            usable = frozenset(host for host in self.open_hosts() if one.usable(self._view, host))
            known = self._usable[network] = usable
        return known


def reach(view: View, network: Network) -> Reach:
    """Which hosts can give a network to their VMs.

    One with PIFs: those that have one of them. One without: all, if it may be taken for shared or no running VM uses it,
    else those where one that does runs; so the first running VM pins the network to its host.
    """
    pifs = _first_of_each_host(view, network.ref)
    if pifs or network.other_config.get(ASSUMED_SHARED) == "true" or not network.managed:
        return Reach(network, pifs, None)
    users = (view.find(VM, vif.VM) for vif in view.where(VIF, network=network.ref))
    running = frozenset(
        vm.resident_on for vm in users if vm is not None and vm.power_state is VmPowerState.RUNNING
    )
    return Reach(network, pifs, running or None)


def _first_of_each_host(view: View, network: Ref[Network]) -> dict[Ref[Host], PIF]:
    pifs: dict[Ref[Host], PIF] = {}
    for pif in view.where(PIF, network=network):
        pifs.setdefault(pif.host, pif)
    return pifs


def is_visible(view: View, network: Network, host: Ref[Host]) -> bool:
    """Can a host give its VMs this network?"""
    return reach(view, network).has(host)


def require_networks(reaches: Reaches, view: View, vm: Ref[VM], host: Ref[Host]) -> None:
    """Lets a VM run on a host that has all networks of its VIFs.

    Raises:
        VM_REQUIRES_NETWORK: The host cannot give it a network; the first in the order of VIFs.
        HOST_CANNOT_ATTACH_NETWORK: The host's PIF on a network is a member of a bond.
    """
    needed = [reaches.of(vif.network) for vif in view.where(VIF, VM=vm)]
    for one in needed:
        if not one.has(host):
            raise errors.vm_requires_network(vm, one.network.ref)
    for one in needed:
        if one.is_bonded(view, host):
            raise errors.host_cannot_attach_network(host, one.network.ref)


def require_shared(view: View, network: Ref[Network]) -> None:
    """Lets a network pass that every enabled host has by a PIF that is no bond's member, and without booting first.

    Raises:
        HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED: One has not.
    """
    pifs = _first_of_each_host(view, network)
    for host in view.all(Host):
        pif = pifs.get(host.ref)
        logical = logical_under(view, pif)
        waits = logical is not None and not can_be_up_without_reboot(view, logical)
        if host.enabled and (pif is None or is_bond_slave(view, pif) or waits):
            raise errors.ha_constraint_violation_network_not_shared(network)


def require_can_boot(ctx: CallContext, vm: Ref[VM], host: Ref[Host], reaches: Reaches | None = None) -> None:
    """Lets a VM be started on a host. `reaches` are shared by whoever asks about many hosts.

    Raises:
        HOST_NOT_LIVE, HOST_DISABLED, VM_REQUIRES_NETWORK, HOST_CANNOT_ATTACH_NETWORK,
        NETWORK_SRIOV_INSUFFICIENT_CAPACITY: in this order.
    """
    row = ctx.txn.get(Host, host)
    if not ctx.is_live(host):
        raise errors.host_not_live()
    if not row.enabled:
        raise errors.host_disabled(host)
    require_networks(reaches or Reaches(ctx), ctx.txn, vm, host)
    require_capacity(ctx.txn, vm, host)


def possible_hosts(ctx: CallContext, vm: Ref[VM], reaches: Reaches | None = None) -> tuple[Ref[Host], ...]:
    """The hosts that could run a VM; the same as those where `require_can_boot` raises nothing."""
    view = ctx.txn
    reaches = reaches or Reaches(ctx)
    networks = frozenset(vif.network for vif in view.where(VIF, VM=vm))
    fitting = reaches.hosts_with(networks)
    if any(map(reaches.is_sriov, networks)):
        return tuple(host for host in fitting if _has_capacity(view, vm, host))
    return fitting


def _has_capacity(view: View, vm: Ref[VM], host: Ref[Host]) -> bool:
    try:
        require_capacity(view, vm, host)
    except errors.Failure:
        return False
    return True


def choose_host(ctx: CallContext, vm: VM) -> Ref[Host]:
    """The host that a VM is started on: the one it prefers if that can, else the one with the fewest VMs.

    A VM with a VIF on an SR-IOV network goes where most virtual functions of the first such network are free.

    Raises:
        NETWORK_SRIOV_INSUFFICIENT_CAPACITY: Free virtual functions are all that is missing.
        NO_HOSTS_AVAILABLE: None can run it.
    """
    hosts = possible_hosts(ctx, vm.ref)
    if not hosts:
        _explain_capacity(ctx, vm.ref)
        raise errors.no_hosts_available()
    if vm.affinity in hosts:
        return vm.affinity
    networks = (vif.network for vif in ctx.txn.where(VIF, VM=vm.ref))
    sriov = next((network for network in networks if is_sriov_network(ctx.txn, network)), None)
    if sriov is not None:
        return max(hosts, key=lambda host: free_on(ctx.txn, sriov, host))
    return min(hosts, key=lambda host: len(ctx.txn.where(VM, resident_on=host)))


def _explain_capacity(ctx: CallContext, vm: Ref[VM]) -> None:
    """Raises NETWORK_SRIOV_INSUFFICIENT_CAPACITY if that is all that keeps a VM from some host."""
    reaches = Reaches(ctx)
    for host in ctx.txn.refs(Host):
        try:
            require_can_boot(ctx, vm, host, reaches)
        except errors.Failure as failure:
            if failure.code == "NETWORK_SRIOV_INSUFFICIENT_CAPACITY":
                raise
