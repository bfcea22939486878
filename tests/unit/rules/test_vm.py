from __future__ import annotations

from typing import Any

import pytest

from poolnet.hostnet import protocol
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vif_metrics import VIFMetrics
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import DomainType, OnNormalExit, VmPowerState
from poolnet.model.types import NULL, Ref
from poolnet.rules.vm_power import guest_ended
from tests.unit.rules.world import LOCAL, NOW, World, refused


def test_a_new_vm_is_halted_and_has_a_seed_and_metrics() -> None:
    w = World.new()
    row = w.txn.get(VM, w.vm(power_state=VmPowerState.RUNNING, name_label="a"))
    assert (row.power_state, row.domid, row.resident_on) == (VmPowerState.HALTED, -1, NULL)
    assert row.other_config["mac_seed"]
    assert w.txn.exists(VMMetrics, row.metrics)
    assert not row.is_control_domain


def test_start_makes_the_guest_before_its_ports_and_runs_it_after() -> None:
    w = World.new()
    vm = w.vm(name_label="web", memory_static_max=1 << 30, memory_dynamic_max=1 << 30, VCPUs_max=2)
    first = w.vif(vm, w.nic_network("eth1"), device="1", MAC="00:16:3E:00:00:AA")
    second = w.vif(vm, w.network(MTU=9000), device="0")
    w.start(vm)
    row = w.txn.get(VM, vm)
    assert (row.power_state, row.resident_on, row.domid) == (VmPowerState.RUNNING, LOCAL, 1)
    assert w.new_actions() == [("before", "CreateGuest"), ("after", "RunGuest")]
    created = w.ctx.guest_actions[0][2]
    assert isinstance(created, protocol.CreateGuest)
    assert created.guest == protocol.GuestSpec(
        vm_uuid=row.uuid,
        name="web",
        domid=1,
        memory_bytes=1 << 30,
        vcpus=1,
        nics=(
            protocol.GuestNic(device=0, mac=w.txn.get(VIF, second).MAC, mtu_bytes=9000),
            protocol.GuestNic(device=1, mac="00:16:3e:00:00:aa", mtu_bytes=1500),
        ),
    )
    assert [p.device for p in w.derive().ports] == ["vif1.0", "vif1.1"]
    assert all(w.txn.get(VIF, vif).currently_attached for vif in (first, second))
    assert w.txn.get(VIF, second).MTU == 9000
    metrics = w.txn.get(VMMetrics, row.metrics)
    assert metrics.start_time == NOW
    assert metrics.current_domain_type is DomainType.PV
    assert w.txn.exists(VMGuestMetrics, row.guest_metrics)


def test_start_plugs_a_pif_that_is_down() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.nic_network("eth1"))
    w.call("PIF.unplug", self=w.nic_pif("eth1").ref)
    w.start(vm)
    assert w.nic_pif("eth1").currently_attached


def test_domain_ids_are_not_used_again() -> None:
    w = World.new()
    vms = [w.vm(), w.vm()]
    for vm in vms:
        w.start(vm)
    w.call("VM.hard_shutdown", vm=vms[0])
    w.start(vms[0])
    assert [w.txn.get(VM, vm).domid for vm in vms] == [3, 2]


@pytest.mark.parametrize(
    ("fields", "code", "params"),
    [
        ({"VCPUs_max": 0}, "INVALID_VALUE", ("VCPUs_max", "0")),
        ({"VCPUs_at_startup": 2}, "INVALID_VALUE", ("VCPUs_at_startup", "2")),
    ],
)
def test_numbers_are_checked_at_start(fields: dict[str, Any], code: str, params: tuple[str, ...]) -> None:
    w = World.new()
    vm = w.vm(**fields)
    with refused(code, *params):
        w.start(vm)


def test_memory_limits_are_checked_at_start_and_when_set() -> None:
    w = World.new()
    vm = w.vm(memory_dynamic_min=512 << 20)
    text = "Memory limits must satisfy: static_min <= dynamic_min <= dynamic_max <= static_max"
    with refused("MEMORY_CONSTRAINT_VIOLATION", text):
        w.start(vm)
    with refused("MEMORY_CONSTRAINT_VIOLATION", text):
        w.call("VM.set_memory_static_max", self=vm, value=1)
    w.call("VM.set_memory", self=vm, value=512 << 20)
    w.start(vm)
    with refused("VM_BAD_POWER_STATE", vm, "halted", "running"):
        w.call("VM.set_memory_static_max", self=vm, value=1 << 30)


def test_start_refuses_in_order() -> None:
    w = World.new()
    vm = w.vm(VCPUs_max=0)
    w.vif(vm, w.network(managed=False))
    w.restrict("restrict_vm_start")
    w.txn.update(Host, LOCAL, enabled=False)
    with refused("LICENCE_RESTRICTION", "VM_start"):
        w.start(vm)
    w.pool(restrictions={"restrict_vm_start": "false"})
    with refused("INVALID_VALUE", "VCPUs_max", "0"):
        w.start(vm)
    w.txn.update(VM, vm, VCPUs_max=1)
    with refused("NO_HOSTS_AVAILABLE"):
        w.start(vm)
    with refused("HOST_DISABLED", LOCAL):
        w.call("VM.start_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    w.call("host.enable", host=LOCAL)
    with refused("BRIDGE_NOT_AVAILABLE", "xapi1"):
        w.start(vm)
    w.new_actions()
    assert w.txn.get(VM, vm).power_state is VmPowerState.HALTED


def test_a_network_pins_its_vms_to_a_host() -> None:
    w = World.new()
    other = w.host()
    network = w.network()
    first, second = w.vm(), w.vm()
    for vm in (first, second):
        w.vif(vm, network)
    w.call("VM.start_on", vm=first, host=other, start_paused=False, force=False)
    assert w.call("VM.get_possible_hosts", vm=second) == (other,)
    with refused("VM_REQUIRES_NETWORK", second, network):
        w.call("VM.assert_can_boot_here", self=second, host=LOCAL)
    w.txn.update(Network, network, other_config={"assume_network_is_shared": "true"})
    assert set(w.call("VM.get_possible_hosts", vm=second)) == {LOCAL, other}


def test_a_vm_needs_a_host_with_a_pif_on_its_network() -> None:
    w = World.new()
    vm = w.vm()
    network = w.network()
    w.vlan(w.nic_pif("eth1").ref, 5, network)
    w.vif(vm, network)
    other = w.host()
    with refused("VM_REQUIRES_NETWORK", vm, network):
        w.call("VM.assert_can_boot_here", self=vm, host=other)
    dead = w.host(live=False)
    with refused("HOST_NOT_LIVE"):
        w.call("VM.assert_can_boot_here", self=vm, host=dead)
    members = (w.nic_pif("eth1").ref, w.nic_pif("eth2").ref)
    on_member = w.vm()
    w.vif(on_member, w.nic_network("eth2"))
    bond_network = w.network()
    w.call("Bond.create", network=bond_network, members=members, MAC="")
    stayed = w.vm()
    w.vif(stayed, w.nic_network("eth2"))
    with refused("HOST_CANNOT_ATTACH_NETWORK", LOCAL, w.nic_network("eth2")):
        w.call("VM.assert_can_boot_here", self=stayed, host=LOCAL)


def test_a_vm_goes_to_the_host_it_prefers_or_to_the_emptier_one() -> None:
    w = World.new()
    other = w.host()
    vms = [w.vm(), w.vm(), w.vm(affinity=LOCAL), w.vm(affinity=Ref("OpaqueRef:gone"))]
    for vm in vms:
        w.start(vm)
    hosts = [w.txn.get(VM, vm).resident_on for vm in vms]
    assert hosts[2] == LOCAL
    assert set(hosts) == {LOCAL, other}


def started(w: World) -> tuple[Ref[VM], Ref[VIF]]:
    vm = w.vm()
    vif = w.vif(vm, w.network())
    w.start(vm)
    w.new_actions()
    return vm, vif


@pytest.mark.parametrize(
    ("method", "actions"),
    [
        ("VM.clean_shutdown", [("before", "ShutDownGuest"), ("after", "DestroyGuest")]),
        ("VM.shutdown", [("before", "ShutDownGuest"), ("after", "DestroyGuest")]),
        ("VM.hard_shutdown", [("after", "DestroyGuest")]),
        ("VM.power_state_reset", [("after", "DestroyGuest")]),
    ],
)
def test_a_stopped_vm_is_halted_with_nothing_left(method: str, actions: list[tuple[str, str]]) -> None:
    w = World.new()
    vm, vif = started(w)
    guest_metrics = w.txn.get(VM, vm).guest_metrics
    w.call(method, vm=vm)
    assert w.new_actions() == actions
    row = w.txn.get(VM, vm)
    assert (row.power_state, row.resident_on, row.domid) == (VmPowerState.HALTED, NULL, -1)
    assert row.guest_metrics == NULL
    assert not w.txn.exists(VMGuestMetrics, guest_metrics)
    assert not w.txn.get(VIF, vif).currently_attached
    assert w.derive().ports == ()
    assert w.derive().bridge("xapi1") is None


@pytest.mark.parametrize(
    ("method", "expected", "actual", "before"),
    [
        ("clean_shutdown", "running", "halted", ()),
        ("clean_reboot", "running", "halted", ()),
        ("pause", "running", "halted", ()),
        ("suspend", "running", "halted", ()),
        ("unpause", "paused", "halted", ()),
        ("unpause", "paused", "running", ("start",)),
        ("hard_reboot", "paused, running", "halted", ()),
        ("hard_shutdown", "paused, running, suspended", "halted", ()),
        ("shutdown", "paused, running, suspended", "halted", ()),
        ("clean_shutdown", "running", "paused", ("start", "pause")),
    ],
)
def test_wrong_power_states_are_refused(
    method: str, expected: str, actual: str, before: tuple[str, ...]
) -> None:
    w = World.new()
    vm = w.vm()
    for each in before:
        w.call(f"VM.{each}", vm=vm, **({"start_paused": False, "force": False} if each == "start" else {}))
    with refused("VM_BAD_POWER_STATE", vm, expected, actual):
        w.call(f"VM.{method}", vm=vm)


def test_a_vm_cannot_be_started_twice_nor_resumed_unless_suspended() -> None:
    w = World.new()
    vm, _ = started(w)
    with refused("VM_BAD_POWER_STATE", vm, "halted", "running"):
        w.start(vm)
    with refused("VM_BAD_POWER_STATE", vm, "suspended", "running"):
        w.call("VM.resume", vm=vm, start_paused=False, force=False)
    with refused("VM_BAD_POWER_STATE", vm, "suspended", "running"):
        w.call("VM.resume_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    with refused("VM_BAD_POWER_STATE", vm, "halted, suspended", "running"):
        w.call("VM.destroy", self=vm)


def test_suspend_and_resume_keep_the_vifs() -> None:
    w = World.new()
    vm, vif = started(w)
    other = w.vif(vm, w.network(), device="1")
    w.call("VM.suspend", vm=vm)
    row = w.txn.get(VM, vm)
    assert (row.power_state, row.resident_on, row.domid) == (VmPowerState.SUSPENDED, NULL, -1)
    assert w.txn.get(VIF, vif).currently_attached
    assert w.derive().ports == ()
    assert w.new_actions() == [("before", "PauseGuest"), ("after", "SuspendGuest")]
    w.call("VM.resume", vm=vm, start_paused=True, force=False)
    assert w.txn.get(VM, vm).power_state is VmPowerState.PAUSED
    assert w.new_actions() == [("before", "ResumeGuest")]
    assert not w.txn.get(VIF, other).currently_attached
    assert [p.device for p in w.derive().ports] == ["vif2.0"]
    w.call("VM.unpause", vm=vm)
    assert w.new_actions() == [("after", "RunGuest")]


def test_a_suspended_vm_can_be_stopped_and_destroyed() -> None:
    w = World.new()
    vm, vif = started(w)
    w.call("VM.suspend", vm=vm)
    w.new_actions()
    w.call("VM.hard_shutdown", vm=vm)
    assert w.new_actions() == [("before", "DestroyGuest")]
    assert not w.txn.get(VIF, vif).currently_attached
    w.start(vm)
    w.call("VM.suspend", vm=vm)
    of_vif, row = w.txn.get(VIF, vif).metrics, w.txn.get(VM, vm)
    w.call("VM.destroy", self=vm)
    assert not w.txn.exists(VIF, vif)
    assert not w.txn.exists(VIFMetrics, of_vif)
    assert not w.txn.exists(VMMetrics, row.metrics)
    assert not w.txn.exists(VMGuestMetrics, row.guest_metrics)


@pytest.mark.parametrize("clean", [True, False])
def test_reboot_leaves_unplugged_vifs_unplugged(clean: bool) -> None:
    w = World.new()
    vm, attached = started(w)
    unplugged = w.vif(vm, w.network(), device="1")
    w.call("VM.clean_reboot" if clean else "VM.hard_reboot", vm=vm)
    before = [("before", "ShutDownGuest")] if clean else []
    rest = [("before", "DestroyGuest"), ("before", "CreateGuest"), ("after", "RunGuest")]
    assert w.new_actions() == before + rest
    assert w.txn.get(VM, vm).domid == 2
    assert w.txn.get(VIF, attached).currently_attached
    assert not w.txn.get(VIF, unplugged).currently_attached
    assert [p.device for p in w.derive().ports] == ["vif2.0"]


def test_a_vm_that_is_to_end_at_reboot_is_halted() -> None:
    w = World.new()
    vm, _ = started(w)
    w.txn.update(VM, vm, actions_after_reboot=OnNormalExit.DESTROY)
    w.call("VM.clean_reboot", vm=vm)
    assert w.txn.get(VM, vm).power_state is VmPowerState.HALTED


def test_a_guest_that_ended_halts_its_vm_unless_it_was_started_again() -> None:
    w = World.new()
    vm, _ = started(w)
    guest_ended(w.ctx, vm=vm, domid=99)
    assert w.txn.get(VM, vm).power_state is VmPowerState.RUNNING
    guest_ended(w.ctx, vm=vm, domid=w.txn.get(VM, vm).domid)
    assert w.txn.get(VM, vm).power_state is VmPowerState.HALTED
    assert w.new_actions() == [("after", "DestroyGuest")]
    guest_ended(w.ctx, vm=Ref("OpaqueRef:gone"), domid=1)


def test_a_clone_has_its_own_macs() -> None:
    w = World.new()
    vm = w.vm(name_label="one")
    original = w.vif(vm, w.network(), MAC="00:16:3e:00:00:01", device="4")
    copy = w.call("VM.clone", vm=vm, new_name="two")
    row = w.txn.get(VM, copy)
    assert row.name_label == "two"
    assert row.other_config["mac_seed"] != w.txn.get(VM, vm).other_config["mac_seed"]
    (vif,) = w.txn.where(VIF, VM=copy)
    assert vif.device == "4"
    assert vif.MAC_autogenerated
    assert vif.MAC != w.txn.get(VIF, original).MAC
    assert len({vif.uuid, w.txn.get(VIF, original).uuid, row.uuid}) == 3
    assert vif.metrics != w.txn.get(VIF, original).metrics
    w.start(vm)
    with refused("VM_BAD_POWER_STATE", vm, "halted", "running"):
        w.call("VM.clone", vm=vm, new_name="three")


def test_free_devices_are_compared_as_text() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.network(), device="0")
    w.vif(vm, w.network(), device="01")
    free = w.call("VM.get_allowed_VIF_devices", vm=vm)
    assert free == tuple(str(n) for n in range(1, 16))


def test_settings_are_checked() -> None:
    w = World.new()
    vm = w.vm(VCPUs_max=4)
    cases: tuple[tuple[str, Any, str, str], ...] = (
        ("set_VCPUs_max", 0, "VCPUs_max", "0"),
        ("set_VCPUs_at_startup", 5, "VCPUs_at_startup", "5"),
        ("set_HVM_shadow_multiplier", 0.5, "HVM_shadow_multiplier", "0.5"),
        ("set_ha_restart_priority", "never", "ha_restart_priority", "never"),
        ("set_order", -1, "order", "-1"),
        ("set_start_delay", -1, "start_delay", "-1"),
        ("set_shutdown_delay", -2, "shutdown_delay", "-2"),
    )
    for method, value, field, text in cases:
        with refused("INVALID_VALUE", field, text):
            w.call(f"VM.{method}", self=vm, value=value)
    w.call("VM.set_VCPUs_at_startup", self=vm, value=4)
    with refused("INVALID_VALUE", "VCPUs_max", "3"):
        w.call("VM.set_VCPUs_max", self=vm, value=3)


@pytest.mark.parametrize("field", ["other_config", "platform", "NVRAM"])
def test_maps_refuse_a_key_twice(field: str) -> None:
    w = World.new()
    vm = w.vm()
    w.call(f"VM.add_to_{field}", self=vm, key="k", value="v")
    with refused("MAP_DUPLICATE_KEY", "VM", field, vm, "k"):
        w.call(f"VM.add_to_{field}", self=vm, key="k", value="w")
    w.call(f"VM.remove_from_{field}", self=vm, key="k")
    w.call(f"VM.remove_from_{field}", self=vm, key="k")
    w.call(f"VM.set_{field}", self=vm, value={"a": "b"})
    assert getattr(w.txn.get(VM, vm), field) == {"a": "b"}


def test_an_agile_vm_needs_its_networks_everywhere() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.nic_network("eth1"))
    w.call("VM.assert_agile", self=vm)
    w.host(nics=1)
    with refused("HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED", w.nic_network("eth1")):
        w.call("VM.assert_agile", self=vm)


def test_the_control_domain_stays() -> None:
    w = World.new()
    domain = next(vm.ref for vm in w.txn.all(VM) if vm.is_control_domain)
    w.txn.update(VM, domain, power_state=VmPowerState.HALTED)
    with refused("OPERATION_NOT_ALLOWED", "Operations on domain 0 are not allowed"):
        w.call("VM.destroy", self=domain)
    default = w.vm(is_a_template=True)
    w.call("VM.set_is_default_template", vm=default, value=True)
    with refused("VM_CANNOT_DELETE_DEFAULT_TEMPLATE", default):
        w.call("VM.destroy", self=default)


def test_a_provisioned_template_is_a_vm() -> None:
    w = World.new()
    vm = w.vm(is_a_template=True)
    w.call("VM.provision", vm=vm)
    w.start(vm)
    with refused("VM_BAD_POWER_STATE", vm, "halted", "running"):
        w.call("VM.set_is_a_template", self=vm, value=True)


def test_the_pifs_of_other_hosts_stay_untouched() -> None:
    w = World.new()
    other = w.host()
    vm = w.vm()
    w.vif(vm, w.nic_network("eth1"))
    w.call("VM.start_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    assert not any(p.currently_attached for p in w.txn.where(PIF, host=other))
