"""How long after a commit does a client that waits in event.from have the answer? Beside one call's round trip.

Calls that follow anything but tasks wait for 50 ms after the first change, as the reference does, so that changes that
follow closely come in one answer; those that follow tasks alone are answered at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from bench.figure import Figure, duration
from bench.server import Served, call_body, client_process, serving
from poolnet.api.events import BATCHING_S
from poolnet.model.classes.network import Network
from poolnet.model.classes.task import Task
from poolnet.model.types import Ref

TASKS = 1_000
NETWORKS = 100
ROUND_TRIPS = 1_000
_BLOCKED_AFTER_S = 0.002  # from a call's arrival until it surely waits


async def figures() -> list[Figure]:
    """Latency of task events and of network events."""
    async with serving() as served:
        served.fixed["bench.small"] = b"<value>1</value>"
        (floor,) = await served.alternate(call_body("bench.small"), rounds=ROUND_TRIPS)
        tasks = await _latencies(served, "task", TASKS, await _task_change(served))
        networks = await _latencies(served, "network", NETWORKS, await _network_change(served))
    name = "an HTTP round trip"
    batching_ms = round(BATCHING_S * 1000)
    return [
        duration("event.from on tasks, from the commit to the answer", tasks, floor, floor_name=name),
        duration(
            f"event.from on networks, likewise ({batching_ms} ms are the batching)",
            networks,
            floor,
            floor_name=name,
        ),
    ]


async def _latencies(
    served: Served, cls: str, rounds: int, change: Callable[[int], Awaitable[None]]
) -> list[float]:
    called = asyncio.Event()
    committed: list[float] = []

    def heard(method: str) -> None:
        if method == "event.from":
            called.set()

    served.heard = heard
    stop = served.parts.database.feed.subscribe(lambda _: committed.append(time.monotonic()))
    work = {"do": "follow", "port": served.port, "body": _event_from(served.session, cls), "rounds": rounds}
    client = asyncio.create_task(client_process(work))
    await _next(called)  # the first call has no token and is answered at once
    for number in range(rounds):
        await _next(called)
        await asyncio.sleep(_BLOCKED_AFTER_S)
        await change(number)
    arrived = await client
    stop()
    served.heard = lambda _: None
    return [there - here for here, there in zip(committed, arrived, strict=True)]


async def _next(called: asyncio.Event) -> None:
    await asyncio.wait_for(called.wait(), 10)
    called.clear()


def _event_from(session: str, cls: str) -> str:
    classes = f"<value><array><data><value>{cls}</value></data></array></value>"
    params = (
        f"<value>{session}</value>",
        classes,
        "<value>TOKEN</value>",
        "<value><double>30</double></value>",
    )
    texts = "".join(f"<param>{param}</param>" for param in params)
    return f"<methodCall><methodName>event.from</methodName><params>{texts}</params></methodCall>"


async def _task_change(served: Served) -> Callable[[int], Awaitable[None]]:
    database = served.parts.database
    ref: Ref[Task] = Ref(f"OpaqueRef:{uuid4()}")
    txn = database.begin()
    txn.create(Task(ref=ref, uuid=str(uuid4()), name_label="bench", session=Ref(served.session)))
    await database.commit(txn.changes())

    async def change(number: int) -> None:
        txn = database.begin()
        txn.update(Task, ref, name_description=str(number))
        await database.commit(txn.changes())

    return change


async def _network_change(served: Served) -> Callable[[int], Awaitable[None]]:
    database = served.parts.database
    ref = next(iter(database.view.refs(Network)))

    async def change(number: int) -> None:
        txn = database.begin()
        txn.update(Network, ref, name_description=str(number))
        await database.commit(txn.changes())

    return change
