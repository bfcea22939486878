"""The program of a simulated pool: an API server, and all its hosts, in one process.

It runs as the only service of a lab's machine. A simulation that is started again begins anew: its hosts had nothing but
their memory.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from poolnet.api.as_coordinator import Started
from poolnet.api.config import ApiConfig, rooted
from poolnet.api.logs import configure_logs
from poolnet.api.main import serve
from poolnet.hostd.run import run as command
from poolnet.hostd.server import Send, Server
from poolnet.hostnet import protocol
from poolnet.lab.simulated.host import SimulatedHost, nic_of
from poolnet.lab.simulated.pool import add_hosts

COMPLETE: Final = "/run/poolnet/simulated"  # there when all hosts are
CONFIG: Final = "/etc/poolnet/simulated.json"


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """How many NICs each host has; `address` is that of the first host."""

    nics: tuple[int, ...]
    address: str


def simulated_hosts(simulation: Simulation) -> tuple[SimulatedHost, ...]:
    """The hosts, the coordinator first. The others' addresses are nobody's: they are only told of."""
    return tuple(
        SimulatedHost(
            number=number,
            address=simulation.address if number == 1 else f"198.18.{number >> 8}.{number & 255}",
            nics=tuple(nic_of(number, slot) for slot in range(count)),
        )
        for number, count in enumerate(simulation.nics, 1)
    )


async def run(simulation: Simulation) -> None:
    """Serves until it is told to stop."""
    await command(("ip", "link", "set", "eth0", "up"))
    await command(("ip", "address", "replace", f"{simulation.address}/24", "dev", "eth0"))
    config = ApiConfig()
    users = rooted(config.state_dir) / "users.toml"
    kept = users.read_bytes()
    shutil.rmtree(rooted(config.state_dir))
    rooted(config.state_dir).mkdir(mode=0o700)
    users.write_bytes(kept)
    first, *others = simulated_hosts(simulation)

    async def dispatch(request: protocol.Request) -> protocol.Answer:
        return await first.answer(request.command)

    async def watch(command: protocol.Watch | protocol.WatchLocks, send: Send) -> None:
        if isinstance(command, protocol.WatchLocks):
            await send(protocol.LocksSeen())
            await asyncio.Event().wait()
        async for facts in first.changes():
            await send(protocol.FactsChanged(facts=facts))

    daemon = Server(dispatch, watch, frozenset((0,)))
    socket = rooted(config.hostd_socket)
    socket.parent.mkdir(parents=True, exist_ok=True)
    await daemon.start(socket, 0)
    try:
        await serve(config, partial(_populate, others))
    finally:
        await daemon.close()


async def _populate(others: list[SimulatedHost], started: Started) -> None:
    """Adds the others once the coordinator serves, and says when they are all there."""
    await add_hosts(started, others)
    rooted(COMPLETE).touch()


def main() -> None:
    """Reads what is to be simulated, gives this machine its address, and serves."""
    configure_logs(sys.stderr)
    simulation = msgspec.json.decode(Path(CONFIG).read_bytes(), type=Simulation)
    asyncio.run(run(simulation))


if __name__ == "__main__":
    main()
