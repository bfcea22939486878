"""Which MTU do a PIF's bridge and a VIF have? In bytes, of what a frame carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.hostnet.written import is_number
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF

MTU_BYTES_DEFAULT: Final = 1500
MTU_BYTES_MIN: Final = 68  # RFC 791: every IPv4 link carries that much
MTU_BYTES_MAX: Final = 65521  # what tap devices take: the bridges of a switch in user space are such


def pif_mtu(pif: PIF, network: Network | None) -> int:
    """The MTU in bytes of a PIF's bridge: its own key `mtu`, else its network's (spec §9.1), kept to what can be."""
    return _mtu(pif.other_config, network)


def vif_mtu(vif: VIF, network: Network | None) -> int:
    """The MTU in bytes of a VIF: its own key `mtu`, else its network's (spec §15.1), kept to what can be."""
    return _mtu(vif.other_config, network)


def bridge_mtu(pif: PIF, network: Network) -> int:
    """The MTU that an attached PIF was brought up with: later changes of its network wait for the next time (§7.8)."""
    return _kept(pif.MTU) if pif.currently_attached and pif.MTU > 0 else pif_mtu(pif, network)


def port_mtu(vif: VIF, network: Network | None) -> int:
    """The MTU that a VIF was brought up with, as with an attached PIF."""
    return _kept(vif.MTU) if vif.MTU > 0 else vif_mtu(vif, network)


def network_mtu(network: Network) -> int:
    """The MTU of the bridge of a network without a PIF here."""
    return _mtu({}, network)


def _mtu(other_config: Mapping[str, str], network: Network | None) -> int:
    text = other_config.get("mtu", "")
    return _kept(int(text) if is_number(text) else (network.MTU if network else MTU_BYTES_DEFAULT))


def _kept(mtu_bytes: int) -> int:
    return min(max(mtu_bytes, MTU_BYTES_MIN), MTU_BYTES_MAX)
