from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vif_metrics import VIFMetrics
from poolnet.model.enums import NetworkDefaultLockingMode, NetworkPurpose
from poolnet.model.types import NULL, Ref
from poolnet.rules.context import Session
from tests.unit.rules.world import LOCAL, NETWORK_RECORD, World, refused


def test_generated_bridges_count_on_from_the_internal_management_network() -> None:
    w = World.new()
    bridges = [w.txn.get(Network, w.network()).bridge for _ in range(3)]
    assert bridges == ["xapi1", "xapi2", "xapi3"]


def test_a_generated_bridge_skips_names_in_use() -> None:
    w = World.new()
    w.call(
        "network.pool_introduce",
        name_label="",
        name_description="",
        MTU=-7,
        other_config={},
        bridge="xapi1",
        managed=True,
        purpose=(),
    )
    assert w.txn.get(Network, w.network()).bridge == "xapi2"


@pytest.mark.parametrize("bridge", ["xenbr9", "ethX", "tap0", "xapi99", "vif1", "xen", "a234567890123456"])
def test_clients_cannot_take_reserved_or_long_bridge_names(bridge: str) -> None:
    w = World.new()
    with refused("INVALID_VALUE", "bridge", bridge):
        w.network(bridge=bridge)


@pytest.mark.parametrize("bridge", ["br-lan", "mgmt", "br0", "a23456789012345"])
def test_other_bridge_names_can_be_taken_once(bridge: str) -> None:
    w = World.new()
    w.network(bridge=bridge)
    with refused("BRIDGE_NAME_EXISTS", bridge):
        w.network(bridge=bridge)


def test_the_pool_itself_may_take_reserved_names_but_not_twice() -> None:
    w = World.new()
    w.as_session(Session(is_pool_session=True))
    w.network(bridge="xenbr77")
    with refused("BRIDGE_NAME_EXISTS", "xenbr77"):
        w.network(bridge="xenbr77")


def test_a_reserved_name_in_use_is_refused_as_reserved() -> None:
    w = World.new()
    with refused("INVALID_VALUE", "bridge", "xenbr0"):
        w.network(bridge="xenbr0")


@pytest.mark.parametrize(("given", "stored"), [(0, 1500), (-5, 1500), (100, 100), (99999, 99999)])
def test_mtus_below_one_become_1500(given: int, stored: int) -> None:
    w = World.new()
    assert stored == w.txn.get(Network, w.network(MTU=given)).MTU


def test_destroy_names_all_active_vifs_before_pifs() -> None:
    w = World.new()
    network = w.nic_network("eth1")
    vms = [w.vm(), w.vm()]
    vifs = [w.vif(vm, network) for vm in vms]
    for vm in vms:
        w.start(vm)
    with refused("NETWORK_CONTAINS_VIF", *vifs):
        w.call("network.destroy", self=network)


def test_destroy_refuses_a_network_with_pifs_and_the_systems_own() -> None:
    w = World.new()
    pif = w.nic_pif("eth1")
    with refused("NETWORK_CONTAINS_PIF", pif.ref):
        w.call("network.destroy", self=pif.network)
    himn = next(n for n in w.txn.all(Network) if n.bridge == "xenapi")
    with refused("CANNOT_DESTROY_SYSTEM_NETWORK", himn.ref):
        w.call("network.destroy", self=himn.ref)


def test_destroy_takes_reserved_vifs_for_active() -> None:
    w = World.new()
    network = w.network()
    vif = w.vif(w.vm(), network)
    w.txn.update(VIF, vif, reserved=True)
    with refused("NETWORK_CONTAINS_VIF", vif):
        w.call("network.destroy", self=network)


def test_destroy_removes_idle_vifs_and_leaves_their_metrics() -> None:
    w = World.new()
    network = w.network()
    vif = w.vif(w.vm(), network)
    metrics = w.txn.get(VIF, vif).metrics
    w.call("network.destroy", self=network)
    assert not w.txn.exists(VIF, vif)
    assert not w.txn.exists(Network, network)
    assert w.txn.exists(VIFMetrics, metrics)


def test_the_default_mode_cannot_change_under_an_attached_vif() -> None:
    w = World.new()
    network = w.network()
    vm = w.vm()
    vif = w.vif(vm, network)
    disabled = NetworkDefaultLockingMode.DISABLED
    w.call("network.set_default_locking_mode", network=network, value=disabled)
    assert w.txn.get(Network, network).default_locking_mode is disabled
    w.start(vm)
    with refused("VIF_IN_USE", network, vif):
        w.call("network.set_default_locking_mode", network=network, value=disabled)


def test_purposes_exclude_each_other_across_the_pool() -> None:
    w = World.new()
    one, other = w.network(), w.network()
    w.call("network.add_purpose", self=one, value=NetworkPurpose.INSECURE_NBD)
    w.call("network.add_purpose", self=one, value=NetworkPurpose.INSECURE_NBD)
    with refused("NETWORK_INCOMPATIBLE_PURPOSES", "nbd", "insecure_nbd"):
        w.call("network.add_purpose", self=other, value=NetworkPurpose.NBD)
    w.call("network.remove_purpose", self=one, value=NetworkPurpose.INSECURE_NBD)
    w.call("network.remove_purpose", self=one, value=NetworkPurpose.INSECURE_NBD)
    w.call("network.add_purpose", self=other, value=NetworkPurpose.NBD)
    assert w.txn.get(Network, other).purpose == (NetworkPurpose.NBD,)


def test_an_unmanaged_network_has_no_purpose_and_no_bridge() -> None:
    w = World.new()
    network = w.network(managed=False)
    with refused("NETWORK_UNMANAGED", network):
        w.call("network.add_purpose", self=network, value=NetworkPurpose.NBD)
    with refused("BRIDGE_NOT_AVAILABLE", w.txn.get(Network, network).bridge):
        w.call("network.attach", network=network, host=LOCAL)


def test_attaching_a_network_brings_its_pif_up() -> None:
    w = World.new()
    pif = w.nic_pif("eth1")
    w.call("PIF.unplug", self=pif.ref)
    w.call("network.attach", network=pif.network, host=LOCAL)
    assert w.txn.get(PIF, pif.ref).currently_attached


def test_attaching_the_network_of_a_bonds_member_is_refused() -> None:
    w = World.new()
    members = tuple(w.nic_pif(device).ref for device in ("eth1", "eth2"))
    network = w.nic_network("eth1")
    w.call("Bond.create", network=w.network(), members=members, MAC="")
    with refused("CANNOT_PLUG_BOND_SLAVE", members[0]):
        w.call("network.attach", network=network, host=LOCAL)


def test_attaching_for_a_vm_checks_vm_and_host() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.nic_network("eth1"))
    w.call("PIF.unplug", self=w.nic_pif("eth1").ref)
    w.call("network.attach_for_vm", host=LOCAL, vm=vm)
    assert w.nic_pif("eth1").currently_attached
    w.call("network.detach_for_vm", host=LOCAL, vm=vm)
    with refused("HANDLE_INVALID", "VM", NULL):
        w.call("network.attach_for_vm", host=LOCAL, vm=NULL)
    offline = w.host(live=False)
    with refused("HOST_OFFLINE", offline):
        w.call("network.attach", network=w.network(), host=offline)


def test_a_refused_call_leaves_the_transaction_as_it_was() -> None:
    w = World.new()
    inner = replace(w, ctx=w.ctx.on(w.txn.nested()))
    with refused("BRIDGE_NAME_EXISTS", "br0"):
        for _ in range(2):
            inner.call("network.create", record={**NETWORK_RECORD, "bridge": "br0"})
    assert len(inner.txn.changes().created) == 1


def test_a_dangling_network_is_a_bad_handle() -> None:
    w = World.new()
    missing: Ref[Network] = Ref("OpaqueRef:none")
    for method in ("network.destroy", "network.remove_purpose"):
        extra = {"value": NetworkPurpose.NBD} if "purpose" in method else {}
        with refused("HANDLE_INVALID", "network", missing):
            w.call(method, self=missing, **extra)
