"""What is a Bond? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.pif import PIF
    from poolnet.model.enums import BondMode
    from poolnet.model.types import Ref


@api_class("Bond", events=True, role=Role.POOL_OPERATOR, since="miami")
class Bond(Row):
    """The API class Bond."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    master: Ref[PIF] = static(default="", since="miami", doc="")
    slaves: tuple[Ref[PIF], ...] = dynamic(default=NO_DEFAULT, computed=True, since="miami", doc="")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="")
    primary_slave: Ref[PIF] = dynamic(default=NULL, since="boston", doc="")
    mode: BondMode = dynamic(default="balance-slb", since="boston", doc="")
    properties: Mapping[str, str] = dynamic(default={}, since="tampa", doc="")
    links_up: int = dynamic(default=0, since="tampa", doc="")
    auto_update_mac: bool = dynamic(default=True, since="quebec", doc="")


MESSAGES = (
    message(
        "create",
        {
            "network": "ref:network",
            "members": "set:ref:PIF",
            "MAC": "string",
            "mode": optional("enum:bond_mode", "balance-slb"),
            "properties": optional("map:string:string", {}),
        },
        "ref:Bond",
        since="miami",
        doc="",
    ),
    message("destroy", {"self": "ref:Bond"}, since="miami", doc=""),
    message("set_mode", {"self": "ref:Bond", "value": "enum:bond_mode"}, since="boston", doc=""),
    message("set_property", {"self": "ref:Bond", "name": "string", "value": "string"}, since="tampa", doc=""),
)
