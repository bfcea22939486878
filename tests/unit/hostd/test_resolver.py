"""One bridge at most says which name servers the host asks, also while a plan hands that over to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolnet.hostd.resolver import Resolver
from poolnet.hostnet.state import NO_IP, IpConfig

FIRST = IpConfig(dns_servers=("192.0.2.1",), dns_search=("example.org", "example.net"))
SECOND = IpConfig(dns_servers=("192.0.2.2",))
BYSTANDER = "nameserver 198.51.100.1\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that somebody else wrote."""
    path = tmp_path / "resolv.conf"
    path.write_text(BYSTANDER, encoding="utf-8")
    return path


def test_a_host_without_name_servers_of_ours_keeps_its_file(path: Path) -> None:
    resolver = Resolver(path)
    resolver.use("xenbr0", NO_IP, NO_IP)
    resolver.write()
    assert path.read_text(encoding="utf-8") == BYSTANDER


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_the_one_that_is_left_counts_in_whichever_order_they_change(
    path: Path, first_leaves_first: bool
) -> None:
    resolver = Resolver(path)
    resolver.use("xenbr0", NO_IP, FIRST)
    resolver.write()
    text = "search example.org example.net\nnameserver 192.0.2.1\n"
    assert path.read_text(encoding="utf-8") == text
    changes = [("xenbr0", FIRST, NO_IP), ("xenbr1", NO_IP, SECOND)]
    for change in changes if first_leaves_first else reversed(changes):
        resolver.use(*change)
    resolver.write()
    assert path.read_text(encoding="utf-8") == "nameserver 192.0.2.2\n"
    resolver.use("xenbr1", SECOND, NO_IP)
    resolver.write()
    assert path.read_text(encoding="utf-8") == ""


def test_a_daemon_that_starts_anew_takes_them_away_as_well(path: Path) -> None:
    resolver = Resolver(path)
    resolver.use("xenbr0", FIRST, NO_IP)
    resolver.write()
    assert path.read_text(encoding="utf-8") == ""
