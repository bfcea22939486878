"""Which command shows where VMs can run? It is poolnet's own, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from poolnet.xe.commands.command import Call, Command
from poolnet.xe.texts import columns

JSON: Final = "json"
YES, NO, REMARKS = "yes", "no", "yes*"

Answer = Mapping[str, Any]


async def _explain(call: Call) -> None:
    vms = (await call.find("VM"),) if "uuid" in call.params else ()
    answer: Answer = json.loads(str(await call.api("VM.explain_placement", vms)))
    if call.params.flag(JSON):
        await call.client.print(json.dumps(answer, indent=2))
    elif call.printer.minimal:
        await call.printer.list(_possible(answer))
    else:
        await call.printer.list([*_matrix(answer), *_reasons(answer)])


def _possible(answer: Answer) -> list[str]:
    """Of one VM the hosts that can run it; of several, the VMs that no host can run."""
    vms = answer["vms"]
    if len(vms) == 1:
        return [cell["host"] for cell in vms[0]["hosts"] if cell["possible"]]
    return [vm["vm"] for vm in vms if not any(cell["possible"] for cell in vm["hosts"])]


def _matrix(answer: Answer) -> list[str]:
    """A line for each VM, a column for each host."""
    rows = [["", *(host["name-label"] for host in answer["hosts"])]]
    rows += [[vm["name-label"], *(_word(cell) for cell in vm["hosts"])] for vm in answer["vms"]]
    return columns(rows)


def _word(cell: Answer) -> str:
    if not cell["possible"]:
        return NO
    return REMARKS if cell["remarks"] else YES


def _reasons(answer: Answer) -> list[str]:
    """What stands behind each `no` and each star; hosts with the same reasons are told of together."""
    names = {host["host"]: host["name-label"] for host in answer["hosts"]}
    lines: list[str] = []
    for vm in answer["vms"]:
        told: dict[tuple[str, ...], list[str]] = {}
        for cell in vm["hosts"]:
            text = tuple(_told(cell))
            if text:
                told.setdefault(text, []).append(names[cell["host"]])
        for text, hosts in told.items():
            lines += ["", f"{vm['name-label']} on {', '.join(hosts)}:", *text]
    return lines


def _told(cell: Answer) -> Sequence[str]:
    lines: list[str] = []
    for obstacle in cell["obstacles"]:
        lines.append(f"  {obstacle['error'][0]}: {obstacle['because']}")
        lines += [f"    {obstacle['fix']}"] if obstacle["fix"] else []
    for remark in cell["remarks"]:
        lines.append(f"  * {remark['because']}")
        lines += [f"    {remark['fix']}"] if remark["fix"] else []
    return lines


COMMANDS: Final = (
    Command(
        name="vm-explain-placement",
        action=_explain,
        optional=("uuid", JSON),
        changes=False,
        summary="Shows on which hosts a VM, or each VM, can run, what keeps it from the others, and the command that "
        "changes that. --json for programs; --minimal lists the hosts of one VM, or the VMs that no host can run.",
    ),
)
