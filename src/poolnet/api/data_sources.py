"""How much traffic is there on a NIC, bond or VIF? The messages `query_data_source` of hosts and VMs.

`xe` shows it as io_read_kbs and io_write_kbs of PIFs and VIFs. Under the names of the reference: `pif_eth0_rx` of a host,
`vif_0_tx` of a VM, in bytes per second. As there, what a VIF receives is what its guest does, and a bond's is its members'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.locks import AskedHosts
from poolnet.db.database import Database
from poolnet.db.txn import View
from poolnet.hostnet.derive_port import vif_device
from poolnet.hostnet.protocol import LinkRate, ReadTraffic, Traffic
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.types import Ref, is_null
from poolnet.pool.hostlink import HostGone, HostRefused

ASK_TIMEOUT_S: Final = 10.0
_OF_PIF: Final = re.compile(r"pif_(?P<device>.+)_(?P<way>rx|tx)")
_OF_VIF: Final = re.compile(r"vif_(?P<device>[0-9]{1,4})_(?P<way>rx|tx)")
_ALL: Final = "aggr"


def data_source_messages(database: Database, hosts: AskedHosts) -> Mapping[str, Own]:
    """The messages, by full name."""

    async def of_host(call: Call) -> Result:
        """Tells the newest value of a host's data source.

        Raises:
            HANDLE_INVALID: There is no such host.
            INVALID_VALUE: Nothing of that name is measured.
            HOST_OFFLINE: The host cannot be asked.
        """
        host, name = call.arguments["host"], call.arguments["data_source"]
        view = database.view
        view.get(Host, host)
        found = _OF_PIF.fullmatch(name)
        nics = _nics(view, host, found["device"]) if found else ()
        if found is None or not nics:
            raise errors.invalid_value("data_source", name)
        rates = await _rates(hosts, host, nics)
        if not rates:
            raise errors.invalid_value("data_source", name)
        return sum(_received(rates) if found["way"] == "rx" else _sent(rates))

    async def of_vm(call: Call) -> Result:
        """Tells the newest value of a VM's data source.

        Raises:
            HANDLE_INVALID: There is no such VM.
            VM_BAD_POWER_STATE: It does not run.
            INVALID_VALUE: Nothing of that name is measured.
            HOST_OFFLINE: Its host cannot be asked.
        """
        view, name = database.view, call.arguments["data_source"]
        vm = view.get(VM, call.arguments["self"])
        if is_null(vm.resident_on) or vm.domid < 0:
            raise errors.vm_bad_power_state(vm.ref, "running", vm.power_state.value.lower())
        found = _OF_VIF.fullmatch(name)
        plugged = [v.device for v in view.where(VIF, VM=vm.ref) if v.currently_attached]
        if found is None or found["device"] not in plugged:
            raise errors.invalid_value("data_source", name)
        rates = await _rates(hosts, vm.resident_on, (vif_device(vm.domid, found["device"]),))
        if not rates:
            raise errors.invalid_value("data_source", name)
        return sum(_sent(rates) if found["way"] == "rx" else _received(rates))  # the host's end of the VIF

    return {"host.query_data_source": of_host, "VM.query_data_source": of_vm}


def _nics(view: View, host: Ref[Host], device: str) -> Sequence[str]:
    """The NICs behind a device of a host's PIFs: the NIC itself, a bond's members, or all of them."""
    pifs = view.where(PIF, host=host)
    bonds = {pif.bond_master_of[0] for pif in pifs if pif.device == device and pif.bond_master_of}
    return [
        pif.device
        for pif in pifs
        if pif.physical and (device in (_ALL, pif.device) or pif.bond_slave_of in bonds)
    ]


async def _rates(hosts: AskedHosts, host: Ref[Host], devices: Sequence[str]) -> Sequence[LinkRate]:
    try:
        answer = await hosts.ask(host, ReadTraffic(devices=tuple(devices)), Traffic, ASK_TIMEOUT_S)
    except (HostGone, HostRefused) as error:
        raise errors.host_offline(host) from error
    return answer.rates


def _received(rates: Iterable[LinkRate]) -> Iterable[float]:
    return (rate.received_bytes_per_s for rate in rates)


def _sent(rates: Iterable[LinkRate]) -> Iterable[float]:
    return (rate.sent_bytes_per_s for rate in rates)
