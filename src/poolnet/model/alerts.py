"""Which alerts are there by name? Whoever raises one asks.

An alert is an object of the class message (spec §25).
"""

from __future__ import annotations

from typing import Final

ALERT_TYPES: Final = (
    "HA_HEARTBEAT_APPROACHING_TIMEOUT",
    "HA_NETWORK_BONDING_ERROR",
    "HA_POOL_OVERCOMMITTED",
    "HA_STATEFILE_APPROACHING_TIMEOUT",
    "HA_STATEFILE_LOST",
    "HA_XAPI_HEALTHCHECK_APPROACHING_TIMEOUT",
    "PBD_PLUG_FAILED_ON_SERVER_START",
    "POOL_MASTER_TRANSITION",
    "VBD_QOS_FAILED",
    "VCPU_QOS_FAILED",
    "VIF_QOS_FAILED",
)
"""The names that the API documents."""

BOND_STATUS_CHANGED: Final = "BOND_STATUS_CHANGED"
"""About a host: links of a bond went up or down."""

IP_CONFIGURED_PIF_CAN_UNPLUG: Final = "IP_CONFIGURED_PIF_CAN_UNPLUG"
"""About the pool: PIFs with addresses of their own that may be unplugged."""

VIF_QOS_FAILED: Final = "VIF_QOS_FAILED"
"""About a VM: the NIC of one of its virtual functions cannot limit what it sends."""

VIF_SPOOF_CHECK_FAILED: Final = "VIF_SPOOF_CHECK_FAILED"
"""About a VM: the NIC of one of its virtual functions cannot stop frames with another MAC. poolnet's own."""

VIF_LOCK_VIOLATION: Final = "VIF_LOCK_VIOLATION"
"""About a VM: one of its VIFs sent what its lock stops, or counts in shadow mode. poolnet's own."""

VIF_LOCK_ALTERED: Final = "VIF_LOCK_ALTERED"
"""About a host: somebody changed the rules of locks by hand, and they were put back. poolnet's own."""

HOST_ADDRESS_CONFLICT: Final = "HOST_ADDRESS_CONFLICT"
"""About a host: another machine has one of its addresses too. poolnet's own."""

HOST_NETWORK_DRIFT: Final = "HOST_NETWORK_DRIFT"
"""About a host: somebody changed its network by hand. poolnet's own."""

POOL_MASTER_TRANSITION: Final = "POOL_MASTER_TRANSITION"
"""About a host: it has become the pool's coordinator."""

HA_HOST_FAILED: Final = "HA_HOST_FAILED"
"""About a host: it has lost its lease, and its VMs are restarted elsewhere."""

HA_HOST_WAS_FENCED: Final = "HA_HOST_WAS_FENCED"
"""About a host: it is back after it had stopped its VMs, because it could not prove that it saw the majority."""

HA_PROTECTED_VM_RESTART_FAILED: Final = "HA_PROTECTED_VM_RESTART_FAILED"
"""About a VM: no host can run it at the moment; it is tried again."""

HA_POOL_OVERCOMMITTED: Final = "HA_POOL_OVERCOMMITTED"
"""About the pool: it can bear fewer failures than it shall."""

HA_POOL_DROP_IN_PLAN_EXISTS_FOR: Final = "HA_POOL_DROP_IN_PLAN_EXISTS_FOR"
"""About the pool: it can bear fewer failures than a moment ago."""

HA_ALERT_PRIORITY: Final = 1
"""The priority of all alerts about high availability."""

HOST_LEFT_OUT: Final = "HOST_LEFT_OUT"
"""About a host: it was down when the pool was changed, and gets the change when it comes back. poolnet's own."""

TLS_VERIFICATION_EMERGENCY_DISABLED: Final = "TLS_VERIFICATION_EMERGENCY_DISABLED"
"""About a host: it does not check the certificates of other hosts."""

NETWORK_ALERT_PRIORITY: Final = 3
"""The priority of all alerts about networking."""
