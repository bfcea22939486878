"""What is a PIF? The class PIF of the XenAPI."""

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
    """One host's interface to a network: a NIC, a bond, a VLAN, a tunnel's end, or an SR-IOV NIC's share."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    device: str = static(
        default=NO_DEFAULT,
        doc="The kernel's name of the NIC, or bondN, or tunnelN; a VLAN has that of the PIF below.",
    )
    network: Ref[Network] = static(default=NO_DEFAULT, doc="The network that it joins its host to.")
    host: Ref[Host] = static(default=NO_DEFAULT, doc="The host it is on.")
    MAC: str = static(
        default=NO_DEFAULT, doc="Its MAC address; VLANs and SR-IOV logical PIFs have fe:ff:ff:ff:ff:ff."
    )
    MTU: int = static(
        default=NO_DEFAULT, doc="The largest packet in bytes; -1 for a bond or tunnel that was never up."
    )
    VLAN: int = static(default=NO_DEFAULT, doc="The tag of a VLAN, else -1.")
    metrics: Ref[PIFMetrics] = dynamic(
        default=NO_DEFAULT, doc="What is measured of it; shared with the PIF below, if there is one."
    )
    physical: bool = dynamic(default=False, since="miami", doc="Whether it is a NIC.")
    currently_attached: bool = dynamic(
        default=True, since="miami", doc="Whether it is up and joined to its network's bridge."
    )
    ip_configuration_mode: IpConfigurationMode = dynamic(
        default="None", since="miami", doc="Where its IPv4 address comes from."
    )
    IP: str = dynamic(default="", since="miami", doc="Its IPv4 address, without a prefix length.")
    netmask: str = dynamic(default="", since="miami", doc="The netmask of its IPv4 address.")
    gateway: str = dynamic(default="", since="miami", doc="The IPv4 gateway.")
    DNS: str = dynamic(default="", since="miami", doc="The name servers, separated by commas.")
    bond_slave_of: Ref[Bond] = dynamic(default="", since="miami", doc="The bond that it is a member of.")
    bond_master_of: tuple[Ref[Bond], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="miami", doc="The bond that it is the interface of."
    )
    VLAN_master_of: Ref[vlan.VLAN] = dynamic(
        default="", since="miami", doc="The VLAN that it is the untagged interface of."
    )
    VLAN_slave_of: tuple[Ref[vlan.VLAN], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="miami", doc="The VLANs on it."
    )
    management: bool = dynamic(
        default=False, since="miami", doc="Whether the API is served on it and the pool talks through it."
    )
    other_config: Mapping[str, str] = rw(default={}, since="miami", doc="Further settings, by key.")
    disallow_unplug: bool = dynamic(
        default=False, since="orlando", doc="Whether it must stay up, because storage needs it."
    )
    tunnel_access_PIF_of: tuple[Ref[Tunnel], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="cowley", doc="The tunnel whose inside it is."
    )
    tunnel_transport_PIF_of: tuple[Ref[Tunnel], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="cowley", doc="The tunnels that it carries."
    )
    ipv6_configuration_mode: Ipv6ConfigurationMode = dynamic(
        default="None", since="tampa", doc="Where its IPv6 addresses come from."
    )
    IPv6: tuple[str, ...] = dynamic(default=(), since="tampa", doc="Its IPv6 addresses, with prefix lengths.")
    ipv6_gateway: str = dynamic(default="", since="tampa", doc="The IPv6 gateway.")
    primary_address_type: PrimaryAddressType = dynamic(
        default="IPv4", since="tampa", doc="The family of the address by which the host is known on it."
    )
    managed: bool = static(default=True, since="vgpu-productisation", doc="Whether poolnet configures it.")
    properties: Mapping[str, str] = dynamic(
        default={}, since="creedence", doc="Settings of the NIC, such as gro."
    )
    capabilities: tuple[str, ...] = dynamic(
        default=(), since="dundee", doc="What the NIC can do, such as sriov or fcoe."
    )
    igmp_snooping_status: PifIgmpStatus = dynamic(
        default="unknown", since="inverness", doc="Whether its bridge snoops IGMP."
    )
    sriov_physical_PIF_of: tuple[Ref[NetworkSriov], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="kolkata", doc="The SR-IOV network whose NIC it is."
    )
    sriov_logical_PIF_of: tuple[Ref[NetworkSriov], ...] = dynamic(
        default=NO_DEFAULT,
        computed=True,
        since="kolkata",
        doc="The SR-IOV network whose logical interface it is.",
    )
    PCI: Ref[pci.PCI] = dynamic(default=NULL, since="kolkata", doc="The NIC's PCI device.")
    device_name: str = rw(default=NO_DEFAULT, internal=True, doc="Unused.")


MESSAGES = (
    message(
        "create_VLAN",
        {"device": "string", "network": "ref:network", "host": "ref:host", "VLAN": "int"},
        "ref:PIF",
        errors=("VLAN_TAG_INVALID",),
        state="deprecated",
        deprecated_since="miami",
        doc="Makes a VLAN on a device of a host and gives its PIF (use VLAN.create).",
    ),
    message(
        "destroy",
        {"self": "ref:PIF"},
        errors=("PIF_IS_PHYSICAL",),
        state="deprecated",
        deprecated_since="miami",
        doc="Destroys a VLAN by its PIF (use VLAN.destroy).",
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
        doc="Sets how it gets its IPv4 address, and applies that.",
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
        doc="Sets how it gets its IPv6 addresses, and applies that.",
    ),
    message(
        "set_primary_address_type",
        {"self": "ref:PIF", "primary_address_type": "enum:primary_address_type"},
        since="tampa",
        doc="Sets the family of the address by which the host is known on it.",
    ),
    message(
        "scan",
        {"host": "ref:host"},
        since="miami",
        doc="Looks for NICs of a host that have no PIF, and makes one for each.",
    ),
    message(
        "introduce",
        {"host": "ref:host", "MAC": "string", "device": "string", "managed": optional("bool", True)},
        "ref:PIF",
        since="miami",
        doc="Makes the PIF of one NIC of a host.",
    ),
    message(
        "forget",
        {"self": "ref:PIF"},
        errors=("PIF_TUNNEL_STILL_EXISTS", "CLUSTERING_ENABLED"),
        since="miami",
        doc="Removes the PIF of a NIC; nothing may rest on it.",
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
        doc="Takes it down; no VM, storage or management may need it.",
    ),
    message(
        "set_disallow_unplug",
        {"self": "ref:PIF", "value": "bool"},
        errors=("OTHER_OPERATION_IN_PROGRESS", "CLUSTERING_ENABLED"),
        since="orlando",
        doc="Sets whether it must stay up.",
    ),
    message(
        "plug",
        {"self": "ref:PIF"},
        errors=("TRANSPORT_PIF_NOT_CONFIGURED",),
        since="miami",
        doc="Brings it up, and what lies below it.",
    ),
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
        doc="Makes a PIF's record with these values, for another host.",
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
        doc="Makes a PIF's record with these values and changes nothing else.",
    ),
    message(
        "db_forget",
        {"self": "ref:PIF"},
        since="orlando",
        doc="Removes a PIF's record and changes nothing else.",
    ),
    message(
        "set_property",
        {"self": "ref:PIF", "name": "string", "value": "string"},
        since="creedence",
        doc="Sets a setting of the NIC; only gro is known.",
    ),
)
