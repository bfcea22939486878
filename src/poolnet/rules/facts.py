"""What of what a host reports goes into the database? See spec §10, §16, §18.7.

The pool calls `record_facts` whenever a host reports a change. It writes only what hosts decide by themselves, so it
can run beside calls that are under way; a guest that ended is another matter: `ended_guests` finds it, and the rule
`vm_power.guest_ended` decides, in its turn among the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from ipaddress import ip_address, ip_interface
from typing import Final

from poolnet.db.txn import Txn, View
from poolnet.hostnet.facts import AddressFacts, GuestFacts, HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PrimaryAddressType
from poolnet.model.types import Ref
from poolnet.rules.allowed import refresh_vm
from poolnet.rules.attach import LIVE, primary_address
from poolnet.rules.links import record_links
from poolnet.rules.positions import follow_names

NAMELESS: Final = ("localhost", "localhost.localdomain")
CONTROL_DOMAIN_NAME: Final = "Control domain on host: "


def record_facts(
    txn: Txn, host: Ref[Host], facts: HostFacts, now: datetime, new_uuid: Callable[[], str]
) -> None:
    """Writes what a host reports of its NICs, bonds, addresses, name, memory and guests to the dynamic fields.

    What an administrator should know is an alert besides; `new_uuid` names it.
    """
    if not txn.exists(Host, host):
        return
    record_network(txn, host, facts, now, new_uuid)
    _record_host(txn, host, facts, now)
    _record_guests(txn, host, facts, now)


def ended_guests(view: View, host: Ref[Host], facts: HostFacts) -> tuple[tuple[Ref[VM], int], ...]:
    """The VMs of this host whose guest ended by itself, with the domain id under which it ran."""
    stopped = {(guest.vm_uuid, guest.domid) for guest in facts.guests if guest.state == "stopped"}
    return tuple(
        (vm.ref, vm.domid)
        for vm in view.where(VM, resident_on=host)
        if vm.power_state in LIVE and (vm.uuid, vm.domid) in stopped
    )


# --- addresses -------------------------------------------------------------------------------------------------


def record_network(
    txn: Txn, host: Ref[Host], facts: HostFacts, now: datetime, new_uuid: Callable[[], str]
) -> None:
    """Writes what a host reports of its links and addresses.

    Also called after a change of PIFs: the report may have come before the PIF that it is about was committed.
    """
    if txn.exists(Host, host):
        follow_names(txn, host, facts.nics)
        record_links(txn, host, facts, now, new_uuid)
        _record_addresses(txn, host, facts)


def _record_addresses(txn: Txn, host: Ref[Host], facts: HostFacts) -> None:
    """Reads addresses from the network back into the PIFs that ask for them there, and the host's own address."""
    by_bridge = {seen.bridge: seen for seen in facts.addresses}
    for pif in txn.where(PIF, host=host):
        by_lease = pif.ip_configuration_mode is IpConfigurationMode.DHCP
        by_router = pif.ipv6_configuration_mode in (
            Ipv6ConfigurationMode.DHCP,
            Ipv6ConfigurationMode.AUTOCONF,
        )
        if not pif.currently_attached or not (by_lease or by_router or pif.management):
            continue
        network = txn.find(Network, pif.network)
        seen = by_bridge.get(network.bridge) if network else None
        if seen is None:
            continue
        if by_lease:
            _record_lease(txn, pif, seen)
        if by_router:
            txn.update(PIF, pif.ref, IPv6=seen.ipv6)
            by_ipv6 = pif.primary_address_type is PrimaryAddressType.IPV6
            if by_ipv6 and pif.ipv6_configuration_mode is Ipv6ConfigurationMode.DHCP and seen.dns_servers:
                txn.update(PIF, pif.ref, DNS=",".join(seen.dns_servers))
        if pif.management:
            txn.update(Host, host, address=primary_address(txn.get(PIF, pif.ref)))


def _record_lease(txn: Txn, pif: PIF, seen: AddressFacts) -> None:
    interface = ip_interface(seen.ipv4[0]) if seen.ipv4 else None
    fields: dict[str, str] = {
        "IP": str(interface.ip) if interface else "",
        "netmask": str(interface.netmask) if interface else "",
    }
    if seen.gateway or not interface:
        fields["gateway"] = seen.gateway
    if seen.dns_servers:
        fields["DNS"] = ",".join(seen.dns_servers)
    txn.update(PIF, pif.ref, **fields)


# --- the host itself -------------------------------------------------------------------------------------------


def _record_host(txn: Txn, host: Ref[Host], facts: HostFacts, now: datetime) -> None:
    row = txn.get(Host, host)
    if facts.hostname and facts.hostname != row.hostname:
        rename(txn, host, facts.hostname)
    if facts.software:
        version = software_version(row.software_version, facts)
        if version != row.software_version:
            txn.update(Host, host, software_version=version)
    metrics = txn.find(HostMetrics, row.metrics)
    if metrics is None:
        return
    fields = {
        "memory_total": facts.memory_total_bytes,
        "memory_free": facts.memory_free_bytes,
        "live": True,
    }
    if any(getattr(metrics, name) != value for name, value in fields.items()):
        txn.update(HostMetrics, metrics.ref, last_updated=now, **fields)


def software_version(known: Mapping[str, str], facts: HostFacts) -> dict[str, str]:
    """`known` with the backend that the host has now, and the versions of its programs; those of others go."""
    switches = {"openvswitch", "nftables"}
    kept = {key: value for key, value in known.items() if key not in switches}
    return {**kept, "network_backend": facts.backend, **dict(facts.software)}


def rename(txn: Txn, host: Ref[Host], hostname: str) -> None:
    """Writes a host's new name: to its record, its control domain's, and as its label if that says nothing."""
    row = txn.get(Host, host)
    fields = {"hostname": hostname}
    if row.name_label in NAMELESS:
        fields["name_label"] = hostname
    txn.update(Host, host, **fields)
    if txn.exists(VM, row.control_domain):
        txn.update(VM, row.control_domain, name_label=f"{CONTROL_DOMAIN_NAME}{hostname}")


# --- guests ----------------------------------------------------------------------------------------------------


def _record_guests(txn: Txn, host: Ref[Host], facts: HostFacts, now: datetime) -> None:
    guests = {guest.vm_uuid: guest for guest in facts.guests}
    for vm in txn.where(VM, resident_on=host):
        guest = guests.get(vm.uuid)
        if guest is None or guest.domid != vm.domid or guest.state == "stopped":
            continue
        seen = txn.find(VMMetrics, vm.metrics)
        if seen is not None and seen.nomigrate == guest.mobile:
            txn.update(VMMetrics, seen.ref, nomigrate=not guest.mobile, last_updated=now)
            refresh_vm(txn, vm.ref)
        metrics = txn.find(VMGuestMetrics, vm.guest_metrics)
        networks = _guest_networks(guest)
        if metrics is not None and dict(metrics.networks) != networks:
            txn.update(VMGuestMetrics, metrics.ref, networks=networks, last_updated=now)


def _guest_networks(guest: GuestFacts) -> dict[str, str]:
    """The addresses under the keys that clients read: 0/ip, 0/ipv4/0, 0/ipv6/0 (spec §16)."""
    networks: dict[str, str] = {}
    for device in sorted({device for device, _ in guest.addresses}):
        texts = [address for number, address in guest.addresses if number == device]
        ipv4, ipv6 = _of_version(texts, 4), _of_version(texts, 6)
        if ipv4:
            networks[f"{device}/ip"] = ipv4[0]
        networks |= {f"{device}/ipv4/{k}": text for k, text in enumerate(ipv4)}
        networks |= {f"{device}/ipv6/{k}": text for k, text in enumerate(ipv6)}
    return networks


def _of_version(texts: Iterable[str], version: int) -> list[str]:
    return [text for text in texts if ip_address(text.partition("%")[0]).version == version]
