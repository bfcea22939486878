"""Which commands deal with the cluster that the pool's database may be on? They are poolnet's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.one_call import one_call, ref, text
from poolnet.xe.refusals import Finished
from poolnet.xe.texts import columns

JSON: Final = "json"
COLUMNS: Final = ("host", "address", "state")


async def _enable(call: Call) -> None:
    uuids = [uuid for uuid in (call.params.find("host-uuids") or "").split(",") if uuid]
    hosts = [await call.api("host.get_by_uuid", uuid) for uuid in uuids]
    await call.api("pool.cluster_enable", tuple(hosts))


async def _status(call: Call) -> None:
    answer: Mapping[str, Any] = json.loads(str(await call.api("pool.cluster_status")))
    if call.params.flag(JSON):
        await call.client.print(json.dumps(answer, indent=2))
    elif call.printer.minimal:
        await call.printer.list([server["host"] for server in answer.get("servers", ())])
    else:
        await call.printer.list(_told(answer))
    if answer["enabled"] and not answer["majority"]:
        await call.printer.finish()
        raise Finished(1)


def _told(answer: Mapping[str, Any]) -> list[str]:
    if not answer["enabled"]:
        return ["The pool's database is on its coordinator alone"]
    names = {server["host"]: server["name-label"] for server in answer["servers"]}
    coordinator = answer["coordinator"]
    if answer["majority"]:
        first = f"The coordinator is {names.get(coordinator) or coordinator or 'nobody'}, in term {answer['term']}"
    else:
        first = "The cluster has no majority: nothing can be changed"
    rows = [
        list(COLUMNS),
        *(
            [server["name-label"] or server["host"], server["address"], server["state"]]
            for server in answer["servers"]
        ),
    ]
    return [first, *(f"  {line}" for line in columns(rows))]


COMMANDS: Final = (
    Command(
        name="pool-cluster-enable",
        action=_enable,
        optional=("host-uuids",),
        summary="Moves the pool's database to a cluster of servers on three or five hosts, so that the coordinator's role "
        "moves by itself when it dies. Without host-uuids, on the coordinator and two more.",
    ),
    one_call(
        "pool-cluster-disable",
        "pool.cluster_disable",
        summary="Takes the pool's database back from its cluster to the coordinator alone.",
    ),
    Command(
        name="pool-cluster-status",
        action=_status,
        optional=(JSON,),
        changes=False,
        local=True,
        never_forward=True,
        summary="Says how the servers of the database's cluster are, as seen from this host, and who is coordinator. Exits "
        "with 1 if there is no majority. --json for programs; --minimal lists the hosts.",
    ),
    one_call(
        "pool-cluster-add",
        "pool.cluster_add",
        ref("host", "host-uuid"),
        required=("host-uuid",),
        summary="Gives one more host a server of the database's cluster.",
    ),
    one_call(
        "pool-cluster-remove",
        "pool.cluster_remove",
        text("host-uuid"),
        required=("host-uuid",),
        summary="Takes a host's server out of the database's cluster, also one that is gone for good.",
    ),
)
