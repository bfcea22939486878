"""What the kernel cannot do is said in words that help. Only where it cannot: another kernel has it all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import BondMode, BondOptions, Uplink
from poolnet.pool.hostlink import HostRefused
from tests.lab import switches
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import VLAN50, XENBR0, network

pytestmark = pytest.mark.lab

BOND = Uplink(device="bond0", members=("eth0", "eth1"), bond=BondOptions(mode=BondMode.ACTIVE_BACKUP))
WANTED = {
    "vlan": (network(XENBR0, VLAN50), "eth0.50", "vlan (module 8021q)"),
    "bond": (network(replace(XENBR0, uplink=BOND)), "bond0", "bond (module bonding)"),
}


@pytest.mark.parametrize("kind", WANTED)
def test_a_driver_that_is_missing_is_named(tmp_path: Path, kind: str) -> None:
    if switches.kernel_has(kind):
        pytest.skip("this kernel has it")
    state, device, driver = WANTED[kind]

    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        before = await rig.observe()
        with pytest.raises(HostRefused) as refused:
            await rig.roll_out(state)
        said = refused.value.refused
        assert (said.fault, said.subject) == (Fault.SWITCH_FAILED, device)
        assert said.message == f"is refused by the kernel: it has no driver for links of the kind {driver}"
        assert await rig.observe() == before

    with_rig(tmp_path, body, backend="linuxbridge")
