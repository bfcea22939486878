"""What is a host? The class of the XenAPI; the registry collects it."""

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
    """The API class host."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name_label: str = rw(default="", path="name/label", doc="")
    name_description: str = rw(default="", path="name/description", doc="")
    memory_overhead: int = dynamic(default=0, path="memory/overhead", doc="")
    allowed_operations: tuple[HostAllowedOperations, ...] = dynamic(default=(), persisted=False, doc="")
    current_operations: Mapping[str, HostAllowedOperations] = dynamic(default={}, persisted=False, doc="")
    API_version_major: int = dynamic(default=NO_DEFAULT, path="API_version/major", doc="")
    API_version_minor: int = dynamic(default=NO_DEFAULT, path="API_version/minor", doc="")
    API_version_vendor: str = dynamic(default=NO_DEFAULT, path="API_version/vendor", doc="")
    API_version_vendor_implementation: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, path="API_version/vendor_implementation", doc=""
    )
    enabled: bool = dynamic(default=NO_DEFAULT, doc="")
    software_version: Mapping[str, str] = static(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        map_key_roles={"folder": Role.VM_OPERATOR, "XenCenter.CustomFields.*": Role.VM_OPERATOR},
        doc="",
    )
    capabilities: tuple[str, ...] = static(default=NO_DEFAULT, doc="")
    cpu_configuration: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="")
    sched_policy: str = dynamic(default=NO_DEFAULT, doc="")
    supported_bootloaders: tuple[str, ...] = dynamic(default=NO_DEFAULT, doc="")
    resident_VMs: tuple[Ref[VM], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    logging: Mapping[str, str] = rw(default=NO_DEFAULT, doc="")
    PIFs: tuple[Ref[PIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    suspend_image_sr: Ref[SR] = rw(default=NO_DEFAULT, doc="")
    crash_dump_sr: Ref[SR] = rw(default=NO_DEFAULT, doc="")
    crashdumps: tuple[Ref[HostCrashdump], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    patches: tuple[Ref[HostPatch], ...] = dynamic(
        default=NO_DEFAULT, computed=True, state="deprecated", deprecated_since="ely", doc=""
    )
    updates: tuple[Ref[PoolUpdate], ...] = dynamic(default=NO_DEFAULT, computed=True, since="ely", doc="")
    PBDs: tuple[Ref[PBD], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    host_CPUs: tuple[Ref[HostCpu], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    cpu_info: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="")
    hostname: str = rw(default=NO_DEFAULT, doc="")
    address: str = rw(default=NO_DEFAULT, doc="")
    metrics: Ref[HostMetrics] = dynamic(default=NO_DEFAULT, doc="")
    license_params: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="")
    ha_statefiles: tuple[str, ...] = dynamic(default=(), since="orlando", doc="")
    ha_network_peers: tuple[str, ...] = dynamic(default=(), since="orlando", doc="")
    blobs: Mapping[str, Ref[Blob]] = dynamic(default={}, since="orlando", doc="")
    tags: tuple[str, ...] = rw(default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="")
    external_auth_type: str = dynamic(default="", since="george", doc="")
    external_auth_service_name: str = dynamic(default="", since="george", doc="")
    external_auth_configuration: Mapping[str, str] = dynamic(default={}, since="george", doc="")
    edition: str = dynamic(default="", since="midnight-ride", doc="")
    license_server: Mapping[str, str] = rw(
        default={"address": "localhost", "port": "27000"}, since="midnight-ride", doc=""
    )
    bios_strings: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="")
    power_on_mode: str = dynamic(default="", since="midnight-ride", doc="")
    power_on_config: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="")
    local_cache_sr: Ref[SR] = static(default=NULL, since="cowley", doc="")
    chipset_info: Mapping[str, str] = dynamic(default={}, since="boston", doc="")
    PCIs: tuple[Ref[PCI], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="")
    PGPUs: tuple[Ref[PGPU], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="")
    PUSBs: tuple[Ref[PUSB], ...] = dynamic(default=NO_DEFAULT, computed=True, since="inverness", doc="")
    ssl_legacy: bool = static(
        default=True, since="dundee", state="deprecated", deprecated_since="stockholm", doc=""
    )
    guest_VCPUs_params: Mapping[str, str] = rw(default={}, since="tampa", doc="")
    display: HostDisplay = rw(default="enabled", since="cream", doc="")
    virtual_hardware_platform_versions: tuple[int, ...] = dynamic(default=(0,), since="cream", doc="")
    control_domain: Ref[VM] = dynamic(default=NULL, since="ely", doc="")
    updates_requiring_reboot: tuple[Ref[PoolUpdate], ...] = dynamic(
        default=NO_DEFAULT, stored_ref_set=True, since="ely", doc=""
    )
    features: tuple[Ref[Feature], ...] = dynamic(default=NO_DEFAULT, computed=True, since="falcon", doc="")
    iscsi_iqn: str = static(default="", since="kolkata", doc="")
    multipathing: bool = static(default=False, since="kolkata", doc="")
    uefi_certificates: str = static(
        default="", since="quebec", state="deprecated", deprecated_since="22.16.0", doc=""
    )
    certificates: tuple[Ref[Certificate], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="stockholm", doc=""
    )
    editions: tuple[str, ...] = dynamic(default=(), since="stockholm", doc="")
    pending_guidances: tuple[UpdateGuidances, ...] = dynamic(default=(), since="1.303.0", doc="")
    tls_verification_enabled: bool = dynamic(default=False, since="1.313.0", doc="")
    last_software_update: datetime = dynamic(default=EPOCH, since="22.20.0", state="prototyped", doc="")
    https_only: bool = dynamic(default=False, since="22.27.0", state="prototyped", doc="")
    latest_synced_updates_applied: LatestSyncedUpdatesAppliedState = dynamic(
        default="unknown", since="23.18.0", state="prototyped", doc=""
    )
    numa_affinity_policy: HostNumaAffinityPolicy = dynamic(
        default="default_policy", since="24.0.0", state="prototyped", doc=""
    )
    pending_guidances_recommended: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="24.10.0", state="prototyped", doc=""
    )
    pending_guidances_full: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="24.10.0", state="prototyped", doc=""
    )
    last_update_hash: str = dynamic(default="", since="24.10.0", state="prototyped", doc="")
    ssh_enabled: bool = dynamic(default=True, since="25.21.0", state="prototyped", doc="")
    ssh_enabled_timeout: int = dynamic(default=0, since="25.21.0", state="prototyped", doc="")
    ssh_expiry: datetime = dynamic(default=EPOCH, since="25.21.0", state="prototyped", doc="")
    console_idle_timeout: int = dynamic(default=0, since="25.21.0", state="prototyped", doc="")
    ssh_auto_mode: bool = dynamic(default=False, since="25.27.0", state="prototyped", doc="")
    max_cstate: str = dynamic(default="", since="26.0.0", state="prototyped", doc="")
    secure_boot: bool = dynamic(default=False, since="25.31.0", state="prototyped", doc="")
    ntp_mode: HostNtpMode = dynamic(default="Factory", since="26.0.0", state="prototyped", doc="")
    ntp_custom_servers: tuple[str, ...] = dynamic(default=(), since="26.0.0", state="prototyped", doc="")
    timezone: str = dynamic(default="UTC", since="26.0.0", state="prototyped", doc="")
    boot_free_mem: int = dynamic(default=NO_DEFAULT, internal=True, doc="")
    recommended_guidances: tuple[UpdateGuidances, ...] = dynamic(
        default=(), internal=True, since="23.18.0", state="removed", doc=""
    )
