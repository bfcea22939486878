"""Who may log in, besides root? The class subject of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.role import RoleRecord
    from poolnet.model.types import Ref


@api_class("subject", events=True, role=Role.POOL_ADMIN, constructor=True, since="george")
class Subject(Row):
    """A user or group of the directory who may log in, with roles."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    subject_identifier: str = static(default="", since="george", doc="The directory's identifier.")
    other_config: Mapping[str, str] = static(
        default={}, since="george", doc="What the directory says of the subject."
    )
    roles: tuple[Ref[RoleRecord], ...] = dynamic(
        default=("OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba",),
        stored_ref_set=True,
        since="midnight-ride",
        doc="The roles given to the subject.",
    )


MESSAGES = (
    message(
        "add_to_roles",
        {"self": "ref:subject", "role": "ref:role"},
        is_async=False,
        since="midnight-ride",
        doc="Gives the subject a role.",
    ),
    message(
        "remove_from_roles",
        {"self": "ref:subject", "role": "ref:role"},
        is_async=False,
        since="midnight-ride",
        doc="Takes a role from the subject.",
    ),
    message(
        "get_permissions_name_label",
        {"self": "ref:subject"},
        "set:string",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="Names the permissions that the subject's roles have.",
    ),
)
