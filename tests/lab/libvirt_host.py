"""A lab host with a libvirt of its own, and guests that are virtual machines: QEMU without KVM, Debian's kernel, a shell.

Nothing of it is the machine's: the daemon has the lab host's /etc, /run, /var/lib and /var/log, and a /var/cache that only it
sees. Its guests' consoles are sockets, where a shell reads commands.
"""

from __future__ import annotations

import lzma
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolnet.lab import machine
from tests.kernel.debian_kernel import debian_kernel
from tests.lab.running import RunningLab
from tests.waiting import PATIENCE, eventually

HOST = "host1"
USER = "libvirt-qemu"  # which Debian's package of the system daemon makes, and libvirt looks for at its start
_XZ = b"\xfd7zXZ\x00"
_MODULES = ("virtio_pci", "virtio_net", "button", "evdev")
_MEMORY_MIB = 160
_BOOTS_WITHIN_S = 90.0 * PATIENCE
_ANSWERS_WITHIN_S = 30.0 * PATIENCE
_READY = "the guest is ready"
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in {{modules}}; do insmod /modules/$module; done
printf '#!/bin/sh\\npoweroff -f\\n' >/etc/acpi/PWRF/00000080; chmod +x /etc/acpi/PWRF/00000080
acpid -l /dev/null
ip link set lo up
stty -echo
echo {_READY}
exec setsid cttyhack sh
"""
_QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
_LIBVIRTD_CONF = 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n'
_LIBVIRTD = """
mount -t tmpfs none /var/cache && mkdir /var/cache/libvirt
mount --bind /var/lib/libvirt/cache /var/cache/libvirt && exec libvirtd
"""


class LibvirtHost:
    """`host1` of a lab, with its libvirt."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.directory = lab.lab.directory / HOST
        self._boot = self.directory / "var-lib/libvirt/boot"
        self._libvirtd: subprocess.Popen[bytes] | None = None

    def virsh(self, *words: str, check: bool = True) -> str:
        """What libvirt's own client says."""
        return self.lab.run(HOST, "virsh", "-q", "-c", "qemu:///system", *words, check=check).strip()

    def define(self, name: str, mac: str) -> str:
        """A domain with an interface of its own, on a network that is none of poolnet's; its uuid."""
        xml = self.directory / "run" / f"{name}.xml"
        xml.write_text(self._definition(name, mac))
        self.virsh("define", "--validate", f"/run/{name}.xml")
        return self.virsh("domuuid", name)

    def domain(self, name: str) -> str:
        """Its state, as libvirt says."""
        return self.virsh("domstate", name, check=False)

    def pid(self, name: str) -> int:
        """Its process, in the host's own numbers."""
        return int((self.directory / f"run/libvirt/qemu/{name}.pid").read_text())

    def console(self, name: str) -> Console:
        """The shell in a guest that runs, as soon as it is there."""
        return Console(self.directory / f"run/{name}.console")

    def start_libvirt(self) -> None:
        """Starts libvirt's daemon, and waits until it serves."""
        entering = machine.entering(self.lab.lab.host(HOST).pid)
        with (self.directory / "var-log/libvirtd.log").open("ab") as log:
            self._libvirtd = subprocess.Popen(
                (*entering, "unshare", "--mount", "sh", "-c", _LIBVIRTD),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: bool(self.virsh("uri", check=False)), "libvirt does not serve")

    def end_libvirt(self) -> None:
        """Ends libvirt's daemon; its guests go on."""
        if self._libvirtd is not None:
            self.lab.run(HOST, "pkill", "-x", "libvirtd", check=False)
            self._libvirtd.wait(30)
            self._libvirtd = None

    @contextmanager
    def nobody_moves(self) -> Iterator[None]:
        """Neither libvirt's daemon nor poolnet's does anything."""
        assert self._libvirtd is not None
        hanging = "^libvirtd|bin/poolnet-hostd"
        self.lab.run(HOST, "pkill", "-STOP", "-f", hanging)
        try:
            yield
        finally:
            self.lab.run(HOST, "pkill", "-CONT", "-f", hanging)
            self._libvirtd.send_signal(signal.SIGCONT)  # `nsenter` stops with what it has started

    def restart_daemon(self) -> None:
        """Kills poolnet's daemon; the host starts it again."""
        before = self._daemon()
        self.lab.run(HOST, "kill", "-9", before)
        eventually(lambda: self._daemon() not in ("", before), "the daemon has not come back")
        eventually(lambda: self._answers(), "the daemon does not serve")

    def links(self) -> set[str]:
        """The host ends that are there."""
        listed = self.lab.run(HOST, "ip", "-brief", "link").splitlines()
        return {line.split()[0] for line in listed if line.startswith("vif")}

    def ports(self) -> set[str]:
        """The host ends that Open vSwitch has."""
        listed = self.lab.run(HOST, "ovs-vsctl", "--bare", "--columns=name", "list", "Interface").split()
        return {name for name in listed if name.startswith("vif")}

    def log(self) -> str:
        """What poolnet's daemon has logged."""
        return (self.directory / "var-log/poolnet-hostd.log").read_text()

    def _answers(self) -> bool:
        socket_path = self.directory / "run/poolnet/hostd.sock"
        with socket.socket(socket.AF_UNIX) as asking:
            if asking.connect_ex(str(socket_path)) != 0:
                return False
        vms = self.lab.run(HOST, "xe", "host-list", "params=enabled", "--minimal", check=False)
        return vms.strip() == "true"

    def _daemon(self) -> str:
        return self.lab.run(HOST, "pgrep", "-o", "-f", "poolnet-hostd", check=False).strip()

    def prepare(self) -> None:
        """Puts everything in its place, has poolnet's daemon use it, and makes what guests boot."""
        etc = self.directory / "etc"
        for name, line in (
            ("passwd", f"{USER}:x:64055:64055::/:/usr/sbin/nologin"),
            ("group", f"{USER}:x:64055:"),
        ):
            text = Path("/etc", name).read_text()
            (etc / name).unlink()
            (etc / name).write_text(text if f"{USER}:" in text else f"{text}{line}\n")
        hosts = etc / "hosts"  # libvirt asks for its host's name, and would wait for a name server
        hosts.write_text(f"{hosts.read_text()}127.0.1.1 {HOST}\n")
        _own(etc / "libvirt")
        (etc / "libvirt/qemu.conf").write_text(_QEMU_CONF)
        (etc / "libvirt/libvirtd.conf").write_text(_LIBVIRTD_CONF)
        _own(self.directory / "var-lib/libvirt")
        (self.directory / "var-lib/libvirt/cache").mkdir()
        self._boot.mkdir()
        _make_kernel(self._boot / "vmlinux")
        (self._boot / "initramfs").write_bytes(_initramfs(self.directory / "var-tmp"))
        toml = etc / "poolnet/hostd.toml"
        text = toml.read_text().replace('guest_runtime = "netns"', 'guest_runtime = "libvirt"')
        toml.write_text(text + '\n[libvirt]\nhypervisor = "qemu"\ndomains = ["guest-*"]\n')

    def _definition(self, name: str, mac: str) -> str:
        boot = "/var/lib/libvirt/boot"
        return f"""<domain type="qemu">
  <name>{name}</name>
  <memory unit="MiB">{_MEMORY_MIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch="x86_64" machine="pc">hvm</type>
    <kernel>{boot}/vmlinux</kernel>
    <initrd>{boot}/initramfs</initrd>
    <cmdline>console=ttyS0 loglevel=3 panic=-1 rdinit=/init mitigations=off</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <interface type="user">
      <mac address="{mac}"/>
      <model type="virtio"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x0a" function="0x0"/>
    </interface>
    <serial type="unix"><source mode="bind" path="/run/{name}.console"/></serial>
    <memballoon model="none"/>
  </devices>
</domain>
"""


class Console:
    """A guest's serial line, with a shell at the other end."""

    def __init__(self, path: Path) -> None:
        eventually(path.exists, f"no console {path}")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._said = ""
        self._commands = 0

    def ready(self) -> Console:
        """Itself, once the guest has booted."""
        self._until(_READY, _BOOTS_WITHIN_S)
        return self

    def run(self, command: str, within_s: float = _ANSWERS_WITHIN_S) -> str:
        """What a command writes. Raises AssertionError when it fails or does not end."""
        code, said = self.tries(command, within_s)
        assert code == 0, f"{command}: {said}"
        return said

    def tries(self, command: str, within_s: float = _ANSWERS_WITHIN_S) -> tuple[int, str]:
        """The exit status of a command, and what it writes."""
        self._commands += 1
        begin, end = f"begin-{self._commands}-", f"end-{self._commands}-"
        # Neither mark is in what is typed, which a shell may show.
        self.send(f"echo be''gin-{self._commands}-; {{ {command}; }} 2>&1; echo e''nd-{self._commands}-$?.\n")
        self._until(begin, within_s)
        said = self._until(f"{end}", within_s)
        return int(self._until(".", within_s)), said.removeprefix("\r\n").replace("\r", "")

    def pings(self, address: str) -> bool:
        """Whether an address answers the guest."""
        return self.tries(f"ping -c 1 -W 5 {address}")[0] == 0

    def send(self, text: str) -> None:
        """Types."""
        self._socket.sendall(text.encode())

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def _until(self, mark: str, within_s: float) -> str:
        """What is said before the mark."""
        deadline = time.monotonic() + within_s
        while mark not in self._said:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"the guest did not say {mark!r}: {self._said[-2000:]}"
            self._socket.settimeout(left_s)
            try:
                heard = self._socket.recv(4096)
            except TimeoutError:
                continue
            assert heard, f"the guest has gone: {self._said[-2000:]}"
            self._said += heard.decode(errors="replace")
        before, _, self._said = self._said.partition(mark)
        return before


@contextmanager
def libvirt_host(lab: RunningLab) -> Iterator[LibvirtHost]:
    """The only host of a lab, with a libvirt that runs, and ends before the lab does."""
    host = LibvirtHost(lab)
    host.prepare()
    try:
        host.start_libvirt()
        host.restart_daemon()
        yield host
    finally:
        for name in host.virsh("list", "--name", check=False).split():
            host.virsh("destroy", name, check=False)
        host.end_libvirt()


def _own(directory: Path) -> None:
    """An empty directory instead of the link to the machine's, if that has one."""
    directory.unlink(missing_ok=True)
    directory.mkdir()


def _make_kernel(path: Path) -> None:
    """Debian's kernel as it is when its own start has unpacked it, which takes QEMU half of a boot."""
    kernel = debian_kernel()
    cached = kernel / "vmlinux"
    if not cached.exists():
        packed = (kernel / f"boot/vmlinuz-{kernel.name}").read_bytes()
        new = cached.with_name(f"vmlinux.{os.getpid()}")
        new.write_bytes(lzma.LZMADecompressor().decompress(packed[packed.index(_XZ) :]))
        new.rename(cached)
    try:
        path.hardlink_to(cached)
    except OSError:  # on another file system
        shutil.copy(cached, path)


def _initramfs(scratch: Path) -> bytes:
    kernel = debian_kernel()
    tree = scratch / "initramfs.tree"
    for name in ("bin", "modules", "proc", "sys", "dev", "etc/acpi/PWRF", "var/log", "var/run"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    modules: list[str] = []
    for wanted in _MODULES:
        words = ("modprobe", "-d", str(kernel), "-S", kernel.name, "--show-depends", wanted)
        for line in subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines():
            path = Path(line.split()[1])
            if line.startswith("insmod ") and path.name not in modules:
                modules.append(path.name)
                shutil.copy(path, tree / "modules")
    (tree / "init").write_text(_INIT.format(modules=" ".join(modules)))
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    pack = ("/bin/busybox", "cpio", "-o", "-H", "newc")
    packed = subprocess.run(pack, input=names.encode(), cwd=tree, capture_output=True, check=True).stdout
    shutil.rmtree(tree)
    return packed
