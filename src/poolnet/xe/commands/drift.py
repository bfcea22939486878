"""Which command shows where hosts differ from the database? It is poolnet's own, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from poolnet.xe.commands.command import Call, Command
from poolnet.xe.refusals import Finished
from poolnet.xe.texts import columns

JSON: Final = "json"
COLUMNS: Final = ("subject", "field", "intended", "applied", "actual")

Answer = Mapping[str, Any]


async def _drift(call: Call) -> None:
    hosts = (await call.find("host"),) if "uuid" in call.params else ()
    answer: Sequence[Answer] = json.loads(str(await call.api("host.explain_network_drift", hosts)))
    if call.params.flag(JSON):
        await call.client.print(json.dumps(answer, indent=2))
    elif call.printer.minimal:
        await call.printer.list([host["host"] for host in answer if not host["in-step"]])
    else:
        await call.printer.list([line for host in answer for line in _told(host)])
    if not all(host["in-step"] for host in answer):
        await call.printer.finish()
        raise Finished(1)


def _told(host: Answer) -> list[str]:
    if host["in-step"] is None:
        return [f"{host['name-label']} cannot be asked: {host['reason']}"]
    if host["in-step"]:
        return [f"{host['name-label']} is as intended"]
    rows = [
        list(COLUMNS),
        *([str(field[name]) or "-" for name in COLUMNS] for field in host["fields"]),
    ]
    lines = [f"  {line}" for line in columns(rows)]
    return [f"{host['name-label']} differs; the pool's policy is {host['policy']}", *lines]


COMMANDS: Final = (
    Command(
        name="host-network-drift",
        action=_drift,
        optional=("uuid", JSON),
        changes=False,
        summary="Shows where a host's network, or each host's, is not what the database intends: field by field what is "
        "intended, applied and there. Exits with 1 if anything differs. --json for programs; --minimal lists the hosts.",
    ),
)
