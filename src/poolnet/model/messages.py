"""Which messages does a class have? The declared ones and those that its fields imply; the registry asks.

Every class in the database has get_all, get_record and so on, a getter per public field, and setters per
writable one (spec §2.1): they are derived here and listed nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final

from poolnet.model.declare import (
    REMOVED,
    SIDE_EFFECT,
    ClassDecl,
    FieldDecl,
    MessageDecl,
    MessageSpec,
    ParamDecl,
    Unset,
    class_decl,
    param_decl,
)
from poolnet.model.roles import Role
from poolnet.model.types import MapT, RecordT, RefT, Row, SetT, StringT, VoidT, WireType, parse_wire_type

_HIDDEN: Final = "hidden"
_TEXT: Final = StringT()
_NOTHING: Final = VoidT()


def declare_class(python_type: type[Row], messages: Iterable[MessageSpec]) -> ClassDecl:
    """Gives a class's whole declaration: explicit messages first, then the derived ones in the API's order.

    Raises:
        ValueError: two messages have one name.
    """
    decl = class_decl(python_type)
    by_name: dict[str, MessageDecl] = {}
    for made in (*(_explicit(decl, spec) for spec in messages), *implicit_messages(decl)):
        if made.name in by_name:
            raise ValueError(f"{made.full_name} is declared twice")
        by_name[made.name] = made
    return dataclasses.replace(decl, messages=by_name)


def _explicit(decl: ClassDecl, spec: MessageSpec) -> MessageDecl:
    """Gives the declaration of a message that a class module spells out."""
    role = decl.default_role if isinstance(spec.role, Unset) else spec.role
    return MessageDecl(
        cls=decl.name,
        name=spec.name,
        full_name=f"{decl.name}.{spec.name}",
        kind="explicit",
        params=tuple(param_decl(name, param) for name, param in spec.params.items()),
        result=parse_wire_type(spec.result),
        min_role=role,
        client_cert_allowed=role is Role.READ_ONLY if spec.client_cert is None else spec.client_cert,
        doc=spec.doc,
        **spec.options,
    )


def implicit_messages(decl: ClassDecl) -> Iterator[MessageDecl]:
    """Derives the messages that nobody spells out (spec §2.1); none for a class outside the database."""
    if not decl.in_database:
        return
    if decl.lists_all:
        yield from _listing(decl)
    for field in decl.fields:
        yield from _of_field(decl, field)
    yield from _of_object(decl)


def _listing(decl: ClassDecl) -> Iterator[MessageDecl]:
    """Derives get_all and its relatives."""
    references = SetT(RefT(decl.name))
    records = MapT(RefT(decl.name), RecordT(decl.name))
    expression = (_param("expr", _TEXT),)
    yield _reader(decl, "get_all", (), references, "Lists the objects of the class.")
    yield _reader(decl, "get_all_where", expression, references, "Lists those that match a filter.", _HIDDEN)
    yield _reader(
        decl, "get_all_records_where", expression, records, "Lists the records that match a filter.", _HIDDEN
    )
    yield _reader(decl, "get_all_records", (), records, "Lists the records of all objects of the class.")


def _of_object(decl: ClassDecl) -> Iterator[MessageDecl]:
    """Derives the messages about a whole object: constructor, destructor, record, look-ups."""
    this = _param("self", RefT(decl.name))
    if decl.constructor:
        record = _param("args", RecordT(decl.name))
        yield _maker(decl, "create", record, RefT(decl.name), "Makes an object of the fields given.")
        yield _maker(decl, "destroy", this, _NOTHING, "Destroys the object.")
    uuid = (_param("uuid", _TEXT),)
    yield _reader(decl, "get_by_uuid", uuid, RefT(decl.name), "Finds the object with this uuid.")
    yield _reader(decl, "get_record", (this,), RecordT(decl.name), "Reads all public fields of the object.")
    if any(
        field.internal_name == "name__label" for field in decl.fields
    ):  # pool.name_label is not such a name
        label = (_param("label", _TEXT),)
        yield _reader(
            decl, "get_by_name_label", label, SetT(RefT(decl.name)), "Finds the objects with this name."
        )


def _reader(
    decl: ClassDecl, name: str, params: tuple[ParamDecl, ...], result: WireType, doc: str, *flags: str
) -> MessageDecl:
    """Derives a message that reads whole objects."""
    more = {REMOVED} if decl.state == "removed" else set()
    if decl.computed_records:
        more.add(SIDE_EFFECT)
    return MessageDecl(
        cls=decl.name,
        name=name,
        full_name=f"{decl.name}.{name}",
        kind=f"implicit:obj_{name}",
        params=params,
        result=result,
        min_role=decl.implicit_role,
        client_cert_allowed=decl.implicit_role is Role.READ_ONLY,
        flags=frozenset(more.union(flags)),
        state=decl.state,
        since=decl.since,
        deprecated_since=decl.deprecated_since,
        doc=doc,
    )


def _maker(decl: ClassDecl, name: str, param: ParamDecl, result: WireType, doc: str) -> MessageDecl:
    """Derives the constructor or the destructor."""
    return MessageDecl(
        cls=decl.name,
        name=name,
        full_name=f"{decl.name}.{name}",
        kind=f"implicit:obj_{name}",
        params=(param,),
        result=result,
        min_role=decl.default_role,
        client_cert_allowed=False,
        is_async=True,
        flags=frozenset({SIDE_EFFECT}),
        state=decl.state,
        since=decl.since,
        deprecated_since=decl.deprecated_since,
        doc=doc,
    )


def _of_field(decl: ClassDecl, field: FieldDecl) -> Iterator[MessageDecl]:
    """Derives a field's getter and, if clients may write it, its setters."""
    this = _param("self", RefT(decl.name))
    yield _accessor(decl, field, "get", f"get_{field.name}", (this,), field.wire_type)
    if not field.writable:
        return
    value = _param("value", field.wire_type)
    yield _accessor(decl, field, "set", f"set_{field.name}", (this, value), _NOTHING)
    match field.wire_type:
        case MapT(key_type, value_type):
            key, value = _param("key", key_type), _param("value", value_type)
            yield _accessor(decl, field, "add", f"add_to_{field.name}", (this, key, value), _NOTHING)
            yield _accessor(decl, field, "remove", f"remove_from_{field.name}", (this, key), _NOTHING)
        case SetT(item_type):
            item = _param("value", item_type)
            yield _accessor(decl, field, "add", f"add_{field.name}", (this, item), _NOTHING)
            yield _accessor(decl, field, "remove", f"remove_{field.name}", (this, item), _NOTHING)
        case _:
            pass


_VERBS: Final = {"get": "Reads", "set": "Sets", "add": "Adds to", "remove": "Removes from"}


def _accessor(
    decl: ClassDecl, field: FieldDecl, verb: str, name: str, params: tuple[ParamDecl, ...], result: WireType
) -> MessageDecl:
    """Derives one message about one field."""
    reads = verb == "get"
    flags = {REMOVED} if field.state == "removed" else set()
    if (reads and decl.computed_records) or (verb == "set" and field.side_effect_setter):
        flags.add(SIDE_EFFECT)
    return MessageDecl(
        cls=decl.name,
        name=name,
        full_name=f"{decl.name}.{name}",
        kind=f"implicit:field_{verb}",
        params=params,
        result=result,
        min_role=field.read_role if reads else field.write_role,
        client_cert_allowed=field.read_role is Role.READ_ONLY
        if reads
        else verb == "set" and field.client_cert_setter,
        flags=frozenset(flags),
        map_key_roles=field.map_key_roles if verb in ("add", "remove") else {},
        state=field.state,
        since=field.since,
        deprecated_since=field.deprecated_since,
        doc=f"{_VERBS[verb]} the field {field.name}.",
        field=field,
    )


def _param(name: str, wire_type: WireType) -> ParamDecl:
    """Makes a parameter that must be given."""
    return ParamDecl(name=name, wire_type=wire_type)
