"""What is a PIF_metrics? The class of the XenAPI; the registry collects it."""

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
    """The API class PIF_metrics."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    io_read_kbs: float = dynamic(
        default=0.0, path="io/read_kbs", persisted=False, state="removed", deprecated_since="tampa", doc=""
    )
    io_write_kbs: float = dynamic(
        default=0.0, path="io/write_kbs", persisted=False, state="removed", deprecated_since="tampa", doc=""
    )
    carrier: bool = dynamic(default=NO_DEFAULT, doc="")
    vendor_id: str = dynamic(default=NO_DEFAULT, doc="")
    vendor_name: str = dynamic(default=NO_DEFAULT, doc="")
    device_id: str = dynamic(default=NO_DEFAULT, doc="")
    device_name: str = dynamic(default=NO_DEFAULT, doc="")
    speed: int = dynamic(default=NO_DEFAULT, doc="")
    duplex: bool = dynamic(default=NO_DEFAULT, doc="")
    pci_bus_path: str = dynamic(default=NO_DEFAULT, doc="")
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="")
