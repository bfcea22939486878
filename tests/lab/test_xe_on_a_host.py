"""What scripts do with `xe` on a host, on the real switch: the manual's procedures, dry runs, and many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab.running import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

DUMP = """
for class in network pif vlan vif vm pool; do
    for uuid in $(xe $class-list --minimal | tr , ' '); do
        xe $class-param-list uuid=$uuid | grep -v 'io_\\|last-updated\\|VCPUs-utilisation\\|memory-'
    done
done
ovs-vsctl show
hostname
ip -oneline addr | sed 's/valid_lft.*//'
"""


def pif(lab: RunningLab, nic: str) -> str:
    return lab.xe("host1", "pif-list", f"device={nic}", "VLAN=-1", "--minimal")


def network(lab: RunningLab, name: str) -> str:
    return lab.xe("host1", "network-create", f"name-label={name}")


def address(lab: RunningLab, bridge: str) -> str:
    return lab.run("host1", "ip", "-4", "-oneline", "addr", "show", "dev", bridge)


def test_vlans_leave_the_addresses_of_their_nics_alone(lab: RunningLab) -> None:
    before = address(lab, "xenbr0")
    nic = pif(lab, "eth1")
    static = ("mode=static", "IP=10.77.0.1", "netmask=255.255.255.0")
    lab.xe("host1", "pif-reconfigure-ip", f"uuid={nic}", *static)
    assert "inet 10.77.0.1/24" in address(lab, "xenbr1")
    made = []
    for tag in range(301, 307):  # a VLAN's PIF has a lower uuid than its NIC's, or a higher one
        for on in (nic, pif(lab, "eth0")):
            words = (f"network-uuid={network(lab, 'vlan')}", f"pif-uuid={on}", f"vlan={tag}")
            made.append(lab.xe("host1", "vlan-create", *words))
    assert address(lab, "xenbr0") == before
    assert "inet 10.77.0.1/24" in address(lab, "xenbr1")
    for uuid in made:
        lab.xe("host1", "vlan-destroy", f"uuid={uuid}")
    lab.xe("host1", "pif-reconfigure-ip", f"uuid={nic}", "mode=none")
    assert "inet" not in address(lab, "xenbr1")


def test_dry_runs_change_nothing(lab: RunningLab) -> None:
    host = lab.xe("host1", "host-list", "--minimal")
    nic, blue, vm = pif(lab, "eth1"), network(lab, "blue"), lab.xe("host1", "vm-create", "name-label=dry")
    vif = lab.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={blue}", "device=0")
    before = lab.run("host1", "bash", "-c", DUMP)
    for words, expected in (
        (("vlan-create", f"pif-uuid={nic}", f"network-uuid={blue}", "vlan=9"), "on xenbr1, VLAN 9"),
        (("pif-unplug", f"uuid={nic}"), "destroy bridge xenbr1 on eth1"),
        (("vm-start", f"uuid={vm}"), "run guest"),
        (("vif-param-set", f"uuid={vif}", "locking-mode=locked"), "nothing to do"),
        (("vm-uninstall", f"uuid={vm}"), "nothing to do"),
        (("host-set-hostname-live", f"host-uuid={host}", "host-name=other"), "set the host's name to other"),
    ):
        assert expected in lab.xe("host1", *words, "--dry-run")
    assert lab.run("host1", "bash", "-c", DUMP) == before


def test_of_many_that_want_the_same_vlan_one_gets_it(lab: RunningLab) -> None:
    nic = pif(lab, "eth1")
    networks = [network(lab, f"same{i}") for i in range(8)]

    def create(uuid: str) -> str:
        words = (f"pif-uuid={nic}", f"network-uuid={uuid}", "vlan=400")
        return lab.run("host1", "xe", "vlan-create", *words, check=False).strip()

    with ThreadPoolExecutor(8) as pool:
        made = [uuid for uuid in pool.map(create, networks) if uuid]
    assert lab.xe("host1", "pif-list", "VLAN=400", "--minimal") == ",".join(made)
    assert len(made) == 1
    lab.xe("host1", "vlan-destroy", f"uuid={made[0]}")


def test_a_vm_starts_on_a_network_with_an_mtu_that_no_device_takes(lab: RunningLab) -> None:
    big = lab.xe("host1", "network-create", "name-label=big", "MTU=99999999")
    vm = lab.xe("host1", "vm-create", "name-label=big")
    lab.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={big}", "device=0")
    lab.xe("host1", "vm-start", f"uuid={vm}")
    assert lab.xe("host1", "vif-list", f"vm-uuid={vm}", "params=MTU", "--minimal") == "65521"
    lab.xe("host1", "vm-uninstall", f"uuid={vm}", "force=true")
