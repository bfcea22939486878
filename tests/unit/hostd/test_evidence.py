"""What is counted, and who is told of, by what the switch's counters say one look after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, cast

import pytest

from poolnet.hostd import evidence
from poolnet.hostd.backend import Backend, BackendGone
from poolnet.hostd.evidence import Evidence
from poolnet.hostnet.facts import PortFacts
from poolnet.hostnet.protocol import LocksSeen
from poolnet.hostnet.state import GuestPort, HostNetwork, PortLock
from poolnet.lock.packet_text import frame_of
from poolnet.lock.reasons import DropReason
from tests.unit.lock.lock_cases import LOCKED

DEVICE = "vif1.0"
ONLY_IPV4 = replace(LOCKED, ipv6_allowed=())


class Switch:
    """A backend that has these counters, and this lock on its only port."""

    def __init__(self, lock: PortLock = LOCKED, **counts: int) -> None:
        self.lock = lock
        self.counts: dict[str, int] | None = dict(counts)
        self.gone = False

    async def counters(self, devices: Collection[str]) -> tuple[PortFacts, ...]:
        assert not devices
        if self.gone:
            raise BackendGone("it restarts")
        if self.counts is None:
            return ()
        return (PortFacts(device=DEVICE, dropped=tuple(sorted(self.counts.items()))),)

    async def observe(self) -> HostNetwork:
        return HostNetwork(ports=(GuestPort(device=DEVICE, bridge="b", lock=self.lock),))


class Frames:
    """In place of the sockets on the ports, which a unit test has none of: these frames were seen."""

    def __init__(self) -> None:
        self.frames: dict[DropReason, bytes] = {}
        self.listened: list[tuple[str, frozenset[DropReason]]] = []

    def listen(self, device: str, lock: PortLock, reasons: Collection[DropReason]) -> None:
        self.listened.append((device, frozenset(reasons)))

    def seen(self, device: str) -> dict[DropReason, bytes]:
        return self.frames

    def close(self, device: str) -> None:
        pass

    def close_all(self) -> None:
        pass


def run(
    switch: Switch,
    body: Callable[[Evidence, Callable[[], Awaitable[LocksSeen]], Frames], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`body` gets the evidence and what gives its next report."""
    monkeypatch.setattr(evidence, "LOOK_S", 0.002)
    monkeypatch.setattr(evidence, "COUNTS_S", 0.0)
    monkeypatch.setattr(evidence, "WAIT_FOR_FRAME_S", 0.05)

    async def inside() -> None:
        seen = Evidence(cast(Backend, switch))
        frames = Frames()
        cast(Any, seen)._taps = frames
        reports = cast(AsyncGenerator[LocksSeen, None], seen.reports())

        async def following() -> LocksSeen:
            async with asyncio.timeout(20):
                return await anext(reports)

        await body(seen, following, frames)
        await reports.aclose()

    asyncio.run(inside())


def test_what_was_counted_before_is_no_news_and_what_comes_is(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(arp=5, mac=0)

    async def body(seen: Evidence, following: Callable[[], Awaitable[LocksSeen]], frames: Frames) -> None:
        first = await following()
        assert first.ports == (PortFacts(device=DEVICE, dropped=(("arp", 5), ("mac", 0))),)
        assert first.offences == ()
        frames.frames[DropReason.ARP] = frame_of("arp spa=10.0.0.2", LOCKED)
        switch.counts = {"arp": 8, "mac": 0}
        report = await following()
        assert [(one.device, one.did, one.count) for one in report.offences] == [
            (DEVICE, "sent ARP for 10.0.0.2", 3)
        ]
        assert frames.listened == [(DEVICE, frozenset({DropReason.ARP}))]
        switch.counts = {"arp": 9, "mac": 0}
        assert (await following()).offences == ()  # told of a moment ago
        assert dict((await seen.counters(()))[0].dropped)["arp"] == 9

    run(switch, body, monkeypatch)


def test_without_a_frame_it_is_told_after_a_while_in_general_words(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(arp=0)

    async def body(_: Evidence, following: Callable[[], Awaitable[LocksSeen]], __: Frames) -> None:
        await following()
        switch.counts = {"arp": 2}
        reports = [await following()]
        while not reports[-1].offences:
            reports.append(await following())
        assert [one.did for one in reports[-1].offences] == ["sent ARP with a foreign sender"]

    run(switch, body, monkeypatch)


def test_a_lock_that_begins_to_count_anew_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(arp=5)

    async def body(seen: Evidence, _: Callable[[], Awaitable[LocksSeen]], __: Frames) -> None:
        await seen.counters(())
        for raw, total in ((7, 7), (2, 9), (2, 9), (3, 10)):
            switch.counts = {"arp": raw}
            assert dict((await seen.counters((DEVICE,)))[0].dropped) == {"arp": total}
        switch.counts = None  # the port is gone
        assert await seen.counters(()) == ()
        switch.counts = {"arp": 1}  # another guest's
        assert dict((await seen.counters(()))[0].dropped) == {"arp": 1}
        assert await seen.counters(("vif9.0",)) == ()

    run(switch, body, monkeypatch)


def test_in_shadow_mode_it_is_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(arp=4)

    async def body(seen: Evidence, _: Callable[[], Awaitable[LocksSeen]], __: Frames) -> None:
        await seen.counters(())
        switch.lock = replace(LOCKED, shadow=True)
        switch.counts = {"arp": 3}
        assert await seen.counters(()) == (
            PortFacts(device=DEVICE, dropped=(("arp", 4),), shadowed=(("arp", 3),)),
        )

    run(switch, body, monkeypatch)


def test_the_ipv6_of_a_guest_that_has_none_is_counted_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(ONLY_IPV4, **{"ipv6-source": 0, "mac": 0})

    async def body(seen: Evidence, following: Callable[[], Awaitable[LocksSeen]], _: Frames) -> None:
        await following()
        switch.counts = {"ipv6-source": 9, "mac": 1}
        told: list[str] = []
        while not told:
            told += [one.reason for one in (await following()).offences]
        assert told == ["mac"]
        assert dict((await seen.counters(()))[0].dropped)["ipv6-source"] == 9

    run(switch, body, monkeypatch)


def test_what_is_counted_while_the_switch_is_gone_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(arp=1)

    async def body(seen: Evidence, _: Callable[[], Awaitable[LocksSeen]], __: Frames) -> None:
        await seen.counters(())
        switch.counts = {"arp": 4}
        observe = switch.observe

        async def gone() -> HostNetwork:
            raise BackendGone("it restarts")

        monkeypatch.setattr(switch, "observe", gone)
        with pytest.raises(BackendGone):
            await seen.counters(())
        monkeypatch.setattr(switch, "observe", observe)
        assert dict((await seen.counters(()))[0].dropped) == {"arp": 4}
        switch.lock = replace(LOCKED, mac="", shadow=True)  # somebody has spoilt the port
        switch.counts = {"arp": 5}
        assert await seen.counters(()) == (PortFacts(device=DEVICE, dropped=(("arp", 5),)),)

    run(switch, body, monkeypatch)


def test_a_repair_is_told_at_once_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(arp=0)

    async def body(seen: Evidence, following: Callable[[], Awaitable[LocksSeen]], _: Frames) -> None:
        await following()
        switch.gone = True  # perhaps because the switch has restarted
        seen.note_repair("flows were put back")
        seen.note_repair("flows were put back")
        assert (await following()).repaired == ("flows were put back",)
        seen.note_repair("again")
        assert (await following()).repaired == ("again",)

    run(switch, body, monkeypatch)
