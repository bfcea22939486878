"""What removes the obstacles to joining a pool? Commands for each, and the rule that carries out those about the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.sr import SR
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.rules import bond as bond_rules
from poolnet.rules import network_sriov
from poolnet.rules import tunnel as tunnel_rules
from poolnet.rules import vlan as vlan_rules
from poolnet.rules.context import CallContext
from poolnet.rules.join import (
    ADDRESS_TYPE_DIFFERS,
    BACKENDS_DIFFER,
    NBD,
    PURPOSES_DIFFER,
    Target,
    is_in_the_way,
    obstacles,
    trusted_otherwise,
)

FIXED: Final = frozenset(
    (
        "POOL_JOINING_HOST_HAS_BONDS",
        "POOL_JOINING_HOST_HAS_TUNNELS",
        "POOL_JOINING_HOST_HAS_NETWORK_SRIOVS",
        "POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS",
    )
)
"""The obstacles that `clear` removes: what the pool's way of networking replaces."""


class Obstacle(Struct, frozen=True, kw_only=True):
    """Something that keeps a host from joining.

    Attributes:
        code: The error that joining would answer.
        params: Its parameters.
        commands: What removes it, one command after the other; empty where no command does.
        fixed: Whether joining can remove it by itself.
    """

    code: str
    params: tuple[str, ...]
    commands: tuple[str, ...]
    fixed: bool


def explained(view: View, me: Host, target: Target, failure: errors.Failure) -> Obstacle:
    """An obstacle with the commands that remove it."""
    return Obstacle(
        code=failure.code,
        params=tuple(str(param) for param in failure.params),
        commands=tuple(_commands(view, me, target, failure)),
        fixed=failure.code in FIXED,
    )


def require_clearable(view: View, me: Host, target: Target, *, force: bool) -> None:
    """Lets a host join that has nothing in its way but what `clear` removes.

    Raises:
        (the first other one of `obstacles`)
    """
    for failure in obstacles(view, me, target, force=force):
        if failure.code not in FIXED:
            raise failure


def clear(ctx: CallContext) -> None:
    """Removes bonds, tunnels, SR-IOV and VLANs of this host, but not the VLAN of its management.

    Raises:
        (any of VLAN.destroy, tunnel.destroy, network_sriov.destroy, Bond.destroy)
    """
    for tunnel in tuple(ctx.txn.refs(Tunnel)):
        tunnel_rules.destroy(ctx, self=tunnel)
    for vlan in tuple(_other_vlans(ctx.txn)):
        vlan_rules.destroy(ctx, self=vlan.ref)
    for sriov in tuple(ctx.txn.refs(NetworkSriov)):
        network_sriov.destroy(ctx, self=sriov)
    for bond in tuple(ctx.txn.refs(Bond)):
        bond_rules.destroy(ctx, self=bond)


def _commands(view: View, me: Host, target: Target, failure: errors.Failure) -> Iterator[str]:
    match failure.code:
        case "HA_IS_ENABLED":
            yield "xe pool-ha-disable"
        case "JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS":
            yield from _parting(view, me)
        case "HOSTS_NOT_HOMOGENEOUS":
            yield "xe pool-join force=true …"
        case "POOL_JOINING_HOST_MANAGEMENT_VLAN_DOES_NOT_MATCH":
            yield from _other_management(view, me, target)
        case "OPERATION_NOT_ALLOWED":
            yield from _operation(view, me, target, str(failure.params[0]))
        case "POOL_JOINING_HOST_CA_CERTIFICATES_CONFLICT":
            yield from (f"xe pool-uninstall-ca-certificate name={name}" for name in failure.params)
        case "POOL_JOINING_HOST_TRUSTED_CERTIFICATES_CONFLICT":
            for row, _ in trusted_otherwise(view, target):
                if row.ref in failure.params:
                    yield f"xe pool-uninstall-trusted-certificate certificate-uuid={row.uuid}"
        case code if code in _REMOVING:
            yield from _REMOVING[code](view)


def _parting(view: View, me: Host) -> Iterator[str]:
    """What leaves this host without members; their VMs are stopped before."""
    for host in view.all(Host):
        if host.ref == me.ref:
            continue
        yield from (_stopping(view, vm) for vm in _vms(view) if vm.resident_on == host.ref)
        is_live = _is_live(view, host)
        yield f"xe pool-eject host-uuid={host.uuid}" if is_live else f"xe host-forget uuid={host.uuid}"


def _is_live(view: View, host: Host) -> bool:
    metrics = view.find(HostMetrics, host.metrics)
    return metrics is not None and metrics.live


def _running(view: View) -> Iterator[str]:
    return (_stopping(view, vm) for vm in _vms(view) if vm.power_state is VmPowerState.RUNNING)


def _stopping(view: View, vm: VM) -> str:
    """A VM on a host that is down cannot be shut down; it can only be noted that it does not run any more."""
    host = view.find(Host, vm.resident_on)
    is_lost = host is not None and not _is_live(view, host)
    return f"xe vm-{'reset-powerstate --force' if is_lost else 'shutdown'} uuid={vm.uuid}"


def _busy(view: View) -> Iterator[str]:
    for vm in _vms(view):
        if vm.power_state is VmPowerState.PAUSED:
            yield f"xe vm-shutdown uuid={vm.uuid} --force"
        elif vm.current_operations:
            yield f"xe event-wait class=vm uuid={vm.uuid} current-operations="


def _shared_storage(view: View) -> Iterator[str]:
    for sr in view.all(SR):
        if is_in_the_way(sr):
            plugged = (pbd for pbd in view.where(PBD, SR=sr.ref) if pbd.currently_attached)
            yield from (f"xe pbd-unplug uuid={pbd.uuid}" for pbd in plugged)
            yield f"xe sr-forget uuid={sr.uuid}"


def _other_vlans(view: View) -> Iterator[VLAN]:
    """VLANs that do not carry the management."""
    for vlan in view.all(VLAN):
        untagged = view.find(PIF, vlan.untagged_PIF)
        if untagged is None or not untagged.management:
            yield vlan


def _vms(view: View) -> list[VM]:
    return [vm for vm in view.all(VM) if not vm.is_control_domain]


_REMOVING: Final[Mapping[str, Callable[[View], Iterator[str]]]] = {
    "JOINING_HOST_CANNOT_HAVE_RUNNING_VMS": _running,
    "JOINING_HOST_CANNOT_HAVE_VMS_WITH_CURRENT_OPERATIONS": _busy,
    "JOINING_HOST_CANNOT_CONTAIN_SHARED_SRS": _shared_storage,
    "POOL_JOINING_HOST_HAS_BONDS": lambda view: (f"xe bond-destroy uuid={x.uuid}" for x in view.all(Bond)),
    "POOL_JOINING_HOST_HAS_TUNNELS": lambda view: (
        f"xe tunnel-destroy uuid={x.uuid}" for x in view.all(Tunnel)
    ),
    "POOL_JOINING_HOST_HAS_NETWORK_SRIOVS": lambda view: (
        f"xe network-sriov-destroy uuid={x.uuid}" for x in view.all(NetworkSriov)
    ),
    "POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS": lambda view: (
        f"xe vlan-destroy uuid={x.uuid}" for x in _other_vlans(view)
    ),
}


def _operation(view: View, me: Host, target: Target, reason: str) -> Iterator[str]:
    if reason == BACKENDS_DIFFER:
        backend = target.coordinator.software_version.get("network_backend", "openvswitch")
        yield f"xe-switch-network-backend {backend}"
    elif reason == ADDRESS_TYPE_DIFFERS:
        for pif in _managing(view, me):
            yield f"xe pif-set-primary-address-type uuid={pif.uuid} primary_address_type={target.primary_address_type}"
    elif reason == PURPOSES_DIFFER:
        for network in view.all(Network):
            for purpose in network.purpose:
                if purpose.value in NBD:
                    key = f"param-name=purpose param-key={purpose.value}"
                    yield f"xe network-param-remove uuid={network.uuid} {key}"


def _other_management(view: View, me: Host, target: Target) -> Iterator[str]:
    """Management on the VLAN of the pool's, or on none."""
    for pif in _managing(view, me):
        nic = next((p for p in view.where(PIF, host=me.ref) if p.physical and p.device == pif.device), pif)
        if target.management_vlan < 0:
            yield f"xe pif-reconfigure-ip uuid={nic.uuid} mode=static IP=… netmask=… gateway=…"
            yield f"xe host-management-reconfigure pif-uuid={nic.uuid}"
            continue
        tag = target.management_vlan
        yield "xe network-create name-label=management"
        yield f"xe vlan-create pif-uuid={nic.uuid} vlan={tag} network-uuid=…"
        yield "xe pif-reconfigure-ip uuid=… mode=static IP=… netmask=… gateway=…"
        yield "xe host-management-reconfigure pif-uuid=…"


def _managing(view: View, me: Host) -> list[PIF]:
    return [pif for pif in view.where(PIF, host=me.ref) if pif.management]
