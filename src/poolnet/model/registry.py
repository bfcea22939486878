"""Which classes, messages, enums and relations are there? Dispatch, database, rules and codecs look here."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from poolnet.model import enums
from poolnet.model.classes import (
    auth,
    bond,
    certificate,
    event,
    feature,
    host,
    host_management_messages,
    host_metrics,
    host_pool_messages,
    host_service_messages,
    network,
    network_sriov,
    pbd,
    pci,
    pif,
    pif_metrics,
    pool,
    pool_management_messages,
    pool_service_messages,
    role,
    secret,
    session,
    sr,
    subject,
    task,
    tunnel,
    user,
    vif,
    vif_metrics,
    vlan,
    vm,
    vm_copy_messages,
    vm_guest_metrics,
    vm_metrics,
    vm_power_messages,
    vm_settings_messages,
)
from poolnet.model.classes import message as message_class
from poolnet.model.declare import ClassDecl, MessageDecl, MessageSpec
from poolnet.model.errors import ERRORS, UNDOCUMENTED_ERRORS
from poolnet.model.messages import declare_class
from poolnet.model.types import MapT, OptionT, RefT, Row, SetT, WireType

_DECLARED: Final[tuple[tuple[type[Row], Iterable[MessageSpec]], ...]] = (
    (session.Session, session.MESSAGES),
    (task.Task, task.MESSAGES),
    (event.Event, event.MESSAGES),
    (pool.Pool, pool_management_messages.MESSAGES + pool_service_messages.MESSAGES),
    (
        host.Host,
        host_management_messages.MESSAGES + host_pool_messages.MESSAGES + host_service_messages.MESSAGES,
    ),
    (host_metrics.HostMetrics, ()),
    (network.Network, network.MESSAGES),
    (pif.PIF, pif.MESSAGES),
    (pif_metrics.PIFMetrics, ()),
    (bond.Bond, bond.MESSAGES),
    (vlan.VLAN, vlan.MESSAGES),
    (tunnel.Tunnel, tunnel.MESSAGES),
    (network_sriov.NetworkSriov, network_sriov.MESSAGES),
    (vif.VIF, vif.MESSAGES),
    (vif_metrics.VIFMetrics, ()),
    (vm.VM, vm_power_messages.MESSAGES + vm_copy_messages.MESSAGES + vm_settings_messages.MESSAGES),
    (vm_metrics.VMMetrics, ()),
    (vm_guest_metrics.VMGuestMetrics, ()),
    (pbd.PBD, pbd.MESSAGES),
    (sr.SR, sr.MESSAGES),
    (role.RoleRecord, role.MESSAGES),
    (subject.Subject, subject.MESSAGES),
    (user.User, ()),
    (secret.Secret, secret.MESSAGES),
    (message_class.Message, message_class.MESSAGES),
    (pci.PCI, pci.MESSAGES),
    (feature.Feature, ()),
    (certificate.Certificate, ()),
    (auth.Auth, auth.MESSAGES),
)

CLASSES: Final[Mapping[str, ClassDecl]] = {
    python_type.wire_name: declare_class(python_type, specs) for python_type, specs in _DECLARED
}
"""Every class by its name in the API."""

MESSAGES: Final[Mapping[str, MessageDecl]] = {
    message.full_name: message for decl in CLASSES.values() for message in decl.messages.values()
}
"""Every message by its full name, such as "VLAN.create"."""

ENUMS: Final[Mapping[str, type[enum.StrEnum]]] = enums.ENUMS

_BY_TYPE: Final[Mapping[type[Row], ClassDecl]] = {decl.python_type: decl for decl in CLASSES.values()}

EMERGENCY_CALLS: Final = frozenset(name for name, decl in MESSAGES.items() if "emergency_call" in decl.flags)
"""The messages that a host in emergency mode still answers (spec §6.4)."""

SLAVE_LOCAL_WHITELIST: Final = frozenset(
    name for name, decl in MESSAGES.items() if "slave_local_whitelist" in decl.flags
)
"""The messages that a member answers itself to local sessions."""

CLASSES_WITHOUT_TASK_RECORDS: Final = frozenset({"task", "event"})
"""The classes whose synchronous messages make no task while they run (spec §4)."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Two fields that say the same: the reference `one_class.one_field`, and the set `many_class.many_field`.

    Each object of `one_class` refers to at most one object of `many_class`, whose set holds all that refer to
    it. The set follows from the references; nobody writes it (spec §2.3).
    """

    one_class: str
    one_field: str
    many_class: str
    many_field: str


RELATIONS: Final = (
    Relation("VM", "snapshot_of", "VM", "snapshots"),
    Relation("VM", "parent", "VM", "children"),
    Relation("task", "subtask_of", "task", "subtasks"),
    Relation("task", "session", "session", "tasks"),
    Relation("PIF", "bond_slave_of", "Bond", "slaves"),
    Relation("Bond", "master", "PIF", "bond_master_of"),
    Relation("VLAN", "tagged_PIF", "PIF", "VLAN_slave_of"),
    Relation("tunnel", "access_PIF", "PIF", "tunnel_access_PIF_of"),
    Relation("tunnel", "transport_PIF", "PIF", "tunnel_transport_PIF_of"),
    Relation("PBD", "host", "host", "PBDs"),
    Relation("PBD", "SR", "SR", "PBDs"),
    Relation("VIF", "VM", "VM", "VIFs"),
    Relation("VIF", "network", "network", "VIFs"),
    Relation("PIF", "host", "host", "PIFs"),
    Relation("PIF", "network", "network", "PIFs"),
    Relation("VM", "resident_on", "host", "resident_VMs"),
    Relation("PCI", "host", "host", "PCIs"),
    Relation("PCI", "physical_function", "PCI", "virtual_functions"),
    Relation("Feature", "host", "host", "features"),
    Relation("network_sriov", "physical_PIF", "PIF", "sriov_physical_PIF_of"),
    Relation("network_sriov", "logical_PIF", "PIF", "sriov_logical_PIF_of"),
    Relation("Certificate", "host", "host", "certificates"),
)
"""The relations between the classes kept here.

PCI.attached_VMs and VM.attached_PCIs are not among them: neither end is a reference.
"""

WRITTEN_SETS: Final = frozenset((("PCI", "attached_VMs"), ("VM", "attached_PCIs")))
"""The computed sets, as class and field, that follow from no reference: rules write both ends."""


def class_of(row_type: type[Row]) -> ClassDecl:
    """Gives the declaration of a row's class; KeyError for the markers of `elsewhere`."""
    return _BY_TYPE[row_type]


def referred_class(wire_type: WireType) -> str | None:
    """Names the class that a reference, or a set or map of references, refers to; None for other types."""
    match wire_type:
        case RefT(cls):
            return cls
        case SetT(item) | OptionT(item) | MapT(_, item):
            return referred_class(item)
        case _:
            return None


def inconsistencies() -> tuple[str, ...]:
    """Lists what does not fit together in the declarations; a test wants it empty."""
    return (*_relation_faults(), *_name_faults(), *_error_faults())


def _relation_faults() -> Iterator[str]:
    """Finds relations whose fields do not mirror each other."""
    for relation in RELATIONS:
        one = CLASSES[relation.one_class].field(relation.one_field)
        many = CLASSES[relation.many_class].field(relation.many_field)
        if one.wire_type != RefT(relation.many_class) or one.computed:
            yield f"{relation.one_class}.{one.name} is not a stored reference to {relation.many_class}"
        if many.wire_type != SetT(RefT(relation.one_class)) or not many.computed:
            yield f"{relation.many_class}.{many.name} is not a computed set of {relation.one_class}"


def _name_faults() -> Iterator[str]:
    """Finds fields of one class with one name, and required parameters after optional ones."""
    for decl in CLASSES.values():
        for names in (
            [each.name for each in decl.all_fields],
            [each.internal_name for each in decl.all_fields],
        ):
            if len(set(names)) != len(names):
                yield f"{decl.name} has two fields of one name"
    for full_name, message in MESSAGES.items():
        optional = [param.has_default for param in message.params]
        if optional != sorted(optional):
            yield f"{full_name} has a required parameter after an optional one"


def _error_faults() -> Iterator[str]:
    """Finds messages that document an error which does not exist."""
    for full_name, decl in MESSAGES.items():
        for code in decl.errors:
            if code not in ERRORS and code not in UNDOCUMENTED_ERRORS:
                yield f"{full_name} documents the unknown error {code}"
