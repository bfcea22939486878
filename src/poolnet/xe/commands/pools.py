"""Which commands deal with the pool as a whole? (spec xe-cli §7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from poolnet.model.errors import Failure
from poolnet.model.types import NULL
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.confirm import confirmed, must_be_forced
from poolnet.xe.commands.one_call import (
    block,
    choice,
    constant,
    flag,
    lines,
    mapping,
    message,
    number,
    one_call,
    ref,
    refs,
    text,
    the_pool,
    uuids_of,
)
from poolnet.xe.commands.plugins import read_file
from poolnet.xe.params import items

FUSE: Final = "10.000"
EJECT_WARNINGS: Final = (
    "WARNING: Ejecting a host from the pool will reinitialise that host's local SRs.",
    "WARNING: Any data contained with the local SRs will be lost.",
)


async def _join(call: Call) -> None:
    params = call.params
    force, fix = params.flag("force"), params.flag("fix")
    names = ("master-address", "master-username", "master-password")
    where = [params.required(name) for name in names]
    if call.dry:
        await call.api("pool.explain_join", *where, force, fix)
        return
    try:
        if fix:
            await call.api("pool.join_fixing", *where, force)
        else:
            await call.api("pool.join_force" if force else "pool.join", *where)
    except Failure as failure:
        if failure.code != "POOL_JOINING_HOST_CONNECTION_FAILED":
            raise
        await call.printer.message("Host cannot contact destination host: connection refused.")
        await call.printer.message(
            "Check destination host has services running and accessible from this host."
        )
        return
    await call.printer.message(f"Host agent will restart and attempt to join pool in {FUSE} seconds...")


async def _eject(call: Call) -> None:
    host = await call.find("host", "host-uuid")
    if not call.params.flag("force"):
        for line in EJECT_WARNINGS:
            await call.client.print(line)
        if not await confirmed(call):
            return
    await call.api("pool.eject", host)
    await call.printer.message(
        f"Specified host will attempt to restart as a master of a new pool in {FUSE} seconds..."
    )


async def _reset_master(call: Call) -> None:
    address = call.params.required("master-address")
    await call.api("pool.emergency_reset_master", address)
    await call.printer.message(f"Host agent will restart and become slave of {address} in {FUSE} seconds...")


async def _become_master(call: Call) -> None:
    if not call.params.flag("force"):
        if not await call.api("pool.is_slave", NULL):
            await call.printer.message(
                "Host agent is already master. Use '--force' to execute the operation anyway."
            )
            return
        if not await call.api("host.is_in_emergency_mode"):  # it would make two pools of one
            must_be_forced(call)
    await call.api("pool.emergency_transition_to_master")
    await call.printer.message(f"Host agent will restart and transition to master in {FUSE} seconds...")


async def _install_certificate(call: Call) -> None:
    name = call.params.required("filename")
    data = await read_file(call, name, "Failed to read certificate")
    await call.api("pool.install_ca_certificate", name.rpartition("/")[2], data.decode(errors="replace"))


async def _install_trusted(call: Call) -> None:
    pool, ca = await the_pool()(call), call.params.flag("ca")
    purpose = tuple(filter(None, call.params.get("purpose", "").split(",")))
    data = await read_file(call, call.params.required("filename"), "Failed to read certificate")
    text = data.decode(errors="replace")
    await call.api("pool.install_trusted_certificate", pool, ca, text, purpose)


async def _install_crl(call: Call) -> None:
    name = call.params.required("filename")
    data = await read_file(call, name, "Failed to read CRL")
    await call.api("pool.crl_install", name.rpartition("/")[2], data.decode(errors="replace"))


async def _always_well(call: Call) -> None:
    """Do nothing: what this command switched off is gone."""


async def _ha_hypothetical(call: Call) -> None:
    vms = [value for key, value in call.params if key == "vm-uuid"]
    priorities = [value for key, value in call.params if key == "restart-priority"]
    wanted: dict[str, str] = {}
    for uuid, priority in zip(vms, priorities, strict=False):
        wanted[cast(str, await call.api("VM.get_by_uuid", uuid))] = priority
    method = "pool.ha_compute_hypothetical_max_host_failures_to_tolerate"
    await lines(call, await call.api(method, wanted))


async def _failover_plan(call: Call) -> None:
    hosts = [await call.api("host.get_by_uuid", uuid) for uuid in items(call.params.required("host-uuids"))]
    resident = [
        vm for host in hosts for vm in cast("tuple[str, ...]", await call.api("host.get_resident_VMs", host))
    ]
    vms = tuple([vm for vm in resident if not await call.api("VM.get_is_control_domain", vm)])
    plan = await call.api("pool.ha_compute_vm_failover_plan", tuple(hosts), vms)
    shown = [("VM", "Destination Host or Error")]
    for vm, where in cast("Mapping[str, Mapping[str, str]]", plan).items():
        uuid, name = await call.api("VM.get_uuid", vm), await call.api("VM.get_name_label", vm)
        there = (
            await call.api("host.get_name_label", where["host"]) if "host" in where else where["error_code"]
        )
        shown.append((f"{uuid} ({name})", str(there)))
    await call.printer.table([shown])


async def _cpu_features(call: Call) -> None:
    info = cast("Mapping[str, str]", await call.api("pool.get_cpu_info", await the_pool()(call)))
    names = ("features_pv_host", "features_hvm_host")
    await block(call, {name: info[name] for name in names if name in info})


def _of_pool(name: str, method: str, *arguments: Any, summary: str, **flags: Any) -> Command:
    """Declare a command that calls a message with the pool, then these arguments."""
    return one_call(name, method, the_pool(), *arguments, summary=summary, **flags)


_TRUST: Final = (
    Command(
        name="pool-install-ca-certificate",
        action=_install_certificate,
        required=("filename",),
        summary="Trusts a CA certificate on all hosts.",
    ),
    Command(
        name="pool-certificate-install",
        action=_install_certificate,
        required=("filename",),
        deprecated=True,
        summary="Trusts a CA certificate on all hosts.",
    ),
    one_call(
        "pool-uninstall-ca-certificate",
        "pool.uninstall_ca_certificate",
        text("name"),
        flag("force"),
        required=("name",),
        optional=("force",),
        summary="Trusts a CA certificate no longer.",
    ),
    one_call(
        "pool-certificate-uninstall",
        "pool.uninstall_ca_certificate",
        text("name"),
        constant(False),
        required=("name",),
        deprecated=True,
        summary="Trusts a CA certificate no longer.",
    ),
    one_call(
        "pool-certificate-list",
        "pool.certificate_list",
        prints=lines,
        changes=False,
        deprecated=True,
        summary="Lists the CA certificates that are trusted.",
    ),
    Command(
        name="pool-crl-install",
        action=_install_crl,
        required=("filename",),
        summary="Installs a list of revoked certificates on all hosts.",
    ),
    one_call(
        "pool-crl-uninstall",
        "pool.crl_uninstall",
        text("name"),
        required=("name",),
        summary="Removes a list of revoked certificates.",
    ),
    one_call(
        "pool-crl-list",
        "pool.crl_list",
        prints=lines,
        changes=False,
        summary="Lists the lists of revoked certificates.",
    ),
    one_call(
        "pool-certificate-sync",
        "pool.certificate_sync",
        summary="Gives all hosts the same trusted certificates.",
    ),
    one_call(
        "pool-enable-tls-verification",
        "pool.enable_tls_verification",
        summary="Lets all hosts check certificates.",
    ),
    _of_pool(
        "pool-enable-client-certificate-auth",
        "pool.enable_client_certificate_auth",
        text("name"),
        required=("name",),
        summary="Lets clients log in with a certificate of this name.",
    ),
    _of_pool(
        "pool-disable-client-certificate-auth",
        "pool.disable_client_certificate_auth",
        summary="Lets clients log in with a certificate no longer.",
    ),
    Command(
        name="pool-install-trusted-certificate",
        action=_install_trusted,
        required=("filename", "ca"),
        optional=("uuid", "purpose"),
        summary="Trusts the certificate in a file on all hosts.",
    ),
    _of_pool(
        "pool-uninstall-trusted-certificate",
        "pool.uninstall_trusted_certificate",
        ref("Certificate", "certificate-uuid"),
        required=("certificate-uuid",),
        optional=("uuid",),
        summary="Trusts a certificate no longer.",
    ),
    Command(
        name="pool-disable-ssl-legacy",
        action=_always_well,
        optional=("uuid",),
        deprecated=True,
        summary="Does nothing: old TLS is never spoken.",
    ),
    one_call("pool-secret-rotate", "pool.rotate_secret", summary="Gives the pool a new secret."),
)

_HA: Final = (
    one_call(
        "pool-ha-enable",
        "pool.enable_ha",
        refs("SR", "heartbeat-sr-uuids"),
        mapping("ha-config"),
        optional=("heartbeat-sr-uuids", "ha-config:"),
        summary="Starts high availability.",
    ),
    one_call("pool-ha-disable", "pool.disable_ha", summary="Stops high availability."),
    one_call(
        "pool-ha-prevent-restarts-for",
        "pool.ha_prevent_restarts_for",
        number("seconds"),
        required=("seconds",),
        hidden=True,
        summary="Lets high availability restart nothing for a while.",
    ),
    one_call(
        "pool-ha-compute-max-host-failures-to-tolerate",
        "pool.ha_compute_max_host_failures_to_tolerate",
        prints=lines,
        changes=False,
        summary="Shows how many hosts can fail as things are.",
    ),
    Command(
        name="pool-ha-compute-hypothetical-max-host-failures-to-tolerate",
        action=_ha_hypothetical,
        optional=("vm-uuid", "restart-priority"),
        changes=False,
        summary="Shows how many hosts could fail if VMs had these priorities.",
    ),
    Command(
        name="pool-ha-compute-vm-failover-plan",
        action=_failover_plan,
        required=("host-uuids",),
        hidden=True,
        changes=False,
        summary="Shows where protected VMs would go if these hosts failed.",
    ),
    one_call(
        "pool-enable-redo-log",
        "pool.enable_redo_log",
        ref("SR", "sr-uuid"),
        required=("sr-uuid",),
        summary="Writes every change of the database to an SR too.",
    ),
    one_call("pool-disable-redo-log", "pool.disable_redo_log", summary="Writes changes to no SR any more."),
)

_SERVICES: Final = (
    one_call(
        "pool-initialize-wlb",
        "pool.initialize_wlb",
        *(text(f"{name}") for name in ("wlb_url", "wlb_username", "wlb_password")),
        text("xenserver_username"),
        text("xenserver_password"),
        required=("wlb_url", "wlb_username", "wlb_password", "xenserver_username", "xenserver_password"),
        summary="Connects the pool to workload balancing.",
    ),
    one_call("pool-deconfigure-wlb", "pool.deconfigure_wlb", summary="Leaves workload balancing."),
    one_call(
        "pool-send-wlb-configuration",
        "pool.send_wlb_configuration",
        mapping("config"),
        optional=("config:",),
        summary="Configures workload balancing.",
    ),
    one_call(
        "pool-retrieve-wlb-configuration",
        "pool.retrieve_wlb_configuration",
        prints=block,
        changes=False,
        summary="Shows the configuration of workload balancing.",
    ),
    one_call(
        "pool-send-test-post",
        "pool.send_test_post",
        text("dest-host"),
        number("dest-port"),
        text("body"),
        prints=message,
        required=("dest-host", "dest-port", "body"),
        summary="Sends a test request to a server. Prints its answer.",
    ),
    _of_pool(
        "pool-sync-updates",
        "pool.sync_updates",
        flag("force"),
        text("token"),
        text("token-id"),
        constant(""),
        constant(""),
        prints=lines,
        optional=("force", "token", "token-id", "username", "password"),
        summary="Fetches the lists of updates. Prints their hash.",
    ),
    _of_pool("pool-reset-telemetry-uuid", "pool.reset_telemetry_uuid", summary="Gives telemetry a new uuid."),
    _of_pool(
        "pool-get-guest-secureboot-readiness",
        "pool.get_guest_secureboot_readiness",
        prints=message,
        changes=False,
        summary="Says whether VMs can boot securely.",
    ),
    Command(
        name="pool-get-cpu-features",
        action=_cpu_features,
        changes=False,
        summary="Shows the features that the processors of all hosts have.",
    ),
    *(
        _of_pool(
            f"pool-{verb}-local-storage-caching",
            f"pool.{verb}_local_storage_caching",
            required=("uuid",),
            summary=f"Makes the caching of disks on local SRs {verb}d on all hosts.",
        )
        for verb in ("enable", "disable")
    ),
    _of_pool(
        "pool-configure-repository-proxy",
        "pool.configure_repository_proxy",
        text("proxy-url"),
        text("proxy-username"),
        text("proxy-password"),
        required=("proxy-url",),
        optional=("proxy-username", "proxy-password"),
        summary="Fetches updates through a proxy.",
    ),
    _of_pool(
        "pool-disable-repository-proxy",
        "pool.disable_repository_proxy",
        summary="Fetches updates through no proxy.",
    ),
    _of_pool(
        "pool-configure-update-sync",
        "pool.configure_update_sync",
        choice("update-sync-frequency", "update_sync_frequency"),
        number("update-sync-day"),
        required=("update-sync-frequency", "update-sync-day"),
        summary="Says when the lists of updates are fetched.",
    ),
    _of_pool(
        "pool-set-update-sync-enabled",
        "pool.set_update_sync_enabled",
        flag("value"),
        required=("value",),
        summary="Says whether the lists of updates are fetched.",
    ),
    _of_pool("pool-enable-ssh", "pool.enable_ssh", summary="Opens SSH on all hosts."),
    _of_pool("pool-disable-ssh", "pool.disable_ssh", summary="Closes SSH on all hosts."),
)

COMMANDS: Final = (
    one_call(
        "pool-designate-new-master",
        "pool.designate_new_master",
        ref("host", "host-uuid"),
        required=("host-uuid",),
        summary="Hands the role of coordinator to another host.",
    ),
    one_call(
        "pool-management-reconfigure",
        "pool.management_reconfigure",
        ref("network", "network-uuid"),
        required=("network-uuid",),
        summary="Moves the management of all hosts to another network.",
    ),
    one_call(
        "pool-sync-database", "pool.sync_database", summary="Gives every host a copy of the database now."
    ),
    Command(
        name="pool-join",
        action=_join,
        required=("master-address", "master-username", "master-password"),
        optional=("force", "fix"),
        summary="Makes this host a member of another pool. --dry-run says what would become of its interfaces, and what is "
        "in the way; --fix removes bonds, VLANs, tunnels and SR-IOV networks that are.",
    ),
    Command(
        name="pool-eject",
        action=_eject,
        required=("host-uuid",),
        summary="Takes a host out of the pool, after a typed yes; it starts anew as its own pool.",
    ),
    Command(
        name="pool-emergency-reset-master",
        action=_reset_master,
        required=("master-address",),
        local=True,
        never_forward=True,
        summary="Tells this host where its coordinator is now.",
    ),
    Command(
        name="pool-emergency-transition-to-master",
        action=_become_master,
        optional=("force",),
        local=True,
        never_forward=True,
        summary="Makes this host the coordinator because the old one is lost.",
    ),
    one_call(
        "pool-recover-slaves",
        "pool.recover_slaves",
        prints=uuids_of("host"),
        summary="Tells every member that this host is the coordinator. Prints the uuids of those that heard it.",
    ),
    _of_pool(
        "pool-enable-external-auth",
        "pool.enable_external_auth",
        mapping("config"),
        text("service-name"),
        text("auth-type"),
        required=("auth-type", "service-name"),
        optional=("uuid", "config:"),
        summary="Lets users of a directory service log in.",
    ),
    _of_pool(
        "pool-disable-external-auth",
        "pool.disable_external_auth",
        mapping("config"),
        optional=("uuid", "config:"),
        summary="Lets users of a directory service log in no longer.",
    ),
    _of_pool(
        "pool-external-auth-set-ldaps",
        "pool.external_auth_set_ldaps",
        flag("ldaps"),
        flag("force"),
        required=("ldaps",),
        optional=("uuid", "force"),
        summary="Says whether the directory service is asked over TLS.",
    ),
    one_call(
        "pool-set-vswitch-controller",
        "pool.set_vswitch_controller",
        text("address"),
        required=("address",),
        hidden=True,
        summary="Connects every host's switch to an OpenFlow controller.",
    ),
    *(
        one_call(
            f"pool-{verb}-binary-storage",
            f"pool.{verb}_binary_storage",
            hidden=True,
            summary=f"Makes the storage of blobs {verb}d.",
        )
        for verb in ("enable", "disable")
    ),
    *_TRUST,
    *_HA,
    *_SERVICES,
)
