"""Can this state of a host's network exist at all?

`diff` refuses to plan towards a state that cannot, and the host daemon uses the same test on what it is
handed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from poolnet.hostnet.state import VLAN_TAG_MAX, Bridge, HostNetwork

T = TypeVar("T")


class ImpossibleStateError(ValueError):
    """The desired state contradicts itself; `reasons` says where."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def contradictions(network: HostNetwork) -> tuple[str, ...]:
    """Why `network` cannot exist, as sentences; empty when it can.

    Names are unique; a NIC, bond or tunnel serves one bridge; a bridge is of one kind only; a VLAN's parent exists, is
    no VLAN itself, and carries a tag once; a guest port's bridge exists, and so do the management bridge and those
    with an open NBD port. A virtual function is one VIF's, and a NIC has them in one way.
    """
    return (
        *_bridge_contradictions(network),
        *_port_contradictions(network),
        *_function_contradictions(network),
    )


def _bridge_contradictions(network: HostNetwork) -> Iterator[str]:
    by_name = {bridge.name: bridge for bridge in network.bridges}
    for name in _repeated(bridge.name for bridge in network.bridges):
        yield f"there are two bridges {name}"
    nics = [nic for bridge in network.bridges if bridge.uplink for nic in bridge.uplink.members]
    for nic in _repeated(nics):
        yield f"the NIC {nic} is in use twice"
    uplinks = (bridge.uplink.device for bridge in network.bridges if bridge.uplink)
    for device in _repeated(device for device in uplinks if device not in nics):
        yield f"the uplink {device} is in use twice"
    for parent, tag in _repeated((b.parent, b.vlan_tag) for b in network.bridges if b.parent):
        yield f"VLAN {tag} is on {parent} twice"
    for bridge in network.bridges:
        if not _is_sound(bridge, by_name):
            yield from _kind_contradictions(bridge, by_name)
    if network.management_bridge and network.management_bridge not in by_name:
        yield f"the management bridge {network.management_bridge} does not exist"
    for name in network.nbd_bridges:
        if name not in by_name:
            yield f"the bridge {name} with an open NBD port does not exist"


def _is_sound(bridge: Bridge, by_name: Mapping[str, Bridge]) -> bool:
    """Has a bridge no contradictions of `_kind_contradictions`? Of hundreds on a host, hardly ever one has."""
    if not bridge.parent:
        return bridge.vlan_tag == -1
    parent = by_name.get(bridge.parent)
    is_alone = bridge.uplink is None and 0 <= bridge.vlan_tag <= VLAN_TAG_MAX
    return is_alone and parent is not None and not parent.parent


def _kind_contradictions(bridge: Bridge, by_name: Mapping[str, Bridge]) -> Iterator[str]:
    if not bridge.parent:
        if bridge.vlan_tag != -1:
            yield f"bridge {bridge.name} has the tag {bridge.vlan_tag} but no parent"
        return
    if bridge.uplink is not None:
        yield f"bridge {bridge.name} has an uplink and a parent"
    if not 0 <= bridge.vlan_tag <= VLAN_TAG_MAX:
        yield f"bridge {bridge.name} has the tag {bridge.vlan_tag}"
    parent = by_name.get(bridge.parent)
    if parent is None:
        yield f"the parent {bridge.parent} of bridge {bridge.name} does not exist"
    elif parent.parent:
        yield f"the parent {bridge.parent} of bridge {bridge.name} is a VLAN itself"


def _port_contradictions(network: HostNetwork) -> Iterator[str]:
    names = {bridge.name for bridge in network.bridges}
    for device in _repeated(port.device for port in network.ports):
        yield f"there are two ports {device}"
    for port in network.ports:
        if port.bridge not in names:
            yield f"the bridge {port.bridge} of port {port.device} does not exist"


def _function_contradictions(network: HostNetwork) -> Iterator[str]:
    for device in _repeated(nic.device for nic in network.sriov):
        yield f"the virtual functions of {device} are there twice"
    functions = [function for nic in network.sriov for function in nic.functions]
    for address in _repeated(function.address for function in functions):
        yield f"the virtual function {address} is in use twice"
    for function in functions:
        if not 0 <= function.vlan_tag <= VLAN_TAG_MAX:
            yield f"the virtual function {function.address} has the tag {function.vlan_tag}"


def _repeated(items: Iterable[T]) -> list[T]:
    known = list(items)
    if len(set(known)) == len(known):
        return []
    return [item for item, count in Counter(known).items() if count > 1]
