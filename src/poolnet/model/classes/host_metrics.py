"""What is a host_metrics? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@api_class("host_metrics", events=True, role=Role.POOL_OPERATOR)
class HostMetrics(Row):
    """The API class host_metrics."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    memory_total: int = dynamic(default=NO_DEFAULT, path="memory/total", doc="")
    memory_free: int = dynamic(
        default=0, path="memory/free", state="removed", deprecated_since="midnight-ride", doc=""
    )
    live: bool = dynamic(default=NO_DEFAULT, doc="")
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="")
