"""Changes of the management interface: good ones hold, and after bad ones the host is reached as before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import pytest

from poolnet.lab import machine
from tests.lab import survival
from tests.lab.running import RunningLab, lab_to_share
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"
SOON = "--confirm-within=3"
REVERTED_WITHIN_S = 13.0  # the timer and ten seconds
INTERNAL = ("--", "set", "interface", "v0", "type=internal")
ASK = """
import http.client, sys
link = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=2)
link.request("POST", "/", "<methodCall><methodName>system.listMethods</methodName><params/></methodCall>")
print(link.getresponse().status)
"""
FIELDS = ("IP", "netmask", "gateway", "management", "ip-configuration-mode", "currently-attached")


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host with four NICs in the management network."""
    with lab_to_share(hosts=1, nics=4) as one:
        yield one


def pif(lab: RunningLab, device: str, vlan: str = "-1") -> str:
    """The uuid of a PIF."""
    return lab.xe(HOST, "pif-list", f"device={device}", f"VLAN={vlan}", "params=uuid", "--minimal")


def network(lab: RunningLab, device: str) -> str:
    """The uuid of a PIF's network."""
    return lab.xe(HOST, "pif-param-get", f"uuid={pif(lab, device)}", "param-name=network-uuid")


def refused(lab: RunningLab, *words: str) -> str:
    """What `xe` says when it fails, which it must."""
    command = (*machine.entering(lab.lab.host(HOST).pid), "xe", *words)
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    return done.stderr


def known(lab: RunningLab) -> str:
    """What the database says of all PIFs, and of the host's address."""
    fields = ",".join(("uuid", *FIELDS))
    return lab.xe(HOST, "pif-list", f"params={fields}") + lab.xe(HOST, "host-list", "params=address")


def switched(lab: RunningLab) -> str:
    """What the host has: interfaces, addresses and routes."""
    links = sorted(line.split()[0] for line in lab.run(HOST, "ip", "-br", "link").splitlines())
    return lab.run(HOST, "ip", "-4", "-br", "address") + lab.run(HOST, "ip", "route") + "\n".join(links)


def is_reached(lab: RunningLab, address: str = "") -> bool:
    """Whether a machine in the management network reaches the host."""
    words = ("ping", "-n", "-c", "1", "-W", "1", address or lab.lab.host(HOST).address)
    return " 0% packet loss" in lab.run("switch", *words, check=False)


BAD = {
    "a gateway that does not exist": "the gateway {subnet}.77 does not answer on xenbr0",
    "an address in a network where nobody is": "nobody answers on xenbr0",
    "an address that the gateway has": "xenbr0 cannot have the address {subnet}.254: another machine has it",
    "a server that never leases": "no DHCP server has given xenbr0 an address",
    "a NIC that nothing is connected to": "xenbr1 has no link: nothing is connected to eth1",
    "a VLAN that the switch does not carry": "the gateway 10.98.0.254 does not answer on xapi",
    "a bond of NICs that nothing is connected to": "nothing is connected to eth1, eth2",
    "an address elsewhere that takes the way back": "leaves by xenbr1, where it does not answer",
}


def reconfiguring(lab: RunningLab, how: str) -> tuple[str, ...]:
    """The words that do it, after whatever has to be there first."""
    base = lab.lab.network.removesuffix(".0/24")
    own = lab.lab.host(HOST).address
    to_eth0 = ("pif-reconfigure-ip", f"uuid={pif(lab, 'eth0')}", "netmask=255.255.255.0", "mode=static")
    match how:
        case "a gateway that does not exist":
            return (*to_eth0, f"IP={own}", f"gateway={base}.77")
        case "an address in a network where nobody is":
            return (*to_eth0, "IP=10.99.0.9")
        case "an address that the gateway has":
            return (*to_eth0, f"IP={base}.254")
        case "a server that never leases":
            return ("pif-reconfigure-ip", f"uuid={pif(lab, 'eth0')}", "mode=dhcp")
        case "a NIC that nothing is connected to":
            survival.poolnet(lab, "link", HOST, "eth1", "down")
            static(lab, pif(lab, "eth1"), f"{base}.41")
            return ("host-management-reconfigure", f"pif-uuid={pif(lab, 'eth1')}")
        case "a VLAN that the switch does not carry":
            made = lab.xe(HOST, "network-create", "name-label=nobody")
            words = (f"pif-uuid={pif(lab, 'eth2')}", f"network-uuid={made}", "vlan=77")
            vlan = lab.xe(HOST, "vlan-create", *words)
            static(lab, vlan, "10.98.0.1", "gateway=10.98.0.254")
            return ("host-management-reconfigure", f"pif-uuid={vlan}")
        case "a bond of NICs that nothing is connected to":
            for nic in ("eth1", "eth2"):
                survival.poolnet(lab, "link", HOST, nic, "down")
            made = lab.xe(HOST, "network-create", "name-label=dead")
            bond = lab.xe(
                HOST,
                "bond-create",
                f"network-uuid={made}",
                f"pif-uuids={pif(lab, 'eth1')},{pif(lab, 'eth2')}",
            )
            master = lab.xe(HOST, "bond-param-get", f"uuid={bond}", "param-name=master")
            static(lab, master, f"{base}.42")
            return ("host-management-reconfigure", f"pif-uuid={master}")
        case "an address elsewhere that takes the way back":
            survival.poolnet(lab, "link", HOST, "eth1", "down")
            lab.xe(HOST, "pif-reconfigure-ip", f"uuid={pif(lab, 'eth1')}", "mode=none")
            half = ("mode=static", f"IP={lab.lab.gateway[:-3]}250", "netmask=255.255.255.128")
            return ("pif-reconfigure-ip", f"uuid={pif(lab, 'eth1')}", *half)
    raise AssertionError(how)


def static(lab: RunningLab, uuid: str, address: str, *more: str) -> None:
    """Gives a PIF an address."""
    words = ("mode=static", f"IP={address}", "netmask=255.255.255.0", *more)
    lab.xe(HOST, "pif-reconfigure-ip", f"uuid={uuid}", *words)


@pytest.fixture
def tidy(lab: RunningLab) -> Iterator[None]:
    """Afterwards there is nothing but four NICs, all connected, and management on eth0."""
    yield
    for nic in ("eth1", "eth2", "eth3"):
        survival.poolnet(lab, "link", HOST, nic, "up")
    eth0 = pif(lab, "eth0")
    if lab.xe(HOST, "pif-param-get", f"uuid={eth0}", "param-name=management") != "true":
        lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={eth0}")
    for bond in lab.xe(HOST, "bond-list", "--minimal").split(","):
        if bond:
            lab.xe(HOST, "bond-destroy", f"uuid={bond}")
    for vlan in lab.xe(HOST, "vlan-list", "--minimal").split(","):
        if vlan:
            lab.xe(HOST, "vlan-destroy", f"uuid={vlan}")
    for nic in ("eth1", "eth2", "eth3"):
        lab.xe(HOST, "pif-reconfigure-ip", f"uuid={pif(lab, nic)}", "mode=none")


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("how", BAD)
def test_a_change_that_would_cut_the_host_off_is_taken_back(lab: RunningLab, how: str) -> None:
    words = reconfiguring(lab, how)
    database, host = known(lab), switched(lab)
    said = refused(lab, *words, SOON)
    expected = BAD[how].format(subnet=lab.lab.network.removesuffix(".0/24"))
    assert expected in said
    assert (known(lab), switched(lab)) == (database, host)
    assert is_reached(lab)
    assert survival.serves(lab, HOST)


@pytest.mark.usefixtures("tidy")
def test_management_moves_to_a_nic_a_vlan_and_a_bond_and_back(lab: RunningLab) -> None:
    base = lab.lab.network.removesuffix(".0/24")
    made = lab.xe(HOST, "network-create", "name-label=vlan")
    words = (f"pif-uuid={pif(lab, 'eth2')}", f"network-uuid={made}", "vlan=33")
    vlan = lab.xe(HOST, "vlan-create", *words)
    with vlan_in_switch(lab, "33", "10.97.0.254"):
        for uuid, address in ((pif(lab, "eth1"), f"{base}.41"), (vlan, "10.97.0.1")):
            static(lab, uuid, address)
            lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={uuid}", "--confirm-within=10")
            assert lab.xe(HOST, "pif-list", "management=true", "--minimal") == uuid
            assert lab.xe(HOST, "host-list", "params=address", "--minimal") == address
            for one in (address, lab.lab.host(HOST).address):  # the old one stays (spec §18.3)
                eventually(lambda at=one: is_reached(lab, at), f"{one} is reached")  # type: ignore[misc]
    lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={pif(lab, 'eth0')}")
    made = lab.xe(HOST, "network-create", "name-label=bond")
    pifs = f"pif-uuids={pif(lab, 'eth0')},{pif(lab, 'eth3')}"
    bond = lab.xe(HOST, "bond-create", f"network-uuid={made}", pifs, "mode=active-backup")
    eventually(lambda: is_reached(lab), "the bond is reached")
    assert survival.serves(lab, HOST)
    lab.xe(HOST, "bond-destroy", f"uuid={bond}")
    eventually(lambda: is_reached(lab), "the NIC is reached")


@contextmanager
def vlan_in_switch(lab: RunningLab, tag: str, address: str) -> Iterator[None]:
    """Somebody with an address in a VLAN of the management network."""
    lab.run("switch", "ovs-vsctl", "add-port", "switch0", "v0", f"tag={tag}", *INTERNAL)
    lab.run("switch", "ip", "address", "add", f"{address}/24", "dev", "v0")
    lab.run("switch", "ip", "link", "set", "v0", "up")
    try:
        yield
    finally:
        lab.run("switch", "ovs-vsctl", "del-port", "switch0", "v0")


@pytest.mark.usefixtures("tidy")
def test_a_change_is_kept_without_a_check_on_request(lab: RunningLab) -> None:
    static(lab, pif(lab, "eth1"), "10.96.0.1")
    eth1 = f"pif-uuid={pif(lab, 'eth1')}"
    assert "nobody answers on xenbr1" in refused(lab, "host-management-reconfigure", eth1, SOON)
    lab.xe(HOST, "host-management-reconfigure", eth1, "--confirm-within=0")
    assert lab.xe(HOST, "host-list", "params=address", "--minimal") == "10.96.0.1"


def test_the_address_of_the_caller_may_change(lab: RunningLab) -> None:
    """The call comes from the network, over the address that it takes away."""
    base = lab.lab.network.removesuffix(".0/24")
    own, other = lab.lab.host(HOST).address, f"{base}.43"
    api = survival.Api(lab, HOST)
    eth0 = api.ref("PIF", device="eth0", VLAN="-1")
    gateway = lab.lab.gateway
    task = api.call("Async.PIF.reconfigure_ip", eth0, "Static", other, "255.255.255.0", gateway, "")
    eventually(lambda: is_reached(lab, other), "the new address answers")
    eventually(lambda: lab.xe(HOST, "host-list", "params=address", "--minimal") == other, "it is kept")
    assert not is_reached(lab, own)
    static(lab, pif(lab, "eth0"), own, f"gateway={gateway}")
    assert survival.Api(lab, HOST).call("task.get_status", task) == "success"


def test_a_caller_from_the_network_is_asked_whether_it_is_still_there(lab: RunningLab) -> None:
    api = survival.Api(lab, HOST)
    eth0 = api.ref("PIF", device="eth0", VLAN="-1")
    record = api.call("PIF.get_record", eth0)
    gateway = f"{lab.lab.network.removesuffix('.0/24')}.250"
    lab.run("switch", "ip", "address", "add", f"{gateway}/24", "dev", "switch0")
    try:
        words = ("Static", record["IP"], record["netmask"], gateway, record["DNS"])
        api.call("PIF.reconfigure_ip", eth0, *words)
        assert api.call("PIF.get_gateway", eth0) == gateway
        # The host may no longer speak to the caller; the gateway is another machine, and answers.
        reject = ("nft", "add table ip t; add chain ip t o { type filter hook output priority 0; }; ")
        lab.run(HOST, reject[0], f"{reject[1]} add rule ip t o ip daddr {lab.lab.gateway} drop")
        words = ("Static", record["IP"], record["netmask"], lab.lab.gateway, record["DNS"])
        with pytest.raises((OSError, survival.Refused)):
            api.call("PIF.reconfigure_ip", eth0, *words)
        lab.run(HOST, "nft", "delete table ip t")
        assert survival.Api(lab, HOST).call("PIF.get_gateway", eth0) == gateway
        assert f"default via {gateway} " in lab.run(HOST, "ip", "route")
    finally:
        lab.run(HOST, "nft", "delete table ip t", check=False)
        static(lab, pif(lab, "eth0"), record["IP"], f"gateway={lab.lab.gateway}")
        lab.run("switch", "ip", "address", "del", f"{gateway}/24", "dev", "switch0")


def listens(lab: RunningLab, address: str, port: int = 80) -> bool:
    """Whether a machine in the management network gets an answer of the API at this address."""
    return lab.run("switch", sys.executable, "-c", ASK, address, str(port), check=False).strip() == "200"


def test_management_off_and_on_again(lab: RunningLab) -> None:
    own = lab.lab.host(HOST).address
    api = survival.Api(lab, HOST)
    eventually(lambda: listens(lab, own), "the API listens")
    token = api.call("event.from", ["pool"], "", 1.0)["token"]
    hanging = survival.at_once_later(lambda: api.call("event.from", ["pool"], token, 60.0))
    lab.xe(HOST, "host-management-disable")
    assert lab.xe(HOST, "host-list", "params=address", "--minimal") == ""
    eventually(lambda: not listens(lab, own), "the API listens no more")
    eventually(lambda: is_reached(lab), "it answers")  # the interface itself stays up (spec §18.4)
    assert lab.run(HOST, sys.executable, "-c", ASK, "127.0.0.1", "80").strip() == "200"
    assert isinstance(
        hanging.result(30.0), OSError | HTTPException
    )  # sessions from elsewhere lose their connection
    lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={pif(lab, 'eth0')}")
    assert lab.xe(HOST, "host-list", "params=address", "--minimal") == own
    eventually(lambda: listens(lab, own), "the API listens again")


@pytest.mark.usefixtures("tidy")
def test_management_over_ipv6_alone(lab: RunningLab) -> None:
    lab.run("switch", "ip", "address", "add", "fd00:5::254/64", "dev", "switch0", "nodad")
    eth1 = pif(lab, "eth1")
    ipv6 = ("pif-reconfigure-ipv6", f"uuid={eth1}", "mode=static", "IPv6=fd00:5::1/64")
    lab.xe(HOST, *ipv6, "gateway=fd00:5::77")
    lab.xe(HOST, "pif-set-primary-address-type", f"uuid={eth1}", "primary_address_type=ipv6")
    said = refused(lab, "host-management-reconfigure", f"pif-uuid={eth1}", SOON)
    assert "the gateway fd00:5::77 does not answer on xenbr1" in said
    for gateway in ("fd00:5::254", ""):
        lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={pif(lab, 'eth0')}")
        lab.xe(HOST, *ipv6, f"gateway={gateway}")
        lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={eth1}")
        assert lab.xe(HOST, "host-list", "params=address", "--minimal") == "fd00:5::1"
        eventually(lambda: listens(lab, "fd00:5::1"), "the API listens there")
    lab.xe(HOST, "pif-set-primary-address-type", f"uuid={pif(lab, 'eth0')}", "primary_address_type=ipv4")
    lab.xe(HOST, "host-management-reconfigure", f"pif-uuid={pif(lab, 'eth0')}")
    lab.xe(HOST, "pif-set-primary-address-type", f"uuid={eth1}", "primary_address_type=ipv4")
    lab.xe(HOST, "pif-reconfigure-ipv6", f"uuid={eth1}", "mode=none")


@pytest.mark.parametrize("program", ["poolnet-hostd", "poolnet-api"])
def test_a_program_that_is_killed_while_a_change_waits_loses_no_host(lab: RunningLab, program: str) -> None:
    base = lab.lab.network.removesuffix(".0/24")
    before = switched(lab)
    words = ("mode=static", f"IP={base}.44", "netmask=255.255.255.0", f"gateway={base}.77")
    command = ("xe", "pif-reconfigure-ip", f"uuid={pif(lab, 'eth0')}", *words, "--confirm-within=10")
    inside = machine.entering(lab.lab.host(HOST).pid)
    with survival.running((*inside, *command), stderr=subprocess.STDOUT):
        eventually(lambda: f"{base}.44/24" in switched(lab), "it is switched")
        survival.kill(lab, HOST, program)
        eventually(lambda: is_reached(lab), "the host is reached as before", 10 + REVERTED_WITHIN_S)
    survival.wait_until_served(lab, HOST)
    eventually(lambda: switched(lab) == before, "it is as before")
