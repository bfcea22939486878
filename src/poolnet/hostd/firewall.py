"""Which of the host's ports can others reach? The API's by the management interface only, the NBD server's on some bridges.

TCP ports 443, 80, 9443, 9444 and 9445 (the API server, the door between the hosts of a pool, and the servers of the pool
database's cluster for each other and for hosts) are closed but on the bridge with the
management address: a guest that sends to the host by its own bridge does not come in, and without management nobody does.
TCP port 10809 is closed but on the bridges of networks with the purpose `nbd` or `insecure_nbd` (spec §7.6), TCP port 80
when the host serves HTTPS only (spec §18.9); the host itself reaches all of them, and so do guests that the internal
management network lets reach it (spec §7.9). A table of our own says so; what the user's own tables stop stays stopped, and
of ports that are not poolnet's it says nothing. The table is read again whenever the kernel says that nftables changed, so that the keeper
puts back what somebody flushed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from poolnet.hostd import nft
from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.run import CommandFailed
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import EVERYWHERE
from poolnet.hostnet.steps import CloseHttp, OpenNbdPort, Step
from poolnet.lock.nft_elements import quoted

LOG = structlog.stdlib.get_logger("poolnet.hostd.firewall")
TABLE: Final = ("inet", "poolnet")
NBD_PORT: Final = 10809  # IANA: nbd
HTTP_PORT: Final = 80
API_PORTS: Final = (HTTP_PORT, 443, 9443, 9444, 9445)
_BRIDGES: Final = "nbd_bridges"
_MANAGEMENT: Final = "management_bridges"
_INTERNAL: Final = "xenapi"  # the bridge of the internal management network, which no NIC is on (spec §7.9)
_CHAIN: Final = "services"
_INTERNAL_COMMENT: Final = "poolnet: internal, 1"
_API_COMMENT: Final = "poolnet: API, 2"
_NBD_COMMENT: Final = "poolnet: NBD, 1"  # count up when the rules change
_HTTP_COMMENT: Final = "poolnet: HTTP, 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """What is open: the NBD port on these bridges, sorted (EVERYWHERE: nothing closes it), HTTP unless closed, and the API.

    `management` is the bridge on which the API's ports are open; "" for none.
    """

    nbd_bridges: tuple[str, ...] = ()
    http_closed: bool = False
    management: str = ""


UNFILTERED: Final = Openings(nbd_bridges=(EVERYWHERE,))


def ruleset(wanted: Openings) -> str:
    """The whole table. Raises ValueError for a name that no interface can have."""
    family, name = TABLE
    elements = ", ".join(quoted(bridge) for bridge in sorted(wanted.nbd_bridges))
    content = f"elements = {{ {elements} }}" if elements else ""
    management = f"elements = {{ {quoted(wanted.management)} }}" if wanted.management else ""
    ports = ", ".join(map(str, API_PORTS))
    http = f'tcp dport {HTTP_PORT} iifname != "lo" counter drop comment "{_HTTP_COMMENT}"'
    return f"""table {family} {name}
delete table {family} {name}
table {family} {name} {{
  set {_BRIDGES} {{ type ifname; {content}
  }}
  set {_MANAGEMENT} {{ type ifname; {management}
  }}
  chain {_CHAIN} {{
    type filter hook input priority filter; policy accept;
    tcp dport {NBD_PORT} iifname != "lo" iifname != @{_BRIDGES} counter drop comment "{_NBD_COMMENT}"
    {http if wanted.http_closed else ""}
    iifname "{_INTERNAL}" tcp dport {{ {ports} }} accept comment "{_INTERNAL_COMMENT}"
    tcp dport {{ {ports} }} iifname != "lo" iifname != @{_MANAGEMENT} counter drop comment "{_API_COMMENT}"
  }}
}}
"""


def openings(listing: Mapping[str, Any] | None) -> Openings:
    """What is open by a listing of the table; UNFILTERED if its rules are not whole."""
    items = listing["nftables"] if listing is not None else []
    chains = [item["chain"] for item in items if "chain" in item]
    rules = [item["rule"].get("comment") for item in items if "rule" in item]
    sets = {item["set"]["name"]: item["set"].get("elem", ()) for item in items if "set" in item}
    always = [_INTERNAL_COMMENT, _API_COMMENT]
    http_closed = rules == [_NBD_COMMENT, _HTTP_COMMENT, *always]
    whole = (
        [(chain["name"], chain.get("hook")) for chain in chains] == [(_CHAIN, "input")]
        and (http_closed or rules == [_NBD_COMMENT, *always])
        and sets.keys() == {_BRIDGES, _MANAGEMENT}
        and len(sets[_MANAGEMENT]) <= 1
    )
    if not whole:
        return UNFILTERED
    return Openings(
        nbd_bridges=tuple(sorted(sets[_BRIDGES])),
        http_closed=http_closed,
        management=next(iter(sets[_MANAGEMENT]), ""),
    )


class Firewall:
    """The host's ports for services."""

    def __init__(self) -> None:
        self._watch: nft.NftWatch | None = None
        self._open = Openings()
        self._management = ""

    async def open(self, changed: Callable[[], None]) -> None:
        """Begins to watch, and closes the NBD port if nobody said yet where it is open.

        On a host without nftables it cannot be closed; then it is not opened either.
        """
        try:
            if openings(await nft.table(*TABLE)) == UNFILTERED:
                await nft.transact(ruleset(Openings()))
            self._watch = nft.NftWatch(changed)
        except (CommandFailed, OSError) as error:
            LOG.warning("without nftables the NBD port is open on all interfaces", error=str(error))

    async def close(self) -> None:
        """Stops watching. The ports stay as they are."""
        if self._watch is not None:
            self._watch.close()

    async def observe(self, management: str) -> Openings:
        """What is open now; the API's ports on the bridge with the management address, which it sees to."""
        if self._watch is not None and self._watch.take_changed():
            try:
                self._open = openings(await nft.table(*TABLE))
            except CommandFailed as error:
                LOG.warning("the firewall cannot be read", error=str(error))
                self._open = UNFILTERED
        if self._watch is not None and self._open != UNFILTERED and self._open.management != management:
            moved = replace(self._open, management=management)
            try:
                await nft.transact(ruleset(moved))
            except (CommandFailed, ValueError) as error:
                LOG.warning("the API's ports cannot be opened on another bridge", error=str(error))
            else:
                self._open = moved
        self._management = management
        return self._open

    async def apply(self, steps: Sequence[Step]) -> None:
        """Opens and closes as those of the steps say that are about it, from what was observed. Raises ApplyFailed."""
        wanted = replace(self._open, management=self._management)
        for step in steps:
            match step:
                case OpenNbdPort(new=bridges):
                    wanted = replace(wanted, nbd_bridges=bridges)
                case CloseHttp(new=closed):
                    wanted = replace(wanted, http_closed=closed)
                case _:
                    pass
        if not any(isinstance(step, OpenNbdPort | CloseHttp) for step in steps):
            return
        if self._watch is None:
            raise ApplyFailed(Fault.SWITCH_FAILED, "this host has no nftables to open and close ports with")
        try:
            await nft.transact(ruleset(wanted))
        except (CommandFailed, ValueError) as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, f"ports cannot be opened or closed: {error}") from error
