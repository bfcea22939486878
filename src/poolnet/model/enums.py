"""Which texts may a field or parameter of an enum type have? One StrEnum per enum of the XenAPI.

The classes are named after the enums (bond_mode is BondMode), the members after the texts in capitals.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from poolnet.model.enums_elsewhere import ENUMS_ELSEWHERE


class BondMode(enum.StrEnum):
    """How a bond uses its members."""

    BALANCE_SLB = "balance-slb"
    ACTIVE_BACKUP = "active-backup"
    LACP = "lacp"


class CertificatePurpose(enum.StrEnum):
    """What a certificate is trusted for."""

    LICENSING = "licensing"
    LDAPS = "ldaps"


class CertificateType(enum.StrEnum):
    """What a certificate certifies."""

    CA = "ca"
    HOST = "host"
    HOST_INTERNAL = "host_internal"
    PINNED = "pinned"


class Cls(enum.StrEnum):
    """The classes of objects that an alert can be about."""

    VM = "VM"
    HOST = "Host"
    SR = "SR"
    POOL = "Pool"
    VMPP = "VMPP"
    VMSS = "VMSS"
    PVS_PROXY = "PVS_proxy"
    VDI = "VDI"
    CERTIFICATE = "Certificate"


class DomainType(enum.StrEnum):
    """How Xen virtualizes a VM."""

    HVM = "hvm"
    PV = "pv"
    PV_IN_PVH = "pv_in_pvh"
    PVH = "pvh"
    UNSPECIFIED = "unspecified"


class EventOperation(enum.StrEnum):
    """What happened to an object."""

    ADD = "add"
    DEL = "del"
    MOD = "mod"


class HelloReturn(enum.StrEnum):
    """The coordinator's answers to a member that starts."""

    OK = "ok"
    UNKNOWN_HOST = "unknown_host"
    CANNOT_TALK_BACK = "cannot_talk_back"


class HostAllowedOperations(enum.StrEnum):
    """Operations on a host."""

    PROVISION = "provision"
    EVACUATE = "evacuate"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    POWER_ON = "power_on"
    VM_START = "vm_start"
    VM_RESUME = "vm_resume"
    VM_MIGRATE = "vm_migrate"
    APPLY_UPDATES = "apply_updates"
    ENABLE = "enable"


class HostDisplay(enum.StrEnum):
    """Whether a host's screen is used by the host itself."""

    ENABLED = "enabled"
    DISABLE_ON_REBOOT = "disable_on_reboot"
    DISABLED = "disabled"
    ENABLE_ON_REBOOT = "enable_on_reboot"


class HostNtpMode(enum.StrEnum):
    """Where a host takes its time servers from."""

    DHCP = "DHCP"
    CUSTOM = "Custom"
    FACTORY = "Factory"
    DISABLED = "Disabled"


class HostNumaAffinityPolicy(enum.StrEnum):
    """Whether VMs are kept on NUMA nodes."""

    ANY = "any"
    BEST_EFFORT = "best_effort"
    DEFAULT_POLICY = "default_policy"


class HostSchedGran(enum.StrEnum):
    """What the hypervisor schedules as a unit."""

    CORE = "core"
    CPU = "cpu"
    SOCKET = "socket"


class IpConfigurationMode(enum.StrEnum):
    """How a PIF gets its IPv4 address."""

    NONE = "None"
    DHCP = "DHCP"
    STATIC = "Static"


class Ipv6ConfigurationMode(enum.StrEnum):
    """How a PIF gets its IPv6 address."""

    NONE = "None"
    DHCP = "DHCP"
    STATIC = "Static"
    AUTOCONF = "Autoconf"


class LatestSyncedUpdatesAppliedState(enum.StrEnum):
    """Whether a host has the newest updates."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class NetworkDefaultLockingMode(enum.StrEnum):
    """What a VIF may send whose locking mode is network_default."""

    UNLOCKED = "unlocked"
    DISABLED = "disabled"


class NetworkOperations(enum.StrEnum):
    """Operations on a network."""

    ATTACHING = "attaching"


class NetworkPurpose(enum.StrEnum):
    """Services that a network carries."""

    NBD = "nbd"
    INSECURE_NBD = "insecure_nbd"


class OnCrashBehaviour(enum.StrEnum):
    """What happens to a VM that crashes."""

    DESTROY = "destroy"
    COREDUMP_AND_DESTROY = "coredump_and_destroy"
    RESTART = "restart"
    COREDUMP_AND_RESTART = "coredump_and_restart"
    PRESERVE = "preserve"
    RENAME_RESTART = "rename_restart"


class OnNormalExit(enum.StrEnum):
    """What happens to a VM that shuts down or reboots."""

    DESTROY = "destroy"
    RESTART = "restart"


class OnSoftrebootBehavior(enum.StrEnum):
    """What happens to a VM that reboots softly."""

    SOFT_REBOOT = "soft_reboot"
    DESTROY = "destroy"
    RESTART = "restart"
    PRESERVE = "preserve"


class PciDom0Access(enum.StrEnum):
    """Whether the host itself may use a PCI device."""

    ENABLED = "enabled"
    DISABLE_ON_REBOOT = "disable_on_reboot"
    DISABLED = "disabled"
    ENABLE_ON_REBOOT = "enable_on_reboot"


class PifIgmpStatus(enum.StrEnum):
    """Whether IGMP snooping is on for a PIF."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    UNKNOWN = "unknown"


class PoolAllowedOperations(enum.StrEnum):
    """Operations on a pool."""

    HA_ENABLE = "ha_enable"
    HA_DISABLE = "ha_disable"
    CLUSTER_CREATE = "cluster_create"
    DESIGNATE_NEW_MASTER = "designate_new_master"
    CONFIGURE_REPOSITORIES = "configure_repositories"
    SYNC_UPDATES = "sync_updates"
    SYNC_BUNDLE = "sync_bundle"
    GET_UPDATES = "get_updates"
    APPLY_UPDATES = "apply_updates"
    TLS_VERIFICATION_ENABLE = "tls_verification_enable"
    CERT_REFRESH = "cert_refresh"
    EXCHANGE_CERTIFICATES_ON_JOIN = "exchange_certificates_on_join"
    EXCHANGE_CA_CERTIFICATES_ON_JOIN = "exchange_ca_certificates_on_join"
    COPY_PRIMARY_HOST_CERTS = "copy_primary_host_certs"
    EJECT = "eject"
    EXCHANGE_CRLS_ON_JOIN = "exchange_crls_on_join"


class PoolGuestSecurebootReadiness(enum.StrEnum):
    """Whether a pool can offer secure boot."""

    READY = "ready"
    READY_NO_DBX = "ready_no_dbx"
    NOT_READY = "not_ready"


class PrimaryAddressType(enum.StrEnum):
    """Which address family is a PIF's own."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


class SriovConfigurationMode(enum.StrEnum):
    """How virtual functions are switched on."""

    SYSFS = "sysfs"
    MODPROBE = "modprobe"
    MANUAL = "manual"
    UNKNOWN = "unknown"


class StorageOperations(enum.StrEnum):
    """Operations on a storage repository."""

    SCAN = "scan"
    DESTROY = "destroy"
    FORGET = "forget"
    PLUG = "plug"
    UNPLUG = "unplug"
    UPDATE = "update"
    VDI_CREATE = "vdi_create"
    VDI_INTRODUCE = "vdi_introduce"
    VDI_DESTROY = "vdi_destroy"
    VDI_RESIZE = "vdi_resize"
    VDI_CLONE = "vdi_clone"
    VDI_SNAPSHOT = "vdi_snapshot"
    VDI_MIRROR = "vdi_mirror"
    VDI_ENABLE_CBT = "vdi_enable_cbt"
    VDI_DISABLE_CBT = "vdi_disable_cbt"
    VDI_DATA_DESTROY = "vdi_data_destroy"
    VDI_LIST_CHANGED_BLOCKS = "vdi_list_changed_blocks"
    VDI_SET_ON_BOOT = "vdi_set_on_boot"
    VDI_BLOCKED = "vdi_blocked"
    VDI_COPY = "vdi_copy"
    VDI_FORCE_UNLOCK = "vdi_force_unlock"
    VDI_FORGET = "vdi_forget"
    VDI_GENERATE_CONFIG = "vdi_generate_config"
    VDI_RESIZE_ONLINE = "vdi_resize_online"
    VDI_UPDATE = "vdi_update"
    VDI_REVERT = "vdi_revert"
    PBD_CREATE = "pbd_create"
    PBD_DESTROY = "pbd_destroy"


class TaskAllowedOperations(enum.StrEnum):
    """Operations on a task."""

    CANCEL = "cancel"
    DESTROY = "destroy"


class TaskStatusType(enum.StrEnum):
    """States of a task."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class TelemetryFrequency(enum.StrEnum):
    """How often telemetry is collected."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class TristateType(enum.StrEnum):
    """Yes, no, or not said."""

    YES = "yes"
    NO = "no"
    UNSPECIFIED = "unspecified"


class TunnelProtocol(enum.StrEnum):
    """Encapsulations of a tunnel."""

    GRE = "gre"
    VXLAN = "vxlan"


class UpdateGuidances(enum.StrEnum):
    """What to restart after updates."""

    REBOOT_HOST = "reboot_host"
    REBOOT_HOST_ON_LIVEPATCH_FAILURE = "reboot_host_on_livepatch_failure"
    REBOOT_HOST_ON_KERNEL_LIVEPATCH_FAILURE = "reboot_host_on_kernel_livepatch_failure"
    REBOOT_HOST_ON_XEN_LIVEPATCH_FAILURE = "reboot_host_on_xen_livepatch_failure"
    RESTART_TOOLSTACK = "restart_toolstack"
    RESTART_DEVICE_MODEL = "restart_device_model"
    RESTART_VM = "restart_vm"


class UpdateStatus(enum.StrEnum):
    """Whether something was updated."""

    YES = "yes"
    NO = "no"
    UNSPECIFIED = "unspecified"


class UpdateSyncFrequency(enum.StrEnum):
    """How often updates are looked for."""

    DAILY = "daily"
    WEEKLY = "weekly"


class VifIpv4ConfigurationMode(enum.StrEnum):
    """How the guest sets the IPv4 address of a VIF."""

    NONE = "None"
    STATIC = "Static"
    DHCP = "DHCP"


class VifIpv6ConfigurationMode(enum.StrEnum):
    """How the guest sets the IPv6 address of a VIF."""

    NONE = "None"
    STATIC = "Static"
    AUTOCONF = "Autoconf"


class VifLockingMode(enum.StrEnum):
    """What a VIF may send."""

    NETWORK_DEFAULT = "network_default"
    LOCKED = "locked"
    UNLOCKED = "unlocked"
    DISABLED = "disabled"


class VifOperations(enum.StrEnum):
    """Operations on a VIF."""

    ATTACH = "attach"
    PLUG = "plug"
    UNPLUG = "unplug"


class VmOperations(enum.StrEnum):
    """Operations on a VM."""

    SNAPSHOT = "snapshot"
    CLONE = "clone"
    COPY = "copy"
    CREATE_TEMPLATE = "create_template"
    REVERT = "revert"
    CHECKPOINT = "checkpoint"
    SNAPSHOT_WITH_QUIESCE = "snapshot_with_quiesce"
    PROVISION = "provision"
    START = "start"
    START_ON = "start_on"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    CLEAN_SHUTDOWN = "clean_shutdown"
    CLEAN_REBOOT = "clean_reboot"
    HARD_SHUTDOWN = "hard_shutdown"
    POWER_STATE_RESET = "power_state_reset"
    HARD_REBOOT = "hard_reboot"
    SUSPEND = "suspend"
    CSVM = "csvm"
    RESUME = "resume"
    RESUME_ON = "resume_on"
    POOL_MIGRATE = "pool_migrate"
    MIGRATE_SEND = "migrate_send"
    GET_BOOT_RECORD = "get_boot_record"
    SEND_SYSRQ = "send_sysrq"
    SEND_TRIGGER = "send_trigger"
    QUERY_SERVICES = "query_services"
    SHUTDOWN = "shutdown"
    CALL_PLUGIN = "call_plugin"
    CHANGING_MEMORY_LIVE = "changing_memory_live"
    AWAITING_MEMORY_LIVE = "awaiting_memory_live"
    CHANGING_DYNAMIC_RANGE = "changing_dynamic_range"
    CHANGING_STATIC_RANGE = "changing_static_range"
    CHANGING_MEMORY_LIMITS = "changing_memory_limits"
    CHANGING_SHADOW_MEMORY = "changing_shadow_memory"
    CHANGING_SHADOW_MEMORY_LIVE = "changing_shadow_memory_live"
    CHANGING_VCPUS = "changing_VCPUs"
    CHANGING_VCPUS_LIVE = "changing_VCPUs_live"
    CHANGING_NVRAM = "changing_NVRAM"
    ASSERT_OPERATION_VALID = "assert_operation_valid"
    DATA_SOURCE_OP = "data_source_op"
    UPDATE_ALLOWED_OPERATIONS = "update_allowed_operations"
    MAKE_INTO_TEMPLATE = "make_into_template"
    IMPORT = "import"
    EXPORT = "export"
    METADATA_EXPORT = "metadata_export"
    REVERTING = "reverting"
    DESTROY = "destroy"
    CREATE_VTPM = "create_vtpm"
    SYSPREP = "sysprep"


class VmPowerState(enum.StrEnum):
    """Whether a VM runs."""

    HALTED = "Halted"
    PAUSED = "Paused"
    RUNNING = "Running"
    SUSPENDED = "Suspended"


class VmSecurebootCertificatesState(enum.StrEnum):
    """Whether a VM's secure boot certificates are current."""

    OK = "ok"
    UPDATE_AVAILABLE = "update_available"
    UPDATE_ON_BOOT = "update_on_boot"


class VmSecurebootReadiness(enum.StrEnum):
    """Whether a VM can boot securely."""

    NOT_SUPPORTED = "not_supported"
    DISABLED = "disabled"
    FIRST_BOOT = "first_boot"
    READY = "ready"
    READY_NO_DBX = "ready_no_dbx"
    SETUP_MODE = "setup_mode"
    CERTS_INCOMPLETE = "certs_incomplete"


class VmUefiMode(enum.StrEnum):
    """Modes of a VM's firmware."""

    SETUP = "setup"
    USER = "user"


ENUMS: Final[Mapping[str, type[enum.StrEnum]]] = {
    "bond_mode": BondMode,
    "certificate_purpose": CertificatePurpose,
    "certificate_type": CertificateType,
    "cls": Cls,
    "domain_type": DomainType,
    "event_operation": EventOperation,
    "hello_return": HelloReturn,
    "host_allowed_operations": HostAllowedOperations,
    "host_display": HostDisplay,
    "host_ntp_mode": HostNtpMode,
    "host_numa_affinity_policy": HostNumaAffinityPolicy,
    "host_sched_gran": HostSchedGran,
    "ip_configuration_mode": IpConfigurationMode,
    "ipv6_configuration_mode": Ipv6ConfigurationMode,
    "latest_synced_updates_applied_state": LatestSyncedUpdatesAppliedState,
    "network_default_locking_mode": NetworkDefaultLockingMode,
    "network_operations": NetworkOperations,
    "network_purpose": NetworkPurpose,
    "on_crash_behaviour": OnCrashBehaviour,
    "on_normal_exit": OnNormalExit,
    "on_softreboot_behavior": OnSoftrebootBehavior,
    "pci_dom0_access": PciDom0Access,
    "pif_igmp_status": PifIgmpStatus,
    "pool_allowed_operations": PoolAllowedOperations,
    "pool_guest_secureboot_readiness": PoolGuestSecurebootReadiness,
    "primary_address_type": PrimaryAddressType,
    "sriov_configuration_mode": SriovConfigurationMode,
    "storage_operations": StorageOperations,
    "task_allowed_operations": TaskAllowedOperations,
    "task_status_type": TaskStatusType,
    "telemetry_frequency": TelemetryFrequency,
    "tristate_type": TristateType,
    "tunnel_protocol": TunnelProtocol,
    "update_guidances": UpdateGuidances,
    "update_status": UpdateStatus,
    "update_sync_frequency": UpdateSyncFrequency,
    "vif_ipv4_configuration_mode": VifIpv4ConfigurationMode,
    "vif_ipv6_configuration_mode": VifIpv6ConfigurationMode,
    "vif_locking_mode": VifLockingMode,
    "vif_operations": VifOperations,
    "vm_operations": VmOperations,
    "vm_power_state": VmPowerState,
    "vm_secureboot_certificates_state": VmSecurebootCertificatesState,
    "vm_secureboot_readiness": VmSecurebootReadiness,
    "vm_uefi_mode": VmUefiMode,
    **ENUMS_ELSEWHERE,
}
"""Every enum by its name in the API."""

ENUM_WIRE_NAMES: Final[Mapping[str, str]] = {
    python_type.__name__: name for name, python_type in ENUMS.items()
}
"""The API's names by the names of the classes."""

EXACT_ENUMS: Final = frozenset({"bond_mode", "event_operation"})
"""The enums whose texts must match in upper and lower case too (spec §1.3)."""

_BY_LOWER: Final[Mapping[str, Mapping[str, enum.StrEnum]]] = {
    name: {member.value.lower(): member for member in python_type} for name, python_type in ENUMS.items()
}


def enum_member(enum_name: str, text: str) -> enum.StrEnum | None:
    """Finds the member of an enum that a client means by a text; None if there is none (spec §1.3)."""
    member = _BY_LOWER[enum_name].get(text.lower())
    if member is not None and enum_name in EXACT_ENUMS and member.value != text:
        return None
    return member
