"""Whatever is killed, pulled or full on a host: the network stays, and what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.lab import survival, switches
from tests.lab.running import RunningLab, running_lab
from tests.lab.survival import Api, assert_agreed, at_once, kill, pinging
from tests.waiting import eventually

pytestmark = pytest.mark.lab

FIRST, SECOND = "10.9.0.1", "10.9.0.2"
FOREIGN = "byhand0"
PUT_BACK = "flows were changed by somebody else"
LATE_MAX = 2  # a switch in user space drops a frame now and then on a machine that is busy with other tests
DAEMONS = ("poolnet-api", "poolnet-hostd")
SWITCHES = ("ovs-vswitchd", "ovsdb-server")
ALTERED: list[str] = []  # what tests did to flows on purpose


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host with three NICs, where two VMs that ping each other run all the time, beside a bridge made by hand."""
    with running_lab(hosts=1, nics=3) as one:
        words = ("set", "Bridge", FOREIGN, "fail_mode=standalone", "datapath_type=netdev")
        one.run("host1", "ovs-vsctl", "add-br", FOREIGN, "--", *words)
        one.run("host1", "ip", "link", "add", "byhand1", "type", "veth", "peer", "name", "byhand2")
        one.run("host1", "ovs-vsctl", "add-port", FOREIGN, "byhand1", "tag=7")
        one.run("host1", "ovs-ofctl", "add-flow", FOREIGN, "priority=7,actions=drop")
        before = foreign(one)
        network = one.xe("host1", "network-create", "name-label=steady")
        one.start_vm("host1", "steady1", network, f"{FIRST}/24")
        one.start_vm("host1", "steady2", network, f"{SECOND}/24")
        yield one
        assert foreign(one) == before
        warned = survival.log_of(one, "host1", "poolnet-hostd").count(PUT_BACK)
        assert warned == len(ALTERED)


def foreign(lab: RunningLab) -> str:
    """All that the database says of the bridge made by hand."""
    rows = [
        lab.run("host1", "ovs-vsctl", "--columns=name,fail_mode,ports", "list", "Bridge", FOREIGN),
        lab.run("host1", "ovs-vsctl", "--columns=_uuid,name,tag,external_ids", "list", "Port", "byhand1"),
    ]
    return "".join(rows)


@pytest.fixture
def api(lab: RunningLab) -> Api:
    """A session."""
    return Api(lab, "host1")


def ends(api: Api, *vms: str) -> None:
    for vm in vms:
        api.call("VM.hard_shutdown", vm)
        for vif in api.call("VM.get_VIFs", vm):
            api.call("VIF.destroy", vif)
        api.call("VM.destroy", vm)


@pytest.mark.parametrize("program", DAEMONS)
def test_guests_lose_nothing_while_an_idle_daemon_is_killed(lab: RunningLab, program: str) -> None:
    with pinging(lab, "steady1", SECOND) as pinged:
        kill(lab, "host1", program)
        eventually(lambda: bool(survival.pid_of(lab, "host1", program)), f"{program} is started again")
        api = survival.wait_until_served(lab, "host1")
        vm = api.vm("after")
        api.vif(vm, api.network(f"after {program}"))
        api.call("VM.start", vm, False, False)
        ends(api, vm)
        assert_agreed(lab, "host1", api)
    assert pinged.sent > 20
    assert pinged.sent - pinged.received <= LATE_MAX


@pytest.mark.parametrize("program", DAEMONS)
def test_a_burst_of_vlans_outlives_a_killed_daemon(lab: RunningLab, api: Api, program: str) -> None:
    pif = api.ref("PIF", device="eth1", VLAN="-1")
    networks = [api.network(f"burst {tag}") for tag in range(100, 180)]
    calls: list[Callable[[], Any]] = [
        partial(api.call, "VLAN.create", pif, str(100 + n), network) for n, network in enumerate(networks)
    ]

    def kill_in_the_middle() -> None:
        eventually(lambda: len(switches.tags(lab, "host1")) > 5, "the burst has begun")
        kill(lab, "host1", program)

    with pinging(lab, "steady1", SECOND) as pinged:
        answers = at_once([*calls[:20], kill_in_the_middle, *calls[20:]])
        api = survival.wait_until_served(lab, "host1")
        assert_agreed(lab, "host1", api)
    assert pinged.sent - pinged.received <= LATE_MAX
    acknowledged = {answer for answer in answers if isinstance(answer, str)}
    assert acknowledged <= set(api.records("VLAN"))
    at_once([partial(api.call, "VLAN.destroy", vlan) for vlan in api.records("VLAN")])
    assert not api.records("VLAN")
    assert_agreed(lab, "host1", api)


@pytest.mark.parametrize("program", DAEMONS)
def test_guests_that_start_while_a_daemon_is_killed_run_or_are_gone(
    lab: RunningLab, api: Api, program: str
) -> None:
    network = api.network(f"starts {program}")
    vms = [api.vm(f"starts {n}") for n in range(8)]
    for vm in vms:
        api.vif(vm, network)

    def kill_in_the_middle() -> None:
        eventually(lambda: len(survival.vifs_on_host(lab, "host1")) > 3, "the first guest is made")
        kill(lab, "host1", program)

    starts = [partial(api.call, "VM.start", vm, False, False) for vm in vms]
    with pinging(lab, "steady1", SECOND) as pinged:
        answers = at_once([kill_in_the_middle, *starts])[1:]
        api = survival.wait_until_served(lab, "host1")
        assert_agreed(lab, "host1", api)
    assert pinged.sent - pinged.received <= LATE_MAX
    for vm, answer in zip(vms, answers, strict=True):
        if not isinstance(answer, Exception):
            assert api.call("VM.get_power_state", vm) == "Running"
        if api.call("VM.get_power_state", vm) == "Halted":
            api.call("VM.start", vm, False, False)
    ends(api, *vms)
    assert_agreed(lab, "host1", api)


FORGED = """
import socket, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0x806))
mac = link.getsockname()[4]
arp = b"\\0\\1\\10\\0\\6\\4\\0\\1" + mac + bytes((10, 66, 66, 66)) + bytes(6) + bytes((10, 8, 0, 2))
forged = b"\\xff" * 6 + b"\\2\\0\\0\\0\\0\\x66" + b"\\10\\6" + arp
spoofed = b"\\xff" * 6 + mac + b"\\10\\6" + arp
while True:
    for frame in (forged, spoofed):
        try:
            link.send(frame)
        except OSError:
            pass
    time.sleep(0.002)
"""


@pytest.fixture
def locked(lab: RunningLab, api: Api) -> Iterator[tuple[str, str]]:
    """A VM whose VIF is locked to 10.8.0.1, and its peer 10.8.0.2, on the network of eth1."""
    network = api.call("PIF.get_network", api.ref("PIF", device="eth1", VLAN="-1"))
    refs = []
    for name, address in (("locked", "10.8.0.1"), ("peer", "10.8.0.2")):
        vm = api.vm(name)
        refs.append(vm)
        lock: dict[str, Any] = {"locking_mode": "locked", "ipv4_allowed": [address]}
        api.vif(vm, network, **(lock if name == "locked" else {}))
        api.call("VM.start", vm, False, False)
        lab.guest(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    yield "locked", "peer"
    ends(survival.wait_until_served(lab, "host1"), *refs)


@pytest.mark.parametrize("program", [*SWITCHES, *DAEMONS])
def test_a_lock_leaks_nothing_while_a_program_is_killed(
    lab: RunningLab, locked: tuple[str, str], program: str
) -> None:
    words = (*survival.in_guest(lab, "locked"), "/usr/bin/python3", "-c", FORGED)
    with (
        survival.sniffing(survival.in_guest(lab, "peer"), "eth0", "arp") as seen,
        survival.running(words),
    ):
        assert lab.pings("locked", "10.8.0.2")
        kill(lab, "host1", program)
        eventually(lambda: bool(survival.pid_of(lab, "host1", program)), f"{program} is started again")
        survival.wait_until_served(lab, "host1")
        lab.guest("locked", "ip", "neigh", "flush", "all")
        eventually(lambda: lab.pings("locked", "10.8.0.2"), "the flows are back", 5.0)
    assert seen
    assert not [line for line in seen if "10.66.66.66" in line]


@pytest.mark.parametrize("program", SWITCHES)
def test_management_comes_back_with_the_switch(lab: RunningLab, program: str) -> None:
    address = lab.lab.host("host1").address
    kill(lab, "host1", program)
    eventually(lambda: bool(survival.pid_of(lab, "host1", program)), f"{program} is started again")
    eventually(
        lambda: address in lab.run("host1", "ip", "-br", "address", "show", "xenbr0", check=False), "address"
    )
    api = survival.wait_until_served(lab, "host1")
    eventually(lambda: lab.pings("steady1", SECOND), "flows return", 5.0)
    assert_agreed(lab, "host1", api)


def test_flows_altered_by_hand_are_put_back(lab: RunningLab, locked: tuple[str, str]) -> None:
    bridge = next(b for b in lab.run("host1", "ovs-vsctl", "list-br").split() if b == "xenbr1v")
    words = ("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "--no-stats")

    def flows() -> list[str]:
        return sorted(lab.run("host1", *words, "dump-flows", bridge).splitlines())

    before = flows()
    log = survival.log_of(lab, "host1", "poolnet-hostd").count(PUT_BACK)
    for alteration in (("add-flow", bridge, "priority=65535,actions=normal"), ("del-flows", bridge)):
        lab.run("host1", *words[:3], *alteration)
        ALTERED.append(" ".join(alteration))
        eventually(lambda: flows() == before, f"the flows are as before {alteration}", 5.0)
    assert survival.log_of(lab, "host1", "poolnet-hostd").count(PUT_BACK) == log + 2


@pytest.mark.parametrize("how", [(), ("--hard",)])
def test_a_host_comes_back_from_a_reboot(lab: RunningLab, api: Api, how: tuple[str, ...]) -> None:
    pif = api.ref("PIF", device="eth2", VLAN="-1")
    vlan = api.call("VLAN.create", pif, "55", api.network("reboot"))
    survival.reboot(lab, "host1", hard=bool(how))
    api = Api(lab, "host1")  # no waiting: it serves when the reboot is over
    address = lab.lab.host("host1").address
    assert address in lab.run("host1", "ip", "-br", "address", "show", "xenbr0")
    assert switches.tags(lab, "host1") == {55}
    assert switches.guest_ports(lab, "host1") == set()
    assert_agreed(lab, "host1", api)
    for name, own in (("steady1", FIRST), ("steady2", SECOND)):
        vm = api.ref("VM", name_label=name)
        assert api.call("VM.get_power_state", vm) == "Halted"
        api.call("VM.start", vm, False, False)
        lab.guest(name, "ip", "address", "add", f"{own}/24", "dev", "eth0")
    assert lab.pings("steady1", SECOND)
    api.call("VLAN.destroy", vlan)
    assert_agreed(lab, "host1", api)
