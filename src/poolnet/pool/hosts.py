"""The hosts of the pool and how each is reached: this one over its daemon's socket, the others through their doors.

The coordinator stages and switches through it; start-up and the facts loops feed it what the hosts report. `members` tells
which other hosts there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from msgspec import Struct

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.storage import StorageAction
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.hostlink import DaemonStarting, HostCutOff, HostGone, HostLink, HostRefused
from poolnet.pool.peer import ANSWER_S, Peer, PeerDenied, PeerGone, Streams
from poolnet.pool.peer_address import plain_address

T = TypeVar("T")
A = TypeVar("A", bound=Struct)
D = TypeVar("D", bound=protocol.Answer)
STAGE_S: Final = 60.0  # a host with thousands of VLANs, observed and planned on a busy machine
SWITCH_S: Final = 120.0
SETTLE_S: Final = 30.0
STORAGE_S: Final = 200.0  # longer than the daemon waits for a server that is silent
PROBE_S: Final = 0.5
PROBE_GRACE_S: Final = 2.0  # of a host's time, for it to take everything back before anybody asks again


class RemoteHost:
    """Another host of the pool.

    Args:
        peer: Who connects to its door.
        address: Its management address, as the database has it now.
    """

    def __init__(self, peer: Peer, address: Callable[[], str]) -> None:
        self._peer = peer
        self._address = address
        self.link = HostLink(self._open_hostd)
        self.facts = HostFacts()
        self.connected = False
        self.seen_at = ""
        """Where its connection to the coordinator comes from."""
        self.expected_at = ""
        """Where a rollout that is under way will have put it."""

    @property
    def leads_where_seen(self) -> bool:
        """Whether the link to its daemon is to the address that it was seen at last."""
        leads_to = self.link.peer_address
        return bool(leads_to and self.seen_at) and plain_address(leads_to) == plain_address(self.seen_at)

    async def dial(self) -> Streams:
        """A connection to its door, at whichever of its addresses answers first. Raises PeerGone."""
        places = [p for p in dict.fromkeys((self.expected_at, self._address(), self.seen_at)) if p]
        if not places:
            raise PeerGone("the host has no address")
        return await _first([self._peer.connect(place) for place in places])

    async def ask(self, question: Struct, expect: type[A], within_s: float = ANSWER_S) -> A:
        """Asks its API server something, over a connection of its own. Raises PeerGone or PeerDenied."""
        reader, writer = await self.dial()
        try:
            async with asyncio.timeout(within_s):
                await wire.write(writer, question)
                answer: wire.Reply = await wire.read(reader, wire.Reply)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, wire.BadFrame) as error:
            raise PeerGone(f"{type(error).__name__} {error}".strip()) from error
        finally:
            writer.close()
        if isinstance(answer, wire.Denied):
            raise PeerDenied(answer)
        if not isinstance(answer, expect):
            raise PeerGone(f"expected {expect.__name__}, got {type(answer).__name__}")
        return answer

    async def _open_hostd(self) -> Streams:
        try:
            reader, writer = await self.dial()
        except PeerGone as error:
            raise OSError(str(error)) from error
        try:
            async with asyncio.timeout(ANSWER_S):
                await wire.write(writer, wire.OpenHostd())
                answer: wire.Granted | wire.Denied = await wire.read(reader, wire.Granted | wire.Denied)
        except (TimeoutError, asyncio.IncompleteReadError, wire.BadFrame) as error:
            writer.close()
            raise OSError(f"{type(error).__name__} {error}") from error
        except BaseException:
            writer.close()
            raise
        if isinstance(answer, wire.Denied):
            writer.close()
            raise (
                DaemonStarting(answer.reason)
                if answer.code == wire.DAEMON_STARTING
                else OSError(answer.reason)
            )
        return reader, writer


class PoolHosts:
    """All hosts of a pool; on a standalone host, that one."""

    def __init__(self, host: Ref[Host], link: HostLink, facts: HostFacts) -> None:
        self._host = host
        self._link = link
        self._facts = facts
        self._remotes: dict[Ref[Host], RemoteHost] = {}

    def add(self, host: Ref[Host], remote: RemoteHost) -> None:
        """From now on this host takes part in changes; while it cannot be reached, changes that touch it fail."""
        self._remotes[host] = remote

    def remove(self, host: Ref[Host]) -> None:
        """Leaves a host out of changes: it is down, and is brought in step when it comes back."""
        self._remotes.pop(host, None)

    def remote(self, host: Ref[Host]) -> RemoteHost | None:
        """Another host that takes part in changes."""
        return self._remotes.get(host)

    def is_local(self, host: Ref[Host]) -> bool:
        """Whether it is the host that this server runs on."""
        return host == self._host

    def reachable(self) -> Sequence[Ref[Host]]:
        """The hosts that take part in changes, in the order in which they are switched: this one is the last."""
        return (*self._remotes, self._host)

    def connected(self, host: Ref[Host]) -> bool:
        """Whether a host is heard at this moment."""
        remote = self._remotes.get(host)
        return host == self._host or (remote is not None and remote.connected)

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        """Stages on the daemon."""
        return await self._at(host, self._request(host, command, protocol.Staged, STAGE_S))

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        """Switches on the daemon.

        The connection may be what the switch breaks: a host whose address moves is asked again where it should be by then.
        """
        remote = self._remotes.get(host)
        within_s = SWITCH_S if command.confirm_within_s is None else command.confirm_within_s + PROBE_GRACE_S
        request = self._request(host, command, protocol.Done, within_s)
        if (
            remote is None
            or command.confirm_within_s is None
            or not (command.reachable or remote.expected_at)
        ):
            done = await self._at(host, request)
        else:
            done = await self._at(host, self._switch_moving(remote, command, request))
        self.remember(host, done.facts)
        return done

    async def _switch_moving(
        self, remote: RemoteHost, command: protocol.Switch, request: Awaitable[protocol.Done]
    ) -> protocol.Done:
        asked: asyncio.Task[protocol.Done] = asyncio.ensure_future(_awaited(request))
        looking = asyncio.create_task(self._look_again(remote, command))
        try:
            async with asyncio.timeout((command.confirm_within_s or 0.0) + PROBE_GRACE_S):
                await asyncio.wait((asked, looking), return_when=asyncio.FIRST_COMPLETED)
                lost = not asked.done() or isinstance(asked.exception(), HostGone)
                done = await looking if lost else asked.result()
                if lost or remote.expected_at:
                    await remote.link.close()  # what is left of the connection to the old address
                return done
        except TimeoutError as error:
            raise HostCutOff("the host did not come back in time") from error
        finally:
            for task in (asked, looking):
                task.cancel()
            await asyncio.gather(asked, looking, return_exceptions=True)

    async def _look_again(self, remote: RemoteHost, command: protocol.Switch) -> protocol.Done:
        """Asks by new connections until the rollout is found to be carried out."""
        while True:
            await asyncio.sleep(PROBE_S)
            link = HostLink(remote.link.connect_to, waits=False)
            with suppress(HostGone, HostRefused):
                try:
                    question = protocol.AwaitsConfirm(rollout=command.rollout)
                    return await link.request(question, protocol.Done, ANSWER_S)
                finally:
                    await link.close()

    async def settle(self, host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        """Confirms or reverts on the daemon."""
        done = await self._at(host, self._request(host, command, protocol.Done, SETTLE_S))
        self.remember(host, done.facts)
        return done

    async def set_hostname(self, host: Ref[Host], hostname: str) -> None:
        """Renames the host."""
        command = protocol.SetHostname(hostname=hostname)
        await self._at(host, self._request(host, command, protocol.Done, SETTLE_S))

    async def storage(self, host: Ref[Host], action: StorageAction) -> protocol.StorageSpace:
        """Has the daemon act on storage."""
        return await self.ask(host, protocol.ChangeStorage(action=action), protocol.StorageSpace, STORAGE_S)

    async def look(self, host: Ref[Host]) -> None:
        """Asks the daemon for its facts."""
        observing = self._request(host, protocol.Observe(), protocol.Observation, SETTLE_S)
        seen = await self._at(host, observing)
        self.remember(host, seen.facts)

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[D], timeout_s: float) -> D:
        """Asks a daemon for something that is no part of a rollout."""
        return await self._at(host, self._link_of(host).request(command, expect, timeout_s))

    def expect(self, host: Ref[Host], address: str) -> None:
        """Says where a rollout will put a host; "" once it is over."""
        remote = self._remotes.get(host)
        if remote is not None:
            remote.expected_at = address

    async def require_contact(self, host: Ref[Host], coordinator_address: str) -> None:
        """Returns if this host reaches that one by a new connection, and is reached by it; raises HostGone."""
        remote = self._remotes.get(host)
        if remote is None:
            raise HostGone("the host is down", host)
        try:
            await remote.ask(wire.Reach(address=coordinator_address), wire.Pong)
        except (PeerGone, PeerDenied) as error:
            raise HostCutOff(f"host and coordinator do not reach each other: {error}", host) from error

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        """What the daemons reported last."""
        return {self._host: self._facts, **{host: remote.facts for host, remote in self._remotes.items()}}

    def remember(self, host: Ref[Host], facts: HostFacts) -> None:
        """Takes new facts from a daemon."""
        remote = self._remotes.get(host)
        if remote is not None:
            remote.facts = facts
        elif host == self._host:
            self._facts = facts

    async def _request(
        self, host: Ref[Host], command: protocol.Command, expect: type[D], within_s: float
    ) -> D:
        """Asks a daemon; another host's has only so long, for all the others wait for it."""
        link = self._link_of(host)
        if host == self._host:
            return await link.request(command, expect)
        return await link.request(command, expect, within_s)

    def _link_of(self, host: Ref[Host]) -> HostLink:
        if host == self._host:
            return self._link
        remote = self._remotes.get(host)
        if remote is None:
            raise HostGone("the host is down", host)
        return remote.link

    async def _at(self, host: Ref[Host], request: Awaitable[T]) -> T:
        """Says in its failure which host is gone."""
        try:
            return await request
        except HostGone as error:
            raise type(error)(str(error), host) from error


async def _awaited(request: Awaitable[T]) -> T:
    return await request


async def _first(attempts: Sequence[Awaitable[Streams]]) -> Streams:
    """The first connection that comes about; the others are given up. Raises PeerGone."""
    tasks = [asyncio.ensure_future(_awaited(attempt)) for attempt in attempts]
    winner: Streams | None = None
    reason: PeerGone | None = None
    try:
        for next_done in asyncio.as_completed(tasks):
            try:
                winner = await next_done
            except PeerGone as error:
                reason = reason or error
            else:
                return winner
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, tuple) and (winner is None or result[1] is not winner[1]):
                result[1].close()
    raise reason or PeerGone("there is nowhere to connect to")
