"""Names of PCI devices from a list in the form of Debian's package."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolnet.hostd.pci_names import names_of

LIST = """#\tList of PCI ID's
8086  Intel Corporation
\t1533  I210 Gigabit Network Connection
\t\t103c 0003  Ethernet I210-T1 GbE NIC
\t10fb  82599ES 10-Gigabit SFI/SFP+ Network Connection
8087  Somebody else
\t1533  Something else
C 02  Network controller
\t00  Ethernet controller
"""


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, ...]:
    """One that is not there, and one that is."""
    (tmp_path / "pci.ids").write_text(LIST, encoding="utf-8")
    return (tmp_path / "none", tmp_path / "pci.ids")


@pytest.mark.parametrize(
    ("vendor", "device", "names"),
    [
        ("8086", "1533", ("Intel Corporation", "I210 Gigabit Network Connection")),
        ("8086", "10FB", ("Intel Corporation", "82599ES 10-Gigabit SFI/SFP+ Network Connection")),
        ("8086", "0003", ("Intel Corporation", "")),
        ("8086", "", ("Intel Corporation", "")),
        ("C", "02", ("", "")),
        ("02", "00", ("", "")),
        ("", "", ("", "")),
    ],
)
def test_numbers_have_names(
    lists: tuple[Path, ...], vendor: str, device: str, names: tuple[str, str]
) -> None:
    assert names_of(vendor, device, lists) == names


def test_a_host_without_the_list_has_no_names(tmp_path: Path) -> None:
    assert names_of("8086", "1533", (tmp_path / "none",)) == ("", "")
