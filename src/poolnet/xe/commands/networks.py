"""Which commands change networks, NICs, bonds, VLANs, tunnels and SR-IOV? (spec xe-cli §7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from poolnet.model.errors import Failure, host_offline, internal_error
from poolnet.model.types import Ref, Value
from poolnet.xe.caller import Record
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.one_call import any_case, choice, flag, one_call, ref, refs, text, uuid_of
from poolnet.xe.params import integer, whole_number
from poolnet.xe.refusals import Refused
from poolnet.xe.texts import enum_value

ALLOW_MISSING: Final = "allow-missing-hosts"
_LEFT_OUT: Final = (
    f"Refused while a host is down, unless {ALLOW_MISSING}=true: it gets them when it comes back."
)
DEFAULT_MTU: Final = "1500"
DEFAULT_BOND_MODE: Final = "balance-slb"
_NOT_A_PIF_UUID: Final = ("HANDLE_INVALID", "HOST_OFFLINE")


async def _network_create(call: Call) -> None:
    mtu = whole_number(call.params.get("MTU", DEFAULT_MTU))
    if mtu is None:
        raise internal_error("Failure: Int64.of_string")
    record: dict[str, Value] = {
        "name_label": call.params.required("name-label"),
        "name_description": call.params.get("name-description"),
        "MTU": mtu,
        "bridge": call.params.get("bridge"),
        "managed": call.params.flag("managed", default=True),
        "other_config": {},
        "tags": (),
    }
    await uuid_of("network")(call, await call.api("network.create", record))


async def _network_and_pif(call: Call) -> tuple[str, str]:
    """Find the network first and the PIF then: an error names the first that is wrong."""
    return await call.find("network", "network-uuid"), await call.find("PIF", "pif-uuid")


async def _vlan_create(call: Call) -> None:
    network, pif = await _network_and_pif(call)
    tag = integer("vlan", call.params.required("vlan"))
    vlan = await call.api("VLAN.create", pif, tag, network)
    await uuid_of("PIF")(call, await call.api("VLAN.get_untagged_PIF", vlan))


async def _vlan_destroy(call: Call) -> None:
    """Destroy a VLAN by its own uuid, or else by that of its untagged PIF."""
    try:
        await call.api("VLAN.destroy", await call.find("VLAN"))
    except Failure as failure:
        if failure.code in _NOT_A_PIF_UUID:
            raise
        try:
            pif = await call.find("PIF")
        except Failure:
            raise failure from None
        await call.api("PIF.destroy", pif)


async def _pool_vlan_create(call: Call) -> None:
    network, pif = await _network_and_pif(call)
    tag = integer("vlan", call.params.required("vlan"))
    await _require_all_hosts(call)
    pifs = cast("tuple[str, ...]", await call.api("pool.create_VLAN_from_PIF", pif, network, tag))
    await call.printer.list([str(await call.api("PIF.get_uuid", each)) for each in pifs])


async def _pool_bond_create(call: Call) -> None:
    network = await call.find("network", "network-uuid")
    pifs = await refs("PIF", "pif-uuids")(call)
    mode = _bond_mode(call.params.get("mode", DEFAULT_BOND_MODE))
    await _require_all_hosts(call)
    properties = call.params.mapping("properties")
    bonds = cast("tuple[str, ...]", await call.api("pool.create_bond", network, pifs, mode, properties))
    await call.printer.list([str(await call.api("Bond.get_uuid", each)) for each in bonds])


async def _require_all_hosts(call: Call) -> None:
    """Refuse to leave hosts out that are down, unless told to; they get it when they come back.

    Raises:
        Failure: HOST_OFFLINE, of the first such host.
    """
    if call.params.flag(ALLOW_MISSING):
        return
    hosts = cast("Mapping[str, Record]", await call.api("host.get_all_records"))
    metrics = cast("Mapping[str, Record]", await call.api("host_metrics.get_all_records"))
    for host, record in hosts.items():
        known = metrics.get(str(record["metrics"]))
        if known is not None and not known["live"]:
            raise host_offline(Ref(host))


async def _tunnel_create(call: Call) -> None:
    network, pif = await _network_and_pif(call)
    protocol = enum_value("tunnel_protocol", call.params.get("protocol", "gre"))
    tunnel = await call.api("tunnel.create", pif, network, protocol)
    await uuid_of("PIF")(call, await call.api("tunnel.get_access_PIF", tunnel))


async def _bond_create(call: Call) -> None:
    network = await call.find("network", "network-uuid")
    pifs = await refs("PIF", "pif-uuids")(call)
    mode = _bond_mode(call.params.get("mode", DEFAULT_BOND_MODE))
    mac, properties = call.params.get("mac"), call.params.mapping("properties")
    await uuid_of("Bond")(call, await call.api("Bond.create", network, pifs, mac, mode, properties))


async def _bond_set_mode(call: Call) -> None:
    bond = await call.find("Bond")
    await call.api("Bond.set_mode", bond, _bond_mode(call.params.required("mode")))


def _bond_mode(given: str) -> str:
    """Read a bond mode in any case; an empty text is the default."""
    try:
        return enum_value("bond_mode", given or DEFAULT_BOND_MODE)
    except Refused:
        raise Refused(f"Invalid bond mode. Got {given.lower()}") from None


COMMANDS: Final = (
    Command(
        name="network-create",
        action=_network_create,
        required=("name-label",),
        optional=("name-description", "MTU", "bridge", "managed"),
        summary="Creates an internal network, to which NICs can be connected later. Prints its uuid.",
    ),
    one_call(
        "network-destroy",
        "network.destroy",
        ref("network"),
        required=("uuid",),
        summary="Destroys a network that no NIC and no virtual interface uses.",
    ),
    one_call(
        "network-attach",
        "network.attach",
        ref("network"),
        ref("host", "host-uuid"),
        required=("uuid", "host-uuid"),
        hidden=True,
        summary="Makes a network available on a host.",
    ),
    one_call(
        "network-sriov-create",
        "network_sriov.create",
        ref("PIF", "pif-uuid"),
        ref("network", "network-uuid"),
        prints=uuid_of("network_sriov"),
        required=("pif-uuid", "network-uuid"),
        summary="Turns a NIC with virtual functions into an SR-IOV network. Prints the uuid of the SR-IOV object.",
    ),
    one_call(
        "network-sriov-destroy",
        "network_sriov.destroy",
        ref("network_sriov"),
        required=("uuid",),
        summary="Ends the use of a NIC's virtual functions.",
    ),
    one_call(
        "pif-plug",
        "PIF.plug",
        ref("PIF"),
        required=("uuid",),
        summary="Brings a physical interface up, with everything below it.",
    ),
    one_call(
        "pif-unplug",
        "PIF.unplug",
        ref("PIF"),
        required=("uuid",),
        summary="Brings a physical interface down.",
    ),
    one_call(
        "pif-reconfigure-ip",
        "PIF.reconfigure_ip",
        ref("PIF"),
        choice("mode", "ip_configuration_mode"),
        any_case("IP"),
        text("netmask"),
        text("gateway"),
        any_case("DNS"),
        required=("uuid", "mode"),
        optional=("IP", "netmask", "gateway", "DNS"),
        summary="Gives the host an IPv4 address on a physical interface (mode is None, DHCP or Static), or takes it.",
    ),
    one_call(
        "pif-reconfigure-ipv6",
        "PIF.reconfigure_ipv6",
        ref("PIF"),
        choice("mode", "ipv6_configuration_mode"),
        any_case("IPv6"),
        text("gateway"),
        any_case("DNS"),
        required=("uuid", "mode"),
        optional=("IPv6", "gateway", "DNS"),
        summary="Gives the host an IPv6 address on a physical interface (mode is None, DHCP, Static or Autoconf).",
    ),
    one_call(
        "pif-set-primary-address-type",
        "PIF.set_primary_address_type",
        ref("PIF"),
        choice("primary_address_type", "primary_address_type"),
        required=("uuid", "primary_address_type"),
        summary="Says whether the IPv4 or the IPv6 address of an interface is used for management.",
    ),
    one_call(
        "pif-scan",
        "PIF.scan",
        ref("host", "host-uuid"),
        required=("host-uuid",),
        summary="Looks for NICs that the host does not know yet, and introduces them.",
    ),
    one_call(
        "pif-introduce",
        "PIF.introduce",
        ref("host", "host-uuid"),
        text("mac"),
        text("device"),
        flag("managed", default=True),
        prints=uuid_of("PIF"),
        required=("host-uuid", "device"),
        optional=("mac", "managed"),
        summary="Makes a NIC of a host known as a physical interface. Prints its uuid.",
    ),
    one_call(
        "pif-forget",
        "PIF.forget",
        ref("PIF"),
        required=("uuid",),
        summary="Forgets a physical interface; pif-scan or pif-introduce brings it back.",
    ),
    one_call(
        "pif-db-forget",
        "PIF.db_forget",
        ref("PIF"),
        required=("uuid",),
        hidden=True,
        summary="Removes the record of a physical interface and nothing else.",
    ),
    Command(
        name="vlan-create",
        action=_vlan_create,
        required=("pif-uuid", "vlan", "network-uuid"),
        summary="Connects a network to a VLAN of a physical interface on one host. Prints the uuid of the new PIF.",
    ),
    Command(
        name="vlan-destroy",
        action=_vlan_destroy,
        required=("uuid",),
        summary="Destroys a VLAN, named by its own uuid or by that of its PIF.",
    ),
    Command(
        name="pool-vlan-create",
        action=_pool_vlan_create,
        required=("pif-uuid", "vlan", "network-uuid"),
        optional=(ALLOW_MISSING,),
        summary=f"Connects a network to a VLAN on every host of the pool. Prints the uuids of the new PIFs. {_LEFT_OUT}",
    ),
    Command(
        name="pool-bond-create",
        action=_pool_bond_create,
        required=("network-uuid", "pif-uuids"),
        optional=("mode", "properties:", ALLOW_MISSING),
        summary="Bonds physical interfaces of one host, and those at the same positions of all other hosts of the pool. "
        f"Prints the uuids of the bonds. {_LEFT_OUT}",
    ),
    Command(
        name="tunnel-create",
        action=_tunnel_create,
        required=("pif-uuid", "network-uuid"),
        optional=("protocol",),
        summary="Connects a network through a tunnel (gre or vxlan) over a physical interface. Prints the new PIF's uuid.",
    ),
    one_call(
        "tunnel-destroy", "tunnel.destroy", ref("tunnel"), required=("uuid",), summary="Destroys a tunnel."
    ),
    Command(
        name="bond-create",
        action=_bond_create,
        required=("network-uuid", "pif-uuids"),
        optional=("mac", "mode", "properties:"),
        summary="Bonds physical interfaces (mode is balance-slb, active-backup or lacp). Prints the uuid of the bond.",
    ),
    one_call(
        "bond-destroy",
        "Bond.destroy",
        ref("Bond"),
        required=("uuid",),
        summary="Destroys a bond; its interfaces stand alone again.",
    ),
    Command(
        name="bond-set-mode",
        action=_bond_set_mode,
        required=("uuid", "mode"),
        summary="Changes the mode of a bond to balance-slb, active-backup or lacp.",
    ),
)
