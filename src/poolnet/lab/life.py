"""How does a lab come up, go down, and how do its hosts reboot? Called by `lab/cli.py` and the tests."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from poolnet.hostd.process_stat import started_at
from poolnet.lab import cabling, datapath, machine, switch
from poolnet.lab.init import Service
from poolnet.lab.state import (
    LABS,
    SWITCH,
    Lab,
    LabError,
    LabHost,
    Nic,
    check_name,
    forget,
    free_subnet,
    load,
    locked,
    mac_of,
)
from poolnet.model.failure import Failure
from poolnet.pool.pace import USUAL_SILENCE_S

if TYPE_CHECKING:
    from poolnet.api.pool_client import PoolClient

MASKED = "etc/poolnet/poolnet-api.masked"  # a host where this file exists starts without its API server
BACKENDS = ("openvswitch", "linuxbridge")
HOSTS_MAX = 64
NICS_MAX = 16
SIMULATED_HOSTS_MAX = 1024
SIMULATED = "run/poolnet/simulated"  # there when all simulated hosts are
_SERVES_WITHIN_S = 90.0
_LOOK_S = 0.05
_ANSWERS_WITHIN_S = 10.0  # an answer may be lost for good while the host's addresses are being set
_LOG_LINES_SHOWN = 15
_LIST_METHODS = (
    b"<?xml version='1.0'?><methodCall><methodName>system.listMethods</methodName><params/></methodCall>"
)


def nics_of_each(hosts: int, nics: int | Sequence[int]) -> tuple[int, ...]:
    """How many NICs each host of a lab has: one number is that of all of them.

    Raises LabError: not one number for each host, or one that is out of bounds.
    """
    each = (nics,) * hosts if isinstance(nics, int) else tuple(nics)
    if len(each) != hosts:
        raise LabError(f"there are {len(each)} numbers of NICs for {hosts} hosts")
    if not all(1 <= one <= NICS_MAX for one in each):
        raise LabError(f"a host of a lab has 1 to {NICS_MAX} NICs")
    return each


async def up(
    name: str,
    *,
    hosts: int,
    nics: int | Sequence[int],
    backend: str = BACKENDS[0],
    pool: bool = False,
    datapath_type: str = "",
    silence_s: float = USUAL_SILENCE_S,
    simulate: bool = False,
) -> Lab:
    """Start a lab and wait until every host's API answers; what a crashed lab of that name left is removed first.

    `nics` is the number of NICs of every host, or of each of them in their order. Open vSwitch uses the kernel's datapath
    when there is one, unless `datapath_type` says which. Hosts of the pool that are silent for `silence_s` take each other to
    be cut off. With `simulate` the hosts are values in one process on the lab's only machine, `host1`, and in one pool.
    Raises LabError: a bad argument, a lab of that name that runs, or a machine that does not start (everything is removed
    again then).
    """
    check_name(name)
    if os.geteuid() != 0:
        raise LabError("a lab needs root: it makes network namespaces")
    most = SIMULATED_HOSTS_MAX if simulate else HOSTS_MAX
    if not 1 <= hosts <= most:
        raise LabError(f"a lab has 1 to {most} hosts")
    each = nics_of_each(hosts, nics)
    with locked(name):
        if (LABS / name / "lab.json").exists():
            old = load(name)
            if started_at(old.switch_pid) == old.switch_started != 0:
                raise LabError(f"lab {name} is up; `poolnet lab down --name {name}` removes it")
        await _remove(name)
        try:
            kind = datapath_type or datapath.possible()
            if simulate:
                lab = await _start(name, (1,), BACKENDS[0], kind, silence_s, each)
                await _wait_complete(lab)
            else:
                lab = await _start(name, each, backend, kind, silence_s)
            if pool and not simulate:
                await _join(lab)
        except BaseException:
            await _remove(name)
            forget(name)
            raise
    return lab


async def down(name: str) -> None:
    """Remove a lab, whatever is left of it. Nothing to do when there is nothing. Raises LabError when a process stays."""
    check_name(name)
    if not LABS.exists():
        return
    with locked(name):
        await _remove(name)
        forget(name)


async def reboot(name: str, host_name: str, *, hard: bool, wait: bool = True) -> None:
    """Stop a host's machine, at once if `hard`, start it from what is on its disk, and wait until its API answers.

    Nobody waits for the API of a host that is partitioned, or where it is masked; nor without `wait`, where the host may
    have another address now.
    """
    with locked(name):
        lab = load(name)
        host = lab.host(host_name)
        await machine.end(lab.directory / host_name, ask=not hard)
        await cabling.tear_out(lab, host)
        machine.prepare(lab.directory / host_name, host_name, _host_services(lab), {})
        pid, started = await machine.launch(lab.directory / host_name)
        host = msgspec.structs.replace(host, pid=pid, started=started)
        lab = lab.with_host(host)
        lab.save()
        await cabling.lay(lab, (host,))
        await switch.reopen(lab, host)
        machine.go(pid)
    if wait and not host.partitioned and not (lab.directory / host_name / MASKED).exists():
        await _wait_serving(lab, host)


async def partition(name: str, host_name: str) -> None:
    """Cut a host off the management network; its links stay up."""
    with locked(name):
        lab = load(name)
        host = lab.host(host_name)
        await switch.partition(lab, host)
        lab.with_host(msgspec.structs.replace(host, partitioned=True)).save()


async def heal(name: str, host_name: str) -> None:
    """Undo `partition`."""
    with locked(name):
        lab = load(name)
        host = lab.host(host_name)
        await switch.heal(lab, host)
        lab.with_host(msgspec.structs.replace(host, partitioned=False)).save()


async def cut(name: str, sender: str, receiver: str) -> None:
    """Drop what one host sends another over the management network, and nothing else."""
    with locked(name):
        lab = load(name)
        await switch.cut(lab, lab.host(sender), lab.host(receiver))


async def mend(name: str, sender: str, receiver: str) -> None:
    """Undo `cut`."""
    with locked(name):
        lab = load(name)
        await switch.mend(lab, lab.host(sender), lab.host(receiver))


async def set_link(name: str, host_name: str, nic: str, *, plugged: bool) -> None:
    """Plug or pull a NIC's cable."""
    with locked(name):
        lab = load(name)
        (await cabling.set_link(lab, lab.host(host_name), nic, plugged=plugged)).save()


async def bundle(name: str, host_name: str, nics: Sequence[str], *, fallback: bool = True) -> None:
    """Let the switch treat the cables of these NICs as one LAG that speaks LACP; see `switch.bundle`."""
    with locked(name):
        lab = load(name)
        (await cabling.bundle(lab, lab.host(host_name), nics, fallback=fallback)).save()


async def separate(name: str, host_name: str, nic: str) -> None:
    """Let the switch treat the cables of a NIC's LAG each by itself."""
    with locked(name):
        lab = load(name)
        (await cabling.separate(lab, lab.host(host_name), nic)).save()


async def add_nic(name: str, host_name: str, nic: str) -> None:
    """Put a NIC into a running host."""
    with locked(name):
        lab = load(name)
        (await cabling.add(lab, lab.host(host_name), nic)).save()


async def remove_nic(name: str, host_name: str, nic: str) -> None:
    """Take a NIC out of a running host."""
    with locked(name):
        lab = load(name)
        (await cabling.remove(lab, lab.host(host_name), nic)).save()


async def _remove(name: str) -> None:
    directory = LABS / name
    machines = [entry for entry in directory.iterdir() if entry.is_dir()] if directory.is_dir() else []
    await asyncio.gather(*(machine.end(entry, ask=False) for entry in machines))
    shutil.rmtree(directory, ignore_errors=True)


async def _start(
    name: str,
    nics: tuple[int, ...],
    backend: str,
    datapath_type: str,
    silence_s: float,
    simulated: tuple[int, ...] = (),
) -> Lab:
    """`nics` are those of each machine, `simulated` those of each host that is simulated on the only one."""
    with ExitStack() as listening:
        sockets = [listening.enter_context(_listen()) for _ in range(2 * len(nics))]
        lab = _describe(name, nics, backend, datapath_type, [one.getsockname()[1] for one in sockets])
        lab.directory.mkdir(mode=0o755, parents=True)
        lab.save()
        _prepare_machines(lab, sockets, silence_s, simulated)
        fds = [one.fileno() for one in sockets]
        launched = await asyncio.gather(
            machine.launch(lab.directory / SWITCH, pass_fds=fds),
            *(machine.launch(lab.directory / host.name) for host in lab.hosts),
        )
    (switch_pid, switch_started), *rest = launched
    started_hosts = tuple(
        msgspec.structs.replace(host, pid=pid, started=started)
        for host, (pid, started) in zip(lab.hosts, rest, strict=True)
    )
    lab = msgspec.structs.replace(
        lab, switch_pid=switch_pid, switch_started=switch_started, hosts=started_hosts
    )
    lab.save()
    await cabling.lay(lab, lab.hosts)
    for pid in (lab.switch_pid, *(host.pid for host in lab.hosts)):
        machine.go(pid)
    await asyncio.gather(*(_wait_serving(lab, host) for host in lab.hosts))
    return lab


def _describe(
    name: str, nics: tuple[int, ...], backend: str, datapath_type: str, ports: Sequence[int]
) -> Lab:
    subnet = free_subnet()
    return Lab(
        name=name,
        backend=backend,
        datapath_type=datapath_type,
        subnet=subnet,
        password=secrets.token_urlsafe(12),
        hosts=tuple(
            LabHost(
                name=f"host{number}",
                number=number,
                address=f"192.168.{subnet}.{number}",
                https_port=ports[2 * number - 2],
                http_port=ports[2 * number - 1],
                nics=tuple(
                    Nic(name=f"eth{slot}", mac=mac_of(name, f"host{number}", slot), slot=slot)
                    for slot in range(count)
                ),
            )
            for number, count in enumerate(nics, 1)
        ),
    )


def _listen() -> socket.socket:
    one = socket.create_server(("127.0.0.1", 0), backlog=128)
    one.setblocking(False)
    return one


def _prepare_machines(
    lab: Lab, sockets: Sequence[socket.socket], silence_s: float, simulated: tuple[int, ...]
) -> None:
    from argon2 import PasswordHasher, profiles

    cheap = PasswordHasher.from_parameters(profiles.CHEAPEST)  # nobody guesses a random password
    password_hash = cheap.hash(lab.password)
    forwards = []
    for one, (host, port) in zip(
        sockets, [(host, port) for host in lab.hosts for port in (443, 80)], strict=True
    ):
        forwards.append(f"{one.fileno()}={host.address}:{port}")
    fds = tuple(one.fileno() for one in sockets)
    services = switch.services(lab, tuple(forwards), fds, sys.executable)
    machine.prepare(lab.directory / SWITCH, f"{lab.name}-switch", services, {})
    for host in lab.hosts:
        files = {
            "etc/poolnet/hostd.toml": _hostd_toml(lab, host),
            "etc/poolnet/api.toml": f"https_port = 443\nhttp_port = 80\npool_silence_s = {silence_s}\n",
            "var-lib/poolnet/api/users.toml": f'[users.root]\npassword_hash = "{password_hash}"\n',
        }
        own = _host_services(lab)
        if simulated:
            own = _simulation()
            files["etc/poolnet/simulated.json"] = json.dumps({"nics": simulated, "address": host.address})
        machine.prepare(lab.directory / host.name, host.name, own, files)
        (lab.directory / host.name / "var-lib/poolnet/api/users.toml").chmod(0o600)


def _simulation() -> tuple[Service, ...]:
    words = (sys.executable, "-m", "poolnet.lab.simulated.program")
    return (machine.service("poolnet-simulated", *words, ready="/run/poolnet/xapi.sock"),)


def _host_services(lab: Lab) -> tuple[Service, ...]:
    own_switch = machine.own_open_vswitch() if lab.backend == "openvswitch" else ()
    binaries = Path(sys.executable).parent
    return (
        *own_switch,
        machine.service("poolnet-db", str(binaries / "poolnet-db")),
        machine.service("poolnet-hostd", str(binaries / "poolnet-hostd")),
        machine.service(
            "poolnet-api", str(binaries / "poolnet-api"), ready="/run/poolnet/xapi.sock", unless=f"/{MASKED}"
        ),
    )


def _hostd_toml(lab: Lab, host: LabHost) -> str:
    return (
        f'backend = "{lab.backend}"\n'
        f'datapath_type = "{lab.datapath_type}"\n'
        'nics = ["eth*"]\n'
        'guest_runtime = "netns"\n'
        "\n"
        "[management]\n"
        'nic = "eth0"\n'
        'mode = "static"\n'
        f'address = "{host.address}/24"\n'
        f'gateway = "{lab.gateway}"\n'
    )


async def _wait_serving(lab: Lab, host: LabHost) -> None:
    """Ask the host's API through its forward until it answers. Raises LabError with the ends of the host's logs."""
    last = ""
    try:
        async with asyncio.timeout(_SERVES_WITHIN_S):
            while last := await _what_is_wrong(host.http_port):
                if started_at(host.pid) != host.started:
                    raise LabError(f"host {host.name} died while starting\n{_logs(lab, host)}")
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        reason = f"host {host.name} does not serve after {_SERVES_WITHIN_S:g} s: {last}"
        raise LabError(f"{reason}\n{_logs(lab, host)}") from error


async def _wait_complete(lab: Lab) -> None:
    """Wait until all simulated hosts are in the pool. Raises LabError with the ends of the logs."""
    host = lab.host("host1")
    for _ in range(round(_SERVES_WITHIN_S / _LOOK_S)):
        if await asyncio.to_thread((lab.directory / host.name / SIMULATED).exists):
            return
        await asyncio.sleep(_LOOK_S)
    raise LabError(f"the simulated hosts are not there in time\n{_logs(lab, host)}")


_A_METHOD = b"<value>VLAN.create</value>"


async def _what_is_wrong(port: int) -> str:
    """Why the API does not serve yet; "" if it does."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            answer = await _methods(port)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return str(error)
    return "" if _A_METHOD in answer else "it is starting"


async def _methods(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST / HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(_LIST_METHODS)}\r\n\r\n"
        writer.write(head.encode() + _LIST_METHODS)
        return await reader.read()
    finally:
        writer.close()


def _logs(lab: Lab, host: LabHost) -> str:
    texts = []
    for path in sorted((lab.directory / host.name / "var-log").glob("*.log")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        texts += [f"--- {path.name}", *lines]
    return "\n".join(texts)


async def _join(lab: Lab) -> None:
    """Join all hosts to the first one's pool, and wait until VMs can start on all of them. Raises LabError.

    Over the API: what stands in a command line, everybody on this machine can read.
    """
    first, *others = lab.hosts
    try:
        for host in others:
            async with _client(host) as api:
                await api.login("root", lab.password)
                await api.call("pool.join", first.address, "root", lab.password)
        async with asyncio.timeout(_SERVES_WITHIN_S):
            await _wait_all_enabled(lab)
    except Failure as error:
        raise LabError(f"the hosts of lab {lab.name} cannot be joined to a pool: {error}") from error
    except TimeoutError as error:
        logs = "\n".join(_logs(lab, host) for host in lab.hosts)
        raise LabError(f"the pool of lab {lab.name} is not complete\n{logs}") from error


async def _wait_all_enabled(lab: Lab) -> None:
    while True:
        if await _all_enabled(lab):
            return
        await asyncio.sleep(0.2)


async def _all_enabled(lab: Lab) -> bool:
    async with _client(lab.hosts[0]) as api:
        await api.login("root", lab.password)
        records = await api.call("host.get_all_records")
    return len(records) == len(lab.hosts) and all(record["enabled"] for record in records.values())


def _client(host: LabHost) -> PoolClient:
    """For its API. Imported only here: few commands need one, and it takes longer to import than all else that they need."""
    from poolnet.api.pool_client import PoolClient

    return PoolClient("127.0.0.1", host.https_port)
