"""How does an administrator let Open vSwitch or the Linux bridge carry out a host's network? At the host's console.

`poolnet switch-network-backend bridge`, and `xe-switch-network-backend bridge` as the reference calls it. The host daemon
is asked directly, moves the network with its guests, and goes back unless the host can be reached afterwards.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from poolnet.hostd.config import Paths
from poolnet.hostnet.protocol import Confirm, Done, Greeting, Hello, SwitchBackend
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused

BACKENDS: Final = ("bridge", "openvswitch")
CONFIRM_WITHIN_S: Final = 30.0
_EMPTYING_S: Final = 300.0  # a host with hundreds of networks takes minutes to go back


def main(backend: Literal["bridge", "openvswitch"], confirm_within_s: float) -> int:
    """Change the backend of this host; 0 when it is confirmed, or was that one already."""
    try:
        changed = asyncio.run(_change(Paths().socket, backend, confirm_within_s))
    except HostGone as error:
        sys.stderr.write(f"poolnet: poolnet-hostd does not answer: {error}\n")
        return 1
    except HostRefused as refused:
        sys.stderr.write(f"poolnet: the backend is not changed: {refused.refused.message}\n")
        return 1
    if changed:
        sys.stdout.write(f"The network of this host is carried out by {backend} now.\n")
    else:
        sys.stdout.write(f"The network of this host is carried out by {backend} already.\n")
    return 0


def as_reference(argv: Sequence[str] | None = None) -> int:
    """The program `xe-switch-network-backend`: one word, no options."""
    words = list(sys.argv[1:] if argv is None else argv)
    match words:
        case ["bridge"]:
            return main("bridge", CONFIRM_WITHIN_S)
        case ["openvswitch" | "vswitch"]:
            return main("openvswitch", CONFIRM_WITHIN_S)
        case _:
            sys.stderr.write("usage: xe-switch-network-backend bridge|openvswitch\n")
            return 2


async def _change(socket: Path, backend: Literal["bridge", "openvswitch"], confirm_within_s: float) -> bool:
    link = HostLink(socket)
    try:
        if (await link.request(Hello(), Greeting)).backend == backend:
            return False
        rollout = f"backend-{uuid.uuid4()}"
        command = SwitchBackend(rollout=rollout, backend=backend, confirm_within_s=confirm_within_s)
        await link.request(command, Done, confirm_within_s + _EMPTYING_S)
        await link.request(Confirm(rollout=rollout), Done)
        return True
    finally:
        await link.close()
