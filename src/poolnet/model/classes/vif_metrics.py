"""What is a VIF_metrics? The class of the XenAPI; the registry collects it."""

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
    """The API class VIF_metrics."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    io_read_kbs: float = dynamic(
        default=0.0, path="io/read_kbs", persisted=False, state="removed", deprecated_since="tampa", doc=""
    )
    io_write_kbs: float = dynamic(
        default=0.0, path="io/write_kbs", persisted=False, state="removed", deprecated_since="tampa", doc=""
    )
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="")
