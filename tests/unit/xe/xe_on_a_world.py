"""An `xe` for the completion's tests: the real commands on the golden cases' pool, in one process."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from poolnet.xe.commands.run import run
from tests.golden.xe_world import Terminal, World


def main() -> int:
    """Run the words of the command line."""
    file = Path(__file__).parents[2] / "golden" / "xe" / "world.json"
    terminal = Terminal()
    world = World(json.loads(file.read_text()), [])
    asyncio.run(run([*sys.argv[1:], "username=root", "password=null"], terminal, world))
    sys.stdout.write(terminal.out)
    sys.stderr.write(terminal.err)
    return terminal.code or 0


if __name__ == "__main__":
    sys.exit(main())
