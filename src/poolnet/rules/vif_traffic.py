"""What may a VIF send, how fast, and with which addresses? See spec §15.8, §15.10.

Whatever is written here reaches the switch at once, as one replacement of the port's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from poolnet.hostnet.derive_port import effective_mode
from poolnet.hostnet.state import LockMode
from poolnet.model import errors
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.enums import VifIpv4ConfigurationMode, VifIpv6ConfigurationMode, VifLockingMode
from poolnet.model.types import Ref
from poolnet.rules.addresses import (
    canonical_ipv6,
    is_ipv4,
    is_ipv4_cidr,
    is_ipv6,
    is_ipv6_cidr,
    setify,
)
from poolnet.rules.context import CallContext
from poolnet.rules.features import Feature, require_feature, the_pool
from poolnet.rules.vif import require_lockable, require_trunkable
from poolnet.rules.vlan import require_tag

STATIC_IP_FEATURE: Final = "feature-static-ip-setting"

_VALID: Final[Mapping[str, Callable[[str], bool]]] = {
    "ipv4_allowed": lambda text: is_ipv4(text) or is_ipv4_cidr(text),
    "ipv6_allowed": lambda text: is_ipv6(text) or is_ipv6_cidr(text),
}


def set_locking_mode(ctx: CallContext, *, self: Ref[VIF], value: VifLockingMode) -> None:
    """Says what a VIF may send (spec §15.8).

    Raises:
        OPERATION_NOT_ALLOWED: An SDN controller rules the switch; only for a lock.
        LICENCE_RESTRICTION: The feature is off; only for a lock.
        OPERATION_NOT_ALLOWED: The VIF is on an SR-IOV network; only for a lock.
    """
    vif = ctx.txn.get(VIF, self)
    if value is VifLockingMode.LOCKED:
        if the_pool(ctx.txn).vswitch_controller:
            raise errors.operation_not_allowed("A vswitch controller is active")
        require_feature(ctx.txn, Feature.VIF_LOCKING)
    require_lockable(ctx.txn, vif.network, value)
    ctx.txn.update(VIF, self, locking_mode=value)


def set_ipv4_allowed(ctx: CallContext, *, self: Ref[VIF], value: tuple[str, ...]) -> None:
    """Lets a locked VIF use exactly these IPv4 addresses and prefixes.

    Raises:
        LICENCE_RESTRICTION: The feature is off, and there are any.
        INVALID_IP_ADDRESS_SPECIFIED: One is neither address nor prefix.
    """
    _set_allowed(ctx, self, "ipv4_allowed", value)


def add_ipv4_allowed(ctx: CallContext, *, self: Ref[VIF], value: str) -> None:
    """Lets a locked VIF use one more IPv4 address or prefix.

    Raises:
        LICENCE_RESTRICTION: The feature is off.
        INVALID_IP_ADDRESS_SPECIFIED: It is neither address nor prefix.
    """
    _add_allowed(ctx, self, "ipv4_allowed", value)


def remove_ipv4_allowed(ctx: CallContext, *, self: Ref[VIF], value: str) -> None:
    """Takes an IPv4 address or prefix from a locked VIF; one it does not have is no error."""
    _remove_allowed(ctx, self, "ipv4_allowed", value)


def set_ipv6_allowed(ctx: CallContext, *, self: Ref[VIF], value: tuple[str, ...]) -> None:
    """Lets a locked VIF use exactly these IPv6 addresses and prefixes.

    Raises:
        LICENCE_RESTRICTION: The feature is off, and there are any.
        INVALID_IP_ADDRESS_SPECIFIED: One is neither address nor prefix.
    """
    _set_allowed(ctx, self, "ipv6_allowed", value)


def add_ipv6_allowed(ctx: CallContext, *, self: Ref[VIF], value: str) -> None:
    """Lets a locked VIF use one more IPv6 address or prefix.

    Raises:
        LICENCE_RESTRICTION: The feature is off.
        INVALID_IP_ADDRESS_SPECIFIED: It is neither address nor prefix.
    """
    _add_allowed(ctx, self, "ipv6_allowed", value)


def remove_ipv6_allowed(ctx: CallContext, *, self: Ref[VIF], value: str) -> None:
    """Takes an IPv6 address or prefix from a locked VIF; one it does not have is no error."""
    _remove_allowed(ctx, self, "ipv6_allowed", value)


def _allowed(vif: VIF, field: str) -> tuple[str, ...]:
    return vif.ipv4_allowed if field == "ipv4_allowed" else vif.ipv6_allowed


def _require_valid(field: str, texts: Iterable[str]) -> None:
    if not all(_VALID[field](text) for text in texts):
        raise errors.invalid_ip_address_specified(field)


def _set_allowed(ctx: CallContext, ref: Ref[VIF], field: str, value: tuple[str, ...]) -> None:
    ctx.txn.get(VIF, ref)
    texts = setify(value)
    if texts:
        require_feature(ctx.txn, Feature.VIF_LOCKING)
    _require_valid(field, texts)
    ctx.txn.update(VIF, ref, **{field: texts})


def _add_allowed(ctx: CallContext, ref: Ref[VIF], field: str, value: str) -> None:
    vif = ctx.txn.get(VIF, ref)
    require_feature(ctx.txn, Feature.VIF_LOCKING)
    _require_valid(field, (value,))
    allowed = _allowed(vif, field)
    if value not in allowed:
        ctx.txn.update(VIF, ref, **{field: (value, *allowed)})


def _remove_allowed(ctx: CallContext, ref: Ref[VIF], field: str, value: str) -> None:
    vif = ctx.txn.get(VIF, ref)
    ctx.txn.update(VIF, ref, **{field: tuple(text for text in _allowed(vif, field) if text != value)})


def configure_ipv4(
    ctx: CallContext, *, self: Ref[VIF], mode: VifIpv4ConfigurationMode, address: str = "", gateway: str = ""
) -> None:
    """Says which IPv4 address the guest is to use (spec §15.8).

    Raises:
        LICENCE_RESTRICTION, INVALID_CIDR_ADDRESS_SPECIFIED, ADDRESS_VIOLATES_LOCKING_CONSTRAINT,
        INVALID_IP_ADDRESS_SPECIFIED: in this order, for a static address only.
        VM_LACKS_FEATURE: The guest cannot be told.
    """
    vif = ctx.txn.get(VIF, self)
    if mode is VifIpv4ConfigurationMode.STATIC:
        require_feature(ctx.txn, Feature.GUEST_IP_SETTING)
        if not is_ipv4_cidr(address):
            raise errors.invalid_cidr_address_specified("address")
        _require_unlocked_for(ctx, vif, address, address.partition("/")[0], vif.ipv4_allowed)
        if gateway and not is_ipv4(gateway):
            raise errors.invalid_ip_address_specified("gateway")
    _require_settable(ctx, vif)
    ctx.txn.update(VIF, self, ipv4_configuration_mode=mode, ipv4_addresses=(address,), ipv4_gateway=gateway)


def configure_ipv6(
    ctx: CallContext, *, self: Ref[VIF], mode: VifIpv6ConfigurationMode, address: str = "", gateway: str = ""
) -> None:
    """Says which IPv6 address the guest is to use (spec §15.8).

    Raises:
        LICENCE_RESTRICTION, INVALID_CIDR_ADDRESS_SPECIFIED, ADDRESS_VIOLATES_LOCKING_CONSTRAINT,
        INVALID_IP_ADDRESS_SPECIFIED: in this order, for a static address only.
        VM_LACKS_FEATURE: The guest cannot be told.
    """
    vif = ctx.txn.get(VIF, self)
    if mode is VifIpv6ConfigurationMode.STATIC:
        require_feature(ctx.txn, Feature.GUEST_IP_SETTING)
        if not is_ipv6_cidr(address):
            raise errors.invalid_cidr_address_specified("address")
        plain = canonical_ipv6(address.partition("/")[0])
        _require_unlocked_for(ctx, vif, address, plain, vif.ipv6_allowed)
        if gateway and not is_ipv6(gateway):
            raise errors.invalid_ip_address_specified("gateway")
    _require_settable(ctx, vif)
    ctx.txn.update(VIF, self, ipv6_configuration_mode=mode, ipv6_addresses=(address,), ipv6_gateway=gateway)


def _require_unlocked_for(
    ctx: CallContext, vif: VIF, given: str, address: str, allowed: tuple[str, ...]
) -> None:
    """A locked VIF's guest may only be given an address that is literally in the list."""
    mode = effective_mode(vif, ctx.txn.find(Network, vif.network))
    if mode is LockMode.LOCKED and address not in allowed:
        raise errors.address_violates_locking_constraint(given)


def _require_settable(ctx: CallContext, vif: VIF) -> None:
    vm = ctx.txn.get(VM, vif.VM)
    metrics = ctx.txn.find(VMGuestMetrics, vm.guest_metrics)
    if metrics is None or metrics.other.get(STATIC_IP_FEATURE) != "1":
        raise errors.vm_lacks_feature(vm.ref)


def add_trunks(ctx: CallContext, *, self: Ref[VIF], value: int) -> None:
    """Passes one more VLAN through to a VIF (spec §15.8).

    Raises:
        VLAN_TAG_INVALID: The tag is not 0 to 4094.
        OPERATION_NOT_ALLOWED: The VIF is a virtual function.
        NETWORK_INCOMPATIBLE_WITH_TRUNKS: A VLAN is on the VIF's network.
    """
    vif = ctx.txn.get(VIF, self)
    require_tag(value)
    require_trunkable(ctx, vif.network)
    if value not in vif.trunks:
        ctx.txn.update(VIF, self, trunks=(value, *vif.trunks))


def remove_trunks(ctx: CallContext, *, self: Ref[VIF], value: int) -> None:
    """Passes a VLAN through no longer; one that is not passed is no error."""
    vif = ctx.txn.get(VIF, self)
    ctx.txn.update(VIF, self, trunks=tuple(tag for tag in vif.trunks if tag != value))


def set_trunks(ctx: CallContext, *, self: Ref[VIF], value: tuple[int, ...]) -> None:
    """Passes exactly these VLANs through; none of them makes the VIF an ordinary one again.

    Raises:
        OPERATION_NOT_ALLOWED: The VIF is a virtual function, and there are any tags.
        NETWORK_INCOMPATIBLE_WITH_TRUNKS: A VLAN is on the VIF's network, and there are any tags.
        VLAN_TAG_INVALID: A tag is not 0 to 4094.
    """
    vif = ctx.txn.get(VIF, self)
    if value:
        require_trunkable(ctx, vif.network)
    tags = tuple(dict.fromkeys(reversed(value)))[::-1]
    for tag in tags:
        require_tag(tag)
    ctx.txn.update(VIF, self, trunks=tags)


def set_qos_algorithm_type(ctx: CallContext, *, self: Ref[VIF], value: str) -> None:
    """Chooses how a VIF is slowed down; "" for not at all, and so do names that poolnet does not know."""
    ctx.txn.update(VIF, self, qos_algorithm_type=value)


def set_qos_algorithm_params(ctx: CallContext, *, self: Ref[VIF], value: Mapping[str, str]) -> None:
    """Sets the parameters of the VIF's rate limit; bad ones are kept and ignored."""
    ctx.txn.update(VIF, self, qos_algorithm_params=dict(value))


def add_to_qos_algorithm_params(ctx: CallContext, *, self: Ref[VIF], key: str, value: str) -> None:
    """Adds a parameter of the VIF's rate limit.

    Raises:
        MAP_DUPLICATE_KEY: It is there.
    """
    params = ctx.txn.get(VIF, self).qos_algorithm_params
    if key in params:
        raise errors.map_duplicate_key("VIF", "qos__algorithm_params", self, key)
    ctx.txn.update(VIF, self, qos_algorithm_params={**params, key: value})


def remove_from_qos_algorithm_params(ctx: CallContext, *, self: Ref[VIF], key: str) -> None:
    """Removes a parameter of the VIF's rate limit; an absent one is no error."""
    params = ctx.txn.get(VIF, self).qos_algorithm_params
    ctx.txn.update(VIF, self, qos_algorithm_params={k: v for k, v in params.items() if k != key})
