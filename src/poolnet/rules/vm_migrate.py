"""How does a VM go to another host while it runs, and where do the VMs of a host go? See spec §17.3.

The guest waits at both hosts while they are switched: at the source it is frozen with its NICs down, at the destination it
is made and does not run yet. The commit decides where it goes on, so that it never runs at both (docs/decisions/0016).
"""

from __future__ import annotations

from collections.abc import Mapping

from poolnet.db.txn import View
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import GuestFacts
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmOperations, VmPowerState
from poolnet.model.types import NULL, Ref
from poolnet.rules.allowed import immobile, refresh_vm, require_vm, vm_refusal
from poolnet.rules.attach import LIVE, attach_network, primary_address
from poolnet.rules.context import CallContext
from poolnet.rules.ha_plan import require_plan
from poolnet.rules.kinds import local_pif
from poolnet.rules.placement import Reaches, possible_hosts, require_can_boot
from poolnet.rules.vif import mark_attached
from poolnet.rules.vm_power import guest_spec

NETWORK = "network"
"""The option that says over which network a VM is to be sent."""


def pool_migrate(ctx: CallContext, *, vm: Ref[VM], host: Ref[Host], options: Mapping[str, str]) -> None:
    """Moves a running VM to another host of the pool, with its MACs, locks and limits. To its own host: nothing is done.

    `options` may name the `network` of the transfer, which is checked; guests are sent through the hosts' own connections.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, VM_HAS_PCI_ATTACHED,
        VM_IS_IMMOBILE (what runs it cannot send it), HANDLE_INVALID, PIF_NOT_PRESENT, REQUIRED_PIF_IS_UNPLUGGED, INTERFACE_HAS_NO_IP (of the destination, by
        `network`), HOST_OFFLINE (the VM's host), HOST_NOT_LIVE, HOST_DISABLED, VM_REQUIRES_NETWORK,
        HOST_CANNOT_ATTACH_NETWORK, BRIDGE_NOT_AVAILABLE, HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: in this order.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.POOL_MIGRATE)
    if (refusal := immobile(ctx.txn, row)) is not None:
        raise refusal
    ctx.txn.get(Host, host)
    if NETWORK in options:
        require_address(ctx.txn, host, Ref(options[NETWORK]))
    source = row.resident_on
    ctx.require_live(source)
    if host == source:
        return
    require_can_boot(ctx, vm, host)
    attached = tuple(vif for vif in ctx.txn.where(VIF, VM=vm) if vif.currently_attached)
    for vif in attached:
        attach_network(ctx, vif.network, host, force=False)
        mark_attached(ctx, vif, host)
    domid = ctx.counters.take_domid(host)
    ctx.txn.update(VM, vm, resident_on=host, domid=domid, scheduled_to_be_resident_on=NULL)
    ctx.before(host, protocol.ReceiveGuest(guest=guest_spec(ctx, ctx.txn.get(VM, vm), domid, attached)))
    ctx.before(source, protocol.DepartGuest(vm_uuid=row.uuid))
    refresh_vm(ctx.txn, vm)
    require_plan(ctx)


def require_address(view: View, host: Ref[Host], network: Ref[Network]) -> None:
    """Lets a host be sent VMs over a network.

    Raises:
        HANDLE_INVALID: There is no such network.
        PIF_NOT_PRESENT, REQUIRED_PIF_IS_UNPLUGGED, INTERFACE_HAS_NO_IP: The host has no PIF on it, or that is down, or
            has no address.
    """
    view.get(Network, network)
    pif: PIF | None = local_pif(view, network, host)
    if pif is None:
        raise errors.pif_not_present(host, network)
    if not pif.currently_attached:
        raise errors.required_pif_is_unplugged((pif.ref,))
    if not primary_address(pif):
        raise errors.interface_has_no_ip(pif.ref)


def what_becomes_of(
    view: View, host: Ref[Host], guest: GuestFacts
) -> protocol.RunGuest | protocol.DestroyGuest | None:
    """What a host is to do with a guest that waits there: as the database has the VM. None: nothing, it is to wait on.

    A VM that was paused meanwhile stays as it is.
    """
    vm = view.first(VM, uuid=guest.vm_uuid)
    if vm is None or vm.resident_on != host or vm.domid != guest.domid or vm.power_state not in LIVE:
        return protocol.DestroyGuest(vm_uuid=guest.vm_uuid)
    if vm.power_state is VmPowerState.RUNNING:
        return protocol.RunGuest(vm_uuid=guest.vm_uuid)
    return None


# --- the VMs of a host -----------------------------------------------------------------------------------------


def evacuation(ctx: CallContext, host: Ref[Host]) -> dict[Ref[VM], Ref[Host] | errors.Failure]:
    """Where each VM of a host can go, the least loaded of the hosts that can run it; or what keeps it.

    Raises:
        HANDLE_INVALID: There is no such host.
    """
    ctx.txn.get(Host, host)
    reaches = Reaches(ctx)
    load = {each.ref: len(ctx.txn.where(VM, resident_on=each.ref)) for each in ctx.txn.all(Host)}
    plan: dict[Ref[VM], Ref[Host] | errors.Failure] = {}
    for vm in ctx.txn.where(VM, resident_on=host):
        if vm.is_control_domain or vm.power_state not in LIVE:
            continue
        refusal = vm_refusal(vm, VmOperations.POOL_MIGRATE) or immobile(ctx.txn, vm)
        if refusal is not None:
            plan[vm.ref] = refusal
            continue
        able = [other for other in possible_hosts(ctx, vm.ref, reaches) if other != host]
        if not able:
            plan[vm.ref] = _why_nowhere(ctx, vm.ref, host, reaches)
            continue
        chosen = min(able, key=lambda other: load[other])
        load[chosen] += 1
        plan[vm.ref] = chosen
    return plan


def _why_nowhere(ctx: CallContext, vm: Ref[VM], host: Ref[Host], reaches: Reaches) -> errors.Failure:
    """What keeps a VM from the first host that could take any; NO_HOSTS_AVAILABLE if there is none."""
    for other in ctx.txn.all(Host):
        if other.ref == host or not other.enabled or not ctx.is_live(other.ref):
            continue
        try:
            require_can_boot(ctx, vm, other.ref, reaches)
        except errors.Failure as failure:
            return failure
    return errors.no_hosts_available()


def get_vms_which_prevent_evacuation(ctx: CallContext, *, self: Ref[Host]) -> dict[Ref[VM], tuple[str, ...]]:
    """The VMs of a host that cannot go elsewhere, each with the error that keeps it."""
    plan = evacuation(ctx, self)
    return {vm: (why.code, *why.params) for vm, why in plan.items() if isinstance(why, errors.Failure)}


def assert_can_evacuate(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Says by its error which VMs of a host cannot go elsewhere.

    Raises:
        CANNOT_EVACUATE_HOST: Some cannot; errors joined by `|`, each with its parameters joined by `,`.
    """
    kept = get_vms_which_prevent_evacuation(ctx, self=host)
    if kept:
        raise errors.cannot_evacuate_host("|".join(",".join(error) for error in kept.values()))
