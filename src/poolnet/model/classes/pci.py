"""What is a PCI device? The class PCI of the XenAPI."""

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
    """A PCI device of a host."""

    uuid: str = dynamic(
        default=NO_DEFAULT, since="boston", doc="The name that it keeps for life, in all pools."
    )
    class_id: str = static(default="", since="boston", doc="The number of its kind.")
    class_name: str = static(default="", since="boston", doc="The name of its kind.")
    vendor_id: str = static(default="", since="boston", doc="The number of its vendor.")
    vendor_name: str = static(default="", since="boston", doc="The name of its vendor.")
    device_id: str = static(default="", since="boston", doc="The number of its model.")
    device_name: str = static(default="", since="boston", doc="The name of its model.")
    host: Ref[Host] = static(default=NULL, since="boston", doc="The host it is in.")
    pci_id: str = static(default="", since="boston", doc="Where it is on the bus.")
    dependencies: tuple[Ref[PCI], ...] = dynamic(
        default=NO_DEFAULT,
        stored_ref_set=True,
        since="boston",
        doc="The devices that go to a VM only together with it.",
    )
    other_config: Mapping[str, str] = rw(default={}, since="boston", doc="Further settings, by key.")
    subsystem_vendor_id: str = static(
        default="", since="clearwater-whetstone", doc="The number of its subsystem's vendor."
    )
    subsystem_vendor_name: str = static(
        default="", since="clearwater-whetstone", doc="The name of its subsystem's vendor."
    )
    subsystem_device_id: str = static(
        default="", since="clearwater-whetstone", doc="The number of its subsystem's model."
    )
    subsystem_device_name: str = static(
        default="", since="clearwater-whetstone", doc="The name of its subsystem's model."
    )
    driver_name: str = static(default="", since="kolkata", doc="The kernel driver that has it.")
    functions: int = dynamic(default=1, internal=True, since="boston", doc="How many functions it has.")
    virtual_functions: tuple[Ref[PCI], ...] = dynamic(
        default=NO_DEFAULT, computed=True, internal=True, since="falcon", doc="Its virtual functions."
    )
    physical_function: Ref[PCI] = static(
        default=NULL, internal=True, since="falcon", doc="The device whose virtual function it is."
    )
    attached_VMs: tuple[Ref[VM], ...] = dynamic(
        default=NO_DEFAULT, computed=True, internal=True, since="boston", doc="The VMs that have it."
    )
    scheduled_to_be_attached_to: Ref[VM] = dynamic(
        default=NULL, internal=True, since="falcon", doc="The VM that it is set aside for."
    )


MESSAGES = (
    message(
        "disable_dom0_access",
        {"self": "ref:PCI"},
        "enum:pci_dom0_access",
        since="24.14.0",
        state="prototyped",
        doc="Hides the device from the host at its next start.",
    ),
    message(
        "enable_dom0_access",
        {"self": "ref:PCI"},
        "enum:pci_dom0_access",
        since="24.14.0",
        state="prototyped",
        doc="Shows the device to the host at its next start.",
    ),
    message(
        "get_dom0_access_status",
        {"self": "ref:PCI"},
        "enum:pci_dom0_access",
        since="24.14.0",
        state="prototyped",
        doc="Whether the host may use the device, now and after its next start.",
    ),
)
