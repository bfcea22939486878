"""When hosts wait for a confirmation, for how long, and whose answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import AddressFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.pool.coordinator import RuleCall
from poolnet.pool.guard import CONFIRM_WITHIN_S, USUAL, Guard, callers_to_ask, within_s
from tests.in_process import FACTS, InProcess, with_server
from tests.unit.pool.test_coordinator import eth1, network_call, rule_call

SOON = Guard(confirm_within_s=3)
LATER = Guard(confirm_within_s=60)
AT_ONCE = Guard(confirm_within_s=0)


@pytest.mark.parametrize(
    ("guards", "management", "expected"),
    [
        ((), False, None),
        ((), True, CONFIRM_WITHIN_S),
        ((USUAL,), True, CONFIRM_WITHIN_S),
        ((USUAL, SOON, LATER), True, 3),
        ((LATER,), False, 60),
        ((AT_ONCE,), True, None),
        ((AT_ONCE, AT_ONCE), True, None),
        ((AT_ONCE, USUAL), True, CONFIRM_WITHIN_S),
        ((AT_ONCE, LATER), True, 60),
    ],
)
def test_the_shortest_time_that_is_asked_for_counts(
    guards: tuple[Guard, ...], management: bool, expected: float | None
) -> None:
    assert within_s(guards, management=management) == expected


@dataclass
class Caller:
    """A connection that answers or not."""

    own_address: str
    there: bool = True
    asked: int = 0

    async def answers(self, within_s: float) -> bool:
        assert 0 < within_s <= CONFIRM_WITHIN_S
        self.asked += 1
        return self.there


def test_only_callers_at_an_address_that_is_there_after_the_change_are_asked() -> None:
    here, gone = Caller("192.0.2.1"), Caller("192.0.2.2")
    guards = (Guard(caller=here), Guard(caller=gone), USUAL, Guard(caller=here, confirm_within_s=0))
    assert callers_to_ask(guards, ["192.0.2.1"]) == (here,)


@dataclass
class Commands:
    """What a host is told."""

    switches: list[protocol.Switch]
    settled: list[protocol.Confirm | protocol.Revert]


def listen(server: InProcess) -> Commands:
    """Notes what the host is told from now on; it reports its management address."""
    heard = Commands([], [])
    switch, settle = server.host.switch, server.host.settle
    facts = replace(FACTS, addresses=(AddressFacts(bridge="xenbr0", ipv4=("192.0.2.1/24",)),))

    async def on_switch(host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        heard.switches.append(command)
        await switch(host, command)
        return protocol.Done(facts=facts)

    async def on_settle(host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        heard.settled.append(command)
        return await settle(host, command)

    server.host.switch = on_switch  # type: ignore[method-assign]
    server.host.settle = on_settle  # type: ignore[method-assign]
    return heard


def gateway_call(server: InProcess, guard: Guard = USUAL) -> RuleCall:
    """A change of the management interface."""
    pif = server.database.view.where(PIF, management=True)[0]
    call = rule_call(
        "PIF.reconfigure_ip",
        self=pif.ref,
        mode=pif.ip_configuration_mode,
        IP=pif.IP,
        netmask=pif.netmask,
        gateway="192.0.2.254",
        DNS="",
    )
    return replace(call, guard=guard)


def on_a_server(tmp_path: Path, body: Callable[[InProcess, Commands], Awaitable[None]]) -> None:
    async def run(server: InProcess) -> None:
        await body(server, listen(server))

    with_server(tmp_path, run)


def test_a_change_of_management_must_leave_the_host_reachable(tmp_path: Path) -> None:
    async def body(server: InProcess, heard: Commands) -> None:
        await server.coordinator.run(gateway_call(server))
        (switch,) = heard.switches
        assert (switch.confirm_within_s, switch.reachable) == (CONFIRM_WITHIN_S, True)
        assert heard.settled == [protocol.Confirm(rollout=switch.rollout)]

    on_a_server(tmp_path, body)


def test_other_changes_are_confirmed_at_once_unless_the_caller_wants_more(tmp_path: Path) -> None:
    async def body(server: InProcess, heard: Commands) -> None:
        network = Ref[object](str(await server.coordinator.run(network_call("n"))))
        call = rule_call("VLAN.create", tagged_PIF=eth1(server), tag=5, network=network)
        await server.coordinator.run(call)
        vlan = server.database.view.where(PIF, VLAN=5)[0]
        again = replace(rule_call("PIF.unplug", self=vlan.ref), guard=SOON)
        await server.coordinator.run(again)
        assert [(s.confirm_within_s, s.reachable) for s in heard.switches[-2:]] == [(None, False), (3, True)]

    on_a_server(tmp_path, body)


def test_a_change_can_be_kept_without_a_check(tmp_path: Path) -> None:
    async def body(server: InProcess, heard: Commands) -> None:
        await server.coordinator.run(gateway_call(server, AT_ONCE))
        assert [(s.confirm_within_s, s.reachable) for s in heard.switches] == [(None, False)]
        assert heard.settled == []

    on_a_server(tmp_path, body)


def test_a_change_that_cuts_its_caller_off_is_taken_back(tmp_path: Path) -> None:
    async def body(server: InProcess, heard: Commands) -> None:
        before = server.database.view.where(PIF, management=True)[0]
        lost = Caller("192.0.2.1", there=False)
        with pytest.raises(Failure) as failed:
            await server.coordinator.run(gateway_call(server, Guard(caller=lost)))
        assert failed.value.code == "PIF_CONFIGURATION_ERROR"
        assert failed.value.params == (before.ref, "xenbr0 the caller does not answer any more")
        assert lost.asked == 1
        assert heard.settled == [protocol.Revert(rollout=heard.switches[0].rollout)]
        assert server.database.view.get(PIF, before.ref) == before

    on_a_server(tmp_path, body)


def test_a_caller_that_is_still_there_keeps_the_change(tmp_path: Path) -> None:
    async def body(server: InProcess, heard: Commands) -> None:
        there, elsewhere = Caller("192.0.2.1"), Caller("198.51.100.1", there=False)
        await asyncio.gather(
            server.coordinator.run(gateway_call(server, Guard(caller=there))),
            server.coordinator.run(
                replace(rule_call("PIF.scan", host=server.host.host), guard=Guard(caller=elsewhere))
            ),
        )
        assert (there.asked, elsewhere.asked) == (1, 0)
        assert isinstance(heard.settled[-1], protocol.Confirm)

    on_a_server(tmp_path, body)
