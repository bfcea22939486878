"""One bridge at most says which name servers the host asks, also while a plan hands that over to another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from poolnet.hostd.resolver import Foreign, Resolver
from poolnet.hostd.watched_file import FileWatch
from poolnet.hostnet.state import NO_IP, Bridge, HostNetwork, IpConfig

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


@pytest.fixture
def written(path: Path) -> Resolver:
    """A resolver that has written its file."""
    resolver = Resolver(path)
    resolver.use("xenbr1", NO_IP, FIRST)
    resolver.write()
    return resolver


@pytest.mark.parametrize(
    "text",
    [
        "search example.org example.net\nnameserver 192.0.2.1\n",
        "# by hand\n\n  nameserver   192.0.2.1 \nsearch old.example\nsearch example.org\texample.net\n; end",
    ],
)
def test_spaces_and_comments_say_nothing_else(path: Path, written: Resolver, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert written.foreign() is None


@pytest.mark.parametrize(
    ("content", "servers", "search"),
    [
        (b"", (), ()),
        (b"nameserver 192.0.2.1\n", ("192.0.2.1",), ()),
        (b"nameserver 198.51.100.1\nnameserver 192.0.2.1\n", ("198.51.100.1", "192.0.2.1"), ()),
        (
            b"search example.org example.net\nnameserver 192.0.2.1\noptions timeout:1\n",
            ("192.0.2.1", "options timeout:1"),
            ("example.org", "example.net"),
        ),
        (b"\xff\xfe\n", ("\ufffd\ufffd",), ()),
        (b"nameserver\n", ("nameserver",), ()),
    ],
)
def test_what_somebody_else_has_written_is_told(
    path: Path, written: Resolver, content: bytes, servers: tuple[str, ...], search: tuple[str, ...]
) -> None:
    path.write_bytes(content)
    assert written.foreign() == Foreign(bridge="xenbr1", servers=servers, search=search)


def test_a_file_that_is_gone_or_no_file_says_nothing(path: Path, written: Resolver) -> None:
    nothing = Foreign(bridge="xenbr1", servers=(), search=())
    path.unlink()
    assert written.foreign() == nothing
    path.mkdir()
    assert written.foreign() == nothing


def test_of_a_long_file_the_beginning_is_read(path: Path, written: Resolver) -> None:
    path.write_bytes(b"nameserver 198.51.100.1\n" * 100_000)
    found = written.foreign()
    assert found is not None
    assert 100 < len(found.servers) < 200


def test_nobody_elses_file_is_foreign(path: Path) -> None:
    assert Resolver(path).foreign() is None


def test_it_shows_at_the_bridge_that_should_have_said_it_or_the_managements(
    path: Path, written: Resolver
) -> None:
    network = HostNetwork(
        bridges=(Bridge(name="xenbr0"), Bridge(name="xenbr1", ip=FIRST)), management_bridge="xenbr0"
    )
    path.write_text(BYSTANDER, encoding="utf-8")
    found = written.foreign()
    assert found is not None
    other = IpConfig(dns_servers=("198.51.100.1",))
    assert found.shown(network).bridge("xenbr1") == Bridge(name="xenbr1", ip=other)
    assert found.shown(network).bridge("xenbr0") == Bridge(name="xenbr0")
    written.use("xenbr1", FIRST, NO_IP)
    found = written.foreign()
    assert found is not None
    assert found.shown(network).bridge("xenbr0") == Bridge(name="xenbr0", ip=other)


def test_who_watches_is_told_of_each_way_to_write(path: Path) -> None:
    async def body() -> None:
        told = asyncio.Event()
        watch = FileWatch(path, told.set)
        ways: tuple[Callable[[], object], ...] = (
            lambda: path.write_text("a", encoding="utf-8"),
            lambda: path.with_name("new").replace(path),
            path.unlink,
            lambda: path.symlink_to("/dev/null"),
        )
        try:
            path.with_name("new").write_text("b", encoding="utf-8")
            await asyncio.sleep(0)
            for way in ways:
                told.clear()
                way()
                async with asyncio.timeout(30):
                    await told.wait()
            told.clear()
            path.with_name("other").touch()
            path.with_name("other").unlink()
            await asyncio.sleep(0.05)
            assert not told.is_set()
        finally:
            watch.close()

    asyncio.run(body())
