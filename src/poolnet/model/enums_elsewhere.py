"""Which texts do the enums of the classes have that poolnet does not keep? `enums` adds them to its own.

No field or message of poolnet has them; they are complete so that the reference is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class AfterApplyGuidance(enum.StrEnum):
    """What to restart after an old-style patch."""

    RESTART_HVM = "restartHVM"
    RESTART_PV = "restartPV"
    RESTART_HOST = "restartHost"
    RESTART_XAPI = "restartXAPI"


class AllocationAlgorithm(enum.StrEnum):
    """How virtual GPUs are spread over physical ones."""

    BREADTH_FIRST = "breadth_first"
    DEPTH_FIRST = "depth_first"


class ClusterHostOperation(enum.StrEnum):
    """Operations on a member of a cluster."""

    ENABLE = "enable"
    DISABLE = "disable"
    DESTROY = "destroy"


class ClusterOperation(enum.StrEnum):
    """Operations on a cluster."""

    ADD = "add"
    REMOVE = "remove"
    ENABLE = "enable"
    DISABLE = "disable"
    DESTROY = "destroy"


class ConsoleProtocol(enum.StrEnum):
    """Protocols of a VM's console."""

    VT100 = "vt100"
    RFB = "rfb"
    RDP = "rdp"


class ImageFormatType(enum.StrEnum):
    """Formats of disk images."""

    RAW = "raw"
    VHD = "vhd"
    QCOW2 = "qcow2"


class LivepatchStatus(enum.StrEnum):
    """How completely live patches apply."""

    OK_LIVEPATCH_COMPLETE = "ok_livepatch_complete"
    OK_LIVEPATCH_INCOMPLETE = "ok_livepatch_incomplete"
    OK = "ok"


class OnBoot(enum.StrEnum):
    """What happens to a disk when its VM starts."""

    RESET = "reset"
    PERSIST = "persist"


class Origin(enum.StrEnum):
    """Where updates come from."""

    REMOTE = "remote"
    BUNDLE = "bundle"
    REMOTE_POOL = "remote_pool"


class PersistenceBackend(enum.StrEnum):
    """Where a virtual TPM's state is kept."""

    XAPI = "xapi"


class PlacementPolicy(enum.StrEnum):
    """How the VMs of a group are placed."""

    ANTI_AFFINITY = "anti_affinity"
    NORMAL = "normal"


class PvsProxyStatus(enum.StrEnum):
    """States of a provisioning cache."""

    STOPPED = "stopped"
    INITIALISED = "initialised"
    CACHING = "caching"
    INCOMPATIBLE_WRITE_CACHE_MODE = "incompatible_write_cache_mode"
    INCOMPATIBLE_PROTOCOL_VERSION = "incompatible_protocol_version"


class SdnControllerProtocol(enum.StrEnum):
    """Protocols to an SDN controller."""

    SSL = "ssl"
    PSSL = "pssl"


class SrHealth(enum.StrEnum):
    """States of a storage repository."""

    HEALTHY = "healthy"
    RECOVERING = "recovering"
    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"


class UpdateAfterApplyGuidance(enum.StrEnum):
    """What to restart after a pool update."""

    RESTART_HVM = "restartHVM"
    RESTART_PV = "restartPV"
    RESTART_HOST = "restartHost"
    RESTART_XAPI = "restartXAPI"


class VbdMode(enum.StrEnum):
    """Whether a disk may be written."""

    RO = "RO"
    RW = "RW"


class VbdOperations(enum.StrEnum):
    """Operations on a VBD."""

    ATTACH = "attach"
    EJECT = "eject"
    INSERT = "insert"
    PLUG = "plug"
    UNPLUG = "unplug"
    UNPLUG_FORCE = "unplug_force"
    PAUSE = "pause"
    UNPAUSE = "unpause"


class VbdType(enum.StrEnum):
    """Kinds of drives."""

    CD = "CD"
    DISK = "Disk"
    FLOPPY = "Floppy"


class VdiOperations(enum.StrEnum):
    """Operations on a virtual disk."""

    CLONE = "clone"
    COPY = "copy"
    RESIZE = "resize"
    RESIZE_ONLINE = "resize_online"
    SNAPSHOT = "snapshot"
    MIRROR = "mirror"
    DESTROY = "destroy"
    FORGET = "forget"
    UPDATE = "update"
    FORCE_UNLOCK = "force_unlock"
    GENERATE_CONFIG = "generate_config"
    ENABLE_CBT = "enable_cbt"
    DISABLE_CBT = "disable_cbt"
    DATA_DESTROY = "data_destroy"
    LIST_CHANGED_BLOCKS = "list_changed_blocks"
    SET_ON_BOOT = "set_on_boot"
    BLOCKED = "blocked"
    REVERT_TO = "revert_to"
    REVERT_FROM = "revert_from"


class VdiType(enum.StrEnum):
    """Uses of a virtual disk."""

    SYSTEM = "system"
    USER = "user"
    EPHEMERAL = "ephemeral"
    SUSPEND = "suspend"
    CRASHDUMP = "crashdump"
    HA_STATEFILE = "ha_statefile"
    METADATA = "metadata"
    REDO_LOG = "redo_log"
    RRD = "rrd"
    PVS_CACHE = "pvs_cache"
    CBT_METADATA = "cbt_metadata"


class VgpuTypeImplementation(enum.StrEnum):
    """How virtual GPUs are made."""

    PASSTHROUGH = "passthrough"
    NVIDIA = "nvidia"
    NVIDIA_SRIOV = "nvidia_sriov"
    GVT_G = "gvt_g"
    MXGPU = "mxgpu"


class VmApplianceOperation(enum.StrEnum):
    """Operations on an appliance."""

    START = "start"
    CLEAN_SHUTDOWN = "clean_shutdown"
    HARD_SHUTDOWN = "hard_shutdown"
    SHUTDOWN = "shutdown"


class VmppArchiveFrequency(enum.StrEnum):
    """How often a protection policy archives."""

    NEVER = "never"
    ALWAYS_AFTER_BACKUP = "always_after_backup"
    DAILY = "daily"
    WEEKLY = "weekly"


class VmppArchiveTargetType(enum.StrEnum):
    """Where a protection policy archives to."""

    NONE = "none"
    CIFS = "cifs"
    NFS = "nfs"


class VmppBackupFrequency(enum.StrEnum):
    """How often a protection policy backs up."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"


class VmppBackupType(enum.StrEnum):
    """What a protection policy makes."""

    SNAPSHOT = "snapshot"
    CHECKPOINT = "checkpoint"


class VmssFrequency(enum.StrEnum):
    """How often a schedule takes snapshots."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"


class VmssType(enum.StrEnum):
    """What a schedule takes."""

    SNAPSHOT = "snapshot"
    CHECKPOINT = "checkpoint"
    SNAPSHOT_WITH_QUIESCE = "snapshot_with_quiesce"


class VtpmOperations(enum.StrEnum):
    """Operations on a virtual TPM."""

    DESTROY = "destroy"


class VusbOperations(enum.StrEnum):
    """Operations on a virtual USB device."""

    ATTACH = "attach"
    PLUG = "plug"
    UNPLUG = "unplug"


ENUMS_ELSEWHERE: Final[Mapping[str, type[enum.StrEnum]]] = {
    "after_apply_guidance": AfterApplyGuidance,
    "allocation_algorithm": AllocationAlgorithm,
    "cluster_host_operation": ClusterHostOperation,
    "cluster_operation": ClusterOperation,
    "console_protocol": ConsoleProtocol,
    "image_format_type": ImageFormatType,
    "livepatch_status": LivepatchStatus,
    "on_boot": OnBoot,
    "origin": Origin,
    "persistence_backend": PersistenceBackend,
    "placement_policy": PlacementPolicy,
    "pvs_proxy_status": PvsProxyStatus,
    "sdn_controller_protocol": SdnControllerProtocol,
    "sr_health": SrHealth,
    "update_after_apply_guidance": UpdateAfterApplyGuidance,
    "vbd_mode": VbdMode,
    "vbd_operations": VbdOperations,
    "vbd_type": VbdType,
    "vdi_operations": VdiOperations,
    "vdi_type": VdiType,
    "vgpu_type_implementation": VgpuTypeImplementation,
    "vm_appliance_operation": VmApplianceOperation,
    "vmpp_archive_frequency": VmppArchiveFrequency,
    "vmpp_archive_target_type": VmppArchiveTargetType,
    "vmpp_backup_frequency": VmppBackupFrequency,
    "vmpp_backup_type": VmppBackupType,
    "vmss_frequency": VmssFrequency,
    "vmss_type": VmssType,
    "vtpm_operations": VtpmOperations,
    "vusb_operations": VusbOperations,
}
"""These enums by their names in the API."""
