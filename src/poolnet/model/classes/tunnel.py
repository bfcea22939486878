"""What is a tunnel? The class tunnel of the XenAPI."""

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
    """A network carried inside IP packets between hosts, switched by an SDN controller."""

    uuid: str = dynamic(
        default=NO_DEFAULT, since="cowley", doc="The name that it keeps for life, in all pools."
    )
    access_PIF: Ref[PIF] = static(
        default="", since="cowley", doc="The tunnel's own PIF, which its network sees."
    )
    transport_PIF: Ref[PIF] = static(
        default="", since="cowley", doc="The PIF whose address the packets travel between."
    )
    status: Mapping[str, str] = rw(
        default={"active": "false"}, since="cowley", doc="What the SDN controller says: active, key, error."
    )
    other_config: Mapping[str, str] = rw(default={}, since="cowley", doc="Further settings, by key.")
    protocol: TunnelProtocol = rw(
        default="gre",
        since="1.250.0",
        doc="The encapsulation; a change takes effect when the PIF is next plugged.",
    )


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
        doc="Makes a tunnel over a PIF that has an IP configuration, and its PIF on a network.",
    ),
    message("destroy", {"self": "ref:tunnel"}, since="cowley", doc="Destroys the tunnel and its PIF."),
)
