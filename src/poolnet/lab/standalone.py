"""How does a Debian machine become a standalone poolnet host? `poolnet init`.

It finds the NICs, takes the choices from its flags or asks, writes the configuration and installs the units. It changes no
NIC, no address and no running service: that begins when the services are started (`--start`, or later by hand).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolnet.hostd.guests import libvirt_link
from poolnet.lab.program import programs

_NIC_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_UNITS = ("poolnet-hostd.service", "poolnet-db.service", "poolnet-api.service")
_DROP_IN = "ovs-vswitchd.service.d/poolnet.conf"
_USER = "poolnet"


class SetupRefused(Exception):
    """The machine cannot be set up so; nothing has been written. The text is for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundNic:
    """A NIC of this machine. `hardware` is false for links that software made: bridges, VLANs, tunnels, veths."""

    name: str
    mac: str
    carrier: bool
    hardware: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What will be written. `address` is `A.B.C.D/len`, or `dhcp`; `vlan` is -1 for untagged.

    `guests` is what runs them, `none` or `libvirt`; that with the `hypervisor` for those that have no domain.
    """

    backend: str
    management: str
    nics: tuple[str, ...]
    vlan: int
    address: str
    gateway: str
    dns: tuple[str, ...]
    guests: str = "none"
    hypervisor: str = ""


def main(arguments: argparse.Namespace) -> int:
    """Set this machine up; below the directory POOLNET_ROOT, when that is set, without touching the machine itself."""
    root = Path(os.environ.get("POOLNET_ROOT") or "/")
    try:
        password = set_up(root, arguments)
    except (SetupRefused, OSError) as error:
        sys.stderr.write(f"poolnet init: {error}\n")
        return 1
    if password is None:
        sys.stdout.write("Nothing was written.\n")
        return 1
    sys.stdout.write(f"The API's first user is root, with the password {password}\n")
    sys.stdout.flush()
    return _activate(start=arguments.start) if root == Path("/") else 0


def upgrade() -> int:
    """Install this version's programs and units on a poolnet host, and restart its services; the network stays up."""
    root = Path("/")
    if os.geteuid() != 0 or not (root / "etc/poolnet/hostd.toml").exists():
        sys.stderr.write("poolnet upgrade: this needs root, on a machine that `poolnet init` has set up\n")
        return 1
    try:
        source = packaging()
        _install_units(root, source, programs(root, source))
        _install_settings(root, source, anew=False)
    except OSError as error:
        sys.stderr.write(f"poolnet upgrade: {error}\n")
        return 1
    subprocess.run(("systemctl", "daemon-reload"), check=True)  # noqa: S607 - found by PATH, which is root's
    subprocess.run(("systemctl", "enable", *_UNITS), check=True)  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
    return subprocess.run(("systemctl", "restart", *_UNITS), check=False).returncode  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's


def set_up(root: Path, arguments: argparse.Namespace) -> str | None:
    """Check, choose, ask, write. The API's first password, or None when the user said no. Raises SetupRefused."""
    _check_machine(root, arguments.backend)
    found = find_nics(root)
    choices = choose(root, arguments, found)
    if root == Path("/") and choices.address == "dhcp" and shutil.which("dhcpcd") is None:
        raise SetupRefused("the DHCP client is not installed: apt-get install dhcpcd-base")
    if root == Path("/") and choices.guests == "libvirt" and not libvirt_link.has_library():
        raise SetupRefused("libvirt's Python binding is not installed: apt-get install python3-libvirt")
    _show(root, choices, found)
    if not arguments.yes and _ask("Write this configuration? (yes/no)", "no").lower() not in {"y", "yes"}:
        return None
    source = packaging()
    return write(root, choices, Path(sys.executable).parent if arguments.in_place else programs(root, source))


def find_nics(root: Path) -> tuple[FoundNic, ...]:
    """The network links that the kernel lists, but for the loopback, by name."""
    links = root / "sys/class/net"
    paths = sorted(links.iterdir()) if links.is_dir() else []
    return tuple(
        FoundNic(
            name=path.name,
            mac=_read(path / "address"),
            carrier=_read(path / "carrier") == "1",
            hardware=(path / "device").exists(),
        )
        for path in paths
        if path.name != "lo" and path.is_dir()
    )


def choose(root: Path, arguments: argparse.Namespace, found: Sequence[FoundNic]) -> Choices:
    """Every choice, from the flags, from what is there, or by asking. Raises SetupRefused.

    Without a flag, and with `--yes`, only the management NIC is taken: no NIC that was not named or needed.
    """
    hardware = [nic.name for nic in found if nic.hardware]
    route = _default_route(root)
    management = arguments.management
    if management is None:
        guess = route.get("dev", "")
        if guess not in hardware:
            guess = hardware[0] if len(hardware) == 1 else ""
        if arguments.yes and not guess:
            raise SetupRefused(f"say which NIC is the management NIC with --management ({_listed(found)})")
        management = guess if arguments.yes else _ask("Management NIC", guess)
    _check_nic(management, found)
    listed = arguments.nics
    if listed is None:
        listed = management if arguments.yes else _ask("All NICs that poolnet may use", management)
    nics = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    for name in nics:
        _check_nic(name, found)
    if management not in nics:
        raise SetupRefused(f"--nics must contain the management NIC {management}")
    if arguments.vlan != -1 and not 1 <= arguments.vlan <= 4094:
        raise SetupRefused(f"--vlan must be from 1 to 4094, not {arguments.vlan}")
    address, gateway, dns = _addressing(root, arguments, management, route)
    guests = _guests(root, arguments.guests)
    kvm = (root / "dev/kvm").exists()
    return Choices(
        backend=arguments.backend,
        management=management,
        nics=nics,
        vlan=arguments.vlan,
        address=address,
        gateway=gateway,
        dns=dns,
        guests=guests,
        hypervisor=("kvm" if kvm else "qemu") if guests == "libvirt" else "",
    )


def _guests(root: Path, asked: str | None) -> str:
    """What is to run guests: what was asked for, else libvirt if it is there. Raises SetupRefused."""
    if asked is None:
        return "libvirt" if libvirt_link.is_there(root) else "none"
    if asked == "libvirt" and not libvirt_link.is_there(root):
        raise SetupRefused("libvirt does not run here: apt-get install libvirt-daemon-system")
    return asked


def write(root: Path, choices: Choices, directory: Path) -> str:
    """Write the configuration, install units that start the programs in `directory`, and return the first password."""
    from argon2 import PasswordHasher

    password = secrets.token_urlsafe(12)
    api_state = root / "var/lib/poolnet/api"
    api_state.mkdir(parents=True, exist_ok=True, mode=0o700)
    users = api_state / "users.toml"
    if not users.exists():
        _write(users, f'[users.root]\npassword_hash = "{PasswordHasher().hash(password)}"\n', 0o600)
    _write(root / "etc/poolnet/api.toml", "https_port = 443\nhttp_port = 80\n", 0o644)
    source = packaging()
    _install_units(root, source, directory)
    _install_settings(root, source)
    _write(
        root / "etc/poolnet/hostd.toml", hostd_toml(choices), 0o644
    )  # last: it says that the machine is set up
    return password


def _install_settings(root: Path, source: Path, *, anew: bool = True) -> None:
    """Installs what an administrator may change; without `anew` only what is not there."""
    for name in ("pam.d/poolnet", "pam.d/poolnet-directory", "tmpfiles.d/poolnet.conf"):
        target = root / "etc" / name
        if anew or not target.exists():
            _write(target, (source / name).read_text(encoding="utf-8"), 0o644)


def _install_units(root: Path, source: Path, directory: Path) -> None:
    for unit in (*_UNITS, _DROP_IN):
        text = (source / "systemd" / unit).read_text(encoding="utf-8")
        text = text.replace("/usr/bin/poolnet-", f"{directory}/poolnet-")
        _write(root / "etc/systemd/system" / unit, text, 0o644)


def hostd_toml(choices: Choices) -> str:
    """The host daemon's configuration, as its file's text."""
    mode = "dhcp" if choices.address == "dhcp" else "static"
    nics = ", ".join(json.dumps(name) for name in choices.nics)
    lines = [
        "# Written by `poolnet init`. poolnet never touches a NIC that is not listed here.",
        f"backend = {json.dumps(choices.backend)}",
        'datapath_type = "system"',
        f"nics = [{nics}]",
        f"guest_runtime = {json.dumps(choices.guests)}",
        f"api_user = {json.dumps(_USER)}",
        "",
        "[management]",
        f"nic = {json.dumps(choices.management)}",
        f"vlan = {choices.vlan}",
        f"mode = {json.dumps(mode)}",
    ]
    if mode == "static":
        dns = ", ".join(json.dumps(server) for server in choices.dns)
        lines += [
            f"address = {json.dumps(choices.address)}",
            f"gateway = {json.dumps(choices.gateway)}",
            f"dns = [{dns}]",
        ]
    if choices.guests == "libvirt":
        lines += [
            "",
            "# The domains that may be VMs of poolnet, by patterns of their names.",
            "[libvirt]",
            'domains = ["*"]',
            f"hypervisor = {json.dumps(choices.hypervisor)}",
        ]
    return "\n".join(lines) + "\n"


def packaging() -> Path:
    """Where the units are: in the installed package, or in the repository that it runs from."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "packaging"
    return installed if installed.is_dir() else package.parents[1] / "packaging"


def _check_machine(root: Path, backend: str) -> None:
    if (root / "etc/poolnet/hostd.toml").exists():
        raise SetupRefused("this is a poolnet host already (/etc/poolnet/hostd.toml exists)")
    if root != Path("/"):
        return
    if os.geteuid() != 0:
        raise SetupRefused("this needs root")
    if backend == "openvswitch" and shutil.which("ovs-vswitchd") is None:
        raise SetupRefused("Open vSwitch is not installed: apt-get install openvswitch-switch")


def _check_nic(name: str, found: Sequence[FoundNic]) -> None:
    if not _NIC_NAME.fullmatch(name):
        raise SetupRefused(f"{name!r} is no name of a NIC")
    if all(nic.name != name for nic in found):
        raise SetupRefused(f"there is no NIC {name} ({_listed(found)})")


def _listed(found: Sequence[FoundNic]) -> str:
    names = ", ".join(nic.name for nic in found if nic.hardware)
    return f"this machine has {names}" if names else "this machine has no physical NIC"


def _addressing(
    root: Path, arguments: argparse.Namespace, management: str, route: dict[str, str]
) -> tuple[str, str, tuple[str, ...]]:
    """Address, gateway and DNS servers: as told, else as the NIC has them now. Raises SetupRefused."""
    address, gateway = arguments.address, arguments.gateway
    dns = tuple(server.strip() for server in arguments.dns.split(",") if server.strip())
    if address is None:
        address = _current_address(root, management)
        if route.get("dev") == management and not gateway:
            gateway = route.get("gateway", "")
        if address != "dhcp" and not dns:
            dns = _current_dns(root)
        if not arguments.yes:
            address = _ask("Its address (A.B.C.D/length, or dhcp)", address)
    if address == "dhcp":
        return "dhcp", "", ()
    try:
        interface = ipaddress.IPv4Interface(address)
    except ValueError as error:
        raise SetupRefused(f"{address!r} is no address: {error}") from error
    if "/" not in address:
        raise SetupRefused(f"the address {address} needs a prefix length, as in {address}/24")
    for server in (*dns, *((gateway,) if gateway else ())):
        try:
            ipaddress.IPv4Address(server)
        except ValueError as error:
            raise SetupRefused(f"{server!r} is no address: {error}") from error
    if gateway and ipaddress.IPv4Address(gateway) not in interface.network:
        raise SetupRefused(f"the gateway {gateway} is not in the network {interface.network}")
    return address, gateway, dns


def _current_address(root: Path, nic: str) -> str:
    for link in _ip(root, "-4", "address", "show", "dev", nic):
        for info in link.get("addr_info", []):
            if info.get("scope") == "global":
                return "dhcp" if info.get("dynamic") else f"{info['local']}/{info['prefixlen']}"
    return "dhcp"


def _default_route(root: Path) -> dict[str, str]:
    routes = _ip(root, "-4", "route", "show", "default")
    return {key: str(value) for key, value in routes[0].items()} if routes else {}


def _current_dns(root: Path) -> tuple[str, ...]:
    lines = _read(root / "etc/resolv.conf").splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver ") and ":" not in line]
    return tuple(server for server in servers if not server.startswith("127."))


def _ip(root: Path, *words: str) -> list[dict[str, Any]]:
    """What `ip -j` says of this machine; nothing of one below a prefix."""
    if root != Path("/"):
        return []
    done = subprocess.run(("ip", "-j", *words), check=False, capture_output=True, text=True)  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
    return list(json.loads(done.stdout or "[]"))


def _show(root: Path, choices: Choices, found: Sequence[FoundNic]) -> None:
    sys.stdout.write("NICs of this machine:\n")
    for nic in found:
        if nic.hardware or nic.name in choices.nics:
            use = (
                "management"
                if nic.name == choices.management
                else "used"
                if nic.name in choices.nics
                else "left alone"
            )
            sys.stdout.write(
                f"  {nic.name:<15} {nic.mac:<17}  {'link' if nic.carrier else 'no link':<7}  {use}\n"
            )
    vlan = "" if choices.vlan == -1 else f" in VLAN {choices.vlan}"
    gateway = f", gateway {choices.gateway}" if choices.gateway else ""
    sys.stdout.write(f"Management: {choices.address} on {choices.management}{vlan}{gateway}\n")
    if choices.guests == "libvirt":
        sys.stdout.write(f"Guests: domains of libvirt, which this machine has ({choices.hypervisor})\n")
    for name in _configured_elsewhere(root, choices.nics):
        sys.stdout.write(
            f"Note: /etc/network/interfaces sets up {name} as well; remove it there before the services start.\n"
        )


def _configured_elsewhere(root: Path, nics: Sequence[str]) -> list[str]:
    files = [root / "etc/network/interfaces", *sorted((root / "etc/network/interfaces.d").glob("*"))]
    words = [line.split() for path in files if path.is_file() for line in _read(path).splitlines()]
    return [name for name in nics if any(line[:2] == ["iface", name] for line in words)]


def _activate(*, start: bool) -> int:
    """Make the user, and tell systemd. The services are started only if asked for. 0 when all went well, else 1."""
    home = "/var/lib/poolnet"
    if subprocess.run(("id", _USER), check=False, capture_output=True).returncode != 0:  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
        account = ("--system", "--user-group", "--home-dir", home, "--shell", "/usr/sbin/nologin", _USER)
        subprocess.run(("useradd", *account), check=True)  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
    subprocess.run(("chown", "-R", f"{_USER}:", f"{home}/api"), check=True)  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
    if not Path("/run/systemd/system").exists():
        sys.stdout.write("systemd does not run here: start poolnet-hostd and poolnet-api yourself.\n")
        return 0
    subprocess.run(("systemd-tmpfiles", "--create", "poolnet.conf"), check=True)  # noqa: S607 - found by PATH, which is root's
    subprocess.run(("systemctl", "daemon-reload"), check=True)  # noqa: S607 - found by PATH, which is root's
    subprocess.run(("systemctl", "enable", *_UNITS), check=True)  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
    if not start:
        sys.stdout.write(
            "The units are enabled; they start at the next boot, or now with: systemctl start poolnet-api\n"
        )
    elif subprocess.run(("systemctl", "start", *_UNITS), check=False).returncode != 0:  # noqa: S603, S607 - no shell, and words of our own; found by PATH, which is root's
        sys.stderr.write(
            "poolnet init: a service did not start; see: journalctl -u poolnet-hostd -u poolnet-api\n"
        )
        return 1
    return 0


def _ask(question: str, default: str) -> str:
    if not sys.stdin.isatty() and not os.environ.get("POOLNET_ROOT"):
        raise SetupRefused("there is no terminal to ask at: give the flags, and --yes")
    sys.stdout.write(f"{question} [{default}]: ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise SetupRefused("no answer")
    return answer.strip() or default


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # the kernel refuses to read `carrier` of a link that is down
        return ""


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file and its directories; the file appears whole, with this mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.touch(mode=mode)
    fresh.chmod(mode)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
