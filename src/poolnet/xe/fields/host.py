"""Which fields does a host show on the command line?"""

from __future__ import annotations

from typing import cast

from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Compute, Shape, column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import Texts


async def _memory_free_computed(reader: Reader, ref: str, record: Record) -> Texts:
    return str(await reader.caller.call("host.compute_free_memory", ref))


async def _missing(reader: Reader, ref: str, record: Record) -> Texts:
    return tuple(cast("tuple[str, ...]", await reader.caller.call("host.explain_missing", ref)))


def _uuids(field: str, cls: str) -> Compute:
    """Make a field of the uuids behind a set of references; "<not in database>" for those that poolnet has none of."""

    async def uuids(reader: Reader, ref: str, record: Record) -> Texts:
        return tuple([await reader.text(cls, each) for each in cast("tuple[str, ...]", record[field])])

    return uuids


HOST = table(
    "host",
    "host",
    shown="uuid name-label name-description",
    columns=(
        column("uuid"),
        column("name-label"),
        column("name-description"),
        column("allowed-operations"),
        column("current-operations"),
        column("enabled"),
        column("display", fixed=True),
        column("API-version-major"),
        column("API-version-minor"),
        column("API-version-vendor"),
        column("API-version-vendor-implementation"),
        column("logging"),
        column("suspend-image-sr-uuid", "suspend_image_sr"),
        column("crash-dump-sr-uuid", "crash_dump_sr"),
        column("software-version"),
        column("capabilities"),
        column("other-config"),
        column("cpu_info"),
        column("chipset-info"),
        column("hostname", fixed=True),
        column("address", fixed=True),
        column("https-only", old=True),
        column("supported-bootloaders"),
        column("blobs"),
        column("memory-overhead"),
        column("memory-total", through="metrics"),
        column("memory-free", through="metrics"),
        computed("memory-free-computed", _memory_free_computed, expensive=True),
        column("host-metrics-live", "live", through="metrics"),
        computed("patches", _uuids("patches", "host_patch"), shape=Shape.SET, comma=True, deprecated=True),
        computed("updates", _uuids("updates", "pool_update"), shape=Shape.SET, comma=True),
        computed("ha-statefiles", _uuids("ha_statefiles", "VDI")),
        column("ha-network-peers", plain=True),
        column("external-auth-type"),
        column("external-auth-service-name"),
        column("external-auth-configuration"),
        column("edition"),
        column("license-server", fixed=True),
        column("power-on-mode", fixed=True),
        column("power-on-config"),
        column("local-cache-sr"),
        column("tags", comma=True),
        column("ssl-legacy"),
        column("guest_VCPUs_params"),
        column("virtual-hardware-platform-versions"),
        column("control-domain-uuid", "control_domain"),
        column("resident-vms", "resident_VMs"),
        column("updates-requiring-reboot"),
        column("features"),
        column("iscsi_iqn"),
        column("multipathing"),
        column("uefi-certificates", hidden=True),
        column("numa-affinity-policy"),
        column("pending-guidances", plain=True),
        column("tls-verification-enabled"),
        column("last-software-update"),
        column("latest-synced-updates-applied"),
        column("pending-guidances-recommended", plain=True),
        column("pending-guidances-full", plain=True),
        column("last-update-hash"),
        column("ssh-enabled"),
        column("ssh-enabled-timeout"),
        column("ssh-expiry"),
        column("console-idle-timeout"),
        column("ssh-auto-mode"),
        column("max-cstate"),
        column("secure-boot"),
        column("ntp-mode"),
        column("ntp-custom-servers", comma=True, whole=True, trimmed=True),
        column("timezone"),
        computed("missing", _missing, shape=Shape.SET, unasked=True),
    ),
)
