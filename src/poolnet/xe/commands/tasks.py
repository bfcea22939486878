"""Which commands deal with tasks and events, and how does a command wait for a task? (spec xe-cli §8.4, §8.5)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from poolnet.model.errors import Failure
from poolnet.model.types import Value
from poolnet.xe.caller import Record
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.one_call import one_call, ref
from poolnet.xe.fields.catalog import TABLES
from poolnet.xe.fields.declare import Table
from poolnet.xe.fields.read import text
from poolnet.xe.params import STANDARD
from poolnet.xe.refusals import Refused

EVENT_SECONDS: Final = 30.0
BAR_WIDTH: Final = 70
SPINNER: Final = "|/-\\"
UNFINISHED: Final = ("pending", "cancelling")
WAITABLE: Final = (
    "vm",
    "vdi",
    "sr",
    "host",
    "network",
    "vif",
    "pif",
    "vbd",
    "pbd",
    "pool",
    "task",
    "secret",
    "vmss",
)
POLLED_ONLY: Final = ("subject", "role")


async def run_task(call: Call, method: str, *args: Value) -> None:
    """Call a message as a task and wait for its end; with `progress=`, draw a bar on stderr.

    A dry run has nothing to wait for and calls the message itself.

    Raises:
        Failure: what the task ended with.
    """
    if call.dry:
        await call.api(method, *args)
        return
    task = cast(str, await call.api(f"Async.{method}", *args))
    try:
        record = await _wait_for(call, task)
    finally:
        with suppress(Failure):  # how the call ended is known, or is another failure
            await call.api("task.destroy", task)
    if record["status"] == "failure":
        code, *params = cast("tuple[str, ...]", record["error_info"])
        raise Failure(code, *params)
    if record["status"] == "cancelled":
        raise Failure("TASK_CANCELLED", task)


async def _wait_for(call: Call, task: str) -> Record:
    """Follow a task by its events; returns its last record."""
    token = ""
    turns = 0
    while True:
        record = cast("Record", await call.api("task.get_record", task))
        if "progress" in call.params:
            await _draw(call, record["progress"], turns)
            turns += 1
        if record["status"] not in UNFINISHED:
            if "progress" in call.params:
                await call.printer.complain("\n")
            return record
        token, _ = await _events(call, f"task/{task}", token)


async def _draw(call: Call, progress: Value, turns: int) -> None:
    done = float(progress) if isinstance(progress, int | float) else 0.0
    bar = "#" * int(done * BAR_WIDTH)
    await call.printer.complain(f"\r {int(done * 100):3d}% {SPINNER[turns % len(SPINNER)]} {bar}")


async def _events(call: Call, subscription: str, token: str) -> tuple[str, list[Mapping[str, Any]]]:
    """Wait for events; returns the next token and the events."""
    answer = cast("Mapping[str, Any]", await call.api("event.from", (subscription,), token, EVENT_SECONDS))
    return str(answer["token"]), list(answer["events"])


async def _event_wait(call: Call) -> None:
    """Wait until one object of a class satisfies every condition."""
    name = call.params.required("class")
    if name not in TABLES or name not in (*WAITABLE, *POLLED_ONLY):
        raise Refused(f"Cli listening for class '{name}' not currently implemented")
    table = TABLES[name]
    conditions = [(key, value) for key, value in call.params if key not in STANDARD | {"class"}]
    # The token comes first: whatever changes while the objects are read is an event after it.
    token, _ = await _events(call, table.api, "") if name in WAITABLE else ("", [])
    records = cast("dict[str, Record]", await call.api(f"{table.api}.get_all_records"))
    while not await _any_satisfies(call, table, records, conditions):
        if name in POLLED_ONLY:
            raise Refused(f"Cli listening for class '{name}' not currently implemented")
        token, events = await _events(call, table.api, token)
        records = {
            str(event["ref"]): cast("Record", event["snapshot"])
            for event in events
            if event["operation"] != "del" and event["snapshot"] is not None
        }
        call.reader.forget()


async def _any_satisfies(
    call: Call, table: Table, records: Mapping[str, Record], conditions: list[tuple[str, str]]
) -> bool:
    """Say whether one of the records satisfies all conditions; `KEY=/=VALUE` wants a difference."""
    for ref_, record in records.items():
        for key, wanted in conditions:
            name, differs, rest = f"{key}={wanted}".partition("=/=")
            name, value = (name, rest) if differs else (key, wanted)
            if name not in table.by_name:
                raise Refused(f"key missing: {name}")
            shown = await text(table.by_name[name], call.reader, ref_, record)
            if (shown == value) == bool(differs):
                break
        else:
            return True
    return False


COMMANDS: Final = (
    one_call(
        "task-cancel",
        "task.cancel",
        ref("task"),
        required=("uuid",),
        summary="Asks a task to stop.",
    ),
    Command(
        name="event-wait",
        action=_event_wait,
        required=("class",),
        changes=False,
        summary="Waits until an object of a class has the given fields, or with FIELD=/=VALUE has other ones.",
    ),
)
