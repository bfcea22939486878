"""What is a measured figure? Every benchmark makes some, `__main__` prints them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    `ratio` compares times, also where the unit is a rate: 2 means twice the time of the floor. `wanted` is the largest
    ratio that the project promises, if it promises one.
    """

    name: str
    value: float
    unit: str
    floor: float
    floor_name: str
    ratio: float
    samples: int | None = None
    p99: float | None = None
    wanted: float | None = None

    @property
    def missed(self) -> bool:
        """Whether a promise is broken."""
        return self.wanted is not None and self.ratio > self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A benchmark that cannot run here, and why."""

    name: str
    reason: str


class Measured(TypedDict):
    """What the benchmarks of one room answer; each can also be run alone, so they share no module."""

    name: str
    value: float
    unit: str
    floor: float
    ratio: float


def named(measured: Iterable[Measured], floor_name: str) -> list[Figure]:
    """The figures of a room's benchmark, with the name of their floor."""
    return [Figure(**each, floor_name=floor_name) for each in measured]


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample below which that many percent of them are."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def duration(
    name: str,
    samples_s: Sequence[float],
    floor_s: Sequence[float],
    *,
    floor_name: str,
    unit: str = "ms",
    wanted: float | None = None,
) -> Figure:
    """The median duration, and its 99th percentile, in `ms` or `µs`."""
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    value, floor = statistics.median(samples_s), statistics.median(floor_s)
    return Figure(
        name=name,
        value=value * scale,
        unit=unit,
        floor=floor * scale,
        floor_name=floor_name,
        ratio=value / floor,
        samples=len(samples_s),
        p99=percentile(samples_s, 99) * scale,
        wanted=wanted,
    )


def rate(
    name: str, samples_s: Sequence[float], floor_s: Sequence[float], *, floor_name: str, unit: str
) -> Figure:
    """How many fit in a second one after the other, from the median duration of one."""
    value, floor = statistics.median(samples_s), statistics.median(floor_s)
    return Figure(
        name=name,
        value=1 / value,
        unit=unit,
        floor=1 / floor,
        floor_name=floor_name,
        ratio=value / floor,
        samples=len(samples_s),
    )
