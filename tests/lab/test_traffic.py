"""Bytes a second of NICs and VIFs, as `xe` shows them, while somebody pings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from poolnet.lab import console
from tests.lab.running import RunningLab, running_lab
from tests.waiting import eventually

pytestmark = pytest.mark.lab

SIZE, EACH_S = 1000, 0.02  # 50 KB a second each way
KBS = (25.0, 100.0)


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host."""
    with running_lab(hosts=1, nics=1) as one:
        yield one


def test_a_vif_and_its_nic_show_what_goes_through_them(lab: RunningLab) -> None:
    network = lab.xe("host1", "network-list", "bridge=xenbr0", "--minimal")
    vm = lab.start_vm("host1", "talker", network, "10.77.0.2/24")
    vif = lab.xe("host1", "vif-list", f"vm-uuid={vm}", "--minimal")
    pif = lab.xe("host1", "pif-list", "--minimal")
    lab.run("switch", "ip", "address", "add", "10.77.0.1/24", "dev", "switch0")

    def rate(kind: str, uuid: str, name: str) -> float:
        said = lab.xe("host1", f"{kind}-param-get", f"uuid={uuid}", f"param-name={name}")
        return float(said) if said != "<unknown>" else -1.0

    def seen(kind: str, uuid: str) -> bool:
        return all(KBS[0] < rate(kind, uuid, name) < KBS[1] for name in ("io_read_kbs", "io_write_kbs"))

    ping = ("ping", "-q", "-i", str(EACH_S), "-s", str(SIZE), "10.77.0.1")
    with subprocess.Popen((*console.entering_guest(lab.lab, "talker"), *ping), stdout=subprocess.DEVNULL):
        try:
            eventually(lambda: seen("vif", vif), "the VIF shows the pings", 40.0)
            eventually(lambda: seen("pif", pif), "the NIC shows them", 40.0)
        finally:
            lab.guest("talker", "pkill", "-INT", "-x", "ping")
    lab.xe("host1", "vm-shutdown", f"uuid={vm}", "force=true")
    assert rate("vif", vif, "io_read_kbs") == -1.0
    said = lab.run("host1", "xe", "host-data-source-query", "data-source=pif_eth9_rx", check=False)
    assert said == ""
