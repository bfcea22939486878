"""Does a pool whose database is on a cluster lose anything when its coordinator is killed, again and again, under load?

`python -m tests.lab.cluster_soak --kills 50` brings up three hosts, moves their database to a cluster, and lets clients on all
of them make 20 calls a second: networks that come, change and go, each with the number of its last change. Meanwhile the
coordinator's API server is killed (SIGKILL), mostly together with its server of the database, and sometimes killed again
whenever it comes back. Whatever was acknowledged must be there in the end, and what was refused must not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.lab.running import PATIENCE, RunningLab, running_lab

HOSTS: Final = ("host1", "host2", "host3")
CALLS_A_SECOND: Final = 20
CLIENTS: Final = 10
CALL_S: Final = 20.0
WHOLE_S: Final = 60.0 * PATIENCE
AWAY_S: Final = 3.0
ACCIDENTS: Final = ("server and database", "server alone", "server and database, which stay away")
KEY: Final = "step"


class NotAnswered(Exception):
    """A call without an answer: nobody knows what became of it."""


class Denied(Exception):
    """A call that was answered with an error; `code` is the first word of it."""

    def __init__(self, description: list[str]) -> None:
        super().__init__(" ".join(description))
        self.code = description[0] if description else ""


REFUSED: Final = frozenset({"SESSION_INVALID", "HOST_STILL_BOOTING", "HOST_IS_SLAVE", "INTERNAL_ERROR"})
"""Answers that say that nothing has happened. CANNOT_CONTACT_HOST is none: the call was passed on to the one that died."""


class Client:
    """Calls at the console of one host, as its administrator makes them."""

    def __init__(self, lab: RunningLab, host: str) -> None:
        self.host = host
        self._password = lab.lab.password
        self._path = str(lab.lab.directory / host / "run/poolnet/xapi.sock")
        self._session = ""

    async def call(self, method: str, *params: Any) -> Any:
        """The result. Raises NotAnswered, Denied."""
        if not self._session:
            login = ("root", self._password, "1.0", "soak")
            self._session = str(await self._post("session.login_with_password", *login))
        try:
            return await self._post(method, self._session, *params)
        except (NotAnswered, Denied):
            self._session = ""
            raise

    async def _post(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(self._path), timeout=timeout
                ) as session,
                session.post("http://localhost/jsonrpc", json=body) as response,
            ):
                answer = json.loads(await response.read())
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NotAnswered(f"{type(error).__name__} {error}") from error
        if answer.get("error") is not None:
            failure = answer["error"]
            if isinstance(failure, dict):
                failure = [failure.get("message", ""), *(failure.get("data") or ())]
            raise Denied([str(each) for each in failure])
        return answer["result"]


@dataclass(slots=True)
class Kept:
    """What must be true of one network: which steps may be its last, None for one that is not there."""

    name: str
    ref: str = ""
    possible: set[int | None] = field(default_factory=lambda: {None})


@dataclass(slots=True)
class Load:
    """The clients' work, and what they were told."""

    lab: RunningLab
    chance: random.Random
    networks: list[Kept] = field(default_factory=list)
    made: int = 0
    acknowledged: int = 0
    denied: int = 0
    unanswered: int = 0
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each call that changed something began, and was acknowledged."""

    async def run(self) -> None:
        """Calls until it is cancelled."""
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        client = Client(self.lab, HOSTS[number % len(HOSTS)])
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
            kept = Kept(f"soak-{number}-{self.made}")
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
        self.answers.append((began, time.monotonic()))
        return result

    def first_answer_after(self, moment: float) -> float | None:
        """How long after it the first call was acknowledged that began later; None if none was yet."""
        found = [ended for began, ended in self.answers if began > moment]
        return min(found) - moment if found else None

    async def faults(self) -> list[str]:
        """What is not as the clients were told."""
        records = await steady(Client(self.lab, HOSTS[0]), "network.get_all_records")
        there = {
            record["name_label"]: int(record["other_config"].get(KEY, "-1"))
            for record in records.values()
            if record["name_label"].startswith("soak-")
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
        for host in HOSTS:
            with suppress(NotAnswered, Denied):
                found: dict[str, Any] = json.loads(await Client(lab, host).call("pool.cluster_status"))
                return found
        assert time.monotonic() < until, "no host says how the cluster is"
        await asyncio.sleep(0.1)


async def whole(lab: RunningLab) -> str:
    """Waits until all servers are in the cluster and all hosts follow one coordinator; the name of that."""
    until = time.monotonic() + WHOLE_S
    while True:
        seen = await status(lab)
        if seen["enabled"] and {each["state"] for each in seen["servers"]} == {"leader", "follower"}:
            names = {each["host"]: each["name-label"] for each in seen["servers"]}
            with suppress(NotAnswered, Denied):
                hosts = [await Client(lab, host).call("pool.get_all_records") for host in HOSTS]
                if len(hosts) == len(HOSTS) and seen["coordinator"] in names:
                    return str(names[seen["coordinator"]])
        assert time.monotonic() < until, f"the cluster does not come together: {seen}"
        await asyncio.sleep(0.2)


async def enable(lab: RunningLab, host: str = HOSTS[0]) -> None:
    """Moves the pool's database to a cluster."""
    await Client(lab, host).call("pool.cluster_enable", [])
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


async def one_death(lab: RunningLab, load: Load, accident: str) -> float:
    """Kills the coordinator in one way; how long it took until a call was acknowledged again, in seconds."""
    coordinator = await whole(lab)
    await asyncio.sleep(load.chance.uniform(0.2, 1.0))
    died = time.monotonic()
    kill(lab, coordinator, database=accident != "server alone")
    while (answered := load.first_answer_after(died)) is None:
        if "stay away" in accident and time.monotonic() < died + AWAY_S:
            kill(lab, coordinator, database=True)
        assert time.monotonic() < died + WHOLE_S, f"no call is answered after {accident} of {coordinator}"
        await asyncio.sleep(0.02)
    return answered


async def soak(
    lab: RunningLab, kills: int, seed: int, show: Any = lambda _: None
) -> tuple[list[float], list[str]]:
    """Kills so many coordinators under load; the seconds until calls were answered again, and what is wrong then."""
    chance = random.Random(seed)
    load = Load(lab, chance)
    await enable(lab)
    calling = asyncio.create_task(load.run())
    times = []
    began = time.monotonic()
    try:
        for number in range(kills):
            accident = ACCIDENTS[number % len(ACCIDENTS)]
            times.append(await one_death(lab, load, accident))
            show(f"{number + 1}: {accident}: answered after {times[-1]:.2f} s")
            if calling.done():
                calling.result()
        await whole(lab)
    finally:
        lasted = time.monotonic() - began
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    faults = await load.faults()
    calls = load.acknowledged + load.denied + load.unanswered
    show(
        f"{calls} calls in {lasted:.0f} s ({calls / lasted:.1f} a second): {load.acknowledged} acknowledged, "
        f"{load.denied} refused, {load.unanswered} not answered"
    )
    return times, faults


def main() -> int:
    """Runs it on a lab of its own; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with running_lab(hosts=len(HOSTS), pool=True) as lab:
        times, faults = asyncio.run(
            soak(lab, options.kills, options.seed, lambda text: print(text, flush=True))
        )
    print(
        f"calls answered again after: median {statistics.median(times):.2f} s, longest {max(times):.2f} s, "
        f"{len(times)} deaths"
    )
    print("\n".join(faults) or "nothing that was acknowledged is lost, nothing that was refused is there")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
