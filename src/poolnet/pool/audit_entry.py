"""What does the audit log say of a call? Who, what, which plan, before and after, and what came of it; no secrets.

The API's dispatcher begins one for each call that may change something; the coordinator adds what was changed. Secrets are
known by the names of parameters, fields and keys of maps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import msgspec

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
    content: dict[str, Any] = {
        "id": audited.id,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "session": audited.session,
        "subject": audited.subject,
        "role": audited.role,
        "address": audited.address,
        "client": audited.client,
        "method": audited.method,
        "kind": audited.kind,
        "arguments": audited.arguments,
        "result": [text[:_TEXT_MAX] for text in result],
    }
    if plans:
        content["plans"] = plans
    if decided is not None and view is not None:
        content["changes"] = list(_changes(decided, view))
        for name in ("guests", "storage", "hostnames"):
            if getattr(decided, name):
                content[name] = getattr(decided, name)
    return msgspec.json.encode(content, enc_hook=str)


def is_worth_a_note(changes: Changes) -> bool:
    """Whether anything changes that outlives a restart."""
    if any(SHAPES[type(row)].durable for row in changes.created):
        return True
    if any(SHAPES[cls].durable for cls, _ in changes.destroyed):
        return True
    return any(
        not SHAPES[cls].durable_attributes.isdisjoint(fields) for (cls, _), fields in changes.updated.items()
    )


def _changes(decided: Decided, view: View) -> Iterator[dict[str, Any]]:
    changes = decided.changes
    for row in changes.created:
        if SHAPES[type(row)].durable:
            yield {**_named(row), "created": _body(row)}
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
            named = _named(there) if there is not None else {"class": shape.name, "ref": ref, "uuid": ""}
            yield {**named, "before": before, "after": after}
    for row in decided.destroyed:
        if SHAPES[type(row)].durable:
            yield {**_named(row), "destroyed": _body(row)}


def _named(row: Row) -> dict[str, Any]:
    return {"class": SHAPES[type(row)].name, "ref": row.ref, "uuid": uuid_of(row)}


def _body(row: Row) -> dict[str, Any]:
    names, suspect = _FIELDS[type(row)]
    body = {name: getattr(row, attribute) for name, attribute in names}
    for name in suspect:
        if body[name]:
            body[name] = _value(SHAPES[type(row)].name, name, body[name])
    return body


def _fields(shape: Shape) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The fields of a class that are kept, and those of them in which a secret may be."""
    names = tuple((decl.name, decl.attribute) for decl in shape.durable)
    suspect = tuple(
        decl.name
        for decl in shape.durable
        if isinstance(decl.wire_type, MapT) or _SECRET.search(decl.name) or shape.name in _SECRET_CLASSES
    )
    return names, suspect


_FIELDS: Final = {cls: _fields(shape) for cls, shape in SHAPES.items()}


def _value(cls: str, name: str, value: object) -> Any:
    if cls in _SECRET_CLASSES and name == "value":
        return HIDDEN
    return without_secrets(name, value)


def destroyed_rows(changes: Changes, before: View) -> tuple[Row, ...]:
    """The rows that changes destroy, from a view in which they are still there."""
    found = (before.layer.stored(cls, Ref[Row](ref)) for cls, ref in changes.destroyed)
    return tuple(row for row in found if row is not None)
