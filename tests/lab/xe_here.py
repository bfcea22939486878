"""The program `xe` without starting it: its client runs in the test's own process and speaks to a lab host's local socket.

Programs start slowly on other kernels, and lab tests run hundreds of commands. That the program itself works on a host is
tested where it matters (`test_xe_on_a_host`, `tests/manual`).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Lock

from poolnet.xe import words
from poolnet.xe.frames import Ended
from poolnet.xe.session import Session

_ONE_AT_A_TIME = Lock()  # the client writes to the process's own stdout


def xe(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of `xe` on the host whose files are below `root`."""
    with _ONE_AT_A_TIME, _root(root):
        out, complaints = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(out), redirect_stderr(complaints):
            code = _run(arguments)
    return code, _text(out), _text(complaints)


def _run(arguments: Sequence[str]) -> int:
    try:
        return Session(words.gather(list(arguments), dict(os.environ)), []).run()
    except Ended as ended:
        sys.stderr.write(ended.text)
        return ended.code


@contextmanager
def _root(root: Path) -> Iterator[None]:
    before = os.environ.get("POOLNET_ROOT")
    os.environ["POOLNET_ROOT"] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ["POOLNET_ROOT"]
        else:
            os.environ["POOLNET_ROOT"] = before


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()
