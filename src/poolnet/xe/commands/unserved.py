"""Which commands of the reference does poolnet know and not carry out?

Licences, workload balancing, external directories, file transfers, diagnostics of the reference's own insides. Scripts
that use them are told what is missing (`NOT_IMPLEMENTED`), not that they misspelt a command; parameters and objects
are looked at first, as the reference does (spec xe-cli §7). `catalog` adds them to the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from poolnet.model.errors import not_implemented
from poolnet.model.types import Value
from poolnet.xe.caller import Record
from poolnet.xe.commands import selectors
from poolnet.xe.commands.command import Call, Command, Selects
from poolnet.xe.commands.one_call import (
    SELECTORS,
    block,
    constant,
    flag,
    host_or_master,
    lines,
    mapping,
    message,
    on_each,
    one_call,
    ref,
    text,
    the_pool,
    uuid_of,
)
from poolnet.xe.commands.plugins import read_file
from poolnet.xe.refusals import Refused

_NOT_SHOWN: Final = "sku_type"
_LICENSING: Final[Mapping[str, Any]] = {
    "optional": ("host-uuid", "license-server-address", "license-server-port"),
    "required": ("edition",),
}


def _absent(name: str, what: str, summary: str, **flags: Any) -> Command:
    """Declare a command for a message or a file transfer (`GET /path`) that the server does not have.

    Objects are picked first, so that a selector that picks nothing is still what the user hears of.
    """
    selects = flags.get("selects", Selects.NOTHING)
    own = (*flags.get("required", ()), *flags.get("optional", ()))

    async def action(call: Call) -> None:
        async def refuse(picked: str, record: Record) -> None:
            raise not_implemented(what)

        if selects is Selects.NOTHING:
            raise not_implemented(what)
        await selectors.for_each(call, SELECTORS[selects], own, refuse)

    return Command(name=name, action=action, summary=summary, **flags)


async def _restore_database(call: Call) -> None:
    if "force" not in call.params and "dry-run" not in call.params:
        raise Refused("This overwrites the pool's database. Try it with --dry-run, or do it with --force.")
    raise not_implemented("PUT /pool/xmldbdump")


async def _license_add(call: Call) -> None:
    host = await host_or_master("host-uuid")(call)
    name = call.params.required("license-file")
    data = await read_file(call, name, f"Failed to read {name}")
    await call.api("host.license_add", host, data.decode(errors="replace"))
    await call.printer.message("License applied.")


async def _license_view(call: Call) -> None:
    found = await call.api("host.get_license_params", await host_or_master("host-uuid")(call))
    params = cast("Mapping[str, Value]", found)
    await block(call, {key: value for key, value in params.items() if key != _NOT_SHOWN})


async def _install_certificate(call: Call) -> None:
    own = ("certificate", "private-key", "certificate-chain")
    files = []
    for parameter in own:
        name = call.params.find(parameter)
        data = b"" if name is None else await read_file(call, name, f"Failed to read {name}")
        files.append(data.decode(errors="replace"))

    async def install(host: str, record: Record) -> None:
        await call.api("host.install_server_certificate", host, *files)

    await selectors.for_each(call, selectors.HOST, own, install)


_ONE_HOST: Final[Mapping[str, Any]] = {"selects": Selects.HOST}

_POOLS: Final = (
    _absent(
        "pool-dump-database",
        "GET /pool/xmldbdump",
        "Saves the pool's database in a file.",
        required=("file-name",),
        changes=False,
    ),
    Command(
        name="pool-restore-database",
        action=_restore_database,
        required=("file-name",),
        optional=("dry-run",),
        changes=False,
        summary="Replaces the pool's database by a saved one. Only with force, or as a dry run.",
    ),
    one_call(
        "pool-retrieve-wlb-recommendations",
        "pool.retrieve_wlb_recommendations",
        prints=block,
        changes=False,
        summary="Shows where workload balancing would run VMs.",
    ),
    _absent(
        "pool-retrieve-wlb-report",
        "GET /wlb_report",
        "Saves a report of workload balancing in a file.",
        required=("report",),
        optional=("filename",),
        never_forward=True,
        changes=False,
    ),
    _absent(
        "pool-retrieve-wlb-diagnostics",
        "GET /wlb_diagnostics",
        "Saves what workload balancing has logged in a file.",
        optional=("filename",),
        never_forward=True,
        changes=False,
    ),
    one_call(
        "pool-apply-edition",
        "pool.apply_edition",
        the_pool(),
        text("edition"),
        required=("edition",),
        optional=("uuid", "license-server-address", "license-server-port"),
        summary="Licenses all hosts for an edition.",
    ),
    _absent(
        "pool-sync-bundle",
        "PUT /bundle",
        "Gives the pool a bundle of updates from a file.",
        required=("filename",),
    ),
    _absent(
        "sdn-controller-introduce",
        "SDN_controller.introduce",
        "Lets a network controller manage the hosts' switches.",
        optional=("address", "protocol", "tcp-port"),
    ),
    _absent(
        "sdn-controller-forget",
        "SDN_controller.forget",
        "Lets a network controller manage the switches no longer.",
        required=("uuid",),
    ),
    one_call(
        "sr-probe-ext",
        "SR.probe_ext",
        host_or_master("host-uuid"),
        mapping("device-config"),
        text("type"),
        mapping("sm-config"),
        prints=lines,
        required=("type",),
        optional=("host-uuid", "device-config:", "sm-config:"),
        changes=False,
        summary="Says what storage a host can find with a device configuration.",
    ),
)

_HOSTS: Final = (
    _absent(
        "host-crashdump-upload",
        "host_crashdump.upload",
        "Sends a crash dump to a server.",
        required=("uuid",),
        optional=("url", "http_proxy"),
    ),
    _absent("host-crashdump-destroy", "host_crashdump.destroy", "Destroys a crash dump.", required=("uuid",)),
    on_each(
        "host-bugreport-upload",
        "host.bugreport_upload",
        text("url"),
        constant({}),
        **_ONE_HOST,
        optional=("url", "http_proxy"),
        summary="Sends a bug report to a server.",
    ),
    _absent(
        "host-backup",
        "GET /host_backup",
        "Saves a host's control domain in a file.",
        **_ONE_HOST,
        required=("file-name",),
        changes=False,
    ),
    _absent(
        "host-restore",
        "PUT /host_restore",
        "Gives a host its saved control domain back.",
        **_ONE_HOST,
        required=("file-name",),
    ),
    _absent(
        "host-logs-download",
        "GET /host_logs_download",
        "Saves a host's logs in a file.",
        **_ONE_HOST,
        optional=("file-name",),
        changes=False,
    ),
    _absent(
        "host-get-system-status",
        "GET /system-status",
        "Saves a report of a host's state in a file.",
        **_ONE_HOST,
        required=("filename",),
        optional=("entries", "output"),
        changes=False,
    ),
    one_call(
        "host-retrieve-wlb-evacuate-recommendations",
        "host.retrieve_wlb_evacuate_recommendations",
        ref("host"),
        prints=block,
        required=("uuid",),
        hidden=True,
        changes=False,
        summary="Shows where workload balancing would move a host's VMs.",
    ),
    one_call(
        "host-external-auth-set-ldaps",
        "host.external_auth_set_ldaps",
        ref("host", "host-uuid"),
        flag("ldaps"),
        flag("force"),
        required=("host-uuid", "ldaps"),
        optional=("force",),
        hidden=True,
        summary="Sets whether a host speaks to the directory over TLS.",
    ),
    Command(
        name="host-license-add",
        action=_license_add,
        required=("license-file",),
        optional=("host-uuid",),
        summary="Gives a host the licence in a file.",
    ),
    one_call(
        "host-license-remove",
        "host.license_remove",
        host_or_master("host-uuid"),
        optional=("host-uuid",),
        summary="Takes a host's licence away.",
    ),
    Command(
        name="host-license-view",
        action=_license_view,
        optional=("host-uuid",),
        changes=False,
        summary="Shows a host's licence.",
    ),
    one_call(
        "host-apply-edition",
        "host.apply_edition",
        host_or_master("host-uuid"),
        text("edition"),
        **_LICENSING,
        summary="Licenses a host for an edition.",
    ),
    one_call(
        "host-all-editions",
        "host.get_editions",
        host_or_master("host-uuid"),
        prints=lines,
        changes=False,
        summary="Lists the editions that hosts can be licensed for.",
    ),
    *(
        one_call(
            f"host-get-{what}-diagnostics",
            f"host.get_{what}_diagnostics",
            ref("host"),
            prints=message,
            required=("uuid",),
            changes=False,
            summary=summary,
        )
        for what, summary in (
            ("sm", "Shows how a host's storage does."),
            ("thread", "Shows a host's threads."),
        )
    ),
    one_call(
        "host-sm-dp-destroy",
        "host.sm_dp_destroy",
        ref("host"),
        text("dp"),
        flag("allow-leak"),
        required=("uuid", "dp"),
        optional=("allow-leak",),
        summary="Destroys a path to a disk, in an emergency.",
    ),
    on_each(
        "host-refresh-server-certificate",
        "host.refresh_server_certificate",
        **_ONE_HOST,
        required=("host",),
        summary="Makes a host a new certificate for the pool's own use.",
    ),
    Command(
        name="host-server-certificate-install",
        action=_install_certificate,
        required=("certificate", "private-key"),
        optional=("certificate-chain",),
        **_ONE_HOST,
        summary="Gives a host the certificate and the key in files.",
    ),
)

_DIAGNOSTICS: Final = (
    _absent(
        "diagnostic-vdi-status", "VDI.get_VBDs", "Shows who uses a disk.", required=("uuid",), changes=False
    ),
    _absent(
        "diagnostic-vm-status",
        "VM.get_VBDs",
        "Shows which hosts can run a VM, and its disks.",
        required=("uuid",),
        common=True,
        changes=False,
    ),
    _absent("diagnostic-license-status", "host.license_status", "Shows all hosts' licences.", changes=False),
    _absent("diagnostic-compact", "Diagnostics.gc_compact", "Frees memory of the server.", **_ONE_HOST),
    _absent(
        "diagnostic-gc-stats",
        "Diagnostics.gc_stats",
        "Shows the server's use of memory.",
        **_ONE_HOST,
        changes=False,
    ),
    _absent(
        "diagnostic-timing-stats",
        "host.get_diagnostic_timing_stats",
        "Shows how long the servers' work takes.",
        changes=False,
    ),
    _absent("diagnostic-db-stats", "Diagnostics.db_stats", "Shows the use of the database.", changes=False),
    _absent(
        "diagnostic-net-stats",
        "Diagnostics.network_stats",
        "Shows how often each request was made.",
        **_ONE_HOST,
        optional=("uri", "method", "params"),
        changes=False,
    ),
)

_VMS: Final = (
    on_each(
        "vm-snapshot",
        "VM.snapshot",
        text("new-name-label"),
        selects=Selects.VM,
        prints=uuid_of("VM"),
        defaults=(selectors.NO_TEMPLATES, selectors.NO_CONTROL_DOMAINS),
        required=("new-name-label",),
        optional=("new-name-description", "ignore-vdi-uuids"),
        common=True,
        summary="Takes a snapshot of a VM. Prints its uuid.",
    ),
    _absent(
        "console",
        "CONNECT /console",
        "Joins this terminal to the console of a VM.",
        selects=Selects.VM,
        changes=False,
    ),
)

COMMANDS: Final = (*_POOLS, *_HOSTS, *_DIAGNOSTICS, *_VMS)
