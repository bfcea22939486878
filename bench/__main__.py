"""`python -m bench [--save] [NAME …]`: measures everything, or what is named, and prints a table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import (
    bench_db,
    bench_http,
    bench_xe,
    bonds,
    event_latency,
    ha,
    locking,
    locks,
    noisy,
    rates,
    records,
    restart,
    scale,
    vlans,
    xe_command,
)
from bench.figure import Figure, Skipped, named


def _records() -> Sequence[Figure | Skipped]:
    return asyncio.run(records.figures())


def _http() -> Sequence[Figure | Skipped]:
    fragments = named(bench_http.bench_fragments(), "the same bytes from memory")
    return [*fragments, *named([bench_http.bench_small_calls()], "JSON-RPC")]


def _commits() -> Sequence[Figure | Skipped]:
    rates = named(bench_db.bench_commit_rate(), "one sqlite transaction after the other, synchronous=FULL")
    return [*rates, *named([bench_db.bench_audit()], "the same without a record")]


def _events() -> Sequence[Figure | Skipped]:
    return asyncio.run(event_latency.figures())


def _xe() -> Sequence[Figure | Skipped]:
    return [*named(bench_xe.bench_start(), "python3 -c pass"), *asyncio.run(xe_command.figures())]


def _vlans() -> Sequence[Figure | Skipped]:
    return asyncio.run(vlans.figures())


def _many_vlans() -> Sequence[Figure | Skipped]:
    return asyncio.run(vlans.figures(vlans.MANY, vlans.MANY_ROUNDS))


def _vlans_in_turn() -> Sequence[Figure | Skipped]:
    return asyncio.run(vlans.figures_in_turn())


def _bonds() -> Sequence[Figure | Skipped]:
    return asyncio.run(bonds.figures())


def _rates() -> Sequence[Figure | Skipped]:
    return asyncio.run(rates.figures())


def _locks() -> Sequence[Figure | Skipped]:
    return locks.figures()


def _locking() -> Sequence[Figure | Skipped]:
    return asyncio.run(locking.figures())


def _noisy() -> Sequence[Figure | Skipped]:
    return asyncio.run(noisy.figures())


def _lock_streams() -> Sequence[Figure | Skipped]:
    return asyncio.run(locking.stream_figures())


BENCHES: Mapping[str, Callable[[], Sequence[Figure | Skipped]]] = {
    "records": _records,
    "http": _http,
    "commits": _commits,
    "events": _events,
    "xe": _xe,
    "noisy": _noisy,
    "vlans": _vlans,
    "many-vlans": _many_vlans,
    "vlans-in-turn": _vlans_in_turn,
    "restart": restart.figures,
    "bonds": _bonds,
    "rates": _rates,
    "scale": scale.figures,
    "ha": ha.figures,
    "locks": _locks,
    "locking": _locking,
    "lock-streams": _lock_streams,
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 even when a promise is missed, because another load on the machine can do that."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--save", action="store_true", help="add the figures to bench/results/DATE.jsonl")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHES)}")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    began = time.monotonic()
    measured: list[Figure] = []
    for name in options.names or BENCHES:
        sys.stderr.write(f"{name} …\n")
        for each in BENCHES[name]():
            if isinstance(each, Skipped):
                print(f"skipped: {each.name}: {each.reason}")
            else:
                measured.append(each)
    print(_table(measured))
    print(f"Ratios compare times. {time.monotonic() - began:.0f} s, {_machine()}.")
    if options.save:
        print(f"saved in {_save(measured)}")
    return 0


def _table(figures: Sequence[Figure]) -> str:
    head = ("what", "median", "p99", "unit", "floor", "which is", "ratio", "wanted")
    rows = [head, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = {0, 3, 5, 7}
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join((lines[0], "-" * max(map(len, lines)), *lines[1:]))


def _row(figure: Figure) -> tuple[str, ...]:
    wanted = "" if figure.wanted is None else f"≤ {figure.wanted:g}{', MISSED' if figure.missed else ''}"
    return (
        figure.name,
        _number(figure.value),
        "" if figure.p99 is None else _number(figure.p99),
        figure.unit,
        _number(figure.floor),
        figure.floor_name,
        f"{figure.ratio:.2f}",
        wanted,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _machine() -> str:
    return f"{os.cpu_count()} CPUs, Python {platform.python_version()}, Linux {platform.release()}"


def _save(figures: Sequence[Figure]) -> Path:
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}.jsonl"
    path.parent.mkdir(exist_ok=True)
    found = subprocess.run(
        ("git", "rev-parse", "--short", "HEAD"),  # noqa: S607 - found by PATH, which is the user's
        check=False,
        capture_output=True,
        text=True,
        cwd=RESULTS,
    )
    setting = {"at": f"{now:%Y-%m-%dT%H:%M:%SZ}", "commit": found.stdout.strip(), "machine": _machine()}
    with path.open("ab") as file:
        for figure in figures:
            file.write(msgspec.json.encode({**setting, **msgspec.to_builtins(figure)}) + b"\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
