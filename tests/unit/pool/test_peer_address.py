"""How the address of a connection's other end is written."""

from __future__ import annotations

import pytest

from poolnet.pool.peer_address import plain_address


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::1", "2001:db8::1"),
    ],
)
def test_addresses_are_written_as_people_write_them(text: str, plain: str) -> None:
    assert plain_address(text) == plain
