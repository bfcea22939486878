"""`python -m tests.fuzz.beside [--minutes N] COMMAND …`: runs a command, and fuzzes beside it at the lowest priority.

The lab's tests wait much; what they leave of the processors is enough for a few minutes of fuzzing, which cost nobody time.
Fails if the command or the fuzzing does; if the command fails, it is not waited for the fuzzing.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from types import FrameType
from typing import Final

STOPPED: Final = 128


def main() -> int:
    """Runs both; the command's result, or 1 if a bug was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.beside", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to fuzz")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    fuzz = [sys.executable, "-m", "tests.fuzz", "--aside", "--minutes", str(options.minutes)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(fuzz, stdout=log, stderr=log) as fuzzing:
        try:
            with subprocess.Popen(options.command) as running:
                try:
                    result = running.wait()
                except BaseException:
                    running.terminate()
                    raise
            found = fuzzing.wait() if result == 0 else 0
        finally:
            fuzzing.kill()
        log.seek(0)
        lines = log.read().splitlines()
        print("\n".join(lines if found else lines[-1:]), flush=True)
    return result or (1 if found else 0)


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(STOPPED + number)


if __name__ == "__main__":
    sys.exit(main())
