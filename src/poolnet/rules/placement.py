"""Which host can run a VM? See spec §17.1."""

from __future__ import annotations

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext
from poolnet.rules.functions import can_be_up_without_reboot, free_on, logical_pif, require_capacity
from poolnet.rules.kinds import first_pif, is_bond_slave, is_sriov_network, local_pif


def is_visible(view: View, network: Network, host: Ref[Host]) -> bool:
    """Can a host give its VMs this network?

    One with PIFs: if it has one of them. One without: if it may be taken for shared, or no running VM uses it, or one
    that does runs there; so the first running VM pins the network to its host.
    """
    if first_pif(view, network.ref) is not None:
        return local_pif(view, network.ref, host) is not None
    if network.other_config.get("assume_network_is_shared") == "true" or not network.managed:
        return True
    users = (view.find(VM, vif.VM) for vif in view.where(VIF, network=network.ref))
    running = [vm.resident_on for vm in users if vm is not None and vm.power_state is VmPowerState.RUNNING]
    return not running or host in running


def require_networks(view: View, vm: Ref[VM], host: Ref[Host]) -> None:
    """Lets a VM run on a host that has all networks of its VIFs.

    Raises:
        VM_REQUIRES_NETWORK: The host cannot give it a network; the first in the order of VIFs.
        HOST_CANNOT_ATTACH_NETWORK: The host's PIF on a network is a member of a bond.
    """
    networks = [view.get(Network, vif.network) for vif in view.where(VIF, VM=vm)]
    for network in networks:
        if not is_visible(view, network, host):
            raise errors.vm_requires_network(vm, network.ref)
    for network in networks:
        pif = local_pif(view, network.ref, host)
        if pif is not None and is_bond_slave(view, pif):
            raise errors.host_cannot_attach_network(host, network.ref)


def require_shared(view: View, network: Ref[Network]) -> None:
    """Lets a network pass that every enabled host has by a PIF that is no bond's member, and without booting first.

    Raises:
        HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED: One has not.
    """
    for host in view.all(Host):
        pif = local_pif(view, network, host.ref)
        logical = logical_pif(view, network, host.ref)
        waits = logical is not None and not can_be_up_without_reboot(view, logical)
        if host.enabled and (pif is None or is_bond_slave(view, pif) or waits):
            raise errors.ha_constraint_violation_network_not_shared(network)


def require_can_boot(ctx: CallContext, vm: Ref[VM], host: Ref[Host]) -> None:
    """Lets a VM be started on a host.

    Raises:
        HOST_NOT_LIVE, HOST_DISABLED, VM_REQUIRES_NETWORK, HOST_CANNOT_ATTACH_NETWORK,
        NETWORK_SRIOV_INSUFFICIENT_CAPACITY: in this order.
    """
    row = ctx.txn.get(Host, host)
    if not ctx.is_live(host):
        raise errors.host_not_live()
    if not row.enabled:
        raise errors.host_disabled(host)
    require_networks(ctx.txn, vm, host)
    require_capacity(ctx.txn, vm, host)


def possible_hosts(ctx: CallContext, vm: Ref[VM]) -> tuple[Ref[Host], ...]:
    """The hosts that could run a VM."""
    return tuple(host for host in ctx.txn.refs(Host) if _can_boot(ctx, vm, host))


def _can_boot(ctx: CallContext, vm: Ref[VM], host: Ref[Host]) -> bool:
    try:
        require_can_boot(ctx, vm, host)
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
    for host in ctx.txn.refs(Host):
        try:
            require_can_boot(ctx, vm, host)
        except errors.Failure as failure:
            if failure.code == "NETWORK_SRIOV_INSUFFICIENT_CAPACITY":
                raise
