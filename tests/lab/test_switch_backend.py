"""Another backend takes over a host's network with its guests, and goes back unless that is confirmed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Confirm, Done, Fault, Greeting, Hello, Revert, SwitchBackend
from poolnet.hostnet.state import HostNetwork
from poolnet.pool.hostlink import HostRefused
from tests.lab.guest_pair import guest_pair
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, STATIC, XENBR0, ipv4, locked, network, port
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

STATE = network(
    replace(XENBR0, ip=replace(STATIC, ipv4_gateway="")),
    replace(INTERNAL, mtu_bytes=1500),
    port(1, "xapi1", locked(1)),
    port(2, "xapi1", locked(2)),
    management="xenbr0",
)


async def backend(rig: Rig) -> str:
    return (await rig.link.request(Hello(), Greeting)).backend


async def change(rig: Rig, name: str, rollout: str, *, reachable: bool = False, within_s: float = 60) -> Done:
    command = SwitchBackend(rollout=rollout, backend=name, confirm_within_s=within_s, reachable=reachable)  # type: ignore[arg-type]
    return await rig.link.request(command, Done)


def configured(rig: Rig) -> str:
    return next(
        line
        for line in (rig.root / "etc/poolnet/hostd.toml").read_text().splitlines()
        if line.startswith("backend")
    )


def test_the_network_moves_to_the_linux_bridge_and_back_with_its_guests(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        with guest_pair(rig) as guests:
            await rig.roll_out(STATE)
            await until(lambda: guests.hears(ipv4(2)))
            for number, (name, choice) in enumerate(
                [("bridge", "linuxbridge"), ("openvswitch", "openvswitch"), ("bridge", "linuxbridge")]
            ):
                done = await change(rig, name, f"b{number}")
                assert done.facts.backend == name == await backend(rig)
                assert mismatches(await rig.observe(), STATE) == ()
                await until(lambda: guests.hears(ipv4(2)))
                assert "10.9.0.2/24" in rig.sh("ip", "-br", "addr", "show", "xenbr0")
                await rig.link.request(Confirm(rollout=f"b{number}"), Done)
                assert configured(rig) == f'backend = "{choice}"'
                assert (rig.sh("ovs-vsctl", "list-br") == "") == (name == "bridge")
                assert ("poolnet" in rig.sh("nft", "list", "tables", "bridge")) == (name == "bridge")
            guests.takes("10.0.0.77")
            assert not guests.hears(ipv4(2))  # locked as before

    with_rig(tmp_path, body)


def test_what_is_not_confirmed_goes_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        with guest_pair(rig) as guests:
            await rig.roll_out(STATE)

            async def is_back() -> None:
                assert await backend(rig) == "openvswitch"
                assert mismatches(await rig.observe(), STATE) == ()
                assert configured(rig) == 'backend = "openvswitch"'
                await until(lambda: guests.hears(ipv4(2)))

            await change(rig, "bridge", "b1")
            await rig.link.request(Revert(rollout="b1"), Done)
            await is_back()
            await change(rig, "bridge", "b2", within_s=0.1)  # the dead-man timer
            await until(lambda: "xenbr0" in rig.sh("ovs-vsctl", "list-br").split())
            with pytest.raises(HostRefused) as refused:
                await rig.link.request(Confirm(rollout="b2"), Done)
            assert refused.value.refused.fault is Fault.UNKNOWN_ROLLOUT
            await is_back()
            with pytest.raises(HostRefused) as refused:  # nobody is in the cabinet
                await change(rig, "bridge", "b3", reachable=True, within_s=3)
            assert refused.value.refused.fault is Fault.UNREACHABLE
            await is_back()
            await change(rig, "bridge", "b4")
            await rig.kill("hostd")
            await rig.start_daemon()
            await is_back()
            assert "poolnet" not in rig.sh("nft", "list", "tables", "bridge")

    with_rig(tmp_path, body)


@pytest.mark.parametrize("wanted", ["openvswitch", "bridge"])
def test_a_backend_that_cannot_take_over_changes_nothing(tmp_path: Path, wanted: str) -> None:
    async def body(rig: Rig) -> None:
        state: HostNetwork = network(XENBR0)
        await rig.roll_out(state)
        before = rig.sh("ip", "-o", "link", "show", "xenbr0")
        with pytest.raises(HostRefused) as refused:
            await change(rig, wanted, "b1")
        assert refused.value.refused.fault is Fault.SWITCH_FAILED
        word = "cannot be used on this host" if wanted == "openvswitch" else "already"
        assert word in refused.value.refused.message
        assert rig.sh("ip", "-o", "link", "show", "xenbr0") == before
        assert await backend(rig) == "bridge"

    with_rig(tmp_path, body, backend="linuxbridge")
