"""A host never runs VMs any more when its coordinator takes them to be stopped, whatever is slow, lost or restarted.

A world of one host and one coordinator after the other, each with a clock of its own speed, and a database that carries out one
transaction at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.db.leases import Lease, State
from poolnet.pool.lease_watch import DRIFT, MARGIN_S, LeaseWatch, certain_s

SECONDS = 10
FENCES_WITHIN_S = MARGIN_S / 2  # the guard looks twice a second


@dataclass
class Host:
    """Its clock goes at `speed`; `until` is what its daemon has, by that clock."""

    speed: float
    until: float = 0.0
    fenced_at: float | None = None  # real time

    def look(self, real: float) -> None:
        if self.fenced_at is None and real * self.speed >= self.until:
            self.fenced_at = self.until / self.speed


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("renew", "renewal lost", "observe", "judge", "another coordinator", "nothing")),
        st.floats(0.0, 4.0),
        st.floats(0.0, 3.0),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.floats(1 - DRIFT / 3, 1 + DRIFT / 3), st.floats(1 - DRIFT / 3, 1 + DRIFT / 3))
def test_who_is_taken_to_be_stopped_is(
    steps: list[tuple[str, float, float]], host_speed: float, coordinator_speed: float
) -> None:
    host = Host(host_speed, until=SECONDS * host_speed)
    row = Lease(host="h", generation="g", seconds=SECONDS, state=State.HELD, beat="0")
    watch = LeaseWatch()
    read = row
    real = 0.0
    for number, (step, wait_s, takes_s) in enumerate(steps):
        real += wait_s
        host.look(real)
        now = real * coordinator_speed
        match step:
            case "renew" | "renewal lost" if row.state is State.HELD and host.fenced_at is None:
                began = real * host_speed
                row = replace(row, beat=str(number))
                real += takes_s
                host.look(real)
                if step == "renew" and host.fenced_at is None:
                    host.until = max(host.until, began + SECONDS)
            case "observe":
                read = row
                watch.observe(now, (read,))
            case "judge":
                for lease in watch.silent(now):
                    if row == lease:  # the transaction requires it
                        read = row = replace(row, state=State.LOST, beat=f"taken away {number}")
                        watch.taken_away(lease)
                        watch.observe(now, (row,))
                host.look(real)
                if watch.over(now) and row == read:
                    assert host.fenced_at is not None
                    assert host.fenced_at + FENCES_WITHIN_S <= real + 1e-6
                    read = row = replace(row, state=State.STOPPED, beat=f"stopped {number}")
            case "another coordinator":
                watch = LeaseWatch()
            case _:
                pass


@given(st.integers(5, 600))
def test_a_host_that_renews_in_time_keeps_its_lease(seconds: int) -> None:
    watch = LeaseWatch()
    lease = Lease(host="h", generation="g", seconds=seconds, state=State.HELD, beat="0")
    for number in range(40):
        now = number * seconds / 5
        if number % 3 == 0:  # two renewals of three are lost
            lease = replace(lease, beat=str(number))
        watch.observe(now, (lease,))
        assert not watch.silent(now)
        assert not watch.over(now)


def test_a_lease_that_is_never_renewed_is_over_after_its_time_and_not_before() -> None:
    watch = LeaseWatch()
    lease = Lease(host="h", generation="g", seconds=SECONDS, state=State.HELD, beat="0")
    watch.observe(100.0, (lease,))
    assert not watch.silent(100.0 + SECONDS)
    assert watch.silent(100.0 + SECONDS * 1.03) == (lease,)
    watch.taken_away(lease)
    lost = replace(lease, state=State.LOST, beat="1")
    watch.observe(110.5, (lost,))
    assert not watch.over(100.0 + certain_s(SECONDS) - 0.01)
    assert watch.over(100.0 + certain_s(SECONDS)) == (lost,)


def test_who_finds_a_lease_lost_waits_all_the_time_and_one_that_comes_back_is_not_over() -> None:
    watch = LeaseWatch()
    lost = Lease(host="h", generation="g", seconds=SECONDS, state=State.LOST, beat="0")
    watch.observe(0.0, (lost,))
    watch.observe(5.0, (replace(lost, beat="1"),))
    assert not watch.over(certain_s(SECONDS) - 0.01)
    assert watch.over(certain_s(SECONDS))
    heir = LeaseWatch()
    stopped = replace(lost, state=State.STOPPED, beat="2")
    heir.observe(20.0, (stopped,))
    assert heir.over(20.0) == (stopped,), "its predecessor has waited"
    watch.observe(20.0, (replace(lost, state=State.HELD, beat="3"),))
    assert not watch.over(99.0)
    assert watch.in_state(State.HELD) == {"h"}
