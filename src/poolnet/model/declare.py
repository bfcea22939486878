"""How is a class declared? The class modules use these functions; the registry collects what they made.

A class is a frozen dataclass whose attributes carry the names of the wire:

    @api_class("VLAN", events=True, role=Role.POOL_OPERATOR, since="miami")
    class VLAN(Row):
        uuid: str = dynamic(default=NO_DEFAULT, doc="…")
        tag: int = static(default=-1, since="miami", doc="The 802.1Q tag, 0 to 4094.")

The annotation gives the wire type (`Ref[PIF]` is ref:PIF, `tuple[int, ...]` is set:int, `Mapping[str, str]`
is map:string:string), the function gives the rest. The messages that are not derived from fields follow the
class in a tuple MESSAGES, each made by `message`.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast, dataclass_transform

from poolnet.model.annotations import wire_type_of_annotation
from poolnet.model.enums import enum_member
from poolnet.model.names import wire_name_of
from poolnet.model.roles import Role
from poolnet.model.types import NULL, EnumT, MapT, RefT, Row, SetT, Value, WireType, parse_wire_type, zero

RowClass = TypeVar("RowClass", bound=type[Row])

FIRST_RELEASE: Final = "rio"
SIDE_EFFECT: Final = "side_effecting_impl"
REMOVED: Final = "removed"
POOLNETS_OWN: Final = "poolnet"
"""The flag, and the release, of messages that the reference does not have."""


@dataclass(frozen=True, slots=True)
class Unset:
    """Stands for "not said in the declaration" where None has a meaning of its own."""


UNSET: Final = Unset()

NO_DEFAULT: Final = Unset()
"""The default of a field for which the API declares none: new rows have the zero of the type, and a
constructor must be told. It has to be written, because type checkers take fields without `default=` for
required arguments."""

_NO_KEYS: Final[Mapping[str, Role]] = {}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FieldDecl:
    """One field of a class.

    `name` is the name in records and messages; `attribute` the Python attribute (the same, but where Python
    has the word for itself, as in event.class); `internal_name` is the name in filters and in errors, with
    nested names joined by two underscores (spec §2.2). A `computed` field is the many end of a relation and
    follows from the one end; a `stored_ref_set` is a set of references that is written. `default` is the
    declared default if `has_default`, else the zero of the type. Fields that are `internal` are stored but
    neither in records nor readable by a message.
    """

    name: str
    attribute: str
    internal_name: str
    wire_type: WireType
    qualifier: str
    default: Value
    has_default: bool
    in_constructor: bool
    constructor_required: bool
    persisted: bool
    read_role: Role | None
    write_role: Role | None
    map_key_roles: Mapping[str, Role]
    computed: bool
    stored_ref_set: bool
    internal: bool
    side_effect_setter: bool
    indexed: bool
    client_cert_setter: bool
    state: str
    since: str
    deprecated_since: str | None
    doc: str

    @property
    def writable(self) -> bool:
        """Whether the class has a plain setter for the field."""
        return self.qualifier == "RW"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ParamDecl:
    """One parameter of a message; those at the end that have a default may be left out (spec §1.5)."""

    name: str
    wire_type: WireType
    has_default: bool = False
    default: Value = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MessageDecl:
    """One message of a class, as clients can call it: `full_name` is "VLAN.create".

    `params` are those after the session. `min_role` is the least role that may send it, or LOCAL_ROOT.
    `map_key_roles` are the roles for single keys of a map (spec §3.6). `is_async`: can be sent as
    Async.CLASS.MESSAGE. `field` is the field that an implicit getter or setter is about.
    """

    cls: str
    name: str
    full_name: str
    kind: str
    params: tuple[ParamDecl, ...]
    result: WireType
    errors: tuple[str, ...] = ()
    min_role: Role | None
    client_cert_allowed: bool
    session_arg: bool = True
    is_async: bool = False
    flags: frozenset[str] = frozenset()
    map_key_roles: Mapping[str, Role] = dataclasses.field(default_factory=lambda: _NO_KEYS)
    state: str
    since: str
    deprecated_since: str | None
    doc: str
    field: FieldDecl | None = None

    @property
    def explicit(self) -> bool:
        """Whether the message was declared itself, not derived from a field or the class."""
        return self.kind == "explicit"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClassDecl:
    """One class with its fields (public ones in the order of the wire) and all its messages by name."""

    name: str
    python_type: type[Row]
    fields: tuple[FieldDecl, ...]
    internal_fields: tuple[FieldDecl, ...]
    messages: Mapping[str, MessageDecl]
    events: bool
    persisted: bool
    in_database: bool
    kept: bool
    constructor: bool
    default_role: Role | None
    implicit_role: Role | None
    lists_all: bool
    computed_records: bool
    state: str
    since: str
    deprecated_since: str | None
    doc: str

    @property
    def all_fields(self) -> tuple[FieldDecl, ...]:
        """The public fields, then the internal ones."""
        return self.fields + self.internal_fields

    @property
    def has_table(self) -> bool:
        """Whether its objects are rows of our database, wherever the API says that they are."""
        return self.in_database or self.kept

    def field(self, name: str) -> FieldDecl:
        """Gives the field, public or internal, with this name on the wire; KeyError if there is none."""
        for candidate in self.all_fields:
            if candidate.name == name:
                return candidate
        raise KeyError(f"{self.name}.{name}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _FieldSpec:
    """What a field function was told; the class decorator adds the name and the type."""

    qualifier: str
    default: Any
    doc: str
    since: str
    options: Mapping[str, Any]


def rw(*, default: Any, since: str = FIRST_RELEASE, doc: str = "", **options: Any) -> Any:
    """Declares a field that clients set and a constructor takes; for the options see `_FIELD_OPTIONS`."""
    return _FieldSpec(qualifier="RW", default=default, since=since, doc=doc, options=options)


def static(*, default: Any, since: str = FIRST_RELEASE, doc: str = "", **options: Any) -> Any:
    """Declares a field that is given when the object is made; for the options see `_FIELD_OPTIONS`."""
    return _FieldSpec(qualifier="RO static", default=default, since=since, doc=doc, options=options)


def dynamic(*, default: Any, since: str = FIRST_RELEASE, doc: str = "", **options: Any) -> Any:
    """Declares a field that only poolnet changes; for the options see `_FIELD_OPTIONS`."""
    return _FieldSpec(qualifier="RO dynamic", default=default, since=since, doc=doc, options=options)


_FIELD_OPTIONS: Final[Mapping[str, Any]] = {
    "path": None,  # the nested name, such as name/label, where it is not the attribute's
    "name": None,  # the name on the wire, where Python cannot have it as an attribute
    "persisted": True,
    "read_role": Role.READ_ONLY,
    "write_role": UNSET,  # the class's role
    "map_key_roles": _NO_KEYS,
    "computed": False,
    "stored_ref_set": False,
    "internal": False,
    "indexed": False,  # rows are looked up by it often; references and name_label always are
    "side_effect_setter": False,  # the setter does more than write the database
    "client_cert_setter": False,
    "state": "published",
    "deprecated_since": None,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MessageSpec:
    """What `message` was told; `messages` adds the class."""

    name: str
    params: Mapping[str, str | Optional]
    result: str
    role: Role | Unset | None
    client_cert: bool | None
    options: Mapping[str, Any]
    doc: str


@dataclass(frozen=True, slots=True)
class Optional:
    """The type and default of a parameter that may be left out."""

    wire_type: str
    default: Any


def optional(wire_type: str, default: Any) -> Optional:
    """Declares the type of a parameter that may be left out, and what it is then."""
    return Optional(wire_type, default)


def message(
    name: str,
    params: Mapping[str, str | Optional],
    result: str = "void",
    *,
    role: Role | Unset | None = UNSET,
    client_cert: bool | None = None,
    errors: tuple[str, ...] = (),
    session_arg: bool = True,
    is_async: bool = True,
    flags: tuple[str, ...] = (),
    map_key_roles: Mapping[str, Role] = _NO_KEYS,
    state: str = "published",
    since: str = FIRST_RELEASE,
    deprecated_since: str | None = None,
    doc: str = "",
) -> MessageSpec:
    """Declares a message.

    Args:
        name: the name after the class's.
        params: types of the parameters after the session, in order, in the grammar of `types`.
        result: type of the answer.
        role: least role that may send it; the class's unless said.
        client_cert: whether the internal client-cert role may; unless said, if a reader may.
        errors: codes that the API documents for it; the rules may raise others.
        session_arg: whether it takes a session.
        is_async: whether it can be sent as Async.CLASS.NAME.
        flags: hidden, pool_internal_session_only, emergency_call, slave_local_whitelist, secret_args, ...
            (`side_effecting_impl`, which all have, and `removed`, which the state says, are added).
        map_key_roles: roles for single keys of the map that the message changes.
        state: published, prototyped, deprecated or removed.
        since: the release that brought it.
        deprecated_since: the release from which it should no longer be used.
        doc: what it does.
    """
    options = {
        "errors": errors,
        "session_arg": session_arg,
        "is_async": is_async,
        "flags": frozenset(flags) | {SIDE_EFFECT} | ({REMOVED} if state == "removed" else set()),
        "map_key_roles": map_key_roles,
        "state": state,
        "since": since,
        "deprecated_since": deprecated_since,
    }
    return MessageSpec(
        name=name, params=params, result=result, role=role, client_cert=client_cert, options=options, doc=doc
    )


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(rw, static, dynamic))
def api_class(
    wire_name: str,
    *,
    events: bool,
    role: Role | None,
    implicit_role: Role = Role.READ_ONLY,
    persisted: bool = True,
    in_database: bool = True,
    kept: bool = False,
    constructor: bool = False,
    lists_all: bool = True,
    computed_records: bool = False,
    state: str = "published",
    since: str = FIRST_RELEASE,
    deprecated_since: str | None = None,
) -> Callable[[RowClass], RowClass]:
    """Makes a declared class a frozen dataclass with slots and keyword arguments, and notes its declaration.

    Args:
        wire_name: the class's name in the API, which must be the one that `names` has for the Python class.
        events: whether changes of its objects are events.
        role: least role for its messages and for writing its fields, where they do not say otherwise.
        implicit_role: least role for get_all, get_record and the like.
        persisted: whether its objects outlive a restart.
        in_database: whether its objects are rows of the database at all.
        kept: whether they are durable rows of ours although the API keeps them elsewhere, without the messages that
            rows imply.
        constructor: whether it has `create(record)` and `destroy(self)`.
        lists_all: whether it has get_all and its relatives.
        computed_records: whether get_all, get_record and the getters are computed, not read (class role).
        state: published, deprecated or removed.
        since: the release that brought it.
        deprecated_since: the release from which it should no longer be used.
    """
    options = {
        "events": events,
        "persisted": persisted,
        "in_database": in_database,
        "kept": kept,
        "constructor": constructor,
        "default_role": role,
        "implicit_role": implicit_role,
        "lists_all": lists_all,
        "computed_records": computed_records,
        "state": state,
        "since": since,
        "deprecated_since": deprecated_since,
    }
    return lambda python_type: _declare(python_type, wire_name, options)


def _declare(python_type: RowClass, wire_name: str, options: Mapping[str, Any]) -> RowClass:
    """Does what `api_class` says, given the class."""
    if wire_name_of(python_type.__name__) != wire_name:
        raise ValueError(f"{python_type.__name__} is not the Python name of {wire_name}")
    fields = tuple(_declared_fields(python_type, options["default_role"]))
    for decl in fields:
        setattr(python_type, decl.attribute, _dataclass_field(decl))
    # Row compares, hashes and shows; code made for each class would double the time to import them.
    freeze = dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False, match_args=False)
    made = cast("RowClass", freeze(python_type))
    made.wire_name = wire_name
    made.values_of = operator.attrgetter("ref", *(decl.attribute for decl in fields))
    _CLASSES[made] = {
        **options,
        "name": wire_name,
        "fields": tuple(decl for decl in fields if not decl.internal),
        "internal_fields": tuple(decl for decl in fields if decl.internal),
        "doc": python_type.__doc__ or "",
    }
    return made


_CLASSES: Final[dict[type[Row], dict[str, Any]]] = {}


def class_decl(python_type: type[Row]) -> ClassDecl:
    """Gives the declaration of a decorated class, yet without messages: `messages` adds them."""
    return ClassDecl(python_type=python_type, messages={}, **_CLASSES[python_type])


def _declared_fields(python_type: type[Row], class_role: Role | None) -> Iterable[FieldDecl]:
    """Turns the annotated attributes of a class into field declarations, in order."""
    for attribute, annotation in python_type.__annotations__.items():
        spec = python_type.__dict__.get(attribute)
        if isinstance(spec, _FieldSpec):
            yield _field_decl(attribute, wire_type_of_annotation(annotation), spec, class_role)


def _field_decl(attribute: str, wire_type: WireType, spec: _FieldSpec, class_role: Role | None) -> FieldDecl:
    """Puts a field's declaration together; what the constructor takes follows from qualifier and default."""
    options = {**_FIELD_OPTIONS, **spec.options}
    if len(options) != len(_FIELD_OPTIONS):
        raise TypeError(f"{attribute}: unknown options {sorted(options.keys() - _FIELD_OPTIONS.keys())}")
    name = options.pop("name") or attribute
    path = options.pop("path") or name
    has_default = spec.default is not NO_DEFAULT
    in_constructor = spec.qualifier != "RO dynamic"
    if spec.qualifier != "RW":
        options["write_role"] = None
    elif options["write_role"] is UNSET:
        options["write_role"] = class_role
    return FieldDecl(
        name=name,
        attribute=attribute,
        internal_name=path.replace("/", "__"),
        wire_type=wire_type,
        qualifier=spec.qualifier,
        default=as_value(wire_type, spec.default) if has_default else zero(wire_type),
        has_default=has_default,
        in_constructor=in_constructor,
        constructor_required=in_constructor and not has_default,
        since=spec.since,
        doc=spec.doc,
        **options,
    )


def _dataclass_field(decl: FieldDecl) -> Any:
    """Gives the attribute its Python default: the declared one, else the zero of its type.

    A reference that is declared to default to the empty text starts as the null reference: that is what objects made by
    the server have on the wire (spec §1.3).
    """
    default = NULL if isinstance(decl.wire_type, RefT) else decl.default
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: default)
    return dataclasses.field(default=default)


def as_value(wire_type: WireType, default: Any) -> Value:
    """Turns a default as a person writes it into a value: texts of enums become members.

    Raises:
        ValueError: the text is no member of the enum.
    """
    match wire_type:
        case EnumT(name) if isinstance(default, str):
            member = enum_member(name, default)
            if member is None:
                raise ValueError(f"{default!r} is not in {name}")
            return member
        case SetT(item):
            return tuple(as_value(item, each) for each in default)
        case MapT(_, value):
            return {key: as_value(value, each) for key, each in default.items()}
        case _:
            result: Value = default
            return result


def param_decl(name: str, spec: str | Optional) -> ParamDecl:
    """Gives the declaration of a parameter from what `message` was told of it."""
    if isinstance(spec, str):
        return ParamDecl(name=name, wire_type=parse_wire_type(spec))
    wire_type = parse_wire_type(spec.wire_type)
    return ParamDecl(
        name=name, wire_type=wire_type, has_default=True, default=as_value(wire_type, spec.default)
    )
