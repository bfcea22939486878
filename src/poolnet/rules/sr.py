"""Which storage is there, and what may be done to it? The messages of SR that poolnet has.

poolnet connects hosts to storage so that a change of the network can be followed by the storage as people are used to; it
keeps no disks, so an SR has no VDIs. What a host must do is left in the context, and done before the call is committed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from poolnet.db.txn import Txn, View
from poolnet.hostnet.protocol import StorageSpace
from poolnet.hostnet.storage import SR_PATTERN, AttachStorage, CreateStorage, DeleteStorage, MeasureStorage
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.sr import SR
from poolnet.model.enums import StorageOperations
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext
from poolnet.rules.storage_source import TYPES, source_of

NO_CONFIG: Final[Mapping[str, str]] = {}
UNKNOWN: Final = -1  # of sizes, while nobody has looked
_OFFERED: Final = (
    StorageOperations.SCAN,
    StorageOperations.DESTROY,
    StorageOperations.FORGET,
    StorageOperations.PLUG,
    StorageOperations.UNPLUG,
    StorageOperations.UPDATE,
    StorageOperations.PBD_CREATE,
    StorageOperations.PBD_DESTROY,
)
"""What allowed_operations may list: what poolnet can do."""


def create(
    ctx: CallContext,
    *,
    host: Ref[Host],
    device_config: Mapping[str, str],
    physical_size: int,
    name_label: str,
    name_description: str,
    type: str,
    content_type: str,
    shared: bool,
    sm_config: Mapping[str, str] = NO_CONFIG,
) -> Ref[SR]:
    """Makes new storage and connects hosts to it: that host, or all of them to shared storage.

    `physical_size` says nothing to these types of storage, as in the reference. A connection that fails, fails the call,
    and nothing stays (the reference keeps the record then).

    Raises:
        HANDLE_INVALID, HOST_OFFLINE, SR_UNKNOWN_DRIVER, VALUE_NOT_SUPPORTED, SR_BACKEND_FAILURE_n: in this order.
    """
    del physical_size
    ctx.require_live(host)
    kind = type.lower()
    require_usable(device_config)
    source = source_of(kind, device_config, sm_config)
    ref = introduce(
        ctx,
        uuid="",
        name_label=name_label,
        name_description=name_description,
        type=kind,
        content_type=content_type,
        shared=shared,
        sm_config=sm_config,
    )
    uuid = ctx.txn.get(SR, ref).uuid
    if kind != "iso":  # what is on it comes from elsewhere
        ctx.storage_actions.append((host, CreateStorage(sr=uuid, source=source)))
    for each in ctx.txn.refs(Host) if shared else (host,):
        ctx.txn.create(
            PBD(
                ref=ctx.new_ref(),
                uuid=ctx.new_uuid(),
                host=each,
                SR=ref,
                device_config=device_config,
                currently_attached=ctx.is_live(each),
                other_config={},
            )
        )
        if ctx.is_live(each):
            ctx.storage_actions.append((each, AttachStorage(sr=uuid, source=source)))
    refresh(ctx.txn, ref)
    return ref


def introduce(
    ctx: CallContext,
    *,
    uuid: str,
    name_label: str,
    name_description: str,
    type: str,
    content_type: str,
    shared: bool,
    sm_config: Mapping[str, str] = NO_CONFIG,
) -> Ref[SR]:
    """Makes the record of storage that exists. Its type is looked at when a host is to be connected.

    Raises:
        UUID_INVALID: What is given is none; "" stands for a new one.
        SR_UUID_EXISTS: There is such storage already.
    """
    if uuid and not re.fullmatch(SR_PATTERN, uuid):
        raise errors.uuid_invalid("SR", uuid)
    if any(row.uuid == uuid for row in ctx.txn.all(SR)):
        raise errors.sr_uuid_exists(uuid)
    ref = ctx.txn.create(
        SR(
            ref=ctx.new_ref(),
            uuid=uuid or ctx.new_uuid(),
            name_label=name_label,
            name_description=name_description,
            virtual_allocation=0,
            physical_utilisation=UNKNOWN,
            physical_size=UNKNOWN,
            type=type.lower(),
            content_type=content_type,
            shared=shared,
            other_config={},
            sm_config=sm_config,
            default_vdi_visibility=True,
        )
    )
    refresh(ctx.txn, ref)
    return ref


def forget(ctx: CallContext, *, sr: Ref[SR]) -> None:
    """Removes the record of storage and its connections; the storage stays as it is.

    Raises:
        SR_HAS_PBD: A host is connected.
    """
    _require(ctx.txn, sr, StorageOperations.FORGET)
    _remove(ctx.txn, sr)


def destroy(ctx: CallContext, *, sr: Ref[SR]) -> None:
    """Removes storage, which must be empty, and its record.

    Raises:
        SR_HAS_PBD, SR_HAS_NO_PBDS, SR_INDESTRUCTIBLE, HOST_OFFLINE, SR_UNKNOWN_DRIVER, SR_BACKEND_FAILURE_n: in this
        order.
    """
    row = ctx.txn.get(SR, sr)
    _require(ctx.txn, sr, StorageOperations.DESTROY)
    if row.other_config.get("indestructible") == "true":
        raise errors.sr_indestructible(sr)
    pbd = next(iter(sorted(ctx.txn.where(PBD, SR=sr), key=lambda pbd: pbd.host != ctx.local_host)))
    ctx.require_live(pbd.host)
    source = source_of(row.type, pbd.device_config, row.sm_config)
    if row.type != "iso":
        ctx.storage_actions.append((pbd.host, DeleteStorage(sr=row.uuid, source=source)))
    _remove(ctx.txn, sr)


def scan(ctx: CallContext, *, sr: Ref[SR]) -> None:
    """Looks how large the storage is and how full.

    Raises:
        SR_HAS_NO_PBDS, SR_NOT_ATTACHED, SR_BACKEND_FAILURE_n: in this order.
    """
    row = ctx.txn.get(SR, sr)
    pbds = list(ctx.txn.where(PBD, SR=sr))
    if not pbds:
        raise errors.sr_has_no_pbds(sr)
    attached = [pbd for pbd in pbds if pbd.currently_attached and ctx.is_live(pbd.host)]
    if not attached:
        raise errors.sr_not_attached(sr)
    ctx.storage_actions.append((attached[0].host, MeasureStorage(sr=row.uuid)))


def update(ctx: CallContext, *, sr: Ref[SR]) -> None:
    """The same as `scan`: there are no disks to look for."""
    scan(ctx, sr=sr)


def get_supported_types(ctx: CallContext) -> tuple[str, ...]:
    """The types of storage that hosts can be connected to."""
    del ctx
    return TYPES


def set_name_label(ctx: CallContext, *, sr: Ref[SR], value: str) -> None:
    """Writes the name."""
    ctx.txn.update(SR, sr, name_label=value)


def set_name_description(ctx: CallContext, *, sr: Ref[SR], value: str) -> None:
    """Writes the description."""
    ctx.txn.update(SR, sr, name_description=value)


def set_shared(ctx: CallContext, *, sr: Ref[SR], value: bool) -> None:
    """Says whether several hosts may use the storage at once.

    Raises:
        SR_HAS_MULTIPLE_PBDS: Several do have connections.
    """
    pbds = [pbd.ref for pbd in ctx.txn.where(PBD, SR=sr)]
    if not value and len(pbds) > 1:
        raise errors.sr_has_multiple_pbds(pbds)
    ctx.txn.update(SR, sr, shared=value)


def set_physical_size(ctx: CallContext, *, self: Ref[SR], value: int) -> None:
    """Notes the size."""
    ctx.txn.update(SR, self, physical_size=value)


def set_virtual_allocation(ctx: CallContext, *, self: Ref[SR], value: int) -> None:
    """Notes the sizes of the disks together."""
    ctx.txn.update(SR, self, virtual_allocation=value)


def set_physical_utilisation(ctx: CallContext, *, self: Ref[SR], value: int) -> None:
    """Notes what the disks take."""
    ctx.txn.update(SR, self, physical_utilisation=value)


def require_usable(device_config: Mapping[str, str]) -> None:
    """Keeps users from the key that drivers use among themselves.

    Raises:
        VALUE_NOT_SUPPORTED: It is there.
    """
    if "SRmaster" in device_config:
        value = device_config["SRmaster"]
        raise errors.value_not_supported("SRmaster", value, "This key is for internal use only")


def note_space(txn: Txn, uuid: str, space: StorageSpace) -> None:
    """Writes what a host has measured, if it has."""
    row = next((row for row in txn.all(SR) if row.uuid == uuid), None)
    if row is not None and space.size_bytes >= 0:
        txn.update(SR, row.ref, physical_size=space.size_bytes, physical_utilisation=space.used_bytes)


def refusal(view: View, row: SR, operation: StorageOperations) -> errors.Failure | None:
    """What forbids an operation on storage; None if it may be done."""
    pbds = list(view.where(PBD, SR=row.ref))
    attached = any(pbd.currently_attached for pbd in pbds)
    if operation in (StorageOperations.DESTROY, StorageOperations.FORGET) and attached:
        return errors.sr_has_pbd(row.ref)
    if operation is StorageOperations.DESTROY and not pbds:
        return errors.sr_has_no_pbds(row.ref)
    return None


def refresh(txn: Txn, ref: Ref[SR]) -> None:
    """Writes what may be done to storage now."""
    row = txn.get(SR, ref)
    allowed = tuple(op for op in _OFFERED if refusal(txn, row, op) is None)
    txn.update(SR, ref, allowed_operations=allowed)


def _require(view: View, ref: Ref[SR], operation: StorageOperations) -> None:
    found = refusal(view, view.get(SR, ref), operation)
    if found is not None:
        raise found


def _remove(txn: Txn, ref: Ref[SR]) -> None:
    for pbd in list(txn.where(PBD, SR=ref)):
        txn.destroy(PBD, pbd.ref)
    txn.destroy(SR, ref)
