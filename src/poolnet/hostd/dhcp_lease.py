"""What did a DHCP server lease to an interface, until when, and what follows? Read from what the DHCP client reported.

The client runs `REPORTER` at every event; it keeps the events that give or take a lease as one file per interface, with
the time of the event in the clock of /proc/uptime. Called by `dhcp`
and `addressing`. Every value in a report comes from the
network: what is not an address or a name of the expected form is left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from pathlib import Path
from typing import Final

from poolnet.hostnet.state import IpConfig, Ipv4Mode, Ipv6Mode

FOREVER_S: Final = 0xFFFFFFFF  # RFC 2131 §3.3
DEFAULT_ROUTE: Final = "default"
SERVERS_MAX: Final = 3  # MAXNS of <resolv.h>
DOMAINS_MAX: Final = 6
UPTIME: Final = "poolnet_uptime"
_GIVES: Final = frozenset(("BOUND", "RENEW", "REBIND", "REBOOT"))
_GIVES6: Final = frozenset(f"{reason}6" for reason in _GIVES)
_ADDRESS6: Final = re.compile(r"new_dhcp6_ia_na[0-9]+_ia_addr[0-9]+")
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?\Z", re.ASCII)

# An expiry is not reported: it is computed, and the client says the same when its interface vanishes for a moment.
_REPORTER = """#!/bin/sh
# Written by poolnet-hostd. The DHCP client runs it at every event; the lease is reported to poolnet-hostd.
case $reason in
{gives} | NAK) suffix={suffix} ;;
{gives6}) suffix={suffix6} ;;
*) exit 0 ;;
esac
set -eu
umask 077
cd {directory}
read -r {uptime} _ </proc/uptime
export {uptime}
env -0 >".$interface.new$suffix"
mv ".$interface.new$suffix" "$interface.$suffix"
echo "$interface" 1<>{events}
"""
REPORT_SUFFIX: Final = "report"
REPORT6_SUFFIX: Final = "report6"
EVENTS: Final = "events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What was leased. `routes` are (destination or `default`, gateway); times are in seconds of /proc/uptime."""

    address: str  # A.B.C.D/len
    routes: tuple[tuple[str, str], ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    since_s: float = 0.0
    expires_s: float | None = None  # None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease6:
    """What was leased of IPv6. Routes come from router advertisements, never from DHCP; the prefix length is 128."""

    addresses: tuple[str, ...]  # ADDRESS/128
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    since_s: float = 0.0
    expires_s: float | None = None  # the first of the addresses; None: never


def reporter(directory: Path) -> str:
    """The text of the program that the client runs at every event; its reports go to the directory."""
    return _REPORTER.format(
        gives=" | ".join(sorted(_GIVES)),
        gives6=" | ".join(sorted(_GIVES6)),
        directory=shlex.quote(str(directory)),
        uptime=UPTIME,
        suffix=REPORT_SUFFIX,
        suffix6=REPORT6_SUFFIX,
        events=EVENTS,
    )


def read_report(report: bytes, now_s: float) -> Lease | None:
    """The lease that a report gives, if it holds at that time of /proc/uptime; None for every other report."""
    values = _values(report)
    if values.get("reason") not in _GIVES:
        return None
    address = _interface(values.get("new_ip_address", ""), values.get("new_subnet_cidr", ""))
    since_s = _seconds(values.get(UPTIME, ""))
    if address is None or since_s is None or since_s > now_s:  # later than now: of an earlier boot
        return None
    lasts_s = _seconds(values.get("new_dhcp_lease_time", ""))
    expires_s = None if lasts_s is None or lasts_s >= FOREVER_S else since_s + lasts_s
    if expires_s is not None and expires_s <= now_s:
        return None
    return Lease(
        address=str(address),
        routes=tuple(_routes(values, address)),
        dns_servers=tuple(map(str, _addresses(values.get("new_domain_name_servers", ""))))[:SERVERS_MAX],
        dns_search=tuple(_domains(values.get("new_domain_search") or values.get("new_domain_name", ""))),
        since_s=since_s,
        expires_s=expires_s,
    )


def read_report6(report: bytes, now_s: float) -> Lease6 | None:
    """The IPv6 lease that a report gives, as far as it holds at that time; None for every other report."""
    values = _values(report)
    since_s = _seconds(values.get(UPTIME, ""))
    if values.get("reason") not in _GIVES6 or since_s is None or since_s > now_s:
        return None
    held: dict[str, float | None] = {}
    for name in filter(_ADDRESS6.fullmatch, values):
        lasts_s = _seconds(values.get(f"{name}_vltime", ""))
        expires_s = None if lasts_s is None or lasts_s >= FOREVER_S else since_s + lasts_s
        address = _global(values[name])
        if address is not None and (expires_s is None or expires_s > now_s):
            held[f"{address}/128"] = expires_s
    if not held:
        return None
    servers = (_global(word) for word in values.get("new_dhcp6_name_servers", "").split())
    return Lease6(
        addresses=tuple(sorted(held)),
        dns_servers=tuple(str(server) for server in servers if server is not None)[:SERVERS_MAX],
        dns_search=tuple(_domains(values.get("new_dhcp6_domain_search", ""))),
        since_s=since_s,
        expires_s=min((end for end in held.values() if end is not None), default=None),
    )


def as_leased(ip: IpConfig, lease: Lease | None, lease6: Lease6 | None = None) -> IpConfig:
    """What a bridge that asks for leases has to have: as if somebody had written them down as static addresses.

    What is configured beside a lease, the other family or name servers, stays.
    """
    if ip.ipv6_mode is Ipv6Mode.DHCP:
        ip = replace(ip, ipv6_addresses=lease6.addresses if lease6 is not None else ())
    leases = [one for one in (lease, lease6) if one is not None and ip.dhcp_dns]
    servers = (*ip.dns_servers, *(server for one in leases for server in one.dns_servers))
    domains = (*ip.dns_search, *(domain for one in leases for domain in one.dns_search))
    ip = replace(
        ip,
        dns_servers=tuple(dict.fromkeys(servers))[:SERVERS_MAX] if leases else ip.dns_servers,
        dns_search=tuple(dict.fromkeys(domains))[:DOMAINS_MAX] if leases else ip.dns_search,
    )
    if ip.ipv4_mode is not Ipv4Mode.DHCP:
        return ip
    if lease is None:
        return replace(ip, ipv4_mode=Ipv4Mode.NONE)
    routes = dict(lease.routes) if ip.dhcp_routes else {}
    gateway = routes.pop(DEFAULT_ROUTE, "")
    return replace(
        ip,
        ipv4_mode=Ipv4Mode.STATIC,
        ipv4_address=lease.address,
        ipv4_gateway=gateway,
        routes=(
            *(f"{destination} via {via}" for destination, via in routes.items()),
            *_on_link(ip.routes, lease),
        ),
    )


def _on_link(routes: Sequence[str], lease: Lease) -> Iterator[str]:
    """The configured routes whose gateway is in the leased subnet."""
    network = IPv4Interface(lease.address).network
    return (route for route in routes if IPv4Address(route.partition(" via ")[2]) in network)


def _values(report: bytes) -> dict[str, str]:
    words = (entry.partition("=") for entry in report.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in words}


def _global(text: str) -> IPv6Address | None:
    """An address that other machines can be reached at or with; None for everything else."""
    try:
        address = IPv6Address(text)
    except ValueError:
        return None
    usable = not (address.is_unspecified or address.is_multicast or address.is_loopback)
    return address if usable and not address.is_link_local and address.scope_id is None else None


def _interface(address: str, length: str) -> IPv4Interface | None:
    """The leased address; without a mask (RFC 2132 §3.3) it stands alone."""
    try:
        interface = IPv4Interface(f"{address}/{length or 32}")
    except ValueError:
        return None
    own = interface.ip  # what is_… says of an interface is about its network
    return None if own.is_unspecified or own.is_multicast or own.is_loopback else interface


def _routes(values: Mapping[str, str], own: IPv4Interface) -> Iterator[tuple[str, str]]:
    """RFC 3442: with classless routes the option Router does not count. Gateways that cannot be reached are left out."""
    classless = values.get("new_classless_static_routes", "").split()
    if classless:
        pairs: Sequence[tuple[str, str]] = list(zip(classless[::2], classless[1::2], strict=False))
    else:
        routers = _addresses(values.get("new_routers", ""))
        pairs = [("0.0.0.0/0", str(router)) for router in routers][:1]
    seen: set[IPv4Network] = set()
    for destination, gateway in pairs:
        try:
            network, via = IPv4Network(destination), IPv4Address(gateway)
        except ValueError:
            continue
        if via in own.network and via != own.ip and network not in seen:
            seen.add(network)
            yield (str(network) if network.prefixlen else DEFAULT_ROUTE), str(via)


def _addresses(text: str) -> Iterator[IPv4Address]:
    for word in text.split():
        try:
            address = IPv4Address(word)
        except ValueError:
            continue
        if not (address.is_unspecified or address.is_multicast):
            yield address


def _domains(text: str) -> Sequence[str]:
    return [word for word in text.split() if _DOMAIN.match(word)][:DOMAINS_MAX]


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
