"""What the host daemon does with a NIC that has virtual functions. Runs in the machine of `test_virtual_functions.py`.

The NIC is a `netdevsim` in switchdev mode, which has an interface for each of its functions and keeps what it is told of
them as NICs do. It is no PCI device: the files that one has in /sys are links to its own, made here. Frames do not get from
one of its functions to another: this kernel's `netdevsim` drops whatever is sent.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from poolnet.hostd.guests.netns import GuestRecord
from poolnet.hostnet.protocol import (
    CreateGuest,
    DestroyGuest,
    Fault,
    GuestNic,
    GuestSpec,
    Observation,
    Observe,
    RunGuest,
)
from poolnet.hostnet.state import Bridge, FunctionsMode, HostNetwork, SriovNic, Uplink, VirtualFunction
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, eventually

pytestmark = pytest.mark.lab

NIC = "pf0"
TOTAL = 4
DEVICE = Path("/sys/bus/netdevsim/devices/netdevsim1")
KEPT = Path(os.environ.get("POOLNET_TEST_KEPT", "/nowhere"))  # outlives the machine
ADDRESSES = tuple(f"0000:05:10.{number}" for number in range(TOTAL))
NO_MAC = "00:00:00:00:00:00"
BRIDGE = Bridge(name="xenbr0", uplink=Uplink(device=NIC, members=(NIC,)))
WITHOUT = HostNetwork(bridges=(BRIDGE,))


def function(number: int, vlan_tag: int = 0, rate: int = 0, *, connected: bool = True) -> VirtualFunction:
    return VirtualFunction(
        address=ADDRESSES[number],
        mac=f"02:00:00:00:00:0{number + 1}",
        vlan_tag=vlan_tag,
        rate_mbits_per_s=rate,
        connected=connected,
        vif_uuid=f"vif{number}",
    )


def network(*functions: VirtualFunction) -> HostNetwork:
    return HostNetwork(
        bridges=(BRIDGE,), sriov=(SriovNic(device=NIC, mode=FunctionsMode.SYSFS, functions=functions),)
    )


def sh(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def make_nic(tree: Path) -> None:
    """The NIC, and what it would have in /sys if it were a PCI device."""
    sh("mount", "-t", "debugfs", "none", "/sys/kernel/debug")
    (DEVICE.parent.parent / "new_device").write_text("1 1")
    (name,) = (path.name for path in (DEVICE / "net").iterdir())
    sh("ip", "link", "set", name, "name", NIC)
    sh("devlink", "dev", "eswitch", "set", "netdevsim/netdevsim1", "mode", "switchdev")
    device = tree / "class/net" / NIC / "device"
    device.mkdir(parents=True)
    (device / "sriov_numvfs").symlink_to(DEVICE / "sriov_numvfs")
    (device / "sriov_totalvfs").symlink_to("/sys/kernel/debug/netdevsim/netdevsim1/max_vfs")
    for number, address in enumerate(ADDRESSES):
        pci = tree / "bus/pci/devices" / address
        (pci / "net").mkdir(parents=True)
        (pci / "vendor").write_text("0x8086\n")
        (pci / "device").write_text("0x1520\n")
        (device / f"virtfn{number}").symlink_to(pci)


def name_functions(tree: Path) -> None:
    """Shows the functions' interfaces as PCI devices do, also under the names that they will come back with."""
    for path in (DEVICE / "net").iterdir():
        found = re.fullmatch(r"pf0vf(\d+)", (path / "phys_port_name").read_text().strip())
        if found is not None:
            address = ADDRESSES[int(found[1])]
            again = "eth0" if found[1] == "0" else "vf" + "".join(c for c in address if c.isalnum())[-12:]
            for name in {path.name, again}:
                (tree / "bus/pci/devices" / address / "net" / name).symlink_to(f"/sys/class/net/{name}")


@asynccontextmanager
async def daemon(directory: Path, kept: Path | None = None) -> AsyncIterator[Rig]:
    """The host daemon, on a Linux bridge, with what it kept on its disk before."""
    os.environ["POOLNET_SYSFS"] = str(directory / "sys")
    rig = Rig(directory, ("pf*",), guest_runtime="netns", backend="linuxbridge")
    if kept is not None:
        shutil.copytree(kept, rig.root / "var/lib/poolnet")
    try:
        await rig.start_daemon()
        yield rig
    except BaseException:
        print(rig.log("hostd")[-6000:])
        raise
    finally:
        await rig.stop()


def treatment(number: int) -> str:
    """What `ip link` says of a function."""
    lines = [line.strip() for line in sh("ip", "link", "show", NIC).splitlines()]
    (found,) = (line for line in lines if line.startswith(f"vf {number} "))
    return found


def count() -> int:
    return int((DEVICE / "sriov_numvfs").read_text())


def guest(number: int, of: int) -> GuestSpec:
    nic = GuestNic(device=0, mac=function(of).mac, function=ADDRESSES[of])
    return GuestSpec(vm_uuid=f"vm{number}", name=f"vm{number}", domid=number, nics=(nic,))


def starting(*specs: GuestSpec) -> Mapping[str, object]:
    return {
        "guests_before": tuple(CreateGuest(guest=spec) for spec in specs),
        "guests_after": tuple(RunGuest(vm_uuid=spec.vm_uuid) for spec in specs),
    }


def pid(rig: Rig, vm: str) -> int:
    path = rig.root / f"run/poolnet/guests/{vm}.json"
    return msgspec.json.decode(path.read_bytes(), type=GuestRecord).pid


def inside(rig: Rig, vm: str) -> str:
    return sh("nsenter", "-t", str(pid(rig, vm)), "-n", "ip", "link", "show", "eth0")


def test_two_guests_get_functions_and_give_them_back(tmp_path: Path) -> None:
    tree = tmp_path / "sys"
    make_nic(tree)

    async def body() -> None:
        async with daemon(tmp_path) as rig:
            done = await rig.roll_out(network(), "on")
            (seen,) = done.facts.nics
            assert seen.sriov is not None
            assert (seen.sriov.functions_max, seen.sriov.functions_now) == (TOTAL, TOTAL)
            assert [one.pci_bus_path for one in seen.sriov.functions] == list(ADDRESSES)
            assert count() == TOTAL
            name_functions(tree)
            both = network(function(0, vlan_tag=7, rate=100), function(1, rate=50, connected=False))
            await rig.roll_out(both, "two", **starting(guest(1, of=0), guest(2, of=1)))
            first, second = treatment(0), treatment(1)
            assert "link/ether 02:00:00:00:00:01 " in first
            assert ", vlan 7," in first
            assert "rate" not in first  # in switchdev mode the driver refuses: the NIC does without
            assert "spoof checking on, link-state auto, trust off" in first
            assert "link/ether 02:00:00:00:00:02 " in second
            assert "vlan" not in second
            assert "link-state disable" in second
            assert "02:00:00:00:00:01" in inside(rig, "vm1")
            assert ",UP" in inside(rig, "vm1")
            assert "02:00:00:00:00:02" in inside(rig, "vm2")
            assert (await rig.observe()).sriov == both.sriov

            # somebody changes a function: the daemon puts it back
            sh("ip", "link", "set", NIC, "vf", "0", "vlan", "9")
            await eventually(lambda: ", vlan 7," in treatment(0))

            # a function that a guest has is not given to another
            with pytest.raises(HostRefused) as refused:
                await rig.roll_out(both, "twice", **starting(guest(3, of=0)))
            assert refused.value.refused.fault is Fault.GUEST_FAILED
            assert "02:00:00:00:00:01" in inside(rig, "vm1")

            # a guest that crashes, and one that is ended
            os.kill(pid(rig, "vm1"), signal.SIGKILL)
            async with asyncio.timeout(60):
                while True:
                    facts = (await rig.link.request(Observe(), Observation)).facts
                    if [one.vm_uuid for one in facts.guests if one.state == "stopped"] == ["vm1"]:
                        break
                    await asyncio.sleep(0.2)
            ending = {"guests_before": (DestroyGuest(vm_uuid="vm2"), DestroyGuest(vm_uuid="vm1"))}
            await rig.roll_out(network(), "ended", **ending)
            for number in (0, 1):
                assert f"link/ether {NO_MAC} " in treatment(number)
                assert "vlan" not in treatment(number)
                assert "rate" not in treatment(number)
                assert "spoof checking on, link-state auto" in treatment(number)
            both = network(function(0), function(1))
            await rig.roll_out(both, "again", **starting(guest(4, of=0), guest(5, of=1)))
            assert "02:00:00:00:00:01" in inside(rig, "vm4")
            ending = {"guests_before": (DestroyGuest(vm_uuid="vm4"), DestroyGuest(vm_uuid="vm5"))}
            await rig.roll_out(network(), "ended again", **ending)

            await rig.roll_out(WITHOUT, "off")
            assert count() == 0

            # the driver refuses: functions that somebody made are not changed, and nothing is half enabled
            (DEVICE / "sriov_numvfs").write_text("2")
            with pytest.raises(HostRefused) as refused:
                await rig.roll_out(network(), "refused")
            assert (refused.value.refused.fault, refused.value.refused.subject) == (
                Fault.FUNCTIONS_FAILED,
                NIC,
            )
            assert count() == 2
            manual = HostNetwork(bridges=(BRIDGE,), sriov=(SriovNic(device=NIC, mode=FunctionsMode.MANUAL),))
            await rig.roll_out(manual, "manual")
            await rig.roll_out(WITHOUT, "not ours")
            assert count() == 2
            (DEVICE / "sriov_numvfs").write_text("0")

            await rig.roll_out(network(), "kept")
            shutil.copytree(rig.root / "var/lib/poolnet", KEPT)

    asyncio.run(body())


def test_functions_are_there_again_after_a_boot(tmp_path: Path) -> None:
    make_nic(tmp_path / "sys")
    assert count() == 0

    async def body() -> None:
        async with daemon(tmp_path, KEPT) as rig:
            assert count() == TOTAL
            assert (await rig.observe()).sriov == network().sriov
            await rig.roll_out(WITHOUT, "off")
            assert count() == 0

            # a driver that can limit rates: this one can in its other mode, in which functions have no interfaces
            sh("devlink", "dev", "eswitch", "set", "netdevsim/netdevsim1", "mode", "legacy")
            await rig.roll_out(network(function(2, vlan_tag=9, rate=100)), "limited")
            limited = treatment(2)
            assert ", vlan 9," in limited
            assert "max_tx_rate 100Mbps" in limited
            await rig.roll_out(WITHOUT, "off again")
            assert count() == 0

    asyncio.run(body())
