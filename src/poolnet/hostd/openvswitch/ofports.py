"""Which OpenFlow port number does a guest port get?

We choose it, so that the port's flows can be there before the port is (spec dataplane F3). Open vSwitch leaves numbers
from 32768 on to others. A number is not used again until all others have been: the switch itself still remembers the
one of a port that went away. The next one is kept in the bridge's row, and changes in the transaction that uses it.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

OFPORT_MIN = 32768
OFPORT_MAX = 65279
PATCH_OFPORT = 1  # of the patch port on a guests' bridge, where every other number is ours


class NoFreePort(Exception):
    """All port numbers of a bridge are in use."""


def next_ofport(preferred: int, used: Collection[int]) -> int:
    """The first free number from `preferred` on, around the end. Raises NoFreePort."""
    start = preferred if OFPORT_MIN <= preferred <= OFPORT_MAX else OFPORT_MIN
    for ofport in chain(range(start, OFPORT_MAX + 1), range(OFPORT_MIN, start)):
        if ofport not in used:
            return ofport
    raise NoFreePort
