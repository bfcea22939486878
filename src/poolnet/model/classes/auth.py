"""Who is known to the external directory? The class auth of the XenAPI, which has no objects."""

from __future__ import annotations

from poolnet.model.declare import api_class, message
from poolnet.model.roles import Role
from poolnet.model.types import Row


@api_class("auth", events=False, role=Role.READ_ONLY, persisted=False, in_database=False, since="george")
class Auth(Row):
    """The directory that users and groups are looked up in."""


MESSAGES = (
    message(
        "get_subject_identifier",
        {"subject_name": "string"},
        "string",
        role=Role.READ_ONLY,
        since="george",
        doc="Gives the directory's identifier of a user or group.",
    ),
    message(
        "get_subject_information_from_identifier",
        {"subject_identifier": "string"},
        "map:string:string",
        role=Role.READ_ONLY,
        since="george",
        doc="Gives what the directory says of a user or group.",
    ),
    message(
        "get_group_membership",
        {"subject_identifier": "string"},
        "set:string",
        role=Role.READ_ONLY,
        since="george",
        doc="Lists the identifiers of the groups that a user or group is in.",
    ),
)
