"""Which fields do networks, NICs and virtual interfaces show on the command line?"""

from __future__ import annotations

from typing import Final

from poolnet.model.errors import Failure
from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Compute, column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import NOT_IN_DATABASE, UNKNOWN, Texts, decimals

BYTES_PER_KB: Final = 1024


def _rate(method: str, owner: str, prefix: str, suffix: str) -> Compute:
    """Make a field of the rate, in KiB/s, that a data source of the owner measures for the device."""

    async def rate(reader: Reader, ref: str, record: Record) -> Texts:
        source = f"{prefix}_{record['device']}_{suffix}"
        try:
            measured = await reader.caller.call(method, record[owner], source)
        except Failure:
            return UNKNOWN
        return decimals(measured / BYTES_PER_KB) if isinstance(measured, int | float) else UNKNOWN

    return rate


async def _speed(reader: Reader, ref: str, record: Record) -> Texts:
    metrics = await reader.record("PIF_metrics", str(record["metrics"]))
    return NOT_IN_DATABASE if metrics is None else f"{metrics['speed']} Mbit/s"


async def _duplex(reader: Reader, ref: str, record: Record) -> Texts:
    metrics = await reader.record("PIF_metrics", str(record["metrics"]))
    if metrics is None:
        return NOT_IN_DATABASE
    if metrics["duplex"]:
        return "full"
    return "half" if metrics["carrier"] else "unknown"


async def _remaining_capacity(reader: Reader, ref: str, record: Record) -> Texts:
    try:
        return str(await reader.caller.call("network_sriov.get_remaining_capacity", ref))
    except Failure:
        return UNKNOWN


NETWORK = table(
    "network",
    "network",
    shown="uuid name-label name-description bridge",
    columns=(
        column("uuid"),
        column("name-label"),
        column("name-description"),
        column("VIF-uuids", "VIFs"),
        column("PIF-uuids", "PIFs"),
        column("MTU", old=True),
        column("bridge"),
        column("managed"),
        column("other-config"),
        column("blobs"),
        column("tags", comma=True),
        column("default-locking-mode"),
        column("purpose", comma=True),
    ),
)

PIF = table(
    "pif",
    "PIF",
    shown="uuid device MAC currently-attached VLAN network-uuid host-uuid",
    columns=(
        column("uuid"),
        column("device"),
        column("MAC", any_case=True),
        column("physical"),
        column("managed"),
        column("currently-attached"),
        column("MTU"),
        column("VLAN"),
        column("vlan-master-of", "VLAN_master_of"),
        column("vlan-slave-of", "VLAN_slave_of", plain=True),
        column("bond-master-of", plain=True),
        column("bond-slave-of"),
        column("sriov-physical-PIF-of", plain=True),
        column("sriov-logical-PIF-of", plain=True),
        column("tunnel-access-PIF-of", plain=True),
        column("tunnel-transport-PIF-of", plain=True),
        column("management"),
        column("network-uuid", "network"),
        column("network-name-label", "network", by_name=True),
        column("host-uuid", "host"),
        column("host-name-label", "host", by_name=True),
        column("IP-configuration-mode", "ip_configuration_mode"),
        column("IP"),
        column("netmask"),
        column("gateway"),
        column("IPv6-configuration-mode", "ipv6_configuration_mode"),
        column("IPv6", plain=True),
        column("IPv6-gateway", "ipv6_gateway"),
        column("primary-address-type", fixed=True),
        column("DNS"),
        column("properties", key_setter="set_property"),
        column("capabilities"),
        computed("io_read_kbs", _rate("host.query_data_source", "host", "pif", "rx"), expensive=True),
        computed("io_write_kbs", _rate("host.query_data_source", "host", "pif", "tx"), expensive=True),
        column("carrier", through="metrics"),
        column("vendor-id", through="metrics"),
        column("vendor-name", through="metrics"),
        column("device-id", through="metrics"),
        column("device-name", through="metrics"),
        computed("speed", _speed),
        computed("duplex", _duplex),
        column("disallow-unplug"),
        column("pci-bus-path", through="metrics"),
        column("other-config"),
        column("igmp-snooping-status"),
    ),
)

BOND = table(
    "bond",
    "Bond",
    shown="uuid master slaves",
    columns=(
        column("uuid"),
        column("master"),
        column("slaves", plain=True),
        column("mode", fixed=True),
        column("properties", key_setter="set_property"),
        column("primary-slave"),
        column("links-up"),
        column("auto-update-mac"),
    ),
)

VLAN = table(
    "vlan",
    "VLAN",
    shown="uuid tagged-PIF untagged-PIF tag",
    columns=(
        column("uuid"),
        column("tagged-PIF"),
        column("untagged-PIF"),
        column("tag"),
    ),
)

TUNNEL = table(
    "tunnel",
    "tunnel",
    shown="uuid access-PIF transport-PIF status",
    columns=(
        column("uuid"),
        column("access-PIF"),
        column("transport-PIF"),
        column("status", plain=True),
        column("other-config"),
        column("protocol", fixed=True),
    ),
)

# The reference means to show all of these, but asks for some of them by names that do not exist (docs/deviations.md).
NETWORK_SRIOV = table(
    "network-sriov",
    "network_sriov",
    shown="uuid physical-PIF logical-PIF requires-reboot configuration-mode",
    columns=(
        column("uuid"),
        column("physical-PIF"),
        column("logical-PIF"),
        column("requires-reboot"),
        column("configuration-mode"),
        computed("remaining-capacity", _remaining_capacity, expensive=True),
    ),
)

VIF = table(
    "vif",
    "VIF",
    shown="uuid vm-uuid device network-uuid",
    columns=(
        column("uuid"),
        column("vm-uuid", "VM"),
        column("vm-name-label", "VM", by_name=True),
        column("allowed-operations"),
        column("current-operations"),
        column("device"),
        column("MAC", any_case=True),
        column("MAC-autogenerated"),
        column("MTU"),
        column("currently-attached"),
        column("qos_algorithm_type"),
        column("qos_algorithm_params"),
        column("qos_supported_algorithms"),
        column("other-config"),
        column("network-uuid", "network"),
        column("network-name-label", "network", by_name=True),
        computed("io_read_kbs", _rate("VM.query_data_source", "VM", "vif", "rx"), expensive=True),
        computed("io_write_kbs", _rate("VM.query_data_source", "VM", "vif", "tx"), expensive=True),
        column("locking-mode"),
        column("ipv4-allowed", whole=True),
        column("ipv6-allowed", whole=True),
        column("ipv4-configuration-mode"),
        column("ipv4-addresses", plain=True),
        column("ipv4-gateway"),
        column("ipv6-configuration-mode"),
        column("ipv6-addresses", plain=True),
        column("ipv6-gateway"),
        column("trunks", whole=True),
    ),
)
