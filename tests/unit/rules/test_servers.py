"""A host at whose address others find a server of the database's cluster keeps that address (spec §22.3)."""

from __future__ import annotations

from typing import Any

import pytest

from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.enums import BondMode, IpConfigurationMode, Ipv6ConfigurationMode
from poolnet.rules.undo import Change, Entry, undo
from tests.unit.rules.world import LOCAL, World, refused

NONE = {"IP": "", "netmask": "", "gateway": "", "DNS": ""}
STATIC = {"mode": IpConfigurationMode.STATIC, "netmask": "255.255.255.0", "gateway": "", "DNS": ""}
IPV6 = {"mode": Ipv6ConfigurationMode.STATIC, "IPv6": "2001:db8::9/64", "gateway": "", "DNS": ""}


def with_a_server() -> World:
    """A pool of two hosts of which the local one has a server."""
    w = World.new()
    w.host()
    w.ctx.servers = frozenset({w.txn.get(Host, LOCAL).uuid})
    return w


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("PIF.reconfigure_ip", {**STATIC, "IP": "192.0.2.77"}),
        ("PIF.reconfigure_ip", {**STATIC, "IP": "no address"}),
        ("PIF.reconfigure_ip", {"mode": IpConfigurationMode.DHCP, **NONE}),
        ("PIF.reconfigure_ipv6", IPV6),
    ],
)
def test_the_management_interface_keeps_its_addresses(method: str, arguments: dict[str, Any]) -> None:
    w = with_a_server()
    pif = w.nic_pif("eth0")
    with refused("CLUSTERING_ENABLED", LOCAL):
        w.call(method, self=pif.ref, **arguments)
    assert w.nic_pif("eth0") == pif


def test_name_servers_may_change_and_so_may_other_interfaces_and_hosts() -> None:
    w = with_a_server()
    pif = w.nic_pif("eth0")
    same = {"IP": pif.IP, "netmask": pif.netmask, "gateway": pif.gateway}
    w.call("PIF.reconfigure_ip", self=pif.ref, mode=IpConfigurationMode.STATIC, DNS="192.0.2.53", **same)
    assert w.nic_pif("eth0").DNS == "192.0.2.53"
    w.call("PIF.reconfigure_ip", self=w.nic_pif("eth1").ref, **{**STATIC, "IP": "198.51.100.7"})
    other = next(p for p in w.txn.all(PIF) if p.host != LOCAL)
    w.txn.update(PIF, other.ref, management=True)
    w.call("PIF.reconfigure_ip", self=other.ref, **{**STATIC, "IP": "192.0.2.78"})
    assert w.txn.get(Host, other.host).address == "192.0.2.78"


def test_management_stays_where_it_is() -> None:
    w = with_a_server()
    w.call("PIF.reconfigure_ip", self=w.nic_pif("eth1").ref, **{**STATIC, "IP": "198.51.100.7"})
    for other in w.txn.all(PIF):
        if other.network == w.nic_network("eth1") and other.host != LOCAL:
            w.txn.update(PIF, other.ref, ip_configuration_mode=IpConfigurationMode.DHCP)
    pif = w.nic_pif("eth1")
    with refused("CLUSTERING_ENABLED", LOCAL):
        w.call("host.management_reconfigure", pif=pif.ref)
    with refused("CLUSTERING_ENABLED", LOCAL):
        w.call("pool.management_reconfigure", network=pif.network)
    with refused("CLUSTERING_ENABLED", LOCAL):
        w.call("host.management_disable")
    assert w.nic_pif("eth0").management
    w.call("host.management_reconfigure", pif=w.nic_pif("eth0").ref)


def test_a_bond_takes_the_address_along() -> None:
    w = with_a_server()
    address = w.txn.get(Host, LOCAL).address
    w.call(
        "Bond.create",
        network=w.network(),
        members=tuple(w.nic_pif(device).ref for device in ("eth0", "eth1")),
        MAC="",
        mode=BondMode.ACTIVE_BACKUP,
        properties={},
    )
    assert w.txn.get(Host, LOCAL).address == address
    assert not w.nic_pif("eth0").management


def test_a_change_from_before_the_cluster_is_not_taken_back() -> None:
    w = with_a_server()
    pif = w.nic_pif("eth0")
    for field, former in (("IP", "192.0.2.77"), ("ip_configuration_mode", "DHCP")):
        now = str(getattr(pif, field))
        change = Change(ref=pif.ref, cls="PIF", uuid=pif.uuid, before={field: former}, after={field: now})
        with refused("CLUSTERING_ENABLED", LOCAL):
            undo(w.ctx.on(w.txn.nested()), number=1, entry=Entry(kind="rule", changes=(change,)), later={})
    change = Change(
        ref=pif.ref, cls="PIF", uuid=pif.uuid, before={"DNS": "192.0.2.54"}, after={"DNS": pif.DNS}
    )
    undo(w.ctx, number=1, entry=Entry(kind="rule", changes=(change,)), later={})
    assert w.nic_pif("eth0").DNS == "192.0.2.54"
