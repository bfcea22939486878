"""Which texts may a field or parameter of an enum type have? One StrEnum per enum of the XenAPI.

The classes are named after the enums (bond_mode is BondMode), the members after the texts in capitals.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from poolnet.model.enums_elsewhere import ENUMS_ELSEWHERE
from poolnet.model.enums_vm import *  # noqa: F403 - one name for all enums
from poolnet.model.enums_vm import VM_ENUMS


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


ENUMS: Final[Mapping[str, type[enum.StrEnum]]] = {
    "bond_mode": BondMode,
    "certificate_purpose": CertificatePurpose,
    "certificate_type": CertificateType,
    "cls": Cls,
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
    "pci_dom0_access": PciDom0Access,
    "pif_igmp_status": PifIgmpStatus,
    "pool_allowed_operations": PoolAllowedOperations,
    "pool_guest_secureboot_readiness": PoolGuestSecurebootReadiness,
    "primary_address_type": PrimaryAddressType,
    "sriov_configuration_mode": SriovConfigurationMode,
    "task_allowed_operations": TaskAllowedOperations,
    "task_status_type": TaskStatusType,
    "telemetry_frequency": TelemetryFrequency,
    "tunnel_protocol": TunnelProtocol,
    "update_guidances": UpdateGuidances,
    "update_status": UpdateStatus,
    "update_sync_frequency": UpdateSyncFrequency,
    "vif_ipv4_configuration_mode": VifIpv4ConfigurationMode,
    "vif_ipv6_configuration_mode": VifIpv6ConfigurationMode,
    "vif_locking_mode": VifLockingMode,
    "vif_operations": VifOperations,
    **VM_ENUMS,
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
