"""A tree of devices like the kernel's, made by the test, and NICs that live in it.

No NIC with virtual functions can exist on the machines that run these tests; `tests/kernel` has one of the kernel's own
making. `Tree` answers to a written number of functions as drivers do, also as broken ones do; `Hardware` takes the place of
the kernel's netlink.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from poolnet.hostd.netlink import LinkError
from poolnet.hostd.netlink_functions import FunctionsLink, Treatment
from poolnet.hostd.run import CommandFailed
from poolnet.hostd.sriov.driver_options import DriverOptions
from poolnet.hostd.sriov.functions import Functions
from poolnet.hostd.sriov.sysfs import Sysfs
from poolnet.hostnet.diff import diff
from poolnet.hostnet.state import FunctionsMode, HostNetwork, SriovNic, VirtualFunction

IGB_FILE = """\
# Intel I350, as the installer wrote it
# VFs-param: max_vfs
# VFs-maxvfs-by-default: 7
# VFs-maxvfs-by-user:
options igb max_vfs=0
"""


class Tree(Sysfs):
    """Devices under a directory. A NIC's `fails_after` functions the driver gives up with an error."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.fails_after: dict[str, int] = {}
        self.writes: list[tuple[str, int]] = []
        self._bus = 1

    def add(self, nic: str, driver: str, total: int | None = 0, now: int = 0) -> None:
        """A NIC; `total` None for one that knows no virtual functions at all."""
        address = f"0000:{self._bus:02x}:00.0"
        self._bus += 1
        device = self.root / "bus/pci/devices" / address
        drivers = self.root / "bus/pci/drivers" / driver
        device.mkdir(parents=True)
        drivers.mkdir(parents=True, exist_ok=True)
        (drivers / address).symlink_to(device)
        (device / "driver").symlink_to(drivers)
        net = self.root / "class/net" / nic
        net.mkdir(parents=True)
        (net / "device").symlink_to(device)
        if total is not None:
            (device / "sriov_totalvfs").write_text(f"{total}\n")
            (device / "sriov_numvfs").write_text("0\n")
        self.make(nic, now)

    def make(self, nic: str, count: int) -> None:
        """Somebody, or the driver at boot, lets the NIC have that many functions."""
        device = (self.root / "class/net" / nic / "device").resolve()
        for link in device.glob("virtfn*"):
            function = link.resolve()
            link.unlink()
            for entry in function.iterdir():
                entry.unlink()
            function.rmdir()
        for number in range(count):
            function = device.parent / f"{device.name[:-4]}10.{number}"
            function.mkdir()
            (function / "vendor").write_text("0x8086\n")
            (function / "device").write_text("0x1520\n")
            (function / "physfn").symlink_to(device)
            (device / f"virtfn{number}").symlink_to(function)
        if (device / "sriov_numvfs").exists():
            (device / "sriov_numvfs").write_text(f"{count}\n")

    def plug(self, nic: str) -> None:
        """Somebody plugs its cable in."""
        (self.root / "class/net" / nic / "carrier").write_text("1\n")

    def set_count(self, nic: str, count: int) -> None:
        """As the kernel: from none to some and from some to none, but not from some to others."""
        self.writes.append((nic, count))
        if count and self.count(nic):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        most = self.fails_after.get(nic, count)
        self.make(nic, min(most, count))
        if most < count:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


class Hardware(FunctionsLink):
    """NICs that treat their functions as told, but for the settings in `cannot`."""

    def __init__(self, cannot: Sequence[str] = ()) -> None:
        self.now: dict[tuple[str, int], Treatment] = {}
        self.cannot = set(cannot)
        self.told: list[tuple[str, str, int]] = []

    def read(self, nic: str) -> Mapping[int, Treatment]:
        """Every function that could be; a NIC forgets nothing."""
        return {number: self.now.get((nic, number), Treatment()) for number in range(64)}

    def set_mac(self, nic: str, number: int, mac: str) -> None:
        self._tell("mac", nic, number, mac=mac)

    def set_vlan(self, nic: str, number: int, tag: int) -> None:
        self._tell("vlan", nic, number, vlan_tag=tag)

    def set_rate(self, nic: str, number: int, mbits_per_s: int) -> None:
        self._tell("rate", nic, number, rate_mbits_per_s=mbits_per_s)

    def set_spoof_check(self, nic: str, number: int, *, on: bool) -> None:
        self._tell("spoof-check", nic, number, spoof_checked=on)

    def set_trust(self, nic: str, number: int, *, on: bool) -> None:
        self._tell("trust", nic, number, trusted=on)

    def set_connected(self, nic: str, number: int, *, connected: bool) -> None:
        self._tell("link", nic, number, connected=connected)

    def _tell(self, what: str, nic: str, number: int, **fields: object) -> None:
        if what in self.cannot:
            raise LinkError(f"{nic}: Operation not supported")
        self.told.append((what, nic, number))
        self.now[nic, number] = replace(self.now.get((nic, number), Treatment()), **fields)  # type: ignore[arg-type]


@dataclass
class Rig:
    """A host's virtual functions, its tree, its hardware, and its directory of drivers' options."""

    directory: Path
    tree: Tree = field(init=False)
    hardware: Hardware = field(default_factory=Hardware)
    images: int = 0
    image_fails: bool = False
    lists: tuple[str, ...] = ("igb",)

    def __post_init__(self) -> None:
        self.tree = Tree(self.directory / "sys")
        self.modprobe.mkdir(parents=True)
        self.functions = self.restarted()

    @property
    def modprobe(self) -> Path:
        return self.directory / "modprobe.d"

    def restarted(self) -> Functions:
        """The daemon's part, as it is when the daemon starts."""
        options = DriverOptions(self.modprobe, self.tree, self._is_list, self._image)
        self.functions = Functions(self.directory / "state", self.tree, self.hardware, options)
        return self.functions

    def booted(self, *counts: tuple[str, int]) -> Functions:
        """The host boots: functions and what they were told are gone, but for those that drivers make."""
        for nic in (self.tree.root / "class/net").iterdir():
            self.tree.make(nic.name, dict(counts).get(nic.name, 0))
        self.hardware.now.clear()
        return self.restarted()

    def become(self, *nics: SriovNic, strict: bool = True) -> None:
        """Makes it so, and wants to see it."""
        wanted = HostNetwork(sriov=nics)
        plan = diff(HostNetwork(sriov=self.functions.observe()), wanted)
        asyncio.run(self.functions.apply(plan.steps, strict=strict))
        if strict:
            assert self.functions.observe() == nics

    def write(self, driver: str, text: str) -> Path:
        """A driver's file."""
        path = self.modprobe / f"{driver}.conf"
        path.write_text(text)
        return path

    async def _is_list(self, driver: str, _: str) -> bool:
        return driver in self.lists

    async def _image(self) -> None:
        self.images += 1
        if self.image_fails:
            raise CommandFailed(["update-initramfs"], "no space left")


def nic(device: str, mode: str = "sysfs", *functions: VirtualFunction) -> SriovNic:
    """A NIC with its functions."""
    return SriovNic(device=device, mode=FunctionsMode(mode), functions=functions)
