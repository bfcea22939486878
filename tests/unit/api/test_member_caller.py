"""How a member's console hears the end of a call whose answer was sent to an address that the member has no more."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from poolnet.api import member_caller
from poolnet.api.answer import Relayed, Request
from poolnet.api.member_caller import ForwardingCaller, runs_here
from poolnet.api.results import result_xml
from poolnet.model.failure import Failure
from poolnet.model.registry import MESSAGES
from poolnet.model.types import Value

METHOD = "Async.PIF.unplug"


class Coordinator:
    """Answers everything but the asynchronous call itself, which begins tasks of these names."""

    def __init__(
        self, *begins: str, result: str = "", forgets: str = "", at: str = "task.get_status"
    ) -> None:
        self._result = result
        self._forgotten_at = at
        self._forgets = forgets
        self.within: set[float | None] = set()
        self._tasks = {"OpaqueRef:old": METHOD}
        self._begins = begins
        self.asked: list[str] = []

    async def __call__(self, request: Request) -> Relayed:
        method = msgspec.json.decode(request.body)["method"]
        self.asked.append(method)
        self.within.add(request.confirm_within_s)
        if method.startswith("Async."):
            self._tasks |= {f"OpaqueRef:{number}": name for number, name in enumerate(self._begins)}
            await asyncio.Event().wait()
        answers: dict[str, Any] = {
            "task.get_all": list(self._tasks),
            "task.get_all_records": {ref: {"name_label": name} for ref, name in self._tasks.items()},
            "task.get_status": "success",
            "task.get_error_info": [],
            "task.get_result": self._result,
            "task.destroy": "",
        }
        if self._forgets and method == self._forgotten_at:
            return Relayed("application/json", msgspec.json.encode({"error": {"message": self._forgets}}))
        return Relayed("application/json", msgspec.json.encode({"result": answers[method]}))


def unplug(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_caller, "ASKED_S", 0.05)
    caller = ForwardingCaller(coordinator, "OpaqueRef:session")
    asyncio.run(asyncio.wait_for(caller.call("PIF.unplug", "OpaqueRef:pif"), 20))


def test_a_time_of_its_own_for_confirmations_goes_with_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_caller, "ASKED_S", 0.05)
    coordinator = Coordinator(METHOD)
    caller = ForwardingCaller(coordinator, "OpaqueRef:session").confirming(7.0)
    asyncio.run(asyncio.wait_for(caller.call("PIF.unplug", "OpaqueRef:pif"), 20))
    assert coordinator.within == {7.0}


@pytest.mark.parametrize(
    ("words", "here"),
    [
        (("pif-reconfigure-ip", "confirm-within=5"), True),
        (("pif-reconfigure-ip", "--confirm-within=5"), True),
        (("pif-reconfigure-ip", "--dry-run"), False),
        (("pif-reconfigure-ip", "dry-run=true"), False),
        (("host-list",), False),
    ],
)
def test_what_may_cut_the_member_off_is_carried_out_call_by_call(
    words: tuple[str, ...], *, here: bool
) -> None:
    assert runs_here(words[0], words) is here


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("Bond.create", "OpaqueRef:bond"),
        ("pool.create_bond", ("OpaqueRef:one", "OpaqueRef:two")),
        ("pool.create_bond", ()),
        ("pool.explain_join", "eth1 -> 'a & b' <new>"),
    ],
)
def test_what_a_call_gives_is_read_from_its_task(
    method: str, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_caller, "ASKED_S", 0.05)
    coordinator = Coordinator(f"Async.{method}", result=result_xml(MESSAGES[method].result, value))
    caller = ForwardingCaller(coordinator, "OpaqueRef:session")
    assert asyncio.run(asyncio.wait_for(caller.call(method), 20)) == value


def test_the_task_is_looked_for_when_the_answer_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = Coordinator(METHOD, "Async.VM.start")
    unplug(coordinator, monkeypatch)
    assert coordinator.asked[-1] == "task.destroy"


@pytest.mark.parametrize("begins", [(), (METHOD, METHOD)])
def test_a_task_that_may_be_somebody_elses_is_not_taken(
    begins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = Coordinator(*begins)
    with pytest.raises(Failure) as caught:
        unplug(coordinator, monkeypatch)
    assert caught.value.code == "CANNOT_CONTACT_HOST"
    assert coordinator.asked[-1] == "task.get_all_records"


@pytest.mark.parametrize("code", ["SESSION_INVALID", "HANDLE_INVALID"])
def test_a_coordinator_that_has_started_anew_says_nothing_of_the_call(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the caller it must not look as if the call had been refused: it may have been carried out."""
    with pytest.raises(Failure) as caught:
        unplug(Coordinator(METHOD, forgets=code), monkeypatch)
    assert caught.value.code == "CANNOT_CONTACT_HOST"


def test_how_a_call_ended_is_known_even_if_its_task_cannot_be_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unplug(Coordinator(METHOD, forgets="HANDLE_INVALID", at="task.destroy"), monkeypatch)
