"""What is a VM_metrics? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.enums import DomainType


@api_class("VM_metrics", events=True, role=Role.VM_ADMIN)
class VMMetrics(Row):
    """The API class VM_metrics."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    memory_actual: int = dynamic(default=NO_DEFAULT, path="memory/actual", persisted=False, doc="")
    VCPUs_number: int = dynamic(default=NO_DEFAULT, path="VCPUs/number", doc="")
    VCPUs_utilisation: Mapping[int, float] = dynamic(
        default={},
        path="VCPUs/utilisation",
        persisted=False,
        state="removed",
        deprecated_since="tampa",
        doc="",
    )
    VCPUs_CPU: Mapping[int, int] = dynamic(default=NO_DEFAULT, path="VCPUs/CPU", persisted=False, doc="")
    VCPUs_params: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, path="VCPUs/params", persisted=False, doc=""
    )
    VCPUs_flags: Mapping[int, tuple[str, ...]] = dynamic(
        default=NO_DEFAULT, path="VCPUs/flags", persisted=False, doc=""
    )
    state: tuple[str, ...] = dynamic(default=NO_DEFAULT, persisted=False, doc="")
    start_time: datetime = dynamic(default=NO_DEFAULT, doc="")
    install_time: datetime = dynamic(default=NO_DEFAULT, doc="")
    last_updated: datetime = dynamic(default=NO_DEFAULT, persisted=False, doc="")
    other_config: Mapping[str, str] = rw(default={}, persisted=False, since="orlando", doc="")
    hvm: bool = dynamic(default=False, persisted=False, since="ely", doc="")
    nested_virt: bool = dynamic(default=False, persisted=False, since="ely", doc="")
    nomigrate: bool = dynamic(default=False, persisted=False, since="ely", doc="")
    current_domain_type: DomainType = dynamic(default="unspecified", since="jura", doc="")
    numa_optimised: bool = static(default=False, since="26.2.0", state="prototyped", doc="")
    numa_nodes: int = static(default=0, since="26.2.0", state="prototyped", doc="")
    numa_node_memory: Mapping[int, int] = dynamic(default={}, since="26.2.0", state="prototyped", doc="")
