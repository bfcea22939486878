"""What is done to the pool as a whole: on all hosts that are there, and nobody is left out without a word."""

from __future__ import annotations

import pytest

from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.message import Message
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.rules.startup import take_office
from tests.unit.rules.test_leave import joined
from tests.unit.rules.world import World


def vlan_on_all(world: World, network: str) -> tuple[Ref[PIF], ...]:
    made: tuple[Ref[PIF], ...] = world.call(
        "pool.create_VLAN_from_PIF", pif=world.nic_pif("eth1").ref, network=network, VLAN=5
    )
    return made


def test_a_vlan_is_made_on_all_hosts() -> None:
    world = World.new(nics=2)
    host = joined(world)
    made = vlan_on_all(world, world.network(name_label="v"))
    assert {world.txn.get(PIF, ref).host for ref in made} == {world.ctx.local_host, host}
    assert all(world.txn.get(PIF, ref).currently_attached for ref in made)
    assert world.txn.count(Message) == 0


def test_a_host_that_is_down_is_left_out_with_an_alert() -> None:
    world = World.new(nics=2)
    host = joined(world, live=False)
    made = vlan_on_all(world, world.network(name_label="v"))
    assert [world.txn.get(PIF, ref).host for ref in made] == [world.ctx.local_host]
    (alert,) = world.txn.all(Message)
    assert (alert.name, alert.obj_uuid) == ("HOST_LEFT_OUT", world.txn.get(Host, host).uuid)


def test_a_vlan_that_one_host_cannot_have_is_made_on_none() -> None:
    world = World.new(nics=2)
    host = joined(world)
    theirs = next(pif.ref for pif in world.txn.where(PIF, host=host) if pif.device == "eth1")
    world.call("VLAN.create", tagged_PIF=theirs, tag=5, network=world.network(name_label="other"))
    with pytest.raises(Failure) as refused:
        vlan_on_all(world, world.network(name_label="v"))
    assert refused.value.code == "PIF_VLAN_EXISTS"
    assert world.txn.count(VLAN) == 1


def give_address(world: World, pif: PIF) -> None:
    world.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.DHCP)


def test_the_management_of_all_hosts_moves_or_of_none() -> None:
    world = World.new(nics=2)
    host = joined(world)
    network = world.nic_network("eth1")
    pifs = list(world.txn.where(PIF, network=network))

    def refusal() -> tuple[str, tuple[str, ...]]:
        with pytest.raises(Failure) as refused:
            world.call("pool.management_reconfigure", network=network)
        return refused.value.code, refused.value.params

    give_address(world, next(pif for pif in pifs if pif.host == world.ctx.local_host))
    theirs = next(pif for pif in pifs if pif.host == host)
    assert refusal() == ("PIF_HAS_NO_NETWORK_CONFIGURATION", (theirs.ref,))
    give_address(world, theirs)
    metrics = world.txn.get(Host, host).metrics
    world.txn.update(HostMetrics, metrics, live=False)
    assert refusal() == ("HOST_OFFLINE", (host,))
    world.txn.update(HostMetrics, metrics, live=True)
    world.call("pool.management_reconfigure", network=network)
    managing = {pif.host: pif.network for pif in world.txn.all(PIF) if pif.management}
    assert managing == {world.ctx.local_host: network, host: network}


def test_a_network_that_a_host_lacks_manages_nobody() -> None:
    world = World.new(nics=3)
    host = joined(world)
    with pytest.raises(Failure) as refused:
        world.call("pool.management_reconfigure", network=world.nic_network("eth2"))
    assert (refused.value.code, refused.value.params) == (
        "PIF_NOT_PRESENT",
        (host, world.nic_network("eth2")),
    )


def test_a_new_coordinator_says_so() -> None:
    world = World.new()
    host = joined(world)
    world.ctx.local_host = host
    take_office(world.ctx)
    assert {pool.master for pool in world.txn.all(Pool)} == {host}
    assert [alert.name for alert in world.txn.all(Message)] == ["POOL_MASTER_TRANSITION"]
    take_office(world.ctx)
    assert world.txn.count(Message) == 1


def test_old_tls_is_switched_off_as_ever() -> None:
    world = World.new()
    pool = next(iter(world.txn.refs(Pool)))
    before = world.txn.changes()
    world.call("pool.disable_ssl_legacy", self=pool)
    assert world.txn.changes() == before
    with pytest.raises(Failure, match="HANDLE_INVALID"):
        world.call("pool.disable_ssl_legacy", self="OpaqueRef:none")
