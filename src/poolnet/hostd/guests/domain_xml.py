"""What does libvirt need to be told of a guest? Functions from values to domain XML, and what they read there.

A domain that somebody has defined is started as its definition says, but for its interfaces: those are the guest's NICs
here, and no others, so that the guest has no way into a network that no lock is on. The definition itself is never
changed: what is made here is the domain as it runs this time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from xml.etree import ElementTree as ET

from poolnet.hostd.guests.host_ends import vif_name
from poolnet.hostnet.protocol import GuestNic, GuestSpec

Hypervisor: TypeAlias = Literal["kvm", "qemu"]
NAMESPACE: Final = "urn:poolnet:guest:1"
_QEMU_NAMESPACE: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
_ALIAS: Final = "ua-poolnet-vif"
_PCI: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])")
_KEPT: Final = ("model", "driver", "address", "rom", "boot")  # of an interface with the same MAC
_NO_OFFLOADS: Final = ("csum", "gso", "tso4", "tso6", "ecn", "ufo")
_MODEL: Final = "virtio"
_MEMORY_BYTES_MIN: Final = 64 << 20

ET.register_namespace("poolnet", NAMESPACE)
ET.register_namespace("qemu", _QEMU_NAMESPACE)


class NotADomain(Exception):
    """What libvirt knows as a domain cannot be read, or not have what is asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What says in a running domain whose guest it is."""

    vm_uuid: str
    domid: int


def defined(definition: str, guest: GuestSpec, *, offloads: bool) -> str:
    """The XML with which a defined domain is started as this guest.

    A NIC keeps model, driver, place on the bus, ROM and boot order of the interface that has its MAC in the definition, so
    that the guest finds it where it was. Raises NotADomain.
    """
    root = _parsed(definition)
    devices = _devices(root)
    before = _by_mac(devices)
    for interface in devices.findall("interface"):
        devices.remove(interface)
    for nic in guest.nics:
        devices.append(_interface(nic, guest.domid, before.get(nic.mac), offloads=offloads))
    _mark(root, guest)
    return _text(root)


def fresh(guest: GuestSpec, hypervisor: Hypervisor, *, offloads: bool) -> str:
    """The XML of a guest that no domain is defined for: memory, processors and NICs, booting from its network.

    Its console is the serial line (`virsh console`). It has the VM's uuid.
    """
    root = ET.Element("domain", type=hypervisor)
    ET.SubElement(root, "name").text = f"poolnet-{guest.vm_uuid}"
    ET.SubElement(root, "uuid").text = guest.vm_uuid
    if title := " ".join(guest.name.split()):
        ET.SubElement(root, "title").text = "".join(c for c in title if c.isprintable())
    ET.SubElement(root, "memory", unit="b").text = str(max(guest.memory_bytes, _MEMORY_BYTES_MIN))
    ET.SubElement(root, "vcpu").text = str(max(guest.vcpus, 1))
    system = ET.SubElement(root, "os")
    ET.SubElement(system, "type", arch="x86_64", machine="pc").text = "hvm"
    ET.SubElement(system, "bios", useserial="yes")
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    if hypervisor == "kvm":
        ET.SubElement(root, "cpu", mode="host-model")
    devices = ET.SubElement(root, "devices")
    for order, nic in enumerate(guest.nics, 1):
        interface = _interface(nic, guest.domid, None, offloads=offloads)
        if not nic.function:
            ET.SubElement(interface, "boot", order=str(order))
        devices.append(interface)
    for kind in ("serial", "console"):
        ET.SubElement(devices, kind, type="pty")
    _mark(root, guest)
    return _text(root)


def restored(saved: str, guest: GuestSpec) -> str:
    """The XML with which a saved guest goes on: the same, with the host ends that its NICs have now.

    Raises NotADomain when it did not have just these NICs: what is in its memory knows them.
    """
    root = _parsed(saved)
    devices = _devices(root)
    nics = {nic.mac: nic for nic in guest.nics}
    interfaces = _by_mac(devices)
    if nics.keys() != interfaces.keys():
        had = ", ".join(sorted(interfaces)) or "none"
        raise NotADomain(f"it was suspended with other NICs: {had}")
    for mac, interface in interfaces.items():
        target = interface.find("target")
        if target is not None:
            target.set("dev", vif_name(guest.domid, nics[mac].device))
    _mark(root, guest)
    return _text(root)


def interface(nic: GuestNic, domid: int, *, offloads: bool) -> str:
    """The XML of one NIC, to be given to a guest that exists."""
    return _text(_interface(nic, domid, None, offloads=offloads))


def alias(device: int) -> str:
    """The name by which libvirt finds a guest's NIC again."""
    return f"{_ALIAS}{device}"


def queues(definition: str, nics: Sequence[GuestNic]) -> Mapping[int, int]:
    """How many queues the definition wants for each NIC, by device number; NICs with one are left out.

    Raises NotADomain.
    """
    before = _by_mac(_devices(_parsed(definition)))
    found: dict[int, int] = {}
    for nic in nics:
        driver = before[nic.mac].find("driver") if nic.mac in before else None
        wanted = driver.get("queues", "1") if driver is not None else "1"
        if wanted.isdecimal() and int(wanted) > 1:
            found[nic.device] = int(wanted)
    return found


def aliases(running: str) -> frozenset[str]:
    """The names of the devices that a running domain has. Raises NotADomain."""
    return frozenset(
        name for found in _devices(_parsed(running)).iter("alias") if (name := found.get("name"))
    )


def mark_of(metadata: str) -> Mark | None:
    """Whose guest a running domain is, as its mark says; None if that is none of ours."""
    try:
        root = ET.fromstring(metadata)  # noqa: S314 - libvirt's own answer
    except ET.ParseError:
        return None
    vm_uuid, domid = root.get("vm", ""), root.get("domid", "")
    return Mark(vm_uuid=vm_uuid, domid=int(domid)) if vm_uuid and domid.isdecimal() else None


# --- pieces ------------------------------------------------------------------------------------------------------


def _interface(nic: GuestNic, domid: int, before: ET.Element | None, *, offloads: bool) -> ET.Element:
    """One NIC; `before` is the interface with its MAC in the definition."""
    made = _function(nic) if nic.function else _tap(nic, domid)
    kept = (
        {child.tag: deepcopy(child) for child in before if child.tag in _KEPT} if before is not None else {}
    )
    if nic.function:
        kept = {tag: child for tag, child in kept.items() if tag in {"address", "rom", "boot"}}
    else:
        if "model" not in kept:
            kept["model"] = ET.Element("model", type=_MODEL)
        if not offloads and kept["model"].get("type", "").startswith("virtio"):
            kept["driver"] = _without_offloads(kept.get("driver"))
    made.extend(kept[tag] for tag in _KEPT if tag in kept)
    ET.SubElement(made, "alias", name=alias(nic.device))
    return made


def _tap(nic: GuestNic, domid: int) -> ET.Element:
    """An interface whose host end is there already, and is not libvirt's to change."""
    made = ET.Element("interface", type="ethernet")
    ET.SubElement(made, "mac", address=nic.mac)
    ET.SubElement(made, "target", dev=vif_name(domid, nic.device), managed="no")
    ET.SubElement(made, "mtu", size=str(nic.mtu_bytes))
    return made


def _function(nic: GuestNic) -> ET.Element:
    """A virtual function. libvirt sets its MAC and VLAN once more: without a VLAN here it would take that away."""
    found = _PCI.fullmatch(nic.function)
    if found is None:
        raise NotADomain(f"{nic.function} is no PCI address")
    domain, bus, slot, function = (f"0x{part}" for part in found.groups())
    made = ET.Element("interface", type="hostdev", managed="yes")
    ET.SubElement(made, "mac", address=nic.mac)
    source = ET.SubElement(made, "source")
    place = {"domain": domain, "bus": bus, "slot": slot, "function": function}
    ET.SubElement(source, "address", {"type": "pci", **place})
    if nic.vlan_tag:
        vlan = ET.SubElement(made, "vlan")
        ET.SubElement(vlan, "tag", id=str(nic.vlan_tag))
    return made


def _without_offloads(driver: ET.Element | None) -> ET.Element:
    """The guest is to compute checksums and cut segments itself."""
    made = driver if driver is not None else ET.Element("driver")
    host = made.find("host")
    if host is None:
        host = ET.SubElement(made, "host")
    for name in _NO_OFFLOADS:
        host.set(name, "off")
    return made


def _mark(root: ET.Element, guest: GuestSpec) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    tag = f"{{{NAMESPACE}}}guest"
    for old in metadata.findall(tag):
        metadata.remove(old)
    ET.SubElement(metadata, tag, vm=guest.vm_uuid, domid=str(guest.domid))


def _by_mac(devices: ET.Element) -> dict[str, ET.Element]:
    return {mac: interface for mac, interface in _with_macs(devices) if mac}


def _with_macs(devices: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    for found in devices.findall("interface"):
        mac = found.find("mac")
        yield (mac.get("address", "").lower() if mac is not None else ""), found


def _parsed(text: str) -> ET.Element:
    try:
        root = ET.fromstring(text)  # noqa: S314 - libvirt's own answer
    except ET.ParseError as error:
        raise NotADomain(f"libvirt's answer is no XML: {error}") from error
    if root.tag != "domain":
        raise NotADomain(f"libvirt's answer is a {root.tag}, no domain")
    return root


def _devices(root: ET.Element) -> ET.Element:
    devices = root.find("devices")
    return devices if devices is not None else ET.SubElement(root, "devices")


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
