"""Which commands create, start, stop, move and destroy VMs? (spec xe-cli §7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, cast

from poolnet.model.errors import Failure, operation_not_allowed
from poolnet.model.types import NULL, Value
from poolnet.xe.caller import Record
from poolnet.xe.commands import selectors
from poolnet.xe.commands.command import Call, Command, Selects
from poolnet.xe.commands.confirm import confirmed, must_be_forced
from poolnet.xe.commands.one_call import uuid_of
from poolnet.xe.commands.tasks import run_task
from poolnet.xe.params import byte_size, integer
from poolnet.xe.refusals import Refused
from poolnet.xe.texts import enum_value, moment

Act: TypeAlias = Callable[[Call, str, Record], Awaitable[None]]

MEBIBYTE: Final = 1 << 20
NEW_VM_MEMORY: Final = 256 * MEBIBYTE
DEFAULT_PRIORITY: Final = 5
_CROSS_POOL: Final = (
    "remote-master",
    "remote-username",
    "remote-password",
    "remote-network",
    "vif",
    "vdi",
    "vgpu",
)


async def _vm_create(call: Call) -> None:
    record: dict[str, Value] = {
        "name_label": call.params.required("name-label"),
        "name_description": call.params.get("name-description"),
        "user_version": 0,
        "is_a_template": False,
        "affinity": NULL,
        "memory_static_max": NEW_VM_MEMORY,
        "memory_dynamic_max": NEW_VM_MEMORY,
        "memory_dynamic_min": NEW_VM_MEMORY,
        "memory_static_min": NEW_VM_MEMORY,
        "memory_target": NEW_VM_MEMORY,
        "VCPUs_params": {},
        "VCPUs_max": 1,
        "VCPUs_at_startup": 1,
        "actions_after_shutdown": enum_value("on_normal_exit", "destroy"),
        "actions_after_reboot": enum_value("on_normal_exit", "restart"),
        "actions_after_crash": enum_value("on_crash_behaviour", "destroy"),
        "PV_bootloader": "",
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "HVM_boot_policy": "",
        "HVM_boot_params": {},
        "platform": {},
        "PCI_bus": "",
        "other_config": {},
        "recommendations": "",
        "domain_type": enum_value("domain_type", "unspecified"),
    }
    await uuid_of("VM")(call, await call.api("VM.create", record))


async def _vm_install(call: Call) -> None:
    """Make a VM of a template, as a clone of it, or as a full copy where an SR is named; all of it or nothing."""
    params = call.params
    template = await _template(call)
    disks: tuple[Value, ...] = ()
    if "sr-uuid" in params or "sr-name-label" in params:
        disks = (await _storage(call),)
    method = "VM.copy" if disks else "VM.clone"
    made = await call.api(method, template, params.required("new-name-label"), *disks)
    try:
        await call.api("VM.set_name_description", made, "Installed via xe CLI")
        await call.api("VM.provision", made)
        if "copy-bios-strings-from" in params:
            await call.api("VM.copy_bios_strings", made, await call.find("host", "copy-bios-strings-from"))
    except BaseException:
        await call.api("VM.destroy", made)
        raise
    await uuid_of("VM")(call, made)


async def _template(call: Call) -> str:
    """Find the template that is meant: by uuid, by name, or by either."""
    params = call.params
    if "template-uuid" in params:
        return await call.find("VM", "template-uuid")
    given = ("template-name-label", "template-name", "template")
    wanted = next((value for key, value in params if key in given), None)
    if wanted is None:
        raise Refused("Required parameter not found: template")
    records = await call.reader.query("VM", "true")
    templates = {r: record for r, record in records.items() if record["is_a_template"]}
    by_uuid = [r for r, record in templates.items() if record["uuid"] == wanted and "template" in params]
    found = by_uuid or [r for r, record in templates.items() if record["name_label"] == wanted]
    if not found:
        raise Refused("No templates matched")
    if len(found) > 1:
        raise Refused("More than one matching template found")
    return found[0]


async def _storage(call: Call) -> str:
    if "sr-uuid" in call.params:
        return await call.find("SR", "sr-uuid")
    found = cast("tuple[str, ...]", await call.api("SR.get_by_name_label", call.params.get("sr-name-label")))
    if len(found) != 1:
        raise Refused("No SRs matched" if not found else "More than one matching SR found")
    return found[0]


async def _vm_destroy(call: Call) -> None:
    vm = await call.find("VM")
    if await call.api("VM.get_is_control_domain", vm):
        raise operation_not_allowed("You cannot destroy a control domain via the CLI")
    await call.api("VM.destroy", vm)


def _each(
    name: str,
    act: Act,
    *,
    summary: str,
    control_domains: bool = False,
    templates: bool = False,
    changes: bool = True,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> Command:
    """Declare a command for the VMs that the selectors pick, and show the alerts that it brings about."""
    defaults = () if templates else (selectors.NO_TEMPLATES,)
    if not control_domains:
        defaults = (*defaults, selectors.NO_CONTROL_DOMAINS)
    own = (*required, *optional, "progress", "message-priority")

    async def action(call: Call) -> None:
        async def do(ref: str, record: Record) -> None:
            started = datetime.now(UTC)
            await act(call, ref, record)
            if changes and not call.dry:
                await _show_alerts(call, record, started)

        await selectors.for_each(call, selectors.VM, own, do, defaults=defaults)

    return Command(
        name=name,
        action=action,
        summary=summary,
        required=required,
        optional=optional,
        selects=Selects.VM,
        common=name not in _UNCOMMON,
        changes=changes,
    )


_UNCOMMON: Final = (
    "vm-compute-memory-overhead",
    "vm-memory-dynamic-range-set",
    "vm-memory-static-range-set",
    "vm-memory-limits-set",
    "vm-memory-set",
)


async def _show_alerts(call: Call, record: Record, since: datetime) -> None:
    """Write the urgent messages about a VM since a moment to stderr."""
    below = integer("message-priority", call.params.get("message-priority", str(DEFAULT_PRIORITY)))
    try:
        found = await call.api("message.get", enum_value("cls", "VM"), record["uuid"], since)
    except Failure:
        # The alerts are an extra: whoever may not read them still gets the command's own answer.
        return
    for alert in cast("Mapping[str, Mapping[str, Any]]", found).values():
        if alert["priority"] < below:
            when = moment(alert["timestamp"])
            await call.printer.complain(
                f"Message: time={when} priority={alert['priority']} name='{alert['name']}'\n"
            )


def _simple(method: str) -> Act:
    """Call a message that takes the VM alone."""

    async def act(call: Call, ref: str, record: Record) -> None:
        await call.api(method, ref)

    return act


def _task(method: str) -> Act:
    """Call a message that takes the VM alone as a task."""

    async def act(call: Call, ref: str, record: Record) -> None:
        await run_task(call, method, ref)

    return act


async def _start(call: Call, ref: str, record: Record) -> None:
    paused, force = call.params.flag("paused"), call.params.flag("force")
    if "on" in call.params:
        host = await _host(call, call.params.get("on"))
        await run_task(call, "VM.start_on", ref, host, paused, force)
    else:
        await run_task(call, "VM.start", ref, paused, force)


async def _resume(call: Call, ref: str, record: Record) -> None:
    force = call.params.flag("force")
    if "on" in call.params:
        host = await _host(call, call.params.get("on"))
        await run_task(call, "VM.resume_on", ref, host, False, force)
    else:
        await run_task(call, "VM.resume", ref, False, force)


async def _host(call: Call, wanted: str) -> str:
    """Find a host by name-label or uuid."""
    for ref, record in (await call.reader.all("host")).items():
        if wanted in (record["name_label"], record["uuid"]):
            return ref
    raise Refused(f"Host {wanted} not found")


async def _shutdown(call: Call, ref: str, record: Record) -> None:
    await run_task(call, "VM.hard_shutdown" if call.params.flag("force") else "VM.clean_shutdown", ref)


async def _reboot(call: Call, ref: str, record: Record) -> None:
    await call.api("VM.hard_reboot" if call.params.flag("force") else "VM.clean_reboot", ref)


async def _reset_powerstate(call: Call, ref: str, record: Record) -> None:
    must_be_forced(call)
    await call.api("VM.power_state_reset", ref)


async def _migrate(call: Call, ref: str, record: Record) -> None:
    if any(key.startswith(_CROSS_POOL) for key, _ in call.params):
        raise Failure("NOT_IMPLEMENTED", "VM.migrate_send")
    wanted = next((value for key, value in call.params if key in ("host", "host-uuid", "host-name")), None)
    if wanted is None:
        raise Refused("You must specify the host to migrate to")
    host = await _host(call, wanted)
    options = {key: call.params.get(key, "false") for key in ("force", "live", "copy")}
    if "compress" in call.params:
        options["compress"] = call.params.get("compress")
    await call.api("VM.pool_migrate", ref, host, options)


async def _clone(method: str, call: Call, ref: str, record: Record) -> None:
    extra: tuple[Any, ...] = ()
    if method == "VM.copy":
        extra = (await call.find("SR", "sr-uuid") if "sr-uuid" in call.params else NULL,)
    made = cast(str, await call.api(method, ref, call.params.required("new-name-label"), *extra))
    if "new-name-description" in call.params:
        await call.api("VM.set_name_description", made, call.params.get("new-name-description"))
    await uuid_of("VM")(call, made)


async def _uninstall(call: Call, ref: str, record: Record) -> None:
    """Destroy a VM and its snapshots after the confirmation; guests of poolnet own no disks."""
    doomed = {ref: record}
    for snapshot in cast("tuple[str, ...]", record["snapshots"]):
        found = await call.reader.record("VM", snapshot)
        if found is not None:
            doomed[snapshot] = found
    await call.client.print("The following items are about to be destroyed")
    for each in doomed.values():
        await call.client.print(f"VM : {each['uuid']} ({each['name_label']})")
    if not call.params.flag("force") and not await confirmed(call):
        return
    for each_ref, each in doomed.items():
        if each["power_state"] != "Halted" and not each["is_a_snapshot"]:
            await call.api("VM.hard_shutdown", each_ref)
        await call.api("VM.destroy", each_ref)
    await call.client.print("All objects destroyed")


def _memory(method: str, *names: str) -> Act:
    """Call a message that takes the VM and sizes."""

    async def act(call: Call, ref: str, record: Record) -> None:
        await call.api(method, ref, *[byte_size(name, call.params.required(name)) for name in names])

    return act


async def _memory_overhead(call: Call, ref: str, record: Record) -> None:
    await call.printer.message(str(await call.api("VM.compute_memory_overhead", ref)))


async def _maximum_memory(call: Call, ref: str, record: Record) -> None:
    total = byte_size("total", call.params.required("total"))
    answer = await call.api("VM.maximise_memory", ref, total, call.params.flag("approximate"))
    await call.printer.list([str(answer)])


COMMANDS: Final = (
    Command(
        name="vm-create",
        action=_vm_create,
        required=("name-label",),
        optional=("name-description",),
        hidden=True,
        summary="Creates a halted VM with one processor and 256 MiB of memory. Prints its uuid.",
    ),
    Command(
        name="vm-install",
        action=_vm_install,
        required=("new-name-label",),
        optional=("sr-name-label", "sr-uuid", "template", "copy-bios-strings-from"),
        common=True,
        summary="Makes a VM of a template. Prints its uuid.",
    ),
    Command(name="vm-destroy", action=_vm_destroy, required=("uuid",), summary="Destroys a halted VM."),
    _each(
        "vm-start", _start, control_domains=True, optional=("force", "on", "paused"), summary="Starts a VM."
    ),
    _each("vm-shutdown", _shutdown, optional=("force",), summary="Shuts a VM down; with force, at once."),
    _each("vm-reboot", _reboot, optional=("force",), summary="Reboots a VM; with force, at once."),
    _each("vm-suspend", _task("VM.suspend"), summary="Suspends a running VM."),
    _each("vm-resume", _resume, optional=("force", "on"), summary="Resumes a suspended VM."),
    _each("vm-pause", _simple("VM.pause"), summary="Pauses a running VM."),
    _each("vm-unpause", _simple("VM.unpause"), summary="Lets a paused VM go on."),
    _each(
        "vm-reset-powerstate",
        _reset_powerstate,
        optional=("force",),
        summary="Notes that a VM is halted although its host cannot say so. Only with force.",
    ),
    _each(
        "vm-migrate",
        _migrate,
        control_domains=True,
        optional=(
            "live",
            "host",
            "host-uuid",
            "remote-master",
            "remote-username",
            "remote-password",
            "remote-network",
            "force",
            "copy",
            "compress",
            "vif:",
            "vdi:",
            "image-format:",
        ),
        summary="Moves a VM to another host.",
    ),
    _each(
        "vm-clone",
        partial(_clone, "VM.clone"),
        templates=True,
        required=("new-name-label",),
        optional=("new-name-description",),
        summary="Clones a VM. Prints the uuid of the clone.",
    ),
    _each(
        "vm-copy",
        partial(_clone, "VM.copy"),
        templates=True,
        required=("new-name-label",),
        optional=("new-name-description", "sr-uuid"),
        summary="Copies a VM in full. Prints the uuid of the copy.",
    ),
    _each(
        "vm-uninstall",
        _uninstall,
        optional=("force",),
        summary="Destroys a VM and its snapshots, after a typed yes or with force.",
    ),
    _each(
        "vm-restart-device-models",
        _simple("VM.restart_device_models"),
        summary="Restarts a VM's device models.",
    ),
    _each(
        "vm-memory-set",
        _memory("VM.set_memory", "memory"),
        control_domains=True,
        templates=True,
        required=("memory",),
        summary="Sets all memory limits of a VM to one size.",
    ),
    _each(
        "vm-memory-dynamic-range-set",
        _memory("VM.set_memory_dynamic_range", "min", "max"),
        control_domains=True,
        templates=True,
        required=("min", "max"),
        summary="Sets the dynamic memory range of a VM.",
    ),
    _each(
        "vm-memory-static-range-set",
        _memory("VM.set_memory_static_range", "min", "max"),
        control_domains=True,
        templates=True,
        required=("min", "max"),
        summary="Sets the static memory range of a VM.",
    ),
    _each(
        "vm-memory-limits-set",
        _memory("VM.set_memory_limits", "static-min", "static-max", "dynamic-min", "dynamic-max"),
        control_domains=True,
        templates=True,
        required=("static-min", "static-max", "dynamic-min", "dynamic-max"),
        summary="Sets the static and the dynamic memory range of a VM.",
    ),
    _each(
        "vm-compute-memory-overhead",
        _memory_overhead,
        control_domains=True,
        changes=False,
        summary="Shows how much memory a VM needs besides its own.",
    ),
    _each(
        "vm-compute-maximum-memory",
        _maximum_memory,
        changes=False,
        required=("total",),
        optional=("approximate",),
        summary="Shows how much memory a VM can have if it may use so much in total.",
    ),
)
