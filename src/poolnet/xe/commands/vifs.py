"""Which commands change virtual interfaces? (spec xe-cli §7)."""

from __future__ import annotations

import secrets
from typing import Final

from poolnet.xe.commands import selectors
from poolnet.xe.commands.command import Call, Command, Selects
from poolnet.xe.commands.generic import show
from poolnet.xe.commands.one_call import one_call, ref, uuid_of
from poolnet.xe.fields.catalog import TABLES
from poolnet.xe.params import items
from poolnet.xe.refusals import Refused
from poolnet.xe.texts import enum_value

SHOWN: Final = ("uuid", "vm-name-label", "device", "MAC", "network-uuid", "network-name-label")
LOCALLY_ADMINISTERED: Final = 0x02
MULTICAST: Final = 0x01


async def _vm_vif_list(call: Call) -> None:
    defaults = (selectors.NO_TEMPLATES, selectors.NO_CONTROL_DOMAINS)
    found = await selectors.matching(call, selectors.VM, ("params",), defaults)
    vifs = {}
    for record in found.values():
        for vif in record["VIFs"] if isinstance(record["VIFs"], tuple) else ():
            read = await call.reader.record("VIF", str(vif))
            if read is not None:
                vifs[str(vif)] = read
    table = TABLES["vif"]
    wanted = call.params.find("params")
    names = SHOWN if wanted is None else items(wanted)
    fields = tuple(each for each in table.visible if each.name in names or wanted == "all")
    await show(call, fields, vifs)


async def _vif_create(call: Call) -> None:
    vm, network = await call.find("VM", "vm-uuid"), await call.find("network", "network-uuid")
    mac = call.params.get("mac")
    record = {
        "device": call.params.required("device"),
        "network": network,
        "VM": vm,
        "MAC": _random_mac() if mac == "random" else mac,
        "MTU": await call.api("network.get_MTU", network),
        "other_config": {},
        "currently_attached": False,
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        "locking_mode": enum_value("vif_locking_mode", "network_default"),
        "ipv4_allowed": (),
        "ipv6_allowed": (),
    }
    await uuid_of("VIF")(call, await call.api("VIF.create", record))


def _random_mac() -> str:
    """Make up a locally administered unicast address."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = (octets[0] | LOCALLY_ADMINISTERED) & ~MULTICAST & 0xFF
    return octets.hex(":")


async def _vif_unplug(call: Call) -> None:
    vif = await call.find("VIF")
    await call.api("VIF.unplug_force" if call.params.flag("force") else "VIF.unplug", vif)


async def _configure_ipv4(call: Call) -> None:
    await _configure(call, "VIF.configure_ipv4", "vif_ipv4_configuration_mode")


async def _configure_ipv6(call: Call) -> None:
    await _configure(call, "VIF.configure_ipv6", "vif_ipv6_configuration_mode")


async def _configure(call: Call, method: str, enum: str) -> None:
    vif = await call.find("VIF")
    mode = enum_value(enum, call.params.required("mode"))
    if mode == "Static" and "address" not in call.params:
        raise Refused("Required parameter not found: address")
    await call.api(method, vif, mode, call.params.get("address"), call.params.get("gateway"))


COMMANDS: Final = (
    Command(
        name="vm-vif-list",
        action=_vm_vif_list,
        selects=Selects.VM,
        common=True,
        changes=False,
        summary="Lists the virtual interfaces of the selected VMs.",
    ),
    Command(
        name="vif-create",
        action=_vif_create,
        required=("device", "network-uuid", "vm-uuid"),
        optional=("mac",),
        summary="Creates a virtual interface of a VM; mac=random makes up an address. Prints its uuid.",
    ),
    one_call(
        "vif-destroy",
        "VIF.destroy",
        ref("VIF"),
        required=("uuid",),
        summary="Destroys a virtual interface that is not plugged.",
    ),
    one_call(
        "vif-plug",
        "VIF.plug",
        ref("VIF"),
        required=("uuid",),
        summary="Plugs a virtual interface into its running VM.",
    ),
    Command(
        name="vif-unplug",
        action=_vif_unplug,
        required=("uuid",),
        optional=("force",),
        summary="Unplugs a virtual interface from its running VM; with force, without asking the VM.",
    ),
    Command(
        name="vif-configure-ipv4",
        action=_configure_ipv4,
        required=("uuid", "mode"),
        optional=("address", "gateway"),
        summary="Tells a VM's driver to give an interface an IPv4 address (mode is None or Static).",
    ),
    Command(
        name="vif-configure-ipv6",
        action=_configure_ipv6,
        required=("uuid", "mode"),
        optional=("address", "gateway"),
        summary="Tells a VM's driver to give an interface an IPv6 address (mode is None, Static or Autoconf).",
    ),
    one_call(
        "vif-move",
        "VIF.move",
        ref("VIF"),
        ref("network", "network-uuid"),
        required=("uuid", "network-uuid"),
        summary="Moves a virtual interface to another network, plugged or not.",
    ),
)
