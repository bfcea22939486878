"""What was measured of a VIF? The class VIF_metrics of the XenAPI, all but removed from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@api_class(
    "VIF_metrics", events=True, role=Role.VM_ADMIN, persisted=False, state="removed", deprecated_since="tampa"
)
class VIFMetrics(Row):
    """An empty object that each VIF has, because old clients look for it."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    io_read_kbs: float = dynamic(
        default=0.0,
        path="io/read_kbs",
        persisted=False,
        state="removed",
        deprecated_since="tampa",
        doc="Removed.",
    )
    io_write_kbs: float = dynamic(
        default=0.0,
        path="io/write_kbs",
        persisted=False,
        state="removed",
        deprecated_since="tampa",
        doc="Removed.",
    )
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="Always the epoch.")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="Further settings, by key.")
