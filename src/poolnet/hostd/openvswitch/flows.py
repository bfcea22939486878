"""Are the flows of every secure bridge there, and how do they get there?

Which flows should be there follows from the switch's database alone (each port's lock is remembered in its row), so
whatever takes them away (a restart of the switch, somebody's ovs-ofctl) is mended by sending them again: at once when
the switch comes back, a second after a change by somebody else. `backend` sends the flows of a plan through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from poolnet.hostd.openvswitch.openflow import SwitchConnection
from poolnet.hostd.run import CommandFailed, run

LOG = structlog.stdlib.get_logger("poolnet.hostd.openvswitch.flows")
READY_TIMEOUT_S = 30.0
RETRY_S = 0.1
QUIET_S = 1.0  # so long nothing may change before the flows are compared
PATIENCE_S = 3.0  # … but not longer than this after the first change
FRAGMENTS_LOOK_S = 3.0
TIMEOUT_S = 60.0
_DIFFERENT = 2  # the status of ovs-ofctl diff-flows when there are differences
_SHOWN_MAX = 20
_TOLD_MAX = 3


class FlowsFailed(Exception):
    """The switch did not take the flows of a bridge."""

    def __init__(self, bridge: str, reason: str) -> None:
        super().__init__(f"{bridge}: {reason}")
        self.bridge = bridge


class FlowKeeper:
    """Keeps the flows of the secure bridges as they should be."""

    def __init__(
        self,
        run_dir: Path,
        work_dir: Path,
        expected: Callable[[str], str],
        turn: asyncio.Lock,
        repaired: Callable[[str], None],
    ) -> None:
        """`expected(bridge)` is the text of all its flows now; `work_dir` is for files.

        `repaired` is told in words of what somebody else has changed.

        `turn` is held by whoever changes the switch, so that flows are never compared in the middle of a change.
        """
        self._run_dir = run_dir
        self._work_dir = work_dir
        self._expected = expected
        self._turn = turn
        self._repaired = repaired
        self._bridges: dict[str, _Watched] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def keep(self, bridges: Iterable[str]) -> None:
        """From now on these are the secure bridges; those that are new get their flows as soon as they can.

        Not when it is closed: the switch may still tell of a bridge, and a task that begins now would be left over. asyncio
        waits for ever for a program that such a task has just started when all ends.
        """
        wanted = set() if self._closed else set(bridges)
        for name in self._bridges.keys() - wanted:
            task = self._bridges.pop(name).task
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        for name in wanted - self._bridges.keys():
            self._bridges[name] = _Watched(self, name)

    async def close(self) -> None:
        """Stops watching; the flows stay."""
        self._closed = True
        self.keep(())
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def ready(self, bridge: str) -> None:
        """Returns when a bridge has its flows. Raises FlowsFailed when that takes too long."""
        watched = self._bridges.get(bridge)
        if watched is None:
            raise FlowsFailed(bridge, "it is no secure bridge of ours")
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await watched.installed.wait()
        except TimeoutError as error:
            raise FlowsFailed(bridge, "the switch does not take flows") from error

    async def send(self, bridge: str, changes: Iterable[str]) -> None:
        """Carries out changes (lines `add FLOW` or `delete MATCH`), all or none, seen at one instant by packets.

        Raises FlowsFailed.
        """
        text = "\n".join(changes)
        if text:
            await self._ofctl(bridge, "--bundle", "add-flows", self.target(bridge), "-", stdin=text + "\n")

    async def emit(self, bridge: str, packets: Iterable[str]) -> None:
        """Sends packets (lines `packet-out …`) through a bridge. Raises FlowsFailed."""
        await self._ofctl(
            bridge, "bundle", self.target(bridge), "-", stdin="".join(f"{p}\n" for p in packets)
        )

    def target(self, bridge: str) -> str:
        """How ovs-ofctl addresses a bridge."""
        return f"unix:{self.socket(bridge)}"

    def socket(self, bridge: str) -> Path:
        """The management socket of a bridge."""
        return self._run_dir / f"{bridge}.mgmt"

    async def install(self, bridge: str) -> None:
        """Makes the flows of a bridge what they should be, in one bundle. Raises FlowsFailed."""
        await self._ofctl(
            bridge, "--bundle", "replace-flows", self.target(bridge), "-", stdin=self._expected(bridge)
        )

    async def mend(self, bridge: str) -> None:
        """Compares the flows of a bridge with what they should be, and puts them back. Raises FlowsFailed."""
        async with self._turn:
            changed = await self._differences(bridge)
            if changed:
                LOG.warning(
                    "flows were changed by somebody else and are put back",
                    bridge=bridge,
                    differences=changed[:_SHOWN_MAX],
                )
                await self.install(bridge)
                self._repaired(
                    f"flows of {bridge} were changed by somebody else and are put back: {_shown(changed)}"
                )

    def note_hidden_fragments(self, bridge: str) -> None:
        """Somebody else has hidden the ports of fragments from the flows of a bridge; they are shown again."""
        LOG.warning("the treatment of fragments was changed by somebody else and is put back", bridge=bridge)
        self._repaired(
            f"the treatment of fragments on {bridge} was changed by somebody else and is put back to nx-match"
        )

    async def differences(self, bridge: str) -> list[str]:
        """How the flows of a bridge differ from what they should be (see `differences`). Raises FlowsFailed."""
        async with self._turn:
            return await self._differences(bridge)

    async def _differences(self, bridge: str) -> list[str]:
        if bridge not in self._bridges:
            return []
        path = self._work_dir / f"{bridge}.flows"
        path.write_text(self._expected(bridge))
        try:
            found = await self._ofctl(bridge, "diff-flows", str(path), self.target(bridge), differ=True)
        finally:
            path.unlink(missing_ok=True)
        return differences(found)

    async def _ofctl(self, bridge: str, *words: str, stdin: str = "", differ: bool = False) -> str:
        argv = ("ovs-ofctl", "-O", "OpenFlow14", "--no-names", *words)
        expect = (0, _DIFFERENT) if differ else (0,)
        try:
            completed = await run(argv, stdin=stdin.encode(), timeout_s=TIMEOUT_S, expect=expect)
        except CommandFailed as error:
            raise FlowsFailed(bridge, error.reason) from error
        return completed.stdout


def differences(found: str) -> list[str]:
    """The lines of `ovs-ofctl diff-flows` (`-FLOW` is missing in the switch, `+FLOW` is there) that mean something.

    Open vSwitch keeps a match on fragments in another form than it reads it from text, and then says that it lacks a
    flow and has the same one: such pairs are no difference.
    """
    lines = found.splitlines()
    lacking = {line[1:] for line in lines if line.startswith("-")}
    there = {line[1:] for line in lines if line.startswith("+")}
    return [line for line in lines if line[1:] not in lacking & there]


def _shown(changed: list[str]) -> str:
    words = {"-": "was missing", "+": "should not have been there"}
    first = "; ".join(f"{line[1:].strip()} {words[line[0]]}" for line in changed[:_TOLD_MAX])
    return f"{first}; and {len(changed) - _TOLD_MAX} more" if len(changed) > _TOLD_MAX else first


class _Watched:
    """One secure bridge: its connection, made again whenever it breaks, and the wish to compare its flows."""

    def __init__(self, keeper: FlowKeeper, name: str) -> None:
        self._keeper = keeper
        self._name = name
        self._changed = asyncio.Event()
        self.installed = asyncio.Event()
        self.task = asyncio.create_task(self._keep(), name=f"flows-{name}")

    async def _keep(self) -> None:
        again = False
        while True:
            try:
                await self._while_connected(again)
                again = True
                LOG.debug("the connection to a bridge ended", bridge=self._name)
            except FlowsFailed as error:
                LOG.warning("flows cannot be installed", bridge=self._name, error=str(error))
            except OSError:
                pass  # the switch has not made the bridge yet, or is gone
            self.installed.clear()
            await asyncio.sleep(RETRY_S)

    async def _while_connected(self, again: bool) -> None:
        socket = self._keeper.socket(self._name)
        connection = await SwitchConnection.open(socket, self._changed.set, self._note_hidden_fragments)
        try:
            await self._keeper.install(self._name)
            if again:
                LOG.warning("the switch had restarted; its flows are installed again", bridge=self._name)
            self._changed.clear()
            self.installed.set()
            listening = asyncio.create_task(connection.watch())
            mending = asyncio.create_task(self._mend_after_changes())
            looking = asyncio.create_task(_look_at_fragments(connection))
            tasks = (listening, mending, looking)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                done = [task for task in tasks if task.done()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            await connection.close()

    def _note_hidden_fragments(self) -> None:
        self._keeper.note_hidden_fragments(self._name)

    async def _mend_after_changes(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            deadline = loop.time() + PATIENCE_S
            while self._changed.is_set() and loop.time() < deadline:
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_S):
                        await self._changed.wait()
            self._changed.clear()
            await self._keeper.mend(self._name)


async def _look_at_fragments(connection: SwitchConnection) -> None:
    while True:
        await asyncio.sleep(FRAGMENTS_LOOK_S)
        connection.look_at_fragments()
