"""Which commands call plugins on hosts? Their arguments may come from files of the client (spec xe-cli §7, §8.6)."""

from __future__ import annotations

from typing import Final

from poolnet.xe.client import LoadRefused
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.refusals import Finished

FILE: Final = ":file"


async def read_file(call: Call, name: str, complaint: str) -> bytes:
    """Read a file of the client.

    Raises:
        Finished: the client cannot read it; the complaint has been written.
    """
    try:
        return await call.client.load(name)
    except LoadRefused:
        await call.client.print_error(complaint + "\n")
        raise Finished(1) from None


async def _arguments(call: Call) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for key, value in call.params.mapping("args").items():
        if key.endswith(FILE):
            data = await read_file(call, value, f"Failed to read file {value}")
            arguments[key.removesuffix(FILE)] = data.decode(errors="replace")
        else:
            arguments[key] = value
    return arguments


async def _host_call_plugin(call: Call) -> None:
    await _call_plugin(call, "host.call_plugin", "host", "host-uuid")


async def _vm_call_plugin(call: Call) -> None:
    await _call_plugin(call, "VM.call_plugin", "VM", "vm-uuid")


async def _vm_call_host_plugin(call: Call) -> None:
    await _call_plugin(call, "VM.call_host_plugin", "VM", "vm-uuid")


async def _call_plugin(call: Call, method: str, cls: str, parameter: str) -> None:
    ref = await call.find(cls, parameter)
    plugin, function = call.params.required("plugin"), call.params.required("fn")
    answer = await call.api(method, ref, plugin, function, await _arguments(call))
    await call.printer.list([str(answer)])


COMMANDS: Final = (
    Command(
        name="host-call-plugin",
        action=_host_call_plugin,
        required=("host-uuid", "plugin", "fn"),
        optional=("args:",),
        summary="Calls a function of a plugin on a host; args:KEY:file=PATH sends a file. Prints its answer.",
    ),
    Command(
        name="vm-call-plugin",
        action=_vm_call_plugin,
        required=("vm-uuid", "plugin", "fn"),
        optional=("args:",),
        summary="Calls a function of a plugin for a VM. Prints its answer.",
    ),
    Command(
        name="vm-call-host-plugin",
        action=_vm_call_host_plugin,
        required=("vm-uuid", "plugin", "fn"),
        optional=("args:",),
        summary="Calls a function of a plugin on a VM's host. Prints its answer.",
    ),
)
