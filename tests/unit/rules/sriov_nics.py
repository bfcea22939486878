"""NICs with virtual functions in a `World`, whose facts follow what is switched on, as a host's would."""

from __future__ import annotations

from dataclasses import replace

from poolnet.hostnet.derive import derive
from poolnet.hostnet.facts import FunctionFacts, NicFacts, SriovFacts
from poolnet.hostnet.state import FunctionsMode
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType
from poolnet.model.types import Ref
from poolnet.rules.facts import record_network
from tests.unit.rules.world import LOCAL, NOW, World


def functions(device: str, count: int) -> tuple[FunctionFacts, ...]:
    """As many virtual functions of a NIC ethN."""
    bus = int(device.removeprefix("eth")) + 16
    return tuple(
        FunctionFacts(
            pci_bus_path=f"0000:{bus:02x}:10.{each}", vendor_id="8086", device_id="1520", driver="igbvf"
        )
        for each in range(count)
    )


def capable(
    w: World, *devices: str, most: int = 4, host: Ref[Host] = LOCAL, device_id: str = "1521", **fields: object
) -> None:
    """Lets these NICs of a host have virtual functions, none so far."""
    for device in devices:
        sriov = SriovFacts(functions_max=most, **fields)  # type: ignore[arg-type]
        sriov = replace(sriov, functions=functions(device, sriov.functions_now))
        report(w, device, sriov, host=host, device_id=device_id)


def report(
    w: World, device: str, sriov: SriovFacts | None, *, host: Ref[Host] = LOCAL, device_id: str = "1521"
) -> None:
    """Lets a host report this of a NIC."""
    seen = w.ctx.facts_of(host)
    known = next((nic for nic in seen.nics if nic.name == device), None) or NicFacts(
        name=device, mac="02:00:00:00:00:01", pci_bus_path="0000:00:01.0", vendor_id="8086"
    )
    nic = replace(known, sriov=sriov, device_id=device_id)
    others = [one for one in seen.nics if one.name != device]
    facts = replace(seen, nics=tuple(sorted((*others, nic), key=lambda one: one.name)))
    w.ctx.facts = {**w.ctx.facts, host: facts}
    record_network(w.txn, host, facts, NOW, w.ctx.new_uuid)


def follow(w: World, host: Ref[Host] = LOCAL) -> None:
    """Lets the host do what it is to: NICs that get functions at once have them now, and those that lose them none."""
    wanted = {nic.device: nic.mode for nic in derive(w.txn, host).sriov}
    for nic in w.ctx.facts_of(host).nics:
        if nic.sriov is None or nic.sriov.by_module or wanted.get(nic.name) is FunctionsMode.MANUAL:
            continue
        count = nic.sriov.functions_max if nic.name in wanted else 0
        sriov = replace(nic.sriov, functions_now=count, functions=functions(nic.name, count))
        report(w, nic.name, sriov, host=host, device_id=nic.device_id)


def boot(w: World, host: Ref[Host] = LOCAL) -> None:
    """Lets a host with options of drivers boot: those NICs have the functions now."""
    wanted = {nic.device for nic in derive(w.txn, host).sriov}
    for nic in w.ctx.facts_of(host).nics:
        if nic.sriov is not None and nic.sriov.by_module:
            count = nic.sriov.functions_max if nic.name in wanted else 0
            sriov = replace(nic.sriov, functions_now=count, functions=functions(nic.name, count))
            report(w, nic.name, sriov, host=host, device_id=nic.device_id)


def create(w: World, device: str, network: Ref[Network] | None = None) -> NetworkSriov:
    """An SR-IOV network on a NIC of this host, and the host has done its part."""
    target = w.network() if network is None else network
    ref: Ref[NetworkSriov] = w.call("network_sriov.create", pif=w.nic_pif(device).ref, network=target)
    follow(w)
    return w.txn.get(NetworkSriov, ref)


def network_of(w: World, sriov: NetworkSriov) -> Ref[Network]:
    """The network of an SR-IOV object."""
    return w.txn.get(PIF, sriov.logical_PIF).network


def hvm(w: World, *networks: Ref[Network], **fields: object) -> Ref[VM]:
    """A VM with full virtualization, with a VIF on each network."""
    vm = w.vm(domain_type=DomainType.HVM, **fields)
    for device, network in enumerate(networks):
        w.vif(vm, network, device=str(device), MAC=f"02:00:00:00:{device:02x}:{w.txn.count(VM) % 256:02x}")
    return vm
