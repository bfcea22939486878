"""VLANの作成: creating a VLAN."""

from __future__ import annotations

import pytest

from tests.manual.console import TARGET, Console

pytestmark = pytest.mark.lab


def test_a_vlan_carries_the_vms_of_its_network(console: Console) -> None:
    network = console.type("xe network-create name-label=network5")
    listed = console.type("xe pif-list")
    nic = console.pif("eth1")
    assert f"uuid ( RO)                  : {nic}\n                device ( RO): eth1\n" in listed
    made = console.type(
        "xe vlan-create network-uuid=network_uuid pif-uuid=pif_uuid vlan=5",
        network_uuid=network,
        pif_uuid=nic,
    )
    assert made == console.pif("eth1", vlan=5)
    assert console.param("pif", made, "network-uuid") == network
    assert console.param("pif", made, "currently-attached") == "true"
    assert made in console.type("xe pif-list")
    with console.vm("vlan5", network, "10.88.0.5/24"), console.answering_outside(tag=5):
        with console.heard_outside("eth1", "vlan 5 and icmp") as frames:
            console.talks("vlan5", TARGET)
        assert any("10.88.0.5 > 10.88.0.1" in frame for frame in frames)
        assert any("10.88.0.1 > 10.88.0.5" in frame for frame in frames)
    with console.vm("vlan5", network, "10.88.0.5/24"), console.answering_outside(tag=6):
        assert not console.lab.pings("vlan5", TARGET)
    console.xe("vlan-destroy", f"uuid={made}")
    console.xe("network-destroy", f"uuid={network}")
