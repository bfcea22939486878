"""Chaos in a pool: random pool-wide changes, with an accident at a random moment of each, and what became of the hosts.

`python -m tests.lab.pool_chaos --changes 1000` is `make chaos`; the tests carry out a small sample with a fixed seed. After
each change every host must be reached at the address that the database says, all hosts must be what the database says, no
VLAN may be on some hosts only, and what was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import asyncio
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
ACCIDENTS = ("nothing", "api", "hostd", "switch", "partition")
CHANGES = ("vlan-create", "vlan-destroy", "address", "bond", "vm")
SETTLES_WITHIN_S = 90.0 * PATIENCE
PARTITION_S = 4.0
LATEST_S = 0.6  # of accidents, after the change began


@dataclass(frozen=True)
class Trial:
    """One change, and what happens meanwhile to whom, how many seconds later."""

    change: str
    accident: str
    victim: str
    after_s: float
    number: int


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
    return [
        Trial(*pairs[n % len(pairs)], draw.choice(HOSTS), draw.uniform(0.0, LATEST_S), n)
        for n in range(changes)
    ]


class Chaos:
    """A pool that changes are tried on; the first host is its coordinator."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.vlans: dict[int, str] = {}
        """Tags that were acknowledged, and their networks."""
        self.doubtful: set[int] = set()
        """Tags of changes whose end nobody heard of."""
        self.base = lab.lab.host("host1").address.rpartition(".")[0]
        self.bond = ""
        self.vm = lab.xe("host1", "vm-create", "name-label=chaos")
        inner = lab.xe("host1", "network-create", "name-label=chaos")
        lab.xe("host1", "vif-create", f"vm-uuid={self.vm}", f"network-uuid={inner}", "device=0")
        self.bond_network = lab.xe("host1", "network-create", "name-label=bonded")

    def carry_out(self, trial: Trial) -> Outcome:
        """Makes the change while the accident happens, and looks at what is left."""
        accident = threading.Timer(trial.after_s, self._happen, (trial,))
        accident.start()
        words, done = self._words(trial)
        code, said = pools.xe(self.lab, "host1", *words)
        accident.join()
        if trial.accident == "partition":
            time.sleep(PARTITION_S)
            asyncio.run(life.heal(self.lab.name, trial.victim))
        done(code == 0, _refused(said))
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
                host = HOSTS[1 + trial.number % 2]
                address = f"{self.base}.{30 + trial.number % 100}"
                return (
                    (
                        "pif-reconfigure-ip",
                        f"uuid={pools.pif(self.lab, host, 'eth0')}",
                        "mode=static",
                        f"IP={address}",
                        "netmask=255.255.255.0",
                        f"gateway={self.lab.lab.gateway}",
                        "confirm-within=10",
                    ),
                    _nothing,
                )
            case "bond":
                return self._bond(HOSTS[1 + trial.number % 2]), _nothing
            case _:
                running = self.lab.xe(
                    "host1", "vm-list", f"uuid={self.vm}", "params=power-state", "--minimal"
                )
                if running == "running":
                    return ("vm-shutdown", f"uuid={self.vm}", "--force"), _nothing
                return ("vm-start", f"uuid={self.vm}", f"on={HOSTS[trial.number % 3]}"), _nothing

    def _vlan_create(self, tag: int) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        network = self.lab.xe("host1", "network-create", f"name-label=chaos{tag}")
        pif = pools.pif(self.lab, "host1", "eth1")

        def done(succeeded: bool, refused: bool) -> None:
            if succeeded:
                self.vlans[tag] = network
            elif not refused:
                self.doubtful.add(tag)

        words = ("pool-vlan-create", f"pif-uuid={pif}", f"vlan={tag}", f"network-uuid={network}")
        return (*words, "allow-missing-hosts=true"), done

    def _vlan_destroy(self) -> tuple[Sequence[str], Callable[[bool, bool], None]]:
        tag = min(self.vlans)
        vlan = self.lab.xe("host1", "vlan-list", f"tag={tag}", "--minimal").split(",")[0]

        def done(succeeded: bool, refused: bool) -> None:
            if succeeded or not refused:
                self.vlans.pop(tag)
                self.doubtful.add(tag)  # on the other hosts it stays

        return ("vlan-destroy", f"uuid={vlan}"), done

    def _bond(self, host: str) -> Sequence[str]:
        there = self.lab.xe("host1", "pif-list", f"host-name-label={host}", "device=bond0", "--minimal")
        if there:
            bond = self.lab.xe("host1", "bond-list", f"master={there}", "--minimal")
            return ("bond-destroy", f"uuid={bond}")
        nics = ",".join(pools.pif(self.lab, host, device) for device in ("eth2", "eth3"))
        return (
            "bond-create",
            f"network-uuid={self.bond_network}",
            f"pif-uuids={nics}",
            "mode=active-backup",
        )

    # --- accidents ---------------------------------------------------------------------------------------------

    def _happen(self, trial: Trial) -> None:
        names = {"api": "poolnet-api", "hostd": "poolnet-hostd", "switch": "ovs-vswitchd"}
        if trial.accident in names:
            self._kill(trial.victim, names[trial.accident])
        elif trial.accident == "partition":
            asyncio.run(life.partition(self.lab.name, trial.victim))

    def _kill(self, host: str, program: str) -> None:
        """Kills a program of a host, which its init starts again."""
        found = self.lab.run(host, "pgrep", "-o", "-f", f"(bin/|^){program}", check=False).split()
        if found:
            self.lab.run(host, "kill", "-9", found[0], check=False)

    # --- what is left ------------------------------------------------------------------------------------------

    def _settled(self) -> list[str]:
        """What is wrong once the pool has had time to come together."""
        deadline = time.monotonic() + SETTLES_WITHIN_S
        wrong = ["never looked"]
        while wrong and time.monotonic() < deadline:
            time.sleep(0.3)
            wrong = self._wrong()
        return wrong

    def _wrong(self) -> list[str]:
        everybody = set(HOSTS)
        blind = [host for host in HOSTS if pools.live(self.lab, host) != everybody]
        wrong = [f"on {host}, not all hosts are live" for host in blind]
        if wrong:
            return wrong
        for host in HOSTS:
            address = self.lab.xe("host1", "host-list", f"name-label={host}", "params=address", "--minimal")
            words = ("ping", "-n", "-c", "1", "-W", "2", address)
            if " 1 received" not in self.lab.run("switch", *words, check=False):
                wrong.append(f"{host} is not reached at {address}")
        return wrong + self._half_made() + self._out_of_step()

    def _half_made(self) -> list[str]:
        wrong = []
        for tag in self.vlans:
            listed = pools.answer(self.lab, "host1", "vlan-list", f"tag={tag}", "--minimal")
            count = len([uuid for uuid in listed.split(",") if uuid])
            if count != len(HOSTS):
                wrong.append(f"VLAN {tag} was acknowledged and is on {count} hosts")
        listed = pools.answer(self.lab, "host1", "vlan-list", "params=tag", "--minimal")
        known = {*self.vlans, *self.doubtful}
        wrong += [
            f"VLAN {tag} was refused, and is there"
            for tag in listed.split(",")
            if tag and int(tag) not in known
        ]
        return wrong

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
    lab: RunningLab, seed: int, changes: int, show: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """Carries the trials out, one after the other; stops at the first that leaves something wrong."""
    chaos = Chaos(lab)
    outcomes = []
    for trial in trials(seed, changes):
        began = time.monotonic()
        outcome = chaos.carry_out(trial)
        outcomes.append(outcome)
        how = "done" if outcome.code == 0 else outcome.said.splitlines()[0][:80] if outcome.said else "failed"
        show(
            f"{trial.number}: {trial.change}, {trial.accident} {trial.victim} after {trial.after_s:.2f} s: {how}; "
            f"{time.monotonic() - began:.1f} s {outcome.wrong or ''}"
        )
        if outcome.wrong:
            break
    return outcomes


def main() -> int:
    """Runs trials on a lab of its own, and prints each; 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    with running_lab(hosts=len(HOSTS), nics=4, pool=True) as lab:
        outcomes = run(lab, options.seed, options.changes, lambda text: print(text, flush=True))
        if outcomes[-1].wrong:
            for host in lab.lab.hosts:
                log = lab.lab.directory / host.name / "var-log/poolnet-api.log"
                tail = subprocess.run(("tail", "-n", "25", log), check=False, capture_output=True, text=True)
                sys.stdout.write(f"--- {host.name}\n{tail.stdout}")
    return 1 if outcomes[-1].wrong else 0


if __name__ == "__main__":
    sys.exit(main())
