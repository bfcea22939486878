"""What is a Feature? The class of the XenAPI; the registry collects it."""

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
    """The API class Feature."""

    uuid: str = dynamic(default=NO_DEFAULT, since="falcon", doc="")
    name_label: str = static(default="", path="name/label", doc="")
    name_description: str = static(default="", path="name/description", doc="")
    enabled: bool = dynamic(default=False, since="falcon", doc="")
    experimental: bool = static(default=False, since="falcon", doc="")
    version: str = static(default="1.0", since="falcon", doc="")
    host: Ref[Host] = dynamic(default=NO_DEFAULT, since="falcon", doc="")
