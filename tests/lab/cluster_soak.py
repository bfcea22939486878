"""Does a pool whose database is on a cluster lose anything when its coordinator dies or is cut off, again and again, under load?

`python -m tests.lab.cluster_soak --kills 50` brings up three hosts (`--servers 5`: five), moves their database to a cluster, and
lets clients on all of them make 20 calls a second (`cluster_load`). Meanwhile the coordinator's API server is killed (SIGKILL),
mostly together with its server of the database, and sometimes killed again whenever it comes back. With `--cuts`, hosts are cut
off and lose their power as well: without a word to anybody, as nothing that they send arrives. With `--pairs`, two hosts do not
hear each other, or one does not hear the other, while both hear the third; the server that leads and the coordinator are in each
place that makes a difference. Whatever was acknowledged must be there in the end, what was refused must not, and who is cut off
acknowledges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Final

from poolnet.lab import life, machine
from tests.lab.cluster_load import WHOLE_S, Load, designate, enable, hosts_of, kill, leading, whole
from tests.lab.running import MADE, RunningLab, running_lab
from tests.waiting import PATIENCE

AWAY_S: Final = 3.0
APART_S: Final = 10.0
"""How long a pair is kept apart, at least: by then everybody has noticed, and what then happens again and again would show."""

SHORT_S: Final = 2.0
BACK_S: Final = 15.0 * PATIENCE
"""After a cut or a lost power, calls are answered again within that time. It takes up to three seconds until somebody notices, or
until a server gives up the lock of a coordinator that it does not hear, an election if it led, and then a coordinator starts."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who leads and who coordinates, of `one`, whom the `other` does not hear (`both`: neither hears the other), and the `third`."""

    leads: str
    coordinates: str
    both: bool = True

    @property
    def together(self) -> bool:
        """Whether the coordinator's server leads."""
        return self.leads == self.coordinates

    def __str__(self) -> str:
        cut = "apart" if self.both else "one unheard by the other"
        return f"{cut}, {self.leads} leads, {self.coordinates} coordinates"


@dataclass(slots=True)
class Soak:
    """A pool under load, and what was wrong with it so far."""

    lab: RunningLab
    load: Load
    wrong: list[str] = field(default_factory=list)

    async def answered_after(self, moment: float, within_s: float, again: Callable[[], None]) -> float:
        """How long it takes until a call is acknowledged again; `again` is called meanwhile. Raises AssertionError."""
        while (answered := self.load.first_answer_after(moment)) is None:
            again()
            assert time.monotonic() < moment + within_s, "no call is answered again"
            await asyncio.sleep(0.02)
        return answered

    # --- deaths ------------------------------------------------------------------------------------------------

    async def server_and_database(self) -> float:
        """The coordinator's server dies with its server of the database."""
        return await self._death(database=True)

    async def server_alone(self) -> float:
        """The coordinator's server dies."""
        return await self._death(database=False)

    async def server_and_database_stay_away(self) -> float:
        """Both die, and again whenever they come back within some seconds."""
        return await self._death(database=True, away_s=AWAY_S)

    async def _death(self, *, database: bool, away_s: float = 0.0) -> float:
        coordinator = await self._some_time_later()
        died = time.monotonic()
        kill(self.lab, coordinator, database=database)

        def again() -> None:
            if time.monotonic() < died + away_s:
                kill(self.lab, coordinator, database=True)

        return await self.answered_after(died, WHOLE_S, again)

    # --- cuts --------------------------------------------------------------------------------------------------

    async def coordinator_cut_off(self) -> float:
        """The coordinator is cut off until another one answers."""
        cut = await self._some_time_later()
        since = await self._cut(cut)
        answered = await self.answered_after(since, BACK_S, _nothing)
        await self._heal(cut, since)
        return answered

    async def coordinator_cut_off_shortly(self) -> float:
        """The coordinator is cut off, and heard again while calls wait; how long it takes until one is answered."""
        cut = await self._some_time_later()
        since = await self._cut(cut)
        await asyncio.sleep(SHORT_S)
        await self._heal(cut, since)
        return await self.answered_after(since, BACK_S, _nothing)

    async def member_cut_off(self) -> float:
        """A member is cut off and comes back; how long no call at all was answered."""
        coordinator = await self._some_time_later()
        cut = self.load.chance.choice([host for host in hosts_of(self.lab) if host != coordinator])
        since = await self._cut(cut)
        await asyncio.sleep(AWAY_S)
        await self.answered_after(time.monotonic(), BACK_S, _nothing)
        await self._heal(cut, since)
        await whole(self.lab)
        ended = [since, *sorted(a.ended for a in self.load.answers if a.ended > since)]
        return max(later - earlier for earlier, later in pairwise(ended))

    async def power_lost(self) -> float:
        """The coordinator's host is gone without a word; it is switched on when another one answers."""
        gone = await self._some_time_later()
        since = await self._cut(gone)
        await machine.end(self.lab.lab.directory / gone, ask=False)
        answered = await self.answered_after(since, BACK_S, _nothing)
        await life.heal(self.lab.name, gone)
        await life.reboot(self.lab.name, gone, hard=True)
        MADE.note(self.lab.lab)
        return answered

    # --- pairs -------------------------------------------------------------------------------------------------

    async def pair(self, place: Place) -> float:
        """Two hosts do not hear each other, or one not the other; how long no call at all was answered."""
        one, other = await self._arranged(place)
        ways = [(one, other), (other, one)][: 2 if place.both else 1]
        since = time.monotonic()
        for sender, receiver in ways:
            await life.cut(self.lab.name, sender, receiver)
        await self.answered_after(since, BACK_S, _nothing)
        await asyncio.sleep(max(0.0, since + APART_S - time.monotonic()))
        until = time.monotonic()
        await self.answered_after(until, BACK_S, _nothing)
        for sender, receiver in ways:
            await life.mend(self.lab.name, sender, receiver)
        await whole(self.lab)
        ended = [since, *sorted(a.ended for a in self.load.answers if a.ended > since)]
        return max(later - earlier for earlier, later in pairwise(ended))

    async def pair_as_it_is(self) -> float:
        """As `pair`, in one of the places in which leader and coordinator are already."""
        together = await leading(self.lab) == await whole(self.lab)
        return await self.pair(
            self.load.chance.choice([place for place in PLACES if place.together == together])
        )

    async def _arranged(self, place: Place) -> tuple[str, str]:
        """Has the server that leads and the coordinator in their places; which one does not hear whom."""
        hosts = hosts_of(self.lab)
        coordinator = await self._some_time_later()
        leader = await leading(self.lab)
        if (leader == coordinator) != place.together:
            elsewhere = self.load.chance.choice([host for host in hosts if host != coordinator])
            coordinator = await designate(self.lab, leader if place.together else elsewhere)
            leader = await leading(self.lab)
        there = {place.leads: leader, place.coordinates: coordinator}
        free = [host for host in hosts if host not in there.values()]
        for name in {"one", "other", "third"} - there.keys():
            there[name] = free.pop()
        return there["one"], there["other"]

    async def _some_time_later(self) -> str:
        coordinator = await whole(self.lab)
        await asyncio.sleep(self.load.chance.uniform(0.2, 1.0))
        return coordinator

    async def _cut(self, host: str) -> float:
        """Nothing that the host sends to others arrives; since when."""
        await life.partition(self.lab.name, host)
        return time.monotonic()

    async def _heal(self, host: str, since: float) -> None:
        """Ends a cut. What was acknowledged at that host meanwhile is wrong."""
        until = time.monotonic()
        await life.heal(self.lab.name, host)
        if number := self.load.acknowledged_between(host, since, until):
            self.wrong.append(f"{host}, which was cut off, acknowledged {number} calls")


def _nothing() -> None:
    """Nothing else is done."""


Accident = Callable[[Soak], Awaitable[float]]
KILLS: Final[Mapping[str, Accident]] = {
    "server and database": Soak.server_and_database,
    "server alone": Soak.server_alone,
    "server and database, which stay away": Soak.server_and_database_stay_away,
}
CUTS: Final[Mapping[str, Accident]] = {
    "coordinator cut off": Soak.coordinator_cut_off,
    "coordinator cut off shortly": Soak.coordinator_cut_off_shortly,
    "member cut off": Soak.member_cut_off,
    "power of the coordinator lost": Soak.power_lost,
}
PLACES: Final = (
    Place("one", "one"),
    Place("one", "other"),
    Place("one", "third"),
    Place("third", "one"),
    Place("third", "third"),
    Place("one", "one", both=False),
    Place("other", "other", both=False),
    Place("one", "other", both=False),
    Place("other", "one", both=False),
    Place("one", "third", both=False),
    Place("other", "third", both=False),
    Place("third", "one", both=False),
    Place("third", "other", both=False),
    Place("third", "third", both=False),
)
PAIRS: Final[Mapping[str, Accident]] = {str(place): partial(Soak.pair, place=place) for place in PLACES}


async def soak(
    lab: RunningLab, kinds: Sequence[tuple[str, Accident]], seed: int, show: Callable[[str], None]
) -> tuple[list[float], list[str]]:
    """Has these accidents happen under load; the seconds until calls were answered again, and what is wrong then."""
    load = Load(lab, random.Random(seed))
    one = Soak(lab, load)
    await enable(lab)
    calling = asyncio.create_task(load.run())
    times = []
    began = time.monotonic()
    try:
        for number, (name, happen) in enumerate(kinds, 1):
            times.append(await happen(one))
            show(f"{number}: {name}: answered after {times[-1]:.2f} s")
            if calling.done():
                calling.result()
        await whole(lab)
    finally:
        lasted = time.monotonic() - began
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    faults = one.wrong + await load.faults()
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
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--servers", type=int, choices=(3, 5), default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    parts = (("deaths", options.kills, KILLS), ("cuts", options.cuts, CUTS), ("pairs", options.pairs, PAIRS))
    chosen = [list(of.items())[number % len(of)] for _, count, of in parts for number in range(count)]
    with running_lab(hosts=options.servers, pool=True) as lab:
        times, faults = asyncio.run(soak(lab, chosen, options.seed, lambda text: print(text, flush=True)))
    for title, count, _ in parts:
        some, times = times[:count], times[count:]
        if some:
            print(
                f"calls answered again after: median {statistics.median(some):.2f} s, longest {max(some):.2f} s, "
                f"{len(some)} {title}"
            )
    print("\n".join(faults) or "nothing that was acknowledged is lost, nothing that was refused is there")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
