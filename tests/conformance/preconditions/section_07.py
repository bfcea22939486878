"""Networks."""

from __future__ import annotations

from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from tests.conformance.preconditions.rig import Rig, precondition


def record(**fields: object) -> dict[str, object]:
    return {"name_label": "n", "other_config": {}, **fields}


@precondition("7.2.1")
async def an_mtu_that_is_none(rig: Rig) -> None:
    for given, stored in ((0, 1500), (-5, 1500), (1, 1), (99999, 99999)):
        made = await rig.accepted("network.create", record(MTU=given))
        rig.equal(rig.row(Network, made).MTU, stored)


@precondition("7.2.2")
async def a_bridge_is_chosen(rig: Rig) -> None:
    taken = await rig.network()
    number = int(rig.row(Network, taken).bridge.removeprefix("xapi"))
    for expected in (number + 1, number + 2):
        rig.equal(rig.row(Network, await rig.network()).bridge, f"xapi{expected}")


@precondition("7.2.3")
async def a_long_bridge(rig: Rig) -> None:
    await rig.refused(["INVALID_VALUE", "bridge", "b" * 16], "network.create", record(bridge="b" * 16))
    await rig.accepted("network.create", record(bridge="b" * 15))


@precondition("7.2.4")
async def a_reserved_bridge(rig: Rig) -> None:
    for name in ("xenbr0", "xen", "xapi7", "vif1.0", "tap0", "eth0", "ethX"):
        await rig.refused(["INVALID_VALUE", "bridge", name], "network.create", record(bridge=name))


@precondition("7.2.5")
async def a_bridge_that_is_taken(rig: Rig) -> None:
    await rig.network(bridge="mybridge")
    await rig.refused(["BRIDGE_NAME_EXISTS", "mybridge"], "network.create", record(bridge="mybridge"))


@precondition("7.2.6")
async def names_may_repeat(rig: Rig) -> None:
    for _ in range(2):
        await rig.accepted("network.create", record(name_label="the same"))


@precondition("7.4.1")
async def destroying_with_attached_vifs(rig: Rig) -> None:
    network = await rig.network()
    vifs = [await rig.running_on(network), await rig.running_on(network)]
    await rig.vif(network)
    await rig.refused(["NETWORK_CONTAINS_VIF", *vifs], "network.destroy", network)


@precondition("7.4.2")
async def destroying_with_reserved_vifs(rig: Rig) -> None:
    network = await rig.network()
    vif = await rig.vif(network)
    await rig.write(VIF, vif, reserved=True)
    await rig.refused(["NETWORK_CONTAINS_VIF", vif], "network.destroy", network)


@precondition("7.4.3")
async def destroying_with_pifs(rig: Rig) -> None:
    network = rig.network_of("eth1")
    await rig.refused(["NETWORK_CONTAINS_PIF", rig.nic("eth1")], "network.destroy", network)


@precondition("7.4.4")
async def destroying_the_internal_management_network(rig: Rig) -> None:
    (himn,) = (n for n in rig.view.all(Network) if n.bridge == "xenapi")
    await rig.refused(["CANNOT_DESTROY_SYSTEM_NETWORK", himn.ref], "network.destroy", himn.ref)


@precondition("7.4.5")
async def unattached_vifs_go_with_their_network(rig: Rig) -> None:
    network = await rig.network()
    vif = await rig.vif(network)
    metrics = rig.row(VIF, vif).metrics
    await rig.accepted("network.destroy", network)
    rig.equal(rig.view.find(VIF, vif), None)
    rig.equal(await rig.call("VIF_metrics.get_uuid", metrics) != "", True)


@precondition("7.5.1")
async def the_default_mode_of_a_network_in_use(rig: Rig) -> None:
    network = await rig.network()
    vif = await rig.running_on(network)
    for mode in ("unlocked", "locked", "disabled", "network_default"):
        await rig.call("VIF.set_locking_mode", vif, mode)
        method = "network.set_default_locking_mode"
        await rig.refused(["VIF_IN_USE", network, vif], method, network, "disabled")


@precondition("7.6.1")
async def a_purpose_of_an_unmanaged_network(rig: Rig) -> None:
    network = await rig.network(managed=False)
    await rig.refused(["NETWORK_UNMANAGED", network], "network.add_purpose", network, "nbd")


@precondition("7.6.2")
async def a_purpose_that_is_there(rig: Rig) -> None:
    network = await rig.network()
    await rig.call("network.add_purpose", network, "nbd")
    await rig.unchanged("network.add_purpose", network, "nbd")


@precondition("7.6.3")
async def nbd_beside_insecure_nbd(rig: Rig) -> None:
    one, other = await rig.network(), await rig.network()
    await rig.call("network.add_purpose", one, "insecure_nbd")
    for network in (one, other):
        error = ["NETWORK_INCOMPATIBLE_PURPOSES", "nbd", "insecure_nbd"]
        await rig.refused(error, "network.add_purpose", network, "nbd")


@precondition("7.6.4")
async def insecure_nbd_beside_nbd(rig: Rig) -> None:
    one, other = await rig.network(), await rig.network()
    await rig.call("network.add_purpose", one, "nbd")
    error = ["NETWORK_INCOMPATIBLE_PURPOSES", "insecure_nbd", "nbd"]
    await rig.refused(error, "network.add_purpose", other, "insecure_nbd")


@precondition("7.6.5")
async def removing_a_purpose_that_is_not_there(rig: Rig) -> None:
    await rig.unchanged("network.remove_purpose", await rig.network(), "nbd")


@precondition("7.6.6")
async def removing_a_purpose_from_an_unmanaged_network(rig: Rig) -> None:
    network = await rig.network()
    await rig.call("network.add_purpose", network, "nbd")
    await rig.write(Network, network, managed=False)
    await rig.accepted("network.remove_purpose", network, "nbd")
    rig.equal(rig.row(Network, network).purpose, ())


@precondition("7.7.1")
async def attaching_a_network_without_its_bridge(rig: Rig) -> None:
    network = await rig.network(managed=False, bridge="theirs")
    await rig.refused(["BRIDGE_NOT_AVAILABLE", "theirs"], "network.attach", network, rig.host)


@precondition("7.7.2")
async def attaching_the_network_of_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    network, member = rig.network_of("eth1"), rig.nic("eth1")
    await rig.refused(["CANNOT_PLUG_BOND_SLAVE", member], "network.attach", network, rig.host)


@precondition("7.7.3")
async def attaching_the_network_of_an_unmanaged_pif(rig: Rig) -> None:
    await rig.call("PIF.unplug", rig.nic("eth1"))
    pif = await rig.unmanaged("eth1")
    await rig.unchanged("network.attach", rig.network_of("eth1"), rig.host)
    rig.equal(rig.row(PIF, pif).currently_attached, False)
