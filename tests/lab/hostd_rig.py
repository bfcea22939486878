"""A private Open vSwitch and a host daemon for one test, in the network namespace of the caller.

Use inside `run_in_own_network`. Everything that is started is stopped by its pid, and all files are in one directory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from poolnet.hostnet.protocol import Done, Observation, Observe, Stage, Staged, Switch
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.steps import Plan
from poolnet.pool.hostlink import HostLink
from tests.lab.own_network import run_in_own_network
from tests.waiting import PATIENCE, listens, until

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
START_TIMEOUT_S = 60.0 * PATIENCE
STOP_TIMEOUT_S = 60.0


class Rig:
    """The switch's programs and the daemon, each of which can be killed and started again."""

    def __init__(
        self,
        directory: Path,
        nics: Sequence[str],
        guest_runtime: str = "none",
        backend: str = "openvswitch",
        datapath_type: str = "netdev",
    ) -> None:
        self.directory = directory
        self.backend = backend
        self.run_dir = directory / "ovs"
        self.root = directory / "root"
        self.socket = self.root / "run/poolnet/hostd.sock"
        self.link = HostLink(self.socket)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.run_dir.mkdir()
        config = self.root / "etc/poolnet/hostd.toml"
        config.parent.mkdir(parents=True)
        names = ", ".join(f'"{nic}"' for nic in nics)
        config.write_text(
            f'backend = "{backend}"\ndatapath_type = "{datapath_type}"\nguest_runtime = "{guest_runtime}"\n'
            f"nics = [{names}]\n"
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What the programs of this rig find in their environment."""
        directories = {name: str(self.run_dir) for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR")}
        return {**os.environ, **directories, "POOLNET_ROOT": str(self.root)}

    def sh(self, *argv: str, check: bool = True) -> str:
        """The output of a short program."""
        done = subprocess.run(argv, env=dict(self.environment), capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.stderr}")
        return done.stdout

    async def start_database(self) -> None:
        """Starts ovsdb-server, with a new database the first time."""
        database = self.run_dir / "conf.db"
        (self.run_dir / "db.sock").unlink(missing_ok=True)
        first = not database.exists()
        if first:
            self.sh("ovsdb-tool", "create", str(database), SCHEMA)
        await self._start(
            "ovsdb-server",
            "ovsdb-server",
            str(database),
            f"--remote=punix:{self.run_dir}/db.sock",
            f"--unixctl={self.run_dir}/ovsdb-server.ctl",
            f"--pidfile={self.run_dir}/ovsdb-server.pid",
            ready=self.run_dir / "db.sock",
        )
        await until(lambda: listens(self.run_dir / "db.sock"))
        if first:
            self.sh("ovs-vsctl", "--no-wait", "init", "--", "set", "Open_vSwitch", ".", "ovs-version=3.1.0")

    async def start_switch(self) -> None:
        """Starts ovs-vswitchd."""
        (self.run_dir / "ovs-vswitchd.pid").unlink(missing_ok=True)
        await self._start(
            "ovs-vswitchd",
            "ovs-vswitchd",
            f"unix:{self.run_dir}/db.sock",
            f"--pidfile={self.run_dir}/ovs-vswitchd.pid",
            ready=self.run_dir / "ovs-vswitchd.pid",
        )

    async def start_daemon(self, module: str = "poolnet.hostd.main", **environment: str) -> None:
        """Starts poolnet-hostd, or a module that is the same and something else besides."""
        self.socket.unlink(missing_ok=True)
        words = (sys.executable, "-m", module, "--debug")
        await self._start("hostd", *words, ready=self.socket, environment=environment)
        await until(lambda: listens(self.socket))

    async def start_api(self) -> None:
        """Starts poolnet-api, which serves `xe` on this host at a socket, and its other doors here."""
        socket_of_xe = self.root / "run/poolnet/xapi.sock"
        socket_of_xe.unlink(missing_ok=True)
        await self._start("api", str(Path(sys.executable).with_name("poolnet-api")), ready=socket_of_xe)
        await until(lambda: listens(socket_of_xe))

    async def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Ends one of the programs (`ovsdb-server`, `ovs-vswitchd`, `hostd`, `api`) and waits for its end."""
        process = self._processes.pop(name)
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{name} does not stop") from None
        if number == signal.SIGTERM and status not in (0, -number):
            raise AssertionError(f"{name} ended with status {status}")

    def pid(self, name: str) -> int:
        """The process of a program that runs."""
        return self._processes[name].pid

    def log(self, name: str) -> str:
        """What a program has logged so far."""
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    async def stop(self) -> None:
        """Ends everything."""
        await self.link.close()
        for name in ("api", "hostd", "ovs-vswitchd", "ovsdb-server"):
            if name in self._processes:
                await self.kill(name, signal.SIGTERM)
        for record in (self.root / "run/poolnet/guests").glob("*.json"):  # of a test that failed
            with suppress(ProcessLookupError):
                os.kill(msgspec.json.decode(record.read_bytes())["pid"], signal.SIGKILL)

    def cable(self, one: str, other: str) -> None:
        """Two connected interfaces that are up; the other end is that of a switch in the cabinet."""
        self.sh("ip", "link", "add", one, "type", "veth", "peer", "name", other)
        self.sh("ip", "link", "set", other, "up")
        self.sh("ip", "link", "set", one, "up")

    def flows(self, bridge: str) -> str:
        """The flows of a bridge, without counters."""
        return self.sh("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "--no-stats", "dump-flows", bridge)

    async def observe(self) -> HostNetwork:
        """What the daemon observes."""
        return (await self.link.request(Observe(), Observation)).network

    async def roll_out(self, desired: HostNetwork, rollout: str = "r", **stage: object) -> Done:
        """Stages and switches, confirmed at once."""
        await self.link.request(Stage(rollout=rollout, desired=desired, **stage), Staged)  # type: ignore[arg-type]
        return await self.link.request(Switch(rollout=rollout), Done)

    async def plan_to(self, desired: HostNetwork) -> Plan:
        """The plan from what is there."""
        return (await self.link.request(Stage(rollout="p", desired=desired, dry_run=True), Staged)).plan

    async def _start(
        self, name: str, *argv: str, ready: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        log = os.open(
            self.directory / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env={**self.environment, **(environment or {})},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        finally:
            os.close(log)
        self._processes[name] = process
        async with asyncio.timeout(START_TIMEOUT_S):
            while not exists(ready):
                if process.returncode is not None:
                    raise AssertionError(f"{name} ended: {self.log(name)}")
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_rig(
    directory: Path,
    nics: Sequence[str] = ("eth*",),
    guest_runtime: str = "none",
    backend: str = "openvswitch",
    datapath_type: str = "netdev",
) -> AsyncIterator[Rig]:
    """A rig with everything started that the backend needs; its logs are printed when the test fails."""
    rig = Rig(directory, nics, guest_runtime, backend, datapath_type)
    try:
        if backend == "openvswitch":
            await rig.start_database()
            await rig.start_switch()
        await rig.start_daemon()
        yield rig
    except BaseException:
        for name in ("ovs-vswitchd", "ovsdb-server", "hostd"):
            sys.stderr.write(f"--- {name}\n{rig.log(name)[-6000:]}\n")
        raise
    finally:
        await rig.stop()


def with_rig(
    directory: Path,
    body: Callable[[Rig], Awaitable[None]],
    nics: Sequence[str] = ("eth*",),
    guest_runtime: str = "none",
    backend: str = "openvswitch",
    datapath_type: str = "netdev",
    *,
    mounts: bool = False,
) -> None:
    """Runs a test's body with a rig in a network of its own, where the cable of eth0 ends at sw0.

    With `mounts` what the body mounts is seen by the rig's programs alone.
    """

    async def run() -> None:
        async with running_rig(directory, nics, guest_runtime, backend, datapath_type) as rig:
            rig.sh("ip", "link", "set", "lo", "up")
            rig.cable("eth0", "sw0")
            await body(rig)

    run_in_own_network(run, mounts=mounts)


def exists(path: Path) -> bool:
    """Is there a file, or a socket?"""
    return path.exists()
