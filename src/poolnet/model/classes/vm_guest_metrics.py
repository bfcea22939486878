"""What is a VM_guest_metrics? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.enums import TristateType


@api_class("VM_guest_metrics", events=True, role=Role.VM_ADMIN)
class VMGuestMetrics(Row):
    """The API class VM_guest_metrics."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    os_version: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="")
    netbios_name: Mapping[str, str] = dynamic(default={}, since="24.28.0", state="prototyped", doc="")
    PV_drivers_version: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="")
    PV_drivers_up_to_date: bool = dynamic(
        default=NO_DEFAULT, state="deprecated", deprecated_since="dundee", doc=""
    )
    memory: Mapping[str, str] = dynamic(default={}, state="removed", deprecated_since="george", doc="")
    disks: Mapping[str, str] = dynamic(default={}, state="removed", deprecated_since="orlando", doc="")
    networks: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="")
    other: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="")
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="")
    live: bool = dynamic(default=False, since="orlando", doc="")
    can_use_hotplug_vbd: TristateType = dynamic(default="unspecified", since="dundee", doc="")
    can_use_hotplug_vif: TristateType = dynamic(default="unspecified", since="dundee", doc="")
    PV_drivers_detected: bool = dynamic(default=False, since="dundee", doc="")
    services: Mapping[str, str] = dynamic(default={}, since="25.15.0", state="prototyped", doc="")
