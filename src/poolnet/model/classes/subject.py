"""What is a subject? The class of the XenAPI; the registry collects it."""

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
    """The API class subject."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    subject_identifier: str = static(default="", since="george", doc="")
    other_config: Mapping[str, str] = static(default={}, since="george", doc="")
    roles: tuple[Ref[RoleRecord], ...] = dynamic(
        default=("OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba",),
        stored_ref_set=True,
        since="midnight-ride",
        doc="",
    )


MESSAGES = (
    message(
        "add_to_roles",
        {"self": "ref:subject", "role": "ref:role"},
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
    message(
        "remove_from_roles",
        {"self": "ref:subject", "role": "ref:role"},
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
    message(
        "get_permissions_name_label",
        {"self": "ref:subject"},
        "set:string",
        role=Role.READ_ONLY,
        is_async=False,
        since="midnight-ride",
        doc="",
    ),
)
