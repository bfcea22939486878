"""The nftables table of usual locks, as `nft` reads it.

The texts were checked by hand and on a live bridge; a change of one is a change of what is enforced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.nftables import change, ruleset
from tests.unit.lock.lock_cases import LOCKED, UNLOCKED

FOLDER = Path(__file__).parent / "nft"
LOCKS: Mapping[str, PortLock] = {
    "tap4": replace(LOCKED, mode=LockMode.DISABLED),
    "vif1.0": LOCKED,
    "vif2.0": UNLOCKED,
    "vif3.0": replace(
        LOCKED,
        ipv4_allowed=("10.0.0.0/24", "10.0.1.7"),
        ipv6_allowed=("fd00::/64",),
        trunks=(0, 10),
        shadow=True,
    ),
}


def test_the_table_reads_as_agreed() -> None:
    assert ruleset(LOCKS) == (FOLDER / "table.nft").read_text()


def test_without_locks_the_table_closes_all_guests_ports() -> None:
    with_locks, without = ruleset(LOCKS).splitlines(), ruleset({}).splitlines()
    assert without == [line for line in with_locks if not line.startswith("add element")]
    assert '    iifname "vif*" drop' in without


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("another-address", {**LOCKS, "vif1.0": replace(LOCKED, ipv4_allowed=("10.0.0.9",))}),
        ("unlocked", {**LOCKS, "vif1.0": UNLOCKED}),
        ("gone", {device: lock for device, lock in LOCKS.items() if device != "vif3.0"}),
    ],
)
def test_a_change_reads_as_agreed(name: str, new: Mapping[str, PortLock]) -> None:
    text = "# next transaction\n".join(change(LOCKS, new))
    assert text == (FOLDER / f"{name}.nft").read_text()
