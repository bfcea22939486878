"""Which name servers does the host ask? The only writer of resolv.conf.

`addressing` tells it what each bridge has to say, while a plan is under way perhaps two of them; when the plan is done,
one has at most (spec §24.4), and that one is written. What somebody else writes there is seen (`foreign`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from poolnet.hostd.checkpoint import write_durably
from poolnet.hostnet.state import HostNetwork, IpConfig

READ_BYTES: Final = 4096  # of a file that may be anybody's
_COMMENTS: Final = ("#", ";")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What somebody else has written: the servers and search domains; lines of other kinds stand among the servers.

    `bridge` is the one whose name servers should be there, "" if there should be none.
    """

    bridge: str
    servers: tuple[str, ...]
    search: tuple[str, ...]

    def shown(self, network: HostNetwork) -> HostNetwork:
        """The network with this instead of what the bridge was told; none should be there: at the management's."""
        name = self.bridge or network.management_bridge
        return replace(
            network,
            bridges=tuple(
                replace(bridge, ip=replace(bridge.ip, dns_servers=self.servers, dns_search=self.search))
                if bridge.name == name
                else bridge
                for bridge in network.bridges
            ),
        )


class Resolver:
    """The host's resolv.conf."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_bridge: dict[str, IpConfig] = {}
        self._decides = False  # a host whose name servers nobody ever set keeps its file

    def use(self, bridge: str, old: IpConfig, new: IpConfig) -> None:
        """Takes note of what a bridge said until now, and what it says."""
        self._decides |= bool(old.dns_servers or new.dns_servers)
        if new.dns_servers:
            self._by_bridge[bridge] = new
        else:
            self._by_bridge.pop(bridge, None)

    def write(self) -> None:
        """Writes the file if it is not so already. Raises OSError."""
        if not self._decides:
            return
        _, config = self._chosen()
        lines = [f"search {' '.join(config.dns_search)}"] if config.dns_search else []
        lines += [f"nameserver {server}" for server in config.dns_servers]
        text = "".join(f"{line}\n" for line in lines).encode()
        if not self._path.is_file() or self._path.read_bytes() != text:
            write_durably(self._path, text, mode=0o644)

    def foreign(self) -> Foreign | None:
        """What somebody else has written; None if it says what it should, with whatever spaces and comments."""
        if not self._decides:
            return None
        bridge, config = self._chosen()
        servers, search = _read(self._path)
        if (servers, search) == (config.dns_servers, config.dns_search):
            return None
        return Foreign(bridge=bridge, servers=servers, search=search)

    def _chosen(self) -> tuple[str, IpConfig]:
        return min(self._by_bridge.items(), default=("", IpConfig()), key=lambda item: item[0])


def _read(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Servers and search domains of the file, in any text; of one that cannot be read, none."""
    try:
        with path.open("rb") as file:
            text = file.read(READ_BYTES).decode(errors="replace")
    except OSError:
        return (), ()
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search", *domains]:
                search = tuple(domains)
            case [word, *_] if not word.startswith(_COMMENTS):
                servers.append(line.strip())
            case _:
                pass
    return tuple(servers), search
