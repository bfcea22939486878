"""Which features is the pool licensed for, and which protections forbid changes to its networks? See spec §19.6, §22."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool


class Feature(StrEnum):
    """The features that rules ask for; the value is the name in LICENCE_RESTRICTION."""

    NETWORK_SRIOV = "Network_sriov"
    VIF_LOCKING = "VIF_locking"
    GUEST_IP_SETTING = "Guest_ip_setting"
    IGMP_SNOOPING = "IGMP_snooping"
    VM_START = "VM_start"


_KEYS: Final = {
    Feature.NETWORK_SRIOV: "restrict_network_sriov",
    Feature.VIF_LOCKING: "restrict_vif_locking",
    Feature.GUEST_IP_SETTING: "restrict_guest_ip_setting",
    Feature.IGMP_SNOOPING: "restrict_igmp_snooping",
    Feature.VM_START: "restrict_vm_start",
}


def the_pool(view: View) -> Pool:
    """The pool object, of which there is exactly one.

    Raises:
        INTERNAL_ERROR: There is none yet.
    """
    pool = next(iter(view.all(Pool)), None)
    if pool is None:
        raise errors.internal_error("No pool")
    return pool


def require_feature(view: View, feature: Feature) -> None:
    """Lets the call go on if the pool's restrictions leave the feature on.

    Raises:
        LICENCE_RESTRICTION: They do not; a missing key is off.
    """
    if the_pool(view).restrictions.get(_KEYS[feature]) != "false":
        raise errors.licence_restriction((feature.value,))


def require_unprotected(view: View, pif: PIF) -> None:
    """Lets an attached PIF be changed unless high availability or the redo log needs it (spec §22.1).

    Raises:
        HA_IS_ENABLED, REDO_LOG_IS_ENABLED: in this order; only for an attached PIF.
    """
    if not pif.currently_attached:
        return
    pool = the_pool(view)
    if pool.ha_enabled:
        raise errors.ha_is_enabled()
    if pool.redo_log_enabled:
        raise errors.redo_log_is_enabled()


def require_no_ha(view: View) -> None:
    """Lets the call go on unless high availability is on.

    Raises:
        HA_IS_ENABLED: It is.
    """
    if the_pool(view).ha_enabled:
        raise errors.ha_is_enabled()
