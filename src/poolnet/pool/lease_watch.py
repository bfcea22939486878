"""Which host has not renewed its lease, and since when has it stopped its VMs for certain? Values only, and no clock.

The coordinator observes leases and says when, by a clock that never jumps. No clock of another host is compared with it: that it
has seen a renewal at some moment means that the renewal was begun before, and a lease ends so long after its renewal began.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from poolnet.db.leases import Lease, State

DRIFT: Final = 0.02
"""By how much two hosts' clocks may differ in speed; real ones differ by a thousandth of that."""

MARGIN_S: Final = 2.0
"""For a host to stop its VMs once its lease is over: it looks twice a second."""


GONE: Final = (State.LOST, State.STOPPED)
"""The states of a lease whose host may not run VMs, and cannot renew it."""


def silence_s(seconds: float) -> float:
    """After how long without a renewal a lease is taken away: it is over then, but for the margin."""
    return seconds * (1 + DRIFT)


def certain_s(seconds: float) -> float:
    """How long after a renewal was seen the host runs no VM any more, whatever became of it."""
    return silence_s(seconds) + MARGIN_S


@dataclass(slots=True)
class LeaseWatch:
    """What one coordinator has seen of the leases since it took the role."""

    _leases: dict[str, Lease] = field(default_factory=dict)
    _seen_at: dict[str, float] = field(default_factory=dict)
    _certain_at: dict[str, float] = field(default_factory=dict)

    def observe(self, now: float, leases: Iterable[Lease]) -> None:
        """Takes note of the leases as they are at a moment."""
        found = {lease.host: lease for lease in leases}
        for host, lease in found.items():
            if self._leases.get(host) != lease:
                self._seen_at[host] = now
            if lease.state not in GONE:
                self._certain_at.pop(host, None)
            elif lease.state is State.STOPPED:  # somebody has waited for it already
                self._certain_at[host] = min(now, self._certain_at.get(host, now))
            elif host not in self._certain_at:  # somebody else has taken it away, nobody knows when
                self._certain_at[host] = now + certain_s(lease.seconds)
        for host in self._leases.keys() - found.keys():
            del self._seen_at[host]
            self._certain_at.pop(host, None)
        self._leases = found

    def silent(self, now: float) -> tuple[Lease, ...]:
        """The leases that were not renewed in time, and are to be taken away."""
        return tuple(
            lease
            for host, lease in self._leases.items()
            if lease.state is State.HELD and now - self._seen_at[host] >= silence_s(lease.seconds)
        )

    def taken_away(self, lease: Lease) -> None:
        """Takes note that this very lease, not renewed since it was observed, cannot be renewed any more."""
        if self._leases.get(lease.host) == lease:
            self._certain_at[lease.host] = self._seen_at[lease.host] + certain_s(lease.seconds)

    def over(self, now: float) -> tuple[Lease, ...]:
        """The lost leases whose hosts run no VM any more."""
        return tuple(
            lease
            for host, lease in self._leases.items()
            if lease.state in GONE and now >= self._certain_at[host]
        )

    def in_state(self, *states: State) -> frozenset[str]:
        """The hosts whose lease was in one of these states when it was observed last."""
        return frozenset(host for host, lease in self._leases.items() if lease.state in states)
