"""What is a VLAN? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.pif import PIF
    from poolnet.model.types import Ref


@api_class("VLAN", events=True, role=Role.POOL_OPERATOR, since="miami")
class VLAN(Row):
    """The API class VLAN."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    tagged_PIF: Ref[PIF] = static(default="", since="miami", doc="")
    untagged_PIF: Ref[PIF] = dynamic(default="", since="miami", doc="")
    tag: int = static(default=-1, since="miami", doc="")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="")


MESSAGES = (
    message(
        "pool_introduce",
        {
            "tagged_PIF": "ref:PIF",
            "untagged_PIF": "ref:PIF",
            "tag": "int",
            "other_config": "map:string:string",
        },
        "ref:VLAN",
        flags=("hidden",),
        since="inverness",
        doc="",
    ),
    message(
        "create",
        {"tagged_PIF": "ref:PIF", "tag": "int", "network": "ref:network"},
        "ref:VLAN",
        since="miami",
        doc="",
    ),
    message("destroy", {"self": "ref:VLAN"}, since="miami", doc=""),
)
