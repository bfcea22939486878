"""What does a guest say of itself? The class VM_guest_metrics of the XenAPI."""

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
    """What the agent in a guest says: its system, its addresses, what it can do."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    os_version: Mapping[str, str] = dynamic(default=NO_DEFAULT, doc="Its operating system.")
    netbios_name: Mapping[str, str] = dynamic(
        default={}, since="24.28.0", state="prototyped", doc="Its NetBIOS name."
    )
    PV_drivers_version: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, doc="The version of its paravirtual drivers."
    )
    PV_drivers_up_to_date: bool = dynamic(
        default=NO_DEFAULT,
        state="deprecated",
        deprecated_since="dundee",
        doc="Whether these drivers are there at all; the name is history.",
    )
    memory: Mapping[str, str] = dynamic(
        default={}, state="removed", deprecated_since="george", doc="Removed; read from the metrics instead."
    )
    disks: Mapping[str, str] = dynamic(
        default={}, state="removed", deprecated_since="orlando", doc="Removed."
    )
    networks: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, doc="Its addresses: 0/ip, 0/ipv4/0, 0/ipv6/0 and so on, by VIF device number."
    )
    other: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, doc="What else it says, such as feature-static-ip-setting."
    )
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="When a value last changed.")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="Further settings, by key.")
    live: bool = dynamic(default=False, since="orlando", doc="Whether the agent still speaks.")
    can_use_hotplug_vbd: TristateType = dynamic(
        default="unspecified", since="dundee", doc="Whether disks can be plugged while it runs."
    )
    can_use_hotplug_vif: TristateType = dynamic(
        default="unspecified", since="dundee", doc="Whether VIFs can be plugged while it runs."
    )
    PV_drivers_detected: bool = dynamic(
        default=False, since="dundee", doc="Whether a paravirtual driver works in it."
    )
    services: Mapping[str, str] = dynamic(
        default={}, since="25.15.0", state="prototyped", doc="The services that it offers."
    )
