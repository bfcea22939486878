"""How many frames has each lock dropped, and why? Read from the switch's own flow counters."""

from __future__ import annotations

import re
from collections.abc import Mapping

from poolnet.hostnet.facts import PortFacts
from poolnet.lock.openflow import ofport_of, reason_at

_FLOW = re.compile(r"cookie=0x([0-9a-f]+), .*?table=(\d+), n_packets=(\d+),")


def read(dump: str, ports: Mapping[int, str]) -> tuple[PortFacts, ...]:
    """The counters of these ports (device by port number) in the text of `ovs-ofctl dump-flows`.

    Every reason that the port's lock can have is there, also with zero frames.
    """
    counts: dict[int, dict[str, int]] = {ofport: {} for ofport in ports}
    for cookie, table, packets in _FLOW.findall(dump):
        reason = reason_at(int(table))
        ofport = ofport_of(int(cookie, 16))
        if reason is not None and ofport is not None and ofport in counts:
            of_port = counts[ofport]
            of_port[reason.value] = of_port.get(reason.value, 0) + int(packets)
    return tuple(
        PortFacts(device=device, dropped=tuple(sorted(counts[ofport].items())))
        for ofport, device in ports.items()
    )
