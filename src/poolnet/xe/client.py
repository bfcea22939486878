"""Who is at the other end of a command: what can be told to, and asked of, the thin client?

`poolnet.api` implements this on the thin-CLI connection (spec xe-cli §11), the tests on a recorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class LoadRefused(Exception):
    """The client cannot or may not read the file that `Client.load` named."""


class Client(Protocol):
    """The terminal and the files of the person who typed the command."""

    async def print(self, text: str) -> None:
        """Write `text` and a newline to stdout (the client adds the newline)."""
        ...

    async def print_error(self, text: str) -> None:
        """Write `text` to stderr as it is: no newline is added."""
        ...

    async def error(self, code: str, params: Sequence[str]) -> None:
        """Let the client write "Error code: …" and "Error parameters: …" to stderr; the session goes on."""
        ...

    async def prompt(self) -> str:
        """Ask for one line of stdin; the answer comes without its newline."""
        ...

    async def load(self, name: str) -> bytes:
        """Read the client's file `name`.

        Raises:
            LoadRefused: the client answered Failed.
        """
        ...

    async def download(self, name: str, url: str) -> bool:
        """Have the client fetch a URL into its new file `name`, or to stdout if that is empty; says whether it could."""
        ...

    async def exit(self, code: int) -> None:
        """End the session with this exit code. The client obeys the first one that it gets."""
        ...
