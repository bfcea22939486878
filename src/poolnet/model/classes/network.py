"""What is a network? The class of the XenAPI; the registry collects it."""

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
    """The API class network."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name_label: str = rw(default="", path="name/label", write_role=Role.POOL_OPERATOR, doc="")
    name_description: str = rw(default="", path="name/description", write_role=Role.POOL_OPERATOR, doc="")
    allowed_operations: tuple[NetworkOperations, ...] = dynamic(default=(), persisted=False, doc="")
    current_operations: Mapping[str, NetworkOperations] = dynamic(default={}, persisted=False, doc="")
    VIFs: tuple[Ref[VIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    PIFs: tuple[Ref[PIF], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    MTU: int = rw(default=1500, since="midnight-ride", doc="")
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        write_role=Role.POOL_OPERATOR,
        map_key_roles={
            "folder": Role.VM_OPERATOR,
            "XenCenter.CustomFields.*": Role.VM_OPERATOR,
            "XenCenterCreateInProgress": Role.VM_OPERATOR,
        },
        doc="",
    )
    bridge: str = static(default="", doc="")
    managed: bool = static(default=True, since="falcon", doc="")
    blobs: Mapping[str, Ref[Blob]] = dynamic(default={}, since="orlando", doc="")
    tags: tuple[str, ...] = rw(default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="")
    default_locking_mode: NetworkDefaultLockingMode = dynamic(default="unlocked", since="tampa", doc="")
    assigned_ips: Mapping[Ref[VIF], str] = dynamic(default={}, since="creedence", doc="")
    purpose: tuple[NetworkPurpose, ...] = dynamic(default=(), since="inverness", doc="")


MESSAGES = (
    message(
        "attach",
        {"network": "ref:network", "host": "ref:host"},
        role=Role.POOL_OPERATOR,
        flags=("hidden",),
        since="miami",
        doc="",
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
        doc="",
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
        doc="",
    ),
    message(
        "set_default_locking_mode",
        {"network": "ref:network", "value": "enum:network_default_locking_mode"},
        role=Role.POOL_OPERATOR,
        since="tampa",
        doc="",
    ),
    message(
        "attach_for_vm",
        {"host": "ref:host", "vm": "ref:VM"},
        role=Role.VM_POWER_ADMIN,
        flags=("hidden",),
        since="tampa",
        doc="",
    ),
    message(
        "detach_for_vm",
        {"host": "ref:host", "vm": "ref:VM"},
        role=Role.VM_POWER_ADMIN,
        flags=("hidden",),
        since="tampa",
        doc="",
    ),
    message(
        "add_purpose",
        {"self": "ref:network", "value": "enum:network_purpose"},
        role=Role.POOL_ADMIN,
        errors=("NETWORK_INCOMPATIBLE_PURPOSES",),
        since="inverness",
        doc="",
    ),
    message(
        "remove_purpose",
        {"self": "ref:network", "value": "enum:network_purpose"},
        role=Role.POOL_ADMIN,
        since="inverness",
        doc="",
    ),
)
