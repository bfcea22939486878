from __future__ import annotations

from dataclasses import replace

from poolnet.hostnet.diff import diff
from poolnet.hostnet.drift import Change
from poolnet.hostnet.protocol import DriftFound, LocksSeen
from poolnet.hostnet.state import Bridge, DriftPolicy, HostNetwork, IpConfig, Ipv4Mode
from poolnet.model.classes.message import Message
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode
from poolnet.model.types import Ref
from poolnet.rules.drift import adopt
from poolnet.rules.lock_evidence import record_locks
from tests.unit.rules.world import LOCAL, NOW, World, refused


def changed(network: HostNetwork, name: str, **fields: object) -> HostNetwork:
    """The state with a bridge that somebody has changed."""
    bridges = (replace(b, **fields) if b.name == name else b for b in network.bridges)  # type: ignore[arg-type]
    return replace(network, bridges=tuple(bridges))


def without(network: HostNetwork, name: str) -> HostNetwork:
    return replace(network, bridges=tuple(b for b in network.bridges if b.name != name))


def vlan(w: World, tag: int = 20) -> tuple[Ref[VLAN], Bridge]:
    ref = w.vlan(w.nic_pif("eth1").ref, tag)
    (bridge,) = (b for b in w.derive().bridges if b.vlan_tag == tag)
    return ref, bridge


def require_adopted(w: World, actual: HostNetwork) -> None:
    """What was changed is what is intended now: nothing is left to be done on the host."""
    assert diff(actual, w.derive()).steps == ()


def test_the_policy_is_the_pools_and_unknown_words_are_none() -> None:
    w = World.new()
    pool = next(iter(w.txn.refs(Pool)))
    assert w.derive().drift is DriftPolicy.REPAIR
    w.call("pool.add_to_other_config", self=pool, key="network-drift", value="leave")
    assert w.derive().drift is DriftPolicy.LEAVE
    with refused("MAP_DUPLICATE_KEY", "pool", "other_config", pool, "network-drift"):
        w.call("pool.add_to_other_config", self=pool, key="network-drift", value="adopt")
    w.call("pool.set_other_config", self=pool, value={"network-drift": "adopt", "a": "b"})
    assert w.derive().drift is DriftPolicy.ADOPT
    w.call("pool.set_other_config", self=pool, value={"network-drift": "burn it"})
    assert w.derive().drift is DriftPolicy.REPAIR
    w.call("pool.remove_from_other_config", self=pool, key="network-drift")
    assert w.txn.get(Pool, pool).other_config == {}


def test_a_policy_alone_is_no_step_for_a_host() -> None:
    w = World.new()
    before = w.derive()
    assert diff(before, replace(before, drift=DriftPolicy.LEAVE)).steps == ()


def with_dns(network: HostNetwork, name: str, *servers: str) -> HostNetwork:
    """The state with other name servers in the file."""
    bridge = network.bridge(name)
    assert bridge is not None
    return changed(network, name, ip=replace(bridge.ip, dns_servers=servers))


def test_name_servers_are_taken_over_also_those_of_the_management() -> None:
    w = World.new()
    pif = w.nic_pif("eth0")
    assert pif.management
    w.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.STATIC)
    for servers in (("198.51.100.1", "2001:db8::53"), ()):
        actual = with_dns(w.derive(), "xenbr0", *servers)
        said = f"the name servers of xenbr0 are {', '.join(servers) or 'none'}"
        assert adopt(w.ctx, host=LOCAL, actual=actual) == (said,)
        assert tuple(filter(None, w.nic_pif("eth0").DNS.split(","))) == servers
        require_adopted(w, actual)


def test_what_is_no_name_server_is_left_and_so_is_what_is_leased() -> None:
    w = World.new()
    pif = w.nic_pif("eth0")
    w.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.STATIC, DNS="192.0.2.53")
    odd = with_dns(w.derive(), "xenbr0", "192.0.2.53", "options timeout:1")
    assert adopt(w.ctx, host=LOCAL, actual=odd) == ()
    w.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.DHCP)
    assert adopt(w.ctx, host=LOCAL, actual=with_dns(w.derive(), "xenbr0", "198.51.100.1")) == ()
    assert w.nic_pif("eth0").DNS == "192.0.2.53"


def test_a_tag_is_taken_over() -> None:
    w = World.new()
    ref, bridge = vlan(w)
    actual = changed(w.derive(), bridge.name, vlan_tag=30)
    assert adopt(w.ctx, host=LOCAL, actual=actual) == (f"the tag of {bridge.name} is 30",)
    row = w.txn.get(VLAN, ref)
    assert (row.tag, w.txn.get(PIF, row.untagged_PIF).VLAN) == (30, 30)
    require_adopted(w, actual)


def test_a_tag_that_another_vlan_has_is_left() -> None:
    w = World.new()
    ref, bridge = vlan(w)
    vlan(w, 30)
    assert adopt(w.ctx, host=LOCAL, actual=changed(w.derive(), bridge.name, vlan_tag=30)) == ()
    assert w.txn.get(VLAN, ref).tag == 20


def test_a_bridge_that_is_gone_is_an_unplugged_pif_unless_somebody_uses_it() -> None:
    w = World.new()
    ref, bridge = vlan(w)
    pif = w.txn.get(PIF, w.txn.get(VLAN, ref).untagged_PIF)
    vm = w.vm()
    w.vif(vm, pif.network)
    w.start(vm)
    assert adopt(w.ctx, host=LOCAL, actual=without(w.derive(), bridge.name)) == ()
    w.call("VM.hard_shutdown", vm=vm)
    actual = without(w.derive(), bridge.name)
    assert adopt(w.ctx, host=LOCAL, actual=actual) == (f"eth1 is unplugged: bridge {bridge.name} is gone",)
    assert not w.txn.get(PIF, pif.ref).currently_attached
    require_adopted(w, actual)


def test_mtu_and_address_are_taken_over() -> None:
    w = World.new()
    pif = w.nic_pif("eth1")
    w.call(
        "PIF.reconfigure_ip",
        self=pif.ref,
        mode=IpConfigurationMode.STATIC,
        IP="10.0.0.1",
        netmask="255.255.255.0",
        gateway="",
        DNS="",
    )
    (name,) = (b.name for b in w.derive().bridges if b.ip.ipv4_address == "10.0.0.1/24")
    ip = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="10.0.0.2/16")
    actual = changed(w.derive(), name, mtu_bytes=1400, ip=ip)
    assert adopt(w.ctx, host=LOCAL, actual=actual) == (
        f"the MTU of {name} is 1400",
        f"the address of {name} is 10.0.0.2/16",
    )
    row = w.nic_pif("eth1")
    assert (row.IP, row.netmask, row.MTU) == ("10.0.0.2", "255.255.0.0", 1400)
    require_adopted(w, actual)


def test_what_carries_the_management_is_never_taken_over() -> None:
    w = World.new()
    before = w.derive()
    assert adopt(w.ctx, host=LOCAL, actual=without(before, before.management_bridge)) == ()
    assert w.derive() == before


def test_an_alert_says_what_was_changed_and_what_became_of_it() -> None:
    w = World.new()
    found = Change(subject="bridge xapi1", field="vlan_tag", was="20", now="30")
    seen = LocksSeen(drifts=(DriftFound(changes=(found,), repaired=False),))
    record_locks(w.txn, LOCAL, seen, NOW, w.ctx.new_uuid)
    (alert,) = w.txn.all(Message)
    assert (alert.name, alert.priority) == ("HOST_NETWORK_DRIFT", 3)
    assert alert.body.splitlines() == [
        "The network of host1 was changed by somebody else; it was left as it is:",
        "bridge xapi1: vlan_tag is 30, not 20",
    ]
