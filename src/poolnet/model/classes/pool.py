"""What is a pool? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import EPOCH, NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.secret import Secret
    from poolnet.model.classes.sr import SR
    from poolnet.model.elsewhere import VDI, Blob, Repository
    from poolnet.model.enums import PoolAllowedOperations, TelemetryFrequency, UpdateSyncFrequency
    from poolnet.model.types import Ref


@api_class("pool", events=True, role=Role.POOL_OPERATOR)
class Pool(Row):
    """The API class pool."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name_label: str = rw(default=NO_DEFAULT, doc="")
    name_description: str = rw(default=NO_DEFAULT, doc="")
    master: Ref[Host] = dynamic(default=NO_DEFAULT, doc="")
    default_SR: Ref[SR] = rw(default=NO_DEFAULT, doc="")
    suspend_image_SR: Ref[SR] = rw(default=NO_DEFAULT, doc="")
    crash_dump_SR: Ref[SR] = rw(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        map_key_roles={
            "folder": Role.VM_OPERATOR,
            "XenCenter.CustomFields.*": Role.VM_OPERATOR,
            "EMPTY_FOLDERS": Role.VM_OPERATOR,
        },
        doc="",
    )
    ha_enabled: bool = dynamic(default=False, since="orlando", doc="")
    ha_configuration: Mapping[str, str] = dynamic(default={}, since="orlando", doc="")
    ha_statefiles: tuple[str, ...] = dynamic(default=(), since="orlando", doc="")
    ha_host_failures_to_tolerate: int = dynamic(default=0, since="orlando", doc="")
    ha_plan_exists_for: int = dynamic(default=0, since="orlando", doc="")
    ha_allow_overcommit: bool = rw(default=False, since="orlando", doc="")
    ha_overcommitted: bool = dynamic(default=False, since="orlando", doc="")
    blobs: Mapping[str, Ref[Blob]] = dynamic(default={}, since="orlando", doc="")
    tags: tuple[str, ...] = rw(default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="")
    gui_config: Mapping[str, str] = rw(default={}, write_role=Role.VM_OPERATOR, since="orlando", doc="")
    health_check_config: Mapping[str, str] = rw(default={}, since="dundee", doc="")
    wlb_url: str = dynamic(default="", since="george", doc="")
    wlb_username: str = dynamic(default="", since="george", doc="")
    wlb_enabled: bool = rw(default=False, client_cert_setter=True, since="george", doc="")
    wlb_verify_cert: bool = rw(
        default=False, since="george", state="deprecated", deprecated_since="1.290.0", doc=""
    )
    redo_log_enabled: bool = dynamic(default=False, since="midnight-ride", doc="")
    redo_log_vdi: Ref[VDI] = dynamic(default=NULL, since="midnight-ride", doc="")
    vswitch_controller: str = dynamic(
        default="", since="midnight-ride", state="deprecated", deprecated_since="falcon", doc=""
    )
    restrictions: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="")
    metadata_VDIs: tuple[Ref[VDI], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="")
    ha_cluster_stack: str = dynamic(default="", since="dundee", doc="")
    allowed_operations: tuple[PoolAllowedOperations, ...] = dynamic(default=(), persisted=False, doc="")
    current_operations: Mapping[str, PoolAllowedOperations] = dynamic(default={}, persisted=False, doc="")
    guest_agent_config: Mapping[str, str] = dynamic(default={}, since="dundee", doc="")
    cpu_info: Mapping[str, str] = dynamic(default={}, since="dundee", doc="")
    policy_no_vendor_device: bool = rw(
        default=False, since="dundee", state="deprecated", deprecated_since="24.14.0", doc=""
    )
    live_patching_disabled: bool = rw(default=False, since="ely", doc="")
    igmp_snooping_enabled: bool = dynamic(default=False, since="inverness", doc="")
    uefi_certificates: str = static(default="", since="quebec", doc="")
    custom_uefi_certificates: str = static(default="", since="24.0.0", state="prototyped", doc="")
    is_psr_pending: bool = rw(default=False, since="stockholm_psr", doc="")
    tls_verification_enabled: bool = dynamic(default=False, since="1.290.0", doc="")
    repositories: tuple[Ref[Repository], ...] = dynamic(
        default=(), stored_ref_set=True, since="1.301.0", doc=""
    )
    client_certificate_auth_enabled: bool = dynamic(default=False, since="1.318.0", doc="")
    client_certificate_auth_name: str = dynamic(default="", since="1.318.0", doc="")
    repository_proxy_url: str = dynamic(default="", since="21.3.0", doc="")
    repository_proxy_username: str = dynamic(default="", since="21.3.0", doc="")
    repository_proxy_password: Ref[Secret] = dynamic(default=NULL, since="21.3.0", doc="")
    migration_compression: bool = rw(default=False, since="22.33.0", state="prototyped", doc="")
    coordinator_bias: bool = rw(default=True, since="22.37.0", doc="")
    local_auth_max_threads: int = static(default=8, since="23.27.0", state="prototyped", doc="")
    ext_auth_max_threads: int = static(default=1, since="23.27.0", state="prototyped", doc="")
    ext_auth_cache_enabled: bool = dynamic(default=True, since="24.31.0", state="prototyped", doc="")
    ext_auth_cache_size: int = dynamic(default=50, since="24.31.0", state="prototyped", doc="")
    ext_auth_cache_expiry: int = dynamic(default=300, since="24.31.0", state="prototyped", doc="")
    telemetry_uuid: Ref[Secret] = dynamic(default=NULL, since="23.9.0", state="prototyped", doc="")
    telemetry_frequency: TelemetryFrequency = dynamic(
        default="weekly", since="23.9.0", state="prototyped", doc=""
    )
    telemetry_next_collection: datetime = dynamic(default=EPOCH, since="23.9.0", state="prototyped", doc="")
    last_update_sync: datetime = dynamic(default=EPOCH, since="23.18.0", state="prototyped", doc="")
    update_sync_frequency: UpdateSyncFrequency = dynamic(
        default="weekly", since="23.18.0", state="prototyped", doc=""
    )
    update_sync_day: int = dynamic(default=0, since="23.18.0", state="prototyped", doc="")
    update_sync_enabled: bool = dynamic(default=False, since="23.18.0", state="prototyped", doc="")
    recommendations: Mapping[str, str] = dynamic(default={}, since="24.19.1", state="prototyped", doc="")
    license_server: Mapping[str, str] = rw(default={}, since="25.6.0", state="prototyped", doc="")
    ha_reboot_vm_on_internal_shutdown: bool = rw(default=True, since="25.16.0", state="prototyped", doc="")
    limit_console_sessions: bool = rw(default=False, since="26.1.0", state="prototyped", doc="")
    vm_console_idle_timeout: int = rw(default=0, since="26.1.0", state="prototyped", doc="")
    auto_update_vm_secureboot_certificates: bool = rw(
        default=False, since="26.16.1", state="prototyped", doc=""
    )
    wlb_password: Ref[Secret] = dynamic(default=NO_DEFAULT, internal=True, since="george", doc="")
