"""How does a host reach storage? The class PBD of the XenAPI."""

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
    """One host's connection to one storage repository."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    host: Ref[Host] = static(default=NO_DEFAULT, doc="The host.")
    SR: Ref[sr.SR] = static(default=NO_DEFAULT, doc="The storage repository.")
    device_config: Mapping[str, str] = static(
        default=NO_DEFAULT, doc="How the host reaches it: server, path, target and the like."
    )
    currently_attached: bool = dynamic(default=NO_DEFAULT, doc="Whether the host is connected to it.")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="Further settings, by key.")


MESSAGES = (
    message(
        "plug", {"self": "ref:PBD"}, errors=("SR_UNKNOWN_DRIVER",), doc="Connects the host to the storage."
    ),
    message("unplug", {"self": "ref:PBD"}, doc="Disconnects the host from the storage."),
    message(
        "set_device_config",
        {"self": "ref:PBD", "value": "map:string:string"},
        since="miami",
        doc="Sets how the host reaches it.",
    ),
)
