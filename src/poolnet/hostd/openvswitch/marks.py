"""Which rows of the switch's database are ours, and what do we remember in them?

Every row that we make says so in `external_ids:poolnet-owner`, with the role it plays. What the switch's own columns
cannot express (a lock, an address configuration) is remembered beside it, so that it changes in the same transaction
and survives whatever happens to the daemon. Used by `layout` to write and by `observe` to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec

from poolnet.hostnet.state import IpConfig, PortLock

OWNER = "poolnet-owner"
LOCK = "poolnet-lock"
IP = "poolnet-ip"
MANAGEMENT = "poolnet-management"
LIMITED = "poolnet-limited"  # on a limiter's interface: the guest's device
BRIDGE = "poolnet-bridge"  # on a guests' bridge: the bridge that it belongs to
BOND = "poolnet-bond"
TUNNEL = "poolnet-tunnel"  # on a bridge: its uplink, when that is a tunnel
FLAGS = "poolnet-flags"  # what is asked of a bridge that its rows have no column for: these words
FLAG_SECURE = "fail-mode-secure"
FLAG_SNOOPING = "igmp-snooping"
NEXT_OFPORT = "poolnet-next-ofport"
NETWORK_UUIDS = "xs-network-uuids"
VLAN_NETWORK_UUIDS = "fake-bridge-xs-network-uuids"  # where ovs-vsctl looks for those of a fake bridge
VM_UUID = "xs-vm-uuid"
VIF_UUID = "xs-vif-uuid"
NETWORK_UUID = "xs-network-uuid"
ATTACHED_MAC = "attached-mac"

_OUR_PREFIXES = ("poolnet-", "xs-", "fake-bridge-xs-", ATTACHED_MAC)
_OUR_OPTIONS = (
    *("hwaddr", "mac-table-size", "bond-", "lacp-"),
    *("mcast-snooping-disable-flood-unregistered", "mcast-snooping-flood-reports"),
)

T = TypeVar("T")


class Role(StrEnum):
    """What a row of ours is."""

    BRIDGE = "bridge"  # a bridge that the state names
    GUESTS = "guests"  # the secure bridge of the guests of a bridge with an uplink
    HOST = "host"  # a bridge's own interface
    UPLINK = "uplink"
    TUNNEL = "tunnel"  # one other end of a tunnel
    VLAN = "vlan"  # a fake bridge
    PATCH = "patch"
    GUEST = "guest"
    LIMITER = "limiter"  # what a limited guest's frames wait behind


_ROLES = frozenset(role.value for role in Role)


def role_of(external_ids: Mapping[str, str]) -> Role | None:
    """The role of a row, or None if it is not ours."""
    text = external_ids.get(OWNER, "")
    return Role(text) if text in _ROLES else None


def is_ours(column: str, key: str) -> bool:
    """Does a layout decide about this key of a map column? Others are left as they are."""
    if column == "external_ids":
        return key.startswith(_OUR_PREFIXES) and key != NEXT_OFPORT
    if column == "other_config":
        return key.startswith(_OUR_OPTIONS)
    return True


def remember(value: IpConfig | PortLock | msgspec.Struct | object) -> str:
    """A value as the text of a mark."""
    return msgspec.json.encode(value, order="deterministic").decode()


def recall(text: str, kind: type[T]) -> T | None:
    """The value of a mark; None when somebody wrote something else into it."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None
