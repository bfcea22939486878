"""管理アクセスの無効化: no remote management at all; the console goes on."""

from __future__ import annotations

import pytest

from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab


def served(console: Console, address: str, door: str) -> bool:
    """Whether a machine outside gets an answer of the API."""
    words = ("curl", "-k", "-s", "-o", "/dev/null", "--max-time", "3", "-w", "%{http_code}")
    return console.switch(*words, f"{door}://{address}/", check=False).strip("0\n") != ""


def test_remote_management_ends_and_the_console_brings_it_back(console: Console) -> None:
    pif = console.pif("eth0")
    address = console.param("pif", pif, "IP")
    assert served(console, address, "https")
    assert served(console, address, "http")
    console.type("xe host-management-disable")
    eventually(lambda: not served(console, address, "https"), "HTTPS is closed to the network")
    assert not served(console, address, "http")
    assert console.xe("pif-list", "management=true", "--minimal") == ""
    assert console.param("host", console.host, "address") == "", "the console still works"
    console.type("xe host-management-reconfigure pif-uuid=pif_uuid", pif_uuid=pif)
    eventually(lambda: served(console, address, "https"), "HTTPS is open again")
    assert served(console, address, "http")
    assert console.param("host", console.host, "address") == address
