"""Does an observed state satisfy a desired one, and if not, where?

The host daemon asks after it has applied a plan (empty = verified); `diff` uses `settle` so that a plan has
no step for a value that is already as wanted, only written differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from ipaddress import ip_interface, ip_network
from operator import attrgetter
from typing import Final, TypeAlias

from poolnet.hostnet.state import (
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    LinkSettings,
    LockMode,
    PortLock,
    SriovNic,
    VirtualFunction,
)

_BY_NAME: Final = attrgetter("name")
_BY_DEVICE: Final = attrgetter("device")
_Part: TypeAlias = Bridge | GuestPort | LinkSettings | VirtualFunction


def mismatches(observed: HostNetwork, desired: HostNetwork) -> tuple[str, ...]:
    """Every way in which `observed` is not `desired`, as sentences, bridges first.

    An unset desired value ("" for a bridge's MAC and a port's uuids) matches anything; addresses are compared
    by meaning, not by spelling; what an unlocked port's lists say does not matter. Foreign objects are not
    compared.
    """
    settled = settle(observed, desired)
    found = [
        *_compare_sets("bridge", _named(observed.bridges), _named(settled.bridges)),
        *_compare_sets("port", _ported(observed.ports), _ported(settled.ports)),
        *_compare_sets("link", _linked(observed.links), _linked(settled.links)),
        *_compare_functions(observed.sriov, settled.sriov),
    ]
    if set(observed.nbd_bridges) != set(settled.nbd_bridges):
        found.append(
            f"the NBD port is open on {_word(observed.nbd_bridges)}, not on {_word(settled.nbd_bridges)}"
        )
    if observed.http_closed != settled.http_closed:
        found.append(f"HTTP is {_open(observed.http_closed)}, not {_open(settled.http_closed)}")
    if observed.management_bridge != settled.management_bridge:
        found.append(f"management is on {observed.management_bridge!r}, not on {settled.management_bridge!r}")
    return tuple(found)


def settle(observed: HostNetwork, desired: HostNetwork) -> HostNetwork:
    """`desired`, sorted by name, with each value that `observed` already satisfies written as observed."""
    bridges = _named(observed.bridges)
    ports = _ported(observed.ports)
    return replace(
        desired,
        nbd_bridges=tuple(sorted(set(desired.nbd_bridges))),
        bridges=tuple(
            [
                wanted if (seen := bridges.get(wanted.name)) is wanted else _settle_bridge(seen, wanted)
                for wanted in sorted(desired.bridges, key=_BY_NAME)
            ]
        ),
        ports=tuple(
            [
                wanted if (at := ports.get(wanted.device)) is wanted else _settle_port(at, wanted)
                for wanted in sorted(desired.ports, key=_BY_DEVICE)
            ]
        ),
        links=tuple(
            replace(link, values=tuple(sorted(link.values)))
            for link in sorted(desired.links, key=_BY_NAME)
            if link.values
        ),
        sriov=_settle_functions(observed.sriov, desired.sriov),
    )


def _settle_functions(observed: tuple[SriovNic, ...], desired: tuple[SriovNic, ...]) -> tuple[SriovNic, ...]:
    """Sorted; a function's VIF that is not said matches any."""
    seen = {(nic.device, function.address): function for nic in observed for function in nic.functions}

    def settled(device: str, function: VirtualFunction) -> VirtualFunction:
        there = seen.get((device, function.address))
        mac = function.mac.lower()
        uuid = function.vif_uuid or (there.vif_uuid if there is not None else "")
        return replace(function, mac=mac, vif_uuid=uuid)

    return tuple(
        replace(
            nic,
            functions=tuple(
                settled(nic.device, function)
                for function in sorted(nic.functions, key=lambda function: function.address)
            ),
        )
        for nic in sorted(desired, key=lambda nic: nic.device)
    )


def _compare_functions(seen: tuple[SriovNic, ...], wanted: tuple[SriovNic, ...]) -> Iterator[str]:
    there, desired = {nic.device: nic for nic in seen}, {nic.device: nic for nic in wanted}
    for device in sorted(there.keys() | desired.keys()):
        old, new = there.get(device), desired.get(device)
        if old is None or new is None:
            yield f"NIC {device} should {'not ' if new is None else ''}have virtual functions"
            continue
        if old.mode is not new.mode:
            yield f"NIC {device}: its virtual functions come by {old.mode}, not by {new.mode}"
        yield from _compare_sets(
            f"virtual function of {device}",
            {function.address: function for function in old.functions},
            {function.address: function for function in new.functions},
        )


def same_kind(one: Bridge, other: Bridge) -> bool:
    """Can one bridge become the other in place? A VLAN's parent and tag cannot change; an uplink can."""
    return (one.parent, one.vlan_tag) == (other.parent, other.vlan_tag)


def _settle_bridge(seen: Bridge | None, wanted: Bridge) -> Bridge:
    if seen is None or seen == wanted or not same_kind(seen, wanted):
        return wanted
    return replace(
        wanted,
        mac=seen.mac if wanted.mac.lower() in ("", seen.mac.lower()) else wanted.mac,
        network_uuids=(
            seen.network_uuids
            if set(seen.network_uuids) == set(wanted.network_uuids)
            else wanted.network_uuids
        ),
        ip=seen.ip if _plain_ip(seen.ip) == _plain_ip(wanted.ip) else wanted.ip,
    )


def _settle_port(seen: GuestPort | None, wanted: GuestPort) -> GuestPort:
    if seen is None or seen == wanted:
        return wanted
    return replace(
        wanted,
        lock=seen.lock if _plain_lock(seen.lock) == _plain_lock(wanted.lock) else wanted.lock,
        vif_uuid=wanted.vif_uuid or seen.vif_uuid,
        vm_uuid=wanted.vm_uuid or seen.vm_uuid,
        network_uuid=wanted.network_uuid or seen.network_uuid,
    )


def _plain_ip(config: IpConfig) -> IpConfig:
    return replace(
        config,
        ipv4_address=_plain_interface(config.ipv4_address),
        ipv6_addresses=tuple(sorted({_plain_interface(address) for address in config.ipv6_addresses})),
        ipv6_gateway=_plain_interface(config.ipv6_gateway),
        routes=tuple(sorted(set(config.routes))),
    )


def _plain_lock(lock: PortLock) -> PortLock:
    trunks = tuple(sorted(set(lock.trunks)))
    if lock.mode is not LockMode.LOCKED:
        return PortLock(mode=lock.mode, mac=lock.mac.lower(), trunks=trunks)
    return replace(
        lock,
        mac=lock.mac.lower(),
        ipv4_allowed=tuple(sorted({_plain_prefix(text) for text in lock.ipv4_allowed})),
        ipv6_allowed=tuple(sorted({_plain_prefix(text) for text in lock.ipv6_allowed})),
        trunks=trunks,
    )


def _plain_interface(text: str) -> str:
    try:
        return str(ip_interface(text))
    except ValueError:
        return text  # not an address: compared as text, and refused by whoever must use it


def _plain_prefix(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return text


def _named(bridges: tuple[Bridge, ...]) -> dict[str, Bridge]:
    return {bridge.name: bridge for bridge in bridges}


def _ported(ports: tuple[GuestPort, ...]) -> dict[str, GuestPort]:
    return {port.device: port for port in ports}


def _linked(links: tuple[LinkSettings, ...]) -> dict[str, LinkSettings]:
    return {link.name: link for link in links}


def _compare_sets(
    noun: str,
    seen: Mapping[str, _Part],
    wanted: Mapping[str, _Part],
) -> Iterator[str]:
    for name in sorted(seen.keys() | wanted.keys()):
        there, desired = seen.get(name), wanted.get(name)
        if there is None:
            yield f"{noun} {name} is missing"
        elif desired is None:
            yield f"{noun} {name} should not exist"
        elif there is not desired:
            yield from _compare_fields(f"{noun} {name}", there, desired)


def _compare_fields(subject: str, seen: _Part, wanted: _Part) -> Iterator[str]:
    for attribute in fields(seen):
        there, desired = getattr(seen, attribute.name), getattr(wanted, attribute.name)
        if there == desired:
            continue
        if isinstance(there, IpConfig | PortLock):
            for part in fields(there):
                before, after = getattr(there, part.name), getattr(desired, part.name)
                if before != after:
                    yield f"{subject}: {attribute.name}.{part.name} is {_word(before)}, not {_word(after)}"
        else:
            yield f"{subject}: {attribute.name} is {_word(there)}, not {_word(desired)}"


def _word(value: object) -> str:
    if isinstance(value, tuple):
        items = (" ".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in value)
        return "[" + ", ".join(items) + "]"
    return f"{value}" if not isinstance(value, str) or value else "unset"


def _open(closed: bool) -> str:
    return "closed" if closed else "open"
