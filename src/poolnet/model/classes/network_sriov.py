"""What is a network_sriov? The class of the XenAPI; the registry collects it."""

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
    """The API class network_sriov."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    physical_PIF: Ref[PIF] = static(default="", since="kolkata", doc="")
    logical_PIF: Ref[PIF] = static(default="", since="kolkata", doc="")
    requires_reboot: bool = dynamic(default=False, since="kolkata", doc="")
    configuration_mode: SriovConfigurationMode = dynamic(default="unknown", since="kolkata", doc="")


MESSAGES = (
    message(
        "create", {"pif": "ref:PIF", "network": "ref:network"}, "ref:network_sriov", since="kolkata", doc=""
    ),
    message("destroy", {"self": "ref:network_sriov"}, since="kolkata", doc=""),
    message(
        "get_remaining_capacity",
        {"self": "ref:network_sriov"},
        "int",
        role=Role.READ_ONLY,
        since="kolkata",
        doc="",
    ),
)
