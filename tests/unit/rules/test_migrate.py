from __future__ import annotations

import pytest

from poolnet.hostnet.facts import GuestFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import VmOperations, VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref
from poolnet.rules.facts import record_facts
from poolnet.rules.vm_migrate import evacuation
from tests.unit.rules.test_placement import bonded, pif_there
from tests.unit.rules.world import LOCAL, NOW, World, facts_with, refused


def running(w: World, device: str = "eth1") -> Ref[VM]:
    """A VM that runs on the first host, on the network of a NIC."""
    vm = w.vm()
    w.vif(vm, w.nic_network(device), device=str(len(w.txn.where(VIF, VM=vm))))
    w.call("VM.start_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    return vm


def migrate(w: World, vm: Ref[VM], host: Ref[Host], **options: str) -> None:
    w.call("VM.pool_migrate", vm=vm, host=host, options=options)


def test_a_vm_takes_its_vifs_along_and_gets_a_domain_of_its_new_host() -> None:
    w = World.new()
    there = w.host(nics=3)
    w.ctx.counters.note_domid(there, 7)
    vm = running(w)
    vif = w.txn.where(VIF, VM=vm)[0]
    pif = pif_there(w, there, "eth1")
    w.txn.update(PIF, pif.ref, currently_attached=False)
    w.new_actions()
    migrate(w, vm, there, live="true")
    row = w.txn.get(VM, vm)
    assert (row.resident_on, row.domid, row.power_state) == (there, 8, VmPowerState.RUNNING)
    assert w.txn.get(PIF, pif.ref).currently_attached
    assert w.txn.where(VIF, VM=vm)[0] == vif
    assert w.new_actions() == [("before", "ReceiveGuest"), ("before", "DepartGuest")]
    assert [host for host, _, _ in w.ctx.guest_actions[-2:]] == [there, LOCAL]
    assert w.derive().ports == ()


def test_to_its_own_host_nothing_is_done() -> None:
    w = World.new()
    vm = running(w)
    w.new_actions()
    before = w.txn.get(VM, vm)
    migrate(w, vm, LOCAL)
    assert (w.txn.get(VM, vm), w.new_actions()) == (before, [])


def test_refusals_in_their_order() -> None:
    w = World.new()
    there = w.host(nics=3)
    vm = running(w)
    network = w.nic_network("eth1")
    w.txn.update(VM, vm, blocked_operations={VmOperations.POOL_MIGRATE: "because"})
    with refused("OPERATION_BLOCKED", vm, "because"):
        migrate(w, vm, Ref("OpaqueRef:nobody"))
    w.txn.update(VM, vm, blocked_operations={})
    with refused("HANDLE_INVALID", "host", "OpaqueRef:nobody"):
        migrate(w, vm, Ref("OpaqueRef:nobody"), network="OpaqueRef:nothing")
    with refused("HANDLE_INVALID", "network", "OpaqueRef:nothing"):
        migrate(w, vm, there, network="OpaqueRef:nothing")
    nowhere = w.network()
    with refused("PIF_NOT_PRESENT", there, nowhere):
        migrate(w, vm, there, network=nowhere)
    pif = pif_there(w, there, "eth1")
    w.txn.update(PIF, pif.ref, currently_attached=False)
    with refused("REQUIRED_PIF_IS_UNPLUGGED", pif.ref):
        migrate(w, vm, there, network=network)
    w.txn.update(PIF, pif.ref, currently_attached=True, IP="")
    with refused("INTERFACE_HAS_NO_IP", pif.ref):
        migrate(w, vm, there, network=network)
    w.txn.update(PIF, pif.ref, IP="10.0.0.2")
    w.txn.update(Host, there, enabled=False)
    with refused("HOST_DISABLED", there):
        migrate(w, vm, there, network=network)
    w.txn.update(Host, there, enabled=True)
    bonded(w, pif_there(w, there, "eth1"), pif_there(w, there, "eth2"))
    with refused("HOST_CANNOT_ATTACH_NETWORK", there, network):
        migrate(w, vm, there)
    assert w.txn.get(VM, vm).resident_on == LOCAL


def test_a_vm_that_its_host_cannot_send_stays() -> None:
    w = World.new()
    there = w.host(nics=3)
    vm = running(w)
    row = w.txn.get(VM, vm)
    guest = GuestFacts(vm_uuid=row.uuid, domid=row.domid, state="running", mobile=False)
    record_facts(w.txn, LOCAL, facts_with(guests=(guest,)), NOW, w.ctx.new_uuid)
    assert w.txn.get(VMMetrics, row.metrics).nomigrate
    assert VmOperations.POOL_MIGRATE not in w.txn.get(VM, vm).allowed_operations
    with refused("VM_IS_IMMOBILE", vm):
        migrate(w, vm, there)
    kept = evacuation(w.ctx, LOCAL)[vm]
    assert isinstance(kept, Failure)
    assert (kept.code, kept.params) == ("VM_IS_IMMOBILE", (vm,))
    w.call("VM.hard_shutdown", vm=vm)
    w.start(vm)  # whoever runs it now may say otherwise
    assert VmOperations.POOL_MIGRATE in w.txn.get(VM, vm).allowed_operations


@pytest.mark.parametrize("state", ["halted", "paused", "suspended"])
def test_only_a_running_vm_migrates(state: str) -> None:
    w = World.new()
    there = w.host(nics=3)
    vm = w.vm() if state == "halted" else running(w)
    if state != "halted":
        w.call({"paused": "VM.pause", "suspended": "VM.suspend"}[state], vm=vm)
    with refused("VM_BAD_POWER_STATE", vm, "running", state):
        migrate(w, vm, there)
    assert VmOperations.POOL_MIGRATE not in w.txn.get(VM, vm).allowed_operations


def test_a_running_vm_may_migrate_by_its_allowed_operations() -> None:
    w = World.new()
    assert VmOperations.POOL_MIGRATE in w.txn.get(VM, running(w)).allowed_operations


def test_a_running_vm_pins_its_internal_network() -> None:
    w = World.new()
    there = w.host()
    vm, inner = w.vm(), w.network()
    w.vif(vm, inner)
    w.call("VM.start_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    with refused("VM_REQUIRES_NETWORK", vm, inner):
        migrate(w, vm, there)


def test_an_evacuated_hosts_vms_go_where_fewest_are() -> None:
    w = World.new()
    near, far = w.host(nics=3), w.host(nics=3)
    vms = [running(w) for _ in range(3)]
    w.call("VM.start_on", vm=running_on(w, near), host=near, start_paused=False, force=False)
    plan = evacuation(w.ctx, LOCAL)
    assert [plan[vm] for vm in vms] == [far, near, far]
    assert w.call("host.get_vms_which_prevent_evacuation", self=LOCAL) == {}
    w.call("host.assert_can_evacuate", host=LOCAL)


def running_on(w: World, host: Ref[Host]) -> Ref[VM]:
    vm = w.vm()
    w.vif(vm, w.nic_network("eth1"))
    assert host in w.call("VM.get_possible_hosts", vm=vm)
    return vm


def test_what_keeps_a_host_from_being_evacuated() -> None:
    w = World.new()
    free, pinned, asleep = running(w), w.vm(), running(w)
    inner = w.network()
    w.vif(pinned, inner)
    w.start(pinned)
    w.call("VM.pause", vm=asleep)
    nowhere = dict.fromkeys((free, pinned), ("NO_HOSTS_AVAILABLE",))
    sleeps = {asleep: ("VM_BAD_POWER_STATE", asleep, "running", "paused")}
    assert w.call("host.get_vms_which_prevent_evacuation", self=LOCAL) == {**nowhere, **sleeps}
    w.host(nics=3)
    kept = {pinned: ("VM_REQUIRES_NETWORK", pinned, inner), **sleeps}
    assert w.call("host.get_vms_which_prevent_evacuation", self=LOCAL) == kept
    texts = {f"VM_REQUIRES_NETWORK,{pinned},{inner}", f"VM_BAD_POWER_STATE,{asleep},running,paused"}
    with pytest.raises(Failure) as raised:
        w.call("host.assert_can_evacuate", host=LOCAL)
    assert raised.value.code == "CANNOT_EVACUATE_HOST"
    assert set(raised.value.params[0].split("|")) == texts
    with refused("HANDLE_INVALID", "host", NULL):
        w.call("host.assert_can_evacuate", host=NULL)
