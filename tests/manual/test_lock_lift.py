"""VIFのIPアドレス制限の解除: a VIF may use all addresses again."""

from __future__ import annotations

import pytest

from tests.manual.console import TARGET, Console

pytestmark = pytest.mark.lab


def test_a_vif_is_unlocked(console: Console) -> None:
    nic = console.network_of("eth1")
    with console.vm("freed", nic, "10.88.0.51/24") as vif, console.answering_outside():
        console.type("xe vif-param-set uuid=vif-uuid locking-mode=locked", vif_uuid=vif)
        assert not console.lab.pings("freed", TARGET)
        console.type("xe vif-param-set uuid=vif_uuid locking-mode=unlocked", vif_uuid=vif)
        console.talks("freed", TARGET)
        console.guest("freed", "ip", "address", "add", "10.88.0.52/24", "dev", "eth0")
        assert console.is_reached("10.88.0.52")
