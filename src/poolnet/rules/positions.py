"""Which NIC does a PIF stand for, when the kernel names NICs anew? The one at its position (spec §8.5, §8.14).

Start-up, a scan and every report of a host ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from poolnet.db.txn import Txn, View
from poolnet.hostnet.facts import NicFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.types import Ref
from poolnet.rules.defaults import position_of_bridge


def follow_names(txn: Txn, host: Ref[Host], nics: Iterable[NicFacts]) -> None:
    """Writes the names that a host's NICs have now to their PIFs, and to the VLANs and SR-IOV PIFs on those."""
    at = {nic.position: nic.name for nic in nics if nic.position >= 0}
    if not at:
        return
    physical = txn.where(PIF, host=host, physical=True)
    now = {pif.ref: _device(txn, pif, at) for pif in physical}
    if len(set(now.values())) < len(now):
        return  # two PIFs would stand for one NIC: somebody made PIFs by hand
    for pif in physical:
        device = now[pif.ref]
        if device == pif.device:
            continue
        for ref in (pif.ref, *_on(txn, pif)):
            txn.update(PIF, ref, device=device)


def _device(view: View, pif: PIF, at: dict[int, str]) -> str:
    network = view.find(Network, pif.network)
    return at.get(position_of_bridge(network.bridge) if network is not None else -1, pif.device)


def _on(view: View, pif: PIF) -> Iterator[Ref[PIF]]:
    """The PIFs that have their device's name from this one."""
    for ref in pif.VLAN_slave_of:
        vlan = view.find(VLAN, ref)
        if vlan is not None and view.exists(PIF, vlan.untagged_PIF):
            yield vlan.untagged_PIF
    for other in pif.sriov_physical_PIF_of:
        sriov = view.find(NetworkSriov, other)
        if sriov is not None and view.exists(PIF, sriov.logical_PIF):
            yield sriov.logical_PIF
