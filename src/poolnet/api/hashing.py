"""Where passwords are compared with their hashes: in processes of their own, at the lowest priority.

A hash takes tenths of a second of a processor by design, and whoever can reach the port can ask for one. A thread at a low
priority would not do: when it has its result it takes the interpreter's lock, is put aside for whoever has more right to
the processor, and the event loop waits for a lock whose holder does not run. So threads here only wait for a process.
`credentials` calls it; `python -m poolnet.api.hashing` is the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import IO, Final, cast

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE: Final = 2
NICENESS: Final = 19
_YES: Final = b"yes\n"
_NO: Final = b"no\n"


class HashingFailed(Exception):
    """The process ended before it answered, twice; nothing is known of the password."""


def matching(stored: str, password: str) -> Future[bool]:
    """Whether a password is that of a stored argon2id hash; false for a hash that is none.

    The future raises HashingFailed, or OSError when no process can be started.
    """
    return _threads().submit(_ask, stored, password)


def matches(stored: str, password: str) -> bool:
    """What `matching` promises, worked out by the caller's own thread."""
    try:
        return PasswordHasher().verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="hash")


class _Own(threading.local):
    """The process of a thread, started when it is needed and kept."""

    process: subprocess.Popen[bytes] | None = None


_own = _Own()


def _ask(stored: str, password: str) -> bool:
    question = (
        json.dumps([stored, password]).encode() + b"\n"
    )  # by the pipe: a command line is everybody's to read
    for _ in range(2):  # one that was killed meanwhile, for want of memory perhaps, is replaced once
        if _own.process is None:
            # Without a buffer nothing is left to be sent when one that has died is closed.
            _own.process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
                (sys.executable, "-m", __name__), bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        answer = _exchange(_own.process, question)
        if answer in (_YES, _NO):
            return answer == _YES
        _end(_own.process)
        _own.process = None
    raise HashingFailed("the process that compares passwords ended")


def _exchange(process: subprocess.Popen[bytes], question: bytes) -> bytes:
    questions, answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    try:
        questions.write(question)
        return answers.readline()
    except OSError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with process:  # closes its pipes and waits
        pass


def main() -> None:
    """Answers each line until there are no more, which is when whoever asks is gone, however it ended."""
    os.nice(NICENESS)
    for line in sys.stdin.buffer:
        stored, password = json.loads(line)
        sys.stdout.buffer.write(_YES if matches(stored, password) else _NO)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
