"""Which physical NICs does this host have, and what are they like?

A NIC is an interface whose name one of the configured patterns matches; no other is ever touched. Everything is asked
of the kernel by ioctl, which answers for the caller's network namespace, as /sys may not.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from poolnet.hostd import ethtool
from poolnet.hostd.pci_names import names_of
from poolnet.hostd.proc_net import interface_names
from poolnet.hostnet.facts import NicFacts

_SIOCGIFMTU, _SIOCGIFHWADDR = 0x8921, 0x8927
_ETHTOOL_GDRVINFO, _ETHTOOL_GLINK, _ETHTOOL_GPERMADDR = 0x3, 0xA, 0x20
_MAC_LENGTH = 6
_PCI_DEVICES = Path("/sys/bus/pci/devices")


def is_nic(name: str, patterns: Iterable[str]) -> bool:
    """May an interface of this name be used as a NIC?"""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def find_nics(patterns: Sequence[str]) -> tuple[NicFacts, ...]:
    """The NICs that are there now, in the order of their names (eth2 before eth10)."""
    names = [name for name in interface_names() if is_nic(name, patterns)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        facts = (_facts(asked, name) for name in sorted(names, key=_order))
        return tuple(nic for nic in facts if nic is not None)


def has_carrier(name: str) -> bool:
    """Whether an interface's cable leads somewhere; an interface that does not exist has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return bool(ethtool.number(asked, name, _ETHTOOL_GLINK))


def mac_addresses() -> dict[str, bytes]:
    """The MAC address that each interface of this host has now, but those without any."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for name in interface_names():
            with suppress(OSError):
                mac = _request(asked, _SIOCGIFHWADDR, name)[18 : 18 + _MAC_LENGTH]
                if any(mac):
                    found[name] = mac
    return found


def _order(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits) if digits else -1


def _facts(asked: socket.socket, name: str) -> NicFacts | None:
    """The facts of one interface; None when it has just gone."""
    try:
        mtu = struct.unpack_from("i", _request(asked, _SIOCGIFMTU, name), 16)[0]
        current = _request(asked, _SIOCGIFHWADDR, name)[18 : 18 + _MAC_LENGTH]
    except OSError:
        return None
    carrier = bool(ethtool.number(asked, name, _ETHTOOL_GLINK))
    speed, full = ethtool.speed_and_duplex(asked, name) if carrier else (0, False)
    driver, bus = _driver(asked, name)
    device = _PCI_DEVICES / bus if bus else None
    vendor_id, device_id = _pci_id(device, "vendor"), _pci_id(device, "device")
    vendor_name, device_name = names_of(vendor_id, device_id)
    return NicFacts(
        name=name,
        mac=(_permanent_mac(asked, name) or current).hex(":"),
        mtu_bytes=mtu,
        carrier=carrier,
        speed_mbps=speed,
        full_duplex=full,
        pci_bus_path=bus,
        vendor_id=vendor_id,
        device_id=device_id,
        vendor_name=vendor_name,
        device_name=device_name,
        driver=driver,
    )


def _request(asked: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(asked, request, struct.pack("16s24x", name.encode()))


def _driver(asked: socket.socket, name: str) -> tuple[str, str]:
    """The driver's name, and the PCI address ("" for a device on another bus or on none)."""
    answer = ethtool.ask(asked, name, struct.pack("I192x", _ETHTOOL_GDRVINFO))
    if answer is None:
        return "", ""
    driver, bus = answer[4:36].split(b"\0")[0].decode(), answer[100:132].split(b"\0")[0].decode()
    return driver, bus if bus and (_PCI_DEVICES / bus).exists() else ""


def _permanent_mac(asked: socket.socket, name: str) -> bytes | None:
    """The address that the hardware was made with; None when the driver does not tell."""
    answer = ethtool.ask(asked, name, struct.pack("II32x", _ETHTOOL_GPERMADDR, 32))
    if answer is None or struct.unpack_from("I", answer, 4)[0] != _MAC_LENGTH:
        return None
    mac = answer[8 : 8 + _MAC_LENGTH]
    return mac if any(mac) else None


def _pci_id(device: Path | None, name: str) -> str:
    if device is None:
        return ""
    try:
        return (device / name).read_text().strip().removeprefix("0x")
    except OSError:
        return ""
