"""What does the audit log get with a commit? The coordinator asks, of calls that rules decide and of plain writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from poolnet.db.changes import Changes
from poolnet.db.txn import Txn, View
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool.audit_entry import (
    SUCCESS,
    Audited,
    Decided,
    destroyed_rows,
    entry_of,
    is_worth_a_note,
)
from poolnet.rules.context import CallContext


def decided_by(changes: Changes, context: CallContext, before: View) -> Decided | None:
    """What the audit log is to know of a decided call, if it changes anything that lasts."""
    if not is_worth_a_note(changes) and not context.guest_actions:
        return None
    hosts = {host: before.get(Host, host) for host, _ in context.hostname_changes}
    return Decided(
        changes=changes,
        destroyed=destroyed_rows(changes, before),
        guests=len(context.guest_actions),
        storage=len(context.storage_actions),
        hostnames=tuple((host, hosts[host].hostname, name) for host, name in context.hostname_changes),
    )


def of_calls(
    calls: Sequence[tuple[Audited | None, Decided | None]], view: View, plans: Mapping[Ref[Host], str]
) -> list[bytes]:
    """The notes of calls that are committed together, with the hash of each host's plan."""
    rows = ((view.stored(Host, host), plan) for host, plan in plans.items())
    by_uuid = {row.uuid: plan for row, plan in rows if row is not None}
    return [
        entry_of(audited, SUCCESS, decided=decided, view=view, plans=by_uuid)
        for audited, decided in calls
        if audited is not None and decided is not None
    ]


def of_write(audited: Audited | None, written: Txn, before: View) -> bytes | None:
    """The note of a change of the database alone, if the log has to know of it."""
    if audited is None:
        return None
    changes = written.changes()
    if not is_worth_a_note(changes):
        return None
    decided = Decided(changes=changes, destroyed=destroyed_rows(changes, before))
    return entry_of(audited, SUCCESS, decided=decided, view=written)
