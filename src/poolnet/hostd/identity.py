"""Who is this host, and since when is it up?"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from poolnet.hostd.checkpoint import write_durably, write_whole

_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9.-]{1,64}(?<!-)")


def boot_id(run_dir: Path) -> str:
    """A value that changes when the host boots, because the run directory is emptied then."""
    path = run_dir / "boot-id"
    new = str(uuid4())
    try:
        return path.read_text().strip() or new
    except FileNotFoundError:
        with suppress(OSError):  # then it changes with every start, which costs a look at the host more
            write_whole(path, f"{new}\n".encode(), mode=0o644)
        return new


def set_hostname(name: str, path: Path) -> None:
    """Names the host in the kernel and on disk. Raises ValueError for an impossible name, or OSError."""
    if _HOSTNAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no host name")
    socket.sethostname(name)
    write_durably(path, f"{name}\n".encode(), mode=0o644)
