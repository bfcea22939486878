"""What is a PBD? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes import sr
    from poolnet.model.classes.host import Host
    from poolnet.model.types import Ref


@api_class("PBD", events=True, role=Role.POOL_OPERATOR, constructor=True)
class PBD(Row):
    """The API class PBD."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    host: Ref[Host] = static(default=NO_DEFAULT, doc="")
    SR: Ref[sr.SR] = static(default=NO_DEFAULT, doc="")
    device_config: Mapping[str, str] = static(default=NO_DEFAULT, doc="")
    currently_attached: bool = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="")


MESSAGES = (
    message("plug", {"self": "ref:PBD"}, errors=("SR_UNKNOWN_DRIVER",), doc=""),
    message("unplug", {"self": "ref:PBD"}, doc=""),
    message("set_device_config", {"self": "ref:PBD", "value": "map:string:string"}, since="miami", doc=""),
)
