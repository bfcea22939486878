"""Chaos in a pool: random pool-wide changes, each with an accident at a random moment, and what became of the hosts.

`python -m tests.lab.pool_chaos --changes 1000` is `make chaos`; the tests carry out a sample. Changes are asked for with `xe` on
any host's console, some alone, some at the same time as others, and the coordinator's role moves. When they have ended, every
host must be reached at the address that the database says, all hosts must be what the database says, nothing may be half made,
and what was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Final, TypeVar

from tests.lab import accidents, cluster_load, pools
from tests.lab.accidents import ACCIDENTS, CLUSTERED, LASTS_S
from tests.lab.console_client import Client, Denied, NotAnswered
from tests.lab.pool_seen import CLASSES, Seen
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE

T = TypeVar("T")

HOSTS: Final = ("host1", "host2", "host3")
NICS: Final = (4, 4, 3)  # bonds of eth2 and eth3 have one member on the last host
CHANGES: Final = ("vlan-create", "vlan-destroy", "address", "bond", "vm", "designate")
ALONE: Final = frozenset({"address", "bond", "vm", "designate"})
"""Changes of which there is only one at a time: what each of two may lead to could not be told."""

ROLE: Final = frozenset({"address", "designate"})
"""Not both at a time: the members of a coordinator with a new address have to be told where it is, as documented."""

TOGETHER: Final = (1, 2, 3, 4)
"""So many changes at the same time, each as likely."""

SETTLES_WITHIN_S: Final = 90.0 * PATIENCE
SILENCE_S: Final = 3.0 * PATIENCE
LATEST_S: Final = 0.8  # of accidents, after the change began
LOOK_S: Final = 0.2
CONFIRM_S: Final = 8.0 * PATIENCE  # of a change of an address that may have to be taken back
ASKED_S: Final = 20.0 * PATIENCE
HANGS: Final = "xe does not end"
CANNOT_CONTACT: Final = "The host cannot be reached."
DOUBTFUL: Final = ("Lost connection", "Unable to contact", "cancelled", "CANCELLED", HANGS)
LOG_LINES: Final = 40


@dataclass(frozen=True)
class Trial:
    """One change, asked for on a console, and what happens meanwhile to whom, how many seconds later, for how long."""

    change: str
    accident: str
    console: str
    victim: str
    after_s: float
    lasts_s: float
    number: int

    def __str__(self) -> str:
        lasting = f" for {self.lasts_s:.1f} s" if self.accident in LASTS_S else ""
        return (
            f"{self.number}: {self.change} on {self.console}, {self.accident} {self.victim} "
            f"after {self.after_s:.2f} s{lasting}"
        )


@dataclass
class Outcome:
    """How a trial ended: the words of `xe`, and what was wrong afterwards."""

    trial: Trial
    code: int
    said: str
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        how = "done" if self.code == 0 else " ".join(self.said.split())[:240] or "failed"
        return f"{self.trial}: {how} {self.wrong or ''}".rstrip()


def trials(seed: int, changes: int, kinds: Sequence[str] = ACCIDENTS) -> list[Trial]:
    """The trials of a seed: every change with every kind of accident in turn, on random hosts at random moments."""
    draw = random.Random(seed)
    pairs = [(change, accident) for change in CHANGES for accident in kinds]
    draw.shuffle(pairs)
    made = []
    for number in range(changes):
        change, accident = pairs[number % len(pairs)]
        console, victim = draw.choice(HOSTS), draw.choice(HOSTS)
        lasts_s = accidents.duration(draw, accident)
        made.append(Trial(change, accident, console, victim, draw.uniform(0.0, LATEST_S), lasts_s, number))
    return made


@dataclass(frozen=True)
class Share:
    """What one of some pools side by side tries: every so many-th trial of a seed, from that number on."""

    seed: int
    changes: int
    pools: int = 1
    number: int = 0
    cluster: bool = False
    """Whether the pool's database is on a cluster."""

    def __str__(self) -> str:
        """The options that try it again."""
        options = f"--seed {self.seed} --changes {self.changes} --pools {self.pools} --only {self.number}"
        return f"{options} --cluster" if self.cluster else options

    def groups(self) -> Iterator[tuple[Trial, ...]]:
        """The trials; those of a group happen at the same time."""
        draw = random.Random(f"{self.seed} {self.number}")
        kinds = CLUSTERED if self.cluster else ACCIDENTS
        waiting = trials(self.seed, self.changes, kinds)[self.number :: self.pools]
        while waiting:
            size = draw.choice(TOGETHER)
            group: list[Trial] = []
            for trial in waiting:
                if len(group) < size and not any(_excludes(trial.change, other.change) for other in group):
                    group.append(trial)
            waiting = [trial for trial in waiting if trial not in group]
            yield tuple(group)


def shares(seed: int, changes: int, pools: int, *, cluster: bool = False) -> list[Share]:
    """The trials of a seed, for so many pools."""
    return [Share(seed, changes, pools, number, cluster) for number in range(pools)]


def _excludes(one: str, other: str) -> bool:
    return (one == other and one in ALONE) or {one, other} == ROLE


@dataclass
class Known:
    """Something that can be asked about the pool, and what the answer may be after all that was acknowledged."""

    ask: Callable[[Seen], str]
    may_be: set[str]
    may_come: set[str] = field(default_factory=set)
    """What it may yet become: nobody heard of the end of calls, which may still be under way."""

    def is_seen(self, answer: str) -> None:
        """Notes what it is, now that the pool has come together."""
        self.may_come.discard(answer)
        self.may_be = {answer, *self.may_come}


Ended = Callable[[bool, bool], None]
"""Told of a change's end: whether it succeeded, whether it was refused."""


class Chaos:
    """A pool that changes are tried on; with `cluster`, its database is moved to one first, and the role moves by itself."""

    def __init__(self, lab: RunningLab, *, cluster: bool = False) -> None:
        self.lab = lab
        self._cluster = cluster
        self.known: dict[str, Known] = {}
        self.vlans: dict[int, str] = {}
        """Tags that were acknowledged, and their networks."""
        self.doubtful: set[int] = set()
        """Tags of changes whose end nobody heard of."""
        self.base = lab.lab.host("host1").address.rpartition(".")[0]
        self.vm = self.bond_network = ""
        self._consoles = {host: Client(lab, host, ASKED_S) for host in HOSTS}

    async def begin(self) -> None:
        """Makes what the changes need. Raises AssertionError when the pool is not in order then, or a command fails."""
        self.vm = await self._xe("vm-create", "name-label=chaos")
        inner = await self._xe("network-create", "name-label=chaos")
        await self._xe("vif-create", f"vm-uuid={self.vm}", f"network-uuid={inner}", "device=0")
        self.bond_network = await self._xe("network-create", "name-label=bonded")
        giving = (asyncio.to_thread(accidents.give_a_disk, self.lab, host) for host in HOSTS)
        await asyncio.gather(*giving)
        if self._cluster:
            await cluster_load.enable(self.lab)
        wrong = await self._settled()
        assert not wrong, f"the pool is not in order from the start: {wrong}"

    async def carry_out(self, group: Sequence[Trial]) -> list[Outcome]:
        """Makes the changes while the accidents happen, and looks at what is left."""
        seen = await self._soon(self._see)
        coordinators = {seen.coordinator(), *(self._next_coordinator(trial, seen) for trial in group)}
        if "coordinator" in self.known:
            coordinators |= self.known["coordinator"].may_come
        if self._cluster:
            coordinators = {host["uuid"] for host in seen.all("host")}
        asked = [await self._words(trial, seen) for trial in group]
        happening = [asyncio.create_task(self._happen(trial)) for trial in group]
        told = await asyncio.gather(
            *(
                asyncio.to_thread(self._ask, trial, words)
                for trial, (words, _) in zip(group, asked, strict=True)
            )
        )
        await asyncio.gather(*happening)
        outcomes = []
        for trial, (_, ended), (code, said) in zip(group, asked, told, strict=True):
            ended(code == 0, _refused(said, coordinators))
            outcomes.append(Outcome(trial, code, said))
        if any(code < 0 for code, _ in told):
            outcomes[-1].wrong = [HANGS]
        else:
            outcomes[-1].wrong = await self._settled()
        return outcomes

    async def _xe(self, *words: str) -> str:
        """What `xe` prints. Not in this process: several pools may be tried in it at the same time."""
        code, said = await asyncio.to_thread(pools.xe, self.lab, "host1", *words)
        assert code == 0, f"xe {' '.join(words)}: {said}"
        return said

    def _ask(self, trial: Trial, words: Sequence[str]) -> tuple[int, str]:
        try:
            return pools.xe(self.lab, trial.console, *words)
        except subprocess.TimeoutExpired:
            return -1, HANGS

    async def _happen(self, trial: Trial) -> None:
        await asyncio.sleep(trial.after_s)
        await asyncio.to_thread(accidents.happen, self.lab, trial.accident, trial.victim, trial.lasts_s)

    # --- changes -----------------------------------------------------------------------------------------------

    def _next_coordinator(self, trial: Trial, seen: Seen) -> str:
        """The uuid of the host that a trial makes the coordinator; "" for one that makes none."""
        return str(seen.host(HOSTS[trial.number % 3])["uuid"]) if trial.change == "designate" else ""

    async def _words(self, trial: Trial, seen: Seen) -> tuple[Sequence[str], Ended]:
        """A command, and what is to be noted of its end."""
        match trial.change:
            case "vlan-destroy" if self.vlans:
                return self._vlan_destroy(seen)
            case "address":
                return self._address(trial, seen)
            case "bond":
                return self._bond(trial, seen)
            case "vm":
                return self._vm(HOSTS[trial.number % 3], seen)
            case "designate":
                uuid = self._next_coordinator(trial, seen)
                words = ("pool-designate-new-master", f"host-uuid={uuid}")
                if self._cluster:
                    return words, _nothing
                return words, self._note("coordinator", Seen.coordinator, uuid, seen)
            case _:
                return await self._vlan_create(100 + trial.number, seen)

    def _note(self, name: str, ask: Callable[[Seen], str], wanted: str, seen: Seen) -> Ended:
        """What an answer may be once a change that would make it `wanted` has ended."""
        before = ask(seen)

        def ended(succeeded: bool, refused: bool) -> None:
            may_be = {wanted} if succeeded else {before} if refused else {before, wanted}
            self._now_known(name, ask, may_be, set() if succeeded or refused else {wanted})

        return ended

    def _now_known(
        self, name: str, ask: Callable[[Seen], str], may_be: set[str], may_come: set[str] | None = None
    ) -> None:
        """Notes what an answer may be; what an earlier call may yet make of it, it still may."""
        coming = self.known[name].may_come if name in self.known else set()
        self.known[name] = Known(ask, {*may_be, *coming}, {*(may_come or ()), *coming})

    def _address(self, trial: Trial, seen: Seen) -> tuple[Sequence[str], Ended]:
        members = [host for host in HOSTS if seen.host(host)["uuid"] != seen.coordinator()]
        host = members[trial.number % 2]
        address = f"{self.base}.{30 + trial.number % 100}"
        words = (
            "pif-reconfigure-ip",
            f"uuid={seen.pif(host, 'eth0')['uuid']}",
            "mode=static",
            f"IP={address}",
            "netmask=255.255.255.0",
            f"gateway={self.lab.lab.gateway}",
            f"confirm-within={round(CONFIRM_S)}",
        )
        return words, self._note(f"address of {host}", lambda s: str(s.host(host)["address"]), address, seen)

    def _vm(self, host: str, seen: Seen) -> tuple[Sequence[str], Ended]:
        def state(seen: Seen) -> str:
            return str(seen.one("VM", uuid=self.vm)["power_state"])

        if state(seen) == "Running":
            # A guest that has ended cannot be brought back when its host is lost before the call has ended.
            may_be = {"Running", "Halted"}

            def ended(succeeded: bool, refused: bool) -> None:
                if succeeded:
                    self._now_known("the VM", state, {"Halted"})
                else:
                    self._now_known("the VM", state, may_be, {"Halted"})

            return ("vm-shutdown", f"uuid={self.vm}", "--force"), ended
        words = ("vm-start", f"uuid={self.vm}", f"on={host}")
        return words, self._note("the VM", state, "Running", seen)

    async def _vlan_create(self, tag: int, seen: Seen) -> tuple[Sequence[str], Ended]:
        network = await self._soon(partial(self._xe, "network-create", f"name-label=chaos{tag}"))

        def ended(succeeded: bool, refused: bool) -> None:
            if succeeded:
                self.vlans[tag] = network
            elif not refused:
                self.doubtful.add(tag)

        pif = seen.pif("host1", "eth1")["uuid"]
        words = ("pool-vlan-create", f"pif-uuid={pif}", f"vlan={tag}", f"network-uuid={network}")
        return (*words, "allow-missing-hosts=true"), ended

    def _vlan_destroy(self, seen: Seen) -> tuple[Sequence[str], Ended]:
        tag = min(self.vlans)
        network = self.vlans.pop(tag)
        vlan = next(vlan for vlan in seen.all("VLAN") if int(vlan["tag"]) == tag)

        def ended(succeeded: bool, refused: bool) -> None:
            if succeeded or not refused:
                self.doubtful.add(tag)  # on the other hosts it stays, and a member may get it again
            else:
                self.vlans[tag] = network

        return ("vlan-destroy", f"uuid={vlan['uuid']}"), ended

    def _bond(self, trial: Trial, seen: Seen) -> tuple[Sequence[str], Ended]:
        """A bond on all hosts, or the end of one host's.

        Members get the coordinator's bonds when they come back, and the role moves: after an end, any host may have one.
        """
        name = "the hosts with bonds"
        with_bonds = seen.hosts_with("bond0")
        without = [host for host in HOSTS if host not in with_bonds]
        if without and (not with_bonds or trial.number % 2):
            nics = ",".join(str(seen.pif(without[0], device)["uuid"]) for device in ("eth2", "eth3"))
            words = ("pool-bond-create", f"network-uuid={self.bond_network}", f"pif-uuids={nics}")

            def bonded(succeeded: bool, refused: bool) -> None:
                if succeeded:
                    self.known[name] = Known(lambda s: ",".join(s.hosts_with("bond0")), {",".join(HOSTS)})

            return (*words, "mode=active-backup", "allow-missing-hosts=true"), bonded
        self.known.pop(name, None)
        bond = seen.one("Bond", master=seen.ref_of("PIF", seen.pif(with_bonds[0], "bond0")))
        return ("bond-destroy", f"uuid={bond['uuid']}"), _nothing

    # --- what is left ------------------------------------------------------------------------------------------

    async def _see(self) -> Seen:
        """The pool's records, as the first host's console has them. Raises NotAnswered, Denied."""
        return Seen(await self._consoles["host1"].records(*CLASSES))

    async def _soon(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What is given, also while the role moves: an earlier call, whose end nobody heard, may yet be carried out."""
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while True:
            try:
                return await ask()
            except (NotAnswered, Denied, AssertionError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(LOOK_S)

    async def _settled(self) -> list[str]:
        """What is wrong once the pool has had time to come together."""
        deadline = time.monotonic() + SETTLES_WITHIN_S
        wrong = ["never looked"]
        while wrong and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S)
            try:
                wrong = await self._wrong()
            except (NotAnswered, Denied) as error:  # who answered a moment ago does not now
                wrong = [f"a question was not answered: {str(error)[:300]}"]
        return wrong

    async def _wrong(self) -> list[str]:
        """What is wrong now. Raises NotAnswered, Denied."""
        views = await asyncio.gather(
            *(console.records("host", "host_metrics") for console in self._consoles.values())
        )
        blind = [host for host, view in zip(HOSTS, views, strict=True) if Seen(view).live() != {*HOSTS}]
        if blind:
            return [f"on {host}, not all hosts are live" for host in blind]
        await self._consoles["host1"].call("pool.sync_database")  # no member's copy is behind
        seen = await self._see()
        wrong = await asyncio.to_thread(self._unreached, seen)
        wrong += [
            f"{name} is {known.ask(seen)}, and should be {' or '.join(sorted(known.may_be))}"
            for name, known in self.known.items()
            if known.ask(seen) not in known.may_be
        ]
        wrong += self._half_made(seen) + seen.dangling() + self._guests_elsewhere(seen)
        if not wrong:
            wrong = await asyncio.to_thread(self._out_of_step, seen)
        if not wrong:
            for known in self.known.values():
                known.is_seen(known.ask(seen))
        return wrong

    def _unreached(self, seen: Seen) -> list[str]:
        addresses = {host: str(seen.host(host)["address"]) for host in HOSTS}
        pings = (
            f"{{ ping -n -q -c 1 -W 2 {address} >/dev/null && echo {host}; }} &"
            for host, address in addresses.items()
        )
        answered = self.lab.run("switch", "sh", "-c", f"{' '.join(pings)} wait", check=False).split()
        return [
            f"{host} is not reached at {address}"
            for host, address in addresses.items()
            if host not in answered
        ]

    def _half_made(self, seen: Seen) -> list[str]:
        tags = [int(vlan["tag"]) for vlan in seen.all("VLAN")]
        wrong = [
            f"VLAN {tag} was acknowledged and is on {tags.count(tag)} hosts"
            for tag in self.vlans
            if tags.count(tag) != len(HOSTS)
        ]
        refused = {*tags} - {*self.vlans, *self.doubtful}
        return wrong + [f"VLAN {tag} was refused, and is there" for tag in refused]

    def _guests_elsewhere(self, seen: Seen) -> list[str]:
        """The VM's guest must be where the database says that it runs, and nowhere else."""
        vm = seen.one("VM", uuid=self.vm)
        wanted = [host for host in HOSTS if seen.ref_of("host", seen.host(host)) == vm["resident_on"]]
        there = [
            host
            for host in HOSTS
            if (self.lab.lab.directory / host / f"run/poolnet/guests/{self.vm}.json").exists()
        ]
        return [] if there == wanted else [f"the VM's guest is on {there}, and should be on {wanted}"]

    def _out_of_step(self, seen: Seen) -> list[str]:
        """Hosts that are not what the database says: whose plan for no change at all is not empty."""
        words = ("pif-scan", f"host-uuid={seen.host('host1')['uuid']}", "--dry-run")
        code, plan = pools.xe(self.lab, "host1", *words)
        if code != 0:
            return [f"no plan: {plan}"]
        named = sum(line.startswith("host ") for line in plan.splitlines())
        if named != len(HOSTS):
            return [f"{len(HOSTS) - named} hosts cannot be asked for a plan"]
        lines = [line.strip() for line in plan.splitlines() if not line.startswith("host ")]
        return [f"out of step: {line}" for line in lines if not line.startswith("nothing to do")]


def _nothing(succeeded: bool, refused: bool) -> None:
    """Nothing to note: what matters is that all hosts agree with the database."""


def _refused(said: str, coordinators: Collection[str]) -> bool:
    """Whether a coordinator answered: not its death, nor somebody who did not reach it."""
    if CANNOT_CONTACT in said:
        named = re.search(r"host: ([0-9a-f-]{36})", said)
        return named is not None and named[1] not in coordinators
    return not any(text in said for text in DOUBTFUL)


def run(
    labs: Sequence[RunningLab],
    tried: Sequence[Share],
    show: Callable[[str], None],
    until: float = math.inf,
) -> list[Outcome]:
    """Has each pool try its share, side by side.

    Each stops at the first group that leaves something wrong, or at that time. What is needed to try it again is shown then, with
    the ends of the logs.
    """

    async def together() -> list[list[Outcome]]:
        return await asyncio.gather(
            *(_run(lab, share, show, until) for lab, share in zip(labs, tried, strict=True))
        )

    return list(chain.from_iterable(asyncio.run(together())))


async def _run(lab: RunningLab, share: Share, show: Callable[[str], None], until: float) -> list[Outcome]:
    chaos = Chaos(lab, cluster=share.cluster)
    await chaos.begin()
    outcomes: list[Outcome] = []
    for group in share.groups():
        began = time.monotonic()
        if began > until:
            break
        of_group = await chaos.carry_out(group)
        outcomes += of_group
        show("\n".join([f"{lab.name}, {time.monotonic() - began:.1f} s", *map(str, of_group)]))
        if of_group[-1].wrong:
            show(f"again: python -m tests.lab.pool_chaos {share}\n{logs(lab)}")
            break
    return outcomes


@contextmanager
def running_labs(number: int) -> Iterator[list[RunningLab]]:
    """So many pools of three hosts, started at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(number) as threads:

        def start() -> RunningLab:
            hosts = len(HOSTS)
            return stack.enter_context(running_lab(hosts=hosts, nics=NICS, pool=True, silence_s=SILENCE_S))

        yield [starting.result() for starting in [threads.submit(start) for _ in range(number)]]


def logs(lab: RunningLab) -> str:
    """What the hosts' programs said last, and what was done."""
    texts = []
    for host in lab.lab.hosts:
        for program in ("poolnet-api", "poolnet-hostd", "poolnet-db"):
            log = lab.lab.directory / host.name / f"var-log/{program}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            texts += [f"--- {host.name} {program}", *lines]
        audit = f"cat /var/lib/poolnet/api/audit/*.log | grep -v sync_database | tail -n {LOG_LINES}"
        texts += [f"--- {host.name} audit", lab.run(host.name, "sh", "-c", audit, check=False)]
    return "\n".join(texts)


def main() -> int:
    """Runs trials on a lab of its own, and prints each; 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--pools", type=int, default=3, help="so many side by side")
    parser.add_argument("--only", type=int, help="the share of one of these, from 0 on")
    parser.add_argument("--cluster", action="store_true", help="with the pool's database on a cluster")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no change after so long")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}", flush=True)
    tried = shares(options.seed, options.changes, options.pools, cluster=options.cluster)
    if options.only is not None:
        tried = [tried[options.only]]
    with running_labs(len(tried)) as labs:
        outcomes = run(labs, tried, lambda text: print(text, flush=True), until)
    faults = [outcome for outcome in outcomes if outcome.wrong]
    done = sum(outcome.code == 0 for outcome in outcomes)
    print(f"{len(outcomes)} changes, {done} of them carried out, {len(faults)} faults")
    print("\n".join(map(str, faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
