"""A pool of three hosts: joined, changed as one, asked on any console, and put together again after everything that breaks it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial

import pytest

from poolnet.lab import life
from tests.lab.pools import answer, bridges, host_uuid, hosts_with, in_emergency, live, pif, with_address, xe
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2", "host3")


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningLab]:
    """Three hosts with three NICs each, in one pool; all tests of the module share it, in their order."""
    with running_lab(hosts=3, nics=3, pool=True, silence_s=4.5 * PATIENCE) as one:
        yield one


def rpc(lab: RunningLab, host: str, method: str, *params: str) -> tuple[str, ...]:
    """The error that a call over a host's HTTPS door gets; empty when it succeeds."""
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
    url = f"https://127.0.0.1:{lab.lab.host(host).https_port}/jsonrpc"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(
        request, timeout=20 * PATIENCE, context=ssl._create_unverified_context()
    ) as answered:
        said = json.load(answered)
    failure = said.get("error")
    return (failure["message"], *failure["data"]) if failure else ()


def test_every_console_shows_the_whole_pool(pool: RunningLab) -> None:
    for host in HOSTS:
        assert live(pool, host) == set(HOSTS)
        assert hosts_with(pool, host, "enabled=true") == set(HOSTS)
    masters = {pool.xe(host, "pool-list", "params=master", "--minimal") for host in HOSTS}
    assert masters == {host_uuid(pool, "host1")}


def test_nics_are_on_the_network_at_their_position_and_addresses_stayed(pool: RunningLab) -> None:
    for device in ("eth0", "eth1", "eth2"):
        networks = {
            pool.xe("host1", "pif-param-get", f"uuid={pif(pool, host, device)}", "param-name=network-uuid")
            for host in HOSTS
        }
        assert len(networks) == 1
        attached = {
            pool.xe(
                "host1", "pif-param-get", f"uuid={pif(pool, host, device)}", "param-name=currently-attached"
            )
            for host in HOSTS
        }
        assert attached == {"true"}
    for host in pool.lab.hosts:
        assert pool.xe("host1", "host-list", f"name-label={host.name}", "params=address", "--minimal") == (
            host.address
        )


def test_clients_of_a_member_are_told_where_the_coordinator_is(pool: RunningLab) -> None:
    coordinator = pool.lab.host("host1").address
    slave = ("HOST_IS_SLAVE", coordinator)
    assert rpc(pool, "host2", "session.login_with_password", "root", "wrong") == slave
    assert rpc(pool, "host2", "VM.get_all", "OpaqueRef:nobody") == ("SESSION_INVALID", "OpaqueRef:nobody")
    assert rpc(pool, "host1", "session.login_with_password", "root", pool.lab.password) == ()


def test_a_vlan_on_all_hosts_carries_packets_between_them(pool: RunningLab) -> None:
    network = pool.xe("host3", "network-create", "name-label=blue")
    made = pool.xe(
        "host2",
        "pool-vlan-create",
        f"network-uuid={network}",
        f"pif-uuid={pif(pool, 'host1', 'eth1')}",
        "vlan=20",
    )
    assert len(made.split()) == 3
    for number, host in enumerate(HOSTS, 1):
        with_address(pool, host, f"blue{number}", network, f"10.20.0.{number}/24")
    eventually(lambda: pool.pings("blue1", "10.20.0.2"))
    eventually(lambda: pool.pings("blue2", "10.20.0.3"))


def test_a_vm_starts_where_its_networks_are(pool: RunningLab) -> None:
    """A running VM pins an internal network to its host, and a network of one host's NIC is that host's."""
    inner = pool.xe("host1", "network-create", "name-label=inner")
    with_address(pool, "host2", "pinned", inner, "10.30.0.1/24")
    vm = pool.xe("host1", "vm-create", "name-label=follows")
    pool.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={inner}", "device=0")
    code, text = xe(pool, "host1", "vm-start", f"uuid={vm}", "on=host3")
    assert code == 1
    assert "network" in text.lower()
    pool.xe("host3", "vm-start", f"uuid={vm}")
    assert pool.xe("host1", "vm-list", f"uuid={vm}", "params=resident-on", "--minimal") == (
        host_uuid(pool, "host2")
    )
    for name in ("pinned", "follows"):
        pool.xe("host1", "vm-uninstall", f"vm={name}", "--force")


def test_no_secret_is_in_logs_or_process_lists(pool: RunningLab) -> None:
    directory = pool.lab.directory
    secrets = {(directory / host / "var-lib/poolnet/api/pool/secret").read_text() for host in HOSTS}
    assert len(secrets) == 1, "it is the pool's"
    (secret,) = secrets
    for host in HOSTS:
        for log in (directory / host / "var-log").glob("*.log"):
            text = log.read_text(encoding="utf-8", errors="replace")
            assert secret not in text
            assert pool.lab.password not in text
    listed = subprocess.run(("ps", "-eo", "args", "-ww"), check=True, capture_output=True, text=True).stdout
    assert secret not in listed


def test_strangers_at_the_door_are_sent_away_and_hurt_nobody(pool: RunningLab) -> None:
    address = pool.lab.host("host1").address
    script = (
        "import socket, ssl\n"
        "context = ssl._create_unverified_context()\n"
        f"for index in range(300):\n"
        f"    try:\n"
        f"        one = socket.create_connection(({address!r}, 9443), 5)\n"
        f"        if index % 3 == 0:\n"
        f"            one = context.wrap_socket(one)\n"
        f"        one.sendall(b'\\x7f\\xff\\xff\\xff' + b'x' * 1000)\n"
        f"        one.settimeout(0.2)\n"
        f"        while index % 3 == 0 and one.recv(100): pass\n"
        f"        one.close()\n"
        f"    except OSError:\n"
        f"        pass\n"
    )
    pool.run("host2", "python3", "-c", script)
    assert live(pool) == set(HOSTS)
    pool.xe("host3", "pool-sync-database")


def test_a_host_that_is_off_is_left_out_only_if_that_is_wanted_and_gets_it_later(pool: RunningLab) -> None:
    network = pool.xe("host1", "network-create", "name-label=late")
    words = (
        "pool-vlan-create",
        f"network-uuid={network}",
        f"pif-uuid={pif(pool, 'host1', 'eth1')}",
        "vlan=30",
    )
    cut_off(pool, "host3")
    code, text = xe(pool, "host1", *words)
    assert (code, "contact" in text.lower() or "cannot" in text.lower()) == (1, True), text
    eventually(lambda: live(pool) == {"host1", "host2"}, "host3 is taken to be down")
    code, text = xe(pool, "host1", *words)
    assert code == 1
    assert pool.xe("host1", "vlan-list", "tag=30", "--minimal") == ""
    assert len(pool.xe("host1", *words, "allow-missing-hosts=true").split()) == 2
    bridge = pool.xe("host1", "network-param-get", f"uuid={network}", "param-name=bridge")
    assert bridge in bridges(pool, "host2")
    missing = "VLAN 30 on eth1 for network 'late'"
    assert missing in pool.xe("host2", "host-list", "name-label=host3")
    assert (
        pool.xe("host1", "host-list", "missing:contains=" + missing, "params=name-label", "--minimal")
        == "host3"
    )
    plan = pool.xe("host1", "network-create", "name-label=never", "--dry-run").splitlines()
    assert f"  is down; gets when it comes back: {missing}" in plan
    mend(pool, "host3")
    eventually(lambda: live(pool) == set(HOSTS), "host3 comes back")
    eventually(lambda: len(pool.xe("host1", "vlan-list", "tag=30", "--minimal").split(",")) == 3)
    with_address(pool, "host3", "late3", network, "10.31.0.3/24")
    with_address(pool, "host1", "late1", network, "10.31.0.1/24")
    eventually(lambda: pool.pings("late1", "10.31.0.3"))


def cut_off(pool: RunningLab, host: str) -> None:
    """Cuts a host off the management network."""
    asyncio.run(life.partition(pool.name, host))


def mend(pool: RunningLab, host: str) -> None:
    """Undoes `cut_off`."""
    asyncio.run(life.heal(pool.name, host))


def test_the_members_address_changes_and_its_console_hears_of_it(pool: RunningLab) -> None:
    lab = pool.lab
    new = lab.host("host2").address.rpartition(".")[0] + ".22"
    pool.xe(
        "host2",
        "pif-reconfigure-ip",
        f"uuid={pif(pool, 'host2', 'eth0')}",
        "mode=static",
        f"IP={new}",
        "netmask=255.255.255.0",
        f"gateway={lab.gateway}",
        "confirm-within=20",
    )
    eventually(lambda: answer(pool, "host2", "host-list", f"address={new}", "--minimal") != "")
    eventually(lambda: live(pool, "host2") == set(HOSTS))


def test_a_member_whose_new_address_leads_nowhere_goes_back(pool: RunningLab) -> None:
    before = pool.xe("host1", "host-list", "name-label=host3", "params=address", "--minimal")
    code, _ = xe(
        pool,
        "host1",
        "pif-reconfigure-ip",
        f"uuid={pif(pool, 'host3', 'eth0')}",
        "mode=static",
        "IP=10.99.99.3",
        "netmask=255.255.255.0",
        "gateway=10.99.99.254",
        "confirm-within=3",
    )
    assert code == 1
    assert pool.xe("host1", "host-list", "name-label=host3", "params=address", "--minimal") == before
    eventually(lambda: live(pool) == live(pool, "host3") == set(HOSTS), "its console has the pool again")
    assert before in pool.run("host3", "ip", "-4", "address", "show", "xenbr0")


def signal_server(pool: RunningLab, host: str, signal: str) -> None:
    """Sends a signal to a host's API server."""
    pid = pool.run(host, "pgrep", "-o", "-f", "(bin/|^)poolnet-api").strip()
    pool.run(host, "kill", f"-{signal}", pid)


def is_master(pool: RunningLab, ask: str, uuid: str) -> bool:
    """Whether a host's console says that this one is the coordinator."""
    return answer(pool, ask, "pool-list", "params=master", "--minimal") == uuid


def kept(pool: RunningLab, host: str, name: str) -> str:
    """What a host keeps of the pool in a file of that name; "" for nothing."""
    path = pool.lab.directory / host / "var-lib/poolnet/api/pool" / name
    return path.read_text() if path.exists() else ""


def certifies_all(pool: RunningLab, coordinator: str) -> bool:
    """Whether one host alone has the key of a CA, and no other CA counts anywhere."""
    keys = {host for host in HOSTS if kept(pool, host, "ca.key")}
    (trusted, *more) = {kept(pool, host, "ca.crt") for host in HOSTS}
    return keys == {coordinator} and not more and trusted.count("BEGIN CERTIFICATE") == 1


def test_the_role_of_coordinator_is_handed_over_and_back(pool: RunningLab) -> None:
    """The second time one member hears nothing of it: its server stands still meanwhile, and then looks for the coordinator."""
    for name, deaf in (("host2", False), ("host1", True)):
        uuid = host_uuid(pool, name)
        if deaf:
            signal_server(pool, "host3", "STOP")
        pool.xe("host2" if deaf else "host3", "pool-designate-new-master", f"host-uuid={uuid}")
        if deaf:
            eventually(partial(is_master, pool, "host2", uuid))
            signal_server(pool, "host3", "CONT")
        for host in HOSTS:
            eventually(partial(is_master, pool, host, uuid))
        eventually(lambda: live(pool) == set(HOSTS))
        network = pool.xe("host1", "network-create", f"name-label=by {name}")
        assert network in pool.xe("host3", "network-list", "--minimal")
        eventually(partial(certifies_all, pool, name), "all hosts trust the CA of the new coordinator alone")
    assert pool.pings("blue1", "10.20.0.2"), "guests do not notice"


def test_a_member_takes_over_when_the_coordinator_is_lost(pool: RunningLab) -> None:
    pool.xe("host1", "pool-sync-database")
    cut_off(pool, "host1")
    eventually(lambda: in_emergency(pool, "host2") and in_emergency(pool, "host3"))
    code, text = xe(pool, "host2", "host-list")
    assert (code, text) == (1, "The host is still starting.")
    pool.xe("host2", "pool-emergency-transition-to-master")
    eventually(lambda: answer(pool, "host2", "pool-list", "--minimal") != "")
    told = pool.xe("host2", "pool-recover-slaves")
    assert host_uuid(pool, "host3", "host2") in re.split("[,\n]", told)
    eventually(lambda: answer(pool, "host3", "host-list", "--minimal") != "")
    assert pool.pings("blue2", "10.20.0.3")
    eventually(lambda: live(pool, "host2") == {"host2", "host3"})
    new = pool.xe("host2", "host-list", "name-label=host2", "params=address", "--minimal")
    mend(pool, "host1")
    eventually(lambda: answer(pool, "host1", "host-is-in-emergency-mode") == "false", "it still is its own")
    pool.xe("host1", "pool-emergency-reset-master", f"master-address={new}")
    eventually(lambda: live(pool, "host2") == set(HOSTS), "the old coordinator is a member")
    assert pool.xe("host1", "pool-list", "params=master", "--minimal") == host_uuid(pool, "host2")
    eventually(partial(certifies_all, pool, "host2"), "the lost coordinator's CA counts no more")


def test_an_ejected_host_is_a_pool_of_its_own_with_its_management(pool: RunningLab) -> None:
    for name in ("blue3", "late3"):
        pool.xe("host2", "vm-uninstall", f"vm={name}", "--force")
    gone = host_uuid(pool, "host3", "host2")
    address = pool.xe("host2", "host-list", "name-label=host3", "params=address", "--minimal")
    secret = kept(pool, "host2", "secret")
    pool.xe("host2", "pool-eject", f"host-uuid={gone}", "--force")
    eventually(
        lambda: secret != kept(pool, "host2", "secret") == kept(pool, "host1", "secret"),
        "the pool's secret is another one than the ejected host knows",
    )
    assert hosts_with(pool, "host2") == {"host1", "host2"}
    assert pool.xe("host2", "pif-list", "host-name-label=host3", "--minimal") == ""
    eventually(lambda: answer(pool, "host3", "host-list", "params=name-label", "--minimal") == "host3")
    assert pool.xe("host3", "host-list", "params=address", "--minimal") == address
    assert pool.xe("host3", "pif-list", "management=true", "params=IP", "--minimal") == address
    eventually(lambda: bridges(pool, "host3") == {"xenbr0", "xenbr1", "xenbr2"})
    pool.run("host2", "ping", "-c", "1", "-W", "2", address)


def test_a_host_with_fewer_nics_a_bond_and_a_vlan_is_told_what_is_in_the_way_and_joins(
    pool: RunningLab,
) -> None:
    """Bonds of all hosts by one call are made on the joining host of the NICs that it has (spec §20.5)."""
    bond = pool.xe("host2", "network-create", "name-label=bond")
    nics = ",".join(pif(pool, "host1", device, "host2") for device in ("eth1", "eth2"))
    made = pool.xe(
        "host2", "pool-bond-create", f"network-uuid={bond}", f"pif-uuids={nics}", "mode=active-backup"
    )
    assert len(made.split()) == 2
    eth1, eth2 = (pif(pool, "host3", device, "host3") for device in ("eth1", "eth2"))
    pool.xe("host3", "pif-forget", f"uuid={eth2}")
    own = pool.xe("host3", "network-create", "name-label=own")
    pool.xe("host3", "bond-create", f"network-uuid={own}", f"pif-uuids={eth1}", "mode=active-backup")
    pool.start_vm("host3", "in-the-way", own, "10.41.0.1/24")
    coordinator = pool.xe("host2", "host-list", "name-label=host2", "params=address", "--minimal")
    words = (
        "pool-join",
        f"master-address={coordinator}",
        "master-username=root",
        f"master-password={pool.lab.password}",
    )
    told = pool.xe("host3", *words, "--dry-run").splitlines()
    assert told[0] == "host host3 cannot join the pool of host2"
    uuid = pool.xe("host3", "bond-list", "--minimal")
    assert f"    xe bond-destroy uuid={uuid}" in told
    assert any(line.startswith("    xe vm-shutdown uuid=") for line in told)
    code, text = xe(pool, "host3", *words, "--fix")
    assert code == 1, text
    assert pool.xe("host3", "bond-list", "--minimal") == uuid, "a VM runs, so nothing was removed"
    pool.xe("host3", "vm-uninstall", "vm=in-the-way", "--force")
    told = pool.xe("host3", *words, "--fix", "--dry-run").splitlines()
    assert told[0] == "host host3 can join the pool of host2"
    assert any(line.startswith("  bond0 of eth1 (") and "'bond'" in line for line in told), told
    pool.xe("host3", *words, "--fix")
    eventually(lambda: hosts_with(pool, "host2", "enabled=true") == set(HOSTS))
    eventually(
        lambda: (
            pool.xe("host2", "pif-list", f"network-uuid={bond}", "host-name-label=host3", "--minimal") != ""
        )
    )
    with_address(pool, "host3", "onbond3", bond, "10.40.0.3/24")
    with_address(pool, "host1", "onbond1", bond, "10.40.0.1/24")
    eventually(lambda: pool.pings("onbond1", "10.40.0.3"))


def test_a_host_that_is_lost_for_good_is_forgotten(pool: RunningLab) -> None:
    lost = host_uuid(pool, "host3", "host2")
    code, text = xe(pool, "host2", "host-forget", f"uuid={lost}", "--force")
    assert code == 1
    assert "live" in text.lower() or "alive" in text.lower(), text
    cut_off(pool, "host3")
    eventually(lambda: live(pool, "host2") == {"host1", "host2"})
    pool.xe("host2", "vm-reset-powerstate", "vm=onbond3", "--force")
    pool.xe("host2", "host-forget", f"uuid={lost}", "--force")
    assert hosts_with(pool, "host2") == {"host1", "host2"}
    mend(pool, "host3")
    eventually(lambda: in_emergency(pool, "host3"), "nobody lets it in any more")
    assert hosts_with(pool, "host2") == {"host1", "host2"}
