"""What is a host? The class host of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import EPOCH, NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.classes.certificate import Certificate
    from poolnet.model.classes.feature import Feature
    from poolnet.model.classes.host_metrics import HostMetrics
    from poolnet.model.classes.pbd import PBD
    from poolnet.model.classes.pci import PCI
    from poolnet.model.classes.pif import PIF
    from poolnet.model.classes.sr import SR
    from poolnet.model.classes.vm import VM
    from poolnet.model.elsewhere import PGPU, PUSB, Blob, HostCpu, HostCrashdump, HostPatch, PoolUpdate
    from poolnet.model.enums import (
        HostAllowedOperations,
        HostDisplay,
        HostNtpMode,
        HostNumaAffinityPolicy,
        LatestSyncedUpdatesAppliedState,
        UpdateGuidances,
    )
    from poolnet.model.types import Ref


@api_class("host", events=True, role=Role.POOL_OPERATOR)
class Host(Row):
    """A machine that runs VMs."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name_label: str = rw(default="", path="name/label", doc="A name for people; not unique.")
    name_description: str = rw(default="", path="name/description", doc="What it is, in free text.")
    memory_overhead: int = dynamic(
        default=0, path="memory/overhead", doc="The memory that virtualization itself takes, in bytes."
    )
    allowed_operations: tuple[HostAllowedOperations, ...] = dynamic(
        default=(), persisted=False, doc="What may be done with it now."
    )
    current_operations: Mapping[str, HostAllowedOperations] = dynamic(
        default={}, persisted=False, doc="What is being done with it, by task."
    )
    API_version_major: int = dynamic(
        default=NO_DEFAULT, path="API_version/major", doc="The first number of the API's version."
    )
    API_version_minor: int = dynamic(
        default=NO_DEFAULT, path="API_version/minor", doc="The second number of the API's version."
    )
    API_version_vendor: str = dynamic(
        default=NO_DEFAULT, path="API_version/vendor", doc="Who made this implementation."
    )
    API_version_vendor_implementation: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, path="API_version/vendor_implementation", doc="What the vendor says of it."
    )
    enabled: bool = dynamic(default=NO_DEFAULT, doc="Whether it takes VMs.")
    software_version: Mapping[str, str] = static(
        default=NO_DEFAULT, doc="Versions of its software, and which network backend it uses."
    )
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        map_key_roles={"folder": Role.VM_OPERATOR, "XenCenter.CustomFields.*": Role.VM_OPERATOR},
        doc="Further settings, by key.",
    )
    capabilities: tuple[str, ...] = static(default=NO_DEFAULT, doc="What its hypervisor can do.")
    cpu_configuration: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="Settings of its CPUs.")
    sched_policy: str = dynamic(default=NO_DEFAULT, doc="How its hypervisor schedules.")
    supported_bootloaders: tuple[str, ...] = dynamic(
        default=NO_DEFAULT, doc="The boot loaders for paravirtual VMs."
    )
    resident_VMs: tuple[Ref[VM], ...] = dynamic(
        default=NO_DEFAULT, computed=True, doc="The VMs that run on it."
    )
    logging: Mapping[str, str] = rw(default=NO_DEFAULT, doc="Where its logs go.")
    PIFs: tuple[Ref[PIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its interfaces.")
    suspend_image_sr: Ref[SR] = rw(
        default=NO_DEFAULT, doc="The storage for the memory of VMs suspended on it."
    )
    crash_dump_sr: Ref[SR] = rw(default=NO_DEFAULT, doc="The storage for what VMs that crash on it leave.")
    crashdumps: tuple[Ref[HostCrashdump], ...] = dynamic(
        default=NO_DEFAULT, computed=True, doc="What its own crashes left."
    )
    patches: tuple[Ref[HostPatch], ...] = dynamic(
        default=NO_DEFAULT,
        computed=True,
        state="deprecated",
        deprecated_since="ely",
        doc="The old-style updates on it.",
    )
    updates: tuple[Ref[PoolUpdate], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="ely", doc="The updates on it."
    )
    PBDs: tuple[Ref[PBD], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its connections to storage.")
    host_CPUs: tuple[Ref[HostCpu], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its CPUs.")
    cpu_info: Mapping[str, str] = dynamic(
        default={}, since="midnight-ride", doc="Its CPUs' number, make and features."
    )
    hostname: str = rw(default=NO_DEFAULT, doc="Its host name.")
    address: str = rw(
        default=NO_DEFAULT,
        doc="The address of its management interface, by which clients and the pool reach it.",
    )
    metrics: Ref[HostMetrics] = dynamic(default=NO_DEFAULT, doc="What is measured of it.")
    license_params: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="Its licence.")
    ha_statefiles: tuple[str, ...] = dynamic(
        default=(), since="orlando", doc="The disks through which it watches the others."
    )
    ha_network_peers: tuple[str, ...] = dynamic(
        default=(), since="orlando", doc="The hosts that it hears, for high availability."
    )
    blobs: Mapping[str, Ref[Blob]] = dynamic(
        default={}, since="orlando", doc="The files kept for it, by name."
    )
    tags: tuple[str, ...] = rw(
        default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="Words that people attach to find it."
    )
    external_auth_type: str = dynamic(
        default="", since="george", doc="The kind of directory whose users may log in; empty for none."
    )
    external_auth_service_name: str = dynamic(default="", since="george", doc="The directory's name.")
    external_auth_configuration: Mapping[str, str] = dynamic(
        default={}, since="george", doc="Settings of the directory."
    )
    edition: str = dynamic(default="", since="midnight-ride", doc="The edition that it is licensed for.")
    license_server: Mapping[str, str] = rw(
        default={"address": "localhost", "port": "27000"},
        since="midnight-ride",
        doc="Where its licence is taken from.",
    )
    bios_strings: Mapping[str, str] = dynamic(
        default={}, since="midnight-ride", doc="What its firmware says of itself."
    )
    power_on_mode: str = dynamic(
        default="", since="midnight-ride", doc="How it is switched on from afar; empty for not at all."
    )
    power_on_config: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="Settings of that.")
    local_cache_sr: Ref[SR] = static(
        default=NULL, since="cowley", doc="The storage for local caches of shared disks."
    )
    chipset_info: Mapping[str, str] = dynamic(default={}, since="boston", doc="What its chip set can do.")
    PCIs: tuple[Ref[PCI], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="boston", doc="Its PCI devices."
    )
    PGPUs: tuple[Ref[PGPU], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="Its GPUs.")
    PUSBs: tuple[Ref[PUSB], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="inverness", doc="Its USB devices."
    )
    ssl_legacy: bool = static(
        default=True,
        since="dundee",
        state="deprecated",
        deprecated_since="stockholm",
        doc="Whether it allows old TLS versions; always false.",
    )
    guest_VCPUs_params: Mapping[str, str] = rw(
        default={}, since="tampa", doc="Settings for the virtual CPUs of all its VMs."
    )
    display: HostDisplay = rw(
        default="enabled", since="cream", doc="Whether the host itself uses its screen."
    )
    virtual_hardware_platform_versions: tuple[int, ...] = dynamic(
        default=(0,), since="cream", doc="The virtual hardware versions that it can run."
    )
    control_domain: Ref[VM] = dynamic(default=NULL, since="ely", doc="The VM that is the host's own.")
    updates_requiring_reboot: tuple[Ref[PoolUpdate], ...] = dynamic(
        default=NO_DEFAULT,
        stored_ref_set=True,
        since="ely",
        doc="The updates that take effect only when it starts again.",
    )
    features: tuple[Ref[Feature], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="falcon", doc="Features of it that can be told apart."
    )
    iscsi_iqn: str = static(default="", since="kolkata", doc="Its name as an iSCSI initiator.")
    multipathing: bool = static(
        default=False, since="kolkata", doc="Whether it reaches storage over several paths."
    )
    uefi_certificates: str = static(
        default="",
        since="quebec",
        state="deprecated",
        deprecated_since="22.16.0",
        doc="The secure boot certificates it has (see those of the pool).",
    )
    certificates: tuple[Ref[Certificate], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="stockholm", doc="Its certificates."
    )
    editions: tuple[str, ...] = dynamic(
        default=(), since="stockholm", doc="The editions that it can be licensed for."
    )
    pending_guidances: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="1.303.0", doc="What must be restarted for updates to take effect."
    )
    tls_verification_enabled: bool = dynamic(
        default=False, since="1.313.0", doc="Whether it checks the other hosts' certificates."
    )
    last_software_update: datetime = dynamic(
        default=EPOCH, since="22.20.0", state="prototyped", doc="When its software was last updated."
    )
    https_only: bool = dynamic(
        default=False, since="22.27.0", state="prototyped", doc="Whether its port 80 is closed."
    )
    latest_synced_updates_applied: LatestSyncedUpdatesAppliedState = dynamic(
        default="unknown",
        since="23.18.0",
        state="prototyped",
        doc="Whether it has the newest updates that the pool knows.",
    )
    numa_affinity_policy: HostNumaAffinityPolicy = dynamic(
        default="default_policy",
        since="24.0.0",
        state="prototyped",
        doc="Whether its VMs are kept on NUMA nodes.",
    )
    pending_guidances_recommended: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="24.10.0", state="prototyped", doc="What should be restarted after updates."
    )
    pending_guidances_full: tuple[UpdateGuidances, ...] = dynamic(
        default=(),
        since="24.10.0",
        state="prototyped",
        doc="What would have to be restarted for updates to take effect wholly.",
    )
    last_update_hash: str = dynamic(
        default="", since="24.10.0", state="prototyped", doc="The hash of the newest updates on it."
    )
    ssh_enabled: bool = dynamic(
        default=True, since="25.21.0", state="prototyped", doc="Whether SSH is let in."
    )
    ssh_enabled_timeout: int = dynamic(
        default=0,
        since="25.21.0",
        state="prototyped",
        doc="For how many seconds SSH stays open once opened; 0 for always.",
    )
    ssh_expiry: datetime = dynamic(default=EPOCH, since="25.21.0", state="prototyped", doc="When SSH closes.")
    console_idle_timeout: int = dynamic(
        default=0,
        since="25.21.0",
        state="prototyped",
        doc="After how many idle seconds its console closes; 0 for never.",
    )
    ssh_auto_mode: bool = dynamic(
        default=False,
        since="25.27.0",
        state="prototyped",
        doc="Whether it opens SSH by itself when the API does not answer.",
    )
    max_cstate: str = dynamic(
        default="", since="26.0.0", state="prototyped", doc="How deeply its CPUs may sleep."
    )
    secure_boot: bool = dynamic(
        default=False, since="25.31.0", state="prototyped", doc="Whether it booted securely."
    )
    ntp_mode: HostNtpMode = dynamic(
        default="Factory", since="26.0.0", state="prototyped", doc="Where it takes its time servers from."
    )
    ntp_custom_servers: tuple[str, ...] = dynamic(
        default=(), since="26.0.0", state="prototyped", doc="The time servers that the administrator chose."
    )
    timezone: str = dynamic(default="UTC", since="26.0.0", state="prototyped", doc="Its time zone.")
    boot_free_mem: int = dynamic(
        default=NO_DEFAULT, internal=True, doc="The memory that was free when it started."
    )
    recommended_guidances: tuple[UpdateGuidances, ...] = dynamic(
        default=(),
        internal=True,
        since="23.18.0",
        state="removed",
        doc="What should be restarted after updates; superseded.",
    )
