"""スタンドアロンホストでのネットワークの作成: creating a network on a standalone host."""

from __future__ import annotations

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab


def test_a_new_network_is_internal(console: Console) -> None:
    uuid = console.type("xe network-create name-label=mynetwork")
    assert uuid == console.xe("network-list", "name-label=mynetwork", "--minimal")
    assert console.param("network", uuid, "PIF-uuids") == ""
    with console.vm("one", uuid, "10.1.0.1/24"), console.vm("two", uuid, "10.1.0.2/24"):
        nics = [console.heard_outside(f"eth{number}", "host 10.1.0.1") for number in range(2)]
        with nics[0] as eth0, nics[1] as eth1:
            assert console.lab.pings("one", "10.1.0.2")
            assert not console.lab.pings("one", "10.1.0.99")
        assert (eth0, eth1) == ([], [])
    console.xe("network-destroy", f"uuid={uuid}")
