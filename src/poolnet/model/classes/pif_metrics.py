"""What is measured of a PIF? The class PIF_metrics of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@api_class("PIF_metrics", events=True, role=Role.POOL_OPERATOR)
class PIFMetrics(Row):
    """What the kernel says of a NIC or bond: carrier, speed, and which device it is."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    io_read_kbs: float = dynamic(
        default=0.0,
        path="io/read_kbs",
        persisted=False,
        state="removed",
        deprecated_since="tampa",
        doc="Always 0; read from the metrics instead.",
    )
    io_write_kbs: float = dynamic(
        default=0.0,
        path="io/write_kbs",
        persisted=False,
        state="removed",
        deprecated_since="tampa",
        doc="Always 0; read from the metrics instead.",
    )
    carrier: bool = dynamic(default=NO_DEFAULT, doc="Whether there is a link; for a bond, on any member.")
    vendor_id: str = dynamic(default=NO_DEFAULT, doc="The PCI number of the NIC's vendor.")
    vendor_name: str = dynamic(default=NO_DEFAULT, doc="The name of the NIC's vendor.")
    device_id: str = dynamic(default=NO_DEFAULT, doc="The PCI number of the NIC's model.")
    device_name: str = dynamic(default=NO_DEFAULT, doc="The name of the NIC's model.")
    speed: int = dynamic(
        default=NO_DEFAULT, doc="Megabits per second; for a bond, of all active members; 0 without a link."
    )
    duplex: bool = dynamic(
        default=NO_DEFAULT, doc="Whether the link, or each of a bond's active members, is full duplex."
    )
    pci_bus_path: str = dynamic(default=NO_DEFAULT, doc="Where the NIC is on the PCI bus.")
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="When a value last changed.")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="Further settings, by key.")
