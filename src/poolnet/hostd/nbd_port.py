"""On which bridges can others reach the host's NBD server?

TCP port 10809 is closed but on the bridges of networks with the purpose `nbd` or `insecure_nbd` (spec §7.6), and on the
host itself. One rule in a table of our own says so; what the user's own tables stop stays stopped. The table is read
again whenever the kernel says that nftables changed, so that the keeper puts back what somebody flushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from poolnet.hostd import nft
from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.run import CommandFailed
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import EVERYWHERE
from poolnet.hostnet.steps import OpenNbdPort, Step
from poolnet.lock.nft_elements import quoted

LOG = structlog.stdlib.get_logger("poolnet.hostd.nbd_port")
TABLE: Final = ("inet", "poolnet")
NBD_PORT: Final = 10809  # IANA: nbd
_BRIDGES: Final = "nbd_bridges"
_CHAIN: Final = "nbd"
_COMMENT: Final = "poolnet: NBD, 1"  # counts up when the rule changes


def ruleset(bridges: Iterable[str]) -> str:
    """The whole table, with the port open on these bridges. Raises ValueError for a name that no interface can have."""
    family, name = TABLE
    elements = ", ".join(quoted(bridge) for bridge in sorted(bridges))
    content = f"elements = {{ {elements} }}" if elements else ""
    return f"""table {family} {name}
delete table {family} {name}
table {family} {name} {{
  set {_BRIDGES} {{ type ifname; {content}
  }}
  chain {_CHAIN} {{
    type filter hook input priority filter; policy accept;
    tcp dport {NBD_PORT} iifname != "lo" iifname != @{_BRIDGES} counter drop comment "{_COMMENT}"
  }}
}}
"""


def open_on(listing: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The bridges on which the port is open, by name, in a listing of the table; EVERYWHERE if the rule is not whole."""
    items = listing["nftables"] if listing is not None else []
    chains = [item["chain"] for item in items if "chain" in item]
    rules = [item["rule"] for item in items if "rule" in item]
    sets = [item["set"] for item in items if "set" in item]
    whole = (
        [(chain["name"], chain.get("hook")) for chain in chains] == [(_CHAIN, "input")]
        and [rule.get("comment") for rule in rules] == [_COMMENT]
        and [group["name"] for group in sets] == [_BRIDGES]
    )
    return tuple(sorted(sets[0].get("elem", ()))) if whole else (EVERYWHERE,)


class NbdPort:
    """The host's NBD port."""

    def __init__(self) -> None:
        self._watch: nft.NftWatch | None = None
        self._open: tuple[str, ...] = ()

    async def open(self, changed: Callable[[], None]) -> None:
        """Begins to watch, and closes the port if nobody said yet where it is open.

        On a host without nftables it cannot be closed; then it is not opened either.
        """
        try:
            if EVERYWHERE in open_on(await nft.table(*TABLE)):
                await nft.transact(ruleset(()))
            self._watch = nft.NftWatch(changed)
        except (CommandFailed, OSError) as error:
            LOG.warning("without nftables the NBD port is open on all interfaces", error=str(error))

    async def close(self) -> None:
        """Stops watching. The port stays as it is."""
        if self._watch is not None:
            self._watch.close()

    async def observe(self) -> tuple[str, ...]:
        """The bridges on which the port is open; EVERYWHERE if nothing closes it."""
        if self._watch is not None and self._watch.take_changed():
            try:
                self._open = open_on(await nft.table(*TABLE))
            except CommandFailed as error:
                LOG.warning("the NBD port cannot be read", error=str(error))
                self._open = (EVERYWHERE,)
        return self._open

    async def apply(self, steps: Sequence[Step]) -> None:
        """Opens and closes the port as the last of the steps that is about it says. Raises ApplyFailed."""
        wanted = [step.new for step in steps if isinstance(step, OpenNbdPort)]
        if not wanted:
            return
        if self._watch is None:
            raise ApplyFailed(Fault.SWITCH_FAILED, "this host has no nftables to open the NBD port with")
        try:
            await nft.transact(ruleset(wanted[-1]))
        except (CommandFailed, ValueError) as error:
            raise ApplyFailed(
                Fault.SWITCH_FAILED, f"the NBD port cannot be opened or closed: {error}"
            ) from error
