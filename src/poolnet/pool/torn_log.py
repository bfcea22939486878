"""Was the last record in the log of a server of the cluster written whole? Of the standard library alone.

A server that dies while it writes, or is killed before it has cut off what a full disk has left of a record, leaves a torn one
at the end. Nothing was answered because of it, and a server that starts cuts it off; `ovsdb-tool check-cluster` (3.1) takes such a
file for damaged. A record that is torn with others behind it is another matter: these have been answered.

The format is that of ovsdb(5): a line with the kind of log, the length of the data in bytes and their SHA-1, then the data.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_BEGINS: Final = b"OVSDB CLUSTER "
_HEADER: Final = re.compile(_BEGINS + rb"([0-9]{1,19}) [0-9a-f]{40}\n")
_TORN_HEADER: Final = re.compile(_BEGINS + rb"[0-9]{0,19}( [0-9a-f]{0,40})?")
_LINE_BYTES_MAX: Final = 128


def torn_from(path: Path) -> int | None:
    """At which byte a last record begins that is not whole; None if there is none, or if anything else is wrong.

    Raises OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as log:
        begins = 0
        while begins < size:
            log.seek(begins)
            line = log.readline(_LINE_BYTES_MAX)
            header = _HEADER.fullmatch(line)
            ends = begins + len(line) + int(header[1]) if header is not None else size + 1
            if ends > size:
                rest = log.read()
                torn = header is not None or (not rest and _is_torn_header(line))
                return begins if torn and begins > 0 and _BEGINS not in rest else None
            begins = ends
    return None


def _is_torn_header(line: bytes) -> bool:
    return _BEGINS.startswith(line) or _TORN_HEADER.fullmatch(line) is not None
