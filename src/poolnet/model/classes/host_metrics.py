"""What is measured of a host? The class host_metrics of the XenAPI."""

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
    """A host's memory, and whether it is alive."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    memory_total: int = dynamic(default=NO_DEFAULT, path="memory/total", doc="The host's memory in bytes.")
    memory_free: int = dynamic(
        default=0,
        path="memory/free",
        state="removed",
        deprecated_since="midnight-ride",
        doc="Removed; read from the metrics instead.",
    )
    live: bool = dynamic(default=NO_DEFAULT, doc="Whether the coordinator hears from the host.")
    last_updated: datetime = dynamic(default=NO_DEFAULT, doc="When a value last changed.")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="Further settings, by key.")
