"""What does the directory say? The messages of class auth, for whoever admits subjects to the pool."""

from __future__ import annotations

from collections.abc import Mapping

from poolnet.api.directory import Directory, DirectoryGone, Entry
from poolnet.api.dispatch import Call, Own, Result
from poolnet.db.database import Database
from poolnet.model import errors
from poolnet.rules.external_auth import uses_directory


def auth_messages(database: Database, directory: Directory) -> Mapping[str, Own]:
    """The messages, by full name. Each raises AUTH_IS_DISABLED and AUTH_SERVICE_ERROR, and all else that it says."""

    async def identifier(call: Call) -> Result:
        _require_directory(database)
        try:
            return _resolved(await directory.named(call.arguments["subject_name"])).identifier
        except DirectoryGone as gone:
            raise errors.auth_service_error(str(gone)) from gone

    async def information(call: Call) -> Result:
        _require_directory(database)
        try:
            return dict(_resolved(await directory.identified(call.arguments["subject_identifier"])).facts)
        except DirectoryGone as gone:
            raise errors.auth_service_error(str(gone)) from gone

    async def membership(call: Call) -> Result:
        _require_directory(database)
        try:
            entry = _resolved(await directory.identified(call.arguments["subject_identifier"]))
            return tuple(sorted(await directory.memberships(entry.identifier)))
        except DirectoryGone as gone:
            raise errors.auth_service_error(str(gone)) from gone

    return {
        "auth.get_subject_identifier": identifier,
        "auth.get_subject_information_from_identifier": information,
        "auth.get_group_membership": membership,
    }


def _require_directory(database: Database) -> None:
    if not uses_directory(database.view):
        raise errors.auth_is_disabled()


def _resolved(entry: Entry | None) -> Entry:
    """The user or group that was found.

    Raises:
        SUBJECT_CANNOT_BE_RESOLVED: None was.
    """
    if entry is None:
        raise errors.subject_cannot_be_resolved()
    return entry
