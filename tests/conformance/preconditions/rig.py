"""A server in this process for preconditions: calls go through the real dispatcher, and what is refused changes nothing.

A case is a function with the number that the precondition has in this directory's README. States that no call brings
about (high availability, a PIF that is not poolnet's, an SR-IOV network) are written into the database.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poolnet.api.answer import Codec, Encoded, Origin, Refusal, Success
from poolnet.api.binding import as_wire
from poolnet.db.txn import Txn
from poolnet.hostnet.facts import NicFacts, SriovFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.enums import DomainType, TristateType, VmPowerState
from poolnet.model.registry import CLASSES
from poolnet.model.types import NULL, Ref
from poolnet.rules.allowed import refresh_vm
from tests.in_process import FACTS, InProcess, with_server
from tests.unit.api.test_events import minimal_vm

REMOTE = Origin(local_root=False, peer="192.0.2.9")
NICS = 5

Case = Callable[["Rig"], Awaitable[None]]
CASES: dict[str, Case] = {}


def precondition(*numbers: str) -> Callable[[Case], Case]:
    """Declares the test of these preconditions."""

    def declare(case: Case) -> Case:
        for number in numbers:
            assert number not in CASES, f"{number} has two tests"
            CASES[number] = case
        return case

    return declare


def carry_out(number: str) -> None:
    """Runs the test of a precondition with a server of its own."""

    async def body(server: InProcess) -> None:
        rig = await Rig.on(server)
        await CASES[number](rig)
        assert rig.checked, f"{number} checks nothing"

    with tempfile.TemporaryDirectory() as directory:
        with_server(Path(directory), body)


@dataclass
class Rig:
    """A standalone host with five NICs, eth0 (management) to eth4, and a client of its API."""

    server: InProcess
    session: str
    checked: int = 0

    @classmethod
    async def on(cls, server: InProcess) -> Rig:
        """Logs in, and puts the other NICs in."""
        session = await server.sessions.login_with_password("root", "", "", local_root=True)
        rig = cls(server, session)
        nics = tuple(
            NicFacts(name=f"eth{n}", mac=f"02:00:00:00:00:{n + 1:02x}", carrier=True) for n in range(NICS)
        )
        server.host.reported = replace(FACTS, nics=nics)
        await rig.call("PIF.scan", rig.host)
        for device in ("eth1", "eth2", "eth3", "eth4"):
            await rig.call("PIF.plug", rig.nic(device))
        return rig

    # --- asking ------------------------------------------------------------------------------------------------

    async def call(self, method: str, *arguments: Any) -> Any:
        """The value of a call that must succeed."""
        answer = await self._ask(method, arguments)
        assert isinstance(answer, Success), f"{method}: {answer}"
        if isinstance(answer.value, Encoded):
            return json.loads(b"".join(answer.value.pieces(Codec.JSON)))
        return answer.value

    async def refused(self, error: list[str], method: str, *arguments: Any) -> None:
        """A call that must be refused with exactly this code and these parameters, and must change nothing."""
        before = self._everything()
        answer = await self._ask(method, arguments)
        assert isinstance(answer, Refusal), f"{method} is not refused: {answer}"
        assert [answer.code, *answer.params] == error
        assert self._everything() == before, f"{method} was refused, and changed something"
        self.checked += 1

    async def accepted(self, method: str, *arguments: Any) -> Any:
        """A call that must succeed although one might think otherwise; its value."""
        value = await self.call(method, *arguments)
        self.checked += 1
        return value

    async def unchanged(self, method: str, *arguments: Any) -> None:
        """A call that must succeed and change nothing."""
        before = self._everything()
        await self.accepted(method, *arguments)
        assert self._everything() == before, f"{method} changed something"

    def equal(self, found: object, expected: object) -> None:
        """A value that must be so."""
        assert found == expected
        self.checked += 1

    async def _ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        wire = [self.session, *(as_wire(argument) for argument in arguments)]
        return await self.server.dispatcher.dispatch(method, wire, REMOTE)

    def _everything(self) -> object:
        """All rows but sessions and tasks, and the host's network."""
        rows = {
            name: tuple(self.view.all(decl.python_type))
            for name, decl in CLASSES.items()
            if decl.in_database and name not in ("session", "task")
        }
        return rows, self.server.host.network, self.server.host.hostname

    # --- looking -----------------------------------------------------------------------------------------------

    @property
    def view(self) -> Any:
        """The committed database."""
        return self.server.database.view

    @property
    def host(self) -> Ref[Host]:
        """The host."""
        return self.server.host.host

    def row(self, cls: Any, ref: str) -> Any:
        """A row."""
        return self.view.get(cls, ref)

    def pif(self, device: str, vlan: int = -1) -> PIF:
        """The row of a PIF."""
        rows: list[PIF] = list(self.view.all(PIF))
        return next(row for row in rows if (row.device, row.VLAN) == (device, vlan))

    def nic(self, device: str) -> Ref[PIF]:
        """A physical PIF."""
        return self.pif(device).ref

    def network_of(self, device: str) -> Ref[Network]:
        """The network of a physical PIF."""
        return self.pif(device).network

    # --- making ------------------------------------------------------------------------------------------------

    async def write(self, cls: Any, ref: str, **fields: Any) -> None:
        """Brings a state about that no call does."""

        def change(txn: Txn) -> None:
            txn.update(cls, Ref(ref), **fields)

        await self.server.coordinator.write(change)

    async def pool(self, **fields: Any) -> None:
        """Writes fields of the pool."""
        (pool,) = self.view.all(Pool)
        await self.write(Pool, pool.ref, **fields)

    async def unmanaged(self, device: str) -> Ref[PIF]:
        """A NIC that is not poolnet's any more."""
        await self.write(PIF, self.nic(device), managed=False)
        return self.nic(device)

    async def network(self, **fields: Any) -> Ref[Network]:
        """A new network."""
        record = {"name_label": "n", "other_config": {}, **fields}
        made: Ref[Network] = await self.call("network.create", record)
        return made

    async def vlan(self, device: str, tag: int, network: str = "") -> Ref[Any]:
        """A VLAN on a PIF; gives the VLAN."""
        made: Ref[Any] = await self.call(
            "VLAN.create", self.pif(device).ref, tag, network or await self.network()
        )
        return made

    async def bond(self, *devices: str, mode: str = "balance-slb") -> Ref[Any]:
        """A bond of NICs."""
        members = [self.nic(device) for device in devices]
        made: Ref[Any] = await self.call("Bond.create", await self.network(), members, "", mode)
        return made

    async def address(self, device: str, address: str = "10.9.9.9") -> None:
        """Gives a NIC a static address."""
        words = ("Static", address, "255.255.255.0", "", "")
        await self.call("PIF.reconfigure_ip", self.nic(device), *words)

    async def tunnel(self, device: str = "eth1") -> Ref[Any]:
        """A tunnel over a NIC, which gets an address."""
        await self.address(device)
        made: Ref[Any] = await self.call("tunnel.create", self.nic(device), await self.network())
        return made

    async def vm(self, **fields: Any) -> Ref[VM]:
        """A halted VM."""
        made: Ref[VM] = await self.call("VM.create", {**minimal_vm(), "name_label": "vm"})
        if fields:
            await self.write(VM, made, **fields)
        return made

    @staticmethod
    def vif_record(network: str, vm: str, device: str = "0", **fields: Any) -> Mapping[str, Any]:
        """What VIF.create needs."""
        return {
            "device": device,
            "network": network,
            "VM": vm,
            "MAC": "00:16:3e:00:00:01",
            "MTU": "1500",
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
            **fields,
        }

    async def vif(self, network: str, vm: str = "", device: str = "0", **fields: Any) -> Ref[VIF]:
        """A VIF, of a new VM unless one is given."""
        record = self.vif_record(network, vm or await self.vm(), device, **fields)
        made: Ref[VIF] = await self.call("VIF.create", record)
        return made

    async def running_on(self, network: str) -> Ref[VIF]:
        """An attached VIF of a running VM."""
        vm = await self.vm()
        vif = await self.vif(network, vm)
        await self.call("VM.start", vm, False, False)
        assert self.row(VM, vm).power_state is VmPowerState.RUNNING
        return vif

    async def virtual_functions(self, device: str) -> Ref[PIF]:
        """A NIC with an SR-IOV network on it, whatever the NIC can do; gives the logical PIF."""
        physical = self.pif(device)
        network = await self.network()
        logical: Ref[PIF] = Ref("OpaqueRef:logical")

        def change(txn: Txn) -> None:
            txn.create(
                replace(
                    physical,
                    ref=logical,
                    uuid="logical",
                    network=network,
                    physical=False,
                    currently_attached=False,
                    sriov_physical_PIF_of=(),
                )
            )
            txn.create(
                NetworkSriov(
                    ref=Ref("OpaqueRef:sriov"), uuid="sriov", physical_PIF=physical.ref, logical_PIF=logical
                )
            )

        await self.server.coordinator.write(change)
        return logical

    async def capable(self, device: str, device_id: str = "1521", **fields: Any) -> Ref[PIF]:
        """Lets a NIC of the host have virtual functions; gives its PIF."""
        reported = self.server.host.reported
        nics = tuple(
            replace(
                nic,
                pci_bus_path=f"0000:0{nic.name[-1]}:00.0",
                vendor_id="8086",
                device_id=device_id,
                sriov=SriovFacts(functions_max=4, **fields),
            )
            if nic.name == device
            else nic
            for nic in reported.nics
        )
        self.server.host.reported = replace(reported, nics=nics)
        await self.call("PIF.scan", self.host)
        await self.server.coordinator.write(lambda _: None)  # after what was reported meanwhile
        return self.nic(device)

    async def sriov(self, device: str) -> Ref[NetworkSriov]:
        """An SR-IOV network on a NIC."""
        await self.capable(device)
        result: Ref[NetworkSriov] = await self.call(
            "network_sriov.create", self.nic(device), await self.network()
        )
        return result

    async def drivers(self, vm: str, hotplug: str | None) -> None:
        """Makes a VM one with emulated hardware whose guest says this of VIF hotplug; None: it says nothing."""
        guest: Ref[VMGuestMetrics] = NULL
        if hotplug is not None:
            guest = Ref(f"OpaqueRef:guest-{hotplug}")

        def change(txn: Txn) -> None:
            if hotplug is not None:
                txn.create(
                    VMGuestMetrics(
                        ref=guest,
                        uuid=f"guest-{hotplug}",
                        PV_drivers_detected=True,
                        can_use_hotplug_vif=TristateType(hotplug),
                    )
                )
            txn.update(VM, Ref(vm), guest_metrics=guest, domain_type=DomainType.HVM)
            refresh_vm(txn, Ref(vm))

        await self.server.coordinator.write(change)

    async def elsewhere(self, pif: str) -> None:
        """Gives a PIF to another host, so that its network has a first PIF and is not connected here."""
        other: Ref[Host] = Ref("OpaqueRef:elsewhere")

        def change(txn: Txn) -> None:
            txn.create(replace(txn.get(Host, self.host), ref=other, uuid="elsewhere", hostname="elsewhere"))
            txn.update(PIF, Ref(pif), host=other)

        await self.server.coordinator.write(change)

    @contextmanager
    def host_that_refuses(self) -> Iterator[None]:
        """The host cannot be brought to any other state."""
        before = self.server.host.refuse
        self.server.host.refuse = lambda _: True
        try:
            yield
        finally:
            self.server.host.refuse = before
