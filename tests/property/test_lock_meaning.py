"""`permits(policy, frame)` is what the compiled rules do: 100,000 pairs for each compiler, counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.nft_limits import unread
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.openflow import port_cookie, port_flows, shared_flows
from poolnet.lock.policy import Verdict, allows, receives
from poolnet.lock.reasons import DropReason
from poolnet.lock.switchmodel import Outcome, SwitchModel
from tests.property.nft_table import listing
from tests.property.random_frames import Sender, locks
from tests.unit.lock.lock_cases import OFPORT

LOCKS, FRAMES = 330, 450
PAIRS_MIN = 100_000
DEVICE = "vif1.0"
SHARED = shared_flows([1])
NEVER_TAKEN = {"cut off fragment", "cut off VLAN tag"}  # by any receiver; by the kernel

Check = Callable[[bytes, Verdict], None]


def compare(check_of: Callable[[PortLock], Check]) -> None:
    """Holds the policy against a compiler on random locks and frames, and counts what that was."""
    pairs: set[int] = set()
    locked: Counter[DropReason | None] = Counter()

    @settings(
        max_examples=LOCKS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # the frame itself is shown: nothing to look for a smaller one by
        suppress_health_check=list(HealthCheck),
    )
    @given(locks(), st.integers(0, 2**64 - 1))
    def agree(lock: PortLock, seed: int) -> None:
        check = check_of(lock)
        for frame in Sender(lock, random.Random(seed)).frames(FRAMES):
            verdict = allows(lock, frame)
            check(frame, verdict)
            pairs.add(hash((lock, frame)))
            if lock.mode is LockMode.LOCKED:
                locked[verdict.reason] += 1

    agree()
    print(f"{len(pairs)} different pairs; verdicts of locked ports: {dict(locked)}")
    assert len(pairs) >= PAIRS_MIN
    assert locked[None] > PAIRS_MIN / 10
    assert set(locked) == {None, *DropReason} - {DropReason.DISABLED}
    assert min(locked.values()) > 100


def test_the_openflow_rules_mean_what_the_policy_says() -> None:
    def check_of(lock: PortLock) -> Check:
        switch = SwitchModel((*SHARED, *port_flows(lock, OFPORT, port_cookie(OFPORT))))

        def check(frame: bytes, verdict: Verdict) -> None:
            outcome = switch.run(frame, OFPORT)
            assert outcome.passes == verdict.passes, (lock, verdict, texts(outcome), frame.hex())
            assert outcome.reason == verdict.reason or lock.mode is LockMode.DISABLED, (
                lock,
                texts(outcome),
                frame.hex(),
            )

        return check

    compare(check_of)


def texts(outcome: Outcome) -> list[str]:
    """The rules that a frame met, for whoever looks for the mistake; too slow to be written for each frame."""
    return [flow.text() for flow in outcome.path]


def test_the_nftables_rules_mean_what_the_policy_says() -> None:
    """As far as nftables reads the frame; of the others none passes that must not, but for what no receiver takes."""

    def check_of(lock: PortLock) -> Check:
        bridge = BridgeModel(listing({DEVICE: lock}))

        def check(frame: bytes, verdict: Verdict) -> None:
            outcome, why = bridge.sends(DEVICE, frame), unread(frame)
            if not why:
                assert outcome.passes == verdict.passes, (lock, verdict, outcome.path, frame.hex())
                assert outcome.reason == verdict.reason, (lock, verdict, outcome.path, frame.hex())
            elif why not in NEVER_TAKEN:
                assert verdict.passes or not outcome.passes, (lock, why, outcome.path, frame.hex())
            if why not in NEVER_TAKEN:
                assert bridge.receives(DEVICE, frame).passes == receives(lock, frame), (lock, frame.hex())

        return check

    compare(check_of)


def test_a_port_without_a_lock_is_closed_and_others_are_not_looked_at() -> None:
    bridge = BridgeModel(listing({DEVICE: PortLock(mode=LockMode.UNLOCKED, mac="02:00:00:00:00:01")}))
    for frame in Sender(PortLock(mode=LockMode.UNLOCKED, mac="02:00:00:00:00:02"), random.Random(1)).frames(
        300
    ):
        for closed in ("vif9.0", "tap9"):
            assert not bridge.sends(closed, frame).passes
            assert not bridge.receives(closed, frame).passes
        assert bridge.sends("eth0", frame).passes
        assert bridge.receives("eth0", frame).passes
