"""When the guard tells a watchdog that all is well, and when it must not. What a kernel's does is in `tests/kernel/softdog_guard.py`."""

from __future__ import annotations

import errno
import fcntl
import json
from pathlib import Path
from typing import Final

import pytest

from poolnet.hostd import fence_guard, watchdog
from poolnet.hostd.fence_guard import ARMED_FILE, FENCED_FILE, LEASE_FILE
from poolnet.hostd.watchdog import FIRES_S, KEEPS, Watchdog, may_be_told, timeout_for
from poolnet.pool.lease_keeper import BEAT_S_MIN, BEATS
from poolnet.pool.lease_watch import MARGIN_S
from poolnet.rules.ha import TIMEOUT_S_MAX, TIMEOUT_S_MIN

S: Final = 10**9
LEASE_S = 30


class Device:
    """In the place of a device: a file in which is what it was told, and the kernel's answers. `rounds` is its unit, in seconds."""

    def __init__(self, path: Path, rounds: int = 1, *, stops: bool = True) -> None:
        self.path = path
        self.rounds = rounds
        self.stops = stops
        self.timeouts: list[int] = []
        self._before = b""
        path.touch()

    def ioctl(self, _: int, request: int, argument: bytes) -> bytes:
        (value,) = watchdog._INT.unpack(argument)
        if request == watchdog._SETTIMEOUT:
            self._before += self.path.read_bytes()  # it is open anew
            self.path.write_bytes(b"")
            self.timeouts.append(-(-value // self.rounds) * self.rounds)
            return watchdog._INT.pack(self.timeouts[-1])
        assert (request, value) == (watchdog._SETOPTIONS, watchdog._DISABLECARD)
        if not self.stops:
            raise OSError(errno.EBUSY, "busy")
        return argument

    @property
    def told(self) -> int:
        """How often it was told that all is well."""
        return (self._before + self.path.read_bytes()).count(b"\0")

    @property
    def closed(self) -> bool:
        """Whether it was closed as one that is to stop."""
        return self.path.read_bytes().endswith(b"V")


class Place:
    """An armed host, its guard's watchdog, and a clock that stands still until it is moved."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.run = root / "state", root / "run"
        self.state.mkdir()
        (self.run / "guests").mkdir(parents=True)
        self.device = Device(root / "watchdog")
        self.now_ns = 1000 * S
        self.guests: list[int] = []
        self.said: list[str] = []
        self.watchdog = Watchdog(self.said.append, lambda: self.now_ns)
        monkeypatch.setattr(fence_guard, "now_ns", lambda: self.now_ns)
        monkeypatch.setattr(fence_guard, "running", lambda _: iter(self.guests))
        monkeypatch.setattr(fcntl, "ioctl", lambda *words: self.device.ioctl(*words))
        (self.state / ARMED_FILE).write_text('{"generation": "g"}')
        self.renew()

    def renew(self, path: str | None = None) -> None:
        lease = {
            "until_ns": self.now_ns + LEASE_S * S,
            "seconds": LEASE_S,
            "watchdog": str(self.device.path) if path is None else path,
        }
        (self.run / LEASE_FILE).write_text(json.dumps(lease))

    def tell(self) -> bool:
        return fence_guard.tell(self.watchdog, self.state, self.run)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


@pytest.mark.parametrize("lease_s", [TIMEOUT_S_MIN, 6, 7, 12, LEASE_S, 61, TIMEOUT_S_MAX])
def test_while_the_lease_is_renewed_no_watchdog_that_is_used_goes_off(lease_s: int) -> None:
    """The guard looks each half second, and sees a renewal a second after it began."""
    beat_s, late_s = max(lease_s / BEATS, BEAT_S_MIN), 1.0
    for timeout_s in {timeout_for(lease_s), int(KEEPS * lease_s)}:
        told = 0.0
        for look in range(round(3 * lease_s / fence_guard.LOOK_S)):
            now_s = look * fence_guard.LOOK_S
            began_s = max(0.0, (now_s - late_s) // beat_s * beat_s)
            if may_be_told(int(now_s * S), int((began_s + lease_s) * S), timeout_s):
                assert now_s - told < timeout_s
                told = now_s
        assert told > 2 * lease_s


def test_it_goes_off_before_the_others_restart_anything() -> None:
    assert FIRES_S < MARGIN_S


def test_it_is_told_until_it_would_go_off_too_late(place: Place) -> None:
    timeout_s = timeout_for(LEASE_S)
    assert place.tell()
    assert (place.device.timeouts, place.device.told) == ([timeout_s], 1)
    until_ns = fence_guard.lease_in(place.run).until_ns
    place.now_ns = until_ns + int(FIRES_S * S) - timeout_s * S
    place.tell()
    assert place.device.told == 2
    place.now_ns += 1
    place.tell()
    assert place.device.told == 2
    place.renew()
    place.tell()
    assert (place.device.timeouts, place.device.told) == ([timeout_s], 3)


@pytest.mark.parametrize("fenced", [False, True])
def test_without_a_lease_it_is_told_only_once_no_guest_is_left(place: Place, *, fenced: bool) -> None:
    place.tell()
    if fenced:
        (place.run / FENCED_FILE).touch()
    else:
        place.now_ns += LEASE_S * S
    place.guests = [4711]
    assert place.tell()
    assert place.device.told == 1
    place.guests = []
    place.tell()
    assert place.device.told == 2


def test_a_guard_that_is_new_does_not_open_it_where_it_must_not_be_told(place: Place) -> None:
    """To open one is to tell it."""
    place.now_ns += LEASE_S * S
    place.guests = [4711]
    place.tell()
    assert (place.device.timeouts, place.device.told) == ([], 0)


def test_a_host_that_is_disarmed_or_has_another_one_closes_it(place: Place, tmp_path: Path) -> None:
    place.tell()
    before, place.device = place.device, Device(tmp_path / "another")
    place.renew()
    place.tell()
    assert (before.closed, place.device.told) == (True, 1)
    place.renew("")
    assert place.tell()
    assert place.device.closed
    place.renew()
    place.tell()
    assert place.device.told == 2
    (place.state / ARMED_FILE).unlink()
    assert not place.tell()
    assert place.device.closed
    assert not place.tell()


def test_one_that_cannot_be_stopped_keeps_its_guard(place: Place) -> None:
    place.device.stops = False
    place.tell()
    (place.state / ARMED_FILE).unlink()
    place.now_ns += 10 * LEASE_S * S
    assert place.tell()
    assert place.tell()
    assert (place.device.told, place.device.closed) == (3, False)
    assert [text for text in place.said if "cannot be stopped" in text] == place.said[1:]


def test_one_that_is_too_slow_is_told_of_and_left_alone(place: Place) -> None:
    place.device.rounds = 60
    for _ in range(3):
        assert place.tell()
    assert (place.device.timeouts, place.device.closed) == ([60], True)
    assert "cannot go off within 15 s" in place.said[-1]


def test_one_that_rounds_up_is_opened_only_where_that_is_early_enough(place: Place) -> None:
    place.device.rounds = 20
    place.now_ns += int((LEASE_S + FIRES_S - 17) * S)
    place.tell()
    assert (place.device.timeouts, place.device.closed) == ([20], True)
    place.renew()
    place.tell()
    assert (place.device.timeouts, place.device.closed) == ([20, 20], False)


def test_one_that_is_not_there_is_told_of_once_and_tried_again(place: Place) -> None:
    place.device.path.unlink()
    for _ in range(3):
        assert place.tell()
    assert place.said == [f"the watchdog {place.device.path}: No such file or directory"]
    place.device.path.touch()
    place.tell()
    assert place.device.told == 1
