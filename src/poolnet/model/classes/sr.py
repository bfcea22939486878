"""What is storage here? The class SR of the XenAPI."""

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
    """A storage repository: a place for virtual disks."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name_label: str = static(default="", path="name/label", doc="A name for people; not unique.")
    name_description: str = static(default="", path="name/description", doc="What it is, in free text.")
    allowed_operations: tuple[StorageOperations, ...] = dynamic(
        default=(), persisted=False, doc="What may be done with it now."
    )
    current_operations: Mapping[str, StorageOperations] = dynamic(
        default={}, persisted=False, doc="What is being done with it, by task."
    )
    VDIs: tuple[Ref[VDI], ...] = dynamic(default=NO_DEFAULT, computed=True, doc="The disks in it.")
    PBDs: tuple[Ref[PBD], ...] = dynamic(
        default=NO_DEFAULT, computed=True, doc="The hosts' connections to it."
    )
    virtual_allocation: int = dynamic(default=NO_DEFAULT, doc="The sizes of its disks together, in bytes.")
    physical_utilisation: int = dynamic(default=NO_DEFAULT, doc="The bytes that they really take.")
    physical_size: int = static(default=NO_DEFAULT, doc="Its size in bytes.")
    type: str = static(default=NO_DEFAULT, doc="The driver, such as nfs or lvm.")
    content_type: str = static(default=NO_DEFAULT, doc="What it is for, such as iso or user.")
    shared: bool = dynamic(default=NO_DEFAULT, doc="Whether several hosts can use it at once.")
    other_config: Mapping[str, str] = rw(
        default=NO_DEFAULT,
        map_key_roles={"folder": Role.VM_OPERATOR, "XenCenter.CustomFields.*": Role.VM_OPERATOR},
        doc="Further settings, by key.",
    )
    tags: tuple[str, ...] = rw(
        default=(), write_role=Role.VM_OPERATOR, since="orlando", doc="Words that people attach to find it."
    )
    sm_config: Mapping[str, str] = rw(default={}, since="miami", doc="The driver's notes.")
    blobs: Mapping[str, Ref[Blob]] = dynamic(
        default={}, since="orlando", doc="The files kept for it, by name."
    )
    local_cache_enabled: bool = dynamic(
        default=False, since="cowley", doc="Whether it may hold local caches of shared disks."
    )
    introduced_by: Ref[DRTask] = dynamic(
        default=NULL, since="boston", doc="The disaster recovery that brought it."
    )
    clustered: bool = dynamic(
        default=False, since="dundee", doc="Whether its hosts must be in a storage cluster."
    )
    is_tools_sr: bool = dynamic(default=False, since="dundee", doc="Whether it holds the guest tools.")
    default_vdi_visibility: bool = dynamic(
        default=NO_DEFAULT, internal=True, doc="Whether its disks are shown to clients."
    )


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
        doc="Makes new storage, deleting what was there.",
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
        doc="Makes the record of storage that exists.",
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
        doc="Makes storage without a record (use create).",
    ),
    message("destroy", {"sr": "ref:SR"}, errors=("SR_HAS_PBD",), doc="Deletes the storage and its record."),
    message(
        "forget", {"sr": "ref:SR"}, errors=("SR_HAS_PBD",), doc="Deletes the record and leaves the storage."
    ),
    message("update", {"sr": "ref:SR"}, since="symc", doc="Has the driver read the sizes again."),
    message(
        "get_supported_types", {}, "set:string", role=Role.READ_ONLY, is_async=False, doc="Names the drivers."
    ),
    message("scan", {"sr": "ref:SR"}, role=Role.VM_POWER_ADMIN, doc="Looks for disks that come or went."),
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
        doc="Says what storage is there, in the driver's own words.",
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
        doc="Says what storage is there.",
    ),
    message("set_shared", {"sr": "ref:SR", "value": "bool"}, doc="Sets whether several hosts can use it."),
    message("set_name_label", {"sr": "ref:SR", "value": "string"}, doc="Sets its name."),
    message("set_name_description", {"sr": "ref:SR", "value": "string"}, doc="Sets its description."),
    message(
        "create_new_blob",
        {"sr": "ref:SR", "name": "string", "mime_type": "string", "public": optional("bool", False)},
        "ref:blob",
        since="orlando",
        doc="Makes an empty file for the object.",
    ),
    message(
        "set_physical_size",
        {"self": "ref:SR", "value": "int"},
        is_async=False,
        since="miami",
        doc="Notes its size.",
    ),
    message(
        "set_virtual_allocation",
        {"self": "ref:SR", "value": "int"},
        role=LOCAL_ROOT,
        is_async=False,
        flags=("hidden",),
        since="miami",
        doc="Notes the sizes of its disks.",
    ),
    message(
        "set_physical_utilisation",
        {"self": "ref:SR", "value": "int"},
        role=LOCAL_ROOT,
        is_async=False,
        flags=("hidden",),
        since="miami",
        doc="Notes what its disks take.",
    ),
    message(
        "assert_can_host_ha_statefile",
        {"sr": "ref:SR"},
        since="orlando",
        doc="Fails unless high availability can use it.",
    ),
    message(
        "assert_supports_database_replication",
        {"sr": "ref:SR"},
        since="boston",
        doc="Fails unless it can hold a copy of the database.",
    ),
    message(
        "enable_database_replication",
        {"sr": "ref:SR"},
        since="boston",
        doc="Has it hold a copy of the database.",
    ),
    message("disable_database_replication", {"sr": "ref:SR"}, since="boston", doc="Ends that."),
    message(
        "get_data_sources",
        {"sr": "ref:SR"},
        "set:record:data_source",
        role=Role.READ_ONLY,
        is_async=False,
        since="dundee",
        doc="Lists what can be measured of the object.",
    ),
    message(
        "record_data_source",
        {"sr": "ref:SR", "data_source": "string"},
        is_async=False,
        since="dundee",
        doc="Starts recording a measurement.",
    ),
    message(
        "query_data_source",
        {"sr": "ref:SR", "data_source": "string"},
        "float",
        role=Role.READ_ONLY,
        is_async=False,
        since="dundee",
        doc="Gives the newest value of a measurement.",
    ),
    message(
        "forget_data_source_archives",
        {"sr": "ref:SR", "data_source": "string"},
        is_async=False,
        since="dundee",
        doc="Deletes the records of a measurement.",
    ),
    message(
        "get_live_hosts",
        {"sr": "ref:SR"},
        "set:ref:host",
        flags=("hidden",),
        since="stockholm",
        doc="Lists the live hosts that are connected to it.",
    ),
)
