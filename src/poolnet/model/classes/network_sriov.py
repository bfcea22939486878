"""What is an SR-IOV network? The class network_sriov of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from poolnet.model.classes.pif import PIF
    from poolnet.model.enums import SriovConfigurationMode
    from poolnet.model.types import Ref


@api_class("network_sriov", events=True, role=Role.POOL_OPERATOR, since="kolkata")
class NetworkSriov(Row):
    """One NIC's virtual functions, given to the VMs of a network."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    physical_PIF: Ref[PIF] = static(default="", since="kolkata", doc="The NIC's PIF.")
    logical_PIF: Ref[PIF] = static(
        default="", since="kolkata", doc="The PIF that joins the virtual functions to their network."
    )
    requires_reboot: bool = dynamic(
        default=False,
        since="kolkata",
        doc="Whether the virtual functions come only with the next start of the host.",
    )
    configuration_mode: SriovConfigurationMode = dynamic(
        default="unknown", since="kolkata", doc="How the virtual functions are switched on."
    )


MESSAGES = (
    message(
        "create",
        {"pif": "ref:PIF", "network": "ref:network"},
        "ref:network_sriov",
        since="kolkata",
        doc="Switches a NIC's virtual functions on and makes their PIF on a network.",
    ),
    message(
        "destroy",
        {"self": "ref:network_sriov"},
        since="kolkata",
        doc="Destroys it and switches the virtual functions off.",
    ),
    message(
        "get_remaining_capacity",
        {"self": "ref:network_sriov"},
        "int",
        role=Role.READ_ONLY,
        since="kolkata",
        doc="How many virtual functions are free.",
    ),
)
