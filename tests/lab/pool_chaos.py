"""Chaos in a pool: random pool-wide changes, with an accident at a random moment of each, and what became of the hosts.

`python -m tests.lab.pool_chaos --changes 1000` is `make chaos`; the tests carry out a sample. After each change every host must
be reached at the address that the database says, all hosts must be what the database says, no VLAN may be on some hosts only,
and what was acknowledged must be there. The changes are asked for on any host's console, and the coordinator's role moves.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from poolnet.lab import life
from tests.lab import pools
from tests.lab.running import PATIENCE, RunningLab, running_lab

HOSTS = ("host1", "host2", "host3")
ACCIDENTS = ("nothing", "api", "hostd", "switch", "partition", "cable", "slow", "disk")
CHANGES = ("vlan-create", "vlan-destroy", "address", "bond", "vm", "designate")
SETTLES_WITHIN_S = 90.0 * PATIENCE
SILENCE_S = 4.5 * PATIENCE
LASTS_S = {"partition": (0.5, 5.0), "cable": (0.5, 5.0), "slow": (0.3, 7.0), "disk": (0.5, 3.0)}
LATEST_S = 0.8  # of accidents, after the change began
DISK_MB = 16
HANGS = "xe does not end"
BONDS = "the hosts with bonds"
PROGRAMS = {"api": "poolnet-api", "hostd": "poolnet-hostd", "switch": "ovs-vswitchd"}


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


def trials(seed: int, changes: int) -> list[Trial]:
    """The trials of a seed: every change with every accident in turn, on random hosts at random moments."""
    draw = random.Random(seed)
    pairs = [(change, accident) for change in CHANGES for accident in ACCIDENTS]
    draw.shuffle(pairs)
    made = []
    for number in range(changes):
        change, accident = pairs[number % len(pairs)]
        console, victim = draw.choice(HOSTS), draw.choice(HOSTS)
        lasts_s = draw.uniform(*LASTS_S.get(accident, (0.0, 0.0)))
        made.append(Trial(change, accident, console, victim, draw.uniform(0.0, LATEST_S), lasts_s, number))
    return made


@dataclass
class Known:
    """Something that can be asked about the pool, and what the answer may be after all that was acknowledged."""

    ask: Callable[[], str]
    may_be: set[str]


class Chaos:
    """A pool that changes are tried on."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.known: dict[str, Known] = {}
        self.vlans: dict[int, str] = {}
        """Tags that were acknowledged, and their networks."""
        self.doubtful: set[int] = set()
        """Tags of changes whose end nobody heard of."""
        self.base = lab.lab.host("host1").address.rpartition(".")[0]
        self.vm = lab.xe("host1", "vm-create", "name-label=chaos")
        inner = lab.xe("host1", "network-create", "name-label=chaos")
        lab.xe("host1", "vif-create", f"vm-uuid={self.vm}", f"network-uuid={inner}", "device=0")
        self.bond_network = lab.xe("host1", "network-create", "name-label=bonded")
        for host in HOSTS:
            self._give_a_disk(host)
        pools.eventually(lambda: not self._wrong(), "the pool is not in order from the start")

    def carry_out(self, trial: Trial) -> Outcome:
        """Makes the change while the accident happens, and looks at what is left."""
        words, ended = self._words(trial)
        accident = threading.Timer(trial.after_s, self._happen, (trial,))
        accident.start()
        try:
            code, said = pools.xe(self.lab, trial.console, *words)
        except subprocess.TimeoutExpired:
            accident.join()
            return Outcome(trial, -1, HANGS, [HANGS])
        accident.join()
        ended(code == 0, _refused(said))
        outcome = Outcome(trial, code, said)
        outcome.wrong = self._settled()
        return outcome

    # --- changes -----------------------------------------------------------------------------------------------

    def _words(self, trial: Trial) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        """A command, and what is to be noted of its end: whether it succeeded, whether it was refused."""
        match trial.change:
            case "vlan-create":
                return self._vlan_create(100 + trial.number)
            case "vlan-destroy" if self.vlans:
                return self._vlan_destroy()
            case "address":
                return self._address(trial)
            case "bond":
                return self._bond(trial)
            case "designate":
                uuid = pools.host_uuid(self.lab, HOSTS[trial.number % 3])
                ended = self._note("coordinator", self._coordinator, uuid)
                return ("pool-designate-new-master", f"host-uuid={uuid}"), ended
            case _:
                return self._vm(HOSTS[trial.number % 3])

    def _note(self, name: str, ask: Callable[[], str], wanted: str) -> Callable[[bool, bool], None]:
        """What an answer may be once a change that would make it `wanted` has ended."""
        before = ask()

        def ended(succeeded: bool, refused: bool) -> None:
            may_be = {wanted} if succeeded else {before} if refused else {before, wanted}
            self.known[name] = Known(ask, may_be)

        return ended

    def _coordinator(self) -> str:
        return pools.answer(self.lab, "host1", "pool-list", "params=master", "--minimal")

    def _address(self, trial: Trial) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        coordinator = self._coordinator()
        members = [host for host in HOSTS if pools.host_uuid(self.lab, host) != coordinator]
        host = members[trial.number % 2]
        address = f"{self.base}.{30 + trial.number % 100}"
        words = (
            "pif-reconfigure-ip",
            f"uuid={pools.pif(self.lab, host, 'eth0')}",
            "mode=static",
            f"IP={address}",
            "netmask=255.255.255.0",
            f"gateway={self.lab.lab.gateway}",
            "confirm-within=10",
        )
        return words, self._note(f"address of {host}", lambda: self._address_of(host), address)

    def _address_of(self, host: str) -> str:
        return pools.answer(
            self.lab, "host1", "host-list", f"name-label={host}", "params=address", "--minimal"
        )

    def _vm(self, host: str) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        def state() -> str:
            words = ("vm-list", f"uuid={self.vm}", "params=power-state", "--minimal")
            return pools.answer(self.lab, "host1", *words)

        if state() == "running":
            # A guest that has ended cannot be brought back when its host is lost before the call has ended.
            may_be = {"running", "halted"}

            def ended(succeeded: bool, refused: bool) -> None:
                self.known["the VM"] = Known(state, {"halted"} if succeeded else may_be)

            return ("vm-shutdown", f"uuid={self.vm}", "--force"), ended
        return ("vm-start", f"uuid={self.vm}", f"on={host}"), self._note("the VM", state, "running")

    def _vlan_create(self, tag: int) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        network = self.lab.xe("host1", "network-create", f"name-label=chaos{tag}")
        pif = pools.pif(self.lab, "host1", "eth1")

        def ended(succeeded: bool, refused: bool) -> None:
            if succeeded:
                self.vlans[tag] = network
            elif not refused:
                self.doubtful.add(tag)

        words = ("pool-vlan-create", f"pif-uuid={pif}", f"vlan={tag}", f"network-uuid={network}")
        return (*words, "allow-missing-hosts=true"), ended

    def _vlan_destroy(self) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        tag = min(self.vlans)
        vlan = self.lab.xe("host1", "vlan-list", f"tag={tag}", "--minimal").split(",")[0]

        def ended(succeeded: bool, refused: bool) -> None:
            if succeeded or not refused:
                self.vlans.pop(tag)
                self.doubtful.add(tag)  # on the other hosts it stays, and a member may get it again

        return ("vlan-destroy", f"uuid={vlan}"), ended

    def _bond(self, trial: Trial) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        """A bond on all hosts, or the end of one host's.

        Members get the coordinator's bonds when they come back, and the role moves: after an end, any host may have one.
        """
        without = [host for host in HOSTS if not self._bond_of(host)]
        if without and (len(without) == len(HOSTS) or trial.number % 2):
            nics = ",".join(pools.pif(self.lab, without[0], device) for device in ("eth2", "eth3"))
            words = ("pool-bond-create", f"network-uuid={self.bond_network}", f"pif-uuids={nics}")
            return (*words, "mode=active-backup", "allow-missing-hosts=true"), self._bonded
        host = next(host for host in HOSTS if host not in without)
        self.known.pop(BONDS, None)
        bond = self.lab.xe("host1", "bond-list", f"master={self._bond_of(host)}", "--minimal")
        return ("bond-destroy", f"uuid={bond}"), _nothing

    def _bonded(self, succeeded: bool, refused: bool) -> None:
        if succeeded:
            self.known[BONDS] = Known(self._hosts_with_bonds, {",".join(HOSTS)})

    def _hosts_with_bonds(self) -> str:
        return ",".join(host for host in HOSTS if self._bond_of(host))

    def _bond_of(self, host: str) -> str:
        return pools.answer(
            self.lab, "host1", "pif-list", f"host-name-label={host}", "device=bond0", "--minimal"
        )

    # --- accidents ---------------------------------------------------------------------------------------------

    def _give_a_disk(self, host: str) -> None:
        """Puts what the host keeps on a small disk of its own, which can be filled without harm to anybody else."""
        init = self.lab.lab.host(host).pid
        subprocess.run(
            ("kill", "-STOP", str(init)), check=True
        )  # else it starts the programs again meanwhile
        try:
            for program in ("poolnet-api", "poolnet-hostd"):
                self._signal(host, program, "KILL")
            copy = (
                "until ! pgrep -f '(bin/|^)poolnet-(api|hostd)' -r S,R,D >/dev/null; do sleep 0.1; done; "
                f"mkdir -p /var/tmp/disk && mount -t tmpfs -o size={DISK_MB}m disk /var/tmp/disk && "
                "cp -a /var/lib/poolnet/. /var/tmp/disk/ && chmod --reference=/var/lib/poolnet /var/tmp/disk && "
                "mount --bind /var/tmp/disk /var/lib/poolnet && umount /var/tmp/disk"
            )
            self.lab.run(host, "sh", "-c", copy)
        finally:
            subprocess.run(("kill", "-CONT", str(init)), check=True)

    def _happen(self, trial: Trial) -> None:
        """The accident, to its end."""
        name, host = self.lab.name, trial.victim
        match trial.accident:
            case "api" | "hostd" | "switch" as which:
                self._signal(host, PROGRAMS[which], "KILL")
            case "partition":
                asyncio.run(life.partition(name, host))
                time.sleep(trial.lasts_s)
                asyncio.run(life.heal(name, host))
            case "cable":
                asyncio.run(life.set_link(name, host, "eth0", plugged=False))
                time.sleep(trial.lasts_s)
                asyncio.run(life.set_link(name, host, "eth0", plugged=True))
            case "slow":
                for program in ("poolnet-api", "poolnet-hostd"):
                    self._signal(host, program, "STOP")
                time.sleep(trial.lasts_s)
                for program in ("poolnet-api", "poolnet-hostd"):
                    self._signal(host, program, "CONT")
            case "disk":
                fill = "for size in 64k 1k; do dd if=/dev/zero bs=$size >>/var/lib/poolnet/filler; done"
                self.lab.run(host, "sh", "-c", fill, check=False)
                time.sleep(trial.lasts_s)
                self.lab.run(host, "rm", "/var/lib/poolnet/filler")

    def _signal(self, host: str, program: str, signal: str) -> None:
        """Sends a signal to a program of a host; a dead one is started again by the host's init."""
        found = self.lab.run(host, "pgrep", "-o", "-f", f"(bin/|^){program}", check=False).split()
        if found:
            self.lab.run(host, "kill", f"-{signal}", found[0], check=False)

    # --- what is left ------------------------------------------------------------------------------------------

    def _settled(self) -> list[str]:
        """What is wrong once the pool has had time to come together."""
        deadline = time.monotonic() + SETTLES_WITHIN_S
        wrong = ["never looked"]
        while wrong and time.monotonic() < deadline:
            time.sleep(0.3)
            try:
                wrong = self._wrong()
            except (
                AssertionError,
                subprocess.TimeoutExpired,
            ) as error:  # who answered a moment ago does not now
                wrong = [f"a question was not answered: {str(error)[:300]}"]
        return wrong

    def _wrong(self) -> list[str]:
        everybody = set(HOSTS)
        blind = [host for host in HOSTS if pools.live(self.lab, host) != everybody]
        wrong = [f"on {host}, not all hosts are live" for host in blind]
        if wrong:
            return wrong
        for host in HOSTS:
            address = self._address_of(host)
            words = ("ping", "-n", "-c", "1", "-W", "2", address)
            if " 1 received" not in self.lab.run("switch", *words, check=False):
                wrong.append(f"{host} is not reached at {address}")
        return wrong + self._lost() + self._half_made() + self._out_of_step()

    def _lost(self) -> list[str]:
        wrong = []
        for name, known in self.known.items():
            is_now = known.ask()
            if is_now not in known.may_be:
                wrong.append(f"{name} is {is_now}, and should be {' or '.join(sorted(known.may_be))}")
            else:
                known.may_be = {is_now}
        return wrong

    def _half_made(self) -> list[str]:
        tags = [
            int(tag)
            for tag in pools.answer(self.lab, "host1", "vlan-list", "params=tag", "--minimal").split(",")
            if tag
        ]
        wrong = [
            f"VLAN {tag} was acknowledged and is on {tags.count(tag)} hosts"
            for tag in self.vlans
            if tags.count(tag) != len(HOSTS)
        ]
        refused = {*tags} - {*self.vlans, *self.doubtful}
        return wrong + [f"VLAN {tag} was refused, and is there" for tag in refused]

    def _out_of_step(self) -> list[str]:
        """Hosts that are not what the database says: whose plan for no change at all is not empty."""
        host = pools.host_uuid(self.lab, "host1")
        code, plan = pools.xe(self.lab, "host1", "pif-scan", f"host-uuid={host}", "--dry-run")
        if code != 0:
            return [f"no plan: {plan}"]
        named = sum(line.startswith("host ") for line in plan.splitlines())
        if named != len(HOSTS):
            return [f"{len(HOSTS) - named} hosts cannot be asked for a plan"]
        lines = [line.strip() for line in plan.splitlines() if not line.startswith("host ")]
        return [f"out of step: {line}" for line in lines if not line.startswith("nothing to do")]


def _nothing(succeeded: bool, refused: bool) -> None:
    """Nothing to note: what matters is that all hosts agree with the database."""


def _refused(said: str) -> bool:
    """Whether the server answered, and nobody's death did."""
    return not any(
        text in said for text in ("Lost connection", "Unable to contact", "cancelled", "CANCELLED")
    )


def run(
    lab: RunningLab,
    seed: int,
    changes: int,
    show: Callable[[str], None] = lambda _: None,
    until: float = math.inf,
) -> list[Outcome]:
    """Carries the trials out, one after the other; stops at the first that leaves something wrong, or at that time."""
    chaos = Chaos(lab)
    outcomes = []
    for trial in trials(seed, changes):
        began = time.monotonic()
        if began > until:
            break
        outcome = chaos.carry_out(trial)
        outcomes.append(outcome)
        how = "done" if outcome.code == 0 else " ".join(outcome.said.split())[:240] or "failed"
        show(f"{trial}: {how}; {time.monotonic() - began:.1f} s {outcome.wrong or ''}")
        if outcome.wrong:
            break
    return outcomes


def main() -> int:
    """Runs trials on a lab of its own, and prints each; 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no change after so long")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}", flush=True)
    with running_lab(hosts=len(HOSTS), nics=4, pool=True, silence_s=SILENCE_S) as lab:
        outcomes = run(lab, options.seed, options.changes, lambda text: print(text, flush=True), until)
        if outcomes[-1].wrong:
            for host in lab.lab.hosts:
                log = lab.lab.directory / host.name / "var-log/poolnet-api.log"
                tail = subprocess.run(("tail", "-n", "40", log), check=False, capture_output=True, text=True)
                sys.stdout.write(f"--- {host.name}\n{tail.stdout}")
    print(f"{sum(not outcome.wrong for outcome in outcomes)} of {len(outcomes)} without a fault")
    return 1 if outcomes[-1].wrong else 0


if __name__ == "__main__":
    sys.exit(main())
