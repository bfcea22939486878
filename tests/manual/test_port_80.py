"""ポート80の使用の制限: closing port 80, so that API clients from elsewhere have to use HTTPS."""

from __future__ import annotations

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab

HTTP, HTTPS = 80, 443


def connects(console: Console, address: str, port: int) -> bool:
    """Whether another machine on the management network gets a connection; a closed port is silent."""
    knock = f"timeout 1 bash -c '</dev/tcp/{address}/{port}' && echo in; true"
    return "in" in console.switch("sh", "-c", knock)


def test_port_80_is_closed_to_other_machines_and_opened_again(console: Console) -> None:
    address = console.param("pif", console.pif("eth0"), "IP")
    pool = console.xe("pool-list", "--minimal")
    assert connects(console, address, HTTP), "by default it is open"
    console.xe("pool-param-set", f"uuid={pool}", "https-only=true")
    assert console.param("pool", pool, "https-only") == "true"
    assert not connects(console, address, HTTP)
    assert connects(console, address, HTTPS)
    local = console.run("bash", "-c", f"</dev/tcp/{address}/{HTTP} && </dev/tcp/127.0.0.1/{HTTP} && echo in")
    assert "in" in local, "the host itself is not shut out"
    console.xe("host-param-set", f"uuid={console.host}", "https-only=false")
    assert console.param("host", console.host, "https-only") == "false"
    assert connects(console, address, HTTP)
