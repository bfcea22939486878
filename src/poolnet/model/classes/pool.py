"""What is a pool? The class pool of the XenAPI."""

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
    """Hosts that share one configuration. There is exactly one pool."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name_label: str = rw(default=NO_DEFAULT, doc="The pool's name.")
    name_description: str = rw(default=NO_DEFAULT, doc="What the pool is for, in free text.")
    master: Ref[Host] = dynamic(
        default=NO_DEFAULT, doc="The coordinator: the host that keeps the database and answers clients."
    )
    default_SR: Ref[SR] = rw(default=NO_DEFAULT, doc="The storage for new disks, unless a call says other.")
    suspend_image_SR: Ref[SR] = rw(default=NO_DEFAULT, doc="The storage for the memory of suspended VMs.")
    crash_dump_SR: Ref[SR] = rw(default=NO_DEFAULT, doc="The storage for what crashed VMs leave.")
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        map_key_roles={
            "folder": Role.VM_OPERATOR,
            "XenCenter.CustomFields.*": Role.VM_OPERATOR,
            "EMPTY_FOLDERS": Role.VM_OPERATOR,
        },
        doc="Further settings, by key.",
    )
    ha_enabled: bool = dynamic(default=False, since="orlando", doc="Whether high availability is on.")
    ha_configuration: Mapping[str, str] = dynamic(
        default={}, since="orlando", doc="Settings of high availability."
    )
    ha_statefiles: tuple[str, ...] = dynamic(
        default=(), since="orlando", doc="The disks that hosts watch each other through."
    )
    ha_host_failures_to_tolerate: int = dynamic(
        default=0, since="orlando", doc="How many hosts may fail before protected VMs cannot be restarted."
    )
    ha_plan_exists_for: int = dynamic(
        default=0, since="orlando", doc="How many failures there is a plan for now."
    )
    ha_allow_overcommit: bool = rw(
        default=False, since="orlando", doc="Whether changes may go beyond what the plan can bear."
    )
    ha_overcommitted: bool = dynamic(
        default=False, since="orlando", doc="Whether the plan bears less than was asked for."
    )
    blobs: Mapping[str, Ref[Blob]] = dynamic(
        default={}, since="orlando", doc="The files kept for it, by name."
    )
    tags: tuple[str, ...] = rw(
        default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="Words that people attach to find it."
    )
    gui_config: Mapping[str, str] = rw(
        default={},
        write_role=Role.VM_OPERATOR,
        since="orlando",
        doc="What graphical clients keep for themselves.",
    )
    health_check_config: Mapping[str, str] = rw(
        default={}, since="dundee", doc="Settings of the health check service."
    )
    wlb_url: str = dynamic(
        default="", since="george", doc="The address of the workload balancer; empty without one."
    )
    wlb_username: str = dynamic(
        default="", since="george", doc="The name by which the workload balancer knows the pool."
    )
    wlb_enabled: bool = rw(
        default=False,
        client_cert_setter=True,
        since="george",
        doc="Whether the workload balancer's advice is used.",
    )
    wlb_verify_cert: bool = rw(
        default=False,
        since="george",
        state="deprecated",
        deprecated_since="1.290.0",
        doc="Whether the workload balancer's certificate is checked.",
    )
    redo_log_enabled: bool = dynamic(
        default=False, since="midnight-ride", doc="Whether changes are also logged on shared storage."
    )
    redo_log_vdi: Ref[VDI] = dynamic(default=NULL, since="midnight-ride", doc="The disk of that log.")
    vswitch_controller: str = dynamic(
        default="",
        since="midnight-ride",
        state="deprecated",
        deprecated_since="falcon",
        doc="The address of the SDN controller; empty without one.",
    )
    restrictions: Mapping[str, str] = dynamic(
        default={}, since="midnight-ride", doc="The features that the licence withholds, by name."
    )
    metadata_VDIs: tuple[Ref[VDI], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="boston", doc="The disks that hold a copy of the database."
    )
    ha_cluster_stack: str = dynamic(
        default="", since="dundee", doc="The software by which hosts watch each other."
    )
    allowed_operations: tuple[PoolAllowedOperations, ...] = dynamic(
        default=(), persisted=False, doc="What may be done with it now."
    )
    current_operations: Mapping[str, PoolAllowedOperations] = dynamic(
        default={}, persisted=False, doc="What is being done with it, by task."
    )
    guest_agent_config: Mapping[str, str] = dynamic(
        default={}, since="dundee", doc="Settings handed to the agents in the guests."
    )
    cpu_info: Mapping[str, str] = dynamic(
        default={}, since="dundee", doc="The CPU features that all hosts have."
    )
    policy_no_vendor_device: bool = rw(
        default=False,
        since="dundee",
        state="deprecated",
        deprecated_since="24.14.0",
        doc="Whether new VMs go without the vendor's PCI device.",
    )
    live_patching_disabled: bool = rw(
        default=False, since="ely", doc="Whether updates restart what they could patch alive."
    )
    igmp_snooping_enabled: bool = dynamic(
        default=False, since="inverness", doc="Whether bridges send multicast only where it was asked for."
    )
    uefi_certificates: str = static(default="", since="quebec", doc="The secure boot certificates in use.")
    custom_uefi_certificates: str = static(
        default="",
        since="24.0.0",
        state="prototyped",
        doc="The secure boot certificates that the administrator gave.",
    )
    is_psr_pending: bool = rw(
        default=False, since="stockholm_psr", doc="Whether a change of the pool's secret is unfinished."
    )
    tls_verification_enabled: bool = dynamic(
        default=False, since="1.290.0", doc="Whether hosts check each other's certificates."
    )
    repositories: tuple[Ref[Repository], ...] = dynamic(
        default=(), stored_ref_set=True, since="1.301.0", doc="The sources of updates in use."
    )
    client_certificate_auth_enabled: bool = dynamic(
        default=False, since="1.318.0", doc="Whether clients may log in with certificates."
    )
    client_certificate_auth_name: str = dynamic(
        default="", since="1.318.0", doc="The name that such a certificate must carry."
    )
    repository_proxy_url: str = dynamic(
        default="", since="21.3.0", doc="The proxy to the sources of updates."
    )
    repository_proxy_username: str = dynamic(default="", since="21.3.0", doc="The name for that proxy.")
    repository_proxy_password: Ref[Secret] = dynamic(
        default=NULL, since="21.3.0", doc="The password for that proxy."
    )
    migration_compression: bool = rw(
        default=False,
        since="22.33.0",
        state="prototyped",
        doc="Whether migrations compress memory unless told otherwise.",
    )
    coordinator_bias: bool = rw(
        default=True,
        since="22.37.0",
        doc="Whether VMs are rather started on members than on the coordinator.",
    )
    local_auth_max_threads: int = static(
        default=8, since="23.27.0", state="prototyped", doc="How many local logins are checked at once."
    )
    ext_auth_max_threads: int = static(
        default=1, since="23.27.0", state="prototyped", doc="How many logins the directory checks at once."
    )
    ext_auth_cache_enabled: bool = dynamic(
        default=True,
        since="24.31.0",
        state="prototyped",
        doc="Whether the directory's answers are remembered.",
    )
    ext_auth_cache_size: int = dynamic(
        default=50, since="24.31.0", state="prototyped", doc="How many answers are remembered."
    )
    ext_auth_cache_expiry: int = dynamic(
        default=300, since="24.31.0", state="prototyped", doc="For how many seconds they are."
    )
    telemetry_uuid: Ref[Secret] = dynamic(
        default=NULL, since="23.9.0", state="prototyped", doc="The pool's pseudonym in telemetry."
    )
    telemetry_frequency: TelemetryFrequency = dynamic(
        default="weekly", since="23.9.0", state="prototyped", doc="How often telemetry is collected."
    )
    telemetry_next_collection: datetime = dynamic(
        default=EPOCH, since="23.9.0", state="prototyped", doc="When it is collected next, at the earliest."
    )
    last_update_sync: datetime = dynamic(
        default=EPOCH, since="23.18.0", state="prototyped", doc="When updates were last looked for."
    )
    update_sync_frequency: UpdateSyncFrequency = dynamic(
        default="weekly", since="23.18.0", state="prototyped", doc="How often updates are looked for."
    )
    update_sync_day: int = dynamic(
        default=0,
        since="23.18.0",
        state="prototyped",
        doc="On which day of the week they are; 0 for every day.",
    )
    update_sync_enabled: bool = dynamic(
        default=False,
        since="23.18.0",
        state="prototyped",
        doc="Whether updates are looked for by themselves.",
    )
    recommendations: Mapping[str, str] = dynamic(
        default={}, since="24.19.1", state="prototyped", doc="Limits that clients should keep to."
    )
    license_server: Mapping[str, str] = rw(
        default={}, since="25.6.0", state="prototyped", doc="Where licences are taken from."
    )
    ha_reboot_vm_on_internal_shutdown: bool = rw(
        default=True,
        since="25.16.0",
        state="prototyped",
        doc="Whether a protected VM that shuts itself down is started again.",
    )
    limit_console_sessions: bool = rw(
        default=False,
        since="26.1.0",
        state="prototyped",
        doc="Whether a VM's console has one viewer at most.",
    )
    vm_console_idle_timeout: int = rw(
        default=0,
        since="26.1.0",
        state="prototyped",
        doc="After how many idle seconds a VM's console is closed; 0 for never.",
    )
    auto_update_vm_secureboot_certificates: bool = rw(
        default=False,
        since="26.16.1",
        state="prototyped",
        doc="Whether VMs' secure boot certificates are kept current.",
    )
    wlb_password: Ref[Secret] = dynamic(
        default=NO_DEFAULT, internal=True, since="george", doc="The password for the workload balancer."
    )
