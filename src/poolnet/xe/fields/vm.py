"""Which fields do VMs, templates and snapshots show on the command line? One list of columns serves all three."""

from __future__ import annotations

from typing import cast

from poolnet.model.errors import Failure
from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Compute, Shape, column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import UNKNOWN, Texts, boolean, decimals, enum_text


async def _memory_target(reader: Reader, ref: str, record: Record) -> Texts:
    try:
        measured = await reader.caller.call("VM.query_data_source", ref, "memory_target")
    except Failure as failure:
        return "0" if failure.code == "VM_BAD_POWER_STATE" else UNKNOWN
    return str(int(cast(float, measured)))


async def _numa_node_memory(reader: Reader, ref: str, record: Record) -> Texts:
    metrics = await reader.record("VM_metrics", str(record["metrics"]))
    if metrics is None:
        return "[]"
    memory = cast("dict[int, int]", metrics["numa_node_memory"])
    return {str(node): str(size) for node, size in memory.items()}


async def _blocked_operations(reader: Reader, ref: str, record: Record) -> Texts:
    blocked = cast("dict[str, str]", record["blocked_operations"])
    return {enum_text("vm_operations", operation): reason for operation, reason in blocked.items()}


def _devices(method: str) -> Compute:
    """Make a field of the device numbers that a message answers."""

    async def devices(reader: Reader, ref: str, record: Record) -> Texts:
        try:
            return cast("tuple[str, ...]", await reader.caller.call(method, ref))
        except Failure:
            return ()

    return devices


async def _possible_hosts(reader: Reader, ref: str, record: Record) -> Texts:
    hosts = cast("tuple[str, ...]", await reader.caller.call("VM.get_possible_hosts", ref))
    return tuple([await reader.text("host", host) for host in hosts])


async def _last_boot_record(reader: Reader, ref: str, record: Record) -> Texts:
    return f"'{record['last_booted_record']}'"


async def _utilisation(reader: Reader, ref: str, record: Record) -> Texts:
    metrics = await reader.record("VM_metrics", str(record["metrics"]))
    count = 0 if metrics is None else cast(int, metrics["VCPUs_number"])
    try:
        used = [
            await reader.caller.call("VM.query_data_source", ref, f"cpu{number}") for number in range(count)
        ]
    except Failure:
        return ""
    return {str(number): decimals(value) for number, value in enumerate(used)}


async def _cooperative(reader: Reader, ref: str, record: Record) -> Texts:
    try:
        return boolean(await reader.caller.call("VM.get_cooperative", ref))
    except Failure:
        return boolean(True)


COLUMNS = (
    column("uuid"),
    column("name-label"),
    column("name-description"),
    column("user-version"),
    column("is-a-template"),
    column("is-default-template"),
    column("is-a-snapshot"),
    column("snapshot-of"),
    column("snapshots", plain=True),
    column("snapshot-time"),
    column("transportable-snapshot-id", hidden=True),
    column("snapshot-info", plain=True),
    column("parent"),
    column("children", plain=True),
    column("is-control-domain"),
    column("power-state"),
    column("memory-actual", through="metrics"),
    computed("memory-target", _memory_target, expensive=True),
    column("memory-overhead"),
    column("memory-static-max", size=True),
    column("memory-dynamic-max", size=True),
    column("memory-dynamic-min", size=True),
    column("memory-static-min", size=True),
    column("suspend-VDI-uuid", "suspend_VDI", strict=True),
    column("suspend-SR-uuid", "suspend_SR", strict=True),
    column("VCPUs-params"),
    column("VCPUs-max"),
    column("VCPUs-at-startup"),
    column("actions-after-shutdown"),
    column("actions-after-softreboot"),
    column("actions-after-reboot"),
    column("actions-after-crash"),
    column("console-uuids", "consoles"),
    column("hvm", through="metrics", missing="false"),
    column("nomigrate", through="metrics", missing="false", hidden=True),
    column("nested-virt", through="metrics", missing="false", hidden=True),
    column("platform"),
    column("numa-optimised", through="metrics", missing="false"),
    column("numa-nodes", through="metrics", missing="0"),
    computed("numa-node-memory", _numa_node_memory, shape=Shape.MAP),
    column("allowed-operations"),
    column("current-operations"),
    computed("blocked-operations", _blocked_operations, "blocked_operations", shape=Shape.MAP),
    computed("allowed-VBD-devices", _devices("VM.get_allowed_VBD_devices"), shape=Shape.SET, expensive=True),
    computed("allowed-VIF-devices", _devices("VM.get_allowed_VIF_devices"), shape=Shape.SET, expensive=True),
    computed("possible-hosts", _possible_hosts, expensive=True),
    column("domain-type"),
    column("current-domain-type", through="metrics"),
    column("HVM-boot-policy"),
    column("HVM-boot-params"),
    column("HVM-shadow-multiplier"),
    column("NVRAM", hidden=True),
    column("PV-kernel"),
    column("PV-ramdisk"),
    column("PV-args"),
    column("PV-legacy-args"),
    column("PV-bootloader"),
    column("PV-bootloader-args"),
    column("last-boot-CPU-flags", plain=True),
    computed("last-boot-record", _last_boot_record, expensive=True),
    column("resident-on"),
    column("affinity"),
    column("other-config"),
    column("dom-id", "domid"),
    column("recommendations", fixed=True),
    column("xenstore-data", clearer="set_xenstore_data"),
    column("ha-always-run", old=True, deprecated=True),
    column("ha-restart-priority"),
    column("blobs"),
    column("start-time", through="metrics", missing="<unknown time>"),
    column("install-time", through="metrics", missing="<unknown time>"),
    column("VCPUs-number", through="metrics"),
    computed("VCPUs-utilisation", _utilisation, shape=Shape.MAP, expensive=True),
    column("os-version", through="guest_metrics"),
    column("netbios-name", through="guest_metrics"),
    column("PV-drivers-version", through="guest_metrics"),
    column("PV-drivers-up-to-date", through="guest_metrics", deprecated=True),
    column("memory", through="guest_metrics"),
    column("disks", through="guest_metrics"),
    column("VBDs"),
    column("networks", through="guest_metrics"),
    column("services", through="guest_metrics"),
    column("PV-drivers-detected", through="guest_metrics"),
    column("other", through="guest_metrics"),
    column("live", through="guest_metrics"),
    column("guest-metrics-last-updated", "last_updated", through="guest_metrics"),
    column("can-use-hotplug-vbd", through="guest_metrics"),
    column("can-use-hotplug-vif", through="guest_metrics"),
    computed("cooperative", _cooperative, deprecated=True, expensive=True),
    column("tags", comma=True),
    column("appliance"),
    column("groups", plain=True, whole=True),
    column("secureboot-certificates-state"),
    column("snapshot-schedule"),
    column("is-vmss-snapshot"),
    column("start-delay"),
    column("shutdown-delay"),
    column("order"),
    column("version"),
    column("generation-id"),
    column("hardware-platform-version", fixed=True),
    column("has-vendor-device"),
    column("requires-reboot"),
    column("reference-label"),
    column("bios-strings", map_setter="set_bios_strings"),
    column("pending-guidances", plain=True),
    column("vtpms", "VTPMs", plain=True),
    column("pending-guidances-recommended", plain=True),
    column("pending-guidances-full", plain=True),
)

VM = table(
    "vm",
    "VM",
    shown="uuid name-label power-state",
    filters=(("is-a-template", "false"),),
    columns=COLUMNS,
)

TEMPLATE = table(
    "template",
    "VM",
    shown="uuid name-label name-description",
    filters=(("is-a-template", "true"), ("is-a-snapshot", "false")),
    columns=COLUMNS,
)

# The reference means to show snapshot-of and snapshot-time, but asks for them by names that do not exist (docs/deviations.md).
SNAPSHOT = table(
    "snapshot",
    "VM",
    shown="uuid name-label name-description snapshot-of snapshot-time is-vmss-snapshot",
    filters=(("is-a-snapshot", "true"),),
    columns=COLUMNS,
)
