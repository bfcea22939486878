"""What is a bond? The class Bond of the XenAPI."""

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
    """Several NICs of one host that act as one."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    master: Ref[PIF] = static(default="", since="miami", doc="The PIF that stands for the whole bond.")
    slaves: tuple[Ref[PIF], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="miami", doc="The PIFs that are its members."
    )
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="Further settings, by key.")
    primary_slave: Ref[PIF] = dynamic(
        default=NULL, since="boston", doc="The member whose MAC address and IP configuration the bond took."
    )
    mode: BondMode = dynamic(default="balance-slb", since="boston", doc="How it uses its members.")
    properties: Mapping[str, str] = dynamic(
        default={}, since="tampa", doc="Settings of LACP; empty in the other modes."
    )
    links_up: int = dynamic(default=0, since="tampa", doc="How many members have a link.")
    auto_update_mac: bool = dynamic(
        default=True, since="quebec", doc="Whether its MAC address follows its primary member."
    )


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
        doc="Makes a bond of PIFs on a network; VLANs, tunnels, VIFs and management move to it.",
    ),
    message(
        "destroy",
        {"self": "ref:Bond"},
        since="miami",
        doc="Destroys the bond; what rests on it moves to its primary member.",
    ),
    message(
        "set_mode",
        {"self": "ref:Bond", "value": "enum:bond_mode"},
        since="boston",
        doc="Changes how it uses its members.",
    ),
    message(
        "set_property",
        {"self": "ref:Bond", "name": "string", "value": "string"},
        since="tampa",
        doc="Changes one setting of LACP.",
    ),
)
