"""Does `xe` print, to the letter, what the specification says? One directory per command line.

A case has the `words` (one a line), what goes to `stdout` and `stderr`, and where they matter: the `exit` code, the
`calls` that change something, `answers` to explicit messages, and what is `typed` at a prompt. The pool is the one of
`world.json`, or the case's own. All of it is written from spec xe-cli, none of it copied from our own output.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from poolnet.xe.commands.run import run
from tests.golden.xe_world import Terminal, World

HERE = Path(__file__).parent / "xe"
CASES = sorted(path.name for path in HERE.iterdir() if path.is_dir())


def part(case: str, name: str, default: str = "") -> str:
    path = HERE / case / name
    return path.read_text() if path.exists() else default


@pytest.mark.parametrize("case", CASES)
def test_a_command_line_prints_what_the_specification_says(case: str) -> None:
    world = World(
        json.loads(part(case, "world.json", (HERE / "world.json").read_text())),
        json.loads(part(case, "answers", "[]")),
    )
    terminal = Terminal(part(case, "typed"))
    words = [*part(case, "words").splitlines(), "username=root", "password=null"]
    asyncio.run(run(words, terminal, world))
    assert terminal.out == part(case, "stdout")
    assert terminal.err == part(case, "stderr")
    assert terminal.code == int(part(case, "exit", "0"))
    assert "".join(f"{call}\n" for call in world.calls) == part(case, "calls")
    assert world.answers == []
