"""The test vectors: scenarios."""

from __future__ import annotations

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.task import Task
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, TaskStatusType, VmPowerState
from tests.conformance.preconditions.rig import Rig, precondition
from tests.conformance.preconditions.section_28 import vif

STATIC = ("Static", "10.9.9.9", "255.255.255.0", "")


@precondition("28.4.1")
async def numbered_bridges(rig: Rig) -> None:
    """The first number is 1 where the host internal management network took 0, on a fresh server."""
    made = [rig.row(Network, await rig.network()).bridge for _ in range(3)]
    first = int(made[0].removeprefix("xapi"))
    rig.equal(made, [f"xapi{first + n}" for n in range(3)])
    rig.equal(first in (0, 1), True)


@precondition("28.4.2")
async def vifs_before_pifs(rig: Rig) -> None:
    network = rig.network_of("eth1")
    made = await rig.running_on(network)
    await rig.refused(["NETWORK_CONTAINS_VIF", made], "network.destroy", network)
    await rig.call("VM.hard_shutdown", rig.row(VIF, made).VM)
    await rig.refused(["NETWORK_CONTAINS_PIF", rig.nic("eth1")], "network.destroy", network)


@precondition("28.4.4")
async def connected_before_tags(rig: Rig) -> None:
    error = ["NETWORK_ALREADY_CONNECTED", rig.host, rig.nic("eth2")]
    await rig.refused(error, "VLAN.create", rig.nic("eth1"), 9999, rig.network_of("eth2"))


@precondition("28.4.5")
async def vlans_on_members_vlans_and_bonds(rig: Rig) -> None:
    bond = await rig.bond("eth1", "eth2")
    vlan = rig.row(VLAN, await rig.vlan("eth3", 7)).untagged_PIF
    network = await rig.network()
    error = ["CANNOT_ADD_VLAN_TO_BOND_SLAVE", rig.nic("eth1")]
    await rig.refused(error, "VLAN.create", rig.nic("eth1"), 8, network)
    await rig.refused(["PIF_IS_VLAN", vlan], "VLAN.create", vlan, 8, network)
    await rig.accepted("VLAN.create", rig.row(Bond, bond).master, 8, network)


@precondition("28.4.6")
async def a_bond_takes_management(rig: Rig) -> None:
    address = rig.row(Host, rig.host).address
    bond = rig.row(Bond, await rig.bond("eth1", "eth0"))
    master, eth0, eth1 = rig.row(PIF, bond.master), rig.pif("eth0"), rig.pif("eth1")
    rig.equal(bond.primary_slave, eth0.ref)
    rig.equal((master.device, master.IP), ("bond0", "192.0.2.1"))
    rig.equal((eth0.ip_configuration_mode, eth0.IP), (IpConfigurationMode.NONE, ""))
    rig.equal((eth0.management, master.management), (False, True))
    attached = (eth0.currently_attached, eth1.currently_attached, master.currently_attached)
    rig.equal(attached, (False, False, True))
    rig.equal(rig.row(Host, rig.host).address, address)


@precondition("28.4.7")
async def a_bond_takes_a_vlan(rig: Rig) -> None:
    network = await rig.network()
    vlan = await rig.vlan("eth0", 20, network)
    pif = rig.row(VLAN, vlan).untagged_PIF
    made = await rig.running_on(network)
    bond = await rig.bond("eth0", "eth1")
    rig.equal((rig.view.find(VLAN, vlan), rig.view.find(PIF, pif)), (None, None))
    (new,) = rig.view.where(VLAN, tagged_PIF=rig.row(Bond, bond).master)
    rig.equal((new.tag, rig.row(PIF, new.untagged_PIF).network), (20, network))
    row = rig.row(VIF, made)
    rig.equal((row.network, row.currently_attached), (network, True))


@precondition("28.4.8")
async def dissolving_a_bond(rig: Rig) -> None:
    bond = await rig.bond("eth1", "eth0")
    master = rig.row(Bond, bond).master
    network = rig.row(PIF, master).network
    await rig.accepted("Bond.destroy", bond)
    eth0 = rig.pif("eth0")
    rig.equal((eth0.management, eth0.IP, eth0.currently_attached), (True, "192.0.2.1", True))
    rig.equal(rig.pif("eth1").currently_attached, True)
    rig.equal(rig.view.find(PIF, master), None)
    rig.equal(rig.row(Network, network).PIFs, ())


@precondition("28.4.9")
async def two_static_members(rig: Rig) -> None:
    members = [rig.nic("eth1"), rig.nic("eth2")]
    await rig.address("eth1", "10.1.0.1")
    await rig.address("eth2", "10.2.0.1")
    await rig.refused(["PIF_BOND_MORE_THAN_ONE_IP"], "Bond.create", await rig.network(), members, "")
    error = ["INVALID_VALUE", "properties", "hashing_algorithm = src_mac"]
    properties = {"hashing_algorithm": "src_mac"}
    words = ("", "balance-slb", properties)
    await rig.refused(error, "Bond.create", await rig.network(), members, *words)


@precondition("28.4.10")
async def unplugging_management(rig: Rig) -> None:
    pif = rig.nic("eth0")
    await rig.refused(["PIF_IS_MANAGEMENT_INTERFACE", pif], "PIF.unplug", pif)
    await rig.pool(ha_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], "PIF.unplug", pif)


@precondition("28.4.11")
async def unplugging_below_a_vlan(rig: Rig) -> None:
    await rig.vlan("eth1", 7)
    await rig.accepted("PIF.unplug", rig.nic("eth1"))
    rig.equal(rig.pif("eth1").currently_attached, False)
    rig.equal(rig.pif("eth1", 7).currently_attached, True)


@precondition("28.4.12")
async def forgetting_and_scanning(rig: Rig) -> None:
    old = rig.pif("eth1")
    await rig.accepted("PIF.forget", old.ref)
    await rig.accepted("PIF.scan", rig.host)
    new = rig.pif("eth1")
    rig.equal(new.ref != old.ref, True)
    rig.equal(new.network, old.network)


@precondition("28.4.13")
async def another_dns_under_high_availability(rig: Rig) -> None:
    await rig.address("eth1")
    await rig.pool(ha_enabled=True)
    await rig.accepted("PIF.reconfigure_ip", rig.nic("eth1"), *STATIC, "192.0.2.7")
    rig.equal(rig.pif("eth1").DNS, "192.0.2.7")


@precondition("28.4.14")
async def a_tunnel_that_cannot_be_plugged(rig: Rig) -> None:
    """The reference leaves the tunnel behind; here nothing stays (docs/deviations.md)."""
    error = ["TRANSPORT_PIF_NOT_CONFIGURED", rig.nic("eth1")]
    await rig.refused(error, "tunnel.create", rig.nic("eth1"), await rig.network())
    rig.equal(rig.view.count(Tunnel), 0)


@precondition("28.4.15")
async def one_device_twice(rig: Rig) -> None:
    network, vm = await rig.network(), await rig.vm()
    await rig.vif(network, vm, device="1")
    await rig.refused(["DEVICE_ALREADY_EXISTS", "01"], "VIF.create", vif(network, vm, device="01"))


@precondition("28.4.16")
async def destroying_an_attached_vif(rig: Rig) -> None:
    made = await rig.running_on(await rig.network())
    vm = rig.row(VIF, made).VM
    error = ["OPERATION_NOT_ALLOWED", "VIF currently attached to a running VM"]
    await rig.refused(error, "VIF.destroy", made)
    await rig.call("VM.suspend", vm)
    rig.equal(await rig.call("VM.get_power_state", vm), VmPowerState.SUSPENDED)
    await rig.accepted("VIF.destroy", made)


@precondition("28.4.17")
async def locked_without_addresses(rig: Rig) -> None:
    made = await rig.vif(await rig.network())
    await rig.accepted("VIF.set_locking_mode", made, "locked")
    error = ["ADDRESS_VIOLATES_LOCKING_CONSTRAINT", "10.0.0.5/24"]
    await rig.refused(error, "VIF.configure_ipv4", made, "Static", "10.0.0.5/24", "")


@precondition("28.4.18")
async def trunks_and_vlans(rig: Rig) -> None:
    tagged, trunked = await rig.network(), await rig.network()
    await rig.vlan("eth1", 7, tagged)
    made = await rig.vif(tagged)
    await rig.refused(["NETWORK_INCOMPATIBLE_WITH_TRUNKS", tagged], "VIF.add_trunks", made, 10)
    other = await rig.vif(trunked)
    await rig.accepted("VIF.add_trunks", other, 10)
    error = ["NETWORK_INCOMPATIBLE_WITH_TRUNKS", trunked]
    await rig.refused(error, "VLAN.create", rig.nic("eth2"), 8, trunked)


@precondition("28.4.19")
async def purposes(rig: Rig) -> None:
    one, other = await rig.network(), await rig.network()
    await rig.accepted("network.add_purpose", one, "insecure_nbd")
    error = ["NETWORK_INCOMPATIBLE_PURPOSES", "nbd", "insecure_nbd"]
    await rig.refused(error, "network.add_purpose", other, "nbd")


@precondition("28.4.20")
async def one_event_for_a_plug(rig: Rig) -> None:
    made = await rig.running_on(await rig.network())
    await rig.call("VIF.unplug", made)
    batch = await rig.call("event.from", ["vif"], "", 0.0)
    await rig.accepted("VIF.plug", made)
    after = await rig.call("event.from", ["vif"], batch["token"], 0.0)
    (event,) = after["events"]
    rig.equal((event["operation"], event["ref"]), ("mod", made))
    rig.equal(rig.row(VIF, made).currently_attached, True)


@precondition("28.4.22")
async def an_asynchronous_result(rig: Rig) -> None:
    task = await rig.accepted("Async.network.create", {"name_label": "later", "other_config": {}})
    batch = await rig.call("event.from", [f"task/{task}"], "", 10.0)
    while rig.row(Task, task).status is TaskStatusType.PENDING:
        batch = await rig.call("event.from", [f"task/{task}"], batch["token"], 10.0)
    (network,) = rig.view.where(Network, name_label="later")
    rig.equal(rig.row(Task, task).result, f"<value>{network.ref}</value>")


@precondition("28.4.23")
async def events_in_the_background(rig: Rig) -> None:
    error = ["Fault", "No async mode for this operation (rpc: event.from)"]
    await rig.refused(error, "Async.event.from", ["*"], "", 1.0)
