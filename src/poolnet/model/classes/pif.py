"""What is a PIF? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes import pci, vlan
    from poolnet.model.classes.bond import Bond
    from poolnet.model.classes.host import Host
    from poolnet.model.classes.network import Network
    from poolnet.model.classes.network_sriov import NetworkSriov
    from poolnet.model.classes.pif_metrics import PIFMetrics
    from poolnet.model.classes.tunnel import Tunnel
    from poolnet.model.enums import (
        IpConfigurationMode,
        Ipv6ConfigurationMode,
        PifIgmpStatus,
        PrimaryAddressType,
    )
    from poolnet.model.types import Ref


@api_class("PIF", events=True, role=Role.POOL_OPERATOR)
class PIF(Row):
    """The API class PIF."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    device: str = static(default=NO_DEFAULT, doc="")
    network: Ref[Network] = static(default=NO_DEFAULT, doc="")
    host: Ref[Host] = static(default=NO_DEFAULT, doc="")
    MAC: str = static(default=NO_DEFAULT, doc="")
    MTU: int = static(default=NO_DEFAULT, doc="")
    VLAN: int = static(default=NO_DEFAULT, doc="")
    metrics: Ref[PIFMetrics] = dynamic(default=NO_DEFAULT, doc="")
    physical: bool = dynamic(default=False, since="miami", doc="")
    currently_attached: bool = dynamic(default=True, since="miami", doc="")
    ip_configuration_mode: IpConfigurationMode = dynamic(default="None", since="miami", doc="")
    IP: str = dynamic(default="", since="miami", doc="")
    netmask: str = dynamic(default="", since="miami", doc="")
    gateway: str = dynamic(default="", since="miami", doc="")
    DNS: str = dynamic(default="", since="miami", doc="")
    bond_slave_of: Ref[Bond] = dynamic(default="", since="miami", doc="")
    bond_master_of: tuple[Ref[Bond], ...] = dynamic(default=NO_DEFAULT, computed=True, since="miami", doc="")
    VLAN_master_of: Ref[vlan.VLAN] = dynamic(default="", since="miami", doc="")
    VLAN_slave_of: tuple[Ref[vlan.VLAN], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="miami", doc=""
    )
    management: bool = dynamic(default=False, since="miami", doc="")
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="")
    disallow_unplug: bool = dynamic(default=False, since="orlando", doc="")
    tunnel_access_PIF_of: tuple[Ref[Tunnel], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="cowley", doc=""
    )
    tunnel_transport_PIF_of: tuple[Ref[Tunnel], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="cowley", doc=""
    )
    ipv6_configuration_mode: Ipv6ConfigurationMode = dynamic(default="None", since="tampa", doc="")
    IPv6: tuple[str, ...] = dynamic(default=(), since="tampa", doc="")
    ipv6_gateway: str = dynamic(default="", since="tampa", doc="")
    primary_address_type: PrimaryAddressType = dynamic(default="IPv4", since="tampa", doc="")
    managed: bool = static(default=True, since="vgpu-productisation", doc="")
    properties: Mapping[str, str] = dynamic(default={}, since="creedence", doc="")
    capabilities: tuple[str, ...] = dynamic(default=(), since="dundee", doc="")
    igmp_snooping_status: PifIgmpStatus = dynamic(default="unknown", since="inverness", doc="")
    sriov_physical_PIF_of: tuple[Ref[NetworkSriov], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="kolkata", doc=""
    )
    sriov_logical_PIF_of: tuple[Ref[NetworkSriov], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="kolkata", doc=""
    )
    PCI: Ref[pci.PCI] = dynamic(default=NULL, since="kolkata", doc="")
    device_name: str = rw(default=NO_DEFAULT, internal=True, doc="")


MESSAGES = (
    message(
        "create_VLAN",
        {"device": "string", "network": "ref:network", "host": "ref:host", "VLAN": "int"},
        "ref:PIF",
        errors=("VLAN_TAG_INVALID",),
        state="deprecated",
        deprecated_since="miami",
        doc="",
    ),
    message(
        "destroy",
        {"self": "ref:PIF"},
        errors=("PIF_IS_PHYSICAL",),
        state="deprecated",
        deprecated_since="miami",
        doc="",
    ),
    message(
        "reconfigure_ip",
        {
            "self": "ref:PIF",
            "mode": "enum:ip_configuration_mode",
            "IP": "string",
            "netmask": "string",
            "gateway": "string",
            "DNS": "string",
        },
        errors=("CLUSTERING_ENABLED",),
        since="miami",
        doc="",
    ),
    message(
        "reconfigure_ipv6",
        {
            "self": "ref:PIF",
            "mode": "enum:ipv6_configuration_mode",
            "IPv6": "string",
            "gateway": "string",
            "DNS": "string",
        },
        errors=("CLUSTERING_ENABLED",),
        since="tampa",
        doc="",
    ),
    message(
        "set_primary_address_type",
        {"self": "ref:PIF", "primary_address_type": "enum:primary_address_type"},
        since="tampa",
        doc="",
    ),
    message("scan", {"host": "ref:host"}, since="miami", doc=""),
    message(
        "introduce",
        {"host": "ref:host", "MAC": "string", "device": "string", "managed": optional("bool", True)},
        "ref:PIF",
        since="miami",
        doc="",
    ),
    message(
        "forget",
        {"self": "ref:PIF"},
        errors=("PIF_TUNNEL_STILL_EXISTS", "CLUSTERING_ENABLED"),
        since="miami",
        doc="",
    ),
    message(
        "unplug",
        {"self": "ref:PIF"},
        errors=(
            "HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN",
            "VIF_IN_USE",
            "PIF_DOES_NOT_ALLOW_UNPLUG",
            "PIF_HAS_FCOE_SR_IN_USE",
        ),
        since="miami",
        doc="",
    ),
    message(
        "set_disallow_unplug",
        {"self": "ref:PIF", "value": "bool"},
        errors=("OTHER_OPERATION_IN_PROGRESS", "CLUSTERING_ENABLED"),
        since="orlando",
        doc="",
    ),
    message("plug", {"self": "ref:PIF"}, errors=("TRANSPORT_PIF_NOT_CONFIGURED",), since="miami", doc=""),
    message(
        "pool_introduce",
        {
            "device": "string",
            "network": "ref:network",
            "host": "ref:host",
            "MAC": "string",
            "MTU": "int",
            "VLAN": "int",
            "physical": "bool",
            "ip_configuration_mode": "enum:ip_configuration_mode",
            "IP": "string",
            "netmask": "string",
            "gateway": "string",
            "DNS": "string",
            "bond_slave_of": "ref:Bond",
            "VLAN_master_of": "ref:VLAN",
            "management": "bool",
            "other_config": "map:string:string",
            "disallow_unplug": optional("bool", False),
            "ipv6_configuration_mode": optional("enum:ipv6_configuration_mode", "None"),
            "IPv6": optional("set:string", ()),
            "ipv6_gateway": optional("string", ""),
            "primary_address_type": optional("enum:primary_address_type", "IPv4"),
            "managed": optional("bool", True),
            "properties": optional("map:string:string", {}),
        },
        "ref:PIF",
        flags=("hidden",),
        doc="",
    ),
    message(
        "db_introduce",
        {
            "device": "string",
            "network": "ref:network",
            "host": "ref:host",
            "MAC": "string",
            "MTU": "int",
            "VLAN": "int",
            "physical": "bool",
            "ip_configuration_mode": "enum:ip_configuration_mode",
            "IP": "string",
            "netmask": "string",
            "gateway": "string",
            "DNS": "string",
            "bond_slave_of": "ref:Bond",
            "VLAN_master_of": "ref:VLAN",
            "management": "bool",
            "other_config": "map:string:string",
            "disallow_unplug": optional("bool", False),
            "ipv6_configuration_mode": optional("enum:ipv6_configuration_mode", "None"),
            "IPv6": optional("set:string", ()),
            "ipv6_gateway": optional("string", ""),
            "primary_address_type": optional("enum:primary_address_type", "IPv4"),
            "managed": optional("bool", True),
            "properties": optional("map:string:string", {}),
        },
        "ref:PIF",
        since="orlando",
        doc="",
    ),
    message("db_forget", {"self": "ref:PIF"}, since="orlando", doc=""),
    message(
        "set_property", {"self": "ref:PIF", "name": "string", "value": "string"}, since="creedence", doc=""
    ),
)
