from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.table import CHANGES_REMEMBERED
from poolnet.hostnet.derive import Deriver, derive
from poolnet.hostnet.laws import contradictions
from poolnet.hostnet.state import BondMode as StateBondMode
from poolnet.hostnet.state import (
    Bridge,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    LockMode,
    PortLock,
    Uplink,
)
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import (
    BondMode,
    IpConfigurationMode,
    Ipv6ConfigurationMode,
    NetworkPurpose,
    PrimaryAddressType,
    VifLockingMode,
)
from poolnet.model.types import Ref
from poolnet.rules import startup
from tests.unit.rules.world import GREETING, LOCAL, World, facts_with


def bridge(state: HostNetwork, name: str) -> Bridge:
    found = state.bridge(name)
    assert found is not None
    return found


def configure(w: World, device: str, **fields: Any) -> None:
    static: dict[str, Any] = {
        "ip_configuration_mode": IpConfigurationMode.STATIC,
        "IP": "10.0.0.5",
        "netmask": "255.255.255.0",
        "gateway": "10.0.0.1",
        "DNS": "10.0.0.53",
    }
    w.txn.update(PIF, w.nic_pif(device).ref, **{**static, **fields})


def test_a_host_after_its_first_start() -> None:
    w = World.new(nics=1)
    network = w.txn.get(Network, w.nic_network("eth0"))
    assert w.derive() == HostNetwork(
        bridges=(
            Bridge(
                name="xenbr0",
                uplink=Uplink(device="eth0", members=("eth0",)),
                mac="52:54:00:00:00:00",
                mtu_bytes=1500,
                network_uuids=(network.uuid,),
                ip=IpConfig(
                    ipv4_mode=Ipv4Mode.STATIC,
                    ipv4_address="192.0.2.10/24",
                    ipv4_gateway="192.0.2.1",
                    dns_servers=("192.0.2.53",),
                ),
            ),
        ),
        management_bridge="xenbr0",
    )


def test_a_vlan_stands_on_the_bridge_of_its_nic() -> None:
    w = World.new()
    network = w.txn.get(Network, w.network(bridge="blue"))
    w.vlan(w.nic_pif("eth1").ref, 100, network.ref)
    made = bridge(w.derive(), "blue")
    lower = w.txn.get(Network, w.nic_network("eth1"))
    assert (made.parent, made.vlan_tag, made.uplink) == ("xenbr1", 100, None)
    assert made.mac == "52:54:00:00:00:01"
    assert made.network_uuids == (network.uuid, lower.uuid)


def test_the_bridge_under_a_vlan_has_no_address_of_a_pif_that_is_down() -> None:
    w = World.new()
    configure(w, "eth1")
    w.vlan(w.nic_pif("eth1").ref, 100)
    assert bridge(w.derive(), "xenbr1").ip.ipv4_mode is Ipv4Mode.STATIC
    w.call("PIF.unplug", self=w.nic_pif("eth1").ref)
    assert bridge(w.derive(), "xenbr1").ip == IpConfig()


def test_a_nic_keeps_its_address_whichever_of_it_and_its_vlan_has_the_lower_uuid() -> None:
    w = World.new()
    configure(w, "eth1")
    vlan = w.txn.get(VLAN, w.vlan(w.nic_pif("eth1").ref, 100))
    for uuid in ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"):
        w.txn.update(PIF, vlan.untagged_PIF, uuid=uuid)
        assert bridge(w.derive(), "xenbr1").ip.ipv4_address == "10.0.0.5/24"


def test_only_one_interface_gives_gateway_and_dns() -> None:
    w = World.new()
    configure(w, "eth1")
    secondary = bridge(w.derive(), "xenbr1").ip
    assert (secondary.ipv4_address, secondary.ipv4_gateway, secondary.dns_servers) == ("10.0.0.5/24", "", ())
    w.txn.update(PIF, w.nic_pif("eth1").ref, other_config={"defaultroute": "true"})
    state = w.derive()
    assert bridge(state, "xenbr1").ip.ipv4_gateway == "10.0.0.1"
    assert bridge(state, "xenbr0").ip.ipv4_gateway == ""
    assert bridge(state, "xenbr0").ip.dns_servers == ("192.0.2.53",)
    config = {"defaultroute": "true", "peerdns": "true", "domain": "a.example, b.example"}
    w.txn.update(PIF, w.nic_pif("eth1").ref, other_config=config)
    ip = bridge(w.derive(), "xenbr1").ip
    assert (ip.dns_servers, ip.dns_search) == (("10.0.0.53",), ("a.example", "b.example"))


def test_without_management_any_interface_with_an_address_is_the_gateway() -> None:
    w = World.new()
    w.call("host.management_disable")
    w.txn.update(PIF, w.nic_pif("eth0").ref, ip_configuration_mode=IpConfigurationMode.NONE)
    configure(w, "eth2")
    assert bridge(w.derive(), "xenbr2").ip.ipv4_gateway == "10.0.0.1"


def test_a_lease_may_set_routes_only_on_the_gateway_interface() -> None:
    w = World.new()
    for device in ("eth0", "eth1"):
        configure(w, device, ip_configuration_mode=IpConfigurationMode.DHCP)
    state = w.derive()
    assert bridge(state, "xenbr0").ip == IpConfig(ipv4_mode=Ipv4Mode.DHCP, dhcp_routes=True, dhcp_dns=True)
    assert bridge(state, "xenbr1").ip == IpConfig(ipv4_mode=Ipv4Mode.DHCP)


def test_ipv6_addresses_and_gateway() -> None:
    w = World.new()
    configure(
        w,
        "eth0",
        ip_configuration_mode=IpConfigurationMode.NONE,
        primary_address_type=PrimaryAddressType.IPV6,
        ipv6_configuration_mode=Ipv6ConfigurationMode.STATIC,
        IPv6=("FD00:0::5/64", "nonsense", ""),
        ipv6_gateway="fd00::1",
        DNS="fd00::53",
    )
    ip = bridge(w.derive(), "xenbr0").ip
    assert (ip.ipv6_mode, ip.ipv6_addresses) == (Ipv6Mode.STATIC, ("fd00::5/64",))
    assert (ip.ipv6_gateway, ip.dns_servers, ip.ipv4_mode) == ("fd00::1", ("fd00::53",), Ipv4Mode.NONE)


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        ("10.9.0.0/16/192.0.2.254", ("10.9.0.0/16 via 192.0.2.254",)),
        (
            "10.9.0.0/16/192.0.2.254,10.8.1.1/24/192.0.2.253",
            ("10.9.0.0/16 via 192.0.2.254", "10.8.1.0/24 via 192.0.2.253"),
        ),
        ("10.9.0.0/16/192.0.2.254,bad", ()),
        ("10.9.0.0/192.0.2.254", ()),
        ("", ()),
    ],
)
def test_one_bad_static_route_and_none_applies(text: str, routes: tuple[str, ...]) -> None:
    w = World.new()
    w.txn.update(Network, w.nic_network("eth0"), other_config={"static-routes": text})
    assert bridge(w.derive(), "xenbr0").ip.routes == routes
    w.txn.update(Network, w.nic_network("eth1"), other_config={"static-routes": text})
    assert bridge(w.derive(), "xenbr1").ip.routes == ()  # no address, no way to the gateway
    configure(w, "eth1")
    assert bridge(w.derive(), "xenbr1").ip.routes == ()  # it is not in that subnet
    configure(w, "eth1", ip_configuration_mode=IpConfigurationMode.DHCP)
    assert bridge(w.derive(), "xenbr1").ip.routes == routes  # the lease decides


def test_an_internal_network_is_there_while_a_vm_here_uses_it() -> None:
    w = World.new()
    network = w.network(bridge="inside")
    vm = w.vm()
    vif = w.vif(vm, network)
    assert w.derive().bridge("inside") is None
    w.start(vm)
    made = bridge(w.derive(), "inside")
    assert (made.uplink, made.parent, made.mac) == (None, "", "")
    w.call("VM.pause", vm=vm)
    assert w.derive().bridge("inside") == made
    w.call("VM.unpause", vm=vm)
    w.call("VIF.unplug", self=vif)
    assert w.derive().bridge("inside") is None
    w.txn.update(Network, network, other_config={"persist": "true"})
    assert w.derive().bridge("inside") == made


def test_the_internal_management_network_has_its_address_when_used() -> None:
    w = World.new()
    himn = next(n.ref for n in w.txn.all(Network) if n.bridge == "xenapi")
    assert w.derive().bridge("xenapi") is None
    vm = w.vm()
    w.vif(vm, himn)
    w.start(vm)
    ip = bridge(w.derive(), "xenapi").ip
    assert (ip.ipv4_mode, ip.ipv4_address) == (Ipv4Mode.STATIC, "169.254.0.1/16")


def test_the_nbd_port_is_open_on_networks_with_the_purpose_and_an_attached_pif_here() -> None:
    w = World.new(nics=3)
    for number, purpose in enumerate(("nbd", "insecure_nbd", "nbd")):
        w.txn.update(Network, w.nic_network(f"eth{number}"), purpose=(NetworkPurpose(purpose),))
    w.txn.update(PIF, w.nic_pif("eth2").ref, currently_attached=False)
    assert w.derive().nbd_bridges == ("xenbr0", "xenbr1")


def test_another_hosts_vms_and_pifs_are_not_here() -> None:
    w = World.new()
    other = w.host()
    vm = w.vm()
    w.vif(vm, w.network())
    before = w.derive()
    w.call("VM.start_on", vm=vm, host=other, start_paused=False, force=False)
    assert w.derive() == before
    state = derive(w.txn, other)
    assert [port.device for port in state.ports] == ["vif1.0"]
    assert state.management_bridge == ""


def test_a_locked_port_carries_its_addresses_in_canonical_form() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(
        vm,
        w.network(),
        MAC="00:16:3E:00:00:0A",
        locking_mode=VifLockingMode.LOCKED,
        ipv4_allowed=("10.0.0.9/32", "10.0.0.1", "10.0.0.1"),
        ipv6_allowed=("FE80:0::1",),
        trunks=(9, 3, 9, 4095),
    )
    w.start(vm)
    (port,) = w.derive().ports
    assert port.lock == PortLock(
        mode=LockMode.LOCKED,
        mac="00:16:3e:00:00:0a",
        ipv4_allowed=("10.0.0.1", "10.0.0.9"),
        ipv6_allowed=("fe80::1",),
        trunks=(3, 9),
    )
    assert port.vm_uuid == w.txn.get(VM, vm).uuid


def test_an_unlocked_port_needs_no_addresses() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.network(), MAC="00:16:3e:00:00:0a", ipv4_allowed=("10.0.0.1",))
    w.start(vm)
    assert w.derive().ports[0].lock == PortLock(mode=LockMode.UNLOCKED, mac="00:16:3e:00:00:0a")


def test_mtus_are_kept_to_what_a_kernel_takes() -> None:
    w = World.new()
    vm = w.vm()
    w.vif(vm, w.network(MTU=99999, bridge="big"), other_config={"mtu": "9"})
    w.start(vm)
    state = w.derive()
    assert bridge(state, "big").mtu_bytes == 65521
    assert state.ports[0].mtu_bytes == 68


def test_the_pools_keys_are_overridden_by_networks_and_pifs() -> None:
    w = World.new()
    key = "vswitch-controller-fail-mode"
    w.pool(other_config={key: "secure"})
    w.txn.update(Network, w.nic_network("eth1"), other_config={key: "standalone"})
    w.txn.update(Network, w.nic_network("eth2"), other_config={key: "standalone"})
    w.txn.update(PIF, w.nic_pif("eth2").ref, other_config={key: "secure"})
    state = w.derive()
    assert [bridge(state, f"xenbr{n}").fail_mode_secure for n in range(3)] == [True, False, True]


def test_a_bonds_options_come_from_it_and_its_masters_keys() -> None:
    w = World.new()
    members = (w.nic_pif("eth2").ref, w.nic_pif("eth1").ref)
    w.call("Bond.create", network=w.network(bridge="b"), members=members, MAC="", mode=BondMode.LACP)
    options = bridge(w.derive(), "b").uplink.bond  # type: ignore[union-attr]
    assert options is not None
    assert options.mode is StateBondMode.LACP
    assert dict(options.properties) == {
        "hashing_algorithm": "tcpudp_ports",
        "lacp-fallback-ab": "true",
        "lacp-time": "slow",
    }
    master = next(p.ref for p in w.txn.all(PIF) if p.bond_master_of)
    config = {
        "bond-mode": "active-backup",
        "bond-updelay": "5",
        "bond-miimon": "x",
        "bond-use_carrier": "0",
        "bond-extra": "e",
    }
    w.txn.update(PIF, master, other_config=config)
    options = bridge(w.derive(), "b").uplink.bond  # type: ignore[union-attr]
    assert options is not None
    assert (options.mode, options.updelay_ms, options.miimon_ms, options.use_carrier) == (
        StateBondMode.ACTIVE_BACKUP,
        5,
        100,
        False,
    )
    assert dict(options.properties)["extra"] == "e"


def test_what_cannot_be_is_left_out_and_the_rest_stands() -> None:
    w = World.new()
    before = w.derive()
    w.txn.update(PIF, w.nic_pif("eth1").ref, IP="x", ip_configuration_mode=IpConfigurationMode.STATIC)
    twin = w.unmanaged_pif(w.network())
    w.txn.update(PIF, twin, device="eth0", managed=True, currently_attached=True)
    vlan = w.vlan(w.nic_pif("eth2").ref, 7)
    w.txn.update(VLAN, vlan, tag=5000)
    assert w.derive() == before
    assert contradictions(w.derive()) == ()


def test_a_vlan_of_a_vlan_is_left_out() -> None:
    w = World.new()
    lower = w.txn.get(VLAN, w.vlan(w.nic_pif("eth1").ref, 7))
    upper = w.vlan(w.nic_pif("eth1").ref, 8)
    w.txn.update(VLAN, upper, tagged_PIF=lower.untagged_PIF)
    assert contradictions(w.derive()) == ()
    assert sum(b.vlan_tag >= 0 for b in w.derive().bridges) == 1


def test_an_unknown_host_has_nothing() -> None:
    w = World.new()
    assert derive(w.txn, Ref("OpaqueRef:none")) == HostNetwork()


def test_a_thousand_vifs_are_derived_quickly() -> None:
    w = World.new()
    networks = [w.network() for _ in range(50)]
    for number in range(250):
        vm = w.vm()
        for device in range(4):
            w.vif(
                vm,
                networks[(number + device) % 50],
                device=str(device),
                locking_mode=VifLockingMode.LOCKED,
                ipv4_allowed=(f"10.{number}.{device}.1",),
            )
        w.start(vm)
    assert w.txn.count(VIF) == 1000
    derive(w.txn, LOCAL)
    times = []
    for _ in range(5):
        began = time.process_time()
        state = derive(w.txn, LOCAL)
        times.append(time.process_time() - began)
    assert len(state.ports) == 1000
    assert min(times) < 0.2  # 0.03 s on a quiet machine of 2020; the margin is for slow and busy ones


def committed() -> tuple[Database, World, Ref[Host]]:
    """A pool of two hosts whose rows are committed, and a transaction to change it."""
    database = Database.open(MemoryEngine())
    ctx = replace(World.new(nics=2).ctx, txn=database.begin())
    startup.first_boot(ctx, "11111111-1111-1111-1111-111111111111", GREETING, facts_with(2))
    other = World(ctx=ctx).host(nics=2)
    for pif in ctx.txn.where(PIF, host=other):
        ctx.txn.update(PIF, pif.ref, currently_attached=True)
    database.commit_now(ctx.txn.changes())
    return database, World(ctx=replace(ctx, txn=database.begin())), other


def test_a_vif_elsewhere_is_no_reason_to_look_at_a_host_again() -> None:
    """Though the network that both have says then that it has one VIF more."""
    database, w, other = committed()
    (local,) = {*database.view.refs(Host)} - {other}
    shared = next(row.network for row in w.txn.where(PIF, host=local, device="eth0"))
    deriver = Deriver()
    before = deriver.derive(database.view, (local, other))
    w.vif(vm := w.vm(), shared)
    w.call("VM.start_on", vm=vm, host=local, start_paused=False, force=False)
    after = deriver.derive(w.txn, (local, other))
    assert after[other] is before[other]
    assert len(after[local].ports) == 1
    w.txn.update(Network, shared, other_config={"ethtool-gso": "off"})
    later = deriver.derive(w.txn, (local, other))
    assert all(len(later[host].links) == len(before[host].links) + 1 for host in later)


def test_what_many_commits_have_changed_is_found_all_the_same() -> None:
    """Nobody remembers so many; then everything is looked at."""
    database, _, _ = committed()
    deriver = Deriver()
    deriver.derive(database.view, database.view.refs(Host))
    pif = next(row for row in database.view.all(PIF) if row.device == "eth0")

    def set_mtu(mtu_bytes: int) -> None:
        txn = database.begin()
        txn.update(PIF, pif.ref, MTU=mtu_bytes)
        database.commit_now(txn.changes())

    mark = database.view.mark(PIF)
    set_mtu(1400)
    assert database.view.changed_since(PIF, mark) == frozenset((str(pif.ref),))
    for number in range(CHANGES_REMEMBERED):
        set_mtu(1000 + number % 2)
    assert database.view.changed_since(PIF, mark) is None
    set_mtu(1300)
    state = deriver.derive(database.view, database.view.refs(Host))[pif.host]
    assert bridge(state, "xenbr0").mtu_bytes == 1300


def test_a_vlan_cannot_be_on_the_bridge_that_would_be_its_own() -> None:
    """No call makes such rows, but a database may have them: the bridge under the VLAN is the NIC's."""
    database, w, other = committed()
    (local,) = {*database.view.refs(Host)} - {other}
    nic = next(pif for pif in w.txn.where(PIF, host=local) if pif.device == "eth1")
    vlan = w.vlan(nic.ref, 10, w.network(bridge="blue"))
    untagged = w.txn.get(VLAN, vlan).untagged_PIF
    w.txn.update(PIF, nic.ref, currently_attached=False)
    w.txn.update(PIF, untagged, network=nic.network)
    state = derive(w.txn, local)
    assert contradictions(state) == ()
    assert not any(bridge.parent for bridge in state.bridges)


def test_a_vlan_that_was_in_the_way_of_another_is_not_any_more() -> None:
    """Only the row of the VLAN changes then, of which the host had nothing."""
    database, w, other = committed()
    (local,) = {*database.view.refs(Host)} - {other}
    tagged = next(pif for pif in w.txn.where(PIF, host=local) if pif.device == "eth1")
    first, second = (w.vlan(tagged.ref, tag, w.network(bridge=f"blue{tag}")) for tag in (10, 20))
    w.txn.update(VLAN, second, tag=10)
    database.commit_now(w.txn.changes())
    deriver = Deriver()

    def tags() -> list[int]:
        state = deriver.derive(database.view, (local,))[local]
        return sorted(bridge.vlan_tag for bridge in state.bridges if bridge.parent)

    assert tags() == [10]
    for vlan, tag, expected in ((second, 30, [10, 30]), (first, 30, [30]), (first, 40, [30, 40])):
        txn = database.begin()
        txn.update(VLAN, vlan, tag=tag)
        database.commit_now(txn.changes())
        assert tags() == expected
