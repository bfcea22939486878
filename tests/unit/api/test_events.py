"""Tokens, collapsing, waiting, and the older calls (spec §5)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.answer import Origin
from poolnet.api.events import EventBatch, Subscriptions, make_token, parse_token
from poolnet.model.errors import Failure
from tests.in_process import InProcess, with_server

LOCAL = Origin(local_root=True)


async def perform(server: InProcess, session: str, method: str, *params: Any) -> Any:
    return await server.dispatcher.perform(session, method, list(params), LOCAL)


async def login(server: InProcess) -> str:
    return str(await perform(server, "", "session.login_with_password", "root", ""))


async def network(server: InProcess, session: str, name: str) -> str:
    return str(await perform(server, session, "network.create", {"name_label": name, "other_config": {}}))


async def batch(
    server: InProcess, session: str, classes: list[str], token: str, timeout_s: float
) -> EventBatch:
    got = await perform(server, session, "event.from", classes, token, timeout_s)
    assert isinstance(got, EventBatch)
    return got


def summary(got: EventBatch) -> list[tuple[str, str, str]]:
    return [(event.cls, event.operation, event.ref) for event in got.events]


def token_of(got: EventBatch) -> str:
    assert got.token is not None
    return got.token


def test_the_first_call_tells_of_everything_and_the_next_of_changes(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        first = await batch(server, session, ["Network"], "", 0.0)
        assert {event.operation for event in first.events} == {"add"}
        assert {event.cls for event in first.events} == {"network"}
        assert first.counts["network"] == len(first.events)
        made = await network(server, session, "new")
        after = await batch(server, session, ["network"], token_of(first), 5.0)
        assert summary(after) == [("network", "add", made)]
        await perform(server, session, "network.set_name_label", made, "a")
        await perform(server, session, "network.set_name_label", made, "b")
        changed = await batch(server, session, ["network"], token_of(after), 5.0)
        assert summary(changed) == [("network", "mod", made)]
        row = changed.events[0].row
        assert row is not None
        await perform(server, session, "network.destroy", made)
        gone = await batch(server, session, ["network"], token_of(changed), 5.0)
        assert summary(gone) == [("network", "del", made)]
        assert gone.events[0].row is None
        again = await batch(server, session, ["network"], token_of(first), 0.0)
        assert summary(again) == [], "made and destroyed between two calls: nothing"

    with_server(tmp_path, body)


def test_writing_the_same_value_is_no_event(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        made = await network(server, session, "same")
        token = token_of(await batch(server, session, ["network"], "", 0.0))
        await perform(server, session, "network.set_name_label", made, "same")
        assert summary(await batch(server, session, ["network"], token, 0.0)) == []

    with_server(tmp_path, body)


def test_a_waiting_call_is_answered_when_something_happens(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        token = token_of(await batch(server, session, ["network"], "", 0.0))
        waiting = asyncio.create_task(batch(server, session, ["network"], token, 30.0))
        await asyncio.sleep(0)
        made = await network(server, session, "new")
        assert summary(await waiting) == [("network", "add", made)]

    with_server(tmp_path, body)


def test_a_timeout_gives_no_events_and_a_good_token(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        token = token_of(await batch(server, session, ["vlan"], "", 0.0))
        got = await batch(server, session, ["vlan"], token, 0.01)
        assert got.events == ()
        assert parse_token(token_of(got)) >= parse_token(token)

    with_server(tmp_path, body)


def test_the_other_end_of_a_relation_is_modified_too(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        made = await network(server, session, "n")
        token = token_of(await batch(server, session, ["*"], "", 0.0))
        vm = await perform(server, session, "VM.create", minimal_vm())
        record = {
            "device": "0",
            "network": made,
            "VM": vm,
            "MAC": "",
            "MTU": 1500,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }
        await perform(server, session, "VIF.create", record)
        got = await batch(server, session, ["network", "vm"], token, 0.0)
        assert ("network", "mod", made) in summary(got)

    with_server(tmp_path, body)


def minimal_vm() -> dict[str, Any]:
    texts = "name_label name_description PV_bootloader PV_kernel PV_ramdisk PV_args PV_bootloader_args"
    more = "PV_legacy_args HVM_boot_policy PCI_bus recommendations"
    numbers = "user_version memory_static_max memory_dynamic_max memory_dynamic_min memory_static_min"
    return {
        **dict.fromkeys((texts + " " + more).split(), ""),
        **dict.fromkeys(numbers.split(), 2**28),
        **{name: {} for name in ("VCPUs_params", "HVM_boot_params", "platform", "other_config")},
        "VCPUs_max": 1,
        "VCPUs_at_startup": 1,
        "is_a_template": False,
        "affinity": "OpaqueRef:NULL",
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "destroy",
    }


def test_logging_out_wakes_the_session_s_waiting_calls(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        token = token_of(await batch(server, session, ["vlan"], "", 0.0))
        waiting = asyncio.create_task(batch(server, session, ["vlan"], token, 30.0))
        await asyncio.sleep(0)
        await perform(server, session, "session.logout")
        with pytest.raises(Failure) as refused:
            await waiting
        assert (refused.value.code, refused.value.params) == ("SESSION_INVALID", (session,))

    with_server(tmp_path, body)


def test_inject_gives_a_token_from_which_the_object_is_modified(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        made = await network(server, session, "n")
        token = await perform(server, session, "event.inject", "network", made)
        assert summary(await batch(server, session, ["network"], token, 0.0)) == [("network", "mod", made)]
        with pytest.raises(Failure) as refused:
            await perform(server, session, "event.inject", "PIF", made)
        assert refused.value.params == ("PIF", made)

    with_server(tmp_path, body)


def test_next_tells_every_change_in_order(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        with pytest.raises(Failure) as refused:
            await perform(server, session, "event.next")
        assert refused.value.code == "SESSION_NOT_REGISTERED"
        await perform(server, session, "event.register", ["network"])
        made = await network(server, session, "n")
        await perform(server, session, "network.set_name_label", made, "m")
        await perform(server, session, "network.destroy", made)
        got = await perform(server, session, "event.next")
        assert [event.operation for event in got.events] == ["add", "mod", "del"]
        numbers = [int(event.id) for event in got.events]
        assert numbers == sorted(numbers)
        assert int(await perform(server, session, "event.get_current_id")) > numbers[-1]
        waiting = asyncio.create_task(perform(server, session, "event.next"))
        await asyncio.sleep(0)
        other = await network(server, session, "o")
        assert [event.ref for event in (await waiting).events] == [other]

    with_server(tmp_path, body)


def test_subscriptions_split_at_the_first_slash_alone() -> None:
    subscriptions = Subscriptions.parse(["VM/OpaqueRef:a/b", "network", "nonsense"])
    assert subscriptions.match("vm", "OpaqueRef:a/b")
    assert not subscriptions.match("vm", "OpaqueRef:a")
    assert subscriptions.match("network", "anything")
    assert subscriptions.class_names() == {"VM", "network"}


@pytest.mark.parametrize("token", ["soon", "1", "1,2,3", "a,b", ","])
def test_a_token_is_two_numbers(token: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_token(token)
    assert (refused.value.code, refused.value.params) == ("EVENT_FROM_TOKEN_PARSE_FAILURE", (token,))


def test_tokens_have_twenty_digits_each() -> None:
    assert make_token(5, 6) == "00000000000000000005,00000000000000000006"
    assert parse_token(make_token(5, 6)) == (5, 6)
