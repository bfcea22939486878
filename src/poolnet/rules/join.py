"""May this host join that pool? The checks of spec §20.1, in the reference's order, before anything is changed.

The joining host asks, with its own database and what the pool's coordinator says of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.sr import SR
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import CertificateType, VmPowerState
from poolnet.rules.features import the_pool

NBD: Final = ("nbd", "insecure_nbd")
BACKENDS_DIFFER: Final = "Network backends differ"
ADDRESS_TYPE_DIFFERS: Final = "Primary address type differs"
PURPOSES_DIFFER: Final = "Incompatible network purposes: nbd and insecure_nbd"
_TRUSTED: Final = (CertificateType.CA, CertificateType.PINNED)
_SAME_PRODUCT: Final = ("platform_version", "product_brand", "platform_name")
_SAME_SOFTWARE: Final = ("xapi", "build_number", "product_version")


class PoolHost(Struct, frozen=True, kw_only=True):
    """A host of the pool, as far as a joining one cares; names are those of the API."""

    uuid: str
    name_label: str = ""
    API_version_major: int
    API_version_minor: int
    software_version: Mapping[str, str]
    cpu_info: Mapping[str, str]
    external_auth_type: str = ""
    external_auth_service_name: str = ""


class PoolCertificate(Struct, frozen=True, kw_only=True):
    """A certificate that the pool trusts, or that one of its hosts has; names are those of the API."""

    ref: str
    type: str
    name: str = ""
    fingerprint_sha256: str = ""
    purpose: tuple[str, ...] = ()


class Target(Struct, frozen=True, kw_only=True):
    """The pool that is to be joined.

    Attributes:
        coordinator: Its coordinator.
        hosts: The uuids of all its hosts.
        ha_enabled: Whether it has high availability.
        management_vlan: The tag of the coordinator's management interface, -1 for none.
        primary_address_type: Of the coordinator's management interface.
        purposes: Those of its networks, in order.
        certificates: Those that it knows.
    """

    coordinator: PoolHost
    hosts: tuple[str, ...]
    ha_enabled: bool
    management_vlan: int
    primary_address_type: str
    purposes: tuple[str, ...]
    certificates: tuple[PoolCertificate, ...] = ()


def require_joinable(view: View, me: Host, target: Target, *, force: bool) -> None:
    """Lets a host join a pool; `force` lets versions and processors differ.

    Raises:
        HOST_STILL_BOOTING, HA_IS_ENABLED, OPERATION_NOT_ALLOWED, JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS,
        JOINING_HOST_CANNOT_HAVE_RUNNING_VMS, JOINING_HOST_CANNOT_HAVE_VMS_WITH_CURRENT_OPERATIONS, HOSTS_NOT_COMPATIBLE,
        HOSTS_NOT_HOMOGENEOUS, JOINING_HOST_CANNOT_CONTAIN_SHARED_SRS, POOL_JOINING_HOST_HAS_BONDS,
        POOL_JOINING_HOST_HAS_TUNNELS, POOL_JOINING_HOST_HAS_NETWORK_SRIOVS, POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS,
        POOL_JOINING_HOST_MANAGEMENT_VLAN_DOES_NOT_MATCH, POOL_JOINING_EXTERNAL_AUTH_MISMATCH,
        POOL_JOINING_HOST_MUST_HAVE_SAME_API_VERSION, POOL_JOINING_HOST_CA_CERTIFICATES_CONFLICT,
        POOL_JOINING_HOST_TRUSTED_CERTIFICATES_CONFLICT: in the order of spec §20.1.
    """
    for failure in obstacles(view, me, target, force=force):
        raise failure


def obstacles(view: View, me: Host, target: Target, *, force: bool) -> Iterator[errors.Failure]:
    """Everything that keeps a host from joining, in the order of the checks; see `require_joinable`."""
    management = next((pif for pif in view.where(PIF, host=me.ref) if pif.management), None)
    if management is None:
        yield errors.host_still_booting()
        return
    if the_pool(view).ha_enabled or target.ha_enabled:
        yield errors.ha_is_enabled()
    if me.uuid == target.coordinator.uuid:
        yield errors.operation_not_allowed("Host cannot become slave of itself")
    elif me.uuid in target.hosts:
        yield errors.operation_not_allowed("Host is already part of a pool")
    if view.count(Host) > 1:
        yield errors.joining_host_cannot_be_master_of_other_hosts()
    yield from _not_quiet(view)
    yield from _not_alike(me, target.coordinator, force=force)
    if any(is_in_the_way(sr) for sr in view.all(SR)):
        yield errors.joining_host_cannot_contain_shared_srs()
    yield from _not_plain(view, management, target)
    yield from _not_the_same_way(view, me, management, target)
    yield from _not_the_same_trust(view, target)


def is_in_the_way(sr: SR) -> bool:
    """Whether this storage is shared with others, which the pool would not know of."""
    return sr.shared and sr.content_type != "iso"


def _not_quiet(view: View) -> Iterator[errors.Failure]:
    """A VM of it runs, or is being worked on."""
    vms = [vm for vm in view.all(VM) if not vm.is_control_domain]
    if any(vm.power_state is VmPowerState.RUNNING for vm in vms):
        yield errors.joining_host_cannot_have_running_vms()
    if any(vm.current_operations or vm.power_state is VmPowerState.PAUSED for vm in vms):
        yield errors.joining_host_cannot_have_vms_with_current_operations()


def _not_alike(me: Host, coordinator: PoolHost, *, force: bool) -> Iterator[errors.Failure]:
    mine, theirs = me.software_version, coordinator.software_version
    if any(mine.get(key) != theirs.get(key) for key in _SAME_PRODUCT):
        yield errors.hosts_not_compatible()
    if force:
        return
    if any(mine.get(key) != theirs.get(key) for key in _SAME_SOFTWARE):
        yield errors.hosts_not_homogeneous("Software version differs")
    if me.cpu_info.get("vendor") != coordinator.cpu_info.get("vendor"):
        yield errors.hosts_not_homogeneous("CPUs differ")


def _not_plain(view: View, management: PIF, target: Target) -> Iterator[errors.Failure]:
    """It has more than NICs, and perhaps the VLAN of its management; the pool's way comes with the pool."""
    if view.count(Bond):
        yield errors.pool_joining_host_has_bonds()
    if view.count(Tunnel):
        yield errors.pool_joining_host_has_tunnels()
    if view.count(NetworkSriov):
        yield errors.pool_joining_host_has_network_sriovs()
    if any(vlan.untagged_PIF != management.ref for vlan in view.all(VLAN)):
        yield errors.pool_joining_host_has_non_management_vlans()
    if target.management_vlan != management.VLAN:
        yield errors.pool_joining_host_management_vlan_does_not_match(management.VLAN, target.management_vlan)


def _not_the_same_way(view: View, me: Host, management: PIF, target: Target) -> Iterator[errors.Failure]:
    """Its services are not those of the pool."""
    theirs = target.coordinator
    if (me.external_auth_type, me.external_auth_service_name) != (
        theirs.external_auth_type,
        theirs.external_auth_service_name,
    ):
        yield errors.pool_joining_external_auth_mismatch()
    backends = (host.software_version.get("network_backend") for host in (me, theirs))
    if len(set(backends)) > 1:
        yield errors.operation_not_allowed(BACKENDS_DIFFER)
    mine = f"{me.API_version_major}.{me.API_version_minor}"
    pools = f"{theirs.API_version_major}.{theirs.API_version_minor}"
    if mine != pools:
        yield errors.pool_joining_host_must_have_same_api_version(mine, pools)
    if management.primary_address_type.value != target.primary_address_type:
        yield errors.operation_not_allowed(ADDRESS_TYPE_DIFFERS)
    own = _nbd([str(purpose) for network in view.all(Network) for purpose in network.purpose])
    others = _nbd(target.purposes)
    if own and others and own != others:
        yield errors.operation_not_allowed(PURPOSES_DIFFER)


def _not_the_same_trust(view: View, target: Target) -> Iterator[errors.Failure]:
    """It trusts another certificate under a name of the pool's, or the pool's for purposes that are the pool's in part."""
    theirs = {each.name: each for each in target.certificates if each.type == CertificateType.CA}
    names = [
        row.name
        for row in trusted_here(view)
        if row.name in theirs and row.name and row.fingerprint_sha256 != theirs[row.name].fingerprint_sha256
    ]
    if names:
        yield errors.pool_joining_host_ca_certificates_conflict(sorted(names))
    for row, other in trusted_otherwise(view, target):
        yield errors.pool_joining_host_trusted_certificates_conflict(other.ref, row.ref)


def trusted_here(view: View) -> Iterator[Certificate]:
    """The certificates that somebody has installed."""
    return (row for row in view.all(Certificate) if row.type in _TRUSTED)


def trusted_otherwise(view: View, target: Target) -> Iterator[tuple[Certificate, PoolCertificate]]:
    """The certificates that this host trusts for purposes that are the pool's in part, with those of the pool."""
    for row in trusted_here(view):
        for other in target.certificates:
            if row.name or other.name or other.type not in _TRUSTED:
                continue
            one, two = frozenset(map(str, row.purpose)), frozenset(other.purpose)
            if row.fingerprint_sha256 == other.fingerprint_sha256 and one != two and one & two:
                yield row, other


def _nbd(purposes: Sequence[str]) -> str:
    return next((purpose for purpose in purposes if purpose in NBD), "")
