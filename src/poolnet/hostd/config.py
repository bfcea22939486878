"""What has the administrator decided about this host's daemon? The file `hostd.toml`, read once at start."""

from __future__ import annotations

import os
import re
import stat
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Literal

import msgspec

from poolnet.hostd.checkpoint import write_durably
from poolnet.hostnet.protocol import Management
from poolnet.hostnet.state import IpConfig, Ipv4Mode

ROOT_VARIABLE = "POOLNET_ROOT"
SWITCH_VARIABLE = "OVS_RUNDIR"
SYSFS_VARIABLE = "POOLNET_SYSFS"


STORAGE_DIRECTORIES = ("/srv", "/mnt", "/media", "/opt", "/var/opt", "/var/lib/poolnet/storage")

Choice = Literal["openvswitch", "linuxbridge"]
_BACKEND_LINE = re.compile(r"^backend\s*=.*$", re.MULTILINE)


class ConfigError(Exception):
    """The configuration file cannot be read, or says something that it must not."""


class ManagementConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[management]`: how the host is reached after installation."""

    nic: str
    vlan: int = -1
    mode: Literal["static", "dhcp"] = "static"
    address: str = ""
    gateway: str = ""
    dns: tuple[str, ...] = ()

    def management(self) -> Management:
        """The same as the API server asks for it. Raises ConfigError."""
        if not -1 <= self.vlan <= 4094:
            raise ConfigError(f"management.vlan is {self.vlan}")
        try:
            if self.mode == "static":
                ip_interface(self.address)
            for text in (*filter(None, [self.gateway]), *self.dns):
                ip_address(text)
        except ValueError as error:
            raise ConfigError(f"management: {error}") from error
        ip = IpConfig(
            ipv4_mode=Ipv4Mode(self.mode),
            ipv4_address=self.address,
            ipv4_gateway=self.gateway,
            dns_servers=self.dns,
            dhcp_routes=self.mode == "dhcp",
            dhcp_dns=self.mode == "dhcp",
        )
        return Management(nic=self.nic, vlan_tag=self.vlan, ip=ip)


class LibvirtConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[libvirt]`: where it is, which of its domains may be guests, and what runs a VM that is none of them.

    `domains` are patterns of their names (`*`, `?`, `[a-z]`).
    """

    uri: str = "qemu:///system"
    hypervisor: Literal["kvm", "qemu"] = "kvm"
    domains: tuple[str, ...] = ("*",)


class HaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[ha]`: the device of a hardware watchdog, which resets a host that hangs before its VMs run elsewhere."""

    watchdog: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    backend: Choice = "openvswitch"
    datapath_type: Literal["system", "netdev"] = "system"
    nics: tuple[str, ...] = ()
    guest_runtime: Literal["netns", "libvirt", "none"] = "none"
    api_user: str = ""
    pam_service: str = "poolnet"
    pam_directory_service: str = "poolnet-directory"
    storage_directories: tuple[str, ...] = STORAGE_DIRECTORIES
    management: ManagementConfig | None = None
    libvirt: LibvirtConfig = LibvirtConfig()
    ha: HaConfig = HaConfig()


class Paths:
    """Where the daemon keeps and finds its files. `POOLNET_ROOT` is put before all of them but the switch's and the kernel's."""

    def __init__(self) -> None:
        root = Path(os.environ.get(ROOT_VARIABLE, "/"))
        self.config = root / "etc/poolnet/hostd.toml"
        self.run_dir = root / "run/poolnet"
        self.socket = self.run_dir / "hostd.sock"
        self.state_dir = root / "var/lib/poolnet/hostd"
        self.storage = root / "run/sr-mount"
        self.resolv_conf = root / "etc/resolv.conf"
        self.hostname = root / "etc/hostname"
        self.modprobe_dir = root / "etc/modprobe.d"
        self.sysfs = Path(os.environ.get(SYSFS_VARIABLE, "/sys"))
        self.switch_run_dir = Path(os.environ.get(SWITCH_VARIABLE, "/run/openvswitch"))


def read_config(path: Path) -> Config:
    """Reads the file strictly. Raises ConfigError."""
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error
    if config.management is not None:
        config.management.management()
    if config.ha.watchdog and not config.ha.watchdog.startswith("/dev/"):
        raise ConfigError(f"ha.watchdog is {config.ha.watchdog}, and no device below /dev")
    return config


def keep_backend(path: Path, backend: Choice) -> None:
    """Writes another backend into the file, which is otherwise left as it is. Raises OSError."""
    line = f'backend = "{backend}"'
    text = path.read_text(encoding="utf-8")
    changed, found = _BACKEND_LINE.subn(line, text, count=1)
    if not found:
        changed = f"{line}\n{text}"  # above the first table
    write_durably(path, changed.encode(), mode=stat.S_IMODE(path.stat().st_mode))
