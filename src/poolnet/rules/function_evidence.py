"""What did a NIC refuse of what a virtual function was to be told, and who is told of that?

The reference writes it to the host's log. Here it is a key of `VIF.runtime_properties`, which the reference leaves empty, and
an alert when it begins. Called with what a host reports, by `links`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from poolnet.db.txn import Txn
from poolnet.hostnet.facts import RATE, SPOOF_CHECK, NicFacts
from poolnet.model.alerts import NETWORK_ALERT_PRIORITY, VIF_QOS_FAILED, VIF_SPOOF_CHECK_FAILED
from poolnet.model.classes.host import Host
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules.message import raise_alert

NOT_HELD: Final = "sriov-not-held"
_ALERTS: Final = {
    RATE: (VIF_QOS_FAILED, "is not limited: its NIC {nic} cannot limit virtual function {function} so"),
    SPOOF_CHECK: (
        VIF_SPOOF_CHECK_FAILED,
        "may send with any MAC: its NIC {nic} cannot check that of virtual function {function}",
    ),
}


def record_refusals(
    txn: Txn, host: Ref[Host], nics: Iterable[NicFacts], now: datetime, new_uuid: Callable[[], str]
) -> None:
    """Writes to the VIFs that have virtual functions what their NICs cannot do, and raises an alert for what is new."""
    refused = {
        function.pci_bus_path: (nic.name, function.refused)
        for nic in nics
        if nic.sriov is not None
        for function in nic.sriov.functions
    }
    for pci in txn.where(PCI, host=host) if refused else ():
        for vm in pci.attached_VMs if pci.pci_id in refused else ():
            for vif in txn.where(VIF, VM=vm, reserved_pci=pci.ref):
                _record(txn, vif, pci, *refused[pci.pci_id], now, new_uuid)


def _record(
    txn: Txn,
    vif: VIF,
    pci: PCI,
    nic: str,
    refused: tuple[str, ...],
    now: datetime,
    new_uuid: Callable[[], str],
) -> None:
    before = vif.runtime_properties.get(NOT_HELD, "").split()
    if list(refused) == before:
        return
    properties = without(vif)
    if refused:
        properties[NOT_HELD] = " ".join(refused)
    txn.update(VIF, vif.ref, runtime_properties=properties)
    vm = txn.get(VM, vif.VM)
    for what in refused:
        if what in before or what not in _ALERTS:
            continue
        name, text = _ALERTS[what]
        body = text.format(nic=nic, function=pci.pci_id)
        raise_alert(
            txn,
            new_uuid,
            now,
            name=name,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.VM,
            obj_uuid=vm.uuid,
            body=f"VIF {vif.device} of {vm.name_label} {body} (VIF uuid: {vif.uuid})",
        )


def without(vif: VIF) -> dict[str, str]:
    """The properties of a VIF but for what its NIC cannot do."""
    return {key: value for key, value in vif.runtime_properties.items() if key != NOT_HELD}
