"""Which commands read the audit log, and take back what it has recorded? `audit-undo` is poolnet's own."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from poolnet.xe.commands.command import Call, Command
from poolnet.xe.params import integer
from poolnet.xe.refusals import Refused


async def _get(call: Call) -> None:
    name = call.params.required("filename")
    task = str(await call.api("task.create", "audit-log-get", ""))
    try:
        asked = {"session_id": getattr(call.caller, "session", ""), "task_id": task}
        since = call.params.find("since")
        if since:
            asked["since"] = since
        received = await call.client.download(name, f"/audit_log?{urlencode(asked)}")
        failed = await call.api("task.get_error_info", task)
    finally:
        await call.api("task.destroy", task)
    if not received or failed:
        raise Refused("The audit log was not received. Is since= a time, such as 2026-11-29T12:00:00Z?")
    if name:
        await call.printer.message(f"audit-log-get into file {name} succeeded")


async def _undo(call: Call) -> None:
    await call.api("pool.audit_undo", integer("entry", call.params.required("entry")))


COMMANDS: Final = (
    Command(
        name="audit-log-get",
        action=_get,
        required=("filename",),
        optional=("since",),
        changes=False,
        summary="Saves the log of who did what in a file.",
    ),
    Command(
        name="audit-undo",
        action=_undo,
        required=("entry",),
        summary="Takes back what a record of the audit log says, by its number, if nothing was built on it since.",
    ),
)
