"""What takes a change back that the audit log has recorded? A change like any other, decided on the present state.

Objects that were made go, objects that went come back with their references and uuids, fields get the values that they
had before; of maps and sets only what the change did is taken back. What others have built on the change since then, or
changed again, is in the way, and is said. Guests that were started or stopped, storage, and what the server itself did
(logins, membership of the pool) are not taken back this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from poolnet.db.body import decode_value
from poolnet.db.changes import merged
from poolnet.db.errors import BadRow
from poolnet.db.shape import BY_NAME, SHAPES, Shape
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.session import Session as SessionRow
from poolnet.model.classes.task import Task
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.declare import FieldDecl
from poolnet.model.types import Ref, RefT, Row, is_null
from poolnet.rules import vif as vif_rules
from poolnet.rules.attach import primary_address
from poolnet.rules.context import CallContext

HIDDEN: Final = "(secret)"
_OPPOSITES: Final[Mapping[str, Callable[..., None]]] = {
    "VIF.plug": vif_rules.unplug,
    "VIF.unplug": vif_rules.plug,
    "VIF.unplug_force": vif_rules.plug,
}
_UNIQUE: Final[Sequence[tuple[type[Row], tuple[str, ...]]]] = (
    (Network, ("bridge",)),
    (VIF, ("VM", "device")),
    (VLAN, ("tagged_PIF", "tag")),
    (PIF, ("host", "network")),
)
_PASSING: Final = (Task, SessionRow)
_MEMBERSHIP: Final = ("host.destroy",)


class Change(msgspec.Struct, frozen=True):
    """One object's part of a recorded change: all of it made or destroyed, or some fields before and after."""

    ref: str
    cls: str = msgspec.field(name="class")
    uuid: str = ""
    created: dict[str, Any] | None = None
    destroyed: dict[str, Any] | None = None
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}


class Entry(msgspec.Struct, frozen=True):
    """A record of the audit log, as far as it says what changed."""

    method: str = ""
    kind: str = ""
    arguments: dict[str, Any] = {}
    changes: tuple[Change, ...] = ()
    guests: int = 0
    storage: int = 0
    hostnames: tuple[tuple[str, str, str], ...] = ()


def undo(
    ctx: CallContext, *, number: int, entry: Entry, later: Mapping[str, Sequence[tuple[int, Change]]]
) -> None:
    """Takes back what a record says.

    Args:
        ctx: The call.
        number: The record's number.
        entry: The record.
        later: What later records say of the same objects, by reference, with their numbers.

    Raises:
        OPERATION_NOT_ALLOWED: It cannot be taken back; with the reason.
        CLUSTERING_ENABLED: A host would have another address, and a server of the database's cluster is found at it.
    """
    opposite = _OPPOSITES.get(entry.method)
    if opposite is not None:
        opposite(ctx, self=Ref[VIF](entry.arguments["self"]))
        return
    _require_kind(number, entry)
    undoing = _Undoing(ctx.txn, number, later)
    servers = [
        (row.ref, _managed_at(ctx.txn, row.ref)) for row in ctx.txn.all(Host) if row.uuid in ctx.servers
    ]
    try:
        for change in reversed(entry.changes):
            undoing.take_back(change)
        undoing.require_sound()
    except BadRow as error:
        raise _refused(number, f"its record cannot be read: {error}") from error
    for server, address in servers:
        if _managed_at(ctx.txn, server) != address:
            ctx.require_no_server(server)
    for host, former, name in entry.hostnames:
        row = ctx.txn.find(Host, Ref[Host](host))
        if row is not None and former != name:
            ctx.hostname_changes.append((row.ref, former))


def _managed_at(txn: Txn, host: Ref[Host]) -> tuple[object, ...]:
    """How a host gets the address that others find it at, and which one that is."""
    pif = txn.first(PIF, host=host, management=True)
    if pif is None:
        return ()
    return pif.ip_configuration_mode, pif.ipv6_configuration_mode, primary_address(pif)


def _require_kind(number: int, entry: Entry) -> None:
    if entry.kind not in ("rule", "field") or entry.storage or entry.guests:
        what = "storage" if entry.storage else "a guest" if entry.guests else "more than the configuration"
        raise _refused(number, f"{entry.method} concerned {what}")
    if entry.method in _MEMBERSHIP:  # its certificate and the secrets that it knew are of no use any more
        raise _refused(number, f"{entry.method} concerned membership of the pool")
    if not entry.changes:
        raise _refused(number, f"{entry.method} changed nothing that is kept")


class _Undoing:
    """One record on its way back."""

    def __init__(self, txn: Txn, number: int, later: Mapping[str, Sequence[tuple[int, Change]]]) -> None:
        self._txn = txn
        self._number = number
        self._later = later
        self._gone: list[Row] = []
        self._back: list[Row] = []

    def take_back(self, change: Change) -> None:
        """Takes one object's part back."""
        shape = BY_NAME.get(change.cls)
        if shape is None or not shape.durable:
            raise _refused(self._number, f"there is no class {change.cls} any more")
        if change.created is not None:
            self._destroy(shape, change, change.created)
        elif change.destroyed is not None:
            self._create(shape, change, change.destroyed)
        else:
            self._restore(shape, change)

    def _destroy(self, shape: Shape, change: Change, made: Mapping[str, Any]) -> None:
        row = self._present(shape, change)
        for decl in shape.durable:
            if decl.name in made:
                self._require_unchanged(decl, change, row, made[decl.name])
        self._txn.destroy(shape.row_type, row.ref)
        self._gone.append(row)

    def _create(self, shape: Shape, change: Change, body: Mapping[str, Any]) -> None:
        if self._txn.find(shape.row_type, Ref[Row](change.ref)) is not None:
            raise _refused(self._number, f"the {change.cls} {change.uuid} is there again")
        values = {
            decl.attribute: self._value(decl, body[decl.name]) for decl in shape.durable if decl.name in body
        }
        row = shape.row_type(ref=Ref(change.ref), **values)
        self._txn.create(row)
        self._back.append(row)

    def _restore(self, shape: Shape, change: Change) -> None:
        row = self._present(shape, change)
        fields: dict[str, Any] = {}
        for decl in shape.durable:
            if decl.name in change.after:
                self._require_unchanged(decl, change, row, change.after[decl.name])
                fields[decl.attribute] = merged(
                    self._value(decl, change.after[decl.name]),
                    self._value(decl, change.before[decl.name]),
                    getattr(row, decl.attribute),
                )
        self._txn.update(shape.row_type, row.ref, **fields)

    def _present(self, shape: Shape, change: Change) -> Row:
        row: Row | None = self._txn.find(shape.row_type, Ref[Row](change.ref))
        if row is None:
            by = next((f" (record {n})" for n, each in self._since(change) if each.destroyed is not None), "")
            raise _refused(self._number, f"the {change.cls} {change.uuid} is gone{by}")
        return row

    def _require_unchanged(self, decl: FieldDecl, change: Change, row: Row, then: Any) -> None:
        """Refuses if somebody has changed a field again; what hosts report by themselves is in nobody's way."""
        now, value = getattr(row, decl.attribute), self._value(decl, then)
        former = self._value(decl, change.before[decl.name]) if decl.name in change.before else None
        for number, each in reversed(self._since(change)):
            if decl.name in each.after and _clashes(former, value, now):
                what = f"{decl.name} of the {change.cls} {change.uuid} was changed again by record {number}"
                raise _refused(self._number, what)

    def _since(self, change: Change) -> Sequence[tuple[int, Change]]:
        return self._later.get(change.ref, ())

    def _value(self, decl: FieldDecl, value: Any) -> Any:
        if value == HIDDEN or (isinstance(value, Mapping) and HIDDEN in value.values()):
            raise _refused(self._number, f"{decl.name} is a secret, which the log does not have")
        return decode_value(decl, value)

    def require_sound(self) -> None:
        """Refuses if objects that go are still in use, or objects that come back do not fit any more."""
        for row in self._gone:
            for shape, decl in _referring(SHAPES[type(row)].name):
                users = self._txn.where(shape.row_type, **{decl.attribute: row.ref})
                if users and shape.row_type not in _PASSING:
                    user = f"{shape.name} {getattr(users[0], 'uuid', '')}"
                    raise _refused(
                        self._number, f"the {SHAPES[type(row)].name} that it made is used by {user}"
                    )
        for row in self._back:
            self._require_fits(row)

    def _require_fits(self, row: Row) -> None:
        shape = SHAPES[type(row)]
        for end in shape.one_ends:  # other references may dangle
            ref: Ref[Row] = getattr(row, end.attribute)
            if not is_null(ref) and not self._txn.exists(end.other, ref):
                raise _refused(self._number, f"the {SHAPES[end.other].name} of its {shape.name} is gone")
        for row_type, names in _UNIQUE:
            if isinstance(row, row_type):
                fields = {name: getattr(row, name) for name in names}
                others = [each for each in self._txn.where(row_type, **fields) if each.ref != row.ref]
                if others:
                    uuid = getattr(others[0], "uuid", "")
                    raise _refused(
                        self._number, f"the {shape.name} {uuid} has taken the place of what it destroyed"
                    )


def _clashes(before: Any, after: Any, now: Any) -> bool:
    """Whether a field is not what a change has made of it; of a map, one of the keys that the change concerned."""
    if isinstance(after, Mapping) and isinstance(before, Mapping) and isinstance(now, Mapping):
        concerned = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        return any(now.get(key) != after.get(key) for key in concerned)
    return bool(now != after)


def _referring(cls: str) -> Iterator[tuple[Shape, FieldDecl]]:
    """The fields that refer to objects of a class."""
    for shape in SHAPES.values():
        for decl in shape.decl.all_fields:
            if decl.attribute in shape.stored and decl.wire_type == RefT(cls):
                yield shape, decl


def _refused(number: int, why: str) -> errors.Failure:
    return errors.operation_not_allowed(f"Record {number} of the audit log cannot be undone: {why}")
