"""Clients of a pool whose database is on a cluster, what they were told, and whether that is true in the end.

Clients on all consoles make 20 calls a second: networks that come, change and go, each with the number of its last change.
Whatever was acknowledged must be there in the end, and what was refused must not.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from tests.lab.console_client import Client, Denied, NotAnswered
from tests.lab.running import RunningLab
from tests.waiting import PATIENCE

CALLS_A_SECOND: Final = 20
CLIENTS: Final = 10
WHOLE_S: Final = 60.0 * PATIENCE
KEY: Final = "step"
_NUMBERS: Final = count(1)

REFUSED: Final = frozenset({"SESSION_INVALID", "HOST_STILL_BOOTING", "HOST_IS_SLAVE", "INTERNAL_ERROR"})
"""Answers that say that nothing has happened. CANNOT_CONTACT_HOST is none: the call was passed on to the one that died."""


@dataclass(slots=True)
class Kept:
    """What must be true of one network: which steps may be its last, None for one that is not there."""

    name: str
    ref: str = ""
    possible: set[int | None] = field(default_factory=lambda: {None})


@dataclass(frozen=True, slots=True)
class Answer:
    """A call that was acknowledged: on which host's console, when it began, and when the answer came."""

    host: str
    began: float
    ended: float


@dataclass(slots=True)
class Load:
    """The clients' work, and what they were told."""

    lab: RunningLab
    chance: random.Random
    name: str = field(default_factory=lambda: f"load{next(_NUMBERS)}")
    networks: list[Kept] = field(default_factory=list)
    made: int = 0
    acknowledged: int = 0
    denied: int = 0
    unanswered: int = 0
    answers: list[Answer] = field(default_factory=list)
    """The calls that changed something and were acknowledged."""

    async def run(self) -> None:
        """Calls until it is cancelled."""
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        hosts = hosts_of(self.lab)
        client = Client(self.lab, hosts[number % len(hosts)])
        own: list[Kept] = []
        each_s = CLIENTS / CALLS_A_SECOND
        await asyncio.sleep(each_s * number / CLIENTS)
        while True:
            began = time.monotonic()
            await self._step(client, number, own)
            await asyncio.sleep(max(0.0, began + each_s - time.monotonic()))

    async def _step(self, client: Client, number: int, own: list[Kept]) -> None:
        """One call: a new network, a change of one, or the end of one."""
        settled = [each for each in own if each.ref and len(each.possible) == 1 and None not in each.possible]
        choice = self.chance.random()
        if not settled or choice < 0.4:
            kept = Kept(f"{self.name}-{number}-{self.made}")
            self.made += 1
            own.append(kept)
            self.networks.append(kept)
            record = {"name_label": kept.name, "MTU": 1500, "other_config": {KEY: "0"}, "tags": []}
            made = await self._told(client, kept, 0, "network.create", record)
            kept.ref = str(made) if made is not None else ""
            return
        kept = self.chance.choice(settled)
        (now,) = kept.possible
        if choice < 0.85:
            step = (now or 0) + 1
            await self._told(client, kept, step, "network.set_other_config", kept.ref, {KEY: str(step)})
        else:
            await self._told(client, kept, None, "network.destroy", kept.ref)

    async def _told(self, client: Client, kept: Kept, becomes: int | None, method: str, *params: Any) -> Any:
        """Makes a call, and notes what its answer means for the network."""
        before = set(kept.possible)
        kept.possible = before | {becomes}
        began = time.monotonic()
        try:
            result = await client.call(method, *params)
        except NotAnswered:
            self.unanswered += 1
            return None
        except Denied as error:
            self.denied += 1
            if error.code in REFUSED:
                kept.possible = before
            elif error.code != "CANNOT_CONTACT_HOST":
                raise
            return None
        kept.possible = {becomes}
        self.acknowledged += 1
        self.answers.append(Answer(client.host, began, time.monotonic()))
        return result

    def first_answer_after(self, moment: float) -> float | None:
        """How long after it the first call was acknowledged that began later; None if none was yet."""
        found = [answer.ended for answer in self.answers if answer.began > moment]
        return min(found) - moment if found else None

    def acknowledged_between(self, host: str, since: float, until: float) -> int:
        """How many calls on a host's console were both made and acknowledged in that time."""
        return sum(
            answer.host == host and answer.began > since and answer.ended < until for answer in self.answers
        )

    async def faults(self) -> list[str]:
        """What is not as the clients were told."""
        records = await steady(Client(self.lab, hosts_of(self.lab)[0]), "network.get_all_records")
        there = {
            record["name_label"]: int(record["other_config"].get(KEY, "-1"))
            for record in records.values()
            if record["name_label"].startswith(f"{self.name}-")
        }
        wrong = [
            f"{kept.name} is at {there.get(kept.name)}, not at one of {kept.possible}"
            for kept in self.networks
            if there.get(kept.name) not in kept.possible
        ]
        made = {kept.name for kept in self.networks}
        return wrong + [f"{name} was never made" for name in there if name not in made]


async def steady(client: Client, method: str, *params: Any) -> Any:
    """The result of a call that is made until it is answered. Raises AssertionError when that takes too long."""
    until = time.monotonic() + WHOLE_S
    while True:
        try:
            return await client.call(method, *params)
        except (NotAnswered, Denied) as error:
            reason = str(error)
        assert time.monotonic() < until, f"{method}: {reason}"
        await asyncio.sleep(0.2)


async def status(lab: RunningLab) -> dict[str, Any]:
    """The cluster as the first host sees it that answers."""
    until = time.monotonic() + WHOLE_S
    while True:
        for host in hosts_of(lab):
            with suppress(NotAnswered, Denied):
                found: dict[str, Any] = json.loads(await Client(lab, host).call("pool.cluster_status"))
                return found
        assert time.monotonic() < until, "no host says how the cluster is"
        await asyncio.sleep(0.1)


def hosts_of(lab: RunningLab) -> tuple[str, ...]:
    """The names of its hosts, which all have a server."""
    return tuple(host.name for host in lab.lab.hosts)


async def whole(lab: RunningLab) -> str:
    """Waits until all servers are in the cluster and all hosts follow one coordinator; the name of that."""
    until = time.monotonic() + WHOLE_S
    while True:
        seen = await status(lab)
        if seen["enabled"] and {each["state"] for each in seen["servers"]} == {"leader", "follower"}:
            names = {each["host"]: str(each["name-label"]) for each in seen["servers"]}
            with suppress(NotAnswered, Denied):
                followed = {await _coordinator_at(lab, host) for host in hosts_of(lab)}
                if followed == {seen["coordinator"]} <= {*names}:
                    return names[seen["coordinator"]]
        assert time.monotonic() < until, f"the cluster does not come together: {seen}"
        await asyncio.sleep(0.2)


async def leading(lab: RunningLab) -> str:
    """The name of the host whose server leads. Raises AssertionError when none does for long."""
    until = time.monotonic() + WHOLE_S
    while True:
        seen = await status(lab)
        for each in seen["servers"]:
            if each["state"] == "leader":
                return str(each["name-label"])
        assert time.monotonic() < until, f"no server leads: {seen}"
        await asyncio.sleep(0.1)


async def designate(lab: RunningLab, host: str) -> str:
    """Hands the coordinator's role to that host, and waits until all follow it; its name."""
    client = Client(lab, host, WHOLE_S)
    (ref,) = await client.call("host.get_by_name_label", host)
    with suppress(NotAnswered):  # by the one that leaves
        await client.call("pool.designate_new_master", ref)
    until = time.monotonic() + WHOLE_S
    while (now := await whole(lab)) != host:
        assert time.monotonic() < until, f"{now} coordinates, and not {host}"
    return host


async def _coordinator_at(lab: RunningLab, host: str) -> str:
    """The uuid of the coordinator as a host's console says. Raises NotAnswered, Denied."""
    client = Client(lab, host)
    (pool,) = (await client.call("pool.get_all_records")).values()
    return str(await client.call("host.get_uuid", pool["master"]))


async def enable(lab: RunningLab, host: str = "host1") -> None:
    """Moves the pool's database, which that host coordinates, to a cluster of all hosts, if it is on none."""
    if not (await status(lab))["enabled"]:
        client = Client(lab, host, WHOLE_S)
        await client.call("pool.cluster_enable", list(await client.call("host.get_all")))
    await whole(lab)


def kill(lab: RunningLab, host: str, *, database: bool, server: bool = True) -> None:
    """Kills a host's API server, its server of the database, or both."""
    wanted = [*(["/poolnet-api"] if server else []), *(["/cluster/pool.ovsdb"] if database else [])]
    namespace = os.readlink(f"/proc/{lab.lab.host(host).pid}/ns/pid")  # noqa: PTH115 - a name, not a file
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                words = Path(f"/proc/{entry.name}/cmdline").read_bytes().decode(errors="replace").split("\0")
                inside = os.readlink(f"/proc/{entry.name}/ns/pid") == namespace  # noqa: PTH115 - likewise
                if inside and any(word.endswith(tuple(wanted)) for word in words[:2]):
                    os.kill(int(entry.name), signal.SIGKILL)
