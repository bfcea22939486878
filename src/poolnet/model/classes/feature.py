"""What does a host try out? The class Feature of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, static
from poolnet.model.roles import LOCAL_ROOT
from poolnet.model.types import Row

if TYPE_CHECKING:
    from poolnet.model.classes.host import Host
    from poolnet.model.types import Ref


@api_class("Feature", events=True, role=LOCAL_ROOT, since="falcon")
class Feature(Row):
    """A feature of a host that can be told apart."""

    uuid: str = dynamic(
        default=NO_DEFAULT, since="falcon", doc="The name that it keeps for life, in all pools."
    )
    name_label: str = static(default="", path="name/label", doc="A name for people; not unique.")
    name_description: str = static(default="", path="name/description", doc="What it is, in free text.")
    enabled: bool = dynamic(default=False, since="falcon", doc="Whether it is on.")
    experimental: bool = static(default=False, since="falcon", doc="Whether it is not yet supported.")
    version: str = static(default="1.0", since="falcon", doc="Its version.")
    host: Ref[Host] = dynamic(default=NO_DEFAULT, since="falcon", doc="The host that has it.")
