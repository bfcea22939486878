"""Calls become rollouts and commits; those that fail leave nothing behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolnet.db.txn import View
from poolnet.hostnet.facts import AddressFacts
from poolnet.hostnet.state import HostNetwork
from poolnet.model import errors
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.pool import coordinator
from poolnet.pool.coordinator import RuleCall
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session
from tests.in_process import FACTS, InProcess, with_server


def rule_call(method: str, **arguments: Any) -> RuleCall:
    return RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())


def network_call(name: str) -> RuleCall:
    record = {
        "name_label": name,
        "name_description": "",
        "MTU": 1500,
        "other_config": {},
        "bridge": "",
        "managed": True,
        "tags": (),
    }
    return rule_call("network.create", record=record)


async def networks(server: InProcess, count: int) -> list[Ref[Network]]:
    created = await asyncio.gather(*(server.coordinator.run(network_call(f"n{i}")) for i in range(count)))
    return [Ref(str(ref)) for ref in created]


def eth1(server: InProcess) -> Ref[PIF]:
    return server.database.view.where(PIF, device="eth1")[0].ref


def vlan_call(server: InProcess, tag: int, network: Ref[Network]) -> RuleCall:
    return rule_call("VLAN.create", tagged_PIF=eth1(server), tag=tag, network=network)


def bridges(network: HostNetwork) -> set[int]:
    return {bridge.vlan_tag for bridge in network.bridges if bridge.vlan_tag >= 0}


def test_calls_that_arrive_together_are_one_rollout(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await networks(server, 100)
        before = server.host.switches
        calls = (server.coordinator.run(vlan_call(server, i + 1, n)) for i, n in enumerate(made))
        results = await asyncio.gather(*calls)
        assert len(set(results)) == 100
        assert server.host.switches - before <= 2
        assert bridges(server.host.network) == set(range(1, 101))
        assert server.database.view.count(VLAN) == 100

    with_server(tmp_path, body)


def test_whoever_only_asks_does_not_wait_for_all_rules_of_a_burst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "BREATH_S", 0.0)

    async def body(server: InProcess) -> None:
        seen: list[str] = []

        def decide(name: str) -> RuleCall:
            create = network_call(name)

            def rule(*words: Any, **arguments: Any) -> Any:
                seen.append(name)
                asyncio.get_running_loop().call_soon(seen.append, "another")
                return create.rule(*words, **arguments)

            return replace(create, rule=rule)

        await asyncio.gather(*(server.coordinator.run(decide(f"n{number}")) for number in range(3)))
        assert seen == ["n0", "another", "n1", "another", "n2", "another"]
        assert {row.name_label for row in server.database.view.all(Network)} >= {"n0", "n1", "n2"}

    with_server(tmp_path, body)


def test_a_refusal_in_a_batch_is_its_caller_s_alone(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        one, two = await networks(server, 2)
        calls = (
            server.coordinator.run(vlan_call(server, 7, one)),
            server.coordinator.run(vlan_call(server, 7, two)),
            server.coordinator.run(vlan_call(server, 8, two)),
        )
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(first, str)
        assert isinstance(second, Failure)
        assert second.code == "PIF_VLAN_EXISTS"
        assert isinstance(third, str)
        assert bridges(server.host.network) == {7, 8}

    with_server(tmp_path, body)


def test_the_call_that_a_host_refuses_fails_alone_and_leaves_nothing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await networks(server, 5)
        server.host.refuse = lambda desired: 3 in bridges(desired)
        calls = (server.coordinator.run(vlan_call(server, i + 1, n)) for i, n in enumerate(made))
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [i + 1 for i, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed == [3]
        refused = results[2]
        assert isinstance(refused, Failure)
        assert refused.code == "PIF_CONFIGURATION_ERROR"
        assert refused.params[0] == eth1(server)
        assert bridges(server.host.network) == {1, 2, 4, 5}
        assert {vlan.tag for vlan in server.database.view.all(VLAN)} == {1, 2, 4, 5}
        assert len(server.database.view.where(PIF, VLAN=3)) == 0

    with_server(tmp_path, body)


def test_a_change_that_has_to_be_agreed_on_goes_back_if_it_is_not(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await networks(server, 3)
        seen: list[tuple[set[int], int, int]] = []

        async def refuse(view: View) -> None:
            seen.append((bridges(server.host.network), view.count(VLAN), server.database.view.count(VLAN)))
            raise errors.host_offline(server.host.host)

        async def agree(_: View) -> None:
            seen.append((bridges(server.host.network), 0, 0))

        calls = [vlan_call(server, tag, network) for tag, network in enumerate(made, 1)]
        calls[1] = replace(calls[1], before_commit=refuse)
        calls[2] = replace(calls[2], before_commit=agree)
        one, two, three = await asyncio.gather(
            *(server.coordinator.run(call) for call in calls), return_exceptions=True
        )
        assert isinstance(one, str)
        assert isinstance(two, Failure)
        assert two.code == "HOST_OFFLINE"
        assert isinstance(three, str)
        assert seen == [({1, 2}, 2, 1), ({1, 3}, 0, 0)], "the host has changed, the database has not"
        assert bridges(server.host.network) == {1, 3}
        assert {vlan.tag for vlan in server.database.view.all(VLAN)} == {1, 3}

    with_server(tmp_path, body)


def test_nobody_sees_a_change_before_the_host_has_it(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        server.host.gate = asyncio.Event()
        number = server.database.feed.number
        running = asyncio.create_task(server.coordinator.run(vlan_call(server, 5, network)))
        await server.host.at_gate.wait()
        assert server.database.view.count(VLAN) == 0
        assert server.database.feed.number == number
        server.host.gate.set()
        await running
        assert server.database.view.count(VLAN) == 1

    with_server(tmp_path, body)


def test_a_call_that_is_cancelled_before_its_turn_does_not_happen(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        one, two = await networks(server, 2)
        server.host.gate = asyncio.Event()
        first = asyncio.create_task(server.coordinator.run(vlan_call(server, 1, one)))
        await server.host.at_gate.wait()
        second = asyncio.create_task(server.coordinator.run(vlan_call(server, 2, two)))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()  # too late: the host is being switched, and the caller hears what became of it
        server.host.gate.set()
        assert isinstance(await first, str)
        with pytest.raises(asyncio.CancelledError):
            await second
        assert bridges(server.host.network) == {1}

    with_server(tmp_path, body)


def test_a_lease_that_comes_before_the_pif_is_committed_is_not_missed(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        lease = AddressFacts(bridge="xenbr0", ipv4=("198.51.100.7/24",), gateway="198.51.100.1")
        server.host.reported = replace(FACTS, addresses=(lease,))
        view = server.database.view
        pif = view.where(PIF, device="eth0")[0].ref
        texts = {"IP": "", "netmask": "", "gateway": "", "DNS": ""}
        call = rule_call("PIF.reconfigure_ip", self=pif, mode=IpConfigurationMode.DHCP, **texts)
        await server.coordinator.run(call)
        await server.coordinator.write(lambda txn: None)  # what was to be written before is written
        row = view.get(PIF, pif)
        assert (row.IP, row.netmask, row.gateway) == ("198.51.100.7", "255.255.255.0", "198.51.100.1")

    with_server(tmp_path, body)


def test_keys_added_by_many_clients_at_once_all_stay(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)

        def add(key: str) -> Any:
            def change(txn: Any) -> None:
                old = txn.get(Network, network).other_config
                txn.update(Network, network, other_config={**old, key: "1"})

            return server.coordinator.write(change)

        await asyncio.gather(*(add(f"k{i}") for i in range(200)))
        assert len(server.database.view.get(Network, network).other_config) == 200

    with_server(tmp_path, body)


def test_a_bug_in_a_rule_is_an_internal_error_of_its_caller(tmp_path: Path) -> None:
    def broken(_: Any) -> None:
        raise KeyError("bug")

    async def body(server: InProcess) -> None:
        call = RuleCall(method="network.create", rule=broken, arguments={}, session=Session())
        results = await asyncio.gather(
            server.coordinator.run(call), server.coordinator.run(network_call("good")), return_exceptions=True
        )
        assert isinstance(results[0], Failure)
        assert results[0].code == "INTERNAL_ERROR"
        assert isinstance(results[1], str)

    with_server(tmp_path, body)


def test_a_scan_looks_at_the_host_before_its_rule_decides(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        await server.coordinator.run(rule_call("PIF.scan", host=server.host.host))
        assert server.host.looks == 1
        await networks(server, 1)
        assert server.host.looks == 1

    with_server(tmp_path, body)
