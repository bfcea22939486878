"""Locks change, or the switch dies, while the guest sends good and bad frames: no good one is lost, no bad one passes.

`python -m tests.lab.lock_soak` is `make soak-locks`; the tests carry out a small sample of it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.lab import survival
from tests.lab.attacks import attacks_of
from tests.lab.stage import ATTACKER, BACKENDS, HOST, VICTIM, Stage, datagram, staged
from tests.waiting import PATIENCE, eventually

AT_ONCE, BAD_OF_THEM = 12, 8  # frames before the sender looks who has heard them
UNDERWAY_MAX = 64  # good frames; more would overrun the switch's socket, whatever the locks are
GIVEN_UP_AFTER_S = 5.0  # a good frame that nobody has heard by then is lost
GIVEN_UP_SOON_S = 0.2  # while they are lost anyway, so that others follow
PAUSE_S = 0.001


@dataclass
class Traffic:
    """What was sent and heard. `lost` counts good frames, `leaked` bad ones by name and listener."""

    good: int = 0
    bad: int = 0
    heard: int = 0
    twice: int = 0
    lost: int = 0
    leaked: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.bad} bad frames sent, {sum(self.leaked.values())} leaked; "
            f"{self.good} good frames sent, {self.lost} lost, {self.twice} doubled"
        )


class _Sender:
    """Sends from the attacker's guest, and listens everywhere, in a thread of its own."""

    def __init__(self, stage: Stage, chance: random.Random, given_up_after_s: float) -> None:
        self._given_up_after_s = given_up_after_s * PATIENCE
        self.traffic = Traffic()
        self.failure: BaseException | None = None
        self._stage = stage
        self._chance = chance
        self._bad = tuple(attacks_of(stage.me, stage.victim))
        self._names = {sent.frame: sent.name for sent in self._bad}
        self._open: dict[bytes, float] = {}
        self._known: set[bytes] = set()
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="sender")

    def stop(self) -> None:
        """Send no more, and hear what is under way."""
        self._over.set()
        self.thread.join()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._send()
                self._listen()
                time.sleep(PAUSE_S)
            deadline = time.monotonic() + self._given_up_after_s
            while self._open and time.monotonic() < deadline:
                self._listen()
                time.sleep(PAUSE_S)
            self.traffic.lost += len(self._open)
        except BaseException as failure:
            self.failure = failure

    def _send(self) -> None:
        if len(self._open) + AT_ONCE - BAD_OF_THEM > UNDERWAY_MAX:
            return  # the switch has no time: bad ones wait too
        wire = self._stage.wires[ATTACKER]
        order = [True] * (AT_ONCE - BAD_OF_THEM) + [False] * BAD_OF_THEM
        self._chance.shuffle(order)
        for is_good in order:
            if not is_good:
                wire.send(self._chance.choice(self._bad).frame)
                self.traffic.bad += 1
            else:
                self.traffic.good += 1
                frame = datagram(self._stage.me, self._stage.victim.mac, b"good %d" % self.traffic.good)
                self._open[frame] = time.monotonic()
                self._known.add(frame)
                wire.send(frame)

    def _listen(self) -> None:
        for place, frames in self._stage.heard().items():
            for frame in frames:
                if (name := self._names.get(frame)) is not None:
                    self.traffic.leaked[f"{name} to {place}"] += 1
                elif place == VICTIM and frame in self._known:
                    self.traffic.heard += 1
                    self.traffic.twice += self._open.pop(frame, None) is None
        late = time.monotonic() - self._given_up_after_s
        for frame, sent in list(self._open.items()):
            if sent > late:
                break  # they are in order
            del self._open[frame]
            self.traffic.lost += 1


@contextmanager
def sending(
    stage: Stage, chance: random.Random, given_up_after_s: float = GIVEN_UP_AFTER_S
) -> Iterator[Traffic]:
    """Traffic while the body runs; the numbers are right afterwards."""
    sender = _Sender(stage, chance, given_up_after_s)
    sender.thread.start()
    try:
        yield sender.traffic
    finally:
        sender.stop()
    if sender.failure is not None:
        raise sender.failure


def changes(stage: Stage, chance: random.Random, count: int) -> Traffic:
    """That many changes of the attacker's lock, each of which keeps its own IPv4 address and allows nothing of the victim's."""
    api, vif = stage.api, stage.vif
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    stage.learns_who_is_where()
    with sending(stage, chance) as traffic:
        eventually(lambda: traffic.heard > 0, "good frames arrive")
        for _ in range(count):
            others4 = [
                f"10.9.{chance.randrange(100, 250)}.{chance.randrange(256)}"
                for _ in range(chance.randrange(4))
            ]
            others4 += [f"10.{chance.randrange(100, 200)}.0.0/{chance.randrange(16, 31)}"] * chance.randrange(
                2
            )
            others6 = [f"fd0a::{chance.randrange(1, 0xFFFF):x}" for _ in range(chance.randrange(3))]
            match chance.randrange(5):
                case 0 | 1:
                    api.call(
                        "VIF.set_ipv4_allowed", vif, chance.sample([stage.me.ip, *others4], len(others4) + 1)
                    )
                case 2:
                    api.call("VIF.set_ipv6_allowed", vif, [*others6, *([stage.me.ip6] * chance.randrange(2))])
                case 3:
                    api.call("VIF.add_ipv4_allowed", vif, f"10.9.99.{chance.randrange(256)}")
                case _:
                    gone = api.call("VIF.get_ipv4_allowed", vif)
                    api.call(
                        "VIF.remove_ipv4_allowed",
                        vif,
                        chance.choice([one for one in gone if one != stage.me.ip] or ["10.9.99.1"]),
                    )
    return traffic


def restarts(stage: Stage, chance: random.Random, count: int) -> tuple[Traffic, Sequence[float]]:
    """Kill the switch that often under attack; how long it carried no good frame each time. Those were lost, of course."""
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    stage.learns_who_is_where()
    outages = []
    with sending(stage, chance, GIVEN_UP_SOON_S) as traffic:
        for _ in range(count):
            _wait_for_more(traffic, 0)
            time.sleep(chance.uniform(0, 0.3))
            old = survival.pid_of(stage.lab, HOST, "ovs-vswitchd")
            survival.kill(stage.lab, HOST, "ovs-vswitchd")
            _wait_for_another(stage, old)
            outages.append(_wait_for_more(traffic, 8))
    return traffic, outages


def _wait_for_more(traffic: Traffic, count: int) -> float:
    heard = traffic.heard
    return eventually(lambda: traffic.heard > heard + count, "good frames arrive", 30)


def _wait_for_another(stage: Stage, old: int) -> None:
    def is_there() -> bool:
        return survival.pid_of(stage.lab, HOST, "ovs-vswitchd") not in (0, old)

    eventually(is_there, "the switch starts again")


def main() -> int:
    """Runs as many as asked for on each backend; 1 when a frame was lost or leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    arguments = parser.parse_args()
    bad = 0
    for backend in arguments.backend or BACKENDS:
        with staged(backend) as stage:
            began = time.monotonic()
            traffic = changes(stage, random.Random(arguments.seed), arguments.changes)
            bad += traffic.lost + sum(traffic.leaked.values())
            took = time.monotonic() - began
            sys.stdout.write(
                f"{backend}, seed {arguments.seed}: {arguments.changes} changes in {took:.0f} s: {traffic.text()}\n"
            )
            if backend == "openvswitch" and arguments.restarts:
                traffic, outages = restarts(stage, random.Random(arguments.seed), arguments.restarts)
                bad += sum(traffic.leaked.values())
                sys.stdout.write(
                    f"{backend}, seed {arguments.seed}: switch killed {arguments.restarts} times, "
                    f"away {statistics.median(outages):.2f} s (at most {max(outages):.2f} s): {traffic.text()}\n"
                )
            sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
