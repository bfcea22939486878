"""What may a role do? The class role of the XenAPI, whose objects are fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from poolnet.model.types import Ref


@api_class("role", events=True, role=Role.POOL_ADMIN, computed_records=True, since="midnight-ride")
class RoleRecord(Row):
    """A role, or a permission: a role that is nothing else's sum."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name_label: str = static(
        default="", path="name/label", since="midnight-ride", doc="The role's name, or the permission's."
    )
    name_description: str = static(
        default="", path="name/description", since="midnight-ride", doc="What the role is for."
    )
    subroles: tuple[Ref[RoleRecord], ...] = static(
        default=(),
        stored_ref_set=True,
        since="midnight-ride",
        doc="The roles and permissions that it consists of.",
    )
    is_internal: bool = dynamic(default=False, since="22.5.0", doc="Whether people never see it.")


MESSAGES = (
    message(
        "get_permissions",
        {"self": "ref:role"},
        "set:ref:role",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="Lists the permissions that it consists of.",
    ),
    message(
        "get_permissions_name_label",
        {"self": "ref:role"},
        "set:string",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="Names the permissions that it consists of.",
    ),
    message(
        "get_by_permission",
        {"permission": "ref:role"},
        "set:ref:role",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="Lists the roles that hold a permission.",
    ),
    message(
        "get_by_permission_name_label",
        {"label": "string"},
        "set:ref:role",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="Lists the roles that hold the permission of this name.",
    ),
)
