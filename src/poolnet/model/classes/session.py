"""What is a client's login? The class session of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw, static
from poolnet.model.roles import LOCAL_ROOT, Role
from poolnet.model.types import EPOCH, NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.subject import Subject
    from poolnet.model.classes.task import Task
    from poolnet.model.classes.user import User
    from poolnet.model.types import Ref


@api_class("session", events=False, role=Role.POOL_ADMIN, persisted=False, lists_all=False)
class Session(Row):
    """A client's login: who it is, what it may do, and since when."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    this_host: Ref[Host] = dynamic(default=NO_DEFAULT, doc="The host that served the login.")
    this_user: Ref[User] = dynamic(default=NO_DEFAULT, doc="Always null; users are subjects, or root.")
    last_active: datetime = dynamic(
        default=NO_DEFAULT, doc="When a call last used the session, to ten minutes."
    )
    pool: bool = dynamic(
        default=NO_DEFAULT, doc="Whether another host of the pool logged in, with the pool's secret."
    )
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="Further settings, by key.")
    is_local_superuser: bool = dynamic(
        default=False, since="george", doc="Whether it may do everything, without a role."
    )
    subject: Ref[Subject] = dynamic(
        default=NULL, since="george", doc="The subject whose roles it has; null for the superuser."
    )
    validation_time: datetime = dynamic(
        default=EPOCH, since="george", doc="When its subject was last found valid."
    )
    auth_user_sid: str = dynamic(
        default="", since="george", doc="The directory's identifier of the user; empty for the superuser."
    )
    auth_user_name: str = dynamic(default="", since="midnight-ride", doc="The name that logged in.")
    rbac_permissions: tuple[str, ...] = static(
        default=(),
        since="midnight-ride",
        doc="The permissions it holds; empty for the superuser, who needs none.",
    )
    tasks: tuple[Ref[Task], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="midnight-ride", doc="The tasks that it started."
    )
    parent: Ref[Session] = static(default=NULL, since="midnight-ride", doc="Always null.")
    originator: str = dynamic(
        default="",
        since="clearwater",
        doc="What the client called itself at login; sessions are limited per originator.",
    )
    client_certificate: bool = dynamic(
        default=False, since="21.2.0", doc="Whether it logged in with a certificate."
    )


MESSAGES = (
    message(
        "login_with_password",
        {
            "uname": "string",
            "pwd": "string",
            "version": optional("string", "1.1"),
            "originator": optional("string", ""),
        },
        "ref:session",
        role=Role.READ_ONLY,
        errors=("SESSION_AUTHENTICATION_FAILED", "HOST_IS_SLAVE"),
        session_arg=False,
        is_async=False,
        flags=("secret_args", "slave_local_whitelist"),
        doc="Checks a name and password and opens a session; a member answers HOST_IS_SLAVE.",
    ),
    message(
        "logout",
        {},
        role=Role.READ_ONLY,
        is_async=False,
        doc="Ends the session and wakes its blocked event calls.",
    ),
    message(
        "change_password",
        {"old_pwd": "string", "new_pwd": "string"},
        role=LOCAL_ROOT,
        is_async=False,
        doc="Changes the superuser's password on all hosts.",
    ),
    message(
        "slave_login",
        {"host": "ref:host", "psecret": "string"},
        "ref:session",
        session_arg=False,
        is_async=False,
        flags=("hidden", "secret_args", "slave_local_whitelist"),
        doc="Opens a session for another host of the pool, which proves itself with the pool's secret.",
    ),
    message(
        "slave_local_login",
        {"psecret": "string"},
        "ref:session",
        session_arg=False,
        is_async=False,
        flags=("hidden", "secret_args", "emergency_call", "slave_local_whitelist"),
        since="miami",
        doc="Opens a session kept by this host alone, with the pool's secret; works in emergency mode.",
    ),
    message(
        "slave_local_login_with_password",
        {"uname": "string", "pwd": "string"},
        "ref:session",
        session_arg=False,
        is_async=False,
        flags=("secret_args", "emergency_call", "slave_local_whitelist"),
        since="miami",
        doc="Opens a session kept by this host alone, with a password; works in emergency mode.",
    ),
    message(
        "create_from_db_file",
        {"filename": "string"},
        "ref:session",
        role=LOCAL_ROOT,
        since="dundee",
        doc="Opens a session on a database in a file.",
    ),
    message(
        "local_logout",
        {},
        is_async=False,
        flags=("emergency_call", "slave_local_whitelist"),
        since="miami",
        doc="Ends a session kept by this host alone.",
    ),
    message(
        "get_all_subject_identifiers",
        {},
        "set:string",
        role=Role.READ_ONLY,
        since="george",
        doc="Lists the directory's identifiers of the users who are logged in.",
    ),
    message(
        "logout_subject_identifier",
        {"subject_identifier": "string"},
        role=Role.POOL_OPERATOR,
        since="george",
        doc="Ends the sessions of a user of the directory, but not the caller's.",
    ),
)
