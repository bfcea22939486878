"""What has somebody else changed in this host's network? `poolnet drift` on a host's console.

The host daemon is asked directly: what it has applied and keeps, beside what there is. `xe host-network-drift` adds what the
database intends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from poolnet.hostd.config import Paths
from poolnet.hostnet.drift import Change, changes
from poolnet.hostnet.protocol import Drift, ReadDrift
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused


def main(*, as_json: bool) -> int:
    """Print the changes; 0 if there are none, 1 if there are, 2 if the daemon does not answer."""
    try:
        seen = asyncio.run(_ask())
    except (HostGone, HostRefused) as error:
        sys.stderr.write(f"poolnet: poolnet-hostd does not answer ({error}).\n")
        return 2
    found = changes(seen.actual, seen.applied)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
    return 1 if found else 0


async def _ask() -> Drift:
    link = HostLink(Paths().socket)
    try:
        return await link.request(ReadDrift(), Drift)
    finally:
        await link.close()


def lines(found: Sequence[Change]) -> list[str]:
    """The changes for people."""
    return [change.text() for change in found] or ["This host's network is as it was applied."]
