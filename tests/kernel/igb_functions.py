"""SR-IOV networks on a NIC that has virtual functions, with packets. Runs in the machine of `test_virtual_functions.py`.

The machine is a host of its own: its daemons are those of a real host, and everything is done with `xe`. The NIC is an Intel
82576 that QEMU makes, eth0 here; the other end of its cable is `wire`. What QEMU does not make of it: a limited function sends
as fast as it can, and frames with another MAC pass although the NIC was told to drop them. So what is shown of rates is
what the NIC was told, and of MACs that the driver's register says so and that a guest cannot take another.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from poolnet.hostd.guests.netns import GuestRecord
from tests.kernel.debian_kernel import IGB_MAC, WIRE_MAC
from tests.lab import xe_here
from tests.lab.hostd_rig import Rig
from tests.waiting import until

pytestmark = pytest.mark.lab

NIC, WIRE, MANAGEMENT = "eth0", "wire", "eth1"
TOTAL = 7  # of the driver: the hardware has one more
KERNEL = Path("/mnt/kernel")  # where modules are (see `inside`)
KEPT = Path(os.environ.get("POOLNET_TEST_KEPT", "/nowhere"))  # outlives the machine
NO_MAC = "00:00:00:00:00:00"
SPOOF_REGISTER = 0x3500  # DTXSWC: a bit for each function's MAC, and eight further on for its VLAN
IGB_FILE = """\
## VFs-param: max_vfs
## VFs-maxvfs-by-default: 7
## VFs-maxvfs-by-user: 4
options igb max_vfs=0
"""


def sh(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout + done.stderr


def mac(number: int) -> str:
    return f"02:00:00:00:00:0{number}"


def name_of(address: str) -> str:
    """The NIC with this MAC; bridges have those of their NICs."""
    found = re.findall(rf"^\d+: (\w+):.* link/ether {address} ", sh("ip", "-o", "link"), re.MULTILINE)
    (nic,) = (name for name in found if Path(f"/sys/class/net/{name}/device").exists())
    return str(nic)


def load_driver(options: Path) -> None:
    """Loads the NIC's driver as a boot does, with the options in a directory of modprobe."""
    sh("modprobe", "-r", "igbvf", "igb")
    sh("modprobe", "-d", str(KERNEL), "-C", str(options), "igb")
    sh("modprobe", "igbvf")
    if (name := name_of(IGB_MAC)) != NIC:
        sh("ip", "link", "set", name, "name", NIC)


def cable() -> None:
    """The far end of the NIC's cable, and a NIC for management."""
    sh("ip", "link", "set", name_of(WIRE_MAC), "name", WIRE, "up")
    sh("ip", "link", "add", MANAGEMENT, "type", "veth", "peer", "name", "console")
    sh("ip", "link", "set", "console", "up")
    sh("ip", "link", "set", MANAGEMENT, "up")


class Host:
    """The machine as a host, whose files are below a directory."""

    def __init__(self, directory: Path) -> None:
        self.rig = Rig(directory, ("eth*",), guest_runtime="netns", backend="linuxbridge")
        self.root = self.rig.root
        config = self.root / "etc/poolnet/hostd.toml"
        management = f'[management]\nnic = "{MANAGEMENT}"\nmode = "static"\naddress = "10.99.0.1/24"\n'
        config.write_text(config.read_text() + management)
        (self.root / "etc/modprobe.d").mkdir()
        # This kernel's modules are elsewhere, and it boots from no image.
        programs = directory / "bin"
        programs.mkdir()
        for name, does in (("modinfo", f'exec /sbin/modinfo -b {KERNEL} "$@"'), ("update-initramfs", ":")):
            (programs / name).write_text(f"#!/bin/sh\n{does}\n")
            (programs / name).chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    async def start(self) -> None:
        await self.rig.start_daemon(PATH=self.path)
        await self.rig.start_api()
        await until(lambda: self._try("host-list", "enabled=true", "--minimal") != "")

    async def stop(self) -> None:
        for name in ("api", "hostd"):
            await self.rig.kill(name, signal.SIGTERM)

    def _try(self, *words: str) -> str:
        code, said, _ = xe_here.xe(self.root, *words)
        return said.strip() if code == 0 else ""

    def xe(self, *words: str) -> str:
        code, said, complaints = xe_here.xe(self.root, *words)
        assert code == 0, f"xe {' '.join(words)}: {said}{complaints}"
        return said.strip()

    def refused(self, *words: str) -> str:
        code, said, complaints = xe_here.xe(self.root, *words)
        assert code != 0, f"xe {' '.join(words)}: {said}"
        return said + complaints

    def sriov(self, name: str) -> str:
        (uuid,) = self.xe("network-sriov-list", "--minimal").split(",")
        return self.xe("network-sriov-param-get", f"uuid={uuid}", f"param-name={name}")

    def vm(self, number: int, network: str, kbps: int = 0) -> str:
        """A VM with one VIF, whose MAC ends with its number."""
        vm = self.xe("vm-create", f"name-label=vm{number}")
        self.xe("vm-param-set", f"uuid={vm}", "HVM-boot-policy=BIOS order")
        vif = ("vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0", f"mac={mac(number)}")
        uuid = self.xe(*vif)
        if kbps:
            limit = ("qos_algorithm_type=ratelimit", f"qos_algorithm_params:kbps={kbps}")
            self.xe("vif-param-set", f"uuid={uuid}", *limit)
        return vm

    def pid(self, vm: str) -> int:
        path = self.root / f"run/poolnet/guests/{vm}.json"
        return msgspec.json.decode(path.read_bytes(), type=GuestRecord).pid

    def inside(self, vm: str, *words: str, check: bool = True) -> str:
        return sh("nsenter", "-t", str(self.pid(vm)), "-n", *words, check=check)

    def give_address(self, vm: str, number: int) -> None:
        self.inside(vm, "ip", "address", "add", f"10.7.0.{number}/24", "dev", "eth0")

    async def pings(self, vm: str, number: int) -> bool:
        """Does VM `number` hear and answer? A function's link takes some seconds to come up."""
        await until(lambda: "LOWER_UP" in self.inside(vm, "ip", "link", "show", "eth0"))
        words = ("ping", "-n", "-c", "2", "-i", "0.5", "-W", "4", f"10.7.0.{number}")
        return " 0% packet loss" in self.inside(vm, *words, check=False)


@asynccontextmanager
async def host(directory: Path, kept: Path | None = None) -> AsyncIterator[Host]:
    """The host, with what was kept of its disk."""
    one = Host(directory)
    if kept is not None:
        shutil.copytree(kept, one.root / "var/lib/poolnet")
    try:
        await one.start()
        yield one
    except BaseException:
        for name in ("hostd", "api"):
            print(f"--- {name}\n{one.rig.log(name)[-6000:]}")
        print(sh("dmesg")[-3000:])
        raise
    finally:
        await one.rig.stop()


def count() -> int:
    return int(Path(f"/sys/class/net/{NIC}/device/sriov_numvfs").read_text())


def treatment(number: int) -> str:
    """What `ip link` says of a function."""
    lines = [line.strip() for line in sh("ip", "link", "show", NIC).splitlines()]
    (found,) = (line for line in lines if line.startswith(f"vf {number} "))
    return found


def is_checked(number: int) -> bool:
    """Is the NIC told to drop frames of a function that have another MAC or tag? Its register says."""
    descriptor = os.open(f"/sys/class/net/{NIC}/device/resource0", os.O_RDONLY | os.O_SYNC)
    try:
        with mmap.mmap(descriptor, SPOOF_REGISTER + mmap.PAGESIZE, prot=mmap.PROT_READ) as registers:
            (said,) = struct.unpack_from("<I", registers, SPOOF_REGISTER)
    finally:
        os.close(descriptor)
    return bool(said & (0x101 << number) == 0x101 << number)


@contextmanager
def heard_on_the_wire(frames: Path) -> Iterator[None]:
    """Writes what leaves the NIC to a file meanwhile."""
    words = ("tcpdump", "-n", "-e", "-l", "-U", "-i", WIRE, "arp")
    with frames.open("w") as out, subprocess.Popen(words, stdout=out, stderr=subprocess.PIPE) as listening:
        assert listening.stderr is not None
        while b"listening" not in listening.stderr.readline():
            pass
        try:
            yield
        finally:
            listening.terminate()


def vlans(one: Host, tags: Sequence[int]) -> list[str]:
    """Networks with VLANs on the NIC's functions."""
    made = []
    for tag in tags:
        made.append(one.xe("network-create", f"name-label=vlan{tag}"))
        logical = one.sriov("logical-PIF")
        one.xe("vlan-create", f"pif-uuid={logical}", f"vlan={tag}", f"network-uuid={made[-1]}")
    return made


def test_guests_speak_through_functions_and_give_them_back(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    cable()
    load_driver(tmp_path / "none")

    async def body() -> None:
        async with host(tmp_path) as one:
            select = (f"device={NIC}", "physical=true")
            pif = one.xe("pif-list", *select, "--minimal")
            assert one.xe("pif-param-get", f"uuid={pif}", "param-name=capabilities") == "sriov"
            network = one.xe("network-create", "name-label=fast")
            one.xe("network-sriov-create", f"network-uuid={network}", f"pif-uuid={pif}")
            assert count() == TOTAL
            assert one.sriov("remaining-capacity") == str(TOTAL)
            assert (one.sriov("configuration-mode"), one.sriov("requires-reboot")) == ("sysfs", "false")
            seven, eight = vlans(one, (7, 8))

            first, second, third = one.vm(1, seven, kbps=12500), one.vm(2, seven), one.vm(3, eight)
            for number, vm in enumerate((first, second, third), start=1):
                one.xe("vm-start", f"uuid={vm}")
                one.give_address(vm, number)
            assert one.sriov("remaining-capacity") == str(TOTAL - 3)
            for number, tag in ((0, 7), (1, 7), (2, 8)):
                assert f"link/ether {mac(number + 1)} " in treatment(number)
                assert f", vlan {tag}," in treatment(number)
                assert "spoof checking on, link-state auto, trust off" in treatment(number)
                assert is_checked(number)
            # The NIC starts anew when it gets functions, and takes no rate until it has a link again.
            await until(lambda: "max_tx_rate 103Mbps" in treatment(0))

            frames = tmp_path / "frames"
            with heard_on_the_wire(frames):
                assert await one.pings(first, 2)
                assert await one.pings(second, 1)
                assert not await one.pings(first, 3)  # another VLAN
                assert not await one.pings(third, 1)
                await until(lambda: "vlan 8," in frames.read_text())
            tagged = re.findall(r"(\S+) > ff:ff:ff:ff:ff:ff, .* vlan (\d+),", frames.read_text())
            assert (
                {(mac(1), "7"), (mac(3), "8")} <= set(tagged) <= {(mac(1), "7"), (mac(2), "7"), (mac(3), "8")}
            )

            # a guest keeps its MAC, and neither sees nor leaves its VLAN
            one.inside(first, "ip", "link", "set", "eth0", "down")
            said = one.inside(first, "ip", "link", "set", "eth0", "address", mac(9), check=False)
            assert "Cannot assign requested address" in said
            one.inside(first, "ip", "link", "set", "eth0", "up")
            assert f"link/ether {mac(1)} " in one.inside(first, "ip", "link", "show", "eth0")
            assert await one.pings(first, 2)

            # somebody changes functions: the daemon puts them back
            sh("ip", "link", "set", NIC, "vf", "1", "vlan", "8")
            sh("ip", "link", "set", NIC, "vf", "1", "spoofchk", "off")
            await until(lambda: ", vlan 7, spoof checking on," in treatment(1))
            assert is_checked(1)

            # what the NIC cannot hold: a rate above its own, which is told of, and a link that is down, which is refused
            vif = one.xe("vif-list", f"vm-uuid={second}", "--minimal")
            limit = ("qos_algorithm_type=ratelimit", "qos_algorithm_params:kbps=250000")
            one.xe("vif-param-set", f"uuid={vif}", *limit)
            await until(lambda: one.xe("message-list", "name=VIF_QOS_FAILED", "--minimal") != "")
            assert "cannot limit virtual function" in one.xe("message-list", "params=body", "--minimal")
            fourth = one.vm(4, seven)
            vif = one.xe("vif-list", f"vm-uuid={fourth}", "--minimal")
            one.xe("vif-param-set", f"uuid={vif}", "locking-mode=disabled")
            assert "cannot be prepared" in one.refused("vm-start", f"uuid={fourth}")
            assert f"link/ether {NO_MAC} " in treatment(3)
            one.xe("vif-param-set", f"uuid={vif}", "locking-mode=unlocked")

            # a guest that crashes, and one that is ended
            os.kill(one.pid(first), signal.SIGKILL)
            one.xe("vm-shutdown", f"uuid={second}", "force=true")
            state = ("vm-param-get", f"uuid={first}", "param-name=power-state")
            await until(lambda: one.xe(*state) == "halted")
            await until(lambda: f"link/ether {NO_MAC} " in treatment(0))
            for number in (0, 1):
                assert f"link/ether {NO_MAC} " in treatment(number)
                assert "vlan" not in treatment(number)
                assert "rate" not in treatment(number)
                assert is_checked(number)
            assert one.sriov("remaining-capacity") == str(TOTAL - 1)
            one.xe("vm-start", f"uuid={fourth}")  # with the function of another, now its own
            one.give_address(fourth, 4)
            assert f"link/ether {mac(4)} " in treatment(0)
            assert not await one.pings(fourth, 3)

            # the power is cut while two VMs run
            for name in ("api", "hostd"):
                await one.rig.kill(name, signal.SIGKILL)
            shutil.copytree(one.root / "var/lib/poolnet", KEPT)

    asyncio.run(body())


def test_functions_are_there_again_after_a_boot(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    cable()
    load_driver(tmp_path / "none")
    assert count() == 0

    async def body() -> None:
        async with host(tmp_path, KEPT) as one:
            assert count() == TOTAL
            await until(lambda: one.sriov("remaining-capacity") == str(TOTAL))
            third, fourth = (one.xe("vm-list", f"name-label=vm{n}", "--minimal") for n in (3, 4))
            assert one.xe("vm-param-get", f"uuid={fourth}", "param-name=power-state") == "halted"
            one.xe("vm-start", f"uuid={fourth}")
            assert f"link/ether {mac(4)} " in treatment(0)
            assert ", vlan 7," in treatment(0)
            sriov = one.xe("network-sriov-list", "--minimal")
            assert "VLAN" in one.refused("network-sriov-destroy", f"uuid={sriov}")
            one.xe("vm-shutdown", f"uuid={fourth}", "force=true")
            for tag in (7, 8):
                one.xe("vlan-destroy", "uuid=" + one.xe("vlan-list", f"tag={tag}", "--minimal"))
            one.xe("network-sriov-destroy", f"uuid={sriov}")
            assert count() == 0

            # the same NIC by its driver's option, as the manual has it
            options = one.root / "etc/modprobe.d"
            (options / "igb.conf").write_text(IGB_FILE)
            network = one.xe("network-list", "name-label=fast", "--minimal")
            pif = one.xe("pif-list", f"device={NIC}", "physical=true", "--minimal")
            one.xe("network-sriov-create", f"network-uuid={network}", f"pif-uuid={pif}")
            assert (options / "igb.conf").read_text() == IGB_FILE.replace("max_vfs=0", "max_vfs=4")
            assert (one.sriov("configuration-mode"), one.sriov("requires-reboot")) == ("modprobe", "true")
            assert count() == 0
            vif = one.xe("vif-list", f"vm-uuid={third}", "--minimal")
            one.xe("vif-move", f"uuid={vif}", f"network-uuid={network}")
            one.refused("vm-start", f"uuid={third}")

            # that boot: the daemons end, and the driver is loaded with its option
            await one.stop()
            load_driver(options)
            assert count() == 4
            await one.start()
            assert one.sriov("requires-reboot") == "false"
            await until(lambda: one.sriov("remaining-capacity") == "4")
            one.xe("vm-start", f"uuid={third}")
            assert f"link/ether {mac(3)} " in treatment(0)
            assert f"link/ether {mac(3)} " in one.inside(third, "ip", "link", "show", "eth0")
            one.xe("vm-shutdown", f"uuid={third}", "force=true")
            one.xe("network-sriov-destroy", "uuid=" + one.xe("network-sriov-list", "--minimal"))
            assert (options / "igb.conf").read_text() == IGB_FILE
            assert count() == 4  # until the next boot

    asyncio.run(body())
