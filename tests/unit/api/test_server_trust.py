"""In which order do the servers of the database forget the CAs that are trusted no more, and when do they wait?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from poolnet.api import server_trust
from poolnet.api.server_trust import renew_servers
from poolnet.model import errors
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.cluster import Seen


@dataclass
class Servers:
    """A cluster: how each server is, which trust a former CA, and which start anew when they are told to."""

    states: dict[str, str]
    outdated: set[str]
    away: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    renewed: list[str] = field(default_factory=list)

    async def look(self) -> Sequence[Seen]:
        return [Seen(uuid=uuid, address="", state=state) for uuid, state in self.states.items()]

    async def ask(self, uuid: str, what: wire.Certify) -> wire.Certified:
        if uuid in self.away:
            raise errors.cannot_contact_host(Ref(uuid))
        if what.action == "forget":
            self.renewed.append(uuid)
            if uuid not in self.stuck:
                self.outdated.discard(uuid)
            if self.states[uuid] == "leader":
                follower = next(each for each, state in self.states.items() if state == "follower")
                self.states |= {uuid: "follower", follower: "leader"}
        return wire.Certified(server="", internal="", outdated=uuid in self.outdated)

    def renew(self) -> bool:
        return asyncio.run(renew_servers(self.look, self.ask))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_trust, "LOOK_S", 0.0)
    monkeypatch.setattr(server_trust, "SERVES_S", 0.05)


def test_the_one_that_leads_comes_last_and_those_with_nothing_to_forget_go_on() -> None:
    servers = Servers({"a": "leader", "b": "follower", "c": "follower"}, {"a", "c"})
    assert servers.renew()
    assert servers.renewed == ["c", "a"]
    assert servers.renew()
    assert servers.renewed == ["c", "a"]


@pytest.mark.parametrize("state", ["not reached", "no majority", "starting"])
def test_none_starts_anew_while_the_others_are_no_majority_without_it(state: str) -> None:
    servers = Servers({"a": "leader", "b": "follower", "c": state}, {"a", "b"})
    assert not servers.renew()
    assert servers.renewed == []
    five = Servers({"a": "leader", "b": "follower", "c": state, "d": "follower", "e": "follower"}, {"a", "b"})
    assert five.renew()
    assert five.renewed == ["b", "a"]


def test_the_next_one_waits_for_one_that_does_not_come_back() -> None:
    servers = Servers(
        {"a": "leader", "b": "follower", "c": "follower"}, {"a", "b", "c"}, stuck=frozenset({"b"})
    )
    assert not servers.renew()
    assert servers.renewed == ["b"]


def test_a_host_that_cannot_be_asked_has_it_tried_again_later() -> None:
    servers = Servers({"a": "leader", "b": "follower", "c": "follower"}, {"a", "c"}, away=frozenset({"c"}))
    assert not servers.renew()
    assert servers.renewed == ["a"]
    servers.away = frozenset()
    assert servers.renew()
    assert servers.renewed == ["a", "c"]
