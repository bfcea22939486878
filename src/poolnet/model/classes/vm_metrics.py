"""What is measured of a VM? The class VM_metrics of the XenAPI."""

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
    """A VM's memory, CPUs and times."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    memory_actual: int = dynamic(
        default=NO_DEFAULT, path="memory/actual", persisted=False, doc="The memory that it has now, in bytes."
    )
    VCPUs_number: int = dynamic(
        default=NO_DEFAULT, path="VCPUs/number", doc="How many virtual CPUs it has now."
    )
    VCPUs_utilisation: Mapping[int, float] = dynamic(
        default={},
        path="VCPUs/utilisation",
        persisted=False,
        state="removed",
        deprecated_since="tampa",
        doc="Removed; read from the metrics instead.",
    )
    VCPUs_CPU: Mapping[int, int] = dynamic(
        default=NO_DEFAULT, path="VCPUs/CPU", persisted=False, doc="Which CPU each virtual CPU was on."
    )
    VCPUs_params: Mapping[str, str] = dynamic(
        default=NO_DEFAULT, path="VCPUs/params", persisted=False, doc="Settings of its virtual CPUs."
    )
    VCPUs_flags: Mapping[int, tuple[str, ...]] = dynamic(
        default=NO_DEFAULT, path="VCPUs/flags", persisted=False, doc="What each virtual CPU does."
    )
    state: tuple[str, ...] = dynamic(default=NO_DEFAULT, persisted=False, doc="What its domain does.")
    start_time: datetime = dynamic(default=NO_DEFAULT, doc="When it started.")
    install_time: datetime = dynamic(default=NO_DEFAULT, doc="When it was installed.")
    last_updated: datetime = dynamic(default=NO_DEFAULT, persisted=False, doc="When a value last changed.")
    other_config: Mapping[str, str] = rw(
        default={}, persisted=False, since="orlando", doc="Further settings, by key."
    )
    hvm: bool = dynamic(default=False, persisted=False, since="ely", doc="Whether it is fully virtualized.")
    nested_virt: bool = dynamic(
        default=False, persisted=False, since="ely", doc="Whether it runs VMs itself."
    )
    nomigrate: bool = dynamic(default=False, persisted=False, since="ely", doc="Whether it cannot be moved.")
    current_domain_type: DomainType = dynamic(
        default="unspecified", since="jura", doc="How it is virtualized now."
    )
    numa_optimised: bool = static(
        default=False,
        since="26.2.0",
        state="prototyped",
        doc="Whether its memory is on the NUMA nodes of its CPUs.",
    )
    numa_nodes: int = static(
        default=0, since="26.2.0", state="prototyped", doc="How many NUMA nodes it is on."
    )
    numa_node_memory: Mapping[int, int] = dynamic(
        default={},
        since="26.2.0",
        state="prototyped",
        doc="How much of its memory is on each NUMA node, in bytes.",
    )
