"""A plan says whom it interrupts; and whom it does not name loses not one packet."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab import survival
from tests.lab.running import RunningLab, running_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"
PINGS = 400
OUTSIDE = "10.5.0.254"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Two VMs on the network of eth1, and somebody outside."""
    with running_lab(hosts=1) as one:
        one.run("switch", "ip", "address", "add", f"{OUTSIDE}/24", "dev", "switch0")
        network = one.xe(HOST, "pif-list", "device=eth1", "params=network-uuid", "--minimal")
        for name, address in (("web", "10.5.0.1"), ("db", "10.5.0.2")):
            one.start_vm(HOST, name, network, f"{address}/24")
        yield one


def eth1(lab: RunningLab) -> str:
    """The uuid of its PIF."""
    return lab.xe(HOST, "pif-list", "device=eth1", "VLAN=-1", "params=uuid", "--minimal")


@pytest.mark.parametrize("address", ["10.5.0.2", OUTSIDE])
def test_adding_and_removing_vlans_touches_no_running_vm(lab: RunningLab, address: str) -> None:
    assert lab.pings("web", address)
    train = ("ping", "-n", "-q", "-i", "0.01", "-c", str(PINGS), "-W", "2", address)
    with survival.running((*survival.in_guest(lab, "web"), *train)) as pinging:
        for tag in (101, 102):
            network = lab.xe(HOST, "network-create", f"name-label=n{tag}")
            words = (f"pif-uuid={eth1(lab)}", f"network-uuid={network}", f"vlan={tag}")
            plan = lab.xe(HOST, "vlan-create", *words, "--dry-run")
            assert plan.endswith("disturbs: none")
            assert "interrupts" not in plan
            lab.xe(HOST, "vlan-create", *words)
            lab.xe(HOST, "vlan-destroy", f"uuid={lab.xe(HOST, 'vlan-list', '--minimal')}")
            lab.xe(HOST, "network-destroy", f"uuid={network}")
        assert pinging.stdout is not None
        said = pinging.stdout.read()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found, said
    assert (int(found[1]), int(found[2])) == (PINGS, PINGS)


def test_a_plan_names_the_vms_that_it_interrupts_and_for_how_long(lab: RunningLab) -> None:
    network = lab.xe(HOST, "network-create", "name-label=bond")
    pifs = lab.xe(HOST, "pif-list", "VLAN=-1", "params=uuid", "--minimal")
    words = (f"network-uuid={network}", f"pif-uuids={pifs}", "mode=active-backup", "--dry-run")
    plan = lab.xe(HOST, "bond-create", *words)
    assert re.search(r"interrupts management on xapi\d+.* for about 500 ms", plan), plan
    assert re.search(r"vif\d+\.0 of VM 'web'", plan), plan
    assert re.search(r"new connections to the host come by xapi\d+, no more by xenbr0", plan), plan
    assert plan.endswith("disturbs: management")
