"""Tokens, collapsing, waiting, and the older calls (spec §5)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from poolnet.api import events as module
from poolnet.api.answer import Origin
from poolnet.api.events import BATCHING_S, EventBatch, Subscriptions, make_token, parse_token
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.host import Host
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


def test_alerts_are_events_and_outlive_the_server(tmp_path: Path) -> None:
    engine = MemoryEngine()

    async def raise_one(server: InProcess) -> None:
        session = await login(server)
        start = await batch(server, session, ["message"], "", 0.0)
        assert (start.events, "message" in start.counts) == ((), False)  # spec §5.2: not among the tables
        uuid = next(iter(server.database.view.all(Host))).uuid
        ref = await perform(server, session, "message.create", "N", "3", "host", uuid, "b")
        after = await batch(server, session, ["message"], token_of(start), 5.0)
        assert [(*one, after.events[0].id) for one in summary(after)] == [("message", "add", ref, "0")]

    async def find_it(server: InProcess) -> None:
        session = await login(server)
        (ref,) = await perform(server, session, "message.get_all")
        start = await batch(server, session, ["*"], "", 0.0)
        assert summary(start)[0] == ("message", "add", ref)
        await perform(server, session, "message.destroy", ref)
        after = await batch(server, session, ["message"], token_of(start), 5.0)
        assert summary(after) == [("message", "del", ref)]

    with_server(tmp_path, raise_one, engine)
    with_server(tmp_path, find_it, engine)


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


@pytest.mark.parametrize("token", [make_token(10**19, 0), make_token(10**19, 10**19)])
def test_a_token_of_another_database_gives_everything(tmp_path: Path, token: str) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        got = await batch(server, session, ["network"], token, 5.0)
        assert {event.operation for event in got.events} == {"add"}
        assert len(got.events) == got.counts["network"]
        number = server.database.feed.number
        assert token_of(got) == make_token(number, number)

    with_server(tmp_path, body)


@pytest.mark.parametrize("timeout_s", [-1.0, -1e300, 1e300])
def test_a_timeout_that_means_nothing_means_a_day(tmp_path: Path, timeout_s: float) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        token = token_of(await batch(server, session, ["network"], "", timeout_s))
        waiting = asyncio.create_task(batch(server, session, ["network"], token, timeout_s))
        made = await network(server, session, "new")
        assert summary(await waiting) == [("network", "add", made)]

    with_server(tmp_path, body)


def test_everything_is_adds_then_mods_then_dels(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        gone, changed = await network(server, session, "gone"), await network(server, session, "changed")
        token = token_of(await batch(server, session, ["*"], "", 0.0))
        await perform(server, session, "network.destroy", gone)
        await perform(server, session, "network.set_name_label", changed, "renamed")
        made = await network(server, session, "made")
        got = await batch(server, session, ["*"], token, 0.0)
        seen = [event for event in summary(got) if event[0] != "task"]
        assert seen == [("network", "add", made), ("network", "mod", changed), ("network", "del", gone)]
        assert {event.timestamp for event in got.events} == {"0.0"}
        assert not {event.cls for event in got.events} & {"session", "event", "user", "secret"}

    with_server(tmp_path, body)


def test_what_follows_closely_is_told_together_but_tasks_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCHING_S", 0.5)  # three changes take that long on a busy machine

    async def body(server: InProcess) -> None:
        session = await login(server)
        token = token_of(await batch(server, session, ["*"], "", 0.0))
        both = asyncio.create_task(batch(server, session, ["network"], token, 30.0))
        loop = asyncio.get_running_loop()
        began = loop.time()
        tasks = asyncio.create_task(batch(server, session, ["task"], token, 30.0))
        await asyncio.sleep(0)
        task = str(await perform(server, session, "task.create", "mine", ""))
        assert ("task", "add", task) in summary(await tasks)
        one, two = await network(server, session, "one"), await network(server, session, "two")
        assert summary(await both) == [("network", "add", one), ("network", "add", two)]
        assert loop.time() - began >= module.BATCHING_S

    with_server(tmp_path, body)


def test_changes_of_others_do_not_end_the_waiting_nor_lose_anything(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        made = await network(server, session, "n")
        token = token_of(await batch(server, session, [], "", 0.0))
        waiting = asyncio.create_task(batch(server, session, [f"network/{made}"], token, 30.0))
        for _ in range(3):
            await network(server, session, "other")
            await asyncio.sleep(BATCHING_S)
        assert not waiting.done()
        await perform(server, session, "network.destroy", made)
        assert summary(await waiting) == [("network", "del", made)]

    with_server(tmp_path, body)


def test_a_session_that_ends_during_the_batching_is_not_waited_for(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session, other = await login(server), await login(server)
        token = token_of(await batch(server, session, ["vlan"], "", 0.0))
        waiting = asyncio.create_task(batch(server, session, ["vlan"], token, 30.0))
        await network(server, other, "wakes it")
        await perform(server, session, "session.logout")
        with pytest.raises(Failure, match="SESSION_INVALID"):
            await waiting

    with_server(tmp_path, body)


def test_what_was_dropped_unread_is_said_to_be_lost_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES_MAX", 3000)

    async def body(server: InProcess) -> None:
        session, other = await login(server), await login(server)
        await perform(server, session, "event.register", ["network"])
        for number in range(20):
            await network(server, session, f"n{number}")
        await perform(server, other, "event.register", ["network"])
        with pytest.raises(Failure, match="EVENTS_LOST"):
            await perform(server, session, "event.next")
        made = await network(server, session, "after")
        for reader in (session, other):
            got = await perform(server, reader, "event.next")
            assert [event.ref for event in got.events] == [made]

    with_server(tmp_path, body)


def test_nothing_is_queued_that_nobody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES_MAX", 3000)

    async def body(server: InProcess) -> None:
        session = await login(server)
        await perform(server, session, "event.register", ["vlan"])
        before = server.events.current_id
        for number in range(20):
            await network(server, session, f"n{number}")
        assert server.events.current_id == before

    with_server(tmp_path, body)


def test_registrations_add_up_and_are_taken_away_again(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        for entries in (["vm"], ["Network"], ["vm"]):
            await perform(server, session, "event.register", entries)
        made = await network(server, session, "n")
        assert [e.ref for e in (await perform(server, session, "event.next")).events] == [made]
        await perform(server, session, "event.unregister", ["vm", "Network"])
        with pytest.raises(Failure, match="SESSION_NOT_REGISTERED"):
            await perform(server, session, "event.next")
        with pytest.raises(Failure, match="INTERNAL_ERROR"):
            await perform(server, session, "event.register", [str(n) for n in range(20_001)])

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
