"""How does the host daemon start another program? The only place where it does.

Always a list of arguments, never a shell; logged without its input, which may be long; with a time limit, but for the
few that are to outlive the daemon.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

LOG = structlog.stdlib.get_logger("poolnet.hostd.run")
TIMEOUT_S = 30.0
GOES_WITHIN_S = 2.0  # a program that is killed
ERROR_TEXT_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program that ended has said."""

    status: int
    stdout: str
    stderr: str


class CommandFailed(Exception):
    """A program could not be started, did not end in time (`late`), or ended with a status that was not expected."""

    def __init__(self, argv: Sequence[str], reason: str, *, late: bool = False) -> None:
        super().__init__(f"{shlex.join(argv)}: {reason}")
        self.argv = tuple(argv)
        self.reason = reason
        self.late = late


async def run(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = TIMEOUT_S, expect: Collection[int] = (0,)
) -> Completed:
    """Runs a program to its end, with the C locale, and returns its output.

    Raises CommandFailed; a program that is too slow is killed.
    """
    began = time.monotonic()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise CommandFailed(argv, error.strerror or str(error)) from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin)
    except TimeoutError as error:
        raise CommandFailed(argv, f"not done after {timeout_s:g} s", late=True) from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(TimeoutError):  # one that waits for a server in the kernel ends when that gives up
                async with asyncio.timeout(GOES_WITHIN_S):
                    await process.wait()
    status = process.returncode if process.returncode is not None else -1
    LOG.debug("ran", argv=shlex.join(argv), status=status, seconds=round(time.monotonic() - began, 3))
    completed = Completed(
        status=status, stdout=out.decode(errors="replace"), stderr=err.decode(errors="replace")
    )
    if status not in expect:
        reason = completed.stderr.strip()[-ERROR_TEXT_MAX:] or f"it ended with status {status}"
        raise CommandFailed(argv, reason)
    return completed


def spawn(argv: Sequence[str]) -> int:
    """Starts a program that is to outlive this one, in a session of its own, and returns its PID.

    It writes its errors where this program does. Raises CommandFailed.
    """
    try:
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            {**os.environ, "LC_ALL": "C"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            ],
            setsid=True,
            setsigmask=(),
        )
    except OSError as error:
        raise CommandFailed(argv, error.strerror or str(error)) from error
    LOG.debug("started", argv=shlex.join(argv), pid=pid)
    return pid
