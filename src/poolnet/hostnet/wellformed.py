"""Is every name, address and number of a desired state one that may be handed to a kernel, a switch or a file name?

The host daemon is root and takes desired states from a server that is not: whatever the types leave open is closed here.
No text can become a path, an option, another word of a command or another rule. `laws` says whether the state makes sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final, TypeAlias

from poolnet.hostnet import protocol
from poolnet.hostnet.state import VLAN_TAG_MAX, Bridge, GuestPort, HostNetwork, IpConfig, PortLock, Uplink

INTERFACE: Final = re.compile(r"(?!-)(?!\.{1,2}\Z)[A-Za-z0-9_.@+-]{1,15}\Z")
MAC: Final = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")
IDENTITY: Final = re.compile(r"(?![-.])[A-Za-z0-9_.-]{1,64}\Z")
DOMAIN: Final = re.compile(r"(?![-.])[A-Za-z0-9_.-]{1,253}\Z")
WORD: Final = re.compile(r"(?![-.])[A-Za-z0-9_:.+-]{0,64}\Z")
KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
PCI: Final = re.compile(r"(?![-.])[A-Za-z0-9_:.-]{1,32}\Z")  # or of another bus; a name in sysfs
MTU_MAX: Final = 65535
TUNNEL_KEY_MAX: Final = 2**24 - 1
DEVICE_MAX: Final = 9999
DOMID_MAX: Final = 2**31 - 1
TEXT_MAX: Final = 4096

_Check: TypeAlias = Callable[[str], object]


def malformed(network: HostNetwork) -> Iterator[str]:
    """What of a desired state may not be, in words; nothing of one that is well formed."""
    for bridge in network.bridges:
        yield from _bridge(bridge)
    for port in network.ports:
        yield from _port(port)
    for link in network.links:
        yield from _texts("a link", INTERFACE, [link.name])
        for key, value in link.values:
            yield from _texts("the option of a link", KEY, [key])
            yield from _texts(f"the option {key!r} of a link", WORD, [value])
    for nic in network.sriov:
        yield from _texts("a NIC", INTERFACE, [nic.device])
        for function in nic.functions:
            yield from _texts("a virtual function", PCI, [function.address])
            yield from _texts("a virtual function's MAC", MAC, [function.mac])
            yield from _texts("a VIF", IDENTITY, filter(None, [function.vif_uuid]))
            yield from _range("a virtual function's tag", function.vlan_tag, 0, VLAN_TAG_MAX)
            yield from _range("a virtual function's rate", function.rate_mbits_per_s, 0, 2**31)
    yield from _texts("a bridge", INTERFACE, filter(None, [network.management_bridge]))
    yield from _texts("a bridge", INTERFACE, network.nbd_bridges)


def malformed_action(action: protocol.GuestAction) -> Iterator[str]:
    """The same of what is to be done to a guest."""
    if isinstance(action, protocol.CreateGuest | protocol.ResumeGuest | protocol.ReceiveGuest):
        guest = action.guest
        yield from _texts("a VM", IDENTITY, [guest.vm_uuid])
        yield from _range("a domain", guest.domid, 1, DOMID_MAX)
        yield from _range("a VM's memory", guest.memory_bytes, 0, 2**63)
        yield from _range("a VM's processors", guest.vcpus, 0, 2**16)
        if len(guest.name) > TEXT_MAX or "\0" in guest.name:
            yield "the name of a VM is too long"
        if len(guest.domain) > TEXT_MAX or "\0" in guest.domain:
            yield "the name of a VM's domain is too long"
        for nic in guest.nics:
            yield from _guest_nic(nic)
        return
    yield from _texts("a VM", IDENTITY, [action.vm_uuid])
    if isinstance(action, protocol.PlugNic):
        yield from _guest_nic(action.nic)
    elif isinstance(action, protocol.UnplugNic | protocol.RaiseNic):
        yield from _range("a VIF's device", action.device, 0, DEVICE_MAX)


def _guest_nic(nic: protocol.GuestNic) -> Iterator[str]:
    yield from _range("a VIF's device", nic.device, 0, DEVICE_MAX)
    yield from _texts("a VIF's MAC", MAC, [nic.mac])
    yield from _range("a VIF's MTU", nic.mtu_bytes, 1, MTU_MAX)
    yield from _texts("a virtual function", PCI, filter(None, [nic.function]))
    yield from _range("a virtual function's tag", nic.vlan_tag, 0, VLAN_TAG_MAX)


def _bridge(bridge: Bridge) -> Iterator[str]:
    yield from _texts("a bridge", INTERFACE, [bridge.name, *filter(None, [bridge.parent])])
    yield from _texts("a bridge's MAC", MAC, filter(None, [bridge.mac]))
    yield from _range("a bridge's MTU", bridge.mtu_bytes, 1, MTU_MAX)
    yield from _range("a bridge's tag", bridge.vlan_tag, -1, VLAN_TAG_MAX)
    yield from _texts("a network", IDENTITY, bridge.network_uuids)
    yield from _addresses(bridge.ip)
    if bridge.uplink is not None:
        yield from _uplink(bridge.uplink)


def _uplink(uplink: Uplink) -> Iterator[str]:
    yield from _texts("an uplink", INTERFACE, [uplink.device, *uplink.members])
    if uplink.bond is not None:
        for key, value in uplink.bond.properties:
            yield from _texts("a bond's property", KEY, [key])
            yield from _texts(f"a bond's property {key!r}", WORD, [value])
        for time in (uplink.bond.miimon_ms, uplink.bond.updelay_ms, uplink.bond.downdelay_ms):
            yield from _range("a bond's time", time, 0, 2**31 - 1)
        yield from _range("a bond's time", uplink.bond.rebalance_interval_ms, 0, 2**31 - 1)
    if uplink.tunnel is not None:
        yield from _range("a tunnel's key", uplink.tunnel.key, 0, TUNNEL_KEY_MAX)
        yield from _parsed("a tunnel's end", ip_address, uplink.tunnel.remotes)
        yield from _parsed("a tunnel's own address", ip_address, filter(None, [uplink.tunnel.local6]))


def _addresses(ip: IpConfig) -> Iterator[str]:
    yield from _parsed("an address", ip_interface, [*filter(None, [ip.ipv4_address]), *ip.ipv6_addresses])
    gateways = filter(None, [ip.ipv4_gateway, ip.ipv6_gateway])
    yield from _parsed("a gateway", ip_address, gateways)
    yield from _parsed("a name server", ip_address, ip.dns_servers)
    yield from _texts("a domain", DOMAIN, ip.dns_search)
    for route in ip.routes:
        subnet, _, gateway = route.partition(" via ")
        yield from _parsed("a route", _prefix, [subnet])
        yield from _parsed("a route's gateway", ip_address, [gateway])


def _port(port: GuestPort) -> Iterator[str]:
    yield from _texts("a port", INTERFACE, [port.device, port.bridge])
    yield from _range("a port's MTU", port.mtu_bytes, 1, MTU_MAX)
    yield from _range("a port's rate", port.rate_kbytes_per_s, 0, 2**53)
    marks = filter(None, [port.vif_uuid, port.vm_uuid, port.network_uuid])
    yield from _texts("a port's mark", IDENTITY, marks)
    yield from _lock(port.lock)


def _lock(lock: PortLock) -> Iterator[str]:
    yield from _texts("a port's MAC", MAC, [lock.mac])
    for prefix in (*lock.ipv4_allowed, *lock.ipv6_allowed):
        yield from _parsed("an allowed address", _prefix, [prefix])
    for tag in lock.trunks:
        yield from _range("a trunk's tag", tag, 0, VLAN_TAG_MAX)


def _texts(what: str, pattern: re.Pattern[str], texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if pattern.match(text) is None:
            yield f"{what}: {text[:64]!r}"


def _parsed(what: str, parse: _Check, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        try:
            parse(text)
        except ValueError:
            yield f"{what}: {text[:64]!r}"
        else:
            if "%" in text:  # a zone is the name of an interface
                yield f"{what}: {text[:64]!r}"


def _range(what: str, value: int, least: int, most: int) -> Iterator[str]:
    if not least <= value <= most:
        yield f"{what}: {value}"


def _prefix(text: str) -> object:
    return ip_network(text, strict=False)
