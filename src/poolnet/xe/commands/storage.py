"""Which commands deal with SRs and PBDs? (spec xe-cli §7)."""

from __future__ import annotations

from typing import Final, cast

from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.one_call import lines, mapping, one_call, ref, uuid_of
from poolnet.xe.params import byte_size
from poolnet.xe.refusals import Refused


async def _host(call: Call, *, shared: bool) -> str:
    """Find the host for a new SR: the one that is named, else the only one, or for a shared SR the coordinator."""
    if "host-uuid" in call.params:
        return await call.find("host", "host-uuid")
    hosts = cast("tuple[str, ...]", await call.api("host.get_all"))
    if not shared and len(hosts) > 1:
        raise Refused("Required parameter not found: host-uuid")
    pools = cast("tuple[str, ...]", await call.api("pool.get_all"))
    return cast(str, await call.api("pool.get_master", pools[0]))


async def _sr_create(call: Call) -> None:
    params = call.params
    shared = params.flag("shared")
    host = await _host(call, shared=shared)
    sr = await call.api(
        "SR.create",
        host,
        params.mapping("device-config"),
        byte_size("physical-size", params.get("physical-size", "0")),
        params.required("name-label"),
        params.get("name-description"),
        params.required("type"),
        params.get("content-type"),
        shared,
        params.mapping("sm-config"),
    )
    await call.client.print(str(await call.api("SR.get_uuid", sr)))


async def _sr_probe(call: Call) -> None:
    host = await _host(call, shared=True)
    config, options = call.params.mapping("device-config"), call.params.mapping("sm-config")
    await lines(call, await call.api("SR.probe", host, config, call.params.required("type"), options))


async def _sr_introduce(call: Call) -> None:
    params = call.params
    uuid = params.required("uuid")
    await call.api(
        "SR.introduce",
        uuid,
        params.required("name-label"),
        params.get("name-description"),
        params.required("type"),
        params.get("content-type"),
        params.flag("shared"),
        {},
    )
    await call.printer.list([uuid])


async def _pbd_create(call: Call) -> None:
    host, sr = await call.find("host", "host-uuid"), await call.find("SR", "sr-uuid")
    config = await mapping("device-config")(call)
    pbd = await call.api("PBD.create", {"host": host, "SR": sr, "device_config": config, "other_config": {}})
    await uuid_of("PBD")(call, pbd)


_ONE_SR: Final = (
    ("scan", "Looks for disks on an SR."),
    ("destroy", "Destroys an SR and what is on it."),
    ("forget", "Forgets an SR; what is on it stays."),
    ("update", "Reads the sizes of an SR again."),
)
_ONE_PBD: Final = (
    ("destroy", "Destroys the connection of a host to an SR."),
    ("plug", "Connects a host to an SR."),
    ("unplug", "Disconnects a host from an SR."),
)

COMMANDS: Final = (
    Command(
        name="sr-create",
        action=_sr_create,
        required=("name-label", "type"),
        optional=(
            "name-description",
            "host-uuid",
            "device-config:",
            "shared",
            "physical-size",
            "content-type",
            "sm-config:",
        ),
        summary="Creates an SR and connects the hosts to it. Prints its uuid.",
    ),
    Command(
        name="sr-probe",
        action=_sr_probe,
        required=("type",),
        optional=("host-uuid", "device-config:", "sm-config:"),
        changes=False,
        summary="Looks what a host can find with a device configuration. Prints what it found.",
    ),
    Command(
        name="sr-introduce",
        action=_sr_introduce,
        required=("name-label", "type", "uuid"),
        optional=("name-description", "shared", "content-type"),
        summary="Makes an SR that was forgotten known again. Prints its uuid.",
    ),
    *(
        one_call(f"sr-{verb}", f"SR.{verb}", ref("SR"), required=("uuid",), summary=summary)
        for verb, summary in _ONE_SR
    ),
    Command(
        name="pbd-create",
        action=_pbd_create,
        required=("host-uuid", "sr-uuid"),
        optional=("device-config:",),
        summary="Creates the connection of a host to an SR. Prints its uuid.",
    ),
    *(
        one_call(f"pbd-{verb}", f"PBD.{verb}", ref("PBD"), required=("uuid",), summary=summary)
        for verb, summary in _ONE_PBD
    ),
)
