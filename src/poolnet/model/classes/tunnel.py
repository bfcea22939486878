"""What is a tunnel? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.pif import PIF
    from poolnet.model.enums import TunnelProtocol
    from poolnet.model.types import Ref


@api_class("tunnel", events=True, role=Role.POOL_OPERATOR, since="cowley")
class Tunnel(Row):
    """The API class tunnel."""

    uuid: str = dynamic(default=NO_DEFAULT, since="cowley", doc="")
    access_PIF: Ref[PIF] = static(default="", since="cowley", doc="")
    transport_PIF: Ref[PIF] = static(default="", since="cowley", doc="")
    status: Mapping[str, str] = rw(default={"active": "false"}, since="cowley", doc="")
    other_config: Mapping[str, str] = rw(default={}, since="cowley", doc="")
    protocol: TunnelProtocol = rw(default="gre", since="1.250.0", doc="")


MESSAGES = (
    message(
        "create",
        {
            "transport_PIF": "ref:PIF",
            "network": "ref:network",
            "protocol": optional("enum:tunnel_protocol", "gre"),
        },
        "ref:tunnel",
        errors=("OPENVSWITCH_NOT_ACTIVE", "TRANSPORT_PIF_NOT_CONFIGURED", "IS_TUNNEL_ACCESS_PIF"),
        since="cowley",
        doc="",
    ),
    message("destroy", {"self": "ref:tunnel"}, since="cowley", doc=""),
)
