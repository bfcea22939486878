"""What is a class called in Python, and what on the wire? The declarations ask.

Most classes have one name; these differ, because Python's classes are written in capitalised words, and
because `Role` is the ordered list of roles (the objects of the API's class role are `RoleRecord`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_WIRE_NAMES: Final[Mapping[str, str]] = {
    "Blob": "blob",
    "Console": "console",
    "Crashdump": "crashdump",
    "DRTask": "DR_task",
    "Event": "event",
    "Host": "host",
    "HostCpu": "host_cpu",
    "HostCrashdump": "host_crashdump",
    "HostMetrics": "host_metrics",
    "HostPatch": "host_patch",
    "Message": "message",
    "Network": "network",
    "NetworkSriov": "network_sriov",
    "PIFMetrics": "PIF_metrics",
    "Pool": "pool",
    "PoolUpdate": "pool_update",
    "Auth": "auth",
    "RoleRecord": "role",
    "Secret": "secret",
    "Session": "session",
    "Subject": "subject",
    "Task": "task",
    "Tunnel": "tunnel",
    "User": "user",
    "VIFMetrics": "VIF_metrics",
    "VMAppliance": "VM_appliance",
    "VMGroup": "VM_group",
    "VMGuestMetrics": "VM_guest_metrics",
    "VMMetrics": "VM_metrics",
}


def wire_name_of(python_name: str) -> str:
    """Gives the API's name of the class with this Python name."""
    return _WIRE_NAMES.get(python_name, python_name)
