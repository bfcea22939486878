"""Virtual machines of libvirt as guests: the real libvirt, QEMU without KVM, and a kernel that boots in them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolnet.hostd.guests.domain_xml import fresh
from poolnet.hostnet import protocol
from poolnet.pool.hostlink import HostLink
from tests.golden import test_libvirt as golden
from tests.lab.libvirt_host import HOST, Console, LibvirtHost, libvirt_host
from tests.lab.pools import xe
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

FIRST, SECOND, FORGED = "10.8.0.1", "10.8.0.2", "10.8.0.66"
ALWAYS_NS = 1 << 62
MACS = ("52:54:00:08:00:01", "52:54:00:08:00:02")


class Guests:
    """Two VMs that talk, `guest-one` and `second`, which is the domain guest-two, and the consoles of their guests."""

    def __init__(self, host: LibvirtHost) -> None:
        self.host = host
        self.lab = host.lab
        self.network = self.lab.xe(HOST, "network-create", "name-label=talk")
        for name, mac in zip(("guest-one", "guest-two"), MACS, strict=True):
            host.define(name, mac)
        self.one = self._vm("guest-one", "guest-one")
        self.two = self._vm("second", "guest-two")
        self.lab.xe(HOST, "vm-param-set", f"uuid={self.two}", "other-config:libvirt-domain=guest-two")
        vif = self.lab.xe(HOST, "vif-list", f"vm-uuid={self.one}", "--minimal")
        for words in ("locking-mode=locked", f"ipv4-allowed={FIRST}"):
            self.lab.xe(HOST, "vif-param-set", f"uuid={vif}", words)
        self.consoles: dict[str, Console] = {}

    def start(self) -> None:
        for vm, name in ((self.one, "guest-one"), (self.two, "guest-two")):
            self.lab.xe(HOST, "vm-start", f"uuid={vm}")
            self.consoles[name] = self.host.console(name)
        for console, address in zip(self.consoles.values(), (FIRST, SECOND), strict=True):
            console.ready().run(f"ip link set eth0 up; ip address add {address}/24 dev eth0")

    def _vm(self, name: str, domain: str) -> str:
        """As the guide has it: a VM whose VIF has the MAC of the domain's own interface."""
        vm = self.lab.xe(HOST, "vm-create", f"name-label={name}")
        mac = self.host.virsh("domiflist", "--inactive", domain).split()[-1]
        on = (f"network-uuid={self.network}", "device=0", f"mac={mac}")
        self.lab.xe(HOST, "vif-create", f"vm-uuid={vm}", *on)
        return vm

    @property
    def first(self) -> Console:
        return self.consoles["guest-one"]

    @property
    def second(self) -> Console:
        return self.consoles["guest-two"]

    def state(self, vm: str) -> str:
        return self.lab.xe(HOST, "vm-list", f"uuid={vm}", "params=power-state", "--minimal")

    def device(self, vm: str, number: int = 0) -> str:
        domid = self.lab.xe(HOST, "vm-param-get", f"uuid={vm}", "param-name=dom-id")
        return f"vif{domid}.{number}"


@pytest.fixture(scope="module")
def guests() -> Iterator[Guests]:
    with running_lab(hosts=1, nics=1, backend="openvswitch") as lab, libvirt_host(lab) as host:
        two = Guests(host)
        try:
            two.start()
            yield two
        finally:
            for console in two.consoles.values():
                console.close()


def test_they_reach_each_other_and_the_lock_holds(guests: Guests) -> None:
    assert guests.first.pings(SECOND)
    assert guests.second.pings(FIRST)
    guests.first.run(f"ip address add {FORGED}/24 dev eth0")
    assert guests.first.tries(f"ping -c 1 -W 1 -I {FORGED} {SECOND}")[0] != 0
    assert guests.second.tries(f"ping -c 1 -W 1 {FORGED}")[0] != 0
    guests.first.run(f"ip address del {FORGED}/24 dev eth0")
    assert guests.first.pings(SECOND)


def test_a_domain_runs_with_the_nics_that_poolnet_says_where_its_own_were(guests: Guests) -> None:
    running = guests.host.virsh("dumpxml", "guest-one")
    assert "<interface type='user'>" not in running
    assert f"dev='{guests.device(guests.one)}' managed='no'" in running
    assert "0000:00:0a.0" in guests.first.run(
        "readlink -f /sys/class/net/eth0/device"
    )  # its place on the bus
    assert MACS[0] in guests.first.run("cat /sys/class/net/eth0/address")
    defined = guests.host.virsh("dumpxml", "--inactive", "guest-one")
    assert "<interface type='user'>" in defined  # it is not changed
    assert "vif" not in defined
    # What the switch in user space cannot repair is not sent.
    features = guests.first.run("cat /sys/class/net/eth0/device/features").strip()
    assert features[0] == "0"  # VIRTIO_NET_F_CSUM


def test_a_vif_is_plugged_and_unplugged_while_its_guest_runs(guests: Guests) -> None:
    words = (f"vm-uuid={guests.two}", f"network-uuid={guests.network}", "device=1")
    vif = guests.lab.xe(HOST, "vif-create", *words)
    guests.lab.xe(HOST, "vif-plug", f"uuid={vif}")
    mac = guests.lab.xe(HOST, "vif-param-get", f"uuid={vif}", "param-name=MAC")
    device = guests.device(guests.two, 1)
    assert device in guests.host.ports()
    eventually(lambda: mac in guests.second.tries("cat /sys/class/net/eth1/address")[1])
    guests.second.run("ip address del 10.8.0.2/24 dev eth0; ip link set eth0 down; ip link set eth1 up")
    guests.second.run("ip address add 10.8.0.2/24 dev eth1")
    assert guests.second.pings(FIRST)
    guests.second.run("ip address del 10.8.0.2/24 dev eth1; ip link set eth1 down; ip link set eth0 up")
    guests.second.run("ip address add 10.8.0.2/24 dev eth0")
    guests.lab.xe(HOST, "vif-unplug", f"uuid={vif}")
    assert guests.second.tries("ls -d /sys/class/net/eth1")[0] != 0
    assert device not in guests.host.ports() | guests.host.links()
    guests.lab.xe(HOST, "vif-destroy", f"uuid={vif}")
    assert guests.second.pings(FIRST)


def test_a_daemon_that_starts_again_finds_its_guests_and_touches_none(guests: Guests) -> None:
    before = {name: guests.host.pid(name) for name in guests.consoles}
    ports = guests.host.ports()
    guests.host.restart_daemon()
    assert {name: guests.host.pid(name) for name in guests.consoles} == before
    assert guests.host.ports() == ports
    assert [guests.state(vm) for vm in (guests.one, guests.two)] == ["running", "running"]
    assert guests.first.pings(SECOND)


def test_one_that_is_suspended_goes_on_where_it_was(guests: Guests) -> None:
    guests.first.run("touch /remembered")
    guests.lab.xe(HOST, "vm-suspend", f"uuid={guests.one}")
    assert guests.host.domain("guest-one") == "shut off"
    assert guests.state(guests.one) == "suspended"
    guests.consoles["guest-one"].close()
    guests.lab.xe(HOST, "vm-resume", f"uuid={guests.one}")
    guests.consoles["guest-one"] = guests.host.console("guest-one")
    guests.first.run("ls /remembered")
    assert guests.first.pings(SECOND)


def test_one_that_runs_on_libvirt_stays_on_its_host(guests: Guests) -> None:
    metrics = guests.lab.xe(HOST, "vm-param-get", f"uuid={guests.one}", "param-name=nomigrate")
    assert metrics == "true"
    assert guests.lab.xe(HOST, "vm-pause", f"uuid={guests.one}") == ""
    assert guests.host.domain("guest-one") == "paused"
    guests.lab.xe(HOST, "vm-unpause", f"uuid={guests.one}")
    assert guests.first.pings(SECOND)


def test_one_that_shuts_down_from_within_is_halted_and_leaves_nothing(guests: Guests) -> None:
    device = guests.device(guests.two)
    guests.second.send("poweroff -f\n")
    eventually(lambda: guests.state(guests.two) == "halted", "the VM is not halted")
    eventually(lambda: device not in guests.host.ports() | guests.host.links(), "its port is left")
    assert (
        guests.lab.xe(HOST, "vif-list", f"vm-uuid={guests.two}", "params=currently-attached", "--minimal")
        == "false"
    )


def test_a_domain_that_somebody_else_started_is_refused(guests: Guests) -> None:
    """Its own network would be one that no lock is on."""
    links = guests.host.links()
    guests.host.virsh("start", "--paused", "guest-two")
    code, said = xe(guests.lab, HOST, "vm-start", f"uuid={guests.two}")
    assert code == 1
    assert "runs already" in said
    assert guests.state(guests.two) == "halted"
    assert guests.host.links() == links
    guests.host.virsh("destroy", "guest-two")


def test_one_that_is_asked_to_shut_down_does(guests: Guests) -> None:
    guests.lab.xe(HOST, "vm-shutdown", f"uuid={guests.one}")
    assert guests.state(guests.one) == "halted"
    assert guests.host.domain("guest-one") == "shut off"
    assert guests.host.ports() | guests.host.links() == set()


def test_one_that_is_rebooted_is_another_domain_of_the_same_definition(guests: Guests) -> None:
    guests.lab.xe(HOST, "vm-start", f"uuid={guests.one}")
    before = guests.device(guests.one)
    guests.lab.xe(HOST, "vm-reboot", f"uuid={guests.one}", "--force")
    after = guests.device(guests.one)
    assert after != before
    assert guests.host.ports() == guests.host.links() == {after}
    assert guests.host.domain("guest-one") == "running"
    guests.lab.xe(HOST, "vm-shutdown", f"uuid={guests.one}", "--force")
    assert guests.host.ports() | guests.host.links() == set()


def test_a_vm_without_a_domain_boots_from_its_network(guests: Guests) -> None:
    """It asks for an address as a NIC's firmware does. What becomes of it while libvirt's daemon is away is known after."""
    vm = guests.lab.xe(HOST, "vm-create", "name-label=bare")
    mac = "52:54:00:08:00:03"
    words = (f"vm-uuid={vm}", f"network-uuid={guests.network}", "device=0", f"mac={mac}")
    guests.lab.xe(HOST, "vif-create", *words)
    guests.lab.xe(HOST, "vm-start", f"uuid={vm}")
    device = guests.device(vm)
    listening = ("timeout", "60", "tcpdump", "-l", "-nn", "-c", "1", "-i", device, "udp dst port 67")
    assert "BOOTP/DHCP, Request from 52:54:00:08:00:03" in guests.lab.run(HOST, *listening)
    vif = guests.lab.xe(HOST, "vif-list", f"vm-uuid={vm}", "--minimal")
    guests.lab.xe(HOST, "vif-unplug", f"uuid={vif}", "--force")  # what is in its firmware lets nothing go
    assert guests.host.ports() | guests.host.links() == set()
    pid = str(guests.host.pid(f"poolnet-{vm}"))
    guests.host.end_libvirt()
    guests.lab.run(HOST, "kill", "-9", pid)
    code, said = xe(guests.lab, HOST, "vm-start", f"uuid={guests.one}")
    assert code == 1
    assert "cannot be reached" in said
    guests.host.start_libvirt()
    eventually(lambda: guests.state(vm) == "halted", "the VM is not halted")


def test_a_host_without_a_lease_ends_its_machines_with_libvirt_and_daemon_hanging(guests: Guests) -> None:
    """What the guard asks is the kernel: the process of QEMU ends, and its tap is down, before anybody else moves."""
    lab, host = guests.lab, guests.host
    vm = lab.xe(HOST, "vm-create", "name-label=guarded")
    words = (f"vm-uuid={vm}", f"network-uuid={guests.network}", "device=0")
    lab.xe(HOST, "vif-create", *words)
    lab.xe(HOST, "vm-start", f"uuid={vm}")
    pid, device = str(host.pid(f"poolnet-{vm}")), guests.device(vm)
    assert "UP" in flags(lab, device)

    def runs() -> bool:
        return bool(lab.run(HOST, "ps", "-o", "pid=", "-p", pid, check=False))

    asyncio.run(tell(host, protocol.HoldLease(generation="g", seconds=3600.0, until_ns=ALWAYS_NS)))
    eventually(lambda: "fence_guard" in lab.run(HOST, "ps", "-eo", "args"), "nobody guards it")
    with host.nobody_moves():
        assert runs()
        (host.directory / "run/poolnet/lease.json").write_text('{"until_ns": 1}')
        eventually(lambda: not runs(), "QEMU is not ended")
        assert "UP" not in flags(lab, device)
    eventually(lambda: guests.state(vm) == "halted", "the VM is not halted")
    code, said = xe(lab, HOST, "vm-start", f"uuid={vm}")
    assert code == 1
    assert "lease" in said
    asyncio.run(tell(host, protocol.DropLease()))
    lab.xe(HOST, "vm-start", f"uuid={vm}")
    assert "UP" in flags(lab, guests.device(vm))
    lab.xe(HOST, "vm-shutdown", f"uuid={vm}", "--force")


def flags(lab: RunningLab, device: str) -> set[str]:
    """The flags of an interface."""
    shown = lab.run(HOST, "ip", "-o", "link", "show", device)
    return set(shown.partition("<")[2].partition(">")[0].split(","))


async def tell(host: LibvirtHost, command: protocol.Command) -> None:
    """Tells the daemon something of the host's lease."""
    link = HostLink(host.directory / "run/poolnet/hostd.sock")
    await link.request(command, protocol.FenceState)
    await link.close()


def test_libvirt_takes_what_it_is_told_of_virtual_functions(guests: Guests) -> None:
    """Checked by libvirt itself against its schema; no machine without an IOMMU can start them."""
    defined = (golden.FOLDER / "defined.xml").read_text().replace('type="kvm"', 'type="qemu"')
    made = {"web1": defined, f"poolnet-{golden.UUID}": fresh(golden.GUEST, "qemu", offloads=True)}
    for name, xml in made.items():
        (guests.host.directory / "run/taken.xml").write_text(xml)
        guests.host.virsh("define", "--validate", "/run/taken.xml")
        taken = guests.host.virsh("dumpxml", name)
        assert "<interface type='hostdev' managed='yes'>" in taken
        assert "<address type='pci' domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/>" in taken
        assert "<tag id='7'/>" in taken
        assert f'vm="{golden.UUID}" domid="12"' in taken.replace("'", '"')
        guests.host.virsh("undefine", name)
    assert guests.host.virsh("list", "--all", "--name").split() == ["guest-one", "guest-two"]


_SILENT = """
import asyncio, sys
from pathlib import Path
from poolnet.hostd.guests.domains import LibvirtRuntime
from poolnet.hostd.guests.libvirt_link import Link
from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostnet.protocol import CreateGuest, GuestSpec

async def main(where: Path) -> None:
    link = Link(f"qemu+unix:///system?socket={where}/silent")
    runtime = LibvirtRuntime(link, "kvm", ("*",), where / "run", where / "state")
    await runtime.open(lambda: None)
    try:
        await runtime.carry_out(CreateGuest(guest=GuestSpec(vm_uuid="vm", name="vm", domid=1)))
    except GuestError as error:
        print(error)
    print(runtime.guests())
    await runtime.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_libvirt_that_does_not_answer_holds_nothing_up(tmp_path: Path) -> None:
    """As at boot, when systemd holds the socket of a daemon that is to start after ours. Nothing waits for it at the end."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        words = (sys.executable, "-c", _SILENT, str(tmp_path))
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "cannot be reached: it has not answered yet" in done.stdout
    assert done.stdout.endswith("()\n")
