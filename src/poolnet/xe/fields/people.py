"""Which fields do tasks, roles, subjects, messages and secrets show on the command line?"""

from __future__ import annotations

from typing import cast

from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Shape, column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import Texts


async def _roles(reader: Reader, ref: str, record: Record) -> Texts:
    roles = cast("tuple[str, ...]", record["roles"])
    return tuple([await reader.text("role", role, "name_label") for role in roles])


TASK = table(
    "task",
    "task",
    shown="uuid name-label name-description status progress",
    columns=(
        column("uuid"),
        column("name-label"),
        column("name-description"),
        column("subtask_of"),
        column("subtasks", plain=True),
        column("resident-on"),
        column("status", fixed=True),
        column("progress", fixed=True),
        column("type"),
        column("result", fixed=True),
        column("created"),
        column("finished"),
        column("error_info", plain=True),
        column("allowed_operations", plain=True),
        column("current_operations", plain=True),
        column("other-config"),
    ),
)

ROLE = table(
    "role",
    "role",
    shown="uuid name description",
    expression="subroles<>[]",
    columns=(
        column("uuid"),
        column("name", "name_label"),
        column("description", "name_description"),
    ),
)

SUBJECT = table(
    "subject",
    "subject",
    shown="uuid subject-identifier other-config roles",
    columns=(
        column("uuid"),
        column("subject-identifier"),
        column("other-config"),
        computed("roles", _roles, shape=Shape.SET),
    ),
)

MESSAGE = table(
    "message",
    "message",
    columns=(
        column("uuid"),
        column("name"),
        column("priority"),
        column("class", "cls"),
        column("obj-uuid"),
        column("timestamp"),
        column("body"),
    ),
)

SECRET = table(
    "secret",
    "secret",
    columns=(
        column("uuid"),
        column("value"),
    ),
)
