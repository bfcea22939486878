"""仮想マシンが特定のネットワークでトラフィックを送信したり受信したりできなくする: a VM neither sends nor hears on one network."""

from __future__ import annotations

import pytest

from tests.lab.survival import sniffing
from tests.manual.console import TARGET, Console

pytestmark = pytest.mark.lab


def test_a_disabled_vif_is_silent_on_its_network_alone(console: Console) -> None:
    network, other = console.network_of("eth1"), console.xe("network-create", "name-label=other")
    with (
        console.vm("two nics", network, "10.88.0.41/24") as vif,
        console.vm("neighbour", other, "10.87.0.2/24"),
        console.answering_outside(),
    ):
        vm = console.param("vif", vif, "vm-uuid")
        words = (f"vm-uuid={vm}", f"network-uuid={other}", "device=1")
        console.xe("vif-plug", f"uuid={console.xe('vif-create', *words)}")
        console.guest("two nics", "ip", "address", "add", "10.87.0.1/24", "dev", "eth1")
        console.talks("two nics", TARGET)
        assert vif in console.type("xe vif-list")
        console.type("xe vif-param-set uuid=vif-uuid locking-mode=disabled", vif_uuid=vif)
        with (
            sniffing(console.in_guest("two nics"), "eth0", "inbound") as heard,
            console.heard_outside("eth1", "src host 10.88.0.41 or arp src host 10.88.0.41") as said,
        ):
            assert not console.lab.pings("two nics", TARGET)
            assert not console.is_reached("10.88.0.41")
        assert (heard, said) == ([], [])
        assert console.param("vif", vif, "currently-attached") == "true"
        console.talks("two nics", "10.87.0.2")
    console.xe("network-destroy", f"uuid={other}")
