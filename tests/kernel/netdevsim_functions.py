"""What the host daemon does with a NIC that can hold a function's link down, and cannot limit rates.

Runs in the machine of `test_virtual_functions.py`. The NIC is a `netdevsim` in switchdev mode, which has an interface for each
of its functions and keeps what it is told of them as NICs do. It is no PCI device: the files that one has in /sys are links
to its own, made here. It carries no frames, and knows the NICs' ways that `igb_functions` has not.
"""

from __future__ import annotations

import asyncio
import re
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
    RunGuest,
)
from poolnet.hostnet.state import Bridge, FunctionsMode, HostNetwork, SriovNic, Uplink, VirtualFunction
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig

pytestmark = pytest.mark.lab

NIC = "pf0"
TOTAL = 4
DEVICE = Path("/sys/bus/netdevsim/devices/netdevsim1")
ADDRESSES = tuple(f"0000:05:10.{number}" for number in range(TOTAL))
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
    """Shows the functions' interfaces as PCI devices do, also under the names that guests give them back with."""
    for path in (DEVICE / "net").iterdir():
        found = re.fullmatch(r"pf0vf(\d+)", (path / "phys_port_name").read_text().strip())
        if found is not None:
            address = ADDRESSES[int(found[1])]
            again = "vf" + "".join(c for c in address if c.isalnum())[-12:]
            for name in {path.name, again}:
                (tree / "bus/pci/devices" / address / "net" / name).symlink_to(f"/sys/class/net/{name}")


@asynccontextmanager
async def daemon(directory: Path) -> AsyncIterator[Rig]:
    """The host daemon, on a Linux bridge."""
    rig = Rig(directory, ("pf*",), guest_runtime="netns", backend="linuxbridge")
    try:
        await rig.start_daemon(POOLNET_SYSFS=str(directory / "sys"))
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


def test_a_function_whose_link_is_down_and_one_whose_rate_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "sys"
    make_nic(tree)

    async def body() -> None:
        async with daemon(tmp_path) as rig:
            await rig.roll_out(network(), "on")
            assert count() == TOTAL
            name_functions(tree)
            both = network(function(0, vlan_tag=7, rate=100), function(1, connected=False))
            done = await rig.roll_out(both, "two", **starting(guest(1, of=0), guest(2, of=1)))
            first, second = treatment(0), treatment(1)
            assert ", vlan 7," in first
            assert "rate" not in first  # in switchdev mode the driver refuses
            (seen,) = done.facts.nics
            assert seen.sriov is not None
            assert [one.refused for one in seen.sriov.functions] == [("rate",), (), (), ()]
            assert "spoof checking on, link-state auto, trust off" in first
            assert "link/ether 02:00:00:00:00:02 " in second
            assert "link-state disable" in second
            assert "02:00:00:00:00:01" in inside(rig, "vm1")
            assert (await rig.observe()).sriov == both.sriov

            # a function that a guest has is not given to another
            with pytest.raises(HostRefused) as refused:
                await rig.roll_out(both, "twice", **starting(guest(3, of=0)))
            assert refused.value.refused.fault is Fault.GUEST_FAILED
            assert "02:00:00:00:00:01" in inside(rig, "vm1")

            ending = {"guests_before": (DestroyGuest(vm_uuid="vm2"), DestroyGuest(vm_uuid="vm1"))}
            await rig.roll_out(network(), "ended", **ending)
            assert "link-state auto" in treatment(1)
            await rig.roll_out(WITHOUT, "off")
            assert count() == 0

            # the driver refuses: functions that somebody made are not changed, and nothing is half enabled
            (DEVICE / "sriov_numvfs").write_text("2")
            with pytest.raises(HostRefused) as refused:
                await rig.roll_out(network(), "refused")
            refusal = refused.value.refused
            assert (refusal.fault, refusal.subject) == (Fault.FUNCTIONS_FAILED, NIC)
            assert count() == 2
            manual = HostNetwork(bridges=(BRIDGE,), sriov=(SriovNic(device=NIC, mode=FunctionsMode.MANUAL),))
            await rig.roll_out(manual, "manual")
            await rig.roll_out(WITHOUT, "not ours")
            assert count() == 2

    asyncio.run(body())
