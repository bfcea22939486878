"""Tunnels: what each refusal says, where they lead, what clients see of them, and how much fits through."""

from __future__ import annotations

import pytest

from poolnet.hostnet.derive import derive
from poolnet.hostnet.state import TunnelKind, TunnelOptions, Uplink
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, TunnelProtocol
from poolnet.model.types import Ref
from tests.unit.rules.world import LOCAL, World, refused


def with_address(w: World, pif: Ref[PIF], address: str = "10.0.0.1") -> Ref[PIF]:
    """The PIF, with a static address."""
    w.call(
        "PIF.reconfigure_ip",
        self=pif,
        mode=IpConfigurationMode.STATIC,
        IP=address,
        netmask="255.255.255.0",
        gateway="",
        DNS="",
    )
    return pif


def transport(w: World) -> Ref[PIF]:
    """eth1, with an address."""
    return with_address(w, w.nic_pif("eth1").ref)


def create(w: World, pif: Ref[PIF], network: Ref[Network] | None = None, protocol: str = "gre") -> Tunnel:
    """A new tunnel."""
    target = w.network() if network is None else network
    kind = TunnelProtocol(protocol)
    ref: Ref[Tunnel] = w.call("tunnel.create", transport_PIF=pif, network=target, protocol=kind)
    return w.txn.get(Tunnel, ref)


def uplink(w: World, tunnel: Tunnel, host: Ref[Host] = LOCAL) -> Uplink | None:
    """What the tunnel's bridge on a host is connected to."""
    network = w.txn.get(Network, w.txn.get(PIF, tunnel.access_PIF).network)
    bridge = derive(w.txn, host).bridge(network.bridge)
    assert bridge is not None
    return bridge.uplink


def sriov(w: World, device: str) -> Ref[PIF]:
    """The logical PIF of a NIC whose virtual functions are in use."""
    physical = w.nic_pif(device)
    logical = w.txn.create(
        PIF(
            ref=w.ctx.new_ref(),
            uuid=w.ctx.new_uuid(),
            device=device,
            network=w.network(),
            host=LOCAL,
            MAC="fe:ff:ff:ff:ff:ff",
            MTU=1500,
            VLAN=-1,
            metrics=physical.metrics,
            managed=True,
        )
    )
    w.txn.create(
        NetworkSriov(
            ref=w.ctx.new_ref(), uuid=w.ctx.new_uuid(), physical_PIF=physical.ref, logical_PIF=logical
        )
    )
    return logical


def test_networks_that_cannot_be_reached_by_a_tunnel() -> None:
    w = World.new()
    pif = transport(w)
    unmanaged = w.network(managed=False)
    with refused("NETWORK_UNMANAGED", unmanaged):
        create(w, pif, unmanaged)
    there = w.nic_pif("eth2")
    with refused("NETWORK_ALREADY_CONNECTED", LOCAL, there.ref):
        create(w, pif, there.network)
    virtual = sriov(w, "eth2")
    elsewhere = w.host()
    w.txn.update(PIF, virtual, host=elsewhere)
    network = w.txn.get(PIF, virtual).network
    with refused("NETWORK_INCOMPATIBLE_WITH_TUNNEL", network):
        create(w, pif, network)


def test_pifs_that_carry_no_tunnel() -> None:
    w = World.new(nics=4)
    unmanaged = w.unmanaged_pif(w.network())
    with refused("PIF_UNMANAGED", unmanaged):
        create(w, unmanaged)
    virtual = sriov(w, "eth3")
    with refused("CANNOT_ADD_TUNNEL_TO_SRIOV_LOGICAL", virtual):
        create(w, virtual)
    vlan = w.txn.create(
        VLAN(
            ref=w.ctx.new_ref(),
            uuid=w.ctx.new_uuid(),
            tagged_PIF=virtual,
            untagged_PIF=w.nic_pif("eth3").ref,
            tag=7,
        )
    )
    w.txn.update(PIF, w.nic_pif("eth3").ref, VLAN_master_of=vlan)
    with refused("CANNOT_ADD_TUNNEL_TO_VLAN_ON_SRIOV_LOGICAL", w.nic_pif("eth3").ref):
        create(w, w.nic_pif("eth3").ref)
    tunnel = create(w, transport(w))
    with refused("IS_TUNNEL_ACCESS_PIF", tunnel.access_PIF):
        create(w, tunnel.access_PIF)


def test_a_bonds_member_carries_no_tunnel_but_the_bond_does() -> None:
    w = World.new()
    members = tuple(w.nic_pif(device).ref for device in ("eth1", "eth2"))
    w.call("Bond.create", network=w.network(), members=members, MAC="")
    with refused("CANNOT_ADD_TUNNEL_TO_BOND_SLAVE", members[0]):
        create(w, members[0])
    master = next(pif.ref for pif in w.txn.all(PIF) if pif.bond_master_of)
    assert create(w, with_address(w, master)).status == {"active": "false"}


def test_a_tunnel_needs_an_address_below_and_no_open_vswitch() -> None:
    w = World.new()
    with refused("TRANSPORT_PIF_NOT_CONFIGURED", w.nic_pif("eth1").ref):
        create(w, w.nic_pif("eth1").ref)
    assert w.txn.count(Tunnel) == 0
    w.txn.update(Host, w.host(), software_version={"network_backend": "bridge"})
    w.txn.update(Host, LOCAL, software_version={"network_backend": "bridge"})
    tunnel = create(w, transport(w), protocol="vxlan")
    w.txn.update(Tunnel, tunnel.ref, other_config={"remote_ip": "10.0.0.9"})
    w.call("PIF.plug", self=tunnel.access_PIF)
    found = uplink(w, tunnel)
    assert found is not None
    assert found.tunnel is not None
    assert (found.tunnel.kind, found.tunnel.remotes) == (TunnelKind.VXLAN, ("10.0.0.9",))
    assert w.txn.get(Tunnel, tunnel.ref).status["active"] == "true"


def test_the_access_pif_is_as_the_reference_makes_it() -> None:
    w = World.new()
    pif = transport(w)
    tunnel = create(w, pif, protocol="vxlan")
    access = w.txn.get(PIF, tunnel.access_PIF)
    assert (access.device, access.VLAN, access.physical, access.currently_attached) == (
        "tunnel0",
        -1,
        False,
        True,
    )
    assert access.metrics == w.txn.get(PIF, pif).metrics
    assert tunnel.protocol is TunnelProtocol.VXLAN
    second = create(w, pif)
    assert w.txn.get(PIF, second.access_PIF).device == "tunnel1"


def test_a_tunnel_leads_where_its_keys_say() -> None:
    w = World.new()
    tunnel = create(w, transport(w))
    found = uplink(w, tunnel)
    assert found is not None
    assert found.tunnel is not None
    assert (found.device, found.members, found.tunnel.remotes) == ("tunnel0", (), ())
    config = {"remote_ip": "10.0.0.9, 10.0.0.3,nonsense,fe80::1,127.0.0.1", "key": "77"}
    w.txn.update(Tunnel, tunnel.ref, other_config=config)
    w.call("PIF.plug", self=tunnel.access_PIF)
    expected = TunnelOptions(kind=TunnelKind.GRE, key=77, remotes=("10.0.0.3", "10.0.0.9"))
    assert uplink(w, tunnel) == Uplink(device="tunnel0", members=(), tunnel=expected)
    assert w.txn.get(Tunnel, tunnel.ref).status == {"active": "true", "key": "77"}
    w.call("PIF.unplug", self=tunnel.access_PIF)
    assert w.txn.get(Tunnel, tunnel.ref).status == {"active": "false"}


@pytest.mark.parametrize("key", ["", "-1", "16777216", "x", "٣"])
def test_a_key_that_is_none_is_made_from_the_network(key: str) -> None:
    w = World.new()
    tunnel = create(w, transport(w))
    w.txn.update(Tunnel, tunnel.ref, other_config={"key": key})
    found = uplink(w, tunnel)
    assert found is not None
    assert found.tunnel is not None
    assert 0 <= found.tunnel.key < 2**24
    w.txn.update(Tunnel, tunnel.ref, other_config={})
    assert uplink(w, tunnel) == found


def test_the_hosts_of_a_pool_find_each_other() -> None:
    w = World.new()
    network = w.network()
    here = create(w, transport(w), network)
    other = w.host()
    pif = w.pif_of(other, w.nic_network("eth1")).ref
    there = create(w, with_address(w, pif, "10.0.0.2"), network)
    mine, its = uplink(w, here), uplink(w, there, other)
    assert mine is not None
    assert its is not None
    assert mine.tunnel is not None
    assert its.tunnel is not None
    assert (mine.tunnel.remotes, its.tunnel.remotes) == (("10.0.0.2",), ("10.0.0.1",))
    assert mine.tunnel.key == its.tunnel.key
    assert w.txn.get(Tunnel, here.ref).status["active"] == "true"
    w.call("tunnel.destroy", self=there.ref)
    assert w.txn.get(Tunnel, here.ref).status == {"active": "false"}
    assert uplink(w, here) == Uplink(
        device="tunnel0", members=(), tunnel=TunnelOptions(kind=TunnelKind.GRE, key=mine.tunnel.key)
    )


@pytest.mark.parametrize(("protocol", "headers"), [("gre", 42), ("vxlan", 50)])
def test_a_tunnel_carries_what_its_transport_leaves(protocol: str, headers: int) -> None:
    w = World.new()
    pif = transport(w)
    tunnel = create(w, pif, protocol=protocol)
    assert 1500 - headers == w.txn.get(PIF, tunnel.access_PIF).MTU
    w.txn.update(Network, w.nic_network("eth1"), MTU=9000)
    w.call("PIF.plug", self=tunnel.access_PIF)
    assert w.txn.get(PIF, tunnel.access_PIF).MTU == 1500
    w.txn.update(Network, w.nic_network("eth1"), MTU=1400)
    w.call("PIF.plug", self=pif)
    assert 1400 - headers == w.txn.get(PIF, tunnel.access_PIF).MTU
    vm = w.vm()
    vif = w.vif(vm, w.txn.get(PIF, tunnel.access_PIF).network)
    w.start(vm)
    port = next(port for port in w.derive().ports if port.vif_uuid)
    assert port.mtu_bytes == 1400 - headers
    assert w.txn.get(PIF, tunnel.access_PIF).currently_attached
    assert vif


def test_gre_to_an_ipv6_address_has_one_of_the_transport_s_own() -> None:
    w = World.new()
    pif = transport(w)
    w.txn.update(PIF, pif, IPv6=("fe80::1/64", "fd00::7/64"))
    for protocol, expected in (("gre", "fd00::7"), ("vxlan", "")):
        tunnel = create(w, pif, protocol=protocol)
        w.txn.update(Tunnel, tunnel.ref, other_config={"remote_ip": "fd00::9"})
        w.call("PIF.plug", self=tunnel.access_PIF)
        found = uplink(w, tunnel)
        assert found is not None
        assert found.tunnel is not None
        assert (found.tunnel.remotes, found.tunnel.local6) == (("fd00::9",), expected)
