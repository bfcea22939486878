"""Whatever a host's network was, it becomes what is desired, as if it had never been anything else (200 random states).

Every state is reached from the one before it and then, once more, from nothing. The switch's rows and flows (or the
kernel's links and rules), and the kernel's addresses, must be the same both times, and nothing may be left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.state import EMPTY, Bridge, HostNetwork
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.what_is_there import Found, differences, found
from tests.property.host_networks import DEVICES, NICS, networks
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

STATES = 200 if PATIENCE == 1 else 24
CHAINS = 4  # hosts at the same time, each with its part of the states: LACP bonds wait for partners
CASE_TIMEOUT_S = 120.0 * PATIENCE


def states() -> list[HostNetwork]:
    """The same ones every time."""
    made: list[HostNetwork] = []

    @settings(
        max_examples=STATES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=tuple(HealthCheck),
    )
    @given(networks(links=((("gro", "off"),),)))
    def collect(state: HostNetwork) -> None:
        made.append(state)

    collect()
    return made


def without_what_is_missing(state: HostNetwork) -> HostNetwork:
    """What the Linux bridge can do on this kernel: no tunnels, and VLANs and bonds where it has drivers for them."""
    vlans, bonds = Path("/proc/net/vlan/config").exists(), Path("/proc/net/bonding").exists()
    bridges = tuple(
        _with_one_nic(bridge, bonds=bonds) for bridge in state.bridges if vlans or not bridge.parent
    )
    names = {bridge.name for bridge in bridges}
    return replace(
        state,
        bridges=bridges,
        ports=tuple(port for port in state.ports if port.bridge in names),
        management_bridge=state.management_bridge if state.management_bridge in names else "",
        nbd_bridges=tuple(name for name in state.nbd_bridges if name in names),
    )


def _with_one_nic(bridge: Bridge, *, bonds: bool) -> Bridge:
    uplink = bridge.uplink
    if uplink is None or uplink.tunnel is not None:
        return replace(bridge, uplink=None)
    if uplink.bond is None or bonds:
        return bridge
    return replace(
        bridge, uplink=replace(uplink, device=uplink.members[0], members=uplink.members[:1], bond=None)
    )


@pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])
def test_a_state_does_not_depend_on_the_one_before(tmp_path: Path, backend: str) -> None:
    wanted = states()
    assert len(wanted) == STATES
    if backend == "linuxbridge":
        wanted = [without_what_is_missing(state) for state in wanted]
    with ThreadPoolExecutor(CHAINS) as pool:
        running = [
            pool.submit(one_after_the_other, tmp_path / f"chain{number}", backend, wanted[number::CHAINS])
            for number in range(CHAINS)
        ]
    for one in running:
        one.result()


def one_after_the_other(directory: Path, backend: str, wanted: Sequence[HostNetwork]) -> None:
    async def body(rig: Rig) -> None:
        for number, nic in enumerate(NICS[1:], start=1):
            rig.cable(nic, f"sw{number}")
        for number, device in enumerate(DEVICES):
            rig.sh("ip", "link", "add", device, "type", "veth", "peer", "name", f"guest{number}")
            rig.sh("ip", "link", "set", device, "up")
        before = EMPTY
        for number, state in enumerate(wanted):
            try:
                async with asyncio.timeout(CASE_TIMEOUT_S):
                    after_another = await reach(rig, state, f"{number} after another")
                    await rig.roll_out(EMPTY, f"{number} nothing")
                    from_nothing = await reach(rig, state, f"{number} from nothing")
                assert differences(after_another, from_nothing) == []
            except BaseException as error:
                error.add_note(f"from {before}\nto {state}")
                raise
            before = state

    directory.mkdir()
    with_rig(directory, body, nics=NICS, backend=backend)


async def reach(rig: Rig, state: HostNetwork, rollout: str) -> Found:
    await rig.roll_out(state, rollout)
    assert mismatches(await rig.observe(), state) == ()
    assert (await rig.plan_to(state)).steps == ()
    return await asyncio.to_thread(found, rig)
