"""Which alerts are there, and what may be said about what? The class message of the XenAPI (spec §25).

Clients raise alerts with `create`, the rules themselves with `raise_alert`. Alerts are rows like any other, so they outlive
a restart and are events; the oldest go when there are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from poolnet.db.filter import parse, select
from poolnet.db.txn import Txn, View
from poolnet.model import errors
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.message import Message
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.sr import SR
from poolnet.model.classes.vm import VM
from poolnet.model.enums import Cls
from poolnet.model.types import Ref, Row
from poolnet.rules.context import CallContext

Alerts = Mapping[Ref[Message], Message]

ALERTS_MAX: Final = 5000

_SUBJECTS: Final[Mapping[Cls, type[Row]]] = {
    Cls.VM: VM,
    Cls.HOST: Host,
    Cls.SR: SR,
    Cls.POOL: Pool,
    Cls.CERTIFICATE: Certificate,
}


def raise_alert(
    txn: Txn,
    new_uuid: Callable[[], str],
    now: datetime,
    *,
    name: str,
    priority: int,
    cls: Cls,
    obj_uuid: str,
    body: str,
) -> Ref[Message]:
    """Raises an alert; the oldest is forgotten when there are more than ALERTS_MAX."""
    for ref in txn.refs(Message)[: max(0, txn.count(Message) - ALERTS_MAX + 1)]:
        txn.destroy(Message, ref)
    return txn.create(
        Message(
            ref=Ref(f"OpaqueRef:{new_uuid()}"),
            uuid=new_uuid(),
            name=name,
            priority=priority,
            cls=cls,
            obj_uuid=obj_uuid,
            timestamp=now,
            body=body,
        )
    )


def create(ctx: CallContext, *, name: str, priority: int, cls: Cls, obj_uuid: str, body: str) -> Ref[Message]:
    """Raises an alert about an object.

    Raises:
        UUID_INVALID: There is no such object.
    """
    _require_subject(ctx.txn, cls, obj_uuid)
    return raise_alert(
        ctx.txn,
        ctx.new_uuid,
        ctx.now,
        name=name,
        priority=priority,
        cls=cls,
        obj_uuid=obj_uuid,
        body=body,
    )


def destroy(ctx: CallContext, *, self: Ref[Message]) -> None:
    """Removes an alert.

    Raises:
        HANDLE_INVALID: There is none such.
    """
    ctx.txn.get(Message, self)
    ctx.txn.destroy(Message, self)


def destroy_many(ctx: CallContext, *, messages: tuple[Ref[Message], ...]) -> None:
    """Removes several alerts, or none.

    Raises:
        HANDLE_INVALID: One of them does not exist.
    """
    for ref in dict.fromkeys(messages):
        destroy(ctx, self=ref)


def destroy_all(ctx: CallContext, *, filters: Mapping[str, str]) -> None:
    """Removes all alerts that were raised before a moment, after a moment, and have a priority, as far as asked for.

    Raises:
        INVALID_VALUE: Another filter, a moment that is none (`YYYYMMDDThh:mm:ssZ`), or a priority that is no number.
    """
    tests: list[Callable[[Message], bool]] = []
    for key, text in filters.items():
        match key:
            case "before":
                tests.append(_before(_moment(key, text)))
            case "after":
                tests.append(_after(_moment(key, text)))
            case "priority":
                tests.append(_of_priority(_number(key, text)))
            case _:
                raise errors.invalid_value("filters", key)
    for alert in ctx.txn.all(Message):
        if all(test(alert) for test in tests):
            ctx.txn.destroy(Message, alert.ref)


def get_all(ctx: CallContext) -> tuple[Ref[Message], ...]:
    """The references of all alerts."""
    return tuple(ctx.txn.refs(Message))


def get_all_records(ctx: CallContext) -> Alerts:
    """All alerts."""
    return _alerts(ctx.txn.all(Message))


def get_all_records_where(ctx: CallContext, *, expr: str) -> Alerts:
    """The alerts that a filter selects.

    Raises:
        INVALID_VALUE: The filter cannot be read.
    """
    return _alerts(select(ctx.txn, Message, parse(expr)))


def get_since(ctx: CallContext, *, since: datetime) -> Alerts:
    """The alerts raised after a moment."""
    return _alerts(alert for alert in ctx.txn.all(Message) if alert.timestamp > since)


def get(ctx: CallContext, *, cls: Cls, obj_uuid: str, since: datetime) -> Alerts:
    """The alerts about an object, raised after a moment.

    Raises:
        UUID_INVALID: There is no such object.
    """
    _require_subject(ctx.txn, cls, obj_uuid)
    about = ctx.txn.where(Message, obj_uuid=obj_uuid)
    return _alerts(alert for alert in about if alert.cls is cls and alert.timestamp > since)


def get_record(ctx: CallContext, *, self: Ref[Message]) -> Message:
    """An alert.

    Raises:
        HANDLE_INVALID: There is none such.
    """
    return ctx.txn.get(Message, self)


def get_by_uuid(ctx: CallContext, *, uuid: str) -> Ref[Message]:
    """The reference of the alert with this uuid.

    Raises:
        UUID_INVALID: There is none such.
    """
    return ctx.txn.by_uuid(Message, uuid).ref


def _alerts(rows: Iterable[Message]) -> Alerts:
    return {row.ref: row for row in rows}


def _require_subject(view: View, cls: Cls, uuid: str) -> None:
    row_type: type[Any] | None = _SUBJECTS.get(cls)
    if row_type is None or not view.where(row_type, uuid=uuid):
        raise errors.uuid_invalid(cls.value, uuid)


def _before(moment: datetime) -> Callable[[Message], bool]:
    return lambda alert: alert.timestamp < moment


def _after(moment: datetime) -> Callable[[Message], bool]:
    return lambda alert: alert.timestamp > moment


def _of_priority(priority: int) -> Callable[[Message], bool]:
    return lambda alert: alert.priority == priority


def _moment(key: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise errors.invalid_value(key, text) from None


def _number(key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise errors.invalid_value(key, text) from None
