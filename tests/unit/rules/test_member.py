"""What a member gets from the coordinator when it starts: by the positions of NICs, and nothing twice."""

from __future__ import annotations

import pytest

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import BondMode
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.rules.member import enable, to_copy
from tests.unit.rules import sriov_nics
from tests.unit.rules.test_leave import joined
from tests.unit.rules.world import World


def copy(world: World, host: Ref[Host]) -> list[str]:
    """Carries out what is to be copied; the messages."""
    done = []
    for method, rule, arguments in to_copy(world.txn, host, world.ctx.local_host):
        rule(world.ctx, **arguments)
        done.append(method)
    return done


def devices(world: World, bond: Bond) -> list[str]:
    return [pif.device for pif in world.txn.where(PIF, bond_slave_of=bond.ref)]


def bonds_of(world: World, host: Ref[Host]) -> list[Bond]:
    return [bond for bond in world.txn.all(Bond) if world.txn.get(PIF, bond.master).host == host]


SYNCS = ["host.sync_vlans", "host.sync_tunnels"]


def test_a_bond_is_made_of_the_nics_at_the_same_positions() -> None:
    world = World.new(nics=3)
    network = world.network(name_label="bond")
    nics = tuple(world.nic_pif(device).ref for device in ("eth1", "eth2"))
    world.call("Bond.create", network=network, members=nics, MAC="", mode=BondMode.ACTIVE_BACKUP)
    host = joined(world)  # it has eth0 and eth1
    assert copy(world, host) == ["Bond.create", *SYNCS]
    (bond,) = bonds_of(world, host)
    assert devices(world, bond) == ["eth1"], "it has one of the two"
    assert bond.mode is BondMode.ACTIVE_BACKUP
    assert world.txn.get(PIF, bond.master).network == network
    assert copy(world, host) == SYNCS, "there it is"


def test_a_management_bond_takes_the_members_management() -> None:
    world = World.new(nics=2)
    network = world.network(name_label="bond")
    nics = tuple(world.nic_pif(device).ref for device in ("eth1", "eth0"))
    world.call("Bond.create", network=network, members=nics, MAC="")
    host = joined(world)
    copy(world, host)
    (bond,) = bonds_of(world, host)
    assert world.txn.get(PIF, bond.master).management
    assert sorted(devices(world, bond)) == ["eth0", "eth1"]


def test_a_bond_of_other_members_is_made_anew() -> None:
    world = World.new(nics=2)
    network = world.network(name_label="bond")
    host = joined(world)
    theirs = {pif.device: pif.ref for pif in world.txn.where(PIF, host=host)}
    world.call("Bond.create", network=network, members=(theirs["eth1"],), MAC="")
    nics = tuple(world.nic_pif(device).ref for device in ("eth0", "eth1"))
    world.call("Bond.create", network=network, members=nics, MAC="")
    assert copy(world, host) == ["Bond.destroy", "Bond.create", *SYNCS]
    (bond,) = bonds_of(world, host)
    assert sorted(devices(world, bond)) == ["eth0", "eth1"]


def test_vlans_come_unplugged_and_once() -> None:
    world = World.new(nics=2)
    network = world.network(name_label="vlan")
    world.call("VLAN.create", tagged_PIF=world.nic_pif("eth1").ref, tag=9, network=network)
    host = joined(world)
    for _ in range(2):
        copy(world, host)
        vlans = [v for v in world.txn.all(VLAN) if world.txn.get(PIF, v.tagged_PIF).host == host]
        assert [vlan.tag for vlan in vlans] == [9]
        untagged = world.txn.get(PIF, vlans[0].untagged_PIF)
        assert (untagged.network, untagged.currently_attached) == (network, False)


def test_sr_iov_comes_to_the_nic_at_the_same_position_once() -> None:
    world = World.new(nics=2)
    sriov_nics.capable(world, "eth1")
    network = world.network(name_label="fast")
    sriov_nics.create(world, "eth1", network)
    host = joined(world)
    sriov_nics.capable(world, "eth1", host=host)
    assert copy(world, host) == ["network_sriov.create", *SYNCS]
    sriov_nics.follow(world, host)
    theirs = [
        world.txn.get(PIF, sriov.physical_PIF)
        for sriov in world.txn.all(NetworkSriov)
        if world.txn.get(PIF, sriov.physical_PIF).host == host
    ]
    assert [pif.device for pif in theirs] == ["eth1"]
    logical = next(pif for pif in world.txn.where(PIF, network=network) if pif.host == host)
    assert logical.currently_attached
    assert copy(world, host) == SYNCS, "there it is"


@pytest.mark.parametrize("why", ["no such card", "another card"])
def test_sr_iov_does_not_come_to_a_nic_that_cannot_take_part(why: str) -> None:
    world = World.new(nics=2)
    sriov_nics.capable(world, "eth1")
    sriov_nics.create(world, "eth1", world.network(name_label="fast"))
    host = joined(world)
    if why == "another card":
        sriov_nics.capable(world, "eth1", host=host, device_id="9999")
    code = "PIF_IS_NOT_SRIOV_CAPABLE" if why == "no such card" else "NETWORK_HAS_INCOMPATIBLE_SRIOV_PIFS"
    with pytest.raises(Failure, match=code):
        copy(world, host)


def test_a_member_can_refuse_vlans() -> None:
    world = World.new(nics=2)
    host = joined(world)
    world.txn.update(Host, host, other_config={"sync_vlans": "nosync"})
    assert copy(world, host) == ["host.sync_tunnels"]


def test_a_host_that_is_maintained_stays_disabled() -> None:
    world = World.new()
    host = joined(world)
    world.txn.update(Host, host, other_config={"MAINTENANCE_MODE": "true"})
    enable(world.txn, host)
    assert not world.txn.get(Host, host).enabled
    world.txn.update(Host, host, other_config={})
    enable(world.txn, host)
    assert world.txn.get(Host, host).enabled
