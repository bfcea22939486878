"""What do the tunnels of a network tell clients?

In the reference an SDN controller writes `status`; here it follows from what is attached. Bringing PIFs up and down
calls `refresh`, because one host's tunnel is another's other end.
"""

from __future__ import annotations

from typing import Final

from poolnet.db.txn import Txn
from poolnet.hostnet.tunnels import remotes, tunnel_key
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.types import Ref

_OURS: Final = frozenset(("active", "key"))


def refresh(txn: Txn, pif: PIF) -> None:
    """Writes the status of all tunnels that a change of this PIF concerns: those of its network and those over it."""
    networks = {pif.network} if pif.tunnel_access_PIF_of else set()
    for ref in pif.tunnel_transport_PIF_of:
        tunnel = txn.find(Tunnel, ref)
        access = txn.find(PIF, tunnel.access_PIF) if tunnel is not None else None
        networks |= {access.network} if access is not None else set()
    for network in networks:
        refresh_network(txn, network)


def refresh_network(txn: Txn, network: Ref[Network]) -> None:
    """Writes the status of a network's tunnels: `active` with another end to send to, and then the `key`."""
    row = txn.find(Network, network)
    for access in txn.where(PIF, network=network):
        tunnel = txn.find(Tunnel, access.tunnel_access_PIF_of[0]) if access.tunnel_access_PIF_of else None
        if tunnel is None or row is None:
            continue
        others = {name: text for name, text in tunnel.status.items() if name not in _OURS}
        if access.currently_attached and remotes(txn, tunnel, access):
            status = {"active": "true", "key": str(tunnel_key(tunnel, row))}
        else:
            status = {"active": "false"}
        txn.update(Tunnel, tunnel.ref, status=status | others)
