"""物理NICの削除: a NIC is taken out for good."""

from __future__ import annotations

import pytest

from tests.lab import survival
from tests.manual.console import HOST, Console

pytestmark = pytest.mark.lab


def test_a_nic_that_is_gone_is_forgotten(console: Console) -> None:
    pif, network = console.pif("eth3"), console.network_of("eth3")
    survival.poolnet(console.lab, "nic-remove", HOST, "eth3")
    survival.reboot(console.lab, HOST, hard=False)
    assert console.pif("eth3") == pif
    console.type("xe pif-forget uuid=<UUID>", UUID=pif)
    assert console.pif("eth3") == ""
    assert console.param("network", network, "PIF-uuids") == ""
    assert "xenbr3" not in console.run("ip", "-br", "link")
    survival.poolnet(console.lab, "nic-add", HOST, "eth3")
    console.xe("pif-scan", f"host-uuid={console.host}")
    console.xe("pif-plug", f"uuid={console.pif('eth3')}")
    assert console.network_of("eth3") == network
