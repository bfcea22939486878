"""How does a command's answer look? Records, lists, messages, in normal and in minimal mode (spec xe-cli §3).

The commands say what they have; the printer decides the layout and tells the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from poolnet.xe.client import Client

Block: TypeAlias = Sequence[tuple[str, str]]
"""One record: labels (with their qualifiers) and texts, in the order of the field table."""


class Printer:
    """Writes the answer of one command.

    In minimal mode nothing is written before the command has succeeded: `finish` then writes the one line.
    """

    def __init__(self, client: Client, *, minimal: bool) -> None:
        self._client = client
        self.minimal = minimal
        self._kept: list[str] = []

    async def table(self, blocks: Sequence[Block]) -> None:
        """Write records; minimal: the first text of each, or nothing if any record has no field."""
        if not self.minimal:
            for block in blocks:
                await self._client.print(record_text(block))
        elif all(blocks):
            self._keep([block[0][1] for block in blocks])

    async def list(self, lines: Sequence[str]) -> None:
        """Write one line per item; minimal: joined by commas."""
        if self.minimal:
            self._keep(lines)
            return
        for line in lines:
            await self._client.print(line)

    async def message(self, text: str) -> None:
        """Write one line; minimal: nothing."""
        if not self.minimal:
            await self._client.print(text)

    async def complain(self, text: str) -> None:
        """Write one line to stderr; minimal: nothing."""
        if not self.minimal:
            await self._client.print_error(text + "\n")

    async def finish(self) -> None:
        """Write what minimal mode has kept back: the outputs joined by commas, the last one first."""
        if self.minimal:
            await self._client.print(",".join(reversed(self._kept)))

    def _keep(self, texts: Sequence[str]) -> None:
        if texts:
            self._kept.append(",".join(escaped(text) for text in texts))


def record_text(block: Block) -> str:
    """Lay out one record: the first label is padded on its right, the others on their left, to one width in bytes.

    The text ends so that the newline which the client adds makes two empty lines after the record.
    """
    width = 4 + max((_length(label) for label, _ in block), default=0)
    lines = []
    for number, (label, text) in enumerate(block):
        padding = " " * (width - _length(label))
        lines.append(f"{padding}{label}: {text}" if number else f"{label}{padding}: {text}")
    return "\n".join(lines) + "\n\n"


def escaped(text: str) -> str:
    """Escape backslashes and commas for the minimal line."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _length(label: str) -> int:
    return len(label.encode())
