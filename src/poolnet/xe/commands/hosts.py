"""Which commands deal with hosts? (spec xe-cli §7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from poolnet.model.errors import Failure
from poolnet.model.types import NULL
from poolnet.xe.caller import Record
from poolnet.xe.commands import selectors
from poolnet.xe.commands.command import Call, Command, Selects
from poolnet.xe.commands.confirm import confirmed, must_be_forced
from poolnet.xe.commands.one_call import (
    block,
    flag,
    host_or_master,
    lines,
    message,
    on_each,
    one_call,
    ref,
    text,
)
from poolnet.xe.params import integer
from poolnet.xe.refusals import Refused

MAINTENANCE: Final = "MAINTENANCE_MODE"
FORGET_WARNINGS: Final = (
    "WARNING: A host should only be forgotten if it is physically unrecoverable;",
    "WARNING: if possible, Hosts should be 'ejected' from the Pool instead.",
    "WARNING: Once a host has been forgotten it will have to be re-installed.",
    "WARNING: This operation is irreversible.",
)
DEAD_WARNINGS: Final = (
    "WARNING: A host should only be declared dead if it is verified offline.",
    "WARNING: Performing this operation if the host is still online and has any",
    "WARNING: running VMs may lead to possible data loss and/or corruption.",
)


async def _forget(call: Call) -> None:
    await _after_warning(call, "host.destroy", FORGET_WARNINGS)


async def _declare_dead(call: Call) -> None:
    await _after_warning(call, "host.declare_dead", DEAD_WARNINGS)


async def _after_warning(call: Call, method: str, warnings: tuple[str, ...]) -> None:
    host = await call.find("host")
    if not call.params.flag("force"):
        for line in warnings:
            await call.client.print(line)
        if not await confirmed(call):
            return
    await call.api(method, host)


async def _enable(call: Call) -> None:
    async def do(host: str, record: Record) -> None:
        await call.api("host.remove_from_other_config", host, MAINTENANCE)
        await call.api("host.enable", host)

    await selectors.for_each(call, selectors.HOST, (), do)


async def _evacuate(call: Call) -> None:
    network = await call.find("network", "network-uuid") if "network-uuid" in call.params else NULL
    batch = integer("batch-size", call.params.get("batch-size", "0"))

    async def do(host: str, record: Record) -> None:
        await call.api("host.evacuate", host, network, batch)

    own = ("network-uuid", "batch-size")
    await selectors.for_each(call, selectors.HOST, own, do, only_one=True)


async def _set_hostname_live(call: Call) -> None:
    host = await call.find("host", "host-uuid")
    await call.api("host.set_hostname_live", host, call.params.required("host-name"))


async def _emergency_ha_disable(call: Call) -> None:
    must_be_forced(call)
    await call.api("host.emergency_ha_disable", call.params.flag("soft"))


async def _preventing_vms(call: Call) -> None:
    found = await call.api("host.get_vms_which_prevent_evacuation", await call.find("host"))
    blocks = []
    for vm, reason in cast("Mapping[str, tuple[str, ...]]", found).items():
        name = await call.reader.text("VM", vm, "name_label")
        blocks.append(
            [("uuid", await call.reader.text("VM", vm)), ("name-label", name), ("reason", ",".join(reason))]
        )
    await call.printer.table(blocks)


async def _data_sources(call: Call) -> None:
    async def do(host: str, record: Record) -> None:
        sources = cast("tuple[Mapping[str, Any], ...]", await call.api("host.get_data_sources", host))
        names = ("name_label", "name_description", "enabled", "standard", "min", "max", "units")
        await call.printer.table([[(name, _plain(source[name])) for name in names] for source in sources])

    await selectors.for_each(call, selectors.HOST, (), do)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else str(value)


async def _query_data_source(call: Call) -> None:
    async def do(host: str, record: Record) -> None:
        value = await call.api("host.query_data_source", host, call.params.required("data-source"))
        await call.printer.list([_plain(value)])

    await selectors.for_each(call, selectors.HOST, ("data-source",), do)


async def _power_on_mode(call: Call) -> None:
    async def do(host: str, record: Record) -> None:
        mode, config = call.params.required("power-on-mode"), call.params.mapping("power-on-config")
        await call.api("host.set_power_on_mode", host, mode, config)

    await selectors.for_each(call, selectors.HOST, ("power-on-mode", "power-on-config"), do)


async def _apply_updates(call: Call) -> None:
    async def do(host: str, record: Record) -> None:
        answer = await call.api("host.apply_updates", host, call.params.required("hash"))
        warnings = cast("tuple[tuple[str, ...], ...]", answer)
        await call.printer.list(["; ".join(warning) for warning in warnings])

    await selectors.for_each(call, selectors.HOST, ("hash",), do, only_one=True)


async def _cpu_features(call: Call) -> None:
    host = await host_or_master("uuid")(call)
    info = cast("Mapping[str, str]", await call.api("host.get_cpu_info", host))
    await block(call, {key: value for key, value in info.items() if key.startswith("features_")})


async def _healthcheck(call: Call) -> None:
    try:
        healthy = await call.api("host.ha_xapi_healthcheck")
    except Failure:
        healthy = False
    if not healthy:
        await call.client.exit(3)
        raise Refused("xapi is not healthy.")
    await call.printer.message("xapi is healthy.")


def _each(name: str, method: str, summary: str, **flags: Any) -> Command:
    """Declare a command that calls a message with each host that the selectors pick."""
    return on_each(name, method, selects=Selects.HOST, summary=summary, **flags)


_LOCAL: Final[Mapping[str, Any]] = {"local": True, "never_forward": True}

COMMANDS: Final = (
    one_call(
        "host-is-in-emergency-mode",
        "host.is_in_emergency_mode",
        prints=message,
        changes=False,
        **_LOCAL,
        summary="Says whether the host has lost its pool.",
    ),
    Command(
        name="host-forget",
        action=_forget,
        required=("uuid",),
        summary="Removes a lost host from the pool for good, after a typed yes.",
    ),
    Command(
        name="host-declare-dead",
        action=_declare_dead,
        required=("uuid",),
        summary="Declares that a host that cannot be reached is down, after a typed yes.",
    ),
    on_each(
        "host-disable",
        "host.disable",
        flag("auto-enable", default=True),
        selects=Selects.HOST,
        optional=("auto-enable",),
        summary="Lets no new VM start on a host.",
    ),
    Command(
        name="host-enable", action=_enable, selects=Selects.HOST, summary="Lets VMs start on a host again."
    ),
    _each("host-sync-data", "host.sync_data", "Brings a host's files in line with the coordinator's."),
    on_each(
        "host-enable-local-storage-caching",
        "host.enable_local_storage_caching",
        ref("SR", "sr-uuid"),
        selects=Selects.HOST,
        required=("sr-uuid",),
        summary="Lets a host cache disks on a local SR.",
    ),
    _each(
        "host-disable-local-storage-caching",
        "host.disable_local_storage_caching",
        "Lets a host cache no disks any more.",
    ),
    _each("host-shutdown", "host.shutdown", "Shuts a disabled host down."),
    _each("host-reboot", "host.reboot", "Reboots a disabled host."),
    _each("host-power-on", "host.power_on", "Switches a host on, as its power-on mode says."),
    one_call(
        "host-prepare-for-poweroff",
        "host.prepare_for_poweroff",
        ref("host"),
        hidden=True,
        summary="Readies a host for being switched off.",
    ),
    _each(
        "host-dmesg", "host.dmesg", "Shows the messages of a host's hypervisor.", prints=lines, changes=False
    ),
    one_call(
        "host-signal-networking-change",
        "host.signal_networking_change",
        hidden=True,
        **_LOCAL,
        summary="Says that the host's management address may have changed.",
    ),
    one_call(
        "host-send-debug-keys",
        "host.send_debug_keys",
        ref("host", "host-uuid"),
        text("keys"),
        local=True,
        required=("host-uuid", "keys"),
        summary="Sends keys to a host's hypervisor.",
    ),
    one_call(
        "host-notify",
        "host.notify",
        text("type"),
        text("params"),
        hidden=True,
        **_LOCAL,
        required=("type",),
        optional=("params",),
        summary="Notifies a host.",
    ),
    one_call(
        "host-syslog-reconfigure",
        "host.syslog_reconfigure",
        ref("host", "host-uuid"),
        required=("host-uuid",),
        summary="Lets a host read its logging configuration again.",
    ),
    one_call(
        "host-emergency-management-reconfigure",
        "host.local_management_reconfigure",
        text("interface"),
        **_LOCAL,
        required=("interface",),
        summary="Moves the management of this host to another interface, without the coordinator.",
    ),
    Command(
        name="host-emergency-ha-disable",
        action=_emergency_ha_disable,
        **_LOCAL,
        optional=("force", "soft"),
        summary="Stops high availability on this host. Only with force.",
    ),
    *(
        one_call(
            f"host-emergency-{name}", f"host.emergency_{name.replace('-', '_')}", **_LOCAL, summary=summary
        )
        for name, summary in (
            ("reset-server-certificate", "Makes a new certificate for this host."),
            ("disable-tls-verification", "Lets this host not check certificates."),
            ("reenable-tls-verification", "Lets this host check certificates again."),
            ("clear-mandatory-guidance", "Forgets what this host should do after its updates."),
        )
    ),
    _each(
        "host-reset-server-certificate",
        "host.reset_server_certificate",
        "Makes a new certificate for a host.",
    ),
    one_call(
        "host-management-reconfigure",
        "host.management_reconfigure",
        ref("PIF", "pif-uuid"),
        required=("pif-uuid",),
        summary="Moves the management of a host to another physical interface.",
    ),
    one_call(
        "host-management-disable",
        "host.management_disable",
        **_LOCAL,
        summary="Lets this host have no management interface.",
    ),
    _each(
        "host-compute-free-memory",
        "host.compute_free_memory",
        "Shows how much memory a host has left.",
        prints=message,
        changes=False,
    ),
    _each(
        "host-compute-memory-overhead",
        "host.compute_memory_overhead",
        "Shows how much memory a host itself needs.",
        prints=message,
        changes=False,
    ),
    _each(
        "host-get-system-status-capabilities",
        "host.get_system_status_capabilities",
        "Shows what a status report of a host can contain.",
        prints=lines,
        changes=False,
        **_LOCAL,
    ),
    Command(
        name="host-set-hostname-live",
        action=_set_hostname_live,
        required=("host-uuid", "host-name"),
        selects=Selects.HOST,
        summary="Changes the name of a host, in the pool and on the host.",
    ),
    Command(
        name="host-set-power-on-mode",
        action=_power_on_mode,
        required=("power-on-mode",),
        optional=("power-on-config",),
        selects=Selects.HOST,
        summary="Says how a host can be switched on.",
    ),
    one_call(
        "host-refresh-pack-info",
        "host.refresh_pack_info",
        ref("host", "host-uuid"),
        hidden=True,
        required=("host-uuid",),
        summary="Reads the list of a host's supplemental packs again.",
    ),
    one_call(
        "host-cpu-info",
        "host.get_cpu_info",
        host_or_master("uuid"),
        prints=block,
        changes=False,
        optional=("uuid",),
        summary="Shows the processors of a host.",
    ),
    Command(
        name="host-get-cpu-features",
        action=_cpu_features,
        optional=("uuid",),
        changes=False,
        summary="Shows the features of a host's processors.",
    ),
    *(
        one_call(
            f"host-{name}-display",
            f"host.{name}_display",
            ref("host"),
            prints=message,
            required=("uuid",),
            summary=f"Makes a host's own screen {name}d from the next start on.",
        )
        for name in ("enable", "disable")
    ),
    Command(
        name="host-apply-updates",
        action=_apply_updates,
        required=("hash",),
        selects=Selects.HOST,
        summary="Installs the updates of the pool's repositories on a host.",
    ),
    _each("host-enable-ssh", "host.enable_ssh", "Opens SSH on a host."),
    _each("host-disable-ssh", "host.disable_ssh", "Closes SSH on a host."),
    Command(
        name="host-data-source-list",
        action=_data_sources,
        selects=Selects.HOST,
        changes=False,
        summary="Lists what a host measures.",
    ),
    on_each(
        "host-data-source-record",
        "host.record_data_source",
        text("data-source"),
        selects=Selects.HOST,
        required=("data-source",),
        summary="Keeps the values of something that a host measures.",
    ),
    Command(
        name="host-data-source-query",
        action=_query_data_source,
        required=("data-source",),
        selects=Selects.HOST,
        changes=False,
        summary="Shows the last value of something that a host measures.",
    ),
    on_each(
        "host-data-source-forget",
        "host.forget_data_source_archives",
        text("data-source"),
        selects=Selects.HOST,
        required=("data-source",),
        summary="Forgets the kept values of something that a host measures.",
    ),
    Command(
        name="host-evacuate",
        action=_evacuate,
        optional=("network-uuid", "batch-size"),
        selects=Selects.HOST,
        summary="Moves all VMs off a host.",
    ),
    Command(
        name="host-get-vms-which-prevent-evacuation",
        action=_preventing_vms,
        required=("uuid",),
        changes=False,
        summary="Lists the VMs that cannot be moved off a host, and why.",
    ),
    one_call(
        "host-shutdown-agent", "host.shutdown_agent", **_LOCAL, summary="Restarts this host's API server."
    ),
    one_call(
        "host-update-firewalld-service-status",
        "host.update_firewalld_service_status",
        **_LOCAL,
        summary="Opens and closes the ports of this host's services.",
    ),
    Command(
        name="host-ha-xapi-healthcheck",
        action=_healthcheck,
        hidden=True,
        **_LOCAL,
        changes=False,
        summary="Says whether this host's API server is healthy.",
    ),
    _each(
        "host-get-server-certificate",
        "host.get_server_certificate",
        "Shows a host's certificate.",
        prints=message,
        changes=False,
    ),
)
