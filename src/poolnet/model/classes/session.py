"""What is a session? The class of the XenAPI; the registry collects it."""

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
    """The API class session."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    this_host: Ref[Host] = dynamic(default=NO_DEFAULT, doc="")
    this_user: Ref[User] = dynamic(default=NO_DEFAULT, doc="")
    last_active: datetime = dynamic(default=NO_DEFAULT, doc="")
    pool: bool = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="")
    is_local_superuser: bool = dynamic(default=False, since="george", doc="")
    subject: Ref[Subject] = dynamic(default=NULL, since="george", doc="")
    validation_time: datetime = dynamic(default=EPOCH, since="george", doc="")
    auth_user_sid: str = dynamic(default="", since="george", doc="")
    auth_user_name: str = dynamic(default="", since="midnight-ride", doc="")
    rbac_permissions: tuple[str, ...] = static(default=(), since="midnight-ride", doc="")
    tasks: tuple[Ref[Task], ...] = dynamic(default=NO_DEFAULT, computed=True, since="midnight-ride", doc="")
    parent: Ref[Session] = static(default=NULL, since="midnight-ride", doc="")
    originator: str = dynamic(default="", since="clearwater", doc="")
    client_certificate: bool = dynamic(default=False, since="21.2.0", doc="")


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
        doc="",
    ),
    message("logout", {}, role=Role.READ_ONLY, is_async=False, doc=""),
    message(
        "change_password", {"old_pwd": "string", "new_pwd": "string"}, role=LOCAL_ROOT, is_async=False, doc=""
    ),
    message(
        "slave_login",
        {"host": "ref:host", "psecret": "string"},
        "ref:session",
        session_arg=False,
        is_async=False,
        flags=("hidden", "secret_args", "slave_local_whitelist"),
        doc="",
    ),
    message(
        "slave_local_login",
        {"psecret": "string"},
        "ref:session",
        session_arg=False,
        is_async=False,
        flags=("hidden", "secret_args", "emergency_call", "slave_local_whitelist"),
        since="miami",
        doc="",
    ),
    message(
        "slave_local_login_with_password",
        {"uname": "string", "pwd": "string"},
        "ref:session",
        session_arg=False,
        is_async=False,
        flags=("secret_args", "emergency_call", "slave_local_whitelist"),
        since="miami",
        doc="",
    ),
    message(
        "create_from_db_file", {"filename": "string"}, "ref:session", role=LOCAL_ROOT, since="dundee", doc=""
    ),
    message(
        "local_logout",
        {},
        is_async=False,
        flags=("emergency_call", "slave_local_whitelist"),
        since="miami",
        doc="",
    ),
    message("get_all_subject_identifiers", {}, "set:string", role=Role.READ_ONLY, since="george", doc=""),
    message(
        "logout_subject_identifier",
        {"subject_identifier": "string"},
        role=Role.POOL_OPERATOR,
        since="george",
        doc="",
    ),
)
