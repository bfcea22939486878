"""What are a PCI device and its vendor called? From the list that Debian's package `pci.ids` installs.

`nics` asks with the numbers that the device has. A host without the list has no names; the numbers are facts all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

LISTS: Final = (Path("/usr/share/misc/pci.ids"), Path("/usr/share/hwdata/pci.ids"))


@lru_cache(maxsize=256)
def names_of(vendor_id: str, device_id: str, lists: Sequence[Path] = LISTS) -> tuple[str, str]:
    """The names of vendor and device by their numbers (four hex digits each); "" where they are not known."""
    if not vendor_id:
        return "", ""
    vendor = ""
    for line in _lines(lists):
        if line.startswith("C "):  # the classes come after all vendors
            break
        if not line.startswith("\t"):
            if vendor:
                break
            vendor = _named(line, vendor_id)
        elif vendor and not line.startswith("\t\t"):
            device = _named(line[1:], device_id)
            if device:
                return vendor, device
    return vendor, ""


def _named(line: str, number: str) -> str:
    """The name in a line, if it is of that number: `8086  Intel Corporation`."""
    found, _, name = line.partition("  ")
    return name.strip() if number and found.lower() == number.lower() else ""


def _lines(lists: Sequence[Path]) -> Sequence[str]:
    for path in lists:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return ()
