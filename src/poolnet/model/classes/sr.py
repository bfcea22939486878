"""What is a SR? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, optional, rw, static
from poolnet.model.roles import LOCAL_ROOT, Role
from poolnet.model.types import NULL, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poolnet.model.classes.pbd import PBD
    from poolnet.model.elsewhere import VDI, Blob, DRTask
    from poolnet.model.enums import StorageOperations
    from poolnet.model.types import Ref


@api_class("SR", events=True, role=Role.POOL_OPERATOR)
class SR(Row):
    """The API class SR."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name_label: str = static(default="", path="name/label", doc="")
    name_description: str = static(default="", path="name/description", doc="")
    allowed_operations: tuple[StorageOperations, ...] = dynamic(default=(), persisted=False, doc="")
    current_operations: Mapping[str, StorageOperations] = dynamic(default={}, persisted=False, doc="")
    VDIs: tuple[Ref[VDI], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    PBDs: tuple[Ref[PBD], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="")
    virtual_allocation: int = dynamic(default=NO_DEFAULT, doc="")
    physical_utilisation: int = dynamic(default=NO_DEFAULT, doc="")
    physical_size: int = static(default=NO_DEFAULT, doc="")
    type: str = static(default=NO_DEFAULT, doc="")
    content_type: str = static(default=NO_DEFAULT, doc="")
    shared: bool = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        map_key_roles={"folder": Role.VM_OPERATOR, "XenCenter.CustomFields.*": Role.VM_OPERATOR},
        doc="",
    )
    tags: tuple[str, ...] = rw(default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="")
    sm_config: Mapping[str, str] = rw(default={}, since="miami", doc="")
    blobs: Mapping[str, Ref[Blob]] = dynamic(default={}, since="orlando", doc="")
    local_cache_enabled: bool = dynamic(default=False, since="cowley", doc="")
    introduced_by: Ref[DRTask] = dynamic(default=NULL, since="boston", doc="")
    clustered: bool = dynamic(default=False, since="dundee", doc="")
    is_tools_sr: bool = dynamic(default=False, since="dundee", doc="")
    default_vdi_visibility: bool = dynamic(default=NO_DEFAULT, internal=True, doc="")


MESSAGES = (
    message(
        "create",
        {
            "host": "ref:host",
            "device_config": "map:string:string",
            "physical_size": "int",
            "name_label": "string",
            "name_description": "string",
            "type": "string",
            "content_type": "string",
            "shared": "bool",
            "sm_config": optional("map:string:string", {}),
        },
        "ref:SR",
        errors=("SR_UNKNOWN_DRIVER",),
        doc="",
    ),
    message(
        "introduce",
        {
            "uuid": "string",
            "name_label": "string",
            "name_description": "string",
            "type": "string",
            "content_type": "string",
            "shared": "bool",
            "sm_config": optional("map:string:string", {}),
        },
        "ref:SR",
        doc="",
    ),
    message(
        "make",
        {
            "host": "ref:host",
            "device_config": "map:string:string",
            "physical_size": "int",
            "name_label": "string",
            "name_description": "string",
            "type": "string",
            "content_type": "string",
            "sm_config": optional("map:string:string", {}),
        },
        "string",
        state="deprecated",
        deprecated_since="miami",
        doc="",
    ),
    message("destroy", {"sr": "ref:SR"}, errors=("SR_HAS_PBD",), doc=""),
    message("forget", {"sr": "ref:SR"}, errors=("SR_HAS_PBD",), doc=""),
    message("update", {"sr": "ref:SR"}, since="symc", doc=""),
    message("get_supported_types", {}, "set:string", role=Role.READ_ONLY, is_async=False, doc=""),
    message("scan", {"sr": "ref:SR"}, role=Role.VM_POWER_ADMIN, doc=""),
    message(
        "probe",
        {
            "host": "ref:host",
            "device_config": "map:string:string",
            "type": "string",
            "sm_config": optional("map:string:string", {}),
        },
        "string",
        since="miami",
        doc="",
    ),
    message(
        "probe_ext",
        {
            "host": "ref:host",
            "device_config": "map:string:string",
            "type": "string",
            "sm_config": optional("map:string:string", {}),
        },
        "set:record:probe_result",
        since="kolkata",
        doc="",
    ),
    message("set_shared", {"sr": "ref:SR", "value": "bool"}, doc=""),
    message("set_name_label", {"sr": "ref:SR", "value": "string"}, doc=""),
    message("set_name_description", {"sr": "ref:SR", "value": "string"}, doc=""),
    message(
        "create_new_blob",
        {"sr": "ref:SR", "name": "string", "mime_type": "string", "public": optional("bool", False)},
        "ref:blob",
        since="orlando",
        doc="",
    ),
    message("set_physical_size", {"self": "ref:SR", "value": "int"}, is_async=False, since="miami", doc=""),
    message(
        "set_virtual_allocation",
        {"self": "ref:SR", "value": "int"},
        role=LOCAL_ROOT,
        is_async=False,
        flags=("hidden",),
        since="miami",
        doc="",
    ),
    message(
        "set_physical_utilisation",
        {"self": "ref:SR", "value": "int"},
        role=LOCAL_ROOT,
        is_async=False,
        flags=("hidden",),
        since="miami",
        doc="",
    ),
    message("assert_can_host_ha_statefile", {"sr": "ref:SR"}, since="orlando", doc=""),
    message("assert_supports_database_replication", {"sr": "ref:SR"}, since="boston", doc=""),
    message("enable_database_replication", {"sr": "ref:SR"}, since="boston", doc=""),
    message("disable_database_replication", {"sr": "ref:SR"}, since="boston", doc=""),
    message(
        "get_data_sources",
        {"sr": "ref:SR"},
        "set:record:data_source",
        role=Role.READ_ONLY,
        is_async=False,
        since="dundee",
        doc="",
    ),
    message(
        "record_data_source",
        {"sr": "ref:SR", "data_source": "string"},
        is_async=False,
        since="dundee",
        doc="",
    ),
    message(
        "query_data_source",
        {"sr": "ref:SR", "data_source": "string"},
        "float",
        role=Role.READ_ONLY,
        is_async=False,
        since="dundee",
        doc="",
    ),
    message(
        "forget_data_source_archives",
        {"sr": "ref:SR", "data_source": "string"},
        is_async=False,
        since="dundee",
        doc="",
    ),
    message("get_live_hosts", {"sr": "ref:SR"}, "set:ref:host", flags=("hidden",), since="stockholm", doc=""),
)
