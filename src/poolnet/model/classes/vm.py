"""What is a VM? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import EPOCH, NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.pci import PCI
    from poolnet.model.classes.sr import SR
    from poolnet.model.classes.vif import VIF
    from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
    from poolnet.model.classes.vm_metrics import VMMetrics
    from poolnet.model.elsewhere import (
        VBD,
        VDI,
        VGPU,
        VMPP,
        VMSS,
        VTPM,
        VUSB,
        Blob,
        Console,
        Crashdump,
        VMAppliance,
        VMGroup,
    )
    from poolnet.model.enums import (
        DomainType,
        OnCrashBehaviour,
        OnNormalExit,
        OnSoftrebootBehavior,
        UpdateGuidances,
        VmOperations,
        VmPowerState,
        VmSecurebootCertificatesState,
    )
    from poolnet.model.types import Ref


@api_class("VM", events=True, role=Role.VM_ADMIN, constructor=True)
class VM(Row):
    """The API class VM."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    allowed_operations: tuple[VmOperations, ...] = dynamic(default=(), persisted=False, doc="")
    current_operations: Mapping[str, VmOperations] = dynamic(default={}, persisted=False, doc="")
    name_label: str = rw(default="", path="name/label", doc="")
    name_description: str = rw(default="", path="name/description", doc="")
    power_state: VmPowerState = static(default="Halted", doc="")
    user_version: int = rw(default=NO_DEFAULT, doc="")
    is_a_template: bool = rw(default=NO_DEFAULT, side_effect_setter=True, doc="")
    is_default_template: bool = dynamic(default=False, since="falcon", doc="")
    suspend_VDI: Ref[VDI] = static(default=NULL, doc="")
    resident_on: Ref[Host] = dynamic(default=NO_DEFAULT, doc="")
    scheduled_to_be_resident_on: Ref[Host] = dynamic(default=NULL, doc="")
    affinity: Ref[Host] = rw(default=NO_DEFAULT, write_role=Role.VM_POWER_ADMIN, doc="")
    memory_overhead: int = dynamic(default=0, path="memory/overhead", doc="")
    memory_target: int = static(
        default=0, path="memory/target", state="deprecated", deprecated_since="midnight-ride", doc=""
    )
    memory_static_max: int = static(default=NO_DEFAULT, path="memory/static_max", doc="")
    memory_dynamic_max: int = static(default=NO_DEFAULT, path="memory/dynamic_max", doc="")
    memory_dynamic_min: int = static(default=NO_DEFAULT, path="memory/dynamic_min", doc="")
    memory_static_min: int = static(default=NO_DEFAULT, path="memory/static_min", doc="")
    VCPUs_params: Mapping[str, str] = rw(default=NO_DEFAULT, path="VCPUs/params", doc="")
    VCPUs_max: int = static(default=NO_DEFAULT, path="VCPUs/max", doc="")
    VCPUs_at_startup: int = static(default=NO_DEFAULT, path="VCPUs/at_startup", doc="")
    actions_after_softreboot: OnSoftrebootBehavior = rw(
        default="soft_reboot", path="actions/after_softreboot", since="23.1.0", state="prototyped", doc=""
    )
    actions_after_shutdown: OnNormalExit = rw(default=NO_DEFAULT, path="actions/after_shutdown", doc="")
    actions_after_reboot: OnNormalExit = rw(default=NO_DEFAULT, path="actions/after_reboot", doc="")
    actions_after_crash: OnCrashBehaviour = static(default=NO_DEFAULT, path="actions/after_crash", doc="")
    consoles: tuple[Ref[Console], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    VIFs: tuple[Ref[VIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    VBDs: tuple[Ref[VBD], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    VUSBs: tuple[Ref[VUSB], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    crash_dumps: tuple[Ref[Crashdump], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    VTPMs: tuple[Ref[VTPM], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    PV_bootloader: str = rw(default=NO_DEFAULT, path="PV/bootloader", doc="")
    PV_kernel: str = rw(default=NO_DEFAULT, path="PV/kernel", doc="")
    PV_ramdisk: str = rw(default=NO_DEFAULT, path="PV/ramdisk", doc="")
    PV_args: str = rw(default=NO_DEFAULT, path="PV/args", doc="")
    PV_bootloader_args: str = rw(default=NO_DEFAULT, path="PV/bootloader_args", doc="")
    PV_legacy_args: str = rw(default=NO_DEFAULT, path="PV/legacy_args", doc="")
    HVM_boot_policy: str = static(
        default=NO_DEFAULT, path="HVM/boot_policy", state="deprecated", deprecated_since="kolkata", doc=""
    )
    HVM_boot_params: Mapping[str, str] = rw(default=NO_DEFAULT, path="HVM/boot_params", doc="")
    HVM_shadow_multiplier: float = static(default=1.0, path="HVM/shadow_multiplier", since="miami", doc="")
    platform: Mapping[str, str] = static(default=NO_DEFAULT, doc="")
    PCI_bus: str = rw(default=NO_DEFAULT, state="deprecated", deprecated_since="boston", doc="")
    other_config: Mapping[str, str] = static(default=NO_DEFAULT, doc="")
    domid: int = dynamic(default=NO_DEFAULT, doc="")
    domarch: str = dynamic(default=NO_DEFAULT, doc="")
    last_boot_CPU_flags: Mapping[str, str] = static(default={}, doc="")
    is_control_domain: bool = dynamic(default=NO_DEFAULT, doc="")
    metrics: Ref[VMMetrics] = dynamic(default=NO_DEFAULT, doc="")
    guest_metrics: Ref[VMGuestMetrics] = dynamic(default=NO_DEFAULT, doc="")
    last_booted_record: str = static(default="", since="miami", doc="")
    recommendations: str = rw(default=NO_DEFAULT, doc="")
    xenstore_data: Mapping[str, str] = rw(default={}, side_effect_setter=True, since="miami", doc="")
    ha_always_run: bool = static(
        default=False, since="orlando", state="deprecated", deprecated_since="boston", doc=""
    )
    ha_restart_priority: str = static(default="", since="orlando", doc="")
    is_a_snapshot: bool = dynamic(default=False, since="orlando", doc="")
    snapshot_of: Ref[VM] = dynamic(default="", since="orlando", doc="")
    snapshots: tuple[Ref[VM], ...] = dynamic(default=NO_DEFAULT, computed=True, since="orlando", doc="")
    snapshot_time: datetime = dynamic(default=EPOCH, since="orlando", doc="")
    transportable_snapshot_id: str = dynamic(default="", since="orlando", doc="")
    blobs: Mapping[str, Ref[Blob]] = dynamic(default={}, since="orlando", doc="")
    tags: tuple[str, ...] = rw(default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="")
    blocked_operations: Mapping[VmOperations, str] = static(default={}, since="orlando", doc="")
    snapshot_info: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="")
    snapshot_metadata: str = dynamic(default="", since="midnight-ride", doc="")
    parent: Ref[VM] = dynamic(default="", since="midnight-ride", doc="")
    children: tuple[Ref[VM], ...] = dynamic(default=NO_DEFAULT, computed=True, since="midnight-ride", doc="")
    bios_strings: Mapping[str, str] = dynamic(default={}, since="midnight-ride", doc="")
    protection_policy: Ref[VMPP] = static(
        default=NULL, since="cowley", state="deprecated", deprecated_since="clearwater", doc=""
    )
    is_snapshot_from_vmpp: bool = static(
        default=False, since="cowley", state="removed", deprecated_since="clearwater", doc=""
    )
    snapshot_schedule: Ref[VMSS] = static(default=NULL, since="falcon", doc="")
    is_vmss_snapshot: bool = static(default=False, since="falcon", doc="")
    appliance: Ref[VMAppliance] = static(default=NULL, doc="")
    start_delay: int = static(default=0, since="boston", doc="")
    shutdown_delay: int = static(default=0, since="boston", doc="")
    order: int = static(default=0, since="boston", doc="")
    VGPUs: tuple[Ref[VGPU], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="")
    attached_PCIs: tuple[Ref[PCI], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="")
    suspend_SR: Ref[SR] = rw(default=NULL, since="boston", doc="")
    version: int = static(default=0, since="boston", doc="")
    generation_id: str = static(default="0:0", since="clearwater", doc="")
    hardware_platform_version: int = rw(default=0, since="cream", doc="")
    has_vendor_device: bool = static(default=True, since="dundee", doc="")
    requires_reboot: bool = dynamic(default=False, since="ely", doc="")
    reference_label: str = static(default="", since="ely", doc="")
    domain_type: DomainType = static(default="unspecified", since="jura", doc="")
    NVRAM: Mapping[str, str] = static(default={}, since="naples", doc="")
    pending_guidances: tuple[UpdateGuidances, ...] = dynamic(default=(), since="1.303.0", doc="")
    pending_guidances_recommended: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="24.10.0", state="prototyped", doc=""
    )
    pending_guidances_full: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="24.10.0", state="prototyped", doc=""
    )
    groups: tuple[Ref[VMGroup], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="24.19.1", state="prototyped", doc=""
    )
    secureboot_certificates_state: VmSecurebootCertificatesState = dynamic(
        default="ok", since="26.14.0", state="prototyped", doc=""
    )
    recommended_guidances: tuple[UpdateGuidances, ...] = dynamic(
        default=(), internal=True, since="23.18.0", state="removed", doc=""
    )
