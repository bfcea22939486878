"""How long does a local `xe` take from start to end, beside a bare interpreter that does nothing?

The server is a thread of this process that answers at once over a Unix socket, so what is measured is the program's
own start. Both are started as often, by turns; the medians are compared.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

RUNS = 40
HEADER = b"XenSource thin CLI protocol" + bytes((0, 0, 0, 0, 2, 0, 0, 0))
EXIT = bytes.fromhex("0c000000090000000400000000000000")
PROGRAM = "import sys\nfrom poolnet.xe.thin import main\nsys.exit(main())\n"


class Measured(TypedDict):
    """One line of the report: what it took, what it would take at best, and how they compare."""

    name: str
    value: float
    unit: str
    floor: float
    ratio: float


def bench_start() -> list[Measured]:
    """Measure the start of `xe`; for `python -m bench`."""
    with tempfile.TemporaryDirectory() as root:
        program = Path(root) / "xe"
        program.write_text(PROGRAM)
        path = Path(root) / "run" / "poolnet" / "xapi.sock"
        path.parent.mkdir(parents=True)
        environment = {**os.environ, "POOLNET_ROOT": root, "HOME": root}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            server = threading.Thread(target=_serve, args=(listener, RUNS + 1))
            server.start()
            xe, floor = [sys.executable, str(program), "vm-list"], [sys.executable, "-c", "pass"]
            _run(xe, environment)
            times = [(_run(xe, environment), _run(floor, environment)) for _ in range(RUNS)]
            server.join()
    value = statistics.median(each[0] for each in times) * 1000
    bare = statistics.median(each[1] for each in times) * 1000
    return [Measured(name="start of xe", value=value, unit="ms", floor=bare, ratio=value / bare)]


def _run(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a program to its end; returns the seconds that it took."""
    begin = time.perf_counter()
    subprocess.run(words, env=dict(environment), check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - no shell, and words of our own
    return time.perf_counter() - begin


def _serve(listener: socket.socket, times: int) -> None:
    """Answer each connection with a header and Exit 0."""
    for _ in range(times):
        connection, _address = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(HEADER)
            connection.recv(len(HEADER))
            connection.sendall(EXIT)


if __name__ == "__main__":
    for line in bench_start():
        print(
            f"{line['name']}: {line['value']:.1f} {line['unit']}, floor {line['floor']:.1f}, {line['ratio']:.2f} x"
        )
