"""リソースプールでのネットワーク, NICボンディング, IPアドレス設定, 管理インターフェイス: the procedures about pools.

In the order in which somebody builds a pool and lives with it: each test goes on where the one before has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from poolnet.lab import life
from tests.lab import pools
from tests.lab.running import RunningLab, running_lab
from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2", "host3")


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningLab]:
    """Three hosts with four NICs, each alone at first."""
    with running_lab(hosts=3, nics=4) as one:
        yield one


@pytest.fixture
def master(pool: RunningLab) -> Console:
    """The coordinator's console."""
    return Console(pool)


def address_of(master: Console, host: str) -> str:
    """A host's address, as the pool has it."""
    return master.xe("host-list", f"name-label={host}", "params=address", "--minimal")


def in_pool(pool: RunningLab, count: int) -> bool:
    """Whether so many hosts are there and VMs can start on them."""
    return len(pools.hosts_with(pool, "host1", "enabled=true", "host-metrics-live=true")) == count


def sees_all(pool: RunningLab, host: str) -> bool:
    """Whether a host's console shows all hosts, and that they are heard."""
    return pools.live(pool, host) == set(HOSTS)


def test_bonds_made_before_hosts_join_are_theirs_too(pool: RunningLab, master: Console) -> None:
    uuid = master.xe("pool-list", "--minimal")
    master.type('xe pool-param-set name-label="New Pool" uuid=pool_uuid', pool_uuid=uuid)
    network = master.type("xe network-create name-label=bond0")
    nics = f"{master.pif('eth0')},{master.pif('eth1')}"
    master.xe("bond-create", f"network-uuid={network}", f"pif-uuids={nics}", "mode=active-backup")
    before = {host: pool.lab.host(host).address for host in HOSTS}
    for number, host in enumerate(("host2", "host3"), 2):
        Console(pool, host).type(
            "xe pool-join master-address=host1 master-username=root master-password=password",
            host1=before["host1"],
            password=pool.lab.password,
        )
        eventually(partial(in_pool, pool, number), f"{host} is in the pool")
    assert len(master.type("xe host-list").split("uuid")) == 4
    for host in HOSTS:
        managing = master.xe(
            "pif-list", f"host-name-label={host}", "management=true", "params=device", "--minimal"
        )
        assert managing == "bond0", "the management interface has moved to the bond"
        assert address_of(master, host) == before[host]
        assert " 1 received" in master.switch("ping", "-n", "-c", "1", "-W", "2", before[host])
    assert Console(pool, "host3").xe("pool-list", "params=name-label", "--minimal") == "New Pool"


def test_a_bond_made_afterwards_comes_to_hosts_that_start_again(pool: RunningLab, master: Console) -> None:
    network = master.type("xe network-create name-label=bond1")
    nics = f"{pools.pif(pool, 'host1', 'eth2')},{pools.pif(pool, 'host1', 'eth3')}"
    master.xe("bond-create", f"network-uuid={network}", f"pif-uuids={nics}", "mode=active-backup")
    own = f"{pools.pif(pool, 'host2', 'eth2')},{pools.pif(pool, 'host2', 'eth3')}"
    # On one of the others it is made by hand, the other one is started again.
    master.xe("bond-create", f"network-uuid={network}", f"pif-uuids={own}", "mode=active-backup")
    asyncio.run(life.reboot(pool.name, "host3", hard=False))
    eventually(lambda: in_pool(pool, 3), "host3 is back")
    eventually(
        lambda: len(master.xe("pif-list", f"network-uuid={network}", "--minimal").split(",")) == 3,
        "host3 has the bond",
    )
    for number, host in enumerate(HOSTS, 1):
        pools.with_address(pool, host, f"bonded{number}", network, f"10.50.0.{number}/24")
    eventually(lambda: pool.pings("bonded1", "10.50.0.3"))
    eventually(lambda: pool.pings("bonded2", "10.50.0.3"))


def test_a_vlan_on_all_hosts(pool: RunningLab, master: Console) -> None:
    network = master.type("xe network-create name-label=network5")
    bond = master.xe("pif-list", "host-name-label=host1", "device=bond1", "--minimal")
    made = master.type(
        "xe pool-vlan-create network-uuid=network_uuid pif-uuid=pif_uuid vlan=5",
        network_uuid=network,
        pif_uuid=bond,
    )
    assert len(made.split()) == 3
    for number, host in enumerate(HOSTS, 1):
        pools.with_address(pool, host, f"vlan5-{number}", network, f"10.55.0.{number}/24")
    eventually(lambda: pool.pings("vlan5-1", "10.55.0.2"))
    eventually(lambda: pool.pings("vlan5-2", "10.55.0.3"))


def reconfigure(console: Console, pif: str, address: str) -> None:
    """Types the manual's command for a static address."""
    console.type(
        "xe pif-reconfigure-ip uuid=pif_uuid mode=static IP=IP netmask=netmask gateway=gateway",
        pif_uuid=pif,
        IP=address,
        netmask="255.255.255.0",
        gateway=console.lab.lab.gateway,
    )


def managing_pif(console: Console, host: str) -> str:
    """The PIF of a host's management interface."""
    return console.xe("pif-list", f"host-name-label={host}", "management=true", "--minimal")


def test_the_address_of_a_member_changes(pool: RunningLab, master: Console) -> None:
    console = Console(pool, "host2")
    new = address_of(master, "host2").rpartition(".")[0] + ".122"
    reconfigure(console, managing_pif(master, "host2"), new)
    assert len(console.type("xe host-list").split("uuid")) == 4
    eventually(lambda: pools.live(pool) == set(HOSTS), "it is heard at its new address")
    assert address_of(master, "host2") == new


def test_the_address_of_the_master_changes_and_members_are_in_emergency_mode(
    pool: RunningLab, master: Console
) -> None:
    new = address_of(master, "host1").rpartition(".")[0] + ".111"
    reconfigure(master, managing_pif(master, "host1"), new)
    eventually(lambda: pools.in_emergency(pool, "host2") and pools.in_emergency(pool, "host3"))
    told = master.type("xe pool-recover-slaves")
    for host in ("host2", "host3"):
        assert pools.host_uuid(pool, host) in told
        eventually(partial(sees_all, pool, host))
    assert pool.pings("bonded1", "10.50.0.3"), "guests do not notice"


def test_the_management_of_all_hosts_moves_to_another_network(pool: RunningLab, master: Console) -> None:
    listed = master.type("xe network-list")
    network = master.xe("network-list", "name-label=network5", "--minimal")
    assert network in listed
    master.switch(
        "ovs-vsctl",
        "add-port",
        "switch0",
        "vlan5",
        "tag=5",
        "--",
        "set",
        "Interface",
        "vlan5",
        "type=internal",
    )
    master.switch("ip", "address", "add", "10.56.0.254/24", "dev", "vlan5")
    master.switch("ip", "link", "set", "vlan5", "up")
    for number, host in enumerate(HOSTS, 1):
        pif = master.xe("pif-list", f"network-uuid={network}", f"host-name-label={host}", "--minimal")
        master.type("xe pif-param-list uuid=pif_uuid", pif_uuid=pif)
        master.xe(
            "pif-reconfigure-ip",
            f"uuid={pif}",
            "mode=static",
            f"IP=10.56.0.{number}",
            "netmask=255.255.255.0",
        )
    master.type("xe pool-management-reconfigure network-uuid=network_uuid", network_uuid=network)
    for number, host in enumerate(HOSTS, 1):
        eventually(partial(sees_all, pool, host))
        assert address_of(master, host) == f"10.56.0.{number}"
