"""Which fields does the pool show on the command line?"""

from __future__ import annotations

from typing import cast

from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Compute, column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import INCONSISTENT, NOT_SET, Texts, boolean, moment


async def _supported_sr_types(reader: Reader, ref: str, record: Record) -> Texts:
    return cast("tuple[str, ...]", await reader.caller.call("SR.get_supported_types"))


async def _ha_statefiles(reader: Reader, ref: str, record: Record) -> Texts:
    statefiles = cast("tuple[str, ...]", record["ha_statefiles"])
    return tuple([await reader.text("VDI", statefile) for statefile in statefiles])


async def _vswitch_controller(reader: Reader, ref: str, record: Record) -> Texts:
    return str(record["vswitch_controller"]) or NOT_SET


async def _license_state(reader: Reader, ref: str, record: Record) -> Texts:
    return cast("dict[str, str]", await reader.caller.call("pool.get_license_state", ref))


async def _https_only(reader: Reader, ref: str, record: Record) -> Texts:
    hosts = await reader.all("host")
    return boolean(all(host["https_only"] for host in hosts.values()))


def _common(field: str) -> Compute:
    """Make a field of what all hosts have in this field, if they agree."""

    async def common(reader: Reader, ref: str, record: Record) -> Texts:
        values = {host[field] for host in (await reader.all("host")).values()}
        if len(values) != 1:
            return INCONSISTENT
        value = values.pop()
        return boolean(value) if isinstance(value, bool) else moment(value)

    return common


POOL = table(
    "pool",
    "pool",
    shown="uuid name-label name-description master default-SR",
    columns=(
        column("uuid"),
        column("name-label"),
        column("name-description"),
        column("master"),
        column("default-SR"),
        column("crash-dump-SR"),
        column("suspend-image-SR"),
        computed("supported-sr-types", _supported_sr_types, expensive=True),
        column("other-config"),
        column("allowed-operations"),
        column("current-operations"),
        column("ha-enabled"),
        column("ha-configuration", plain=True),
        computed("ha-statefiles", _ha_statefiles),
        column("ha-host-failures-to-tolerate", old=True),
        column("ha-plan-exists-for"),
        column("ha-allow-overcommit", old=True),
        column("ha-overcommitted"),
        column("ha-reboot-vm-on-internal-shutdown", old=True),
        column("blobs"),
        column("wlb-url"),
        column("wlb-username"),
        column("wlb-enabled", old=True),
        column("wlb-verify-cert", old=True),
        column("igmp-snooping-enabled", old=True),
        column("gui-config"),
        column("health-check-config"),
        computed("vswitch-controller", _vswitch_controller, hidden=True),
        column("restrictions", plain=True),
        column("tags", comma=True),
        computed("license-state", _license_state),
        column("ha-cluster-stack"),
        column("guest-agent-config"),
        column("cpu_info"),
        column("policy-no-vendor-device"),
        column("live-patching-disabled"),
        column("uefi-certificates", hidden=True),
        column("custom-uefi-certificates", hidden=True),
        column("tls-verification-enabled"),
        column("client-certificate-auth-enabled"),
        column("client-certificate-auth-name"),
        column("repositories", whole=True, adder="add_repository", remover="remove_repository"),
        column("repository-proxy-url"),
        column("repository-proxy-username"),
        computed("https-only", _https_only, setter="set_https_only", old=True),
        column("migration-compression", old=True),
        column("coordinator-bias", old=True),
        column("telemetry-frequency"),
        column("telemetry-next-collection", fixed=True),
        column("last-update-sync"),
        column("update-sync-frequency"),
        column("update-sync-day"),
        column("update-sync-enabled", fixed=True),
        column("auto-update-vm-secureboot-certificates", old=True),
        column("recommendations"),
        column("ext-auth-cache-enabled", old=True),
        column("ext-auth-cache-size", old=True),
        column("ext-auth-cache-expiry", old=True),
        column("license-server"),
        computed("ssh-enabled", _common("ssh_enabled")),
        computed("ssh-enabled-timeout", _common("ssh_enabled_timeout"), setter="set_ssh_enabled_timeout"),
        computed("ssh-expiry", _common("ssh_expiry")),
        computed("console-idle-timeout", _common("console_idle_timeout"), setter="set_console_idle_timeout"),
        computed("ssh-auto-mode", _common("ssh_auto_mode"), setter="set_ssh_auto_mode"),
        column("limit-console-sessions"),
        column("vm-console-idle-timeout"),
    ),
)
