"""How is a host connected to storage, and when may that change? The messages of PBD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolnet.db.txn import View
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.storage import AttachStorage, DetachStorage
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.sr import SR
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules import sr as sr_rules
from poolnet.rules.context import CallContext
from poolnet.rules.message import raise_alert
from poolnet.rules.storage_source import source_of

PLUG_FAILED = "PBD_PLUG_FAILED_ON_SERVER_START"
PLUG_FAILED_PRIORITY = 2


def create(ctx: CallContext, *, record: Mapping[str, Any]) -> Ref[PBD]:
    """Makes a host's connection to storage, not plugged.

    Raises:
        HANDLE_INVALID, PBD_EXISTS, VALUE_NOT_SUPPORTED: in this order.
    """
    txn = ctx.txn
    storage, host = txn.get(SR, record["SR"]), txn.get(Host, record["host"])
    other = txn.first(PBD, SR=storage.ref, host=host.ref)
    if other is not None:
        raise errors.pbd_exists(storage.ref, host.ref, other.ref)
    sr_rules.require_usable(record["device_config"])
    ref = txn.create(
        PBD(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            host=host.ref,
            SR=storage.ref,
            device_config=record["device_config"],
            currently_attached=False,
            other_config=record["other_config"],
        )
    )
    sr_rules.refresh(txn, storage.ref)
    return ref


def destroy(ctx: CallContext, *, self: Ref[PBD]) -> None:
    """Removes a connection.

    Raises:
        OPERATION_NOT_ALLOWED: It is plugged.
    """
    pbd = ctx.txn.get(PBD, self)
    if pbd.currently_attached:
        raise errors.operation_not_allowed("PBD is currently attached")
    ctx.txn.destroy(PBD, self)
    if ctx.txn.exists(SR, pbd.SR):
        sr_rules.refresh(ctx.txn, pbd.SR)


def plug(ctx: CallContext, *, self: Ref[PBD]) -> None:
    """Connects a host to its storage. One that is connected is asked to see to it that it is.

    Raises:
        HOST_OFFLINE, SR_UNKNOWN_DRIVER, SR_NOT_SHARABLE, SR_BACKEND_FAILURE_n: in this order.
    """
    txn = ctx.txn
    pbd = txn.get(PBD, self)
    storage = txn.get(SR, pbd.SR)
    ctx.require_live(pbd.host)
    source = source_of(storage.type, pbd.device_config, storage.sm_config)
    others = [p for p in txn.where(PBD, SR=storage.ref) if p.currently_attached and p.host != pbd.host]
    if others and not storage.shared:
        raise errors.sr_not_sharable(storage.ref, others[0].host)
    ctx.storage_actions.append((pbd.host, AttachStorage(sr=storage.uuid, source=source)))
    txn.update(PBD, self, currently_attached=True)
    sr_rules.refresh(txn, storage.ref)


def unplug(ctx: CallContext, *, self: Ref[PBD]) -> None:
    """Disconnects a host from its storage; nothing to do if it is not connected.

    Raises:
        HOST_OFFLINE, SR_BACKEND_FAILURE_n: in this order; the latter when something on the host uses the storage.
    """
    pbd = ctx.txn.get(PBD, self)
    if not pbd.currently_attached:
        return
    ctx.require_live(pbd.host)
    storage = ctx.txn.get(SR, pbd.SR)
    ctx.storage_actions.append((pbd.host, DetachStorage(sr=storage.uuid)))
    ctx.txn.update(PBD, self, currently_attached=False)
    sr_rules.refresh(ctx.txn, storage.ref)


def set_device_config(ctx: CallContext, *, self: Ref[PBD], value: Mapping[str, str]) -> None:
    """Writes how the host is to reach the storage, from the next time that it is plugged.

    Raises:
        VALUE_NOT_SUPPORTED: A key is not for users.
    """
    ctx.txn.get(PBD, self)
    sr_rules.require_usable(value)
    ctx.txn.update(PBD, self, device_config=value)


def lost(view: View, host: Ref[Host], facts: HostFacts) -> tuple[Ref[PBD], ...]:
    """The connections that this host should have, and has not: it was started anew."""
    return tuple(
        pbd.ref
        for pbd in view.where(PBD, host=host)
        if pbd.currently_attached and view.get(SR, pbd.SR).uuid not in facts.storage
    )


def give_up(ctx: CallContext, *, self: Ref[PBD], reason: str) -> None:
    """Notes that a connection could not be made again when the host was started, and raises an alert."""
    pbd = ctx.txn.find(PBD, self)
    if pbd is None:
        return
    ctx.txn.update(PBD, self, currently_attached=False)
    sr_rules.refresh(ctx.txn, pbd.SR)
    raise_alert(
        ctx.txn,
        ctx.new_uuid,
        ctx.now,
        name=PLUG_FAILED,
        priority=PLUG_FAILED_PRIORITY,
        cls=Cls.HOST,
        obj_uuid=ctx.txn.get(Host, pbd.host).uuid,
        body=reason,
    )
