"""How are simulated hosts part of a pool? They are admitted as others are, and reached without a wire."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from msgspec import Struct

from poolnet.api.as_coordinator import Started
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.lab.simulated.host import SimulatedHost
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.hosts import PoolHosts, RemoteHost
from poolnet.pool.peer import ANSWER_S, Peer, PeerGone
from poolnet.pool.start import open_pool
from poolnet.rules.admit import CLASSES, admit
from poolnet.rules.context import CallContext, Counters
from poolnet.rules.facts import record_facts
from poolnet.rules.startup import first_boot

A = TypeVar("A", bound=protocol.Answer)
W = TypeVar("W", bound=Struct)


class _Link(HostLink):
    """A link to a daemon in this process."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(_nowhere)
        self._host = host

    async def request(self, command: protocol.Command, expect: type[A], timeout_s: float = 0.0) -> A:
        """See `HostLink.request`."""
        await asyncio.sleep(0)  # others have their turn, as they would while a host works
        answer = await self._host.answer(command)
        if isinstance(answer, protocol.Refused):
            raise HostRefused(answer)
        if not isinstance(answer, expect):
            raise HostGone(f"a simulated host answers {type(answer).__name__}")
        return answer


async def _nowhere() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    raise OSError("a simulated host has no door")


class SimulatedRemote(RemoteHost):
    """A simulated host, as the coordinator reaches it."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(Peer(_no_certificate, 0, str), lambda: host.address)
        self.link = _Link(host)
        self.facts: HostFacts = host.facts()
        self.connected = True

    async def ask(self, question: Struct, expect: type[W], within_s: float = ANSWER_S) -> W:
        """See `RemoteHost.ask`: it can be reached, and reaches the coordinator."""
        answer = wire.Pong(role="member", connected=True)
        if not isinstance(question, wire.Ping | wire.Reach) or not isinstance(answer, expect):
            raise PeerGone("a simulated host cannot answer that")
        return answer


def _no_certificate() -> ssl.SSLContext:
    raise PeerGone("a simulated host has no door")


async def add_hosts(started: Started, hosts: Sequence[SimulatedHost]) -> None:
    """Lets the pool have these hosts, brought in step."""
    for host in hosts:
        ref: Ref[Host] = await started.coordinator.write(partial(_admit, started, host))  # type: ignore[assignment]
        started.hosts.add(ref, SimulatedRemote(host))
        await started.coordinator.converge(ref)
        await started.coordinator.write(partial(_record, started, ref, host))


async def simulated_pool(hosts: Sequence[SimulatedHost], database: Database, state_dir: Path) -> Started:
    """A pool of these hosts in this process, without a server: whoever has it ends its coordinator."""
    first, *others = hosts
    counters = Counters()
    opened = await open_pool(
        database=database,
        greeting=first.greeting(),
        facts=first.facts(),
        state_dir=state_dir,
        clock=_now,
        counters=counters,
    )
    reached = PoolHosts(opened.local_host, _Link(first), first.facts())
    coordinator = Coordinator(
        database=database, hosts=reached, local_host=opened.local_host, clock=_now, counters=counters
    )
    coordinator.start()
    await coordinator.converge(opened.local_host)
    started = Started(
        database=database, coordinator=coordinator, hosts=reached, host=opened.local_host, clock=_now
    )
    await coordinator.write(partial(_record, started, opened.local_host, first))
    await add_hosts(started, others)
    return started


def _now() -> datetime:
    return datetime.now(UTC)


def _admit(started: Started, host: SimulatedHost, txn: Txn) -> Ref[Host]:
    """Makes it a host of the pool, as if it had joined after its first boot."""
    own = Database.open(MemoryEngine()).begin()
    local: Ref[Host] = Ref(f"OpaqueRef:{uuid4()}")
    context = CallContext(
        txn=own, now=started.clock(), new_uuid=_new_uuid, local_host=local, facts={local: host.facts()}
    )
    uuid = _new_uuid()
    first_boot(context, uuid, host.greeting(), host.facts())
    rows = [row for cls in CLASSES for row in own.all(cls)]
    ref = admit(started.coordinator.context_of(txn, started.host, host.facts()), uuid=uuid, rows=rows)
    txn.update(HostMetrics, txn.get(Host, ref).metrics, live=True)
    txn.update(Host, ref, enabled=True)
    return ref


def _record(started: Started, ref: Ref[Host], host: SimulatedHost, txn: Txn) -> None:
    record_facts(txn, ref, host.facts(), started.clock(), _new_uuid)


def _new_uuid() -> str:
    return str(uuid4())
