"""What is a PCI? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.vm import VM
    from poolnet.model.types import Ref


@api_class("PCI", events=True, role=Role.POOL_OPERATOR, since="boston")
class PCI(Row):
    """The API class PCI."""

    uuid: str = dynamic(default=NO_DEFAULT, since="boston", doc="")
    class_id: str = static(default="", since="boston", doc="")
    class_name: str = static(default="", since="boston", doc="")
    vendor_id: str = static(default="", since="boston", doc="")
    vendor_name: str = static(default="", since="boston", doc="")
    device_id: str = static(default="", since="boston", doc="")
    device_name: str = static(default="", since="boston", doc="")
    host: Ref[Host] = static(default=NULL, since="boston", doc="")
    pci_id: str = static(default="", since="boston", doc="")
    dependencies: tuple[Ref[PCI], ...] = dynamic(
        default=NO_DEFAULT, stored_ref_set=True, since="boston", doc=""
    )
    other_config: Mapping[str, str] = rw(default={}, since="boston", doc="")
    subsystem_vendor_id: str = static(default="", since="clearwater-whetstone", doc="")
    subsystem_vendor_name: str = static(default="", since="clearwater-whetstone", doc="")
    subsystem_device_id: str = static(default="", since="clearwater-whetstone", doc="")
    subsystem_device_name: str = static(default="", since="clearwater-whetstone", doc="")
    driver_name: str = static(default="", since="kolkata", doc="")
    functions: int = dynamic(default=1, internal=True, since="boston", doc="")
    virtual_functions: tuple[Ref[PCI], ...] = dynamic(
        default=NO_DEFAULT, computed=True, internal=True, since="falcon", doc=""
    )
    physical_function: Ref[PCI] = static(default=NULL, internal=True, since="falcon", doc="")
    attached_VMs: tuple[Ref[VM], ...] = dynamic(
        default=NO_DEFAULT, computed=True, internal=True, since="boston", doc=""
    )
    scheduled_to_be_attached_to: Ref[VM] = dynamic(default=NULL, internal=True, since="falcon", doc="")


MESSAGES = (
    message(
        "disable_dom0_access",
        {"self": "ref:PCI"},
        "enum:pci_dom0_access",
        since="24.14.0",
        state="prototyped",
        doc="",
    ),
    message(
        "enable_dom0_access",
        {"self": "ref:PCI"},
        "enum:pci_dom0_access",
        since="24.14.0",
        state="prototyped",
        doc="",
    ),
    message(
        "get_dom0_access_status",
        {"self": "ref:PCI"},
        "enum:pci_dom0_access",
        since="24.14.0",
        state="prototyped",
        doc="",
    ),
)
