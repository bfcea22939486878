"""How large a frame does each layer carry: NIC or bond, VLAN or tunnel on it, VIF?

Each layer gets what was asked for it, as far as the one below carries that: larger frames would be lost on the way, and
the reference lets that happen. Bringing a PIF up and plugging a VIF ask here; the fields MTU of PIF and VIF say what came
of it.
"""

from __future__ import annotations

from typing import Final

from poolnet.db.txn import Txn, View
from poolnet.hostnet.mtu import MTU_BYTES_MIN, pif_mtu, vif_mtu
from poolnet.hostnet.state import TunnelKind
from poolnet.hostnet.tunnels import frame_bytes_max
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.types import Ref, is_null

_LAYERS_MAX: Final = 4  # NIC, VLAN, tunnel; and one that nobody builds


def mtu_of_pif(view: View, pif: PIF) -> int:
    """The MTU in bytes with which a PIF is brought up: its own or its network's, as far as the PIF below carries it."""
    wanted = pif_mtu(pif, view.find(Network, pif.network))
    room = _room_for(view, pif, _LAYERS_MAX)
    return wanted if room is None else max(MTU_BYTES_MIN, min(wanted, room))


def mtu_of_vif(view: View, vif: VIF, host: Ref[Host]) -> int:
    """The MTU in bytes with which a VIF is plugged on a host: its own or its network's, as far as the PIF there goes."""
    wanted = vif_mtu(vif, view.find(Network, vif.network))
    here = (pif for pif in view.where(PIF, network=vif.network, host=host) if pif.managed)
    return min([wanted, *(pif.MTU for pif in here if pif.currently_attached and pif.MTU > 0)])


def lower_above(txn: Txn, pif: PIF) -> None:
    """Lowers the MTU of what is attached on top of a PIF, where the PIF carries less than that now."""
    uppers = [v.untagged_PIF for ref in pif.VLAN_slave_of if (v := txn.find(VLAN, ref)) is not None]
    uppers += [
        t.access_PIF for ref in pif.tunnel_transport_PIF_of if (t := txn.find(Tunnel, ref)) is not None
    ]
    for ref in uppers:
        upper = txn.find(PIF, ref)
        room = _room_for(txn, upper, _LAYERS_MAX) if upper is not None else None
        if upper is not None and room is not None and upper.currently_attached and room < upper.MTU:
            txn.update(PIF, ref, MTU=max(MTU_BYTES_MIN, room))
            lower_above(txn, upper)


def _room_for(view: View, pif: PIF, layers: int) -> int | None:
    """The MTU that the layer below leaves for a PIF; None for one that stands on hardware, or dangles."""
    if layers == 0:
        return None
    if pif.tunnel_access_PIF_of:
        tunnel = view.find(Tunnel, pif.tunnel_access_PIF_of[0])
        transport = view.find(PIF, tunnel.transport_PIF) if tunnel is not None else None
        if tunnel is None or transport is None:
            return None
        return frame_bytes_max(TunnelKind(tunnel.protocol.value), transport, _now(view, transport, layers))
    if not is_null(pif.VLAN_master_of):
        vlan = view.find(VLAN, pif.VLAN_master_of)
        tagged = view.find(PIF, vlan.tagged_PIF) if vlan is not None else None
        return _now(view, tagged, layers) if tagged is not None else None
    return None


def _now(view: View, pif: PIF, layers: int) -> int:
    """The MTU that a PIF has; one that is down is brought up for what stands on it."""
    if pif.currently_attached and pif.MTU > 0:
        return pif.MTU
    wanted = pif_mtu(pif, view.find(Network, pif.network))
    room = _room_for(view, pif, layers - 1)
    return wanted if room is None else min(wanted, room)
