"""Which host may leave a pool, and what goes with it."""

from __future__ import annotations

import pytest

from poolnet.hostnet.state import IpConfig, Ipv4Mode
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.rules.admit import CLASSES, admit
from poolnet.rules.leave import eject, management_of, require_ejectable
from tests.unit.rules.world import World


def joined(world: World, *, live: bool = True) -> Ref[Host]:
    """A second host in the world's pool."""
    other = World.new(nics=2)
    rows = [row for cls in CLASSES for row in other.txn.all(cls)]
    uuid = "11111111-0000-0000-0000-000000000002"
    me = next(row for row in rows if isinstance(row, Host))
    other.txn.update(Host, me.ref, uuid=uuid, name_label="second")
    rows = [row for cls in CLASSES for row in other.txn.all(cls)]
    host = admit(world.ctx, uuid=uuid, rows=rows)
    world.txn.update(HostMetrics, world.txn.get(Host, host).metrics, live=live)
    return host


def test_a_joining_host_gets_the_networks_at_the_positions_of_its_nics() -> None:
    world = World.new(nics=3)
    networks = {row.ref for row in world.txn.all(Network)}
    host = joined(world, live=False)
    pifs = {pif.device: pif for pif in world.txn.where(PIF, host=host)}
    coordinator = {pif.device: pif.network for pif in world.txn.where(PIF, host=world.ctx.local_host)}
    assert {device: pif.network for device, pif in pifs.items()} == {
        device: coordinator[device] for device in ("eth0", "eth1")
    }
    assert {row.ref for row in world.txn.all(Network)} == networks, "none was made"
    assert pifs["eth0"].management
    assert not world.txn.get(Host, host).enabled
    assert len({pif.metrics for pif in world.txn.all(PIF)}) == world.txn.count(PIF)


def test_a_host_with_more_nics_brings_networks_along() -> None:
    world = World.new(nics=1)
    before = world.txn.count(Network)
    joined(world)
    assert world.txn.count(Network) == before + 1


def test_a_host_joins_once() -> None:
    world = World.new()
    joined(world)
    with pytest.raises(Failure) as refused:
        joined(world)
    assert refused.value.code == "OPERATION_NOT_ALLOWED"


def test_all_that_is_the_hosts_goes_with_it() -> None:
    world = World.new()
    counts = {cls: world.txn.count(cls) for cls in (Host, HostMetrics, PIF, PIFMetrics, VM, Network)}
    host = joined(world)
    eject(world.ctx, host=host)
    assert {cls: world.txn.count(cls) for cls in counts} == counts


def refusal(world: World, host: Ref[Host]) -> tuple[str, tuple[str, ...]]:
    with pytest.raises(Failure) as refused:
        require_ejectable(world.ctx, host)
    return refused.value.code, refused.value.params


def test_who_is_not_ejected() -> None:
    world = World.new()
    host = joined(world)
    assert refusal(world, world.ctx.local_host) == ("INTERNAL_ERROR", ("Cannot_eject_master",))
    vm = world.txn.create(
        VM(
            ref=world.ctx.new_ref(),
            uuid=world.ctx.new_uuid(),
            power_state=VmPowerState.RUNNING,
            resident_on=host,
        )
    )
    assert refusal(world, host) == ("OPERATION_NOT_ALLOWED", ("VM resident on host",))
    world.txn.update(VM, vm, power_state=VmPowerState.HALTED)
    require_ejectable(world.ctx, host)
    world.txn.update(HostMetrics, world.txn.get(Host, host).metrics, live=False)
    assert refusal(world, host)[0] == "HOST_OFFLINE"


def test_who_is_not_forgotten() -> None:
    world = World.new()
    host = joined(world)
    for ref, code in ((world.ctx.local_host, "HOST_CANNOT_DESTROY_SELF"), (host, "HOST_IS_LIVE")):
        with pytest.raises(Failure) as refused:
            world.call("host.destroy", self=ref)
        assert (refused.value.code, refused.value.params) == (code, (ref,))
    world.txn.update(HostMetrics, world.txn.get(Host, host).metrics, live=False)
    world.call("host.destroy", self=host)
    assert world.txn.count(Host) == 1


def test_what_an_ejected_host_is_managed_by() -> None:
    world = World.new()
    world.txn.update(
        PIF,
        next(pif.ref for pif in world.txn.all(PIF) if pif.management),
        ip_configuration_mode="Static",
        IP="192.0.2.7",
        netmask="255.255.255.0",
        gateway="192.0.2.1",
        DNS="192.0.2.53",
    )
    management = management_of(world.txn, world.ctx.local_host)
    assert management is not None
    assert (management.nic, management.vlan_tag) == ("eth0", -1)
    assert management.ip == IpConfig(
        ipv4_mode=Ipv4Mode.STATIC,
        ipv4_address="192.0.2.7/24",
        ipv4_gateway="192.0.2.1",
        dns_servers=("192.0.2.53",),
    )


def test_a_bonds_primary_member_manages_an_ejected_host() -> None:
    world = World.new()
    pifs = {pif.device: pif.ref for pif in world.txn.where(PIF, host=world.ctx.local_host)}
    network = world.network(name_label="bond")
    world.call("Bond.create", network=network, members=(pifs["eth1"], pifs["eth0"]), MAC="")
    management = management_of(world.txn, world.ctx.local_host)
    assert management is not None
    assert management.nic == "eth0"
