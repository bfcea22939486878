"""物理NICの新規追加: a new NIC is put in."""

from __future__ import annotations

import pytest

from tests.lab import survival
from tests.manual.console import HOST, TARGET, Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab

LIST = "xe pif-list host-uuid=<host_uuid>"


def test_a_new_nic_is_found_plugged_and_used(console: Console) -> None:
    survival.poolnet(console.lab, "nic-add", HOST, "eth4")
    survival.reboot(console.lab, HOST, hard=False)
    host = console.host
    assert "eth4" not in console.type(LIST, host_uuid=host)
    console.type("xe pif-scan host-uuid=<host_uuid>", host_uuid=host)
    assert "device ( RO): eth4" in console.type(LIST, host_uuid=host)
    pif = console.pif("eth4")
    assert "currently-attached ( RO): false" in console.type(f"xe pif-param-list uuid={pif}")
    console.type("xe pif-plug uuid=<uuid_of_pif>", uuid_of_pif=pif)
    assert console.param("pif", pif, "currently-attached") == "true"
    network = console.network_of("eth4")
    with console.vm("new nic", network, "10.88.0.4/24"), console.answering_outside():
        with console.heard_outside("eth4", "icmp") as frames:
            console.talks("new nic", TARGET)
        assert frames
    survival.poolnet(console.lab, "nic-remove", HOST, "eth4")
    console.xe("pif-forget", f"uuid={pif}")
    eventually(lambda: console.pif("eth4") == "", "the PIF is forgotten")
    console.xe("network-destroy", f"uuid={network}")
