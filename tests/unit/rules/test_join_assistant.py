"""What joining would do, said before it is done: NIC by NIC, and each obstacle with what removes it."""

from __future__ import annotations

from typing import Any

import pytest

from poolnet.hostnet.facts import HostFacts
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import BondMode, VmPowerState
from poolnet.model.failure import Failure
from poolnet.rules.admit import CLASSES
from poolnet.rules.explain_admission import Admitted, NicPlan, explain_admission
from poolnet.rules.join import obstacles
from poolnet.rules.join_advice import Obstacle, clear, explained, require_clearable
from poolnet.rules.join_text import show_joining
from tests.unit.rules import sriov_nics
from tests.unit.rules.test_join import target
from tests.unit.rules.world import World

UUID = "11111111-0000-0000-0000-000000000002"


def joining(nics: int) -> World:
    """A host that is a pool of its own."""
    other = World.new(nics=nics)
    other.txn.update(Host, other.ctx.local_host, uuid=UUID, name_label="second")
    return other


def explain(pool: World, other: World) -> Admitted:
    rows = [row for cls in CLASSES for row in other.txn.all(cls)]
    facts = other.ctx.facts_of(other.ctx.local_host)
    before = {cls: pool.txn.count(cls) for cls in (Host, PIF, Bond, VLAN, Tunnel, NetworkSriov)}
    admitted = explain_admission(pool.ctx, uuid=UUID, rows=rows, facts=facts)
    assert {cls: pool.txn.count(cls) for cls in before} == before, "nothing of it lasts"
    return admitted


def said(admitted: Admitted) -> dict[str, tuple[str, bool, tuple[str, ...]]]:
    return {each.interface: (each.network, each.is_new, each.besides) for each in admitted.interfaces}


def test_each_nic_is_matched_by_position_and_gets_what_the_coordinator_has() -> None:
    pool = World.new(nics=3)
    bond = pool.network(name_label="bonded")
    pool.call(
        "Bond.create",
        network=bond,
        members=(pool.nic_pif("eth1").ref, pool.nic_pif("eth2").ref),
        MAC="",
        mode=BondMode.ACTIVE_BACKUP,
    )
    pool.call(
        "VLAN.create", tagged_PIF=pool.nic_pif("eth0").ref, tag=7, network=pool.network(name_label="seven")
    )
    pool.call("tunnel.create", transport_PIF=pool.nic_pif("eth0").ref, network=pool.network(name_label="far"))
    admitted = explain(pool, joining(nics=4))
    found = said(admitted)
    assert found["eth0"][1:] == (False, ("management", "IPv4 static 192.0.2.10"))
    assert found["eth2"][1:] == (False, ("member of bond0",))
    assert found["eth3"][1:] == (True, ())
    assert found["bond0 of eth1, eth2"] == ("bonded", False, ("active-backup",))
    assert found["VLAN 7 on eth0"] == ("seven", False, ())
    assert found["tunnel over eth0"] == ("far", False, ())
    assert admitted.failures == ()


def test_a_host_with_fewer_nics_gets_what_it_has_nics_for() -> None:
    pool = World.new(nics=4)
    for tag, device in ((7, "eth0"), (8, "eth3")):
        pool.call(
            "VLAN.create",
            tagged_PIF=pool.nic_pif(device).ref,
            tag=tag,
            network=pool.network(name_label=device),
        )
    found = said(explain(pool, joining(nics=2)))
    assert set(found) == {"eth0", "eth1", "VLAN 7 on eth0"}


def test_sr_iov_comes_to_nics_that_can_and_elsewhere_it_is_said_why_not() -> None:
    pool = World.new(nics=2)
    sriov_nics.capable(pool, "eth1")
    sriov_nics.create(pool, "eth1", pool.network(name_label="fast"))
    can, cannot = joining(nics=2), joining(nics=2)
    sriov_nics.capable(can, "eth1")
    admitted = explain(pool, can)
    assert admitted.failures == ()
    assert said(admitted)["SR-IOV on eth1"] == ("fast", False, ())
    admitted = explain(pool, cannot)
    assert "SR-IOV on eth1" not in said(admitted)
    (failure,) = admitted.failures
    assert failure.startswith("network_sriov.create: PIF_IS_NOT_SRIOV_CAPABLE")


def advice(world: World, **fields: Any) -> dict[str, Obstacle]:
    me = world.txn.get(Host, world.ctx.local_host)
    pool = target(world, **fields)
    return {
        each.code: explained(world.txn, me, pool, each)
        for each in obstacles(world.txn, me, pool, force=False)
    }


def crowded() -> World:
    """A host with everything that a joining host must not have."""
    world = World.new(nics=4)
    eth1, eth2, eth3 = (world.nic_pif(f"eth{number}").ref for number in (1, 2, 3))
    world.call("Bond.create", network=world.network(), members=(eth1, eth2), MAC="")
    master = next(pif for pif in world.txn.all(PIF) if pif.bond_master_of)
    world.call("VLAN.create", tagged_PIF=master.ref, tag=5, network=world.network())
    world.call("VLAN.create", tagged_PIF=eth3, tag=6, network=world.network())
    world.call("tunnel.create", transport_PIF=world.nic_pif("eth0").ref, network=world.network())
    return world


def test_every_obstacle_is_named_with_what_removes_it() -> None:
    world = crowded()
    vm = world.vm(name_label="runs")
    world.txn.update(VM, vm, power_state=VmPowerState.RUNNING)
    found = advice(world, management_vlan=9)
    (bond,) = world.txn.all(Bond)
    (tunnel,) = world.txn.all(Tunnel)
    assert found["POOL_JOINING_HOST_HAS_BONDS"].commands == (f"xe bond-destroy uuid={bond.uuid}",)
    assert found["POOL_JOINING_HOST_HAS_TUNNELS"].commands == (f"xe tunnel-destroy uuid={tunnel.uuid}",)
    assert set(found["POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS"].commands) == {
        f"xe vlan-destroy uuid={vlan.uuid}" for vlan in world.txn.all(VLAN)
    }
    uuid = world.txn.get(VM, vm).uuid
    assert found["JOINING_HOST_CANNOT_HAVE_RUNNING_VMS"].commands == (f"xe vm-shutdown uuid={uuid}",)
    moving = found["POOL_JOINING_HOST_MANAGEMENT_VLAN_DOES_NOT_MATCH"]
    assert any("vlan=9" in command for command in moving.commands)
    assert {code for code, each in found.items() if each.fixed} == {
        "POOL_JOINING_HOST_HAS_BONDS",
        "POOL_JOINING_HOST_HAS_TUNNELS",
        "POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS",
    }


def test_what_is_fixed_is_gone_and_nothing_else() -> None:
    world = crowded()
    clear(world.ctx)
    assert advice(world) == {}
    assert world.nic_pif("eth0").management
    assert {pif.device for pif in world.txn.where(PIF, host=world.ctx.local_host)} == {
        "eth0",
        "eth1",
        "eth2",
        "eth3",
    }


def test_the_management_of_a_bond_goes_back_to_its_nic_when_that_is_fixed() -> None:
    world = World.new(nics=2)
    nics = (world.nic_pif("eth0").ref, world.nic_pif("eth1").ref)
    world.call("Bond.create", network=world.network(), members=nics, MAC="")
    clear(world.ctx)
    assert world.nic_pif("eth0").management
    assert advice(world) == {}


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"ha_enabled": True}, "HA_IS_ENABLED", "xe pool-ha-disable"),
        ({"primary_address_type": "IPv6"}, "OPERATION_NOT_ALLOWED", "primary_address_type=IPv6"),
    ],
)
def test_what_the_pool_has_otherwise_is_advised_on(fields: dict[str, Any], code: str, words: str) -> None:
    found = advice(World.new(), **fields)
    assert any(words in command for command in found[code].commands)


def test_a_coordinator_of_others_is_told_how_to_part_with_them() -> None:
    world = World.new()
    metrics = world.txn.create(HostMetrics(ref=world.ctx.new_ref(), uuid="its-metrics", live=True))
    world.txn.create(Host(ref=world.ctx.new_ref(), uuid="other-uuid", metrics=metrics))
    found = advice(world)
    assert found["JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS"].commands == (
        "xe pool-eject host-uuid=other-uuid",
    )


def test_hosts_that_are_lost_are_forgotten_and_their_vms_are_not_waited_for() -> None:
    world = World.new()
    live, lost = (
        world.txn.create(
            Host(
                ref=world.ctx.new_ref(),
                uuid=f"{uuid}-host",
                metrics=world.txn.create(
                    HostMetrics(ref=world.ctx.new_ref(), uuid=f"{uuid}-metrics", live=live)
                ),
            )
        )
        for uuid, live in (("live", True), ("lost", False))
    )
    for name, host in (("here", live), ("gone", lost)):
        vm = world.vm(name_label=name)
        world.txn.update(VM, vm, power_state=VmPowerState.RUNNING, resident_on=host, uuid=f"{name}-vm")
    found = advice(world)
    assert found["JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS"].commands == (
        "xe vm-shutdown uuid=here-vm",
        "xe pool-eject host-uuid=live-host",
        "xe vm-reset-powerstate --force uuid=gone-vm",
        "xe host-forget uuid=lost-host",
    )
    assert set(found["JOINING_HOST_CANNOT_HAVE_RUNNING_VMS"].commands) == {
        "xe vm-shutdown uuid=here-vm",
        "xe vm-reset-powerstate --force uuid=gone-vm",
    }


def test_what_joining_cannot_remove_is_said_before_anything_is_removed() -> None:
    world = crowded()
    me = world.txn.get(Host, world.ctx.local_host)
    require_clearable(world.txn, me, target(world), force=False)
    world.txn.update(VM, world.vm(name_label="runs"), power_state=VmPowerState.RUNNING)
    with pytest.raises(Failure, match="JOINING_HOST_CANNOT_HAVE_RUNNING_VMS"):
        require_clearable(world.txn, me, target(world), force=False)


def test_the_text() -> None:
    bond = Obstacle(
        code="POOL_JOINING_HOST_HAS_BONDS", params=(), commands=("xe bond-destroy uuid=b",), fixed=True
    )
    vms = Obstacle(
        code="JOINING_HOST_CANNOT_HAVE_RUNNING_VMS",
        params=(),
        commands=("xe vm-shutdown uuid=v",),
        fixed=False,
    )
    admitted = Admitted(
        interfaces=(
            NicPlan(
                interface="eth0",
                mac="02:00:00:00:00:01",
                network="Network 0",
                is_new=False,
                besides=("management", "IPv4 static 192.0.2.2"),
            ),
            NicPlan(interface="eth5", mac="02:00:00:00:00:05", network="Network 5", is_new=True),
        ),
        failures=("network_sriov.create: X[]",),
    )
    assert show_joining("host2", "host1", (bond, vms), admitted, fix=False).splitlines() == [
        "host host2 cannot join the pool of host1",
        "obstacle POOL_JOINING_HOST_HAS_BONDS: The joining host must not have bonds.",
        "  remove it, or join with --fix:",
        "    xe bond-destroy uuid=b",
        "obstacle JOINING_HOST_CANNOT_HAVE_RUNNING_VMS: The joining host still runs VMs.",
        "  remove it:",
        "    xe vm-shutdown uuid=v",
        "its interfaces would be:",
        "  eth0 (02:00:00:00:00:01) -> network 'Network 0'; management, IPv4 static 192.0.2.2",
        "  eth5 (02:00:00:00:00:05) -> its own network 'Network 5'",
        "  not made: network_sriov.create: X[]",
    ]
    assert show_joining("host2", "host1", (bond,), None, fix=True).splitlines()[::2] == [
        "host host2 can join the pool of host1",
        "  joining removes it",
    ]


def test_a_host_that_does_not_say_who_it_is_is_refused() -> None:
    with pytest.raises(Exception, match="OPERATION_NOT_ALLOWED"):
        explain_admission(World.new().ctx, uuid=UUID, rows=(), facts=HostFacts())
