"""リソースプールでのネットワーク, NICボンディング, IPアドレス設定, 管理インターフェイス: the procedures about pools.

Four hosts, the last with two NICs where the others have four, as in the manual's example of different hosts. In the order in
which somebody builds a pool and lives with it: each test goes on where the one before has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest

from poolnet.lab import life
from tests.lab import pools
from tests.lab.running import RunningLab, running_lab
from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2", "host3", "host4")
FULL = HOSTS[:3]
FEWER = "host4"


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningLab]:
    """The hosts, each alone at first."""
    with running_lab(hosts=4, nics=(4, 4, 4, 2)) as one:
        yield one


@pytest.fixture
def master(pool: RunningLab) -> Console:
    """The coordinator's console."""
    return Console(pool)


@pytest.fixture(scope="module")
def leases(pool: RunningLab) -> Iterator[str]:
    """A DHCP server in the management network, from its first use on; what all its addresses begin with."""
    console = Console(pool)
    subnet = pool.lab.gateway.rpartition(".")[0]
    with (
        console.answering_outside(address=f"{subnet}.253/24"),
        console.leasing_outside(f"{subnet}.150", f"{subnet}.159"),
    ):
        yield f"{subnet}.15"


def address_of(master: Console, host: str) -> str:
    """A host's address, as the pool has it."""
    return master.xe("host-list", f"name-label={host}", "params=address", "--minimal")


def in_pool(pool: RunningLab, count: int) -> bool:
    """Whether so many hosts are there and VMs can start on them."""
    return len(pools.hosts_with(pool, "host1", "enabled=true", "host-metrics-live=true")) == count


def sees_all(pool: RunningLab, host: str) -> bool:
    """Whether a host's console shows all hosts, and that they are heard."""
    return pools.live(pool, host) == set(HOSTS)


def nic_network(master: Console, device: str) -> str:
    """The pool's network of the NICs of that name."""
    return master.param("pif", pools.pif(master.lab, "host1", device), "network-uuid")


def hosts_on(master: Console, network: str) -> set[str]:
    """The hosts that have a PIF on a network; behind one whose PIF is not plugged stands so."""
    words = ("pif-list", f"network-uuid={network}", "params=host-name-label", "--minimal")
    plugged, unplugged = (
        set(filter(None, master.xe(*words, f"currently-attached={attached}").split(",")))
        for attached in ("true", "false")
    )
    return plugged | {f"{host} unplugged" for host in unplugged}


def guests_on(pool: RunningLab, network: str, name: str, hosts: tuple[str, ...], prefix: str) -> None:
    """Starts a VM on each host with an address on a network, and waits until each hears the next."""
    for host in hosts:
        pools.with_address(pool, host, f"{name}-{host[4:]}", network, f"{prefix}.{host[4:]}/24")
    all_talk(pool, name, hosts, prefix)


def all_talk(pool: RunningLab, name: str, hosts: tuple[str, ...], prefix: str) -> None:
    """Waits until each of these VMs hears the next one, on another host."""
    for one, next_one in pairwise((*hosts, hosts[0])):
        eventually(
            partial(pool.pings, f"{name}-{one[4:]}", f"{prefix}.{next_one[4:]}"),
            f"the guest on {next_one} answers the one on {one}",
        )


def test_bonds_made_before_hosts_join_are_theirs_too(pool: RunningLab, master: Console) -> None:
    uuid = master.xe("pool-list", "--minimal")
    master.type('xe pool-param-set name-label="New Pool" uuid=pool_uuid', pool_uuid=uuid)
    network = master.type("xe network-create name-label=bond0")
    nics = f"{master.pif('eth0')},{master.pif('eth1')}"
    master.xe("bond-create", f"network-uuid={network}", f"pif-uuids={nics}", "mode=active-backup")
    before = {host: pool.lab.host(host).address for host in HOSTS}
    for number, host in enumerate(HOSTS[1:], 2):
        Console(pool, host).type(
            "xe pool-join master-address=host1 master-username=root master-password=password",
            host1=before["host1"],
            password=pool.lab.password,
        )
        eventually(partial(in_pool, pool, number), f"{host} is in the pool")
    assert len(master.type("xe host-list").split("uuid")) == 5
    for host in HOSTS:
        managing = master.xe(
            "pif-list", f"host-name-label={host}", "management=true", "params=device", "--minimal"
        )
        assert managing == "bond0", "the management interface has moved to the bond"
        assert address_of(master, host) == before[host]
        assert master.is_reached(before[host])
        assert Console(pool, host).reaches(before[FEWER if host != FEWER else "host1"])
    assert Console(pool, FEWER).xe("pool-list", "params=name-label", "--minimal") == "New Pool"
    guests_on(pool, network, "first", HOSTS, "10.49.0")


def test_a_vm_cannot_move_to_a_host_without_the_nics_of_its_networks(
    pool: RunningLab, master: Console
) -> None:
    """The manual's example: a VM with VIFs on the networks of `eth2` and `eth3`, and a host that has `eth0` and `eth1`."""
    for device in ("eth2", "eth3"):
        assert hosts_on(master, nic_network(master, device)) == set(FULL)
    vm = master.xe("vm-create", "name-label=two-vifs")
    for number, device in enumerate(("eth2", "eth3")):
        network = nic_network(master, device)
        master.xe("vif-create", f"vm-uuid={vm}", f"network-uuid={network}", f"device={number}")
        pools.with_address(pool, "host3", f"beside-{device}", network, f"10.6{number}.0.9/24")
    master.xe("vm-start", f"uuid={vm}", "on=host1")
    for number in range(2):
        pool.guest("two-vifs", "ip", "address", "add", f"10.6{number}.0.1/24", "dev", f"eth{number}")
    said = master.refused("xe vm-migrate uuid=vm host=host live=true", vm=vm, host=FEWER)
    assert nic_network(master, "eth2") in said
    matrix = master.xe("vm-explain-placement", f"uuid={vm}").splitlines()
    assert matrix[1].split() == ["two-vifs", "yes", "yes", "yes", "no"]
    assert master.xe("vm-list", f"uuid={vm}", "params=resident-on", "--minimal") == pools.host_uuid(
        pool, "host1"
    )
    master.xe("vm-migrate", f"uuid={vm}", "host=host2", "live=true")
    for number in range(2):
        eventually(partial(pool.pings, "two-vifs", f"10.6{number}.0.9"), "the VM talks on the other host")
    for name in ("two-vifs", "beside-eth2", "beside-eth3"):
        master.xe("vm-uninstall", f"vm={name}", "--force")


def test_a_bond_made_afterwards_comes_to_hosts_that_start_again(pool: RunningLab, master: Console) -> None:
    network = master.type("xe network-create name-label=bond1")
    # On one of the others it is made by hand, the other two are started again, of which one has no such NIC.
    for host in ("host1", "host2"):
        nics = f"{pools.pif(pool, host, 'eth2')},{pools.pif(pool, host, 'eth3')}"
        master.xe("bond-create", f"network-uuid={network}", f"pif-uuids={nics}", "mode=active-backup")
    for host in ("host3", FEWER):
        master.xe("vm-uninstall", f"vm=first-{host[4:]}", "--force")
        asyncio.run(life.reboot(pool.name, host, hard=False))
    eventually(lambda: in_pool(pool, 4), "the two are back")
    eventually(lambda: hosts_on(master, network) == set(FULL), "host3 has the bond")
    devices = master.xe("pif-list", f"host-name-label={FEWER}", "params=device", "--minimal")
    assert set(devices.split(",")) == {"eth0", "eth1", "bond0"}
    assert master.xe("host-list", f"name-label={FEWER}", "params=missing", "--minimal") == ""
    guests_on(pool, network, "bonded", FULL, "10.50.0")


def test_a_vlan_on_the_hosts_that_have_the_nic(pool: RunningLab, master: Console) -> None:
    for name, tag, device, hosts in (("network5", "5", "bond1", FULL), ("network6", "6", "bond0", HOSTS)):
        network = master.type(f"xe network-create name-label={name}")
        made = master.type(
            f"xe pool-vlan-create network-uuid=network_uuid pif-uuid=pif_uuid vlan={tag}",
            network_uuid=network,
            pif_uuid=pools.pif(pool, "host1", device),
        )
        assert len(made.split()) == len(hosts)
        assert hosts_on(master, network) == set(hosts)
        guests_on(pool, network, f"vlan{tag}", hosts, f"10.5{tag}.0")
    absent = master.xe("network-list", "name-label=network5", "--minimal")
    vm = master.xe("vm-create", "name-label=nowhere")
    master.xe("vif-create", f"vm-uuid={vm}", f"network-uuid={absent}", "device=0")
    assert "network" in master.refused("xe vm-start uuid=vm on=host", vm=vm, host=FEWER)
    assert master.xe("vm-list", f"uuid={vm}", "params=power-state", "--minimal") == "halted"
    master.xe("vm-uninstall", f"uuid={vm}", "--force")


def managing_pif(console: Console, host: str) -> str:
    """The PIF of a host's management interface."""
    return console.xe("pif-list", f"host-name-label={host}", "management=true", "--minimal")


def test_the_address_of_a_member_changes(pool: RunningLab, master: Console, leases: str) -> None:
    for host in ("host2", FEWER):
        console = Console(pool, host)
        console.type("xe pif-reconfigure-ip uuid=pif_uuid mode=DHCP", pif_uuid=managing_pif(master, host))
        eventually(partial(sees_all, pool, host), "it is heard at its new address")
        assert len(console.type("xe host-list").split("uuid")) == 5
        new = address_of(master, host)
        assert new.startswith(leases)
        assert master.reaches(new)
        assert Console(pool, "host3").reaches(new)


def test_the_address_of_the_master_changes_and_members_are_in_emergency_mode(
    pool: RunningLab, master: Console, leases: str
) -> None:
    master.type("xe pif-reconfigure-ip uuid=pif_uuid mode=DHCP", pif_uuid=managing_pif(master, "host1"))
    for host in HOSTS[1:]:
        eventually(partial(pools.in_emergency, pool, host))
    told = master.type("xe pool-recover-slaves")
    for host in HOSTS[1:]:
        assert pools.host_uuid(pool, host) in told
        eventually(partial(sees_all, pool, host))
    new = address_of(master, "host1")
    assert new.startswith(leases)
    assert Console(pool, FEWER).reaches(new)
    all_talk(pool, "vlan6", HOSTS, "10.56.0")


def test_the_management_of_all_hosts_moves_to_another_network(pool: RunningLab, master: Console) -> None:
    listed = master.type("xe network-list")
    of_full, of_all = (
        master.xe("network-list", f"name-label={name}", "--minimal") for name in ("network5", "network6")
    )
    assert of_full in listed
    before = {host: (managing_pif(master, host), address_of(master, host)) for host in HOSTS}
    with master.answering_outside(6, "10.57.0.254/24"):
        for network, hosts in ((of_full, FULL), (of_all, HOSTS)):
            for host in hosts:
                pif = master.xe("pif-list", f"network-uuid={network}", f"host-name-label={host}", "--minimal")
                master.type("xe pif-param-list uuid=pif_uuid", pif_uuid=pif)
                address = f"10.5{'8' if network == of_full else '7'}.0.{host[4:]}"
                master.xe(
                    "pif-reconfigure-ip",
                    f"uuid={pif}",
                    "mode=static",
                    f"IP={address}",
                    "netmask=255.255.255.0",
                )
        command = "xe pool-management-reconfigure network-uuid=network_uuid"
        said = master.refused(command, network_uuid=of_full)
        assert pools.host_uuid(pool, FEWER) in said, "it has no PIF there"
        assert before == {host: (managing_pif(master, host), address_of(master, host)) for host in HOSTS}
        assert sees_all(pool, "host1")
        master.type(command, network_uuid=of_all)
        for host in HOSTS:
            eventually(partial(sees_all, pool, host))
            assert address_of(master, host) == f"10.57.0.{host[4:]}"
            assert master.is_reached(f"10.57.0.{host[4:]}")
        assert Console(pool, FEWER).reaches("10.57.0.1")
    all_talk(pool, "vlan6", HOSTS, "10.56.0")
