"""What is the bridge of a PIF, and that of a network that has none here? `derive` asks, having found which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from poolnet.hostnet.mtu import bridge_mtu, network_mtu
from poolnet.hostnet.state import (
    NO_IP,
    BondMode,
    BondOptions,
    Bridge,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    Uplink,
)
from poolnet.hostnet.written import (
    ipv4_with_prefix,
    ipv6_with_prefixes,
    is_number,
    listed,
    plain_address,
    plain_addresses,
    reachable,
    static_routes,
)
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PrimaryAddressType

HIMN_KEY: Final = "is_host_internal_management_network"

_IPV4_MODES: Final[Mapping[IpConfigurationMode, Ipv4Mode]] = {
    IpConfigurationMode.NONE: Ipv4Mode.NONE,
    IpConfigurationMode.DHCP: Ipv4Mode.DHCP,
    IpConfigurationMode.STATIC: Ipv4Mode.STATIC,
}
_IPV6_MODES: Final[Mapping[Ipv6ConfigurationMode, Ipv6Mode]] = {
    Ipv6ConfigurationMode.NONE: Ipv6Mode.NONE,
    Ipv6ConfigurationMode.DHCP: Ipv6Mode.DHCP,
    Ipv6ConfigurationMode.STATIC: Ipv6Mode.STATIC,
    Ipv6ConfigurationMode.AUTOCONF: Ipv6Mode.AUTOCONF,
}
_BOND_TIMES: Final = {
    "miimon": "miimon_ms",
    "updelay": "updelay_ms",
    "downdelay": "downdelay_ms",
    "rebalance-interval": "rebalance_interval_ms",
}


class Sources(NamedTuple):
    """All that a PIF's bridge is made from; `is_gateway` and `is_dns`: it gives the host its default route, its name servers.

    `mac` and `uuids` (of networks; none: that of its own) are what a VLAN takes over. With an `ip` the PIF's own addresses
    do not count.
    """

    pif: PIF
    network: Network
    pool: Pool | None
    mac: str
    ip: IpConfig | None = None
    uplink: Uplink | None = None
    parent: str = ""
    vlan_tag: int = -1
    uuids: tuple[str, ...] = ()
    is_gateway: bool = False
    is_dns: bool = False


class Lower(NamedTuple):
    """What a VLAN's bridge takes over from the NIC or bond that it is on."""

    bridge: str
    network_uuid: str
    mac: str


def vlan_sources(pif: PIF, network: Network, pool: Pool | None, lower: Lower, tag: int) -> Sources:
    """What a VLAN's bridge is made from."""
    uuids = (network.uuid, lower.network_uuid)
    return Sources(pif, network, pool, lower.mac, parent=lower.bridge, vlan_tag=tag, uuids=uuids)


def bridge_of(sources: Sources) -> Bridge:
    """The bridge of a PIF that is attached, or that has VLANs which are."""
    pif, network, pool = sources.pif, sources.network, sources.pool
    merged = {**_merged(pool, network), **pif.other_config}
    return Bridge(
        name=network.bridge,
        uplink=sources.uplink,
        parent=sources.parent,
        vlan_tag=sources.vlan_tag,
        mac=sources.mac.lower() if sources.mac.count(":") == 5 else "",
        mtu_bytes=bridge_mtu(pif, network),
        network_uuids=sources.uuids or (network.uuid,),
        ip=_ip(sources) if sources.ip is None else sources.ip,
        igmp_snooping=bool(pool and pool.igmp_snooping_enabled and not sources.parent),
        fail_mode_secure=merged.get("vswitch-controller-fail-mode") == "secure",
    )


def internal_bridge(network: Network, pool: Pool | None) -> Bridge:
    """The bridge of a network without a PIF on this host."""
    return Bridge(
        name=network.bridge,
        mtu_bytes=network_mtu(network),
        network_uuids=(network.uuid,),
        ip=_himn_ip(network) if himn(network) else NO_IP,
        fail_mode_secure=_merged(pool, network).get("vswitch-controller-fail-mode") == "secure",
    )


def himn(network: Network) -> bool:
    """Is this the host internal management network (spec §7.9)?"""
    return network.other_config.get(HIMN_KEY) == "true"


def bond_options(bond: Bond, other_config: Mapping[str, str]) -> BondOptions:
    """How the members share traffic: the bond's mode and properties, overridden by the master's keys (spec §9.6)."""
    overrides = {k.removeprefix("bond-"): v for k, v in other_config.items() if k.startswith("bond-")}
    modes = {mode.value: mode for mode in BondMode}
    times = {
        field: int(overrides.pop(key))
        for key, field in _BOND_TIMES.items()
        if is_number(overrides.get(key, ""))
    }
    use_carrier = overrides.pop("use_carrier", "1")
    mode = modes.get(overrides.pop("mode", ""), modes[bond.mode.value])
    properties = {**bond.properties, **overrides}
    return BondOptions(
        mode=mode,
        use_carrier=not is_number(use_carrier) or int(use_carrier) > 0,
        properties=tuple(sorted(properties.items())),
        **times,
    )


def _himn_ip(network: Network) -> IpConfig:
    config = network.other_config
    address = ipv4_with_prefix(config.get("ip_begin", ""), config.get("netmask", ""))
    return IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=address) if address else NO_IP


def _merged(pool: Pool | None, network: Network) -> Mapping[str, str]:
    """The keys of pool and network; the network's win (spec §24.5)."""
    return {**(pool.other_config if pool else {}), **network.other_config}


def _ip(sources: Sources) -> IpConfig:
    """The host's addresses on a PIF's bridge; gateway and DNS only where they are chosen (spec §24.4)."""
    pif, network, is_gateway, is_dns = sources.pif, sources.network, sources.is_gateway, sources.is_dns
    mode4, address4 = _IPV4_MODES[pif.ip_configuration_mode], ""
    if mode4 is Ipv4Mode.STATIC:
        address4 = ipv4_with_prefix(pif.IP, pif.netmask)
        mode4 = mode4 if address4 else Ipv4Mode.NONE
    mode6 = _IPV6_MODES[pif.ipv6_configuration_mode]
    addresses6: tuple[str, ...] = ()
    if mode6 is Ipv6Mode.STATIC:
        addresses6 = ipv6_with_prefixes(pif.IPv6)
        mode6 = mode6 if addresses6 else Ipv6Mode.NONE
    is_ipv6 = pif.primary_address_type is PrimaryAddressType.IPV6
    static = mode6 in (Ipv6Mode.STATIC, Ipv6Mode.AUTOCONF) if is_ipv6 else mode4 is Ipv4Mode.STATIC
    dhcp = Ipv4Mode.DHCP is mode4 or Ipv6Mode.DHCP is mode6
    found = IpConfig(
        ipv4_mode=mode4,
        ipv4_address=address4,
        ipv4_gateway=plain_address(pif.gateway, 4) if is_gateway and mode4 is Ipv4Mode.STATIC else "",
        ipv6_mode=mode6,
        ipv6_addresses=addresses6,
        ipv6_gateway=plain_address(pif.ipv6_gateway, 6) if is_gateway and mode6 is Ipv6Mode.STATIC else "",
        dns_servers=plain_addresses(pif.DNS.split(",")) if is_dns and static else (),
        dns_search=listed(pif.other_config.get("domain", "")) if is_dns and static else (),
        routes=reachable(static_routes(network.other_config.get("static-routes", "")), mode4, address4),
        dhcp_routes=is_gateway and (dhcp or mode6 is Ipv6Mode.AUTOCONF),
        dhcp_dns=is_dns and dhcp,
    )
    return NO_IP if found == NO_IP else found  # most bridges have this one, which is known at a glance
