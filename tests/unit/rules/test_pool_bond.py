"""Bonds on all hosts by one call: by the positions of NICs, on all hosts that have some, or on none."""

from __future__ import annotations

import pytest

from poolnet.db.txn import Txn
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.message import Message
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.task import Task
from poolnet.model.enums import BondMode
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from tests.unit.rules.test_leave import joined
from tests.unit.rules.world import World


def bond_all(world: World, network: str, *devices: str) -> tuple[Ref[Bond], ...]:
    made: tuple[Ref[Bond], ...] = world.call(
        "pool.create_bond",
        network=network,
        members=tuple(world.nic_pif(device).ref for device in devices),
        mode=BondMode.ACTIVE_BACKUP,
    )
    return made


def members(txn: Txn, bond: Ref[Bond]) -> tuple[Ref[Host], list[str]]:
    """The host of a bond, and its NICs."""
    rows = txn.where(PIF, bond_slave_of=bond)
    return rows[0].host, sorted(pif.device for pif in rows)


def test_each_host_bonds_what_it_has_at_those_positions() -> None:
    world = World.new(nics=3)
    other = joined(world)  # it has eth0 and eth1
    made = bond_all(world, world.network(name_label="b"), "eth1", "eth2")
    assert dict(members(world.txn, bond) for bond in made) == {
        world.ctx.local_host: ["eth1", "eth2"],
        other: ["eth1"],
    }
    assert {world.txn.get(Bond, bond).mode for bond in made} == {BondMode.ACTIVE_BACKUP}
    assert world.txn.count(Message) == 0


def test_a_host_that_has_none_of_the_nics_is_named_in_the_task() -> None:
    world = World.new(nics=4)
    other = joined(world)
    world.ctx.task = world.txn.create(Task(ref=Ref("OpaqueRef:task"), uuid="task"))
    made = bond_all(world, world.network(name_label="b"), "eth2", "eth3")
    assert [members(world.txn, bond)[0] for bond in made] == [world.ctx.local_host]
    config = world.txn.get(Task, world.ctx.task).other_config
    assert config["hosts_without_nics"] == world.txn.get(Host, other).uuid


def test_a_host_that_has_the_bond_already_keeps_it() -> None:
    """XenCenter's way is one Bond.create for each host; whoever has begun like that may end with one call."""
    world = World.new(nics=2)
    other = joined(world)
    network = world.network(name_label="b")
    theirs = next(pif.ref for pif in world.txn.where(PIF, host=other) if pif.device == "eth1")
    known = world.call("Bond.create", network=network, members=(theirs,), MAC="")
    made = bond_all(world, network, "eth1")
    assert known in made
    assert world.txn.count(Bond) == 2


def test_a_refusal_of_one_host_is_that_of_the_call() -> None:
    world = World.new(nics=2)
    other = joined(world)
    theirs = next(pif.ref for pif in world.txn.where(PIF, host=other) if pif.device == "eth1")
    world.call("Bond.create", network=world.network(name_label="own"), members=(theirs,), MAC="")
    with pytest.raises(Failure) as refused:
        bond_all(world, world.network(name_label="b"), "eth1")
    assert (refused.value.code, refused.value.params) == ("PIF_ALREADY_BONDED", (theirs,))
    assert world.txn.count(Bond) == 1


def test_what_a_host_that_is_down_is_missing_is_said_until_it_is_back() -> None:
    world = World.new(nics=3)
    other = joined(world, live=False)
    bond_all(world, world.network(name_label="b"), "eth1")
    (alert,) = world.txn.all(Message)
    assert (alert.name, alert.obj_uuid) == ("HOST_LEFT_OUT", world.txn.get(Host, other).uuid)
    world.call(
        "pool.create_VLAN_from_PIF",
        pif=world.nic_pif("eth0").ref,
        network=world.network(name_label="v"),
        VLAN=9,
    )
    assert world.call("host.explain_missing", self=other) == (
        "bond of eth1 for network 'b'",
        "VLAN 9 on eth0 for network 'v'",
    )
    assert world.call("host.explain_missing", self=world.ctx.local_host) == ()
