"""A call that fails on the host, for whatever reason, leaves nothing: not in the database, not on the host."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tests.lab import survival, switches
from tests.lab.running import RunningLab, running_lab
from tests.lab.survival import Api, Refused, assert_agreed, at_once, kill
from tests.waiting import eventually

pytestmark = pytest.mark.lab

CLASSES = ("network", "PIF", "VLAN", "Bond", "VM", "VIF")
MANY = 50


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host with three NICs."""
    with running_lab(hosts=1, nics=3) as one:
        yield one


@pytest.fixture
def api(lab: RunningLab) -> Api:
    """A session."""
    return Api(lab, "host1")


def everything(lab: RunningLab, api: Api) -> dict[str, Any]:
    """All that a call may leave: rows, bridges, ports, flows, links, guests."""
    rows = {kind: api.records(kind) for kind in CLASSES}
    words = ("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "--no-stats", "dump-flows")
    bridges = lab.run("host1", "ovs-vsctl", "--bare", "--columns=name", "list", "Bridge").split()
    links = lab.run("host1", "ip", "-o", "-br", "link").splitlines()
    return {
        **rows,
        "bridges": sorted(lab.run("host1", "ovs-vsctl", "list-br").split()),
        "ports": sorted(
            lab.run("host1", "ovs-vsctl", "--bare", "--columns=name,tag", "list", "Port").split()
        ),
        "flows": {b: sorted(lab.run("host1", *words, b).splitlines()) for b in bridges},
        "links": sorted(line.split()[0].split("@")[0] for line in links),
        "guests": sorted(path.name for path in (lab.lab.directory / "host1/run/poolnet/guests").iterdir()),
        "processes": sorted(
            line.split(None, 1)[1]
            for line in lab.run("host1", "ps", "-eo", "pid,args").splitlines()
            if "guest-init" in line
        ),
    }


def test_a_vlan_on_a_nic_that_was_removed(lab: RunningLab, api: Api) -> None:
    pif, network = api.ref("PIF", device="eth2", VLAN="-1"), api.network("on nothing")
    survival.poolnet(lab, "nic-remove", "host1", "eth2")
    try:
        eventually(lambda: "eth2" not in lab.run("host1", "ip", "-br", "link"), "eth2 is gone")
        before = everything(lab, api)
        with pytest.raises(Refused) as refused:
            api.call("VLAN.create", pif, "9", network)
        assert refused.value.args[0] == "PIF_CONFIGURATION_ERROR"
        assert everything(lab, api) == before
    finally:
        survival.poolnet(lab, "nic-add", "host1", "eth2")
    eventually(lambda: "up" in lab.run("host1", "cat", "/sys/class/net/eth2/operstate"), "eth2 is back")
    vlan = api.call("VLAN.create", pif, "9", network)
    assert_agreed(lab, "host1", api)
    api.call("VLAN.destroy", vlan)


def test_a_vm_whose_bridge_somebody_else_has_made(lab: RunningLab, api: Api) -> None:
    network = api.network("taken", bridge="taken0")
    vm = api.vm("nowhere")
    api.vif(vm, network)
    lab.run("host1", "ovs-vsctl", "add-br", "taken0", "--", "set", "Bridge", "taken0", "datapath_type=netdev")
    before = everything(lab, api)
    with pytest.raises(Refused):
        api.call("VM.start", vm, False, False)
    assert everything(lab, api) == before
    lab.run("host1", "ovs-vsctl", "del-br", "taken0")
    api.call("VM.start", vm, False, False)
    assert_agreed(lab, "host1", api)
    api.call("VM.hard_shutdown", vm)


@pytest.mark.parametrize("program", ["ovs-vswitchd", "ovsdb-server"])
def test_calls_while_the_switch_stands_still(lab: RunningLab, api: Api, program: str) -> None:
    """A stopped program is worse than a dead one: nobody hears that it is gone. Killed, it comes back."""
    pif, network = api.ref("PIF", device="eth1", VLAN="-1"), api.network(f"still {program}")
    vm = api.vm("still")
    api.vif(vm, api.network(f"still internal {program}"))
    before = everything(lab, api)
    pid = survival.service_pid(lab, "host1", program)
    os.kill(pid, signal.SIGSTOP)

    def kill_soon() -> None:
        eventually(lambda: survival.is_stopped(pid), "it stands still")
        os.kill(pid, signal.SIGKILL)

    calls = (
        partial(api.call, "VLAN.create", pif, "77", network),
        partial(api.call, "VM.start", vm, False, False),
    )
    vlan, start, _ = at_once([*calls, kill_soon])
    api = survival.wait_until_served(lab, "host1")
    assert_agreed(lab, "host1", api)
    if not isinstance(start, Exception):
        api.call("VM.hard_shutdown", vm)
    if not isinstance(vlan, Exception):
        api.call("VLAN.destroy", vlan)
    after = everything(lab, api)
    for changing in ("PIF", "VM", "VIF"):  # their references of the moment, and numbers that only grow
        before.pop(changing), after.pop(changing)
    assert after == before


def test_a_full_disk(lab: RunningLab, api: Api) -> None:
    state = "/var/lib/poolnet/api"
    lab.run("host1", "sh", "-c", f"cp -a {state} /var/tmp/kept && mount -t tmpfs -o size=3m tmpfs {state}")
    lab.run("host1", "sh", "-c", f"cp -a /var/tmp/kept/. {state}")
    kill(lab, "host1", "poolnet-api")
    api = survival.wait_until_served(lab, "host1")
    pif, network = api.ref("PIF", device="eth1", VLAN="-1"), api.network("full")
    before = everything(lab, api)
    lab.run("host1", "sh", "-c", f"cat /dev/zero > {state}/filler", check=False)
    with suppress(Refused):
        for n in range(100):  # what the file system still has room for
            api.call("network.add_to_other_config", network, f"k{n}", "v" * 1000)
            before["network"] = api.records("network")
    with pytest.raises(Refused):
        api.call("VLAN.create", pif, "88", network)
    assert everything(lab, api) == before
    lab.run("host1", "rm", f"{state}/filler")
    vlan = api.call("VLAN.create", pif, "88", network)
    kill(lab, "host1", "poolnet-api")
    api = survival.wait_until_served(lab, "host1")
    assert vlan in api.records("VLAN")
    assert_agreed(lab, "host1", api)
    api.call("VLAN.destroy", vlan)
    lab.run("host1", "sh", "-c", f"rm -r /var/tmp/kept && cp -a {state} /var/tmp/kept && umount -l {state}")
    lab.run("host1", "sh", "-c", f"cp -a /var/tmp/kept/. {state}")
    kill(lab, "host1", "poolnet-api")
    survival.wait_until_served(lab, "host1")


def test_many_vms_start_and_stop_at_once(lab: RunningLab, api: Api) -> None:
    network = api.network("many")
    before = everything(lab, api)
    vms = [api.vm(f"many {n}") for n in range(MANY)]
    vifs = [api.vif(vm, network) for vm in vms]
    starts = at_once([partial(api.call, "Async.VM.start", vm, False, False) for vm in vms], MANY)
    assert api.all_done(starts) == []
    assert {api.call("VM.get_power_state", vm) for vm in vms} == {"Running"}
    assert len(switches.guest_ports(lab, "host1")) == MANY
    assert_agreed(lab, "host1", api)
    stops = at_once([partial(api.call, "Async.VM.hard_shutdown", vm) for vm in vms], MANY)
    assert api.all_done(stops) == []
    for vif, vm in zip(vifs, vms, strict=True):
        api.call("VIF.destroy", vif)
        api.call("VM.destroy", vm)
    assert everything(lab, api) == before
