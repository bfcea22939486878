"""What high availability needs, and what is refused while it is on (spec §22.1), each with its code and parameters."""

from __future__ import annotations

import pytest

from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import BondMode, IpConfigurationMode, PrimaryAddressType
from poolnet.model.types import Ref
from poolnet.rules.ha import NEEDS
from tests.unit.rules.world import LOCAL, World, refused


def protected() -> World:
    """A pool of two hosts that says that it has high availability."""
    w = World.new()
    w.host()
    w.txn.update(Pool, next(iter(w.txn.refs(Pool))), ha_enabled=True)
    return w


def enable(w: World) -> None:
    w.call("pool.enable_ha", heartbeat_srs=(), configuration={})


def test_it_says_what_it_needs() -> None:
    w = World.new()
    with refused("OPERATION_NOT_ALLOWED", NEEDS):
        enable(w)
    with refused("HA_NOT_ENABLED"):
        w.call("pool.disable_ha")


def test_pifs_that_must_not_be_unplugged_have_to_be_up() -> None:
    w = World.new()
    down = [w.nic_pif(device) for device in ("eth1", "eth2")]
    for pif in down:
        w.call("PIF.set_disallow_unplug", self=pif.ref, value=True)
        w.txn.update(PIF, pif.ref, currently_attached=False)
    with refused("REQUIRED_PIF_IS_UNPLUGGED", *(pif.ref for pif in down)):
        enable(w)


def test_twice_is_refused_and_it_can_be_turned_off() -> None:
    w = protected()
    with refused("HA_IS_ENABLED"):
        enable(w)
    w.call("pool.disable_ha")
    assert not next(iter(w.txn.all(Pool))).ha_enabled


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("PIF.unplug", {}),
        ("PIF.forget", {}),
        (
            "PIF.reconfigure_ip",
            {"mode": IpConfigurationMode.DHCP, "IP": "", "netmask": "", "gateway": "", "DNS": ""},
        ),
        ("PIF.set_primary_address_type", {"primary_address_type": PrimaryAddressType.IPV6}),
    ],
)
def test_addresses_and_attached_pifs_stay_as_they_are(method: str, arguments: dict[str, object]) -> None:
    w = protected()
    pif = w.nic_pif("eth1")
    with refused("HA_IS_ENABLED"):
        w.call(method, self=pif.ref, **arguments)
    assert w.nic_pif("eth1") == pif


def test_management_stays_where_it_is() -> None:
    w = protected()
    pif = w.nic_pif("eth1")
    w.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.DHCP)
    with refused("HA_IS_ENABLED"):
        w.call("host.management_reconfigure", pif=pif.ref)
    with refused("HA_IS_ENABLED"):
        w.call("host.management_disable")
    with refused("HA_IS_ENABLED"):
        w.call("pool.management_reconfigure", network=pif.network)


def bond(w: World, *devices: str) -> None:
    w.call(
        "Bond.create",
        network=w.network(),
        members=tuple(w.nic_pif(device).ref for device in devices),
        MAC="",
        mode=BondMode.ACTIVE_BACKUP,
        properties={},
    )


def test_bonds_of_the_management_interface_are_refused_and_others_are_not() -> None:
    w = protected()
    with refused("HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE"):
        bond(w, "eth0", "eth1")
    bond(w, "eth1", "eth2")


def test_what_adds_is_allowed_and_what_takes_an_attached_vlan_is_not() -> None:
    w = protected()
    network: Ref[Network] = w.network()
    vlan = w.vlan(w.nic_pif("eth1").ref, 20, network)
    with refused("HA_IS_ENABLED"):
        w.call("VLAN.destroy", self=vlan)
    w.txn.update(PIF, w.txn.get(VLAN, vlan).untagged_PIF, currently_attached=False)
    w.call("VLAN.destroy", self=vlan)
    w.call("network.destroy", self=network)
    assert w.txn.get(Host, LOCAL).enabled
