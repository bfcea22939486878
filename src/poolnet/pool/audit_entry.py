"""What does the audit log say of a call? Who, what, which plan, before and after, and what came of it; no secrets.

The API's dispatcher begins one for each call that may change something; the coordinator adds what was changed. Secrets are
known by the names of parameters, fields and keys of maps.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import uuid4

import msgspec

from poolnet.db.body import body_of
from poolnet.db.changes import Changes
from poolnet.db.shape import SHAPES, Shape, uuid_of
from poolnet.db.txn import View
from poolnet.model.declare import MessageDecl
from poolnet.model.types import NULL, MapT, Ref, RefT, Row

HIDDEN: Final = "(secret)"
SUCCESS: Final = ("Success",)
_TEXT_MAX: Final = 16 * 1024
_SECRET: Final = re.compile(r"pass(?!ive|through)|pwd|secret|private_?key|credential|token", re.IGNORECASE)
_SECRET_CLASSES: Final = frozenset(("secret",))


@dataclass(slots=True, kw_only=True)
class Audited:
    """A call on its way, as the log is to know it.

    `kind`: who decides it: a rule, a field that is written, or the server itself (`own`). `records` counts what the log
    has of it by now.
    """

    method: str
    arguments: Mapping[str, Any]
    kind: str = "rule"
    session: str = ""
    subject: str = ""
    role: str = ""
    address: str = ""
    client: str = ""
    id: str = field(default_factory=lambda: uuid4().hex)
    records: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a call has changed, and what it did besides: `destroyed` are the rows that are gone."""

    changes: Changes
    destroyed: tuple[Row, ...] = ()
    guests: int = 0
    storage: int = 0
    hostnames: tuple[tuple[str, str, str], ...] = ()
    """Host, former name, new name."""


class _Entry(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """What the log says, as JSON; structs, because each commit waits while they are written."""

    id: str
    time: str
    session: str
    subject: str
    role: str
    address: str
    client: str
    method: str
    kind: str
    arguments: Mapping[str, Any]
    result: Sequence[str]
    plans: Mapping[str, str] | None = None
    changes: Sequence[_Change] | None = None
    guests: int = 0
    storage: int = 0
    hostnames: tuple[tuple[str, str, str], ...] = ()


class _Change(msgspec.Struct, omit_defaults=True, gc=False):
    """What it says of one object."""

    cls: str = msgspec.field(name="class")
    ref: str
    uuid: str
    created: Any = None
    destroyed: Any = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)

CURRENT: Final[ContextVar[Audited | None]] = ContextVar("audited call", default=None)
"""The call in which this code runs."""


def current() -> Audited | None:
    """The call in which this code runs, unless it is over: what it has begun may go on without it."""
    audited = CURRENT.get()
    return audited if audited is not None and not audited.ended else None


def track_id(session: str) -> str:
    """What stands for a session in logs: whoever reads them cannot use it."""
    return hashlib.sha256(session.encode()).hexdigest()[:16] if session not in ("", NULL) else ""


def clean_arguments(message: MessageDecl, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call without secrets, as values for JSON."""
    sessions = {
        p.name for p in message.params if isinstance(p.wire_type, RefT) and p.wire_type.cls == "session"
    }
    cleaned: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in sessions:
            cleaned[name] = track_id(value)
        elif name == "value" and (message.cls in _SECRET_CLASSES or _is_secret(arguments.get("key"))):
            cleaned[name] = HIDDEN
        else:
            cleaned[name] = without_secrets(name, value)
    return cleaned


def _is_secret(key: object) -> bool:
    """Whether the key of a map is that of a secret."""
    return isinstance(key, str) and _SECRET.search(key) is not None


def without_secrets(name: str, value: Any) -> Any:
    """A value without secrets, by its name and the keys of maps in it."""
    if isinstance(value, Row):
        return value.ref
    if isinstance(value, Mapping):
        return {str(key): without_secrets(str(key), each) for key, each in value.items()}
    if _SECRET.search(name) and isinstance(value, str):
        return HIDDEN if value else ""
    if isinstance(value, str) and len(value) > _TEXT_MAX:
        return f"{value[:_TEXT_MAX]}… ({len(value)} characters)"
    if isinstance(value, list | tuple):
        return [without_secrets(name, each) for each in value]
    return value


def entry_of(
    audited: Audited,
    result: Sequence[str],
    *,
    decided: Decided | None = None,
    view: View | None = None,
    plans: Mapping[str, str] | None = None,
) -> bytes:
    """What the log is to say, as JSON.

    Args:
        audited: The call.
        result: `Success`, or the code and the parameters of the failure.
        decided: What it has changed.
        view: Where objects are looked up for their uuids.
        plans: The hash of each host's plan, by the host's uuid.
    """
    content = _Entry(
        id=audited.id,
        time=_now(),
        session=audited.session,
        subject=audited.subject,
        role=audited.role,
        address=audited.address,
        client=audited.client,
        method=audited.method,
        kind=audited.kind,
        arguments=audited.arguments,
        result=[text[:_TEXT_MAX] for text in result],
        plans=plans or None,
    )
    if decided is not None and view is not None:
        content.changes = list(_changes(decided, view))
        content.guests, content.storage = decided.guests, decided.storage
        content.hostnames = decided.hostnames
    return _ENCODER.encode(content)


def _now() -> str:
    """The time in milliseconds, as ISO 8601 has it."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}+00:00"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def is_worth_a_note(changes: Changes) -> bool:
    """Whether anything changes that outlives a restart."""
    if any(SHAPES[type(row)].durable for row in changes.created):
        return True
    if any(SHAPES[cls].durable for cls, _ in changes.destroyed):
        return True
    return any(
        not SHAPES[cls].durable_attributes.isdisjoint(fields) for (cls, _), fields in changes.updated.items()
    )


def _changes(decided: Decided, view: View) -> Iterator[_Change]:
    changes = decided.changes
    for row in changes.created:
        if SHAPES[type(row)].durable:
            yield _Change(SHAPES[type(row)].name, row.ref, uuid_of(row), created=_body(row))
    for (cls, ref), written in changes.updated.items():
        shape, seen = SHAPES[cls], changes.seen.get((cls, ref), {})
        before, after = {}, {}
        for decl in shape.durable:
            name = decl.attribute
            if name in written and name in seen and written[name] != seen[name]:
                before[decl.name] = _value(shape.name, decl.name, seen[name])
                after[decl.name] = _value(shape.name, decl.name, written[name])
        if after:
            there = view.layer.stored(cls, Ref[Row](ref))
            uuid = uuid_of(there) if there is not None else ""
            yield _Change(shape.name, ref, uuid, before=before, after=after)
    for row in decided.destroyed:
        if SHAPES[type(row)].durable:
            yield _Change(SHAPES[type(row)].name, row.ref, uuid_of(row), destroyed=_body(row))


def _body(row: Row) -> msgspec.Struct:
    """A row's fields without secrets."""
    body = body_of(row)
    for name, attribute in _SUSPECT[type(row)]:
        if value := getattr(row, attribute):
            setattr(body, attribute, _value(SHAPES[type(row)].name, name, value))
    return body


def _suspect(shape: Shape) -> tuple[tuple[str, str], ...]:
    """The fields of a class, by name and attribute, in which a secret may be."""
    return tuple(
        (decl.name, decl.attribute)
        for decl in shape.durable
        if isinstance(decl.wire_type, MapT) or _SECRET.search(decl.name) or shape.name in _SECRET_CLASSES
    )


_SUSPECT: Final = {cls: _suspect(shape) for cls, shape in SHAPES.items()}


def _value(cls: str, name: str, value: object) -> Any:
    if cls in _SECRET_CLASSES and name == "value":
        return HIDDEN
    return without_secrets(name, value)


def destroyed_rows(changes: Changes, before: View) -> tuple[Row, ...]:
    """The rows that changes destroy, from a view in which they are still there."""
    found = (before.layer.stored(cls, Ref[Row](ref)) for cls, ref in changes.destroyed)
    return tuple(row for row in found if row is not None)
