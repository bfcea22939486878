"""`poolnet switch-network-backend` and `xe-switch-network-backend` on a host's console, while a VM and a tunnel are in use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.streams import measure

from poolnet.lab import console
from tests.lab import survival
from tests.lab.running import BACKEND, RunningLab, running_lab
from tests.lab.test_tunnels import HOSTS, TRANSPORT, make
from tests.waiting import eventually

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(300),
    pytest.mark.skipif(BACKEND != "openvswitch", reason="its hosts have no Open vSwitch to change to"),
]

HOST = "host2"
REFERENCE, OWN = ("xe-switch-network-backend",), ("poolnet", "switch-network-backend")


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Two hosts, each with a VM on eth1's network and one in a tunnel to the other."""
    with running_lab(hosts=2) as one:
        for number, host in enumerate(HOSTS, 1):
            pif = one.xe(host, "pif-list", "device=eth1", "params=uuid", "--minimal")
            words = ("mode=static", f"IP={TRANSPORT[host]}", "netmask=255.255.255.0")
            one.xe(host, "pif-reconfigure-ip", f"uuid={pif}", *words)
            plain = one.xe(host, "pif-param-get", f"uuid={pif}", "param-name=network-uuid")
            tunneled, _access = make(one, host, "vxlan")
            one.start_vm(host, f"plain{number}", plain, f"10.88.0.{number}0/24")
            one.start_vm(host, f"inside{number}", tunneled, f"192.0.2.{number}/24")
        yield one


def backend(lab: RunningLab) -> str:
    """As the API tells."""
    host = lab.xe(HOST, "host-list", "--minimal")
    words = ("param-name=software-version", "param-key=network_backend")
    return lab.xe(HOST, "host-param-get", f"uuid={host}", *words)


def everybody_hears(lab: RunningLab) -> bool:
    """The VMs of both hosts hear each other, on the NICs and in the tunnel, and the host is reached."""
    ping = ("ping", "-n", "-c", "1", "-W", "1", lab.lab.host(HOST).address)
    return (
        lab.pings("plain1", "10.88.0.20")
        and lab.pings("plain2", "10.88.0.10")
        and lab.pings("inside1", "192.0.2.2")
        and lab.pings("inside2", "192.0.2.1")
        and " 0% packet loss" in lab.run("switch", *ping, check=False)
    )


def test_both_commands_change_the_backend_with_all_that_is_in_use(lab: RunningLab) -> None:
    eventually(lambda: everybody_hears(lab), "before")
    domids = lab.xe(HOST, "vm-list", "params=dom-id", "--minimal")
    for command, wanted in ((OWN, "bridge"), (REFERENCE, "openvswitch"), (REFERENCE, "bridge")):
        said = lab.run(HOST, *command, wanted)
        assert said == f"The network of this host is carried out by {wanted} now.\n"
        eventually(lambda: everybody_hears(lab), f"over {wanted}", 30.0)
        eventually(lambda name=wanted: backend(lab) == name, "the API knows")  # type: ignore[misc]
        assert lab.xe(HOST, "vm-list", "params=dom-id", "--minimal") == domids
        assert ("xenbr1" in lab.run(HOST, "ovs-vsctl", "list-br").split()) is (wanted == "openvswitch")
    already = lab.run(HOST, *REFERENCE, "bridge")
    assert already == "The network of this host is carried out by bridge already.\n"


def arrives(lab: RunningLab, protocol: str, limit: int) -> float:
    """What share of the limit arrives at the other host's VM of what the limited one sends there."""
    sender, receiver = (console.entering_guest(lab.lab, name) for name in ("plain2", "plain1"))
    return measure(protocol, sender, receiver, "10.88.0.10", 2 * limit, 1.0).frames_per_s / limit


def test_a_limit_outlives_a_reboot_of_the_vm_and_of_hostd_and_a_change_of_the_backend(
    lab: RunningLab,
) -> None:
    """And TCP gets through with checksums and segments left to whoever can complete them, and to nobody else."""
    kbytes, limit = 300, 300 * 1024  # 1000 in place of 1024 would be 2.3 % less
    vif = lab.xe(HOST, "vif-list", "vm-name-label=plain2", "params=uuid", "--minimal")
    lab.xe(HOST, "vif-param-set", f"uuid={vif}", "qos_algorithm_type=ratelimit")
    lab.xe(HOST, "vif-param-set", f"uuid={vif}", f"qos_algorithm_params:kbps={kbytes}")

    def is_kept() -> bool:
        udp = arrives(lab, "udp", limit)
        assert udp < 1.2, "half as much again is offered"
        return 0.985 < udp < 1.015 and arrives(lab, "tcp", limit) == pytest.approx(1, abs=0.05)

    eventually(is_kept, "the limit is kept", 40.0)
    lab.xe(HOST, "vm-reboot", "vm=plain2", "force=true")
    lab.guest("plain2", "ip", "address", "add", "10.88.0.20/24", "dev", "eth0")
    eventually(is_kept, "after a reboot of the VM", 40.0)
    for wanted, offload in (("openvswitch", "off"), ("bridge", "on"), ("openvswitch", "off")):
        if backend(lab) != wanted:
            lab.run(HOST, *OWN, wanted)
        eventually(lambda: lab.pings("plain2", "10.88.0.10"), f"over {wanted}", 30.0)
        assert f"tx-checksumming: {offload}" in lab.guest("plain2", "ethtool", "-k", "eth0")
        eventually(is_kept, f"over {wanted}", 40.0)
    old = survival.pid_of(lab, HOST, "poolnet-hostd")
    survival.kill(lab, HOST, "poolnet-hostd")
    eventually(lambda: survival.pid_of(lab, HOST, "poolnet-hostd") not in (0, old), "hostd is back")
    eventually(is_kept, "after a death of hostd", 40.0)
    lab.xe(HOST, "vif-param-clear", f"uuid={vif}", "param-name=qos_algorithm_params")


def test_after_a_change_the_host_works_on_and_boots_with_it(lab: RunningLab) -> None:
    lab.run(HOST, *OWN, "bridge")
    network = lab.xe(HOST, "network-create", "name-label=new")
    lab.start_vm(HOST, "new1", network, "10.3.0.1/24")
    lab.start_vm(HOST, "new2", network, "10.3.0.2/24")
    assert lab.pings("new1", "10.3.0.2")
    survival.reboot(lab, HOST, hard=True)
    eventually(lambda: backend(lab) == "bridge", "it is kept")
    assert lab.run(HOST, "ovs-vsctl", "list-br") == ""
    ping = ("ping", "-n", "-c", "1", "-W", "1", TRANSPORT[HOST])
    eventually(lambda: " 0% packet loss" in lab.run("host1", *ping, check=False), "it is back")
    said = lab.run(HOST, "poolnet", "switch-network-backend", "openvswitch")
    assert said == "The network of this host is carried out by openvswitch now.\n"
    eventually(lambda: " 0% packet loss" in lab.run("host1", *ping, check=False), "over Open vSwitch")


@pytest.mark.parametrize("words", [(), ("token-ring",), ("bridge", "openvswitch")])
def test_other_words_are_refused_as_usage(lab: RunningLab, words: tuple[str, ...]) -> None:
    said = lab.run(HOST, "sh", "-c", f"! {' '.join((*REFERENCE, *words))} 2>&1")
    assert said == "usage: xe-switch-network-backend bridge|openvswitch\n"
