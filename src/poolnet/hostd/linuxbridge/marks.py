"""Where is kept what the kernel's links cannot tell: whose bridge it is, what lock, which addresses were asked for?

In one file below the run directory, which is gone after a reboot just as the links are. It is written before the links
change, with what was there and what will be, so that everything that `observe` finds is known whatever happens between.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from poolnet.hostd.checkpoint import write_whole
from poolnet.hostnet.advance import Touched
from poolnet.hostnet.state import EMPTY, HostNetwork

LOG = structlog.stdlib.get_logger("poolnet.hostd.linuxbridge")


class Marks:
    """What was asked for of everything that we made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._network = EMPTY

    @property
    def network(self) -> HostNetwork:
        """What was asked for, and perhaps more than is there."""
        return self._network

    def read(self) -> None:
        """Reads the file; one that is not there or cannot be understood has nothing."""
        try:
            self._network = msgspec.json.decode(self._path.read_bytes(), type=HostNetwork)
        except FileNotFoundError:
            self._network = EMPTY
        except (OSError, msgspec.MsgspecError) as error:
            LOG.warning("what is known of our links is lost", path=str(self._path), error=str(error))
            self._network = EMPTY

    def write(self, network: HostNetwork, *, strict: bool) -> None:
        """Replaces the file. Raises OSError; without `strict`, what cannot be written is known to this daemon alone."""
        if network == self._network and self._path.exists():
            return
        try:
            write_whole(self._path, msgspec.json.encode(network))
        except OSError as error:
            if strict:
                raise
            LOG.warning("what is asked for cannot be written down", path=str(self._path), error=str(error))
        self._network = network


def both(old: HostNetwork, new: HostNetwork) -> HostNetwork:
    """What is in either; the new where they differ."""
    bridges = {bridge.name: bridge for bridge in (*old.bridges, *new.bridges)}
    ports = {port.device: port for port in (*old.ports, *new.ports)}
    return HostNetwork(
        bridges=tuple(bridges[name] for name in sorted(bridges)),
        ports=tuple(ports[device] for device in sorted(ports)),
        management_bridge=new.management_bridge,
    )


def with_touched(known: HostNetwork, after: HostNetwork, touched: Touched) -> HostNetwork:
    """What is touched as it is in `after`, the rest as it was known; but every bridge with the uplink that it has."""
    before = {bridge.name: bridge for bridge in known.bridges}
    ports = {port.device: port for port in known.ports if port.device not in touched.devices}
    ports |= {port.device: port for port in after.ports if port.device in touched.devices}
    return HostNetwork(
        bridges=tuple(
            replace(before[new.name], uplink=new.uplink, parent=new.parent, vlan_tag=new.vlan_tag)
            if new.name in before and new.name not in touched.bridges
            else new
            for new in after.bridges
        ),
        ports=tuple(ports[device] for device in sorted(ports)),
        management_bridge=after.management_bridge,
    )
