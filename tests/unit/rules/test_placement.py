"""Which hosts can run a VM, what keeps it from the others, and that the command told for each cell changes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import BondMode, VifLockingMode
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref
from tests.unit.rules.sriov_nics import capable, create, follow, hvm, network_of
from tests.unit.rules.world import LOCAL, World, refused


def cell(w: World, vm: Ref[VM], host: Ref[Host]) -> dict[str, Any]:
    """What is told of one VM on one host; what it says is possible is so, and its first error is what is answered."""
    answer = json.loads(w.call("VM.explain_placement", vms=(vm,)))
    uuid = w.txn.get(Host, host).uuid
    told: dict[str, Any]
    (told,) = [one for one in answer["vms"][0]["hosts"] if one["host"] == uuid]
    assert told["possible"] == (host in w.call("VM.get_possible_hosts", vm=vm))
    if told["obstacles"]:
        first = told["obstacles"][0]["error"]
        with refused(first[0], *first[1:]):
            w.call("VM.assert_can_boot_here", self=vm, host=host)
    else:
        w.call("VM.assert_can_boot_here", self=vm, host=host)
    return told


def code_and_fix(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["error"][0], one["fix"]) for one in told["obstacles"]]


def pif_there(w: World, host: Ref[Host], device: str) -> PIF:
    return next(p for p in w.txn.where(PIF, host=host) if p.physical and p.device == device)


def test_a_vm_without_vifs_runs_anywhere() -> None:
    w = World.new()
    there = w.host()
    assert w.call("VM.get_possible_hosts", vm=w.vm()) == (LOCAL, there)


def test_hosts_that_are_down_or_disabled_run_nothing() -> None:
    w = World.new()
    down, off = w.host(live=False), w.host(enabled=False)
    vm = w.vm()
    assert code_and_fix(cell(w, vm, down)) == [("HOST_NOT_LIVE", "")]
    uuid = w.txn.get(Host, off).uuid
    assert code_and_fix(cell(w, vm, off)) == [("HOST_DISABLED", f"xe host-enable uuid={uuid}")]
    w.call("host.enable", host=off)
    assert cell(w, vm, off)["possible"]


def test_a_vlan_that_a_host_lacks() -> None:
    w = World.new()
    there = w.host(nics=3)
    network = w.txn.get(PIF, w.txn.get(VLAN, w.vlan(w.nic_pif("eth1").ref, 20)).untagged_PIF).network
    vm = w.vm()
    w.vif(vm, network)
    assert cell(w, vm, LOCAL)["possible"]
    tagged = pif_there(w, there, "eth1")
    fix = f"xe vlan-create network-uuid={w.txn.get(Network, network).uuid} pif-uuid={tagged.uuid} vlan=20"
    assert code_and_fix(cell(w, vm, there)) == [("VM_REQUIRES_NETWORK", fix)]
    w.vlan(tagged.ref, 20, network)
    assert cell(w, vm, there)["possible"]


def test_a_nic_that_a_host_lacks() -> None:
    w = World.new()
    there = w.host(nics=2)
    vm = w.vm()
    w.vif(vm, w.nic_network("eth2"))
    ((code, fix),) = code_and_fix(cell(w, vm, there))
    assert (code, fix) == ("VM_REQUIRES_NETWORK", f"xe pif-scan host-uuid={w.txn.get(Host, there).uuid}")


def bonded(w: World, *pifs: PIF, network: Ref[Network] | None = None) -> Ref[Network]:
    on = network or w.network()
    w.call(
        "Bond.create",
        network=on,
        members=tuple(pif.ref for pif in pifs),
        MAC="",
        mode=BondMode.ACTIVE_BACKUP,
        properties={},
    )
    return on


def test_a_bond_that_a_host_lacks_and_a_network_of_a_member() -> None:
    w = World.new()
    there = w.host(nics=3)
    inner = w.nic_network("eth1")
    network = bonded(w, w.nic_pif("eth1"), w.nic_pif("eth2"))
    vm, other = w.vm(), w.vm()
    w.vif(vm, network)
    vif = w.vif(other, inner)
    own = [pif_there(w, there, device) for device in ("eth1", "eth2")]
    network_uuid = w.txn.get(Network, network).uuid
    words = (
        f"xe bond-create network-uuid={network_uuid} pif-uuids={own[0].uuid},{own[1].uuid} mode=active-backup"
    )
    assert code_and_fix(cell(w, vm, there)) == [("VM_REQUIRES_NETWORK", words)]
    fix = f"xe vif-move uuid={w.txn.get(VIF, vif).uuid} network-uuid={network_uuid}"
    assert code_and_fix(cell(w, other, LOCAL)) == [("HOST_CANNOT_ATTACH_NETWORK", fix)]
    assert cell(w, other, there)["possible"]
    bonded(w, *own, network=network)
    assert cell(w, vm, there)["possible"]
    w.call("VIF.move", self=vif, network=network)
    assert cell(w, other, LOCAL)["possible"]


def test_an_internal_network_is_its_hosts_that_uses_it() -> None:
    w = World.new()
    there = w.host()
    inner = w.network(name_label="inner")
    first, second = w.vm(), w.vm()
    for vm in (first, second):
        w.vif(vm, inner)
    assert cell(w, second, there)["possible"]
    w.call("VM.start_on", vm=first, host=LOCAL, start_paused=False, force=False)
    uuid = w.txn.get(Network, inner).uuid
    fix = f"xe network-param-set uuid={uuid} other-config:assume_network_is_shared=true"
    assert code_and_fix(cell(w, second, there)) == [("VM_REQUIRES_NETWORK", fix)]
    w.txn.update(Network, inner, other_config={"assume_network_is_shared": "true"})
    assert cell(w, second, there)["possible"]


def test_an_unplugged_pif_and_a_small_mtu_are_remarks() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.nic_network("eth1"))
    w.call("PIF.unplug", self=w.nic_pif("eth1").ref)
    told = cell(w, vm, LOCAL)
    assert told["possible"]
    assert [one["fix"] for one in told["remarks"]] == [f"xe pif-plug uuid={w.nic_pif('eth1').uuid}"]
    vlan = w.txn.get(VLAN, w.vlan(w.nic_pif("eth2").ref, 30, w.network(MTU=9000)))
    large = w.vm()
    w.vif(large, w.txn.get(PIF, vlan.untagged_PIF).network)
    (remark,) = cell(w, large, LOCAL)["remarks"]
    below = w.txn.get(Network, w.nic_network("eth2")).uuid
    assert remark["fix"] == f"xe network-param-set uuid={below} MTU=9000"
    w.txn.update(Network, w.nic_network("eth2"), MTU=9000)
    for ref in (w.nic_pif("eth2").ref, vlan.untagged_PIF):
        (remark,) = cell(w, large, LOCAL)["remarks"]
        assert remark["fix"] == f"xe pif-plug uuid={w.txn.get(PIF, ref).uuid}", "its MTU is taken over then"
        w.call("PIF.plug", self=ref)
    assert not cell(w, large, LOCAL)["remarks"]


def test_what_carries_a_tunnel_is_to_have_room_for_its_headers() -> None:
    w = World.new()
    tunnel = w.txn.get(
        Tunnel, w.call("tunnel.create", transport_PIF=w.nic_pif("eth0").ref, network=w.network())
    )
    vm = w.vm()
    w.vif(vm, w.txn.get(PIF, tunnel.access_PIF).network)
    (remark,) = cell(w, vm, LOCAL)["remarks"]
    words = remark["fix"].split()
    assert words[:3] == ["xe", "network-param-set", f"uuid={w.txn.get(Network, w.nic_network('eth0')).uuid}"]
    w.txn.update(Network, w.nic_network("eth0"), MTU=int(words[3].removeprefix("MTU=")))
    for ref in (w.nic_pif("eth0").ref, tunnel.access_PIF):
        w.call("PIF.plug", self=ref)
    assert not cell(w, vm, LOCAL)["remarks"]
    assert w.txn.get(PIF, tunnel.access_PIF).MTU == 1500, "and no more than that"


def test_a_vlan_on_a_bond_that_a_host_lacks_takes_the_bond_first() -> None:
    w = World.new(nics=4)
    there = w.host(nics=4)
    bonded = w.network(name_label="bonded")
    members = tuple(w.nic_pif(device).ref for device in ("eth2", "eth3"))
    bond = w.txn.get(Bond, w.call("Bond.create", network=bonded, members=members, MAC=""))
    vlan = w.txn.get(VLAN, w.vlan(bond.master, 30, w.network(name_label="green")))
    vm = w.vm()
    network = w.txn.get(PIF, vlan.untagged_PIF).network
    w.vif(vm, network)
    theirs = tuple(pif_there(w, there, device) for device in ("eth2", "eth3"))
    told = cell(w, vm, there)
    fix = (
        f"xe bond-create network-uuid={w.txn.get(Network, bonded).uuid} "
        f"pif-uuids={theirs[0].uuid},{theirs[1].uuid} mode=balance-slb"
    )
    assert code_and_fix(told) == [("VM_REQUIRES_NETWORK", fix)]
    assert "it has no bond eth2+eth3 for VLAN 30" in told["obstacles"][0]["because"]
    other = w.call("Bond.create", network=w.network(), members=(theirs[1].ref,), MAC="")
    fix = f"xe bond-destroy uuid={w.txn.get(Bond, other).uuid}"
    assert code_and_fix(cell(w, vm, there)) == [("VM_REQUIRES_NETWORK", fix)]
    w.call("Bond.destroy", self=other)
    w.call("Bond.create", network=bonded, members=tuple(pif.ref for pif in theirs), MAC="")
    master = next(pif for pif in w.txn.where(PIF, network=bonded) if pif.host == there)
    fix = f"xe vlan-create network-uuid={w.txn.get(Network, network).uuid} pif-uuid={master.uuid} vlan=30"
    assert code_and_fix(cell(w, vm, there)) == [("VM_REQUIRES_NETWORK", fix)]


def test_virtual_functions_that_are_not_on_or_not_free() -> None:
    w = World.new()
    capable(w, "eth1", most=1)
    there = w.host(nics=3)
    capable(w, "eth1", most=1, host=there)
    sriov = create(w, "eth1")
    network = network_of(w, sriov)
    vm, other = hvm(w, network, name_label="one"), hvm(w, network, name_label="two")
    physical = pif_there(w, there, "eth1")
    uuid = w.txn.get(Network, network).uuid
    fix = f"xe network-sriov-create network-uuid={uuid} pif-uuid={physical.uuid}"
    assert code_and_fix(cell(w, vm, there)) == [("VM_REQUIRES_NETWORK", fix)]
    w.start(vm)
    told = cell(w, other, LOCAL)
    stop = f"xe vm-shutdown uuid={w.txn.get(VM, vm).uuid}"
    assert code_and_fix(told) == [("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", stop)]
    assert "has 0 free virtual functions, 1 are needed; in use by one" in told["obstacles"][0]["because"]
    w.call("network_sriov.create", pif=physical.ref, network=network)
    follow(w, there)
    assert cell(w, other, there)["possible"]
    w.call("VM.hard_shutdown", vm=vm)
    w.call("PIF.unplug", self=sriov.logical_PIF)
    plug = f"xe pif-plug uuid={w.txn.get(PIF, sriov.logical_PIF).uuid}"
    assert code_and_fix(cell(w, other, LOCAL)) == [("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", plug)]


def test_what_keeps_a_vm_from_every_host_is_said_of_each() -> None:
    w = World.new()
    capable(w, "eth1")
    network = network_of(w, create(w, "eth1"))
    vm = w.vm(name_label="pv")
    vif = w.vif(vm, network, MAC="02:00:00:00:00:05")
    w.txn.update(VIF, vif, locking_mode=VifLockingMode.LOCKED)
    answer = json.loads(w.call("VM.explain_placement", vms=(vm,)))
    codes = [one["error"][0] for one in answer["vms"][0]["hosts"][0]["obstacles"]]
    assert codes == ["VM_HVM_REQUIRED", "OPERATION_NOT_ALLOWED"]
    for method in ("hvm", "lock"):
        with pytest.raises(Failure) as raised:
            w.start(vm)
        assert raised.value.code == codes.pop(0), method
        if method == "hvm":
            w.call("VM.set_domain_type", self=vm, value=type(w.txn.get(VM, vm).domain_type).HVM)


def test_all_vms_are_told_of_but_templates_and_control_domains() -> None:
    w = World.new()
    vms = [w.vm(), w.vm()]
    w.vm(is_a_template=True)
    told = json.loads(w.call("VM.explain_placement", vms=()))["vms"]
    assert [one["vm"] for one in told] == [w.txn.get(VM, vm).uuid for vm in vms]
    with refused("HANDLE_INVALID", "VM", NULL):
        w.call("VM.explain_placement", vms=(NULL,))
