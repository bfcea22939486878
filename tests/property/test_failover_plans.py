"""Plans of failover: nobody is put where there is no room, and what is said of failures holds for each of them."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from poolnet.model.classes.host import Host
from poolnet.model.classes.vm import VM
from poolnet.model.types import NULL, Ref
from poolnet.rules.ha_plan import Need, Room, bears, failures_max, minority, place

HOSTS: tuple[Ref[Host], ...] = tuple(Ref(f"OpaqueRef:host{number}") for number in range(5))


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Need], list[Room]]:
    rooms = [
        Room(host=host, memory_bytes=draw(st.integers(-1, 6)))
        for host in draw(st.sets(st.sampled_from(HOSTS)))
    ]
    needs = []
    for number in range(draw(st.integers(0, 8))):
        vm: Ref[VM] = Ref(f"OpaqueRef:vm{number}")
        needs.append(
            Need(
                vm=vm,
                at=draw(st.sampled_from((*HOSTS, NULL))),
                memory_bytes=draw(st.integers(0, 3)),
                hosts=frozenset(draw(st.sets(st.sampled_from(HOSTS)))),
                order=draw(st.integers(0, 2)),
            )
        )
    return needs, rooms


@given(pools())
def test_nobody_is_put_where_there_is_no_room(pool: tuple[list[Need], list[Room]]) -> None:
    needs, rooms = pool
    placed = place(needs, rooms)
    assert placed.keys() == {need.vm for need in needs}
    for room in rooms:
        here = [need for need in needs if placed[need.vm] == room.host]
        assert not here or sum(need.memory_bytes for need in here) <= room.memory_bytes
        assert all(room.host in need.hosts for need in here)
    assert place(list(reversed(needs)), list(reversed(rooms))) == placed


@given(pools())
def test_who_finds_no_place_would_find_none_beside_the_others_either(
    pool: tuple[list[Need], list[Room]],
) -> None:
    needs, rooms = pool
    placed = place(needs, rooms)
    for need in needs:
        if placed[need.vm] is None:
            for room in rooms:
                taken = sum(other.memory_bytes for other in needs if placed[other.vm] == room.host)
                assert room.host not in need.hosts or need.memory_bytes > room.memory_bytes - taken


@given(pools(), st.integers(0, 3))
def test_what_is_said_of_failures_holds_for_any_of_them(
    pool: tuple[list[Need], list[Room]], most: int
) -> None:
    needs, rooms = pool
    count = failures_max(needs, rooms, most)
    assert 0 <= count <= most
    hosts = sorted({room.host for room in rooms} | {need.at for need in needs if need.at != NULL})
    for failed in combinations(hosts, count) if count else ():
        left = [room for room in rooms if room.host not in failed]
        homeless = [need for need in needs if need.at in failed or need.at == NULL]
        assert None not in place(homeless, left).values()


@given(pools(), st.integers(1, 3))
def test_that_there_is_no_plan_is_said_only_when_some_failure_finds_none(
    pool: tuple[list[Need], list[Room]], failures: int
) -> None:
    needs, rooms = pool
    hosts = sorted({room.host for room in rooms} | {need.at for need in needs if need.at != NULL})
    ends_well = [
        None not in place([need for need in needs if need.at in (*failed, NULL)], left).values()
        for failed in combinations(hosts, failures)
        for left in [[room for room in rooms if room.host not in failed]]
    ]
    assert bears(needs, rooms, failures) == (failures <= len(hosts) and all(ends_well))


@given(st.sampled_from((0, 1, 2, 3, 4, 5)), st.integers(1, 64))
def test_a_majority_of_the_servers_is_always_left(servers: int, hosts: int) -> None:
    failures = minority(servers, hosts)
    assert 2 * failures < (servers or max(hosts, 1))
