"""Which virtual functions do NICs have, as the kernel's tree of devices tells?

Everything below one directory, so that a test can make the tree. Files that are not there, or say nothing sensible, are
those of a NIC that cannot have virtual functions.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from poolnet.hostd.pci_names import names_of
from poolnet.hostnet.facts import FunctionFacts

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]+")


class Sysfs:
    """The tree, usually /sys."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def total(self, nic: str) -> int:
        """The most virtual functions that the hardware can have; 0 for a NIC that can have none."""
        return self._number(nic, "sriov_totalvfs")

    def count(self, nic: str) -> int:
        """How many it has."""
        return self._number(nic, "sriov_numvfs")

    def set_count(self, nic: str, count: int) -> None:
        """Lets a NIC have that many. Raises OSError as the driver says; then it may have any number."""
        (self._device(nic) / "sriov_numvfs").write_text(str(count), encoding="ascii")

    def driver(self, nic: str) -> str:
        """The name of the module that drives a NIC; "" when nobody does."""
        return _link(self._device(nic) / "driver")

    def driven_by(self, driver: str) -> int:
        """How many PCI devices a driver has."""
        with suppress(OSError):
            there = (self._root / "bus/pci/drivers" / driver).iterdir()
            return sum(1 for entry in there if _ADDRESS.fullmatch(entry.name))
        return 0

    def addresses(self, nic: str) -> tuple[str, ...]:
        """The PCI addresses of a NIC's virtual functions, in their order: the place of each is its number."""
        found = (self.address(nic, number) for number in range(self.count(nic)))
        return tuple(address for address in found if address)

    def address(self, nic: str, number: int) -> str:
        """The PCI address of one virtual function, "" if it is not there (yet)."""
        return _link(self._device(nic) / f"virtfn{number}")

    def functions(self, nic: str) -> tuple[FunctionFacts, ...]:
        """The same as facts."""
        return tuple(self._facts(address) for address in self.addresses(nic))

    def has_carrier(self, nic: str) -> bool:
        """Has a NIC a link to somebody now?"""
        with suppress(OSError):  # it is down, and nobody knows
            return (self._root / "class/net" / nic / "carrier").read_text(encoding="ascii").strip() == "1"
        return False

    def net_device(self, address: str) -> str:
        """The network interface of a PCI device that is in this namespace; "" while a guest has it, or none."""
        with suppress(OSError):
            there = (self._pci(address) / "net").iterdir()
            return min((entry.name for entry in there if entry.exists()), default="")
        return ""

    def is_function(self, name: str) -> bool:
        """Is this network interface a virtual function's?"""
        return (self._root / "class/net" / name / "device/physfn").exists()

    def unbind(self, address: str) -> None:
        """Takes a PCI device from its driver, if one has it. Raises OSError."""
        driver = self._pci(address) / "driver"
        if driver.exists():
            (driver / "unbind").write_text(address, encoding="ascii")

    def _device(self, nic: str) -> Path:
        return self._root / "class/net" / nic / "device"

    def _pci(self, address: str) -> Path:
        return self._root / "bus/pci/devices" / address

    def _number(self, nic: str, name: str) -> int:
        with suppress(OSError, ValueError):
            return max(0, int((self._device(nic) / name).read_text(encoding="ascii")))
        return 0

    def _facts(self, address: str) -> FunctionFacts:
        device = self._pci(address)
        vendor_id, device_id = _id(device / "vendor"), _id(device / "device")
        vendor_name, device_name = names_of(vendor_id, device_id)
        return FunctionFacts(
            pci_bus_path=address,
            vendor_id=vendor_id,
            device_id=device_id,
            vendor_name=vendor_name,
            device_name=device_name,
            driver=_link(device / "driver"),
        )


def _link(path: Path) -> str:
    """The last part of where a link leads; "" if there is none."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def _id(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip().removeprefix("0x")
    except OSError:
        return ""
