"""Debian's own kernel, under software emulation, in a machine with NICs that have virtual functions.

One is an Intel 82576, driver `igb`, which QEMU has from version 8 on (`packaging/qemu-from-backports`): its functions are PCI
devices with the driver `igbvf`, and it switches frames between them. It shares a cable with an ordinary NIC. `netdevsim`, of
the kernel's own making, does what an `igb` cannot. Debian builds it for none of its kernels, so it is built here: its source
from the package linux-source-6.1 against the headers of linux-image-amd64, whose kernel the emulator then runs with this
machine's files, read-only, by 9p. What was downloaded and built stays in `.venv/netdevsim`, by the kernel's version.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kernel import inside
from tests.kernel.machine import Kernel

_REPOSITORY = Path(__file__).resolve().parents[2]
_CACHE = _REPOSITORY / ".venv/netdevsim"
_QEMU = _REPOSITORY / ".venv/qemu/qemu-system-x86_64"
IGB_MAC, WIRE_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
_NICS = (  # a NIC with virtual functions sits in a slot of PCI Express; both ends of its cable are here
    *("-netdev", "hubport,id=igb,hubid=0", "-netdev", "hubport,id=wire,hubid=0"),
    *("-device", "pcie-root-port,id=express,chassis=1"),
    *("-device", f"igb,bus=express,netdev=igb,mac={IGB_MAC},romfile="),
    *("-device", f"virtio-net-pci,netdev=wire,mac={WIRE_MAC},romfile="),
)
_HEADERS = Path("/usr/src")
_SOURCE = "linux-source-6.1"
_MEMORY_MIB = 1536
_BEFORE_ROOT = ("virtio_pci", "9pnet_virtio", "9p")  # what the root file system needs; and they, others
_INIT = """#!/bin/sh
/bin/busybox mount -t proc proc /proc
for module in {modules}; do /bin/busybox insmod /modules/$module || exit 1; done
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose root /root || exit 1
/bin/busybox mount -t devtmpfs dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root {python} {inside} {directory}
"""


def emulated() -> Kernel:
    """The kernel; made the first time, which takes about a minute."""
    assert _QEMU.exists(), "the emulator is missing: run packaging/bootstrap tests"
    place = debian_kernel()
    version = place.name
    with _alone():
        if not (place / "made").exists():
            _make(place, version)
            (place / "made").touch()

    def command(directory: Path) -> tuple[str, ...]:
        initramfs = directory / "initramfs"
        initramfs.write_bytes(_initramfs(place, version, directory))
        shares = {
            "root": ("/", "on"),
            **{tag: (path, "on" if tag == "repository" else "off") for path, tag in tags(directory).items()},
        }
        exported = [
            word
            for tag, (path, readonly) in shares.items()
            for word in (
                "-fsdev",
                f"local,id={tag},path={path},security_model=none,readonly={readonly},multidevs=remap",
                "-device",
                f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
            )
        ]
        return (
            *(str(_QEMU), "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", str(_MEMORY_MIB), "-smp", "1"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", *_NICS),
            *("-kernel", str(place / f"boot/vmlinuz-{version}"), "-initrd", str(initramfs)),
            *("-append", "console=ttyS0 loglevel=4 panic=-1 rdinit=/init mitigations=off iomem=relaxed"),
            *exported,
        )

    return Kernel(
        command=command,
        modules=("netdevsim", "veth", "bridge", "nf_tables", "virtio_net"),
        modules_from=str(place / "lib/modules"),
        filesystem="9p",
        tags=tags,
        switch=False,
    )


def debian_kernel() -> Path:
    """A directory, named after the version, with `boot` and `lib/modules` of Debian's kernel; downloaded the first time."""
    version = _version()
    place = _CACHE / version
    with _alone():
        if not (place / "unpacked").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            _unpack(_download(place, f"linux-image-{version}"), place)
            _run("depmod", "-b", str(place), version)
            (place / "unpacked").touch()
    return place


def tags(directory: Path) -> dict[str, str]:
    """The names of the directories that the machine sees besides the root."""
    return {str(_REPOSITORY): "repository", str(directory): "job"}


def _version() -> str:
    """The newest kernel whose headers are installed."""
    found = sorted(_HEADERS.glob("linux-headers-6.1.*-[0-9]*-amd64"), key=lambda path: path.stat().st_mtime)
    assert found, "the package linux-headers-amd64 is missing: run packaging/bootstrap tests"
    return found[-1].name.removeprefix("linux-headers-")


@contextmanager
def _alone() -> Iterator[None]:
    """Only one process makes the kernel."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(place: Path, version: str) -> None:
    shutil.rmtree(place / "source", ignore_errors=True)
    source = _download(place, _SOURCE)
    extract = f"dpkg-deb --fsys-tarfile {source} | tar -xO ./usr/src/{_SOURCE}.tar.xz | tar -xJ --strip-components=4"
    _run(
        "sh",
        "-c",
        f"mkdir source && {extract} -C source --wildcards '{_SOURCE}/drivers/net/netdevsim/*'",
        cwd=place,
    )
    options = (f"M={place / 'source'}", "CONFIG_NETDEVSIM=m", "modules")
    _run("make", "-s", "-C", str(_HEADERS / f"linux-headers-{version}"), *options)
    shutil.copy(place / "source/netdevsim.ko", place / f"lib/modules/{version}/kernel/drivers/net")
    _run("depmod", "-b", str(place), version)
    source.unlink()


def _download(place: Path, package: str) -> Path:
    words = ("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package)
    try:
        _run(*words, cwd=place)
    except AssertionError:  # the lists are old, and what they name is gone
        _run("apt-get", "update", "-qq")
        _run(*words, cwd=place)
    return _only(place, f"{package}_*.deb")


def _unpack(package: Path, place: Path) -> None:
    _run("dpkg-deb", "-x", str(package), str(place))
    package.unlink()


def _initramfs(place: Path, version: str, directory: Path) -> bytes:
    """A first file system: a shell and the modules with which the machine's root can be mounted."""
    tree = directory / "initramfs.tree"
    for name in ("bin", "modules", "proc", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    modules = []
    for wanted in _BEFORE_ROOT:
        shown = _run("modprobe", "-d", str(place), "-S", version, "--show-depends", wanted)
        for line in shown.splitlines():
            if line.startswith("insmod "):
                path = Path(line.split()[1])
                if path.name not in modules:
                    modules.append(path.name)
                    shutil.copy(path, tree / "modules")
    init = _INIT.format(
        modules=" ".join(modules),
        python=Path(sys.executable).resolve(),
        inside=inside.__file__,
        directory=directory,
    )
    (tree / "init").write_text(init, encoding="ascii")
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["/bin/busybox", "cpio", "-o", "-H", "newc"],
        input=names.encode(),
        cwd=tree,
        capture_output=True,
        check=True,
    ).stdout
    shutil.rmtree(tree)
    return packed


def _only(place: Path, pattern: str) -> Path:
    (found,) = place.glob(pattern)
    return found


def _run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
