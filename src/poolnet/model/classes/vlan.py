"""What is a VLAN? The class VLAN of the XenAPI."""

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
    """An 802.1Q tag on a PIF, which makes the tagged frames a PIF and a network of their own."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    tagged_PIF: Ref[PIF] = static(
        default="", since="miami", doc="The PIF below, which carries the tagged frames."
    )
    untagged_PIF: Ref[PIF] = dynamic(
        default="", since="miami", doc="The VLAN's own PIF, which its network sees."
    )
    tag: int = static(default=-1, indexed=True, since="miami", doc="The 802.1Q tag, 0 to 4094.")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="Further settings, by key.")


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
        doc="Makes a VLAN's record with these values and changes nothing else.",
    ),
    message(
        "create",
        {"tagged_PIF": "ref:PIF", "tag": "int", "network": "ref:network"},
        "ref:VLAN",
        since="miami",
        doc="Makes a VLAN with a tag on a PIF, and its PIF on a network.",
    ),
    message("destroy", {"self": "ref:VLAN"}, since="miami", doc="Destroys the VLAN and its PIF."),
)
