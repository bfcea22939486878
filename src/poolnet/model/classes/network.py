"""What is a network? The class network of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.pif import PIF
    from poolnet.model.classes.vif import VIF
    from poolnet.model.elsewhere import Blob
    from poolnet.model.enums import NetworkDefaultLockingMode, NetworkOperations, NetworkPurpose
    from poolnet.model.types import Ref


@api_class("network", events=True, role=Role.VM_ADMIN, constructor=True)
class Network(Row):
    """A virtual switch across the pool: one bridge per host, joined to the outside by one PIF at most."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name_label: str = rw(
        default="", path="name/label", write_role=Role.POOL_OPERATOR, doc="A name for people; not unique."
    )
    name_description: str = rw(
        default="", path="name/description", write_role=Role.POOL_OPERATOR, doc="What it is, in free text."
    )
    allowed_operations: tuple[NetworkOperations, ...] = dynamic(
        default=(), persisted=False, doc="What may be done with it now."
    )
    current_operations: Mapping[str, NetworkOperations] = dynamic(
        default={}, persisted=False, doc="What is being done with it, by task."
    )
    VIFs: tuple[Ref[VIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="The VIFs on it.")
    PIFs: tuple[Ref[PIF], ...] = dynamic(
        default=NO_DEFAULT,
        computed=True,
        doc="The PIFs that join it to the outside, at most one per host; without any it is internal.",
    )
    MTU: int = rw(
        default=1500,
        since="midnight-ride",
        doc="The largest packet in bytes; takes effect when PIFs are next brought up and VIFs next plugged.",
    )
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        write_role=Role.POOL_OPERATOR,
        map_key_roles={
            "folder": Role.VM_OPERATOR,
            "XenCenter.CustomFields.*": Role.VM_OPERATOR,
            "XenCenterCreateInProgress": Role.VM_OPERATOR,
        },
        doc="Further settings, by key.",
    )
    bridge: str = static(default="", doc="The name of its bridge, the same on every host.")
    managed: bool = static(
        default=True, since="falcon", doc="Whether poolnet makes the bridge; otherwise it is only used."
    )
    blobs: Mapping[str, Ref[Blob]] = dynamic(
        default={}, since="orlando", doc="The files kept for it, by name."
    )
    tags: tuple[str, ...] = rw(
        default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="Words that people attach to find it."
    )
    default_locking_mode: NetworkDefaultLockingMode = dynamic(
        default="unlocked", since="tampa", doc="What VIFs with the locking mode network_default may send."
    )
    assigned_ips: Mapping[Ref[VIF], str] = dynamic(
        default={},
        since="creedence",
        doc="The addresses leased to VIFs, on the host internal management network.",
    )
    purpose: tuple[NetworkPurpose, ...] = dynamic(
        default=(),
        since="inverness",
        doc="The services that this network carries; NBD opens the hosts' firewalls on it.",
    )


MESSAGES = (
    message(
        "attach",
        {"network": "ref:network", "host": "ref:host"},
        role=Role.POOL_OPERATOR,
        flags=("hidden",),
        since="miami",
        doc="Makes the network usable on a host now, bringing its PIF up if there is one.",
    ),
    message(
        "pool_introduce",
        {
            "name_label": "string",
            "name_description": "string",
            "MTU": "int",
            "other_config": "map:string:string",
            "bridge": "string",
            "managed": "bool",
            "purpose": "set:enum:network_purpose",
        },
        "ref:network",
        role=Role.POOL_OPERATOR,
        flags=("hidden",),
        doc="Makes the record of a network with exactly these values, without a check.",
    ),
    message(
        "create_new_blob",
        {
            "network": "ref:network",
            "name": "string",
            "mime_type": "string",
            "public": optional("bool", False),
        },
        "ref:blob",
        role=Role.POOL_OPERATOR,
        since="orlando",
        doc="Makes an empty file for the object.",
    ),
    message(
        "set_default_locking_mode",
        {"network": "ref:network", "value": "enum:network_default_locking_mode"},
        role=Role.POOL_OPERATOR,
        since="tampa",
        doc="Sets what VIFs with network_default may send; none may be plugged.",
    ),
    message(
        "attach_for_vm",
        {"host": "ref:host", "vm": "ref:VM"},
        role=Role.VM_POWER_ADMIN,
        flags=("hidden",),
        since="tampa",
        doc="Makes all networks of a VM usable on a host.",
    ),
    message(
        "detach_for_vm",
        {"host": "ref:host", "vm": "ref:VM"},
        role=Role.VM_POWER_ADMIN,
        flags=("hidden",),
        since="tampa",
        doc="Ends a VM's use of its networks on a host.",
    ),
    message(
        "add_purpose",
        {"self": "ref:network", "value": "enum:network_purpose"},
        role=Role.POOL_ADMIN,
        errors=("NETWORK_INCOMPATIBLE_PURPOSES",),
        since="inverness",
        doc="Adds a service; nbd and insecure_nbd exclude each other in the whole pool.",
    ),
    message(
        "remove_purpose",
        {"self": "ref:network", "value": "enum:network_purpose"},
        role=Role.POOL_ADMIN,
        since="inverness",
        doc="Removes a service.",
    ),
)
