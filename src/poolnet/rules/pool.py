"""What may be done to the pool as a whole? See spec §12.5, §19. Joining and leaving are in `join`, `admit` and `leave`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from poolnet.model import errors
from poolnet.model.alerts import HOST_LEFT_OUT, NETWORK_ALERT_PRIORITY
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.task import Task
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules import host as host_rules
from poolnet.rules import pif as pif_rules
from poolnet.rules import vlan as vlan_rules
from poolnet.rules.attach import bring_up
from poolnet.rules.context import CallContext
from poolnet.rules.features import Feature, require_feature, require_no_ha, the_pool
from poolnet.rules.kinds import is_bond_slave, local_pif
from poolnet.rules.message import raise_alert

COMMON_NAME_MAX: Final = 64  # <RFC 5280>: ub-common-name
MISSING_HOSTS: Final = "missing_hosts"
"""The key of a task's other_config with the uuids of hosts that were left out, because they are down."""


def create_VLAN(ctx: CallContext, *, device: str, network: Ref[Network], VLAN: int) -> tuple[Ref[PIF], ...]:
    """Makes a VLAN on the PIF of that device of every host; gives the untagged PIFs (spec §12.5).

    Raises:
        HOST_OFFLINE: A host is not live.
        (any of PIF.create_VLAN)
    """
    hosts = tuple(ctx.txn.refs(Host))
    return tuple(
        pif_rules.create_VLAN(ctx, device=device, network=network, host=host, VLAN=VLAN) for host in hosts
    )


def create_VLAN_from_PIF(
    ctx: CallContext, *, pif: Ref[PIF], network: Ref[Network], VLAN: int
) -> tuple[Ref[PIF], ...]:
    """Makes a VLAN on every live host's PIF of the network that `pif` is on; gives the untagged PIFs (spec §12.5).

    Raises:
        (any of VLAN.create)
    """
    base = ctx.txn.get(PIF, pif)
    made: list[Ref[PIF]] = []
    missing: list[Host] = []
    for tagged in ctx.txn.where(PIF, network=base.network):
        if ctx.is_live(tagged.host):
            ref = vlan_rules.create(ctx, tagged_PIF=tagged.ref, tag=VLAN, network=network)
            made.append(vlan_rules.untagged_pif(ctx, ref))
        elif (host := ctx.txn.find(Host, tagged.host)) is not None:
            missing.append(host)
    note_missing(ctx, missing, f"VLAN {VLAN}")
    return tuple(made)


def note_missing(ctx: CallContext, hosts: Sequence[Host], what: str) -> None:
    """Lets an administrator know which hosts were left out: in an alert for each, and in the task of the call."""
    for host in hosts:
        raise_alert(
            ctx.txn,
            ctx.new_uuid,
            ctx.now,
            name=HOST_LEFT_OUT,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=host.uuid,
            body=f"{host.name_label} is down, and gets {what} when it comes back",
        )
    note_hosts(ctx, MISSING_HOSTS, hosts)


def note_hosts(ctx: CallContext, key: str, hosts: Sequence[Host]) -> None:
    """Writes the uuids of hosts to the task of the call."""
    task = ctx.txn.find(Task, ctx.task) if hosts else None
    if task is not None:
        uuids = ",".join(host.uuid for host in hosts)
        ctx.txn.update(Task, task.ref, other_config={**task.other_config, key: uuids})


def management_reconfigure(ctx: CallContext, *, network: Ref[Network]) -> None:
    """Manages all hosts by their PIFs on a network (spec §19.1). All of them, or none.

    Raises:
        HA_IS_ENABLED, PIF_NOT_PRESENT (with the host and the network), PIF_INCOMPATIBLE_PRIMARY_ADDRESS_TYPE,
        CANNOT_PLUG_BOND_SLAVE, PIF_HAS_NO_NETWORK_CONFIGURATION, PIF_HAS_NO_V6_NETWORK_CONFIGURATION, HOST_OFFLINE,
        CLUSTERING_ENABLED (with the first host that has a server of the database's cluster): in this order.
    """
    txn = ctx.txn
    txn.get(Network, network)
    require_no_ha(txn)
    coordinator = the_pool(txn).master
    hosts = sorted(txn.refs(Host), key=lambda host: host == coordinator)  # members first
    pifs = []
    for host in hosts:
        pif = local_pif(txn, network, host)
        if pif is None:
            raise errors.pif_not_present(host, network)
        pifs.append(pif)
    for pif in pifs:
        if pif.primary_address_type is not pifs[0].primary_address_type:
            raise errors.pif_incompatible_primary_address_type(pif.ref)
    for pif in pifs:
        host_rules.require_manageable(ctx, pif)
    for pif in pifs:
        host_rules.management_reconfigure(ctx, pif=pif.ref)


def disable_ssl_legacy(ctx: CallContext, *, self: Ref[Pool]) -> None:
    """Does nothing, as in the reference by now: old TLS is never spoken."""
    ctx.txn.get(Pool, self)


def enable_client_certificate_auth(ctx: CallContext, *, self: Ref[Pool], name: str) -> None:
    """Lets clients log in with a certificate of that name, by one of the CAs that are installed.

    Raises:
        INVALID_VALUE: No certificate can have that name.
    """
    if not name.strip() or len(name) > COMMON_NAME_MAX or not name.isprintable():
        raise errors.invalid_value("name", name)
    ctx.txn.get(Pool, self)
    ctx.txn.update(Pool, self, client_certificate_auth_enabled=True, client_certificate_auth_name=name)


def disable_client_certificate_auth(ctx: CallContext, *, self: Ref[Pool]) -> None:
    """Lets nobody log in with a certificate any more."""
    ctx.txn.get(Pool, self)
    ctx.txn.update(Pool, self, client_certificate_auth_enabled=False, client_certificate_auth_name="")


def set_https_only(ctx: CallContext, *, self: Ref[Pool], value: bool) -> None:
    """Closes the port for plain HTTP on every host of the pool, or opens it again (spec §18.9): on all or on none.

    Raises:
        HOST_OFFLINE: A host is not live.
    """
    ctx.txn.get(Pool, self)
    for host in tuple(ctx.txn.refs(Host)):
        host_rules.set_https_only(ctx, self=host, value=value)


def set_igmp_snooping_enabled(ctx: CallContext, *, self: Ref[Pool], value: bool) -> None:
    """Turns IGMP snooping on or off on every bridge of the pool (spec §19.4).

    Raises:
        LICENCE_RESTRICTION: The feature is off; only to turn it on.
            Both backends snoop, so there is no OPENVSWITCH_NOT_ACTIVE.
    """
    ctx.txn.get(Pool, self)
    if value:
        require_feature(ctx.txn, Feature.IGMP_SNOOPING)
    ctx.txn.update(Pool, self, igmp_snooping_enabled=value)
    for pif in tuple(ctx.txn.all(PIF)):
        if pif.VLAN == -1 and pif.managed and pif.currently_attached and not is_bond_slave(ctx.txn, pif):
            bring_up(ctx, pif.ref)
