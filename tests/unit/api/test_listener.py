"""How many connections there may be, and whose."""

from __future__ import annotations

import asyncio
import socket

import pytest

from poolnet.api.listener import LOCAL, Budget, Listener, machine_of


@pytest.mark.parametrize(
    ("address", "machine"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_machine_is_an_ipv4_address_or_an_ipv6_network(address: str, machine: str) -> None:
    assert machine_of(address) == machine


def test_one_machine_does_not_shut_the_others_out_and_all_of_them_not_local_root() -> None:
    budget = Budget(10, 2, of_machine=5)
    taken = [budget.take("a") for _ in range(6)]
    assert [slot is not None for slot in taken] == [True] * 5 + [False]
    others = [budget.take(name) for name in "bcde"]
    assert [slot is not None for slot in others] == [True] * 3 + [False]
    local = [budget.take(LOCAL) for _ in range(3)]
    assert [slot is not None for slot in local] == [True] * 2 + [False]
    assert budget.used == 10
    for slot in (*taken, *others, *local):
        if slot is not None:
            slot.release()
            slot.release()
    assert budget.used == 0
    assert budget.take("a") is not None


def test_a_socket_that_a_transport_has_is_not_closed_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport may live on for its goodbye, and then stop to read from a number that is another socket's by then.

    What asyncio makes of a handshake that is done at the very moment of the end is a stand-in: the moment cannot be hit.
    """

    async def body() -> None:
        taken: list[socket.socket] = []
        under_way = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def take(_: object, client: socket.socket, **__: object) -> None:
            taken.append(client)
            under_way.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(loop, "connect_accepted_socket", take)
        opened = socket.create_server(("127.0.0.1", 0))
        opened.setblocking(False)
        listener = Listener(
            opened, lambda _: asyncio.Protocol(), Budget(10, 2, of_machine=5), handshake_timeout_s=1.0
        )
        with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as client:
            async with asyncio.timeout(10):
                await under_way.wait()
            await listener.close()
            assert taken[0].fileno() >= 0
            assert client.recv(1) == b"", "the client hears of it all the same"
        taken[0].close()

    asyncio.run(body())
