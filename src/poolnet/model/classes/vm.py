"""What is a VM? The class VM of the XenAPI: VMs, templates, snapshots and the hosts' own domains."""

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
    """A virtual machine, a template to make one from, a snapshot of one, or a host's control domain."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    allowed_operations: tuple[VmOperations, ...] = dynamic(
        default=(), persisted=False, doc="What may be done with it now."
    )
    current_operations: Mapping[str, VmOperations] = dynamic(
        default={}, persisted=False, doc="What is being done with it, by task."
    )
    name_label: str = rw(default="", path="name/label", doc="A name for people; not unique.")
    name_description: str = rw(default="", path="name/description", doc="What it is, in free text.")
    power_state: VmPowerState = static(default="Halted", doc="Whether it runs.")
    user_version: int = rw(default=NO_DEFAULT, doc="A version number for clients.")
    is_a_template: bool = rw(
        default=NO_DEFAULT, side_effect_setter=True, doc="Whether it is a template, which never runs."
    )
    is_default_template: bool = dynamic(
        default=False, since="falcon", doc="Whether the template came with the product."
    )
    suspend_VDI: Ref[VDI] = static(default=NULL, doc="The disk with its memory while it is suspended.")
    resident_on: Ref[Host] = dynamic(
        default=NO_DEFAULT, doc="The host that it runs on; null while it does not run."
    )
    scheduled_to_be_resident_on: Ref[Host] = dynamic(default=NULL, doc="The host where it is about to run.")
    affinity: Ref[Host] = rw(
        default=NO_DEFAULT, write_role=Role.VM_POWER_ADMIN, doc="The host where it should run, if it can."
    )
    memory_overhead: int = dynamic(
        default=0, path="memory/overhead", doc="The memory that virtualization itself takes for it, in bytes."
    )
    memory_target: int = static(
        default=0,
        path="memory/target",
        state="deprecated",
        deprecated_since="midnight-ride",
        doc="The memory that it should have now, in bytes.",
    )
    memory_static_max: int = static(
        default=NO_DEFAULT,
        path="memory/static_max",
        doc="The most memory that it can ever have, in bytes; fixed while it runs.",
    )
    memory_dynamic_max: int = static(
        default=NO_DEFAULT, path="memory/dynamic_max", doc="The most memory that it is given, in bytes."
    )
    memory_dynamic_min: int = static(
        default=NO_DEFAULT, path="memory/dynamic_min", doc="The least memory that it is left with, in bytes."
    )
    memory_static_min: int = static(
        default=NO_DEFAULT, path="memory/static_min", doc="The least memory that it can work with, in bytes."
    )
    VCPUs_params: Mapping[str, str] = rw(
        default=NO_DEFAULT, path="VCPUs/params", doc="Settings for its virtual CPUs, such as weight and mask."
    )
    VCPUs_max: int = static(default=NO_DEFAULT, path="VCPUs/max", doc="How many virtual CPUs it can have.")
    VCPUs_at_startup: int = static(
        default=NO_DEFAULT, path="VCPUs/at_startup", doc="How many virtual CPUs it starts with."
    )
    actions_after_softreboot: OnSoftrebootBehavior = rw(
        default="soft_reboot",
        path="actions/after_softreboot",
        since="23.1.0",
        state="prototyped",
        doc="What follows when it reboots softly.",
    )
    actions_after_shutdown: OnNormalExit = rw(
        default=NO_DEFAULT, path="actions/after_shutdown", doc="What follows when it shuts itself down."
    )
    actions_after_reboot: OnNormalExit = rw(
        default=NO_DEFAULT, path="actions/after_reboot", doc="What follows when it reboots itself."
    )
    actions_after_crash: OnCrashBehaviour = static(
        default=NO_DEFAULT, path="actions/after_crash", doc="What follows when it crashes."
    )
    consoles: tuple[Ref[Console], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its consoles.")
    VIFs: tuple[Ref[VIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its network interfaces.")
    VBDs: tuple[Ref[VBD], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its disks' connections.")
    VUSBs: tuple[Ref[VUSB], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="Its USB devices.")
    crash_dumps: tuple[Ref[Crashdump], ...] = dynamic(
        default=NO_DEFAULT, computed=True, doc="What its crashes left."
    )
    VTPMs: tuple[Ref[VTPM], ...] = dynamic(
        default=NO_DEFAULT, computed=True, doc="Its trusted platform modules."
    )
    PV_bootloader: str = rw(
        default=NO_DEFAULT, path="PV/bootloader", doc="The boot loader of a paravirtual VM."
    )
    PV_kernel: str = rw(default=NO_DEFAULT, path="PV/kernel", doc="The kernel of a paravirtual VM.")
    PV_ramdisk: str = rw(default=NO_DEFAULT, path="PV/ramdisk", doc="The initial disk of a paravirtual VM.")
    PV_args: str = rw(default=NO_DEFAULT, path="PV/args", doc="The kernel's arguments of a paravirtual VM.")
    PV_bootloader_args: str = rw(
        default=NO_DEFAULT, path="PV/bootloader_args", doc="The boot loader's arguments of a paravirtual VM."
    )
    PV_legacy_args: str = rw(
        default=NO_DEFAULT, path="PV/legacy_args", doc="Arguments of very old paravirtual VMs."
    )
    HVM_boot_policy: str = static(
        default=NO_DEFAULT,
        path="HVM/boot_policy",
        state="deprecated",
        deprecated_since="kolkata",
        doc="How firmware boots it; empty for a paravirtual VM.",
    )
    HVM_boot_params: Mapping[str, str] = rw(
        default=NO_DEFAULT, path="HVM/boot_params", doc="What firmware boots it from, and which firmware."
    )
    HVM_shadow_multiplier: float = static(
        default=1.0,
        path="HVM/shadow_multiplier",
        since="miami",
        doc="How much memory is set aside for its page tables, as a factor.",
    )
    platform: Mapping[str, str] = static(default=NO_DEFAULT, doc="Settings of its virtual hardware.")
    PCI_bus: str = rw(default=NO_DEFAULT, state="deprecated", deprecated_since="boston", doc="Unused.")
    other_config: Mapping[str, str] = static(default=NO_DEFAULT, doc="Further settings, by key.")
    domid: int = dynamic(default=NO_DEFAULT, doc="The number of its domain; -1 while it has none.")
    domarch: str = dynamic(default=NO_DEFAULT, doc="The architecture of its domain.")
    last_boot_CPU_flags: Mapping[str, str] = static(default={}, doc="The CPU features that it started with.")
    is_control_domain: bool = dynamic(default=NO_DEFAULT, doc="Whether it is a host's own.")
    metrics: Ref[VMMetrics] = dynamic(default=NO_DEFAULT, doc="What is measured of it.")
    guest_metrics: Ref[VMGuestMetrics] = dynamic(default=NO_DEFAULT, doc="What its guest says of itself.")
    last_booted_record: str = static(default="", since="miami", doc="The record that it started with.")
    recommendations: str = rw(default=NO_DEFAULT, doc="Limits that clients should keep to, in XML.")
    xenstore_data: Mapping[str, str] = rw(
        default={},
        side_effect_setter=True,
        since="miami",
        doc="What is put for the guest to read when it starts.",
    )
    ha_always_run: bool = static(
        default=False,
        since="orlando",
        state="deprecated",
        deprecated_since="boston",
        doc="Unused; see ha_restart_priority.",
    )
    ha_restart_priority: str = static(
        default="",
        since="orlando",
        doc="Whether it is restarted after failures: restart, best-effort, or empty for not.",
    )
    is_a_snapshot: bool = dynamic(default=False, since="orlando", doc="Whether it is a snapshot.")
    snapshot_of: Ref[VM] = dynamic(default="", since="orlando", doc="The VM that it is a snapshot of.")
    snapshots: tuple[Ref[VM], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="orlando", doc="Its snapshots."
    )
    snapshot_time: datetime = dynamic(default=EPOCH, since="orlando", doc="When the snapshot was taken.")
    transportable_snapshot_id: str = dynamic(
        default="", since="orlando", doc="How the guest's own snapshot service calls it."
    )
    blobs: Mapping[str, Ref[Blob]] = dynamic(
        default={}, since="orlando", doc="The files kept for it, by name."
    )
    tags: tuple[str, ...] = rw(
        default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="Words that people attach to find it."
    )
    blocked_operations: Mapping[VmOperations, str] = static(
        default={}, since="orlando", doc="Operations that are refused, and with which error code."
    )
    snapshot_info: Mapping[str, str] = dynamic(
        default={}, since="midnight-ride", doc="How the snapshot was taken."
    )
    snapshot_metadata: str = dynamic(
        default="", since="midnight-ride", doc="The record of the VM when the snapshot was taken."
    )
    parent: Ref[VM] = dynamic(default="", since="midnight-ride", doc="The snapshot that it goes back to.")
    children: tuple[Ref[VM], ...] = dynamic(
        default=NO_DEFAULT,
        computed=True,
        since="midnight-ride",
        doc="The VMs and snapshots that go back to it.",
    )
    bios_strings: Mapping[str, str] = dynamic(
        default={}, since="midnight-ride", doc="What its firmware says of itself."
    )
    protection_policy: Ref[VMPP] = static(
        default=NULL,
        since="cowley",
        state="deprecated",
        deprecated_since="clearwater",
        doc="Its protection policy; removed from the API.",
    )
    is_snapshot_from_vmpp: bool = static(
        default=False, since="cowley", state="removed", deprecated_since="clearwater", doc="Removed."
    )
    snapshot_schedule: Ref[VMSS] = static(
        default=NULL, since="falcon", doc="The schedule that takes its snapshots."
    )
    is_vmss_snapshot: bool = static(
        default=False, since="falcon", doc="Whether a schedule took the snapshot."
    )
    appliance: Ref[VMAppliance] = static(default=NULL, doc="The appliance that it belongs to.")
    start_delay: int = static(
        default=0,
        since="boston",
        doc="How many seconds to wait after its start before the next VM of its appliance.",
    )
    shutdown_delay: int = static(
        default=0, since="boston", doc="How many seconds to wait after its shutdown before the next."
    )
    order: int = static(default=0, since="boston", doc="Its place when VMs start in order.")
    VGPUs: tuple[Ref[VGPU], ...] = dynamic(default=NO_DEFAULT, computed=True, since="boston", doc="Its GPUs.")
    attached_PCIs: tuple[Ref[PCI], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="boston", doc="The hosts' PCI devices that it has."
    )
    suspend_SR: Ref[SR] = rw(
        default=NULL, since="boston", doc="The storage for its memory when it is suspended."
    )
    version: int = static(default=0, since="boston", doc="How often it was recovered.")
    generation_id: str = static(
        default="0:0", since="clearwater", doc="What tells its guest that it was copied or reverted."
    )
    hardware_platform_version: int = rw(
        default=0, since="cream", doc="The virtual hardware version that it needs."
    )
    has_vendor_device: bool = static(
        default=True, since="dundee", doc="Whether it has the vendor's PCI device."
    )
    requires_reboot: bool = dynamic(
        default=False, since="ely", doc="Whether changes wait for it to start again."
    )
    reference_label: str = static(
        default="", since="ely", doc="The template that it goes back to, for telemetry."
    )
    domain_type: DomainType = static(default="unspecified", since="jura", doc="How it is virtualized.")
    NVRAM: Mapping[str, str] = static(default={}, since="naples", doc="What its firmware remembers.")
    pending_guidances: tuple[UpdateGuidances, ...] = dynamic(
        default=(), since="1.303.0", doc="What must be restarted for updates to take effect."
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
    groups: tuple[Ref[VMGroup], ...] = dynamic(
        default=NO_DEFAULT,
        computed=True,
        since="24.19.1",
        state="prototyped",
        doc="The group that decides where it is placed.",
    )
    secureboot_certificates_state: VmSecurebootCertificatesState = dynamic(
        default="ok",
        since="26.14.0",
        state="prototyped",
        doc="Whether its secure boot certificates are current.",
    )
    recommended_guidances: tuple[UpdateGuidances, ...] = dynamic(
        default=(),
        internal=True,
        since="23.18.0",
        state="removed",
        doc="What should be restarted after updates; superseded.",
    )
