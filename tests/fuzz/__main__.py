"""`python -m tests.fuzz [--minutes N] [--target NAME …] [--seed N]`: fuzzes until the time is up or a bug is found."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.rounds import play_round
from tests.fuzz.targets import TARGETS
from tests.fuzz.world import resident_bytes

WARM_UP_ROUNDS = 5
GROWTH_BYTES_MAX = 48 * 1024 * 1024
"""From after the warm-up to the end; hypothesis' own caches, and the allocator's slack, are a part of it."""


def main() -> int:
    """Fuzzes; 1 if a bug was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--target", action="append", choices=tuple(TARGETS), help="default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    parser.add_argument("--keep-going", metavar="FILE", type=Path, help="write bugs there and go on")
    options = parser.parse_args()
    names = options.target or tuple(TARGETS)
    end, number, found, warm = time.monotonic() + options.minutes * 60, options.seed, 0, 0
    while time.monotonic() < end:
        try:
            play_round(names, number)
        except AssertionError as bug:
            found += 1
            print(f"seed {number}: a bug:\n{bug}", flush=True)
            if options.keep_going is None:
                break
            with options.keep_going.open("a") as file:
                file.write(f"seed {number}\n{bug}\n\n")
        number += 1
        resident = resident_bytes()
        if number - options.seed == WARM_UP_ROUNDS:
            warm = resident
        print(f"seed {number - 1}: done, {resident >> 20} MiB", flush=True)
    rounds = number - options.seed
    spent = f"{time.process_time():.0f} s of a processor"
    print(f"{rounds} rounds of {', '.join(names)} from seed {options.seed} in {spent}: {found} bugs")
    if warm and resident_bytes() - warm > GROWTH_BYTES_MAX:
        print(f"memory has grown from {warm >> 20} to {resident_bytes() >> 20} MiB")
        found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
