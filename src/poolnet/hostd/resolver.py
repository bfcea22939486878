"""Which name servers does the host ask? The only writer of resolv.conf.

`addressing` tells it what each bridge has to say, while a plan is under way perhaps two of them; when the plan is done,
one has at most (spec §24.4), and that one is written.
"""

from __future__ import annotations

from pathlib import Path

from poolnet.hostd.checkpoint import write_durably
from poolnet.hostnet.state import IpConfig


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
        config = next((self._by_bridge[name] for name in sorted(self._by_bridge)), IpConfig())
        lines = [f"search {' '.join(config.dns_search)}"] if config.dns_search else []
        lines += [f"nameserver {server}" for server in config.dns_servers]
        text = "".join(f"{line}\n" for line in lines).encode()
        if not self._path.is_file() or self._path.read_bytes() != text:
            write_durably(self._path, text, mode=0o644)
