"""The DHCP client of a bridge asks again often enough: a server, a cable or a port that comes late costs seconds."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from poolnet.hostd import dhcp
from poolnet.hostd.dhcp import DhcpClients
from tests.lab.own_network import run_in_own_network
from tests.waiting import until

pytestmark = pytest.mark.lab

SERVER = (
    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--pid-file="),
    *("--interface=out0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--log-facility=-"),
    *("--dhcp-range=10.66.0.50,10.66.0.60,255.255.255.0,120", "--dhcp-leasefile=/dev/null"),
)


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def with_clients(directory: Path, body: Callable[[DhcpClients], Awaitable[None]]) -> None:
    """An interface `bridge0` on a cable whose other end is `out0`, where nobody answers yet."""

    async def run() -> None:
        sh("mount", "-t", "tmpfs", "tmpfs", "/var/lib/dhcpcd")
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "bridge0", "type", "veth", "peer", "name", "out0")
        sh("ip", "addr", "add", "10.66.0.1/24", "dev", "out0")
        for name in ("bridge0", "out0"):
            sh("ip", "link", "set", name, "up")
        clients = DhcpClients(directory / "run", directory / "state")
        clients.open(lambda name: None)
        try:
            await clients.start("bridge0", "host1")
            await body(clients)
        finally:
            await clients.stop("bridge0")
            clients.close()

    run_in_own_network(run, mounts=True)


def client_pid(clients: DhcpClients) -> int:
    client = clients._clients["bridge0"]
    return client.process.pid if client.process is not None else 0


def test_a_client_without_a_lease_asks_anew_and_one_that_has_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dhcp, "ASK_AGAIN_S", 0.5)
    Path("/var/lib/dhcpcd").mkdir(exist_ok=True)

    async def body(clients: DhcpClients) -> None:
        seen = [client_pid(clients)]
        for _ in range(2):  # nobody answers
            await until(lambda: client_pid(clients) not in (0, seen[-1]), "it asks anew")
            seen.append(client_pid(clients))
        monkeypatch.setattr(dhcp, "ASK_AGAIN_S", 15.0)  # with time for the address to be probed
        await until(lambda: client_pid(clients) not in (0, seen[-1]), "it asks anew")
        server = await asyncio.create_subprocess_exec(*SERVER, stderr=subprocess.DEVNULL)
        try:
            await until(lambda: clients.lease("bridge0") is not None, "it has a lease")
            monkeypatch.setattr(dhcp, "ASK_AGAIN_S", 0.2)
            has = client_pid(clients)
            clients._ask_again(clients._clients["bridge0"])  # as the timer does, which is set for later
            await asyncio.sleep(1.0)
            assert client_pid(clients) == has
        finally:
            server.kill()
            await server.wait()

    with_clients(tmp_path, body)
