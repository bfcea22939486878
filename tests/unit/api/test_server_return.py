"""Who kicks a database server that has lost what it kept, and when does another one take its place?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from poolnet.api.server_return import bring_back, helpers
from poolnet.pool import wire
from poolnet.pool.cluster import ClusterTrouble, Seen
from poolnet.pool.membership import Cluster, ClusterServer
from poolnet.pool.peer import PeerDenied, PeerGone

CLUSTER = Cluster(
    line="line",
    servers=tuple(ClusterServer(uuid=uuid, address=f"192.0.2.{n}") for n, uuid in enumerate("abc", 1)),
)


@dataclass
class Hosts:
    """The hosts of a cluster: how each server is, and what each host was asked, with what came of that."""

    states: dict[str, str]
    failures: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def ask(self, uuid: str, question: wire.KickServer | wire.ServeDatabase) -> None:
        self.asked.append((uuid, type(question).__name__, question.server.uuid))
        if isinstance(question, wire.ServeDatabase):
            assert question.server.raft not in question.join
            assert len(question.join) == len(CLUSTER.servers) - 1
        if uuid in self.failures:
            raise self.failures[uuid]

    def bring_back(self, *lost: str) -> list[tuple[str, str, str]]:
        seen = [Seen(uuid=uuid, address="", state=state) for uuid, state in self.states.items()]
        asyncio.run(bring_back(CLUSTER, seen, lost, self.ask))
        return self.asked


def test_it_is_kicked_by_the_one_that_leads_before_another_takes_its_place() -> None:
    hosts = Hosts({"a": "follower", "b": "leader", "c": "not reached"})
    assert hosts.bring_back("c") == [("b", "KickServer", "c"), ("c", "ServeDatabase", "c")]


@pytest.mark.parametrize(
    "states",
    [
        {"a": "leader", "b": "not reached", "c": "not reached"},
        {"a": "no majority", "b": "no majority", "c": "not reached"},
        {"a": "follower", "b": "follower", "c": "leader"},
        {"a": "leader", "b": "starting", "c": "follower"},
    ],
)
def test_nobody_is_kicked_without_a_majority_of_the_others(states: dict[str, str]) -> None:
    assert Hosts(states).bring_back("c") == []


@pytest.mark.parametrize(
    "failure", [PeerGone("away"), PeerDenied(wire.Denied(reason="no")), ClusterTrouble("no")]
)
def test_another_is_asked_if_the_one_that_leads_cannot_kick(failure: Exception) -> None:
    hosts = Hosts({"a": "leader", "b": "follower", "c": "not reached"}, {"a": failure})
    assert hosts.bring_back("c") == [
        ("a", "KickServer", "c"),
        ("b", "KickServer", "c"),
        ("c", "ServeDatabase", "c"),
    ]


def test_none_takes_its_place_if_nobody_could_kick_it() -> None:
    trouble = ClusterTrouble("no")
    hosts = Hosts({"a": "leader", "b": "follower", "c": "not reached"}, {"a": trouble, "b": trouble})
    assert [each[:2] for each in hosts.bring_back("c")] == [("a", "KickServer"), ("b", "KickServer")]


def test_two_of_five_come_back_one_after_the_other() -> None:
    seen = [
        Seen(uuid=uuid, address="", state=state)
        for uuid, state in {
            "a": "follower",
            "b": "not reached",
            "c": "leader",
            "d": "not reached",
            "e": "follower",
        }.items()
    ]
    assert helpers(seen, {"b", "d"}) == ["c", "a", "e"]
    assert helpers(seen, {"b", "d", "e"}) == []
