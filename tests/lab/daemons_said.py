"""What the daemons of all labs of this session have written to their logs since a test began: shown if it fails.

A lab is gone with its test, and CI shows what pytest prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from poolnet.lab.state import LABS

LINES_MAX: Final = 40
_OF_A_SWITCH_AND_DULL: Final = "|INFO|"


def so_far(labs: Iterable[str]) -> dict[Path, int]:
    """How long each log is now, in bytes."""
    return {path: path.stat().st_size for path in _logs(labs)}


def since(labs: Iterable[str], before: Mapping[Path, int]) -> str:
    """The last lines of each log that was not so long `before`; "" if there are none."""
    return "\n".join(text for path in _logs(labs) if (text := _end(path, before.get(path, 0))))


def _logs(labs: Iterable[str]) -> Iterator[Path]:
    for name in sorted(labs):
        yield from sorted((LABS / name).glob("*/var-log/*.log"))


def _end(path: Path, start: int) -> str:
    with path.open("rb") as log:
        log.seek(start)
        written = log.read().decode(errors="replace").splitlines()
    lines = [line for line in written if _OF_A_SWITCH_AND_DULL not in line]
    if not lines:
        return ""
    left_out = len(lines) - LINES_MAX
    return "\n".join(
        (
            f"--- {path.relative_to(LABS)}" + (f", after {left_out} more lines" if left_out > 0 else ""),
            *lines[-LINES_MAX:],
        )
    )
