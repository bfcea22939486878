"""How many connections there may be, and whose."""

from __future__ import annotations

import pytest

from poolnet.api.listener import LOCAL, Budget, machine_of


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
