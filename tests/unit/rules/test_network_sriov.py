"""SR-IOV networks: what each refusal says and in which order, how functions come and go, and who has which."""

from __future__ import annotations

import pytest

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import SriovFacts
from poolnet.hostnet.state import FunctionsMode, SriovNic, VirtualFunction
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import BondMode, SriovConfigurationMode, VifLockingMode, VmPowerState
from poolnet.model.types import NULL
from poolnet.rules import startup
from poolnet.rules.functions import can_be_up_without_reboot, take
from tests.unit.rules.sriov_nics import boot, capable, create, follow, functions, hvm, network_of, report
from tests.unit.rules.world import LOCAL, World, refused


def test_create_refuses_in_the_order_of_the_reference() -> None:
    w = World.new()
    capable(w, "eth1", "eth2")
    pif, network = w.nic_pif("eth1").ref, w.network(managed=False)
    w.txn.update(PIF, pif, managed=False, physical=True)
    vlan = w.txn.get(VLAN, w.vlan(w.nic_pif("eth2").ref, 7)).untagged_PIF
    w.restrict("restrict_network_sriov")
    with refused("LICENCE_RESTRICTION", "Network_sriov"):
        w.call("network_sriov.create", pif=pif, network=network)
    w.pool(restrictions={**startup.RESTRICTIONS})
    with refused("NETWORK_UNMANAGED", network):
        w.call("network_sriov.create", pif=pif, network=network)
    network = w.nic_network("eth2")
    with refused("PIF_UNMANAGED", pif):
        w.call("network_sriov.create", pif=pif, network=network)
    w.txn.update(PIF, pif, managed=True)
    with refused("PIF_IS_NOT_PHYSICAL", vlan):
        w.call("network_sriov.create", pif=vlan, network=network)
    create(w, "eth1")
    report(w, "eth1", None)
    with refused("NETWORK_SRIOV_ALREADY_ENABLED", pif):
        w.call("network_sriov.create", pif=pif, network=network)
    report(w, "eth2", None)
    other = w.nic_pif("eth2").ref
    with refused("PIF_IS_NOT_SRIOV_CAPABLE", other):
        w.call("network_sriov.create", pif=other, network=network)
    capable(w, "eth2")
    with refused("NETWORK_ALREADY_CONNECTED", LOCAL, other):
        w.call("network_sriov.create", pif=other, network=network)


def test_a_network_of_other_pifs_takes_no_virtual_functions() -> None:
    w = World.new()
    capable(w, "eth1")
    there = w.host()
    network = w.network()
    w.txn.update(PIF, w.pif_of(there, w.nic_network("eth0")).ref, network=network)
    with refused("NETWORK_INCOMPATIBLE_WITH_SRIOV", network):
        w.call("network_sriov.create", pif=w.nic_pif("eth1").ref, network=network)


def test_nics_of_one_network_are_of_one_kind() -> None:
    w = World.new()
    capable(w, "eth1")
    there = w.host()
    capable(w, "eth1", host=there, device_id="10fb")
    network = network_of(w, create(w, "eth1"))
    pif = next(p for p in w.txn.where(PIF, host=there) if p.device == "eth1")
    with refused("NETWORK_HAS_INCOMPATIBLE_SRIOV_PIFS", pif.ref, network):
        w.call("network_sriov.create", pif=pif.ref, network=network)
    capable(w, "eth1", host=there)
    w.call("network_sriov.create", pif=pif.ref, network=network)


def test_a_member_of_a_bond_may_have_virtual_functions() -> None:
    w = World.new()
    capable(w, "eth1", "eth2")
    members = (w.nic_pif("eth1").ref, w.nic_pif("eth2").ref)
    w.call(
        "Bond.create", network=w.network(), members=members, MAC="", mode=BondMode.BALANCE_SLB, properties={}
    )
    sriov = create(w, "eth1")
    assert w.txn.get(PIF, sriov.logical_PIF).currently_attached
    assert [nic.device for nic in w.derive().sriov] == ["eth1"]


def test_the_logical_pif_and_the_fields_of_both() -> None:
    w = World.new()
    capable(w, "eth1")
    network = w.network()
    sriov = create(w, "eth1", network)
    logical, physical = w.txn.get(PIF, sriov.logical_PIF), w.nic_pif("eth1")
    assert (logical.device, logical.MAC, logical.VLAN, logical.network) == (
        "eth1",
        "fe:ff:ff:ff:ff:ff",
        -1,
        network,
    )
    assert (logical.physical, logical.managed, logical.currently_attached) == (False, True, True)
    assert (logical.metrics, logical.capabilities, logical.PCI) == (physical.metrics, (), NULL)
    assert logical.sriov_logical_PIF_of == physical.sriov_physical_PIF_of == (sriov.ref,)
    assert physical.capabilities == ("sriov",)
    assert physical.currently_attached
    assert sriov.configuration_mode is SriovConfigurationMode.SYSFS
    assert not sriov.requires_reboot
    assert w.derive().sriov == (SriovNic(device="eth1", mode=FunctionsMode.SYSFS),)


def test_functions_become_pci_devices_of_their_nic_and_go_again() -> None:
    w = World.new()
    capable(w, "eth1")
    sriov = create(w, "eth1")
    nic = w.txn.get(PCI, w.nic_pif("eth1").PCI)
    assert nic.pci_id == "0000:00:01.0"
    found = sorted(w.txn.get(PCI, ref).pci_id for ref in nic.virtual_functions)
    assert found == [one.pci_bus_path for one in functions("eth1", 4)]
    assert w.call("network_sriov.get_remaining_capacity", self=sriov.ref) == 4
    w.call("network_sriov.destroy", self=sriov.ref)
    follow(w)
    assert not w.txn.get(PCI, nic.ref).virtual_functions
    assert w.derive().sriov == ()
    assert not w.txn.exists(PIF, sriov.logical_PIF)
    assert not w.txn.exists(NetworkSriov, sriov.ref)


def test_an_option_of_a_driver_waits_for_the_next_boot_and_says_so_until_then() -> None:
    w = World.new()
    capable(w, "eth1", most=7, by_module=True)
    sriov = create(w, "eth1")
    assert sriov.configuration_mode is SriovConfigurationMode.MODPROBE
    assert sriov.requires_reboot
    assert not w.txn.get(PIF, sriov.logical_PIF).currently_attached
    assert w.derive().sriov == (SriovNic(device="eth1", mode=FunctionsMode.MODPROBE),)
    startup.resync(w.ctx, w.ctx.facts_of(LOCAL))  # the server was started anew, the host was not
    assert w.txn.get(NetworkSriov, sriov.ref).requires_reboot
    boot(w)
    startup.resync(w.ctx, w.ctx.facts_of(LOCAL))
    assert not w.txn.get(NetworkSriov, sriov.ref).requires_reboot
    assert w.txn.get(PIF, sriov.logical_PIF).currently_attached
    assert w.call("network_sriov.get_remaining_capacity", self=sriov.ref) == 7


def test_a_driver_that_did_not_obey_at_the_boot_still_requires_one() -> None:
    w = World.new()
    capable(w, "eth1", most=7, by_module=True)
    sriov = create(w, "eth1")
    report(w, "eth1", SriovFacts(functions_max=7, functions_now=2, by_module=True))
    startup.resync(w.ctx, w.ctx.facts_of(LOCAL))
    assert w.txn.get(NetworkSriov, sriov.ref).requires_reboot


def test_functions_that_the_driver_has_already_need_no_boot() -> None:
    w = World.new()
    capable(w, "eth1", most=7, by_module=True, functions_now=7)
    sriov = create(w, "eth1")
    assert sriov.configuration_mode is SriovConfigurationMode.MODPROBE
    assert not sriov.requires_reboot
    assert w.txn.get(PIF, sriov.logical_PIF).currently_attached


def test_functions_that_somebody_made_are_used_and_left() -> None:
    w = World.new()
    capable(w, "eth1", most=7, functions_now=3)
    sriov = create(w, "eth1")
    assert sriov.configuration_mode is SriovConfigurationMode.MANUAL
    assert w.call("network_sriov.get_remaining_capacity", self=sriov.ref) == 3
    w.call("PIF.plug", self=sriov.logical_PIF)
    assert w.txn.get(NetworkSriov, sriov.ref).configuration_mode is SriovConfigurationMode.MANUAL


@pytest.mark.parametrize(
    ("sriov", "message"),
    [
        (None, "eth1 has no virtual functions"),
        (SriovFacts(functions_max=0), "eth1 has no virtual functions"),
        (
            SriovFacts(functions_max=7, damage="igb.conf: no VFs-maxvfs-by-default"),
            "igb.conf: no VFs-maxvfs-by-default",
        ),
    ],
)
def test_what_cannot_be_switched_on_is_refused_and_leaves_nothing(
    sriov: SriovFacts | None, message: str
) -> None:
    w = World.new()
    capable(w, "eth1")
    logical = create(w, "eth1").logical_PIF
    w.call("PIF.unplug", self=logical)
    report(w, "eth1", sriov)
    with refused("NETWORK_SRIOV_ENABLE_FAILED", logical, message):
        w.call("PIF.plug", self=logical)
    assert w.derive().sriov == ()


def test_a_nic_that_failed_at_the_boot_does_not_keep_the_others_down() -> None:
    w = World.new()
    capable(w, "eth1", "eth2")
    bad, good = create(w, "eth1"), create(w, "eth2")
    report(w, "eth1", SriovFacts(functions_max=4, failed="eth1: Input/output error"))
    startup.resync(w.ctx, w.ctx.facts_of(LOCAL))
    assert not w.txn.get(PIF, bad.logical_PIF).currently_attached
    assert [nic.device for nic in w.derive().sriov] == ["eth2"]
    w.call("PIF.plug", self=bad.logical_PIF)  # an administrator may try again
    assert [nic.device for nic in w.derive().sriov] == ["eth1", "eth2"]
    assert w.txn.get(PIF, good.logical_PIF).currently_attached


def test_destroy_refuses_vlans_and_vms_that_use_it() -> None:
    w = World.new()
    capable(w, "eth1")
    sriov = create(w, "eth1")
    network = network_of(w, sriov)
    vlan = w.vlan(sriov.logical_PIF, 7)
    with refused("PIF_VLAN_STILL_EXISTS", sriov.logical_PIF):
        w.call("network_sriov.destroy", self=sriov.ref)
    w.call("VLAN.destroy", self=vlan)
    vm = hvm(w, network)
    w.start(vm)
    vif = w.txn.where(VIF, VM=vm)[0]
    with refused("VIF_IN_USE", network, vif.ref):
        w.call("network_sriov.destroy", self=sriov.ref)
    w.call("VM.hard_shutdown", vm=vm)
    w.call("network_sriov.destroy", self=sriov.ref)


def test_unplugging_the_nic_ends_its_functions_and_plugging_the_functions_plugs_the_nic() -> None:
    w = World.new()
    capable(w, "eth1")
    sriov = create(w, "eth1")
    w.call("PIF.unplug", self=w.nic_pif("eth1").ref)
    assert not w.txn.get(PIF, sriov.logical_PIF).currently_attached
    assert w.txn.get(NetworkSriov, sriov.ref).configuration_mode is SriovConfigurationMode.SYSFS
    follow(w)
    w.call("PIF.plug", self=sriov.logical_PIF)
    assert w.nic_pif("eth1").currently_attached


def test_a_vm_gets_the_free_function_with_the_lowest_address_and_gives_it_back() -> None:
    w = World.new()
    capable(w, "eth1")
    sriov = create(w, "eth1")
    network = network_of(w, sriov)
    first, second = hvm(w, network), hvm(w, network)
    w.start(first)
    w.start(second)
    addresses = [one.pci_bus_path for one in functions("eth1", 4)]
    assert [_address(w, vm) for vm in (first, second)] == addresses[:2]
    assert w.txn.get(VM, first).attached_PCIs == (w.txn.where(VIF, VM=first)[0].reserved_pci,)
    assert w.call("network_sriov.get_remaining_capacity", self=sriov.ref) == 2
    w.call("VM.hard_shutdown", vm=first)
    assert w.txn.get(VM, first).attached_PCIs == ()
    third = hvm(w, network)
    w.start(third)
    assert _address(w, third) == addresses[0]


def test_what_the_nic_is_told_of_a_function_before_the_guest_has_it() -> None:
    w = World.new()
    capable(w, "eth1")
    sriov = create(w, "eth1")
    vlan = w.txn.get(VLAN, w.vlan(sriov.logical_PIF, 7))
    network = w.txn.get(PIF, vlan.untagged_PIF).network
    vm = hvm(w, network)
    vif = w.txn.where(VIF, VM=vm)[0]
    w.txn.update(VIF, vif.ref, qos_algorithm_type="ratelimit", qos_algorithm_params={"kbps": "12500"})
    w.start(vm)
    (created,) = (a for _, _, a in w.ctx.guest_actions if isinstance(a, protocol.CreateGuest))
    assert created.guest.nics == (
        protocol.GuestNic(
            device=0,
            mac=vif.MAC,
            mtu_bytes=w.txn.get(VIF, vif.ref).MTU,
            function=functions("eth1", 1)[0].pci_bus_path,
            vlan_tag=7,
        ),
    )
    (nic,) = w.derive().sriov
    assert nic.functions == (
        VirtualFunction(
            address=functions("eth1", 1)[0].pci_bus_path,
            mac=vif.MAC,
            vlan_tag=7,
            rate_mbits_per_s=103,  # 12,500 × 8,192 bits per second are 102.4 Mbit/s
            vif_uuid=vif.uuid,
        ),
    )
    assert w.derive().ports == ()
    (create_guest, _) = [action for _, _, action in w.ctx.guest_actions]
    assert create_guest.guest.nics[0].function == nic.functions[0].address  # type: ignore[union-attr]


def test_a_disabled_vif_has_no_link() -> None:
    w = World.new()
    capable(w, "eth1")
    network = network_of(w, create(w, "eth1"))
    vm = hvm(w, network)
    w.start(vm)
    w.call("VIF.set_locking_mode", self=w.txn.where(VIF, VM=vm)[0].ref, value=VifLockingMode.DISABLED)
    assert [function.connected for function in w.derive().sriov[0].functions] == [False]


def test_a_vm_that_is_ended_at_once_is_gone_before_its_function_is_reset() -> None:
    w = World.new()
    capable(w, "eth1")
    vm = hvm(w, network_of(w, create(w, "eth1")))
    w.start(vm)
    w.new_actions()
    w.call("VM.hard_shutdown", vm=vm)
    assert w.new_actions()[0] == ("before", "DestroyGuest")


def test_a_reboot_keeps_the_function() -> None:
    w = World.new()
    capable(w, "eth1")
    vm = hvm(w, network_of(w, create(w, "eth1")))
    w.start(vm)
    before = w.derive().sriov
    w.call("VM.hard_reboot", vm=vm)
    assert w.derive().sriov == before


def test_too_few_free_functions_say_so() -> None:
    w = World.new()
    capable(w, "eth1", most=1)
    network = network_of(w, create(w, "eth1"))
    vm = hvm(w, network, network)
    with refused("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", network):
        w.call("VM.assert_can_boot_here", self=vm, host=LOCAL)
    with refused("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", network):
        w.start(vm)
    assert w.call("VM.get_possible_hosts", vm=vm) == ()


def test_vlans_on_one_nic_share_its_functions() -> None:
    w = World.new()
    capable(w, "eth1", most=1)
    sriov = create(w, "eth1")
    tagged = w.txn.get(PIF, w.txn.get(VLAN, w.vlan(sriov.logical_PIF, 7)).untagged_PIF).network
    vm = hvm(w, network_of(w, sriov), tagged)
    with refused("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", tagged):
        w.start(vm)


def test_a_network_that_waits_for_a_boot_has_no_capacity() -> None:
    w = World.new()
    capable(w, "eth1", most=7, by_module=True)
    network = network_of(w, create(w, "eth1"))
    with refused("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", network):
        w.start(hvm(w, network))


def test_a_vm_starts_where_most_functions_are_free() -> None:
    w = World.new()
    capable(w, "eth1", most=2)
    network = network_of(w, create(w, "eth1"))
    there = w.host()
    capable(w, "eth1", most=3, host=there)
    pif = next(p for p in w.txn.where(PIF, host=there) if p.device == "eth1")
    w.call("network_sriov.create", pif=pif.ref, network=network)
    follow(w, there)
    vm = hvm(w, network)
    w.start(vm)
    assert w.txn.get(VM, vm).resident_on == there


def test_a_locked_vif_cannot_be_a_virtual_function() -> None:
    w = World.new()
    capable(w, "eth1")
    network, plain = network_of(w, create(w, "eth1")), w.network()
    text = "A VIF on an SR-IOV network cannot be locked"
    vm = hvm(w, network)
    vif = w.txn.where(VIF, VM=vm)[0].ref
    with refused("OPERATION_NOT_ALLOWED", text):
        w.call("VIF.set_locking_mode", self=vif, value=VifLockingMode.LOCKED)
    with refused("OPERATION_NOT_ALLOWED", text):
        w.vif(vm, network, device="5", MAC="02:00:00:00:00:05", locking_mode=VifLockingMode.LOCKED)
    locked = w.vif(vm, plain, device="6", MAC="02:00:00:00:00:06", locking_mode=VifLockingMode.LOCKED)
    with refused("OPERATION_NOT_ALLOWED", text):
        w.call("VIF.move", self=locked, network=network)
    w.txn.update(VIF, vif, locking_mode=VifLockingMode.LOCKED)
    with refused("OPERATION_NOT_ALLOWED", text):
        w.start(vm)
    assert w.txn.get(VM, vm).power_state is VmPowerState.HALTED


def test_a_virtual_function_cannot_be_a_trunk() -> None:
    w = World.new()
    capable(w, "eth1")
    text = "A VIF on an SR-IOV network cannot have trunks"
    early, empty = w.network(), w.network()
    vm = hvm(w, early)
    trunk = w.txn.where(VIF, VM=vm)[0].ref
    w.call("VIF.set_trunks", self=trunk, value=(7, 8))
    create(w, "eth1", early)  # it was an internal network until now
    with refused("OPERATION_NOT_ALLOWED", text):
        w.start(vm)
    with refused("OPERATION_NOT_ALLOWED", text):
        w.call("VIF.add_trunks", self=trunk, value=9)
    with refused("OPERATION_NOT_ALLOWED", text):
        w.call("VIF.set_trunks", self=trunk, value=(7,))
    with refused("OPERATION_NOT_ALLOWED", text):
        w.vif(vm, early, device="4", MAC="02:00:00:00:00:06", trunks=(7,))
    other = w.vif(vm, empty, device="5", MAC="02:00:00:00:00:07", trunks=(7,))
    with refused("OPERATION_NOT_ALLOWED", text):
        w.call("VIF.move", self=other, network=early)
    w.call("VIF.destroy", self=other)
    w.call("VIF.set_trunks", self=trunk, value=())
    w.start(vm)


def test_an_attached_function_cannot_be_moved() -> None:
    w = World.new()
    capable(w, "eth1")
    network, plain = network_of(w, create(w, "eth1")), w.network()
    vm = hvm(w, network, plain)
    w.start(vm)
    one, other = w.txn.where(VIF, VM=vm)
    for vif, target in ((one, plain), (other, network)):
        with refused("INTERNAL_ERROR", f"vif_move: Unable to move a network SR-IOV backed VIF {vif.ref}"):
            w.call("VIF.move", self=vif.ref, network=target)


def test_high_availability_needs_functions_without_a_boot() -> None:
    w = World.new()
    capable(w, "eth1", by_module=True)
    network = network_of(w, create(w, "eth1"))
    w.pool(ha_enabled=True, ha_allow_overcommit=False)
    vm = w.vm(ha_always_run=True, ha_restart_priority="restart")
    w.txn.update(VM, vm, ha_always_run=True, ha_restart_priority="restart")
    with refused("HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED", network):
        w.vif(vm, network, MAC="02:00:00:00:00:05")
    boot(w)
    w.call("PIF.plug", self=next(iter(w.txn.all(NetworkSriov))).logical_PIF)
    w.vif(vm, network, MAC="02:00:00:00:00:05")


@pytest.mark.parametrize(
    ("mode", "attached", "free", "can"),
    [
        (SriovConfigurationMode.SYSFS, False, False, True),
        (SriovConfigurationMode.UNKNOWN, True, True, False),
        (SriovConfigurationMode.MODPROBE, True, False, True),
        (SriovConfigurationMode.MODPROBE, False, True, True),
        (SriovConfigurationMode.MODPROBE, False, False, False),
        (SriovConfigurationMode.MANUAL, True, False, True),
        (SriovConfigurationMode.MANUAL, False, True, True),
        (SriovConfigurationMode.MANUAL, False, False, False),
    ],
)
def test_which_networks_can_be_up_without_a_boot(
    mode: SriovConfigurationMode, attached: bool, free: bool, can: bool
) -> None:
    w = World.new()
    capable(w, "eth1")
    sriov = create(w, "eth1")
    w.txn.update(NetworkSriov, sriov.ref, configuration_mode=mode)
    w.txn.update(PIF, sriov.logical_PIF, currently_attached=attached)
    if not free:
        report(w, "eth1", SriovFacts(functions_max=4))
    assert can_be_up_without_reboot(w.txn, w.txn.get(PIF, sriov.logical_PIF)) is can


def test_a_vif_that_finds_no_free_function_gets_none() -> None:
    w = World.new()
    capable(w, "eth1", most=1)
    network = network_of(w, create(w, "eth1"))
    first, second = hvm(w, network), hvm(w, network)
    w.start(first)
    with refused("INTERNAL_ERROR", "No free virtual function found"):
        take(w.txn, second, w.txn.where(VIF, VM=second)[0], LOCAL)


def _address(w: World, vm: str) -> str:
    return w.txn.get(PCI, w.txn.where(VIF, VM=vm)[0].reserved_pci).pci_id
