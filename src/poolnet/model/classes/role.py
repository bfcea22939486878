"""What is a role? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from poolnet.model.types import Ref


@api_class("role", events=True, role=Role.POOL_ADMIN, computed_records=True, since="midnight-ride")
class RoleRecord(Row):
    """The API class role."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name_label: str = static(default="", path="name/label", since="midnight-ride", doc="")
    name_description: str = static(default="", path="name/description", since="midnight-ride", doc="")
    subroles: tuple[Ref[RoleRecord], ...] = static(
        default=(), stored_ref_set=True, since="midnight-ride", doc=""
    )
    is_internal: bool = dynamic(default=False, since="22.5.0", doc="")


MESSAGES = (
    message(
        "get_permissions",
        {"self": "ref:role"},
        "set:ref:role",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
    message(
        "get_permissions_name_label",
        {"self": "ref:role"},
        "set:string",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
    message(
        "get_by_permission",
        {"permission": "ref:role"},
        "set:ref:role",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
    message(
        "get_by_permission_name_label",
        {"label": "string"},
        "set:ref:role",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
)
